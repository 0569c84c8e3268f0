"""Looking a store over, and mending it: what is found, what is done, and that nothing is lost."""

from __future__ import annotations

import errno
import json
import os

import pytest

from results.records.repair import describe, look_over, repair
from results.records.store import Store, StoreError

END = "end.json"


@pytest.fixture
def full(store, sweep, make_case, make_record):
    """A store of one sweep, planned and measured at four batch sizes."""
    cases = tuple(make_case(batch_size=size) for size in (1, 2, 4, 8))
    store.write_sweep(sweep.model_copy(update={"cases": cases}))
    for size in (1, 2, 4, 8):
        store.write_record(make_record(batch_size=size))
    return Store(store.path)


@pytest.fixture
def folder(full, sweep):
    return full.path / sweep.sweep_id


@pytest.fixture
def case_file(full, sweep, make_case):
    """Where the record of a batch size lies."""
    return lambda size: full.case_path(sweep.sweep_id, make_case(batch_size=size).case_id)


def lines(store):
    return [line for look in look_over(store) for line in describe(look)]


def is_fine(store):
    return all(look.is_fine for look in look_over(store))


def contents(folder):
    """Bytes of all files below a folder, by what they are."""
    return sorted(path.read_bytes() for path in folder.rglob("*.json*") if path.is_file())


# A store that is fine


def test_a_store_that_is_fine_is_a_line_a_sweep(full, sweep):
    assert lines(full) == [f"{sweep.sweep_id}: 4 planned cases, 4 good records"]
    assert is_fine(full)


def test_a_store_that_is_fine_needs_no_repair(full, folder):
    before = contents(folder)

    assert list(repair(full)) == []
    assert contents(folder) == before


def test_looking_changes_nothing(full, folder, case_file):
    case_file(1).write_text("{")
    (folder / "cases" / ".x.json.1.tmp").touch()
    (folder / "sweep.json").unlink()
    before = sorted(path.name for path in folder.rglob("*"))
    lines(full)

    assert sorted(path.name for path in folder.rglob("*")) == before


# What is found, and what is done about it


def breakages(folder, case_file):
    """Ways to harm the record at batch size 2."""
    path = case_file(2)
    return {
        "cut": lambda: path.write_bytes(path.read_bytes()[:100]),
        "empty": lambda: path.write_bytes(b""),
        "folder": lambda: (path.unlink(), path.mkdir()),
        "pipe": lambda: (path.unlink(), os.mkfifo(path)),
        "link to itself": lambda: (path.unlink(), path.symlink_to(path)),
    }


@pytest.mark.parametrize("breakage", ["cut", "empty", "folder", "pipe", "link to itself"])
def test_a_record_that_can_not_be_used_is_named_and_moved_aside(full, folder, case_file, breakage):
    breakages(folder, case_file)[breakage]()
    found, done = lines(full), list(repair(full))

    assert any(f"can't be used: {case_file(2)}: " in line for line in found)
    assert f"moved {case_file(2)} to {folder / 'broken' / case_file(2).name}: " in done[0]
    assert os.path.lexists(folder / "broken" / case_file(2).name)
    assert not os.path.lexists(case_file(2))
    assert [line for line in lines(full) if "can't be used" in line] == []


def test_what_was_moved_aside_before_is_kept(full, folder, case_file):
    for text in ("first", "second", "third"):
        case_file(2).write_text(text)
        list(repair(full))
    aside = sorted((folder / "broken").iterdir())

    assert [path.read_text() for path in aside] == ["first", "second", "third"]


def test_a_case_without_a_record_is_named_with_what_to_type(full, case_file):
    case_file(2).unlink()
    (_, line) = lines(full)

    assert "1 planned cases without a record, the first vit_b b2 " in line
    assert line.endswith(": sam-bench run")
    assert not is_fine(full)


def test_a_case_that_was_not_planned_is_named_and_left(full, make_record):
    full.write_record(make_record(batch_size=64))
    path = full.case_path(make_record().sweep_id, make_record(batch_size=64).case_id)

    assert f"a record of a case that was not planned: {path}" in lines(full)[1]
    assert "left alone: " in next(repair(full))
    assert path.is_file()


def test_what_a_dead_writer_left_is_named_and_removed(full, folder):
    left = [folder / ".sweep.json.7.tmp", folder / "cases" / ".x.json.99.tmp"]
    for path in left:
        path.write_text('{"half": ')
    found, done = lines(full), list(repair(full))

    assert [line.split(": ", 1)[1] for line in found[1:]] == [
        f"left over by a writer that died: {path}" for path in left
    ]
    assert len(done) == 2
    assert not any(path.exists() for path in left)
    assert is_fine(full)


def test_a_record_under_another_name_gets_its_own(full, folder, case_file):
    stray = folder / "cases" / "mine.json"
    case_file(2).rename(stray)
    found, done = lines(full), list(repair(full))

    assert f"under another name than its case_id {case_file(2).stem}: {stray}" in found[1]
    assert f"renamed {stray} to {case_file(2)}" in done[0]
    assert is_fine(full)


def test_a_second_record_of_a_case_is_moved_aside(full, folder, case_file):
    stray = folder / "cases" / "copy.json"
    stray.write_bytes(case_file(2).read_bytes())
    (done,) = repair(full)

    assert f"moved {stray} to {folder / 'broken' / 'copy.json'}" in done
    assert len(full.read().records) == 4
    assert is_fine(full)


def test_a_record_under_the_name_of_one_that_is_broken_gets_its_own(full, folder, case_file):
    case_file(2).rename(folder / "cases" / "mine.json")
    case_file(2).write_text("{")
    list(repair(full))

    assert is_fine(full)


def test_a_record_of_another_sweep_is_named_and_left(full, folder, make_record):
    other = make_record(batch_size=2, sweep_id="20260102-030405-abcdef")
    path = full.case_path(folder.name, other.case_id)
    path.write_text(other.model_dump_json())

    assert any(f"a record of sweep {other.sweep_id}: {path}" in line for line in lines(full))
    assert "left alone: " in next(repair(full))
    assert path.is_file()


def test_a_copy_of_a_sweep_is_named_and_left(full, folder):
    copy = folder.rename(folder.with_name("20990101-000000-abcdef"))
    (_, line) = lines(full)

    assert f"its sweep.json is that of sweep {folder.name}" in line
    assert len(list(repair(full))) == 1
    assert len(list((copy / "cases").iterdir())) == 4


@pytest.mark.parametrize("name", ["sweep.json", "record", END])
def test_a_file_of_another_version_is_named_and_left_where_it_is(full, folder, case_file, name):
    path = case_file(2) if name == "record" else folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | {"schema_version": 4}))
    before = contents(folder)
    done = list(repair(full))

    assert not is_fine(full)
    assert f"left alone: {path}: its schema_version is 4, and this version" in done[0]
    assert contents(folder) == before


def test_an_end_that_can_not_be_used_is_named_and_moved_aside(full, folder):
    (folder / END).write_text("{")
    found, done = lines(full), list(repair(full))

    assert f"can't be used: {folder / END}: " in found[1]
    assert f"moved {folder / END}" in done[0]
    assert is_fine(full)


def test_records_that_can_not_be_listed_are_moved_aside(full, folder, sweep):
    (folder / "cases").rename(folder / "kept")
    (folder / "cases").write_text("no folder")
    list(repair(full))

    assert (folder / "broken" / "cases").read_text() == "no folder"


# The plan


@pytest.mark.parametrize("breakage", ["missing", "cut"])
def test_a_lost_plan_is_rebuilt_from_its_records(full, folder, sweep, breakage):
    path = folder / "sweep.json"
    if breakage == "cut":
        path.write_text(path.read_text()[:200])
    else:
        path.unlink()
    found, done = lines(full), list(repair(full))
    (rebuilt,) = full.read().sweeps

    assert f"can't be used: {path}: " in found[1]
    assert "unknown planned cases, 4 good records" in found[0]
    assert f"rebuilt {path} from 4 records; the plan may lack cases" in done[-1]
    assert {case.batch_size for case in rebuilt.cases} == {1, 2, 4, 8}
    assert (rebuilt.sweep_id, rebuilt.plan, rebuilt.environment) == (
        sweep.sweep_id, sweep.plan, sweep.environment,
    )  # fmt: skip
    assert (folder / "broken" / "sweep.json").exists() == (breakage == "cut")


def test_a_rebuilt_plan_says_that_it_may_lack_cases(full, folder):
    (folder / "sweep.json").unlink()
    list(repair(full))

    assert "sweep.json was rebuilt from records: the plan may lack cases" in lines(full)[1]
    assert is_fine(full)


def test_of_a_rebuilt_plans_definition_the_digits_of_its_id_are_known(full, folder, sweep):
    (folder / "sweep.json").unlink()
    list(repair(full))

    assert full.read().sweeps[0].definition_sha256 == "abcdef"
    assert sweep.sweep_id.endswith("-abcdef")


def test_records_of_two_states_of_the_software_make_no_plan(full, folder, make_record, environment):
    other = environment.model_copy(update={"torch": "2.12.0"})
    full.write_record(make_record(batch_size=2, environment=other))
    (folder / "sweep.json").unlink()

    assert "can't be rebuilt from records that share no plan and software" in next(repair(full))
    assert not (folder / "sweep.json").exists()


def test_records_of_all_machines_of_a_fleet_make_a_plan(full, folder, make_record, environment):
    other = environment.model_copy(update={"hostname": "other", "gpus": (), "driver": None})
    full.write_record(make_record(batch_size=2, environment=other))
    (folder / "sweep.json").unlink()

    assert f"rebuilt {folder / 'sweep.json'} from " in next(repair(full))
    assert full.read().problems == []


def test_a_sweep_of_which_nothing_is_left_is_none_any_more(full, folder):
    for path in folder.rglob("*.json"):
        path.write_text("{")
    done = list(repair(full))

    assert "can't be rebuilt: there is no record that can be used" in done[-1]
    assert full.sweep_ids() == []
    assert len(list((folder / "broken").iterdir())) == 5


# With others about


def test_a_sweep_that_is_running_is_left_alone_and_named(full, folder, case_file):
    case_file(2).write_text("{")
    (folder / "cases" / ".x.json.1.tmp").touch()
    before = contents(folder)
    with full.lock(folder.name):
        (folder / "cases" / ".y.json.1.tmp").touch()
        done = list(repair(full))

    assert done == [f"{folder.name}: left alone: another process is running it"]
    assert contents(folder) == before
    assert (folder / "cases" / ".y.json.1.tmp").exists()


def test_what_a_running_sweep_has_not_done_yet_is_no_fault(full, folder, case_file):
    case_file(2).unlink()
    with full.lock(folder.name):
        (folder / "cases" / ".x.json.1.tmp").touch()

        assert is_fine(full)
        assert lines(full)[1] == f"{folder.name}: another process is running it"


def test_a_sweep_is_free_again_after_a_look(full, folder):
    with full.lock(folder.name):
        lines(full)
    with full.lock(folder.name):
        assert lines(full)


def test_every_sweep_is_mended(full, folder, sweep, make_record):
    other = sweep.model_copy(update={"sweep_id": "20260102-030405-abcdef"})
    full.write_sweep(other)
    full.write_record(make_record(sweep_id=other.sweep_id))
    for path in full.path.glob("*/sweep.json"):
        path.write_text("{")
    list(repair(full))

    assert is_fine(full)


@pytest.mark.parametrize("name", ["rename", "fsync"])
def test_a_disk_that_takes_nothing_ends_the_repair_in_one_line(full, case_file, monkeypatch, name):
    def fail(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    case_file(2).write_text("{")
    monkeypatch.setattr(os, name, fail)
    with pytest.raises(
        StoreError, match=r"^'[^\n]*' can't be moved [^\n]*Read-only file system\.$"
    ):
        list(repair(full))


def test_repair_deletes_no_record(full, folder, case_file):
    texts = [case_file(size).read_text() for size in (1, 2, 4, 8)]
    case_file(1).rename(folder / "cases" / "a.json")
    case_file(2).rename(case_file(4))
    case_file(8).write_text(texts[3][:-9])
    (folder / "sweep.json").unlink()
    list(repair(full))
    kept = {path.read_text() for path in folder.rglob("*.json")}

    assert {texts[0], texts[1], texts[3][:-9]} <= kept


def test_a_store_after_any_harm_is_fine_once_repaired_and_measured_again(
    full, folder, case_file, sweep, make_record
):
    case_file(1).write_text("{")
    case_file(2).rename(folder / "cases" / "x.json")
    (folder / "cases" / ".y.json.1.tmp").touch()
    (folder / END).write_text("")
    list(repair(full))
    full.write_record(make_record(batch_size=1))

    assert is_fine(full)
    assert list(repair(full)) == []
