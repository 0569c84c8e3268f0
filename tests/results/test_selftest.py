"""How well the gate does on a machine, told from pairs of equal launches."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from results.records.store import Store, to_json, write_whole
from results.verdicts.decision import Rule
from results.verdicts.selftest import (
    FOLDER,
    MARGINS,
    SUITES,
    SelfTest,
    calibrated_margin,
    draw_suites,
    false_alarm_rate,
    judge_gate,
    read_sees,
    regressed_cells,
    selftest_path,
    smallest_effects,
)

RULE = Rule()
LABELS = ["calm", "noisy"]
PAIRS = 40
LAST = RULE.looks[-1]


def measured(*spreads, pairs=PAIRS, seed=1):
    """Log ratios of equal sides, a row a cell, each with its own spread."""
    random = np.random.default_rng(seed)
    return np.array([random.normal(0, spread, pairs) for spread in spreads])


def drawn(*spreads, suites=100, seed=2):
    return draw_suites(measured(*spreads), LAST, suites, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def judged():
    """Of a calm machine with one noisy cell, 5 % being injected."""
    return judge_gate(measured(0.003, 0.1), LABELS, RULE, seed=3, effect=0.05)


@pytest.fixture(scope="module")
def plain():
    """Of a calm machine with nothing injected."""
    return judge_gate(measured(0.003, 0.01), LABELS, RULE, seed=3)


# Drawing


def test_suites_are_drawn_of_whole_pairs_mirrored_by_chance():
    log_ratios = measured(0.01, 0.01, 0.01)
    suites = draw_suites(log_ratios, 12, 50, np.random.default_rng(0))
    pairs = {tuple(pair) for pair in (*log_ratios.T, *-log_ratios.T)}
    found = {tuple(pair) for suite in suites for pair in suite.T}

    assert suites.shape == (50, 3, 12)
    assert found <= pairs
    assert len(found) > 0.9 * len(pairs)


def test_neither_side_of_a_drawn_pair_is_the_slower_one():
    suites = draw_suites(np.full((1, 5), 0.1), 10, 1000, np.random.default_rng(0))

    assert np.mean(suites > 0) == pytest.approx(0.5, abs=0.02)


def test_another_seed_draws_other_suites_and_the_same_the_same():
    assert np.array_equal(drawn(0.01, seed=4), drawn(0.01, seed=4))
    assert not np.array_equal(drawn(0.01, seed=4), drawn(0.01, seed=5))


# False alarms


def test_a_calm_machine_raises_no_false_alarm():
    assert false_alarm_rate(drawn(0.003, 0.005, 0.01), RULE) == 0


def test_a_change_in_every_pair_is_found_in_every_suite():
    suites = drawn(0.003, 0.003) + np.array([[math.log1p(0.1)], [0.0]])

    assert regressed_cells(suites, RULE).tolist() == [[True, False]] * len(suites)


def test_an_alarm_of_any_cell_is_one_of_the_suite():
    suites = drawn(0.003, 0.003)
    suites[:40, 0] += 0.1
    suites[30:50, 1] += 0.1

    assert false_alarm_rate(suites, RULE) == 0.5


def test_of_a_calm_machine_the_least_margin_does():
    assert calibrated_margin(drawn(0.003, 0.003), RULE) == MARGINS[0]


@pytest.mark.parametrize("change", [0.045, 0.055])
def test_where_equal_sides_differ_the_margin_is_the_least_that_no_change_of_theirs_passes(change):
    # Not mirrored, so that each suite has it; a change is reported from 1 % above the margin on.
    suites = drawn(0.001) + math.log1p(change)

    assert calibrated_margin(suites, RULE) == 0.05


def test_where_no_margin_does_there_is_none():
    assert calibrated_margin(drawn(0.001) + math.log1p(0.5), RULE) is None


# What can be seen


def test_a_noisy_cell_sees_less_than_a_calm_one():
    calm, middling, noisy = smallest_effects(drawn(0.003, 0.03, 0.08, suites=300), RULE)

    assert RULE.smallest <= calm <= RULE.smallest + 0.0051
    assert calm < middling < noisy


def test_a_cell_that_sees_no_effect_sees_none():
    assert smallest_effects(drawn(2.0), RULE) == [None]


def test_a_cell_sees_less_among_many():
    spreads = [0.05] * 12
    (alone,) = smallest_effects(drawn(0.05, suites=300), RULE)

    assert smallest_effects(drawn(*spreads, suites=300), RULE)[0] > alone


# All together


def test_the_gate_is_judged_by_its_own_rule_and_seed(judged):
    assert (judged["rule"], judged["seed"], judged["suites"]) == (RULE, 3, SUITES)
    assert judged["pairs"] == PAIRS


def test_a_machine_that_is_good_enough_has_few_false_alarms_and_sees_small_changes(judged):
    assert judged["false_alarms"] <= 0.01
    assert judged["margin"] == MARGINS[0]
    assert judged["sees"]["calm"] <= RULE.smallest + 0.0051


def test_without_a_whole_pair_nothing_is_told():
    with pytest.raises(ValueError, match="a pair that is valid for all cells"):
        judge_gate(np.array([[math.nan, 0.1], [0.1, math.nan]]), LABELS, RULE, seed=0)


def test_what_was_injected_is_found_where_it_can_be_seen(judged):
    assert judged["injected"] == 0.05
    assert judged["found"]["calm"] > 0.99
    assert judged["found"]["noisy"] < judged["found"]["calm"]
    assert judged["sees"]["noisy"] > 0.05


def test_without_an_effect_nothing_was_injected(plain):
    assert {"injected", "found"}.isdisjoint(plain)


def test_the_same_seed_tells_the_same(plain):
    assert judge_gate(measured(0.003, 0.01), LABELS, RULE, seed=3) == plain


def test_a_pair_that_is_invalid_for_a_cell_is_left_out_for_all(plain):
    valid = measured(0.003, 0.01)
    invalid = np.array([[np.nan, 0.0, np.inf], [0.5, np.nan, 0.5]])
    with_gaps = np.hstack([invalid[:, :1], valid, invalid[:, 1:]])

    assert judge_gate(with_gaps, LABELS, RULE, seed=3) == plain


# On disk


def selftest_of(device="a GPU", **changes):
    fields = {
        "device": device, "torch": "2.15.0", "measured_at": "2025-01-02T03:04:05Z", "pairs": 40,
        "suites": 500, "seed": 0, "rule": RULE, "false_alarms": 0.0, "margin": 0.01,
        "sees": {"vit_b b1 1024px": 0.02, "vit_b b8 1024px": None},
    }  # fmt: skip
    return SelfTest(**fields | changes)


def keep(store, test):
    path = selftest_path(store, test)
    write_whole(path, to_json(test))
    return path


def test_what_a_device_sees_is_told_by_its_name_and_the_cell(tmp_path):
    store = Store(tmp_path)
    keep(store, selftest_of("a GPU"))
    keep(store, selftest_of("another", sees={"vit_b b1 1024px": 0.1}))

    assert read_sees(store) == {
        ("a GPU", "vit_b b1 1024px"): 0.02, ("a GPU", "vit_b b8 1024px"): None,
        ("another", "vit_b b1 1024px"): 0.1,
    }  # fmt: skip


def test_a_newer_test_of_a_device_replaces_the_older_one(tmp_path):
    store = Store(tmp_path)
    keep(store, selftest_of(sees={"old": 0.1}))
    keep(store, selftest_of(sees={"new": 0.2}, seed=9))

    assert read_sees(store) == {("a GPU", "new"): 0.2}


@pytest.mark.parametrize("device", ["../../etc", "a/b", "", "naïve\n", "x" * 1000])
def test_any_device_has_a_file_in_the_folder(tmp_path, device):
    store = Store(tmp_path)
    keep(store, selftest_of(device))

    assert selftest_path(store, selftest_of(device)).parent == tmp_path / FOLDER
    assert {name for name, _ in read_sees(store)} == {device}


def test_without_a_test_nothing_is_known_to_be_seen(tmp_path):
    assert read_sees(Store(tmp_path / "none")) == {}


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: "", lambda text: text[:50], lambda text: "[]",
        lambda text: json.dumps(json.loads(text) | {"schema_version": 1}),
        lambda text: json.dumps(json.loads(text) | {"false_alarms": 2}),
        lambda text: json.dumps(json.loads(text) | {"sees": {"a": "0.1"}}),
    ],
)  # fmt: skip
def test_a_broken_test_tells_nothing_and_hides_no_other(tmp_path, broken):
    store = Store(tmp_path)
    path = keep(store, selftest_of("broken"))
    keep(store, selftest_of("whole", sees={"a": 0.1}))
    path.write_text(broken(path.read_text()))

    assert read_sees(store) == {("whole", "a"): 0.1}


def test_a_self_test_is_kept_whole(tmp_path, judged):
    test = SelfTest(device="a GPU", torch="2.15.0", measured_at="2025-01-02", **judged)
    text = keep(Store(tmp_path), test).read_text()

    assert SelfTest.model_validate_json(text, strict=True) == test
