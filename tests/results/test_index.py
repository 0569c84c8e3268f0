"""The index beside a store: always what its records say, and never read twice without need."""

from __future__ import annotations

import os
import shutil

import pandas as pd
import pytest

from results.records.store import Store, StoreError
from results.tables import index
from results.tables.index import FRAMES, refresh

from .indexing import (
    SIZES,
    assert_is_of,
    case_path,
    count_reads,
    later,
    made_of,
    names_of,
    rewrite,
    rows,
    two_families,
)


@pytest.fixture
def records(make_record, make_failure):
    return two_families(make_record, make_failure)


@pytest.fixture
def filled(store, records):
    for record in records:
        store.write_record(record)
    return store


@pytest.fixture
def reads(monkeypatch):
    return count_reads(index, monkeypatch)


# What it says


def test_an_index_is_what_frames_of_the_records_are(filled):
    assert_is_of(refresh(filled), filled)


def test_an_index_that_was_kept_says_the_same(filled):
    first = refresh(filled)
    again = refresh(filled)

    assert again is not first
    for name in FRAMES:
        pd.testing.assert_frame_equal(again.frames[name], first.frames[name], check_dtype=True)


def test_the_frame_of_cases_has_all_columns_and_the_others_what_it_lacks(filled):
    frames = refresh(filled).frames
    made = made_of(filled)

    assert list(frames["cases"].columns) == list(made["cases"].columns)
    for name in ("components", "modules"):
        shared = set(frames[name].columns) & set(frames["cases"].columns)
        assert "record_id" in shared
        assert set(frames[name].columns) | set(made["cases"].columns) >= set(made[name].columns)
        merged = frames[name].merge(made["cases"], on="record_id", suffixes=("", "_of_case"))
        assert len(merged) == len(made[name])


def test_cases_stand_by_sweep_and_batch_size(filled, make_record):
    filled.write_record(make_record(sweep_id="20240101-000000-earlier", batch_size=16))
    cases = refresh(filled).frames["cases"]
    plain = cases[(cases["attention"] == "reference") & (cases["status"] == "ok")]

    assert list(plain["batch_size"]) == [16, *SIZES]


def test_an_index_of_failures_alone_has_the_types_of_any_other(
    store, filled, make_failure, tmp_path
):
    failures = Store(tmp_path / "failures")
    failures.write_record(make_failure())
    ours, others = refresh(failures).frames, refresh(filled).frames

    for name in FRAMES:
        assert dict(ours[name].dtypes) == dict(others[name].dtypes)


def test_a_store_without_records_has_frames_without_rows(store):
    frames = refresh(store).frames

    assert {name: len(frame) for name, frame in frames.items()} == dict.fromkeys(FRAMES, 0)
    for name, frame in made_of(store).items():
        assert set(frames[name].columns) <= set(frame.columns)


def test_a_store_that_is_not_there_is_refused_and_not_made(tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        refresh(Store(tmp_path / "nowhere"))

    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="file"):
        refresh(Store(tmp_path / "file"))


def test_two_stores_have_an_index_each(filled, make_record, tmp_path):
    other = Store(tmp_path / "other")
    other.write_record(make_record(batch_size=16))
    ours, others = refresh(filled), refresh(other)

    assert_is_of(ours, filled)
    assert_is_of(others, other)
    assert ours.stamp != others.stamp
    assert refresh(filled).stamp == ours.stamp


# What is read again


def test_at_first_every_record_is_read_once(filled, records, reads):
    refresh(filled)

    assert sorted(reads) == names_of(*records)


def test_where_nothing_changed_the_same_object_comes_back(filled, reads):
    first = refresh(filled)
    reads.clear()

    assert refresh(filled, first) is first
    assert reads == []


def test_what_was_kept_is_not_read_again(filled, reads):
    refresh(filled)
    reads.clear()
    refresh(filled)

    assert reads == []


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_of_a_new_record_it_alone_is_read(filled, make_record, reads, is_in_memory):
    old = refresh(filled)
    reads.clear()
    new = make_record(batch_size=16)
    filled.write_record(new)
    again = refresh(filled, old if is_in_memory else None)

    assert reads == names_of(new)
    assert_is_of(again, filled)
    assert again.stamp != old.stamp


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_of_a_changed_record_it_alone_is_read(filled, records, make_failure, reads, is_in_memory):
    old = refresh(filled)
    reads.clear()
    changed = make_failure("crashed", batch_size=2)
    assert changed.case_id in {record.case_id for record in records}
    rewrite(filled, changed)
    again = refresh(filled, old if is_in_memory else None)

    assert reads == names_of(changed)
    assert_is_of(again, filled)
    assert again.stamp != old.stamp


def test_a_record_of_the_same_size_and_another_time_is_read_again(filled, records, reads):
    old = refresh(filled)
    reads.clear()
    path = case_path(filled, records[0])
    path.write_text(path.read_text().replace('"wall_s":12.5', '"wall_s":13.5'))
    later(path)
    again = refresh(filled, old)

    assert reads == names_of(records[0])
    assert 13.5 in set(again.frames["cases"]["wall_s"])
    assert_is_of(again, filled)


def test_another_file_of_the_same_size_and_time_is_read(filled, records, reads):
    old = refresh(filled)
    reads.clear()
    path = case_path(filled, records[0])
    status, other = path.stat(), path.with_name("other.tmp")
    other.write_text(path.read_text().replace('"wall_s":12.5', '"wall_s":13.5'))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)

    assert_is_of(refresh(filled, old), filled)
    assert reads == names_of(records[0])


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_a_record_that_is_gone_is_gone_and_none_is_read(filled, records, reads, is_in_memory):
    old = refresh(filled)
    reads.clear()
    case_path(filled, records[0]).unlink()
    again = refresh(filled, old if is_in_memory else None)

    assert reads == []
    assert_is_of(again, filled)
    assert records[0].record_id not in set(again.frames["cases"]["record_id"])


def test_a_sweep_that_is_gone_is_gone(filled, make_record):
    filled.write_record(make_record(sweep_id="20240101-000000-earlier"))
    old = refresh(filled)
    shutil.rmtree(filled.path / "20240101-000000-earlier")

    assert_is_of(refresh(filled, old), filled)


def test_where_all_records_are_gone_no_row_is_left(filled):
    old = refresh(filled)
    for path in filled.path.rglob("cases/*.json"):
        path.unlink()
    again = refresh(filled, old)

    assert {len(frame) for frame in again.frames.values()} == {0}
    assert dict(again.files) == {}


def test_one_that_came_and_one_that_went_are_both_noticed(filled, records, make_record):
    old = refresh(filled)
    case_path(filled, records[0]).unlink()
    filled.write_record(make_record(batch_size=16))

    assert_is_of(refresh(filled, old), filled)


def test_the_files_that_were_read_are_told_with_their_records(filled, records):
    found = refresh(filled).files

    assert {path: file.record_id for path, file in found.items()} == {
        f"{record.sweep_id}/cases/{record.case_id}.json": record.record_id for record in records
    }


def test_a_record_under_two_names_is_one(filled, records):
    path = case_path(filled, records[0])
    path.with_name("copy.json").write_bytes(path.read_bytes())
    cases = refresh(filled).frames["cases"]

    assert len(cases) == len(records)


@pytest.mark.parametrize("is_new", [True, False])
def test_the_parts_of_a_record_under_two_names_are_there_once(filled, records, is_new):
    old = refresh(filled, keep=False)
    path = case_path(filled, records[0])
    path.with_name("copy.json").write_bytes(path.read_bytes())
    again = refresh(filled, None if is_new else old, keep=False)

    for name, frame in again.frames.items():
        assert rows(frame) == rows(old.frames[name]), name


@pytest.mark.parametrize("name", ["notes.txt", "record.json.bak"])
def test_other_files_are_left_alone(filled, records, reads, name):
    case_path(filled, records[0]).with_name(name).write_text("{")
    indexed = refresh(filled)

    assert name not in reads
    assert indexed.problems(filled.path) == []


# Broken files


def test_a_broken_record_is_named_with_its_reason_and_the_others_are_there(filled, records):
    path = case_path(filled, records[0])
    path.write_text("{")
    indexed = refresh(filled)
    (problem,) = indexed.problems(filled.path)

    assert problem.path == path
    assert problem.reason.startswith("it is not JSON")
    assert_is_of(indexed, filled)
    assert len(indexed.frames["cases"]) == len(records) - 1


def test_a_broken_record_is_named_as_reading_the_store_names_it(filled, records):
    case_path(filled, records[0]).write_text("{")
    case_path(filled, records[1]).write_text('{"schema_version": 99}')
    ours = {(each.path, each.reason) for each in refresh(filled).problems(filled.path)}

    assert ours == {(each.path, each.reason) for each in filled.read().problems}
    assert len(ours) == 2


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_a_broken_record_is_not_read_again_while_it_is_the_same(
    filled, records, reads, is_in_memory
):
    path = case_path(filled, records[0])
    path.write_text("{")
    old = refresh(filled)
    reads.clear()
    again = refresh(filled, old if is_in_memory else None)

    assert reads == []
    assert again.problems(filled.path) == old.problems(filled.path) != []


def test_a_record_that_is_mended_is_read_again(filled, records, reads):
    path = case_path(filled, records[0])
    path.write_text("{")
    old = refresh(filled)
    reads.clear()
    rewrite(filled, records[0])
    again = refresh(filled, old)

    assert reads == names_of(records[0])
    assert again.problems(filled.path) == []
    assert_is_of(again, filled)


def test_a_record_that_breaks_has_no_row_any_more(filled, records):
    old = refresh(filled)
    path = case_path(filled, records[0])
    path.write_text("{")
    later(path)
    again = refresh(filled, old)

    assert len(again.problems(filled.path)) == 1
    assert_is_of(again, filled)


def test_what_is_no_file_is_named(filled, records):
    (case_path(filled, records[0]).with_name("folder.json")).mkdir()
    indexed = refresh(filled)
    (problem,) = indexed.problems(filled.path)

    assert (problem.path.name, problem.reason) == ("folder.json", "it is not a regular file")
    assert_is_of(indexed, filled)
