"""The store: whole files or none, and readers that name what is broken and go on."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results.records import store as store_file
from results.records.store import Store, StoreError, write_whole

ROOT = Path(store_file.__file__).parents[1]


@pytest.fixture
def full_disk(monkeypatch):
    """Make one function of os fail as a full disk does."""

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda function: monkeypatch.setattr(os, function, fail)


def files(store: Store) -> set[str]:
    return {path.name for path in store.path.rglob("*") if path.is_file()}


# Writing and reading


def test_what_was_written_is_read(store, sweep, make_record, make_failure):
    records = [make_record(batch_size=2), make_failure(batch_size=8)]
    for record in records:
        store.write_record(record)
    contents = store.read()

    assert sorted(contents.records, key=lambda record: record.case.batch_size) == records
    assert contents.sweeps == [sweep]
    assert contents.problems == []


def test_a_record_of_the_same_case_is_replaced(store, make_record, make_failure):
    store.write_record(make_failure())
    store.write_record(make_record())

    assert store.read().records == [make_record()]


def test_one_sweep_is_read_alone(store, sweep, make_record):
    other = sweep.model_copy(update={"sweep_id": "20260102-030405-abcdef"})
    store.write_sweep(other)
    for each in (sweep, other):
        store.write_record(make_record(sweep_id=each.sweep_id))
    contents = store.read(other.sweep_id)

    assert contents.sweeps == [other]
    assert [record.sweep_id for record in contents.records] == [other.sweep_id]


def test_sweeps_are_listed_oldest_first(store, sweep):
    for sweep_id in ("20260101-0", "20240101-0", "20251231-0"):
        store.write_sweep(sweep.model_copy(update={"sweep_id": sweep_id}))

    assert store.sweep_ids() == ["20240101-0", sweep.sweep_id, "20251231-0", "20260101-0"]


def test_records_are_read_in_the_order_in_which_they_were_planned(
    store, sweep, make_case, make_record
):
    sizes = (8, 1, 4, 2, 16)
    store.write_sweep(
        sweep.model_copy(update={"cases": tuple(make_case(batch_size=size) for size in sizes)})
    )
    for size in sorted(sizes):
        store.write_record(make_record(batch_size=size))

    assert tuple(record.case.batch_size for record in store.read().records) == sizes


def test_a_missing_store_is_empty(tmp_path):
    contents = Store(tmp_path / "runs").read()

    assert (contents.records, contents.sweeps, contents.problems) == ([], [], [])


@pytest.mark.parametrize("sweep_id", ["20990101-0", "../elsewhere", "a\0b", ""])
def test_a_sweep_that_is_not_there_is_refused_in_one_line(store, sweep_id):
    with pytest.raises(StoreError, match=r"There is no sweep '.*' in '.*'\.$"):
        store.read(sweep_id)


def test_a_store_that_is_a_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "runs"
    path.write_text("no folder")
    with pytest.raises(StoreError, match=r"^'.*runs' must be a folder: Not a directory\.$"):
        Store(path).read()


@pytest.mark.parametrize("name", [".index", "baselines", "notes.txt"])
def test_what_is_no_sweep_is_passed_over(store, sweep, name):
    if name.endswith(".txt"):
        (store.path / name).write_text("notes")
    else:
        (store.path / name).mkdir()

    assert store.sweep_ids() == [sweep.sweep_id]


def test_a_folder_held_by_a_lock_alone_is_no_sweep_yet(tmp_path):
    store = Store(tmp_path / "runs")
    with store.lock("20260101-0"):
        assert store.sweep_ids() == []


def test_left_over_temporary_files_are_ignored(store, make_record):
    store.write_record(make_record())
    path = store.case_path(make_record().sweep_id, "0123")
    path.with_name(".0123.json.99.tmp").write_text('{"half": ')

    assert store.read().records == [make_record()]
    assert store.read().problems == []


# Writing that fails


@pytest.mark.parametrize("place", ["file/runs", "/proc/nothing/runs", "n" * 300])
def test_a_store_that_can_not_be_written_is_told_in_one_line(tmp_path, sweep, make_record, place):
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / place)

    for write in (
        lambda: store.write_record(make_record()),
        lambda: store.write_sweep(sweep),
        lambda: store.lock(sweep.sweep_id).__enter__(),
    ):
        with pytest.raises(StoreError, match=r"^'[^\n]*' can't be written: [^\n]*--store[^\n]*$"):
            write()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(store, make_record, full_disk, function):
    old, new = make_record(), make_record(wall_s=99.0)
    store.write_record(old)
    before = files(store)
    full_disk(function)
    with pytest.raises(StoreError, match="No space left on device"):
        store.write_record(new)

    assert store.read().records == [old]
    assert files(store) == before


def test_a_disk_that_fills_up_within_a_file_leaves_the_old_one_and_no_other(store, make_record):
    old, new = make_record(), make_record(stderr_tail="x" * 100_000)
    store.write_record(old)
    before = files(store)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # the kernel writes half
    try:
        with pytest.raises(StoreError, match="can't be written: File too large"):
            store.write_record(new)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert store.read().records == [old]
    assert files(store) == before


def test_a_disk_that_fills_up_before_the_file_is_told_in_one_line(store, make_record, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(StoreError, match=r"can't be written: No space left on device\. Name "):
        store.write_record(make_record())


def test_a_folder_that_can_not_be_synced_holds_the_new_file_whole(store, make_record, monkeypatch):
    true, calls = os.fsync, itertools.count()

    def fail_second(descriptor):
        if next(calls):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        true(descriptor)

    store.write_record(make_record())
    monkeypatch.setattr(os, "fsync", fail_second)
    with pytest.raises(StoreError, match="Input/output error"):
        store.write_record(make_record(wall_s=99.0))

    assert store.read().records == [make_record(wall_s=99.0)]


def test_a_plan_that_is_removed_meanwhile_is_written_again(store, sweep, make_record):
    shutil.rmtree(store.path)
    store.write_record(make_record())
    contents = store.read()

    assert (contents.sweeps, contents.records) == ([sweep], [make_record()])


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        true = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, true=true: calls.append(name) or true(*a)
        )
    write_whole(tmp_path / "a.json", "{}")

    assert calls == ["fsync", "replace", "fsync"]


def test_a_write_leaves_no_temporary_file(store, make_record):
    store.write_record(make_record())

    assert files(store) == {"sweep.json", f"{make_record().case_id}.json"}


def test_text_that_is_no_utf_8_is_refused_in_one_line(store, make_failure):
    with pytest.raises(StoreError, match=r"^A record must hold text that UTF-8 can: [^\n]*$"):
        store.write_record(make_failure(message=b"\xff".decode(errors="surrogateescape")))


# Records of megabytes, and no waiting for the disk, which a process's death does not need: most
# of the writer's time is then spent where a file could be half.
WRITER = """
import itertools
import os
import sys
from results.records.schema import Record
from results.records.store import Store

os.fsync = lambda descriptor: None
record = Record.model_validate_json(sys.stdin.readline())
records = [
    record.model_copy(update={"case_id": case.case_id, "case": case, "stderr_tail": "x" * size})
    for case, size in (
        (record.case.model_copy(update={"batch_size": batch_size}), size)
        for batch_size, size in ((1, 6_000_000), (2, 2_000_000), (4, 4_000_000))
    )
]
for record in itertools.cycle(records):
    Store(sys.argv[1]).write_record(record)
    print("wrote", flush=True)
"""


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_writer_leaves_no_half_file(store, text, seed):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, store.path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as writer:  # fmt: skip
        writer.stdin.write(text + "\n")
        writer.stdin.flush()
        lines = [writer.stdout.readline() for _ in range(4)]
        time.sleep(random.Random(seed).uniform(0, 0.02))
        writer.kill()
    contents = store.read()

    assert lines == ["wrote\n"] * 4
    assert contents.problems == []
    assert sorted(record.case.batch_size for record in contents.records) == [1, 2, 4]


# Locks


def test_a_second_lock_on_a_sweep_is_refused_in_one_line(store, sweep):
    with (
        store.lock(sweep.sweep_id),
        pytest.raises(StoreError, match=r"^Another process is running sweep [^\n]*--store\.$"),
        store.lock(sweep.sweep_id),
    ):
        pass


def test_a_disk_that_can_not_lock_is_told_in_one_line(store, sweep, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with (
        pytest.raises(StoreError, match=r"can't be locked: No locks available\. [^\n]*--store\.$"),
        store.lock(sweep.sweep_id),
    ):
        pass


def test_a_lock_removes_what_dead_writers_left_and_names_it(store, sweep):
    folder = store.path / sweep.sweep_id
    (folder / "cases").mkdir()
    left = [folder / ".sweep.json.1.tmp", folder / "cases" / ".0123.json.1.tmp"]
    for path in left:
        path.touch()
    with store.lock(sweep.sweep_id) as removed:
        assert removed == left

    assert files(store) == {".lock", "sweep.json"}


def test_a_folder_that_is_named_like_a_temporary_file_disturbs_no_lock(store, sweep):
    (store.path / sweep.sweep_id / "cases" / ".0123.json.1.tmp").mkdir(parents=True)

    with store.lock(sweep.sweep_id) as removed:
        assert removed == []


def test_a_lock_is_free_again_after_an_error(store, sweep):
    with pytest.raises(KeyboardInterrupt), store.lock(sweep.sweep_id):
        raise KeyboardInterrupt

    with store.lock(sweep.sweep_id):
        assert store.sweep_ids() == [sweep.sweep_id]


def test_two_sweeps_of_one_store_can_be_locked(store):
    with store.lock("20260101-0"), store.lock("20260101-1"):
        assert (store.path / "20260101-1").is_dir()


def test_a_locked_sweep_can_be_read_and_written(store, sweep, make_record):
    with store.lock(sweep.sweep_id):
        store.write_record(make_record())

        assert store.read().records == [make_record()]
