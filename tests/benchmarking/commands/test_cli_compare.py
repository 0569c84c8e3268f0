"""Two sweeps side by side from the command line, from what was measured before."""

from __future__ import annotations

import json

import pytest

from results.records.case import TimingPlan
from results.records.schema import SweepFile
from results.records.store import Store
from results.tables.markdown import INVISIBLE

FIRST, SECOND = "20260101-000000-first", "20260102-000000-second"
HOSTILE = "bad|cpu `x` <img src=x> @org/team #1 </details>\nbelow \x1b[31m \x1b]0;title\x07"


@pytest.fixture
def make_sweep(tmp_path, make_record):
    """Maker of a sweep in a store below tmp_path: seconds of a forward by batch size."""

    def make(sweep_id, seconds, store="runs", **changes):
        records = []
        for size, each in seconds.items():
            measurement = make_record().measurement
            latency = measurement.latency.model_copy(update={"forward_s": (each,) * 8})
            measured = measurement.with_passes(latency=latency)
            common = {"measurement": measured, "started_at": f"{sweep_id[:8]}T00:00:00Z"}
            records.append(make_record(batch_size=size, sweep_id=sweep_id, **common | changes))
        place = Store(tmp_path / store)
        first = records[0]
        place.write_sweep(
            SweepFile(
                sweep_id=sweep_id, definition_sha256="cd" * 32, command="sam-bench sweep",
                created_at="2026-01-02T03:04:00Z", plan=TimingPlan(),
                cases=tuple(record.case for record in records), environment=first.environment,
            )
        )  # fmt: skip
        for record in records:
            place.write_record(record)
        return place

    return make


@pytest.fixture
def two_sweeps(make_sweep):
    """Batch 2 is a tenth slower, batch 4 takes half; 8 and 16 are of one side alone."""
    make_sweep(FIRST, {2: 0.2, 4: 0.4, 8: 0.8})
    make_sweep(SECOND, {2: 0.22, 4: 0.2, 16: 1.6})


@pytest.fixture
def compared(invoke):
    """Compare two in JSON; what came of it."""

    def compare(*names):
        result = invoke("compare --format json", *names)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return compare


# Which two


def ratios(content):
    return {row["batch_size"]: row["ratio"] for row in content["cases"]}


NAMES = {
    "ids": (FIRST, SECOND),
    "folders": (f"runs/{FIRST}", f"runs/{SECOND}/"),
    "an id and a folder": (FIRST, f"./runs/{SECOND}"),
    "a folder with dots": (f"runs/{SECOND}/../{FIRST}/.", SECOND),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_two_sweeps_are_compared_case_by_case(compared, two_sweeps, names):
    assert ratios(compared(*names)) == {
        2: pytest.approx(1.1), 4: pytest.approx(0.5), 8: None, 16: None,
    }  # fmt: skip


def test_the_folder_where_one_is_can_be_compared(compared, two_sweeps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "runs" / FIRST)

    assert ratios(compared(".", f"../{SECOND}"))[2] == pytest.approx(1.1)


def test_two_stores_are_compared(compared, make_sweep):
    make_sweep(FIRST, {2: 0.2}, store="before")
    make_sweep(SECOND, {4: 0.4}, store="before")
    make_sweep(FIRST, {2: 0.3, 4: 0.2}, store="after")

    assert ratios(compared("before", "after")) == pytest.approx({2: 1.5, 4: 0.5})


def test_of_equal_cases_of_a_store_the_newest_counts(compared, make_sweep):
    make_sweep(FIRST, {2: 0.2}, store="before")
    make_sweep(SECOND, {2: 0.4}, store="before")
    make_sweep(FIRST, {2: 0.4}, store="after")

    assert ratios(compared("before", "after")) == {2: 1.0}


def test_ids_are_looked_up_in_the_store_that_is_named(compared, make_sweep):
    make_sweep(FIRST, {2: 0.2}, store="elsewhere")
    make_sweep(SECOND, {2: 0.3}, store="elsewhere")

    assert ratios(compared(FIRST, SECOND, "--store", "elsewhere")) == pytest.approx({2: 1.5})


@pytest.mark.parametrize("names", [(FIRST, "nowhere"), ("nowhere", FIRST), (FIRST, "")])
def test_what_is_no_sweep_is_a_mistake(invoke, two_sweeps, mistake, names):
    line = mistake(invoke("compare", *names))

    assert line.startswith("Error: No sweep ")


def test_a_sweep_that_is_nearly_named_is_suggested(invoke, two_sweeps, mistake):
    line = mistake(invoke("compare", FIRST, SECOND[:-1]))

    assert f"Did you mean '{SECOND}'?" in line


@pytest.mark.parametrize("length", [300, 100_000])
def test_an_endless_name_is_a_mistake(invoke, two_sweeps, mistake, length):
    assert "No sweep " in mistake(invoke("compare", FIRST, "x" * length))


def test_an_empty_store_has_nothing_to_compare(invoke, mistake):
    assert "'runs' has no records" in mistake(invoke("compare", FIRST, SECOND))


@pytest.mark.parametrize("names", [(FIRST,), (FIRST, SECOND, FIRST)])
def test_a_comparison_is_of_two(invoke, two_sweeps, mistake, names):
    assert "argument" in mistake(invoke("compare", *names))


# What is told


def test_the_table_has_the_largest_change_first_and_what_it_looks_like(invoke, two_sweeps):
    result = invoke("compare", FIRST, SECOND)
    slower, faster = (result.stdout.index(each) for each in ("slower?", "faster?"))

    assert result.exit_code == 0, result.stderr
    assert "After against before" in result.stdout
    assert slower < faster


def test_the_geometric_mean_is_of_the_cases_that_both_have(invoke, two_sweeps):
    line = "geometric mean of 2 ratios: 0.7416; above 1 is slower"  # the root of 1.1 times 0.5

    assert line in invoke("compare", FIRST, SECOND).stdout


def test_the_geometric_mean_stands_in_json_too(compared, two_sweeps):
    assert compared(FIRST, SECOND)["geometric_mean"] == pytest.approx((1.1 * 0.5) ** 0.5)


@pytest.mark.parametrize("side", ["before", "after"])
def test_cases_of_one_side_alone_are_counted(invoke, two_sweeps, side):
    assert f"\n1 cases {side} alone are not compared\n" in invoke("compare", FIRST, SECOND).stdout


def test_a_comparison_says_what_would_prove_it(invoke, two_sweeps):
    assert "sam-bench compare --ab" in invoke("compare", FIRST, SECOND).stdout


def test_markdown_is_a_table(invoke, two_sweeps):
    lines = invoke("compare --format md", FIRST, SECOND).stdout.splitlines()
    table = [line for line in lines if line.startswith("| ")]

    assert len(table) == 2 + 2
    assert {line.count("|") for line in table} == {table[0].count("|")}


def test_an_axis_that_is_compared_is_told(invoke, make_sweep):
    make_sweep(FIRST, {2: 0.2}, attention="reference")
    make_sweep(SECOND, {2: 0.1}, attention="sdpa")
    result = invoke("compare", FIRST, SECOND)

    assert "\ncompared: attention reference, then sdpa\n" in result.stdout
    assert "faster?" in result.stdout


def test_a_comparison_with_itself_is_no_change(invoke, two_sweeps):
    result = invoke("compare", FIRST, FIRST)

    assert "geometric mean of 3 ratios: 1.0000" in result.stdout
    assert "slower?" not in result.stdout
    assert "faster?" not in result.stdout


# Warnings


def test_equal_machines_and_plans_need_no_warning(compared, two_sweeps):
    assert compared(FIRST, SECOND)["warnings"] == []


def test_another_machine_is_a_warning(invoke, make_sweep, environment):
    make_sweep(FIRST, {2: 0.2})
    make_sweep(SECOND, {2: 0.2}, environment=environment.model_copy(update={"torch": "2.16.0"}))
    line = "warning: they differ in torch too: 2.15.0, then 2.16.0"

    assert f"\n{line}\n" in invoke("compare", FIRST, SECOND).stdout


def test_another_plan_is_a_warning(compared, make_sweep):
    make_sweep(FIRST, {2: 0.2})
    make_sweep(SECOND, {2: 0.2}, plan=TimingPlan(min_forwards=6))

    assert compared(FIRST, SECOND)["warnings"] == [
        "they differ in plan: min_forwards too: 20, then 6"
    ]


def test_another_commit_is_what_is_compared(compared, make_sweep, environment):
    make_sweep(FIRST, {2: 0.2})
    later = environment.model_copy(update={"git_commit": "1" * 40})
    make_sweep(SECOND, {2: 0.2}, environment=later)
    content = compared(FIRST, SECOND)

    assert content["warnings"] == []
    assert content["environment"] == [["git_commit", "0" * 40, "1" * 40]]


def test_another_commit_is_a_warning_where_an_axis_is_compared(compared, make_sweep, environment):
    make_sweep(FIRST, {2: 0.2}, attention="reference")
    later = environment.model_copy(update={"git_commit": "1" * 40})
    make_sweep(SECOND, {2: 0.2}, attention="sdpa", environment=later)

    assert compared(FIRST, SECOND)["warnings"] == [
        f"they differ in git_commit too: {'0' * 40}, then {'1' * 40}"
    ]


def test_more_warnings_than_fit_are_counted(invoke, make_sweep, environment):
    changes = {
        "hostname": "b", "os": "b", "cpu": "b", "cores": 1, "memory_bytes": 1, "driver": "b",
        "cuda": "b", "cudnn": "b", "torch": "b", "torchvision": "b", "python": "b",
        "cuda_visible_devices": "b", "alloc_conf": "b",
    }  # fmt: skip
    make_sweep(FIRST, {2: 0.2})
    make_sweep(SECOND, {2: 0.2}, environment=environment.model_copy(update=changes))
    result = invoke("compare", FIRST, SECOND)

    assert result.stdout.count("warning: ") == 12
    assert "\nand 1 differences more, which --format json has\n" in result.stdout


# Nothing to compare


def test_sweeps_without_a_case_in_common_are_not_comparable(invoke, make_sweep):
    make_sweep(FIRST, {2: 0.2})
    make_sweep(SECOND, {4: 0.2})
    result = invoke("compare", FIRST, SECOND)

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == f"{FIRST} and {SECOND} have no case in common.\n"


FAILED = {"status": "oom", "measurement": None, "message": "too large"}


@pytest.mark.parametrize("sides", [(FAILED, {}), ({}, FAILED), (FAILED, FAILED)])
def test_failed_cases_are_not_comparable(invoke, make_sweep, sides):
    for sweep_id, changes in zip((FIRST, SECOND), sides, strict=True):
        make_sweep(sweep_id, {2: 0.2}, **changes)
    result = invoke("compare", FIRST, SECOND)

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == f"{FIRST} and {SECOND} have no case in common.\n"


@pytest.mark.parametrize("empty", [FIRST, SECOND])
def test_a_sweep_without_records_is_not_comparable(invoke, two_sweeps, tmp_path, empty):
    for path in (tmp_path / "runs" / empty / "cases").iterdir():
        path.unlink()
    result = invoke("compare", FIRST, SECOND)

    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == f"{FIRST} and {SECOND} have no case in common.\n"


def test_a_broken_record_is_named_and_passed_over(invoke, two_sweeps, tmp_path, make_case):
    path = Store(tmp_path / "runs").case_path(FIRST, make_case(batch_size=4).case_id)
    path.write_text("{")
    result = invoke("compare", FIRST, SECOND)

    assert result.exit_code == 0
    assert f"passed over {path.relative_to(tmp_path)}: it is not JSON" in result.stderr
    assert "geometric mean of 1 ratios" in result.stdout


# Hostile texts


@pytest.fixture
def hostile_sweeps(make_sweep, environment):
    make_sweep(FIRST, {2: 0.2}, model=f"one {HOSTILE}")
    other = environment.model_copy(update={"hostname": HOSTILE})
    make_sweep(SECOND, {2: 0.2}, model=f"two {HOSTILE}", environment=other)


def test_hostile_labels_can_not_drive_a_terminal(invoke, hostile_sweeps):
    text = invoke("compare", FIRST, SECOND).stdout

    assert "</details>?" in text
    assert all(char.isprintable() or char == "\n" for char in text)


def test_hostile_labels_can_not_leave_a_markdown_line(invoke, hostile_sweeps):
    text = invoke("compare --format md", FIRST, SECOND).stdout.replace(INVISIBLE, "")

    assert not any(line.startswith("below") for line in text.splitlines())
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize("form", ["table", "md"])
def test_hostile_models_can_not_leave_their_cells(invoke, make_sweep, form):
    for store in ("before", "after"):
        for sweep_id in (FIRST, SECOND):
            make_sweep(sweep_id, {2: 0.2}, store=store, model=f"{sweep_id} {HOSTILE}")
    text = invoke(f"compare before after --format {form}").stdout.replace(INVISIBLE, "")

    assert text.count("/details>?below ?[31m ?]0;title?") == 2
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_hostile_folder_name_can_not_drive_a_terminal(invoke, make_sweep):
    make_sweep(FIRST, {2: 0.2}, store="a\x1b[31m")
    make_sweep(SECOND, {4: 0.2}, store="b")
    result = invoke("compare", "a\x1b[31m", "b")

    assert result.exit_code == 4
    assert "\x1b" not in result.stderr
