"""A store at an address, in memory and in an object store: all that a store in a folder is."""

from __future__ import annotations

import os
import platform
import socket

import fsspec
import pytest
from s3fs import S3FileSystem

from results.hardware.prices import store_prices
from results.hardware.specs import HardwareError, store_specs
from results.records import reading
from results.records import store as store_file
from results.records.addresses import file_system, key, write_file
from results.records.repair import look_over, repair
from results.records.schema import SweepEnd
from results.records.store import LockedError, Store, StoreError
from results.tables.index import refresh

from .indexing import files, two_families

BROKEN = {
    "empty": b"",
    "half": b'{"schema_version": 2, ',
    "no UTF-8": b"\xff\xfe",
    "another version": b'{"schema_version": 1}',
    "not a number": b'{"schema_version": NaN}',
}
READS = {
    "sweep_ids": lambda store: store.sweep_ids(),
    "read": lambda store: store.read(),
    "refresh": lambda store: refresh(store),
    "look_over": lambda store: look_over(store),
    "repair": lambda store: list(repair(store)),
}
WRITES = {
    "a sweep": lambda store, sweep, record: store.write_sweep(sweep),
    "a record": lambda store, sweep, record: store.write_record(record),
    "a trace": lambda store, sweep, record: store.write_trace(record, b"{}"),
    "no end": lambda store, sweep, record: store.remove_end(sweep.sweep_id),
    "a lock": lambda store, sweep, record: store.lock(sweep.sweep_id).__enter__(),
}


@pytest.fixture
def empty(root):
    return Store(f"{root}/runs")


@pytest.fixture
def store(empty, sweep):
    """A store of one sweep without records."""
    empty.write_sweep(sweep)
    return empty


@pytest.fixture
def records(make_record, make_failure):
    return two_families(make_record, make_failure)


@pytest.fixture
def filled(store, sweep, records):
    """A store of one sweep, of which every case has a record."""
    cases = tuple(record.case for record in records)
    store.write_sweep(sweep.model_copy(update={"cases": cases}))
    for record in records:
        store.write_record(record)
    return store


@pytest.fixture
def end(sweep):
    return SweepEnd(
        sweep_id=sweep.sweep_id, ended_at="2025-01-02T04:00:00Z", planned=1,
        statuses={"ok": 1}, wall_s=12.5, measured_s=4.5,
    )  # fmt: skip


@pytest.fixture
def case_file(filled, records):
    """Where the first record lies."""
    return filled.case_path(records[0].sweep_id, records[0].case_id)


# Writing and reading


def test_what_was_written_is_read(store, sweep, make_record, make_failure):
    records = [make_record(batch_size=2), make_failure(batch_size=8)]
    for record in records:
        store.write_record(record)
    contents = store.read()

    assert sorted(contents.records, key=lambda record: record.case.batch_size) == records
    assert contents.sweeps == [sweep]
    assert contents.problems == []


def test_files_lie_below_the_address_under_the_names_that_they_have_in_a_folder(
    tmp_path, root, sweep, make_record
):
    there, here = Store(f"{root}/runs"), Store(tmp_path)
    for store in (there, here):
        store.write_sweep(sweep)
        store.write_record(make_record())

    assert files(there) == files(here)
    assert len(file_system(there.path).find(root)) == len(files(here)) == 2


def test_a_bucket_itself_can_be_a_store(bucket, sweep, make_record):
    store = Store(bucket)
    store.write_sweep(sweep)
    store.write_record(make_record())

    assert store.read().records == [make_record()]
    assert len(refresh(store).frames["cases"]) == 1


def test_a_record_of_the_same_case_is_replaced(store, make_record, make_failure):
    store.write_record(make_failure())
    store.write_record(make_record())

    assert store.read().records == [make_record()]


def test_records_are_read_in_the_order_in_which_they_were_planned(
    store, sweep, make_case, make_record
):
    sizes = (8, 1, 4, 2, 16)
    cases = tuple(make_case(batch_size=size) for size in sizes)
    store.write_sweep(sweep.model_copy(update={"cases": cases}))
    for size in sorted(sizes):
        store.write_record(make_record(batch_size=size))

    assert tuple(record.case.batch_size for record in store.read().records) == sizes


@pytest.mark.parametrize("many", [1, 2, 500])
def test_records_are_iterated_by_name_however_many_are_read_at_a_time(
    filled, sweep, records, monkeypatch, many
):
    monkeypatch.setattr(store_file, "MANY", many)
    problems = []
    found = list(filled.iterate(sweep.sweep_id, problems))

    assert found == sorted(records, key=lambda record: record.case_id)
    assert problems == []


def test_some_records_are_read_and_those_that_are_not_there_are_left_out(filled, sweep, records):
    wanted = [records[2].case_id, "0123456789abcdef", records[0].case_id]

    assert filled.read_cases(sweep.sweep_id, wanted) == [records[2], records[0]]


def test_what_another_machine_writes_is_read_at_once(root, store, make_record):
    first = store.read().records
    options = {"skip_instance_cache": True, "use_listings_cache": False}
    other = fsspec.filesystem(root.partition("://")[0], **options)
    record = make_record()
    path = store.case_path(record.sweep_id, record.case_id)
    other.pipe_file(key(path), record.model_dump_json().encode())

    assert first == []
    assert store.read().records == [record]


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_named_and_the_others_are_read(filled, case_file, records, content):
    write_file(case_file, content)
    contents = filled.read()

    assert contents.records == records[1:]
    assert [problem.path for problem in contents.problems] == [case_file]
    assert contents.problems[0].reason


def test_a_record_that_is_too_large_is_named(filled, case_file, records, monkeypatch):
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 100_000)
    write_file(case_file, b" " * 100_001)
    contents = filled.read()

    assert contents.records == records[1:]
    assert [problem.reason for problem in contents.problems] == [
        "it has 100001 bytes, more than 100000"
    ]


def test_a_broken_plan_is_named_and_its_records_are_read(filled, sweep, records):
    path = filled.path / sweep.sweep_id / "sweep.json"
    write_file(path, b"{")
    contents = filled.read()

    assert [problem.path for problem in contents.problems] == [path]
    assert {record.case_id for record in contents.records} == {each.case_id for each in records}


def test_sweeps_are_listed_oldest_first_and_what_is_no_sweep_is_not(
    store, sweep, make_record, made_up_gpu
):
    for sweep_id in ("20260101-0", "20240101-0"):
        store.write_sweep(sweep.model_copy(update={"sweep_id": sweep_id}))
    store.write_record(make_record(sweep_id="20230101-0"))  # whose plan is lost
    store.write_roofs(made_up_gpu.MadeUpGpu().roofs())
    for place in ("notes.txt", ".index/files.json", "baselines/l4.json"):
        write_file(store.path / place, b"{}")

    assert store.sweep_ids() == ["20230101-0", "20240101-0", sweep.sweep_id, "20260101-0"]


def test_a_store_beside_it_whose_name_begins_the_same_is_another(root, filled, sweep, records):
    beside = Store(f"{root}/runs-2")
    beside.write_sweep(sweep.model_copy(update={"sweep_id": "20300101-0"}))
    write_file(Store(f"{root}/runsx").path / "cases" / "0.json", b"{")

    assert filled.sweep_ids() == [sweep.sweep_id]
    assert len(refresh(filled).files) == len(records)


def test_a_store_that_is_not_there_is_empty(empty):
    contents = empty.read()

    assert empty.sweep_ids() == []
    assert (contents.records, contents.sweeps, contents.problems) == ([], [], [])


def test_a_sweep_that_is_not_there_is_refused_in_one_line(store):
    with pytest.raises(StoreError, match=r"^There is no sweep '20990101-0' in '.*://.*/runs'\.$"):
        store.read("20990101-0")


def test_a_store_that_is_a_file_is_refused_in_one_line(empty):
    write_file(empty.path, b"no folder")
    with pytest.raises(StoreError, match=r"^'.*/runs' can't be read: [^\n]*\.$"):
        empty.read()


def test_a_plan_that_is_removed_meanwhile_is_written_again(store, sweep, make_record):
    (store.path / sweep.sweep_id / "sweep.json").unlink()
    store.write_record(make_record())

    assert store.read().sweeps == [sweep]


# Locks


def test_a_second_lock_on_a_sweep_is_refused_with_its_holder(store, sweep):
    holder = rf"\({platform.node()}, process {os.getpid()}, since [^)]*\): wait for it"
    told = rf"^Another process is running sweep .*{holder}.* delete '.*\.lock', or .*--take-over\.$"
    with (
        store.lock(sweep.sweep_id),
        pytest.raises(LockedError, match=told),
        store.lock(sweep.sweep_id),
    ):
        pass


def test_a_lock_is_free_afterwards_and_leaves_nothing(store, sweep):
    before = files(store)
    for _ in range(2):
        with store.lock(sweep.sweep_id) as dead:
            pass

    assert dead == []
    assert files(store) == before


def test_a_lock_whose_holder_died_can_be_taken_over(store, sweep):
    write_file(store.path / sweep.sweep_id / ".lock", b"elsewhere, process 7, since then")
    with pytest.raises(LockedError, match="elsewhere"), store.lock(sweep.sweep_id):
        pass
    with (
        Store(store.path, takes_over=True).lock(sweep.sweep_id),
        pytest.raises(LockedError, match=platform.node()),
        store.lock(sweep.sweep_id),
    ):
        pass


def test_two_writers_of_one_sweep_leave_whole_records(store, sweep, make_record):
    with store.lock(sweep.sweep_id), Store(store.path, takes_over=True).lock(sweep.sweep_id):
        for writer, wall_s in ((store, 1.0), (Store(store.path), 2.0)):
            writer.write_record(make_record(wall_s=wall_s))

    assert store.read().records == [make_record(wall_s=2.0)]
    assert store.read().problems == []


def test_a_folder_held_by_a_lock_alone_is_no_sweep_yet(empty):
    with empty.lock("20260101-0"):
        assert empty.sweep_ids() == []


def test_a_locked_sweep_can_be_read_and_written(store, sweep, make_record):
    with store.lock(sweep.sweep_id):
        store.write_record(make_record())

        assert store.read().records == [make_record()]


# What lies beside records


def test_an_end_is_read_until_it_is_removed(store, sweep, end):
    store.write_end(end)
    before = store.read_end(sweep.sweep_id)
    for _ in range(2):  # also where there is none
        store.remove_end(sweep.sweep_id)

    assert before == end
    assert store.read_end(sweep.sweep_id) is None


def test_roofs_come_back_from_the_store(store, made_up_gpu):
    roofs = made_up_gpu.MadeUpGpu().roofs()
    path = store.write_roofs(roofs)

    assert store.read_roofs() == [roofs]
    assert str(path).startswith(f"{store.path}/roofs/")


def test_a_store_without_roofs_peaks_and_prices_has_none(empty):
    assert (empty.read_roofs(), store_specs(empty.path), store_prices(empty.path)) == ([], {}, {})


def test_a_trace_comes_back_as_it_was(store, sweep, make_record):
    trace = bytes(range(256)) * 1000
    store.write_trace(make_record(), trace)

    assert store.trace_path(sweep.sweep_id, make_record().case_id).read_bytes() == trace


def test_a_person_s_peaks_are_read_from_the_store(store):
    text = '\ufeff["NVIDIA L4"]\nfp32 = 1\nbf16 = 2\nmemory = 3\n'  # as some editors begin a file
    write_file(store.path / "hardware.toml", text.encode())

    assert store_specs(store.path)["NVIDIA L4"].flops_per_s["bf16"] == 2e12


def test_a_person_s_prices_are_read_from_the_store(store):
    text = '["NVIDIA L4"]\nusd_per_hour = 0.5\nsource = "mine"\ndate = "2026-01-02"\n'
    write_file(store.path / "prices.toml", text.encode())

    assert store_prices(store.path)["NVIDIA L4"].usd_per_hour == 0.5


def test_a_file_of_peaks_that_is_wrong_is_refused_with_its_address(store):
    write_file(store.path / "hardware.toml", b'["NVIDIA L4"]\nfp32 = "fast"\n')
    with pytest.raises(HardwareError, match=r"^'.*://.*/hardware\.toml' can't be used: fp32 "):
        store_specs(store.path)


# Services that fail


def test_a_bucket_that_is_not_there_is_told_in_one_line(service, sweep, make_record):
    store = Store("s3://not-there-at-all/runs")
    for write in (
        lambda: store.write_sweep(sweep),
        lambda: store.write_record(make_record()),
        lambda: store.lock(sweep.sweep_id).__enter__(),
    ):
        with pytest.raises(StoreError, match=r"^'[^\n]*bucket does not exist[^\n]*--store[^\n]*$"):
            write()


@pytest.fixture(params=["refuses", "is silent"])
def no_service(request, service, monkeypatch, forget_clients):
    """An address at which nobody answers."""
    patience = {"connect_timeout": 0.1, "read_timeout": 0.1}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": patience})
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            listener.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        forget_clients()
        yield "s3://bucket/runs"
        forget_clients()


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_service_that_does_not_answer_is_told_in_one_line(no_service, read):
    with pytest.raises(StoreError, match=r"^'s3://bucket/runs[^\n]*\.$"):
        read(Store(no_service))


@pytest.mark.parametrize("no_service", ["refuses"], indirect=True)  # s3fs waits without end
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_service_that_takes_nothing_is_told_in_one_line(no_service, sweep, make_record, write):
    with pytest.raises(StoreError, match=r"^'s3://bucket/runs/[^\n]*\.$"):
        write(Store(no_service), sweep, make_record())


def test_what_a_service_does_not_answer_is_as_good_as_not_there(no_service, sweep):
    assert Store(no_service).read_end(sweep.sweep_id) is None
    assert Store(no_service).read_roofs() == []


def test_peaks_that_a_service_does_not_tell_are_refused_in_one_line(no_service):
    with pytest.raises(HardwareError, match=r"^'s3://bucket/runs/hardware\.toml' [^\n]*\.$"):
        store_specs(Store(no_service).path)
