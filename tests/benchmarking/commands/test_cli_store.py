"""`sam-bench store`: what it says of a folder of records, its exit codes, and what it mends."""

from __future__ import annotations

import pytest

from results.records.store import Store


@pytest.fixture
def store(make_store, make_record):
    """Three records, one of a case that failed."""
    return make_store(*(make_record(batch_size=size) for size in (1, 2)), make_record("oom"))


@pytest.fixture
def sweep_id(store):
    return store.sweep_ids()[0]


@pytest.fixture
def spoil(store, sweep_id, make_case):
    """Put something else in the place of a record."""

    def put(text, size=1):
        path = store.case_path(sweep_id, make_case(batch_size=size).case_id)
        path.write_text(text)
        return path

    return put


def test_a_store_that_is_fine_ends_with_exit_code_0(invoke, store, sweep_id):
    result = invoke("store verify")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].startswith(f"{sweep_id}: ")
    assert result.stdout.splitlines()[-1].endswith(" good records: all fine")


def test_a_broken_record_ends_with_exit_code_4_and_says_what_to_type(invoke, spoil):
    path = spoil("{")
    result = invoke("store verify")

    assert result.exit_code == 4
    assert (
        f"can't be used: runs/{path.relative_to(path.parents[2])}: it is not JSON" in result.stdout
    )
    assert result.stdout.splitlines()[-1].endswith("mended with: sam-bench store repair")
    assert result.stderr == ""


def test_a_missing_record_ends_with_exit_code_4(invoke, make_store, make_record, make_case):
    make_store(make_record(batch_size=1), not_run=(make_case(batch_size=8),))
    result = invoke("store verify")

    assert result.exit_code == 4
    assert "1 planned cases without a record, the first tiny b8 " in result.stdout


def test_what_was_repaired_and_measured_again_is_fine(invoke, launcher):
    invoke("sweep -m tiny -b 1,2,4 --input noise")
    path = sorted(Store("runs").path.glob("*/cases/*"))[0]
    path.write_text("{")
    repaired = invoke("store repair")
    incomplete = invoke("store verify")
    again = invoke("sweep -m tiny -b 1,2,4 --input noise")

    assert (repaired.exit_code, incomplete.exit_code, again.exit_code) == (0, 4, 0)
    assert f"moved runs/{path.parts[1]}/cases/{path.name} to " in repaired.stdout
    assert "goes on: 2 of 3 cases are done" in again.stdout
    assert invoke("store verify").exit_code == 0


def test_a_store_that_is_fine_has_nothing_to_mend(invoke, store):
    result = invoke("store repair")

    assert (result.exit_code, result.stdout) == (0, "Nothing to mend.\n")


def test_another_store_can_be_named(invoke, store, spoil, tmp_path):
    spoil("{")
    store.path.rename(tmp_path / "other")

    assert invoke("store verify --store other").exit_code == 4
    assert "other/" in invoke("store repair --store other").stdout
    assert invoke("store verify").exit_code == 2


def test_a_running_sweep_is_left_alone_and_no_mistake(invoke, store, sweep_id, spoil):
    path = spoil("{")
    with store.lock(sweep_id):
        result = invoke("store repair")

    assert result.exit_code == 0
    assert f"{sweep_id}: left alone: another process is running it" in result.stdout
    assert path.read_text() == "{"


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_a_name_in_the_store_drives_no_terminal(invoke, store, command):
    (store.path / "\x1b[31m\nred" / "cases").mkdir(parents=True)
    result = invoke(f"store {command}")

    assert "\x1b" not in result.stdout
    assert "?[31m?red" in result.stdout


def test_a_store_that_takes_nothing_ends_in_one_line(invoke, store, sweep_id, spoil):
    spoil("{")
    (store.path / sweep_id / "broken").write_text("no folder")
    result = invoke("store repair")

    assert result.exit_code == 2
    assert "broken' can't be written: File exists" in result.stderr
    assert len(result.stderr.splitlines()) == 1
