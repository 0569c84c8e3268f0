"""The index as it is kept: made again wherever it is not whole, and no burden on the store."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from results.records.repair import look_over
from results.records.schema import Check
from results.tables import index
from results.tables.index import FOLDER, FRAMES, StoreIndex, refresh

from .indexing import (
    SIZES,
    assert_is_of,
    case_path,
    count_reads,
    listing,
    names_of,
    two_families,
)

PEAK = '["NVIDIA L4"]\nfp32 = 1\nbf16 = 2\nmemory = 3\n'
GARBAGE = {
    "nothing": b"",
    "half": None,  # of what was there
    "other text": b"<html>",
    "other JSON": b"[]",
    "a number": b"1",
    "no files": b'{"version": "a"}',
    "files that are none": b'{"version": "a", "files": 1}',
    "files of another form": b'{"version": "a", "files": {"b": [1, 2, 3, 4, 5]}}',
    "bytes": bytes(range(256)),
    "deep brackets": b"[" * 200_000,
}


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


# What is kept


def test_it_is_kept_beside_the_sweeps(filled):
    refresh(filled)

    assert {path.name for path in (filled.path / FOLDER).iterdir()} == {
        "files.json", *(f"{name}.parquet" for name in FRAMES),
    }  # fmt: skip


def test_nothing_is_written_where_nothing_is_to_be_kept(filled):
    before = listing(filled.path)
    assert_is_of(refresh(filled, keep=False), filled)

    assert listing(filled.path) == before


def test_so_few_changes_are_not_written_but_all_together_are(filled, make_record, monkeypatch):
    monkeypatch.setattr(index, "WORTH_WRITING", 0.2)
    indexed = refresh(filled)
    kept = listing(filled.path / FOLDER)
    unsaved, is_written = [], []
    for size in (16, 32, 64):
        filled.write_record(make_record(batch_size=size))
        indexed = refresh(filled, indexed)
        unsaved.append(indexed.unsaved)
        is_written.append(listing(filled.path / FOLDER) != kept)
        assert_is_of(indexed, filled)

    # One of 8 files, two of 9, then one more.
    assert unsaved == [1, 0, 1]
    assert is_written == [False, True, True]
    assert_is_of(refresh(filled), filled)


def test_an_index_that_was_deleted_is_made_again(filled, reads, records):
    refresh(filled)
    shutil.rmtree(filled.path / FOLDER)
    reads.clear()

    assert_is_of(refresh(filled), filled)
    assert sorted(reads) == names_of(*records)
    assert (filled.path / FOLDER / "files.json").is_file()


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("name", ["files.json", *(f"{name}.parquet" for name in FRAMES)])
def test_a_broken_index_is_made_again(filled, reads, records, name, content):
    refresh(filled)
    whole = listing(filled.path / FOLDER)
    path = filled.path / FOLDER / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    reads.clear()

    assert_is_of(refresh(filled), filled)
    assert sorted(reads) == names_of(*records)
    assert listing(filled.path / FOLDER) == whole


@pytest.mark.parametrize("name", ["files.json", *(f"{name}.parquet" for name in FRAMES)])
def test_an_index_of_which_a_file_is_missing_is_made_again(filled, reads, records, name):
    refresh(filled)
    (filled.path / FOLDER / name).unlink()
    reads.clear()

    assert_is_of(refresh(filled), filled)
    assert sorted(reads) == names_of(*records)


@pytest.mark.parametrize("name", ["files.json", *(f"{name}.parquet" for name in FRAMES)])
def test_where_a_file_of_it_can_not_be_written_the_store_is_shown(filled, name):
    refresh(filled)
    path = filled.path / FOLDER / name
    path.unlink()
    path.mkdir()

    assert_is_of(refresh(filled), filled)
    assert_is_of(refresh(filled), filled)


def test_where_its_folder_can_not_be_made_the_store_is_shown(filled):
    (filled.path / FOLDER).write_text("mine")

    assert_is_of(refresh(filled), filled)
    assert (filled.path / FOLDER).read_text() == "mine"


def test_an_index_of_another_version_is_made_again(filled, reads, records):
    refresh(filled)
    path = filled.path / FOLDER / "files.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "another"}))
    reads.clear()

    assert_is_of(refresh(filled), filled)
    assert sorted(reads) == names_of(*records)


def test_an_index_of_other_code_is_made_again(filled, reads, records, monkeypatch):
    old = refresh(filled)
    reads.clear()
    monkeypatch.setattr(index, "code_sha256", lambda: "another")

    assert refresh(filled, old) is not old
    assert sorted(reads) == names_of(*records)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_of_another_moment_is_not_taken(filled, reads, records, make_record, name):
    refresh(filled)
    path = filled.path / FOLDER / f"{name}.parquet"
    earlier = path.read_bytes()
    filled.write_record(make_record(batch_size=16))
    refresh(filled)
    path.write_bytes(earlier)
    reads.clear()

    assert_is_of(refresh(filled), filled)
    assert len(reads) == len(records) + 1


def test_a_list_of_files_of_another_moment_is_not_taken(filled, reads, records, make_record):
    refresh(filled)
    path = filled.path / FOLDER / "files.json"
    earlier = path.read_bytes()
    filled.write_record(make_record(batch_size=16))
    refresh(filled)
    path.write_bytes(earlier)
    reads.clear()

    assert_is_of(refresh(filled), filled)
    assert len(reads) == len(records) + 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_that_can_not_be_written_can_be_shown(filled):
    filled.path.chmod(0o500)
    try:
        assert_is_of(refresh(filled), filled)
        assert not (filled.path / FOLDER).exists()
    finally:
        filled.path.chmod(0o700)


# What else frames follow from


def test_roofs_that_come_later_change_the_limits(filled, made_up_gpu):
    old = refresh(filled)
    filled.write_roofs(made_up_gpu.MadeUpGpu().roofs())
    again = refresh(filled, old)

    assert old.frames["cases"]["mfu_measured"].isna().all()
    assert again.frames["cases"]["mfu_measured"].notna().sum() == 2 * len(SIZES)
    assert again.frames["modules"]["mfu_measured"].notna().any()
    assert_is_of(again, filled)
    assert again.stamp != old.stamp


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_a_person_s_own_peaks_change_the_limits(filled, is_in_memory):
    old = refresh(filled)
    (filled.path / "hardware.toml").write_text(PEAK)
    again = refresh(filled, old if is_in_memory else None)

    assert set(again.frames["cases"]["roof_flops_per_s"].dropna()) == {2e12}
    assert (again.frames["cases"]["mfu"].dropna() > old.frames["cases"]["mfu"].dropna()).all()
    assert_is_of(again, filled)


def test_peaks_that_are_taken_away_change_the_limits_back(filled):
    first = refresh(filled)
    (filled.path / "hardware.toml").write_text(PEAK)
    refresh(filled)
    (filled.path / "hardware.toml").unlink()
    again = refresh(filled)

    assert again.stamp == first.stamp
    assert_is_of(again, filled)


# Many files


def test_many_files_are_read_by_several_processes(filled, records, reads, monkeypatch):
    monkeypatch.setattr(index, "FEWEST_FOR_PROCESSES", 2)
    monkeypatch.setattr(index, "CHUNK", 2)
    case_path(filled, records[0]).write_text("{")
    indexed = refresh(filled, processes=2)

    assert reads == []  # by this one
    assert_is_of(indexed, filled)
    assert len(indexed.problems(filled.path)) == 1
    assert set(indexed.files) == {
        f"{record.sweep_id}/cases/{record.case_id}.json" for record in records
    }


@pytest.mark.parametrize(("processes", "fewest"), [(1, 2), (2, 100)])
def test_few_files_or_one_process_are_read_here(
    filled, records, reads, monkeypatch, processes, fewest
):
    monkeypatch.setattr(index, "FEWEST_FOR_PROCESSES", fewest)
    monkeypatch.setattr(index, "CHUNK", 2)

    assert_is_of(refresh(filled, processes=processes), filled)
    assert sorted(reads) == names_of(*records)


# The store does not mind


def test_a_store_with_an_index_is_fine(store, make_record):
    store.write_record(make_record())
    refresh(store)

    assert (store.path / FOLDER).is_dir()
    assert [look.is_fine for look in look_over(store)] == [True]
    assert store.read().problems == []


def test_an_index_changes_no_record(filled):
    before = listing(filled.path)
    refresh(filled)

    assert {path: listing(filled.path)[path] for path in before} == before


def test_a_moment_is_told_by_its_files_and_its_version():
    file = index.File(1, 2, 3, "a")
    stamps = {
        StoreIndex("v", {"p": file}).stamp,
        StoreIndex("w", {"p": file}).stamp,
        StoreIndex("v", {"q": file}).stamp,
        StoreIndex("v", {"p": file._replace(changed_ns=3)}).stamp,
        StoreIndex("v", {"p": file._replace(inode=4)}).stamp,
        StoreIndex("v", {"p": file._replace(size=3)}).stamp,
        StoreIndex("v", {"p": file._replace(reason="broken")}).stamp,
        StoreIndex("v").stamp,
    }

    assert len(stamps) == 8
    assert StoreIndex("v", {"p": file}).stamp in stamps


@pytest.mark.parametrize("name", FRAMES)
def test_every_column_has_the_type_that_its_name_says(filled, make_record, name):
    warned = {"spread": Check(value=1.0, limit="a limit", verdict="warn")}
    filled.write_record(make_record(batch_size=16, checks=warned))
    frame = refresh(filled).frames[name]

    assert {str(kind) for kind in frame.dtypes} <= {"int64", "float64", "boolean", "object"}
    for column in frame.columns:
        assert frame[column].dtype == index.type_of(column)
