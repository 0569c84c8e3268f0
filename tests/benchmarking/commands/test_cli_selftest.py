"""`sam-bench selftest`: what it refuses, what it measures, and how what it found is shown."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace

import pytest

from benchmarking.gate import gate
from benchmarking.views.selftest_views import selftest_view
from results.records.schema import SweepFile
from results.records.store import Store
from results.verdicts.decision import Rule
from results.verdicts.selftest import EFFECTS, SUITES, SelfTest, read_sees

SELFTEST = "selftest -m tiny -s 64 -b 2 --device cpu --quick --measure-pairs 10"


def make_test(**changes) -> SelfTest:
    fields = {
        "device": "a GPU", "torch": "2.15.0", "measured_at": "2025-01-02T03:04:05Z", "pairs": 30,
        "suites": SUITES, "seed": 7, "rule": Rule(), "false_alarms": 0.002, "margin": 0.01,
        "sees": {"vit_b b1 1024px": 0.025, "vit_b b8 1024px": None},
    }  # fmt: skip
    return SelfTest(**fields | changes)


@pytest.fixture
def launches(monkeypatch, make_record):
    """Launches that measure nothing: whose they were, and the status that the next will have."""
    told = SimpleNamespace(made=[], status="ok")

    def launch(source, store_path):
        sweep_id = f"20250101-030405-{len(told.made):06}"
        record = make_record(told.status, sweep_id=sweep_id, image_size=64)
        if told.status == "ok":
            median_s = 0.25 * (1 + 0.001 * (len(told.made) % 7))
            latency = record.measurement.latency.model_copy(update={"forward_s": (median_s,) * 8})
            measurement = record.measurement.with_passes(latency=latency)
            record = record.model_copy(update={"measurement": measurement})
        store = Store(store_path)
        store.write_sweep(
            SweepFile(
                sweep_id=sweep_id, definition_sha256="0" * 64, command="sam-bench sweep",
                created_at=record.started_at, plan=record.plan, cases=(record.case,),
                environment=record.environment,
            )
        )  # fmt: skip
        store.write_record(record)
        told.made.append(source)
        return sweep_id

    monkeypatch.setattr(gate, "Gate", partial(gate.Gate, measure=launch))
    return told


# What is shown


def test_the_view_tells_the_least_that_can_be_seen_of_each_case():
    view = selftest_view(make_test())

    assert view.headings == ["case", "can't see less than"]
    assert view.rows == [
        ["vit_b b1 1024px", "2.5%"],
        ["vit_b b8 1024px", f"more than {EFFECTS[-1]:.0%}"],
    ]


def test_the_view_tells_how_often_what_was_injected_is_found():
    found = {"vit_b b1 1024px": 0.98, "vit_b b8 1024px": 0.1}
    view = selftest_view(make_test(injected=0.05, found=found))

    assert view.headings[-1] == "5.0% found in"
    assert [row[-1] for row in view.rows] == ["98%", "10%"]


def test_the_view_tells_what_it_is_told_from():
    assert selftest_view(make_test()).caption == f"{SUITES} suites drawn from 30 pairs, seed 7"


ALARMS = "False alarms: 0.2% of the suites, at a margin of 1.0%."
ADVICE = {
    "the margin is enough": (0.01, []),
    "a larger one is needed": (
        0.03,
        ["Use --margin 3.0% here: then no more than 1 % of the suites raise one."],
    ),
    "none is enough": (
        None, ["No margin makes false alarms rare here: the machine is too noisy."]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("margin", "advice"), ADVICE.values(), ids=ADVICE)
def test_the_view_advises_a_margin_where_false_alarms_are_not_rare(margin, advice):
    assert selftest_view(make_test(margin=margin)).sentences == [ALARMS, *advice]


# What is refused

REFUSED = {
    "too few pairs": "--measure-pairs 9",
    "too many pairs": "--measure-pairs 1001",
    "pairs that are no number": "--measure-pairs ten",
    "an effect without its sign": "--inject 5",
    "an effect that is a share": "--inject 0.05",
    "an effect that is too large": "--inject 300%",
    "an effect that is negative": "--inject -5%",
    "an effect that is no number": "--inject NaN%",
    "a margin beyond what is reported": "--margin 5% --smallest 3%",
    "looks that are too early": "--pairs 5,10",
    "looks that descend": "--pairs 20,10",
    "a model that is unknown": "-m vit_x",
    "a batch of none": "-b 0",
    "a store that is the root": "--store /",
}


@pytest.mark.parametrize("flags", REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_told_in_one_line_before_anything_is_launched(
    invoke, launches, flags, tmp_path
):
    result = invoke(f"{SELFTEST} {flags}")
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]

    assert (result.exit_code, len(errors)) == (2, 1)
    assert launches.made == []
    assert not (tmp_path / "runs").exists()


# What is measured, by launches that measure nothing


def test_both_sides_are_launched_as_often_as_pairs_were_asked_for(invoke, launches):
    result = invoke(SELFTEST)

    assert result.exit_code == 0, (result.stderr, result.exception)
    assert len(launches.made) == 2 * 10


def test_what_was_found_is_shown_and_kept_for_the_gate(invoke, launches):
    result = invoke(SELFTEST)
    ((device, label), least) = next(iter(read_sees(Store("runs")).items()))

    assert (device, label) == ("a CPU, 8 cores, 16 GiB", "tiny b2 64px")
    assert 0 < least < 0.05
    assert f"{least:.1%}" in result.stdout
    assert "False alarms: " in result.stdout


def test_an_effect_that_is_injected_is_found(invoke, launches, tmp_path):
    result = invoke(f"{SELFTEST} --inject 20%")
    (path,) = (tmp_path / "runs" / "selftest").glob("*.json")
    test = json.loads(path.read_text())

    assert (test["injected"], test["found"]) == (0.2, {"tiny b2 64px": 1.0})
    assert "20.0% found in" in result.stdout


def test_a_later_test_replaces_the_one_before(invoke, launches, tmp_path):
    for _ in range(2):
        invoke(SELFTEST)

    assert len(list((tmp_path / "runs" / "selftest").glob("*.json"))) == 1


@pytest.mark.parametrize("status", ["oom", "crashed", "timeout"])
def test_where_no_pair_is_valid_it_says_why_and_keeps_nothing(invoke, launches, tmp_path, status):
    launches.status = status
    result = invoke(SELFTEST)

    assert result.exit_code == 4, result.exception
    assert f"tiny b2 64px: base is {status}: why it is {status}" in result.stderr
    assert not (tmp_path / "runs" / "selftest").exists()
