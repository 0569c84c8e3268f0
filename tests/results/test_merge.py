"""Stores put together: what comes along, what is left out, and what is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from results.hardware.specs import store_specs
from results.records import merge as merge_file
from results.records.addresses import holding
from results.records.merge import MergeResult, merge
from results.records.repair import look_over
from results.records.schema import SweepEnd
from results.records.store import LockedError, Store, StoreError
from results.tables.index import FOLDER, refresh

from .merging import OTHER_SWEEP, files, place_of, put, set_aside

PEAKS = b'["NVIDIA L4"]\nfp32 = 1\nbf16 = 2\nmemory = 3\n'


# What comes together


def test_records_of_shards_end_up_in_one_store(store_of, target, make_record):
    shards = [[make_record(batch_size=size) for size in sizes] for sizes in ((1, 4), (2, 8))]
    merged = merge([store_of(*shard) for shard in shards], target)
    contents = target.read()

    assert {record.case.batch_size: record for record in contents.records} == {
        record.case.batch_size: record for shard in shards for record in shard
    }
    assert contents.problems == []
    assert merged == MergeResult(copied=5, same=1)  # the plan, of both


def test_a_sweep_of_one_store_alone_comes_with_its_plan(new_store, store_of, target, sweep):
    other = new_store()
    other.write_sweep(sweep.model_copy(update={"sweep_id": OTHER_SWEEP}))
    merge([store_of(), other], target)

    assert target.sweep_ids() == [sweep.sweep_id, OTHER_SWEEP]


def test_a_merged_store_is_fine(store_of, target, sweep, make_case, make_record):
    cases = tuple(make_case(batch_size=size) for size in (1, 2))
    stores = [store_of(make_record(batch_size=case.batch_size)) for case in cases]
    for store in stores:
        store.write_sweep(sweep.model_copy(update={"cases": cases}))
    merge(stores, target)

    assert [look.is_fine for look in look_over(target)] == [True]


def test_a_record_that_is_the_same_in_all_stores_is_there_once(store_of, target, make_record):
    merged = merge([store_of(make_record()) for _ in range(3)], target)

    assert target.read().records == [make_record()]
    assert merged == MergeResult(copied=2, same=4)
    assert set_aside(target) == {}


def test_one_store_alone_can_be_merged(store_of, target, make_record):
    source = store_of(make_record())
    merge([source], target)

    assert files(target) == files(source)


def test_what_belongs_to_a_store_comes_along(store_of, target, sweep, make_record, made_up_gpu):
    source = store_of(make_record())
    roofs = made_up_gpu.MadeUpGpu().roofs()
    end = SweepEnd(
        sweep_id=sweep.sweep_id, ended_at="2025-01-02T04:00:00Z", planned=1,
        statuses={"ok": 1}, wall_s=12.5, measured_s=4.5,
    )  # fmt: skip
    source.write_roofs(roofs)
    source.write_end(end)
    source.write_trace(make_record(), b"a trace")
    put(source, "hardware.toml", PEAKS)
    put(source, "prices.toml", b'["NVIDIA L4"]\n')
    put(source, f"{sweep.sweep_id}/broken/0123.json", b"{")
    merge([source], target)

    assert files(target) == files(source)
    assert target.read_roofs() == [roofs]
    assert target.read_end(sweep.sweep_id) == end
    assert store_specs(target.path) == store_specs(source.path) != {}
    assert target.trace_path(sweep.sweep_id, make_record().case_id).read_bytes() == b"a trace"


def test_what_is_made_anew_or_of_use_to_its_writer_alone_is_left_out(
    store_of, target, sweep, make_record
):
    source = store_of(make_record())
    before = files(source)
    refresh(source)
    left = (".slurm/job.pkl", f"{sweep.sweep_id}/cases/.0123.json.99.tmp", ".hidden")
    for place in left:
        put(source, place, b"of no use")
    with holding(source.path / sweep.sweep_id / ".lock"):
        merge([source], target)

    assert f"{FOLDER}/files.json" in files(source)
    assert files(target) == before


def test_a_sweep_that_runs_in_the_target_is_left_alone(store_of, target, sweep, make_record):
    """What it writes just then must not be overwritten."""
    source = store_of(make_record())
    with target.lock(sweep.sweep_id), pytest.raises(LockedError, match=sweep.sweep_id):
        merge([source], target)

    assert files(target) == {}


def test_a_source_is_not_changed(store_of, target, make_record, make_failure):
    sources = [store_of(make_failure("crashed")), store_of(make_record())]
    before = [files(source) for source in sources]
    merge(sources, target)

    assert [files(source) for source in sources] == before


def test_what_the_target_holds_already_stays(store_of, target, sweep, make_record):
    store_of(make_record(batch_size=1), store=target)
    put(target, "notes.txt", b"mine")
    before = files(target)
    merged = merge([store_of(make_record(batch_size=2))], target)

    assert before.items() <= files(target).items()
    assert len(target.read().records) == 2
    assert merged == MergeResult(copied=1, same=1)


def test_an_index_of_the_target_is_refreshed_by_what_comes(store_of, target, make_record):
    store_of(make_record(batch_size=1), store=target)
    refresh(target)
    merge([store_of(make_record(batch_size=2))], target)

    assert set(refresh(target).frames["cases"]["batch_size"]) == {1, 2}


# Again, and again


def test_what_a_source_measures_later_comes_with_the_next_merge(store_of, target, make_record):
    source = store_of(make_record(batch_size=1))
    merge([source], target)
    source.write_record(make_record(batch_size=2))
    merged = merge([source], target)

    assert merged == MergeResult(copied=1, same=2)
    assert len(target.read().records) == 2


def test_a_merge_that_was_stopped_goes_on_where_it_was(store_of, target, make_record, monkeypatch):
    source = store_of(*(make_record(batch_size=size) for size in (1, 2, 4)))
    write, written = merge_file.write_whole, []

    def stop(path, content):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(merge_file, "write_whole", stop)
    with pytest.raises(KeyboardInterrupt):
        merge([source], target)
    monkeypatch.setattr(merge_file, "write_whole", write)
    merged = merge([source], target)

    assert merged == MergeResult(copied=2, same=2)
    assert files(target) == files(source)


def test_a_plan_is_there_before_its_records(store_of, target, make_record, monkeypatch):
    write, written = merge_file.write_whole, []
    monkeypatch.setattr(
        merge_file,
        "write_whole",
        lambda path, content: (written.append(path.name), write(path, content)),
    )
    merge([store_of(*(make_record(batch_size=size) for size in (1, 2, 4)))], target)

    assert written[0] == "sweep.json"
    assert len(written) == 4


# What is refused


@pytest.mark.parametrize("is_there", [True, False])
def test_a_source_without_records_is_refused_and_nothing_is_written(
    new_store, store_of, target, make_record, is_there
):
    empty = new_store()
    if is_there:
        put(empty, "notes.txt", b"no records")
    with pytest.raises(StoreError) as refusal:
        merge([store_of(make_record()), empty], target)

    assert str(refusal.value) == (
        f"A store to merge must hold records, and '{empty.path}' holds none."
    )
    assert not target.path.exists()


@pytest.mark.parametrize("spelling", ["as it is", "dots", "link", "address", "relative"])
def test_a_source_that_is_the_target_is_refused_however_it_is_written(
    store_of, make_record, tmp_path, monkeypatch, spelling
):
    source = store_of(make_record())
    name = source.path.name
    (tmp_path / "link").symlink_to(source.path)
    monkeypatch.chdir(tmp_path)
    spelt = {
        "as it is": str(source.path),
        "dots": f"{source.path}/../{name}/",
        "link": str(tmp_path / "link"),
        "address": f"file://{source.path}",
        "relative": name,
    }[spelling]
    before = files(source)
    with pytest.raises(StoreError, match=r"^The target '.*' must be none of the stores"):
        merge([source], Store(spelt))

    assert files(source) == before


@pytest.mark.parametrize("ending", ["", "/"])
def test_an_address_that_is_the_target_is_refused(store_of, make_record, memory, ending):
    source = store_of(make_record(), store=Store(f"{memory}/runs"))
    with pytest.raises(StoreError, match=r"^The target 'memory://.*' must be none of the"):
        merge([source], Store(f"{memory}/runs{ending}"))


@pytest.mark.parametrize("is_inside", ["the target", "the source"])
def test_a_store_is_not_merged_into_itself(store_of, make_record, is_inside):
    outer = store_of(make_record())
    inner = store_of(make_record(), store=Store(outer.path / "below"))
    source, target = (outer, inner) if is_inside == "the target" else (inner, outer)
    with pytest.raises(StoreError, match=r"nor lie in one"):
        merge([source], target)


def test_a_pipe_in_a_source_is_not_waited_for(store_of, target, make_record):
    source = store_of(make_record())
    os.mkfifo(source.path / "pipe")
    with pytest.raises(StoreError, match=r"^'.*pipe' must be a file, and it is none: remove it\.$"):
        merge([source], target)


def test_a_file_of_a_source_that_can_not_be_read_ends_it_in_one_line(store_of, target, make_record):
    source = store_of()
    path = source.path / place_of(make_record())
    path.parent.mkdir()
    path.symlink_to(path)
    with pytest.raises(StoreError, match=r"^'[^\n]*\.json' must be a file, and [^\n]*\.$"):
        merge([source], target)


def test_a_folder_of_a_source_that_can_not_be_listed_ends_it_in_one_line(
    store_of, target, make_record, monkeypatch
):
    source = store_of(make_record())
    iterdir = Path.iterdir

    def fail(path):
        if path.name == "cases":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(StoreError, match=r"^'[^\n]*cases' can't be listed: Permission denied\.$"):
        merge([source], target)


def test_a_target_that_can_not_be_written_ends_it_in_one_line(store_of, tmp_path, make_record):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"^'[^\n]*' can't be written: [^\n]*$"):
        merge([store_of(make_record())], Store(tmp_path / "file" / "runs"))


# Addresses


@pytest.mark.parametrize(("source_is_there", "target_is_there"), [(1, 0), (0, 1), (1, 1)])
def test_stores_at_addresses_are_merged_as_those_in_folders_are(
    new_store, store_of, target, made, memory, source_is_there, target_is_there
):
    def sources(at=None):
        pairs = (("crashed", "ok"), ("ok", "oom"), ("ok", "ok"))
        stores = [Store(f"{memory}/{at}-{side}") if at else new_store() for side in (0, 1)]
        for number, pair in enumerate(pairs):
            for side, status in enumerate(pair):
                record = made(status, batch_size=2**number, wall_s=float(side))
                store_of(record, store=stores[side])
        put(stores[1], "hardware.toml", PEAKS)
        return stores

    at = Store(f"{memory}/merged") if target_is_there else new_store()
    here, there = merge(sources(), target), merge(sources("a" if source_is_there else None), at)

    assert files(at) == files(target)
    assert (there.copied, there.same, there.replaced) == (here.copied, here.same, here.replaced)
    assert len(there.conflicts) == len(here.conflicts) == 2
    assert set(store_specs(at.path)) == {"NVIDIA L4"}
