"""`sam-bench history`: where cases became slower or faster, and stayed so."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from benchmarking.demo import demo
from results.records.store import Store

STEADY = [0.25, 0.251, 0.249, 0.2505] * 3  # seconds, of twelve sessions
SLOWER, FASTER = [0.3, 0.301, 0.299], [0.2, 0.201, 0.199]
BEGAN = datetime(2025, 1, 1, 9)


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    """The store that `sam-bench demo` writes."""
    store = Store(tmp_path_factory.mktemp("demo"))
    demo.write_demo(store, seed=0)
    return store


@pytest.fixture
def measure(make_store, make_record, environment):
    """Store a session of each of these medians, a day after another, each at its own commit."""

    def store(medians, commits=None, **changes):
        for number, median_s in enumerate(medians):
            commit = f"{number:03}abcdef0123456789" if commits is None else commits[number]
            at = BEGAN + timedelta(days=number)
            record = make_record(
                sweep_id=f"{at:%Y%m%d}-{changes.get('batch_size', 2):06}-abcdef",
                started_at=f"{at:%Y-%m-%dT%H:%M:%SZ}",
                environment=environment.model_copy(update={"git_commit": commit}),
                **changes,
            )
            latency = record.measurement.latency.model_copy(update={"forward_s": (median_s,) * 8})
            measurement = record.measurement.with_passes(latency=latency)
            make_store(record.model_copy(update={"measurement": measurement}))

    return store


def rows_of(result):
    """Cells of the rows of a table on a terminal."""
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_one_step_of_the_demonstration_is_found_at_its_commit(invoke, demonstration):
    (row,) = rows_of(invoke("history --store", demonstration.path))
    number = demo.SLOWER_FROM + 1  # of the commits, whose first is that of all axes
    began = demo.BEGAN + timedelta(days=number)
    model, _, since, commit, step, *_ = row

    assert (model, since) == ("vit_l", f"{began:%Y-%m-%dT%H:%M}")
    assert commit == demo.make_environment(demo.GPUS[-1], number).git_commit[:12]
    assert float(step) == pytest.approx((demo.SLOWER_BY - 1) * 100, abs=1)


def test_commits_of_the_demonstration_are_told_apart_by_what_is_shown(demonstration):
    commits = {sweep.environment.git_commit for sweep in demonstration.read().sweeps}

    assert len({commit[:12] for commit in commits}) == len(commits) == demo.COMMITS + 1


def test_cells_without_a_step_are_counted(invoke, demonstration):
    result = invoke("history --store", demonstration.path)

    assert "2 cells were measured more than once, 1 " in result.stdout


def test_a_step_is_told_with_its_day_its_commit_and_the_time_of_an_image(invoke, measure):
    measure(STEADY + SLOWER)
    (row,) = rows_of(invoke("history"))

    assert row == ["2", "2025-01-13T09:00", "012abcdef012", "+19.9", "15", "149.5"]


def test_a_case_that_became_faster_is_told_too(invoke, measure):
    measure(STEADY + FASTER)
    (row,) = rows_of(invoke("history"))

    assert row[3] == "-20.1"


def test_steps_are_told_newest_first(invoke, measure):
    measure(STEADY + SLOWER + [0.3, 0.301, 0.299, 0.3005] * 3 + FASTER)
    rows = rows_of(invoke("history"))

    assert [row[3][0] for row in rows] == ["-", "+"]
    assert rows[0][1] > rows[1][1]


@pytest.mark.parametrize(
    "medians",
    [STEADY, STEADY + SLOWER[:2], STEADY + SLOWER[:2] + STEADY, STEADY[:9] + SLOWER],
    ids=["steady", "two slow days", "two slow days that passed", "too few days before"],
)
def test_what_does_not_stay_so_or_is_not_known_is_no_step(invoke, measure, medians):
    measure(medians)
    result = invoke("history")

    assert rows_of(result) == []
    assert "1 cells were measured more than once, 1 " in result.stdout


def test_steps_of_two_cases_are_told_apart(invoke, measure):
    measure(STEADY + SLOWER, batch_size=2)
    measure(STEADY + FASTER, batch_size=4)
    rows = rows_of(invoke("history"))

    assert {(row[0], row[3][0]) for row in rows} == {("2", "+"), ("4", "-")}


@pytest.mark.parametrize("known", [[None] * 15, ["abc"] * 12 + [None] * 3], ids=["all", "some"])
def test_a_step_at_no_known_commit_has_a_dash(invoke, measure, known):
    measure(STEADY + SLOWER, commits=known)
    (row,) = rows_of(invoke("history"))

    assert row[2] == "-"


def test_a_commit_that_is_hostile_drives_no_terminal(invoke, measure):
    measure(STEADY + SLOWER, commits=["\x1b[31m\n[bold]"] * 15)
    result = invoke("history")

    assert result.exit_code == 0, result.exception
    assert "\x1b" not in result.stdout


def test_a_store_of_single_measurements_says_so(invoke, make_store, make_record):
    make_store(make_record(batch_size=1), make_record(batch_size=2))
    result = invoke("history")

    assert (result.exit_code, result.stdout) == (0, "No case was measured more than once.\n")


def test_a_store_of_failures_alone_says_so(invoke, make_store, make_record):
    make_store(make_record("oom"), make_record("oom", sweep_id="20250201-030405-abcdef"))
    result = invoke("history")

    assert (result.exit_code, result.stdout) == (0, "No case was measured more than once.\n")


@pytest.mark.parametrize("store", ["gone", "empty"])
def test_a_store_without_records_is_one_line(invoke, tmp_path, mistake, store):
    (tmp_path / "empty").mkdir()

    assert f"'{store}' has no records" in mistake(invoke(f"history --store {store}"))


def test_a_record_that_can_not_be_read_is_named_and_the_rest_is_told(
    invoke, measure, make_store, tmp_path
):
    measure(STEADY + SLOWER)
    broken = next((tmp_path / "runs").glob("20250101*/cases/*.json"))
    broken.write_text("{")
    result = invoke("history")

    assert result.stderr.startswith("passed over ")
    assert len(rows_of(result)) == 1
