"""An address that does not answer for a moment: what it holds is neither missing nor broken."""

from __future__ import annotations

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from results.records.addresses import UnreachableError
from results.records.reading import Problem
from results.records.repair import repair
from results.records.store import Store
from results.tables.index import refresh

SIZES = (1, 2)


@pytest.fixture
def records(make_record):
    return [make_record(batch_size=size) for size in SIZES]


@pytest.fixture
def store(memory, sweep, records):
    """At an address, with two records."""
    filled = Store(memory)
    filled.write_sweep(sweep)
    for record in records:
        filled.write_record(record)
    return filled


@pytest.fixture
def fail():
    """Let some ways to read fail for files whose names end so; gives what mends them."""

    def start(ending, *steps):
        patch = pytest.MonkeyPatch()

        def failing(true):
            def call(files, path, *arguments, **options):
                if path.endswith(ending):
                    raise TimeoutError("no answer")
                return true(files, path, *arguments, **options)

            return call

        for step in steps:
            patch.setattr(MemoryFileSystem, step, failing(getattr(MemoryFileSystem, step)))
        patches.append(patch)
        return patch.undo

    patches = []
    yield start
    for patch in patches:
        patch.undo()


def place_of(store, record):
    return store.case_path(record.sweep_id, record.case_id)


def test_what_is_known_is_not_told_to_be_all_where_a_record_does_not_come(store, records, fail):
    fail(f"{records[0].case_id}.json", "cat_file", "_open")
    known = store.known(records[0].sweep_id)

    assert next(known) == records[1]
    with pytest.raises(UnreachableError, match=f"{records[0].case_id}.json': .* no answer"):
        next(known)


def test_what_is_known_is_not_told_to_be_nothing_where_it_can_not_be_listed(store, records, fail):
    fail("/cases", "ls")

    with pytest.raises(UnreachableError, match="/cases': it can't be listed: no answer"):
        list(store.known(records[0].sweep_id))


def test_what_is_broken_is_not_known_and_no_reason_to_stop(store, records):
    place_of(store, records[0]).write_bytes(b"{")

    assert list(store.known(records[0].sweep_id)) == [records[1]]


def test_a_record_that_does_not_come_is_not_taken_for_one_that_is_missing(store, records, fail):
    fail(f"{records[0].case_id}.json", "cat_file", "_open")

    with pytest.raises(UnreachableError, match="no answer"):
        store.read_cases(records[0].sweep_id, [records[0].case_id])


def test_whoever_shows_a_store_shows_the_rest_and_names_what_did_not_come(store, records, fail):
    fail(f"{records[0].case_id}.json", "cat_file", "_open")
    contents = store.read()

    assert contents.records == records[1:]
    assert contents.problems == [
        Problem(place_of(store, records[0]), "it can't be read: no answer", is_unread=True)
    ]


def test_the_index_tries_again_what_did_not_come(store, records, fail):
    mend = fail(f"{records[0].case_id}.json", "cat_file", "_open")
    before = refresh(store)
    mend()
    after = refresh(store)

    assert [str(problem.path) for problem in before.problems(store.path)] == [
        str(place_of(store, records[0]))
    ]
    assert len(before.frames["cases"]) == 1
    assert len(after.frames["cases"]) == len(SIZES)
    assert after.problems(store.path) == []


def test_a_repair_moves_nothing_that_did_not_come(store, records, fail):
    mend = fail(f"{records[0].case_id}.json", "cat_file", "_open")
    with pytest.raises(UnreachableError, match="no answer"):
        list(repair(store))
    mend()

    assert sorted(each.case.batch_size for each in store.read().records) == list(SIZES)
