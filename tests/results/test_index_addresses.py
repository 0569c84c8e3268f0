"""A store at an address is looked over, mended and indexed as one in a folder is."""

from __future__ import annotations

import pytest

from results.records.addresses import holding, write_file
from results.records.repair import describe, look_over, repair
from results.records.store import Store, StoreError
from results.tables import index
from results.tables.index import FOLDER, FRAMES, refresh

from .indexing import SIZES, assert_is_of, files, two_families


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
def case_file(filled, records):
    """Where the first record lies."""
    return filled.case_path(records[0].sweep_id, records[0].case_id)


@pytest.fixture
def reads(monkeypatch):
    """Names of the records' files that the index reads from now on."""
    found, read_many = [], index.read_many

    def count(paths):
        found.extend(path.name for path in paths)
        return read_many(paths)

    monkeypatch.setattr(index, "read_many", count)
    return found


def lines(store):
    return [line for look in look_over(store) for line in describe(look)]


# Looking it over and mending it


def test_a_store_that_is_fine_is_a_line_a_sweep(filled, sweep, records):
    count = len(records)

    assert lines(filled) == [f"{sweep.sweep_id}: {count} planned cases, {count} good records"]
    assert list(repair(filled)) == []


def test_looking_and_a_repair_of_nothing_change_nothing(filled):
    before = files(filled)
    lines(filled)
    list(repair(filled))

    assert files(filled) == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"schema_version": NaN}'], ids=ascii)
def test_a_record_that_can_not_be_used_is_named_and_moved_aside(
    filled, sweep, case_file, records, content
):
    write_file(case_file, content)
    found, done = lines(filled), list(repair(filled))
    aside = filled.path / sweep.sweep_id / "broken" / case_file.name

    assert any(f"can't be used: {case_file}: " in line for line in found)
    assert f"moved {case_file} to {aside}: " in done[0]
    assert aside.read_bytes() == content
    assert not case_file.exists()
    assert filled.read().problems == []
    assert len(filled.read().records) == len(records) - 1


def test_what_was_moved_aside_before_is_kept(filled, sweep, case_file):
    for content in (b"first", b"second", b"third"):
        write_file(case_file, content)
        list(repair(filled))
    aside = sorted((filled.path / sweep.sweep_id / "broken").iterdir(), key=str)

    assert [path.read_bytes() for path in aside] == [b"first", b"second", b"third"]


def test_a_record_under_another_name_gets_its_own(filled, case_file):
    case_file.rename(case_file.with_name("mine.json"))
    (done,) = repair(filled)

    assert f"renamed {case_file.with_name('mine.json')} to {case_file}" in done
    assert all(look.is_fine for look in look_over(filled))


@pytest.mark.parametrize("is_missing", [True, False])
def test_a_lost_plan_is_rebuilt_from_its_records(filled, sweep, records, is_missing):
    path = filled.path / sweep.sweep_id / "sweep.json"
    path.unlink() if is_missing else write_file(path, b"{")
    list(repair(filled))
    (rebuilt,) = filled.read().sweeps

    assert {case.case_id for case in rebuilt.cases} == {record.case_id for record in records}


def test_repairing_what_can_not_be_used_at_all_deletes_nothing(empty, sweep):
    path = empty.case_path(sweep.sweep_id, "a")
    write_file(path, b'{"schema_version": 4}')
    list(repair(empty))

    assert path.read_bytes() == b'{"schema_version": 4}'


@pytest.mark.parametrize("name", ["copy[1]", "what?", "st*r"])
def test_a_name_is_no_pattern(filled, case_file, records, name):
    data = case_file.read_bytes()
    case_file.with_name(f"{name}.json").write_bytes(data)
    case_file.unlink()

    assert len(filled.read().records) == len(records)


def test_a_sweep_that_is_running_is_left_alone_and_named(filled, sweep, case_file):
    write_file(case_file, b"{")
    with holding(filled.path / sweep.sweep_id / ".lock"):
        found, done = lines(filled), list(repair(filled))

    assert f"{sweep.sweep_id}: another process is running it" in found
    assert done == [f"{sweep.sweep_id}: left alone: another process is running it"]
    assert case_file.read_bytes() == b"{"


# The index


def test_the_index_says_what_the_records_say(filled):
    assert_is_of(refresh(filled), filled)


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_where_nothing_has_changed_nothing_is_read_again(filled, reads, is_in_memory):
    old = refresh(filled)
    reads.clear()
    again = refresh(filled, old if is_in_memory else None)

    assert reads == []
    assert again.stamp == old.stamp
    assert_is_of(again, filled)


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_a_record_that_is_new_is_read_and_no_other(filled, reads, make_record, is_in_memory):
    old = refresh(filled)
    reads.clear()
    record = make_record(batch_size=16)
    filled.write_record(record)
    again = refresh(filled, old if is_in_memory else None)

    assert reads == [f"{record.case_id}.json"]
    assert_is_of(again, filled)


def test_a_record_that_is_changed_in_as_many_bytes_is_read_again(filled, reads, case_file):
    old = refresh(filled)
    reads.clear()
    content = case_file.read_bytes()
    write_file(case_file, content.replace(b'"wall_s":12.5', b'"wall_s":13.5'))
    again = refresh(filled, old)

    assert len(case_file.read_bytes()) == len(content)
    assert reads == [case_file.name]
    assert_is_of(again, filled)


def test_a_record_that_is_gone_is_gone(filled, case_file, records):
    old = refresh(filled)
    case_file.unlink()
    again = refresh(filled, old)

    assert records[0].record_id not in set(again.frames["cases"]["record_id"])
    assert_is_of(again, filled)


def test_a_broken_record_is_named_as_reading_the_store_names_it(filled, case_file):
    write_file(case_file, b"{")
    ours = [(each.path, each.reason) for each in refresh(filled).problems(filled.path)]

    assert ours == [(each.path, each.reason) for each in filled.read().problems]
    assert len(ours) == 1


def test_the_index_is_kept_beside_the_sweeps(filled):
    refresh(filled)
    kept = {place for place in files(filled) if place.startswith(f"{FOLDER}/")}

    assert kept == {
        f"{FOLDER}/files.json", *(f"{FOLDER}/{name}.parquet" for name in FRAMES),
    }  # fmt: skip
    assert all(look.is_fine for look in look_over(filled))


def test_nothing_is_written_where_nothing_is_to_be_kept(filled):
    before = files(filled)
    refresh(filled, keep=False)

    assert files(filled) == before


def test_an_index_that_is_broken_is_made_again(filled, reads, records):
    refresh(filled)
    write_file(filled.path / FOLDER / "cases.parquet", b"half")
    reads.clear()

    assert_is_of(refresh(filled), filled)
    assert len(reads) == len(records)


def test_roofs_and_a_person_s_peaks_change_the_limits(filled, made_up_gpu):
    old = refresh(filled)
    filled.write_roofs(made_up_gpu.MadeUpGpu().roofs())
    write_file(filled.path / "hardware.toml", b'["NVIDIA L4"]\nfp32 = 1\nbf16 = 2\nmemory = 3\n')
    again = refresh(filled, old)

    assert again.frames["cases"]["mfu_measured"].notna().sum() == 2 * len(SIZES)
    assert set(again.frames["cases"]["roof_flops_per_s"].dropna()) == {2e12}
    assert_is_of(again, filled)


def test_the_index_of_a_store_that_is_not_there_is_refused_in_one_line(empty):
    with pytest.raises(StoreError, match=r"^There is no store '.*://.*/runs': [^\n]*$"):
        refresh(empty)
