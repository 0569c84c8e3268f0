"""How often the gate cries wolf and what it finds, in each kind of noise; and what must not matter.

Every seed is fixed.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from results.verdicts.decision import Rule, estimate, look_through, verdicts
from results.verdicts.gate_runs import CasePair, GateRun, gate_run_of, log_ratios

from .noises import NOISES
from .noises import log_ratios as noisy

RULE = Rule()
CELLS = 20
QUIET_SUITES, SLOWED_SUITES = 400, 100
FIRST_LOOK = RULE.looks[0]
MIRROR = {"REGRESSED": "IMPROVED", "IMPROVED": "REGRESSED"}


def judged(log_ratios, rule=RULE):
    """The verdicts of a whole suite, look after look, as the gate takes them."""
    return look_through(log_ratios, rule).verdicts


def told(log_ratios):
    """The verdicts of one look at all pairs."""
    return verdicts(estimate(log_ratios, RULE.margin), RULE)


def slowed(name, effect, cells=CELLS):
    """Suites in this noise whose first cell is slower by so much."""
    found = noisy(NOISES[name], SLOWED_SUITES, cells, RULE.looks[-1], seed=7)
    found[:, 0] += math.log1p(effect)
    return found


@functools.cache
def judged_slowed(name, effect):
    """The verdicts of each of these suites."""
    return [judged(suite) for suite in slowed(name, effect)]


def mixed(seed, cells=8, pairs=30):
    """A suite of cells that are slower, faster or the same, in all noises together."""
    random = np.random.default_rng(seed)
    effects = random.choice([-0.1, -0.04, -0.02, 0.0, 0.02, 0.04, 0.1], (cells, 1))
    return noisy(NOISES["all together"], 1, cells, pairs, seed)[0] + effects


# False alarms and finds


@pytest.mark.parametrize("name", NOISES)
def test_fewer_than_one_suite_in_a_hundred_of_equal_sides_has_a_false_alarm(name):
    suites = noisy(NOISES[name], QUIET_SUITES, CELLS, RULE.looks[-1], seed=11)
    alarms = sum("REGRESSED" in judged(suite) for suite in suites)
    at_most = stats.binomtest(alarms, QUIET_SUITES, alternative="less").proportion_ci(0.95).high

    assert at_most <= 0.01


@pytest.mark.parametrize("effect", [0.05, 0.1])
@pytest.mark.parametrize("name", NOISES)
def test_a_change_that_matters_is_found_nine_times_in_ten(name, effect):
    found = sum(suite[0] == "REGRESSED" for suite in judged_slowed(name, effect))

    assert found >= 0.9 * SLOWED_SUITES


@pytest.mark.parametrize("name", NOISES)
def test_a_change_below_what_is_reported_is_seldom_a_regression(name):
    found = sum(judged(suite)[0] == "REGRESSED" for suite in slowed(name, 0.02))

    assert found <= 0.05 * SLOWED_SUITES


@pytest.mark.parametrize("name", NOISES)
def test_a_slower_cell_makes_no_other_one_slower(name):
    alarms = sum("REGRESSED" in suite[1:] for suite in judged_slowed(name, 0.1))

    assert alarms <= 0.02 * SLOWED_SUITES


@pytest.mark.parametrize("name", ["quiet", "drift"])
def test_where_little_is_uncertain_equal_sides_are_told_to_be_ok_at_the_first_look(name):
    suites = noisy(NOISES[name], 20, CELLS, FIRST_LOOK, seed=3)
    all_ok = sum(told(suite) == ["OK"] * CELLS for suite in suites)

    assert all_ok >= 18


# What must not matter


@pytest.mark.parametrize("pairs", [5, 6, 10, 30])
@pytest.mark.parametrize("seed", range(10))
def test_at_one_look_swapped_sides_swap_slower_and_faster(seed, pairs):
    log_ratios = mixed(seed, pairs=pairs)
    before, after = told(log_ratios), told(-log_ratios)

    for verdict, mirrored in zip(before, after, strict=True):
        assert mirrored in ("OK", "INCONCLUSIVE") or verdict == MIRROR[mirrored]
        assert verdict in ("OK", "INCONCLUSIVE") or mirrored == MIRROR[verdict]


@pytest.mark.parametrize("seed", range(10))
def test_a_cell_that_is_ok_either_way_round_lies_within_what_is_reported(seed):
    log_ratios, smallest = mixed(seed), math.log1p(RULE.smallest)
    found = estimate(log_ratios, RULE.margin)

    # OK says "not slower by so much", so that a cell which may be faster by more is OK one way.
    for cell, both in enumerate(zip(told(log_ratios), told(-log_ratios), strict=True)):
        lies_within = -smallest < found.low[cell] and found.high[cell] < smallest
        assert (both == ("OK", "OK")) == lies_within


@pytest.mark.parametrize("seed", range(10))
def test_swapped_sides_never_turn_a_regression_into_another_one(seed):
    log_ratios = mixed(seed)
    pairs = list(zip(judged(log_ratios), judged(-log_ratios), strict=True))

    # An earlier look may have told the faster side to be OK, which needs less proof.
    assert all(after in ("IMPROVED", "OK") for before, after in pairs if before == "REGRESSED")
    assert all(before in ("IMPROVED", "OK") for before, after in pairs if after == "REGRESSED")


def test_the_suites_that_are_swapped_have_every_verdict():
    verdicts_of_suites = {each for seed in range(10) for each in judged(mixed(seed))}

    assert verdicts_of_suites == {"REGRESSED", "IMPROVED", "OK", "INCONCLUSIVE"}


@pytest.mark.parametrize("seed", range(5))
def test_reordered_cells_have_their_verdicts_reordered(seed):
    log_ratios = mixed(seed)
    order = np.random.default_rng(seed).permutation(len(log_ratios))

    assert judged(log_ratios[order]) == [judged(log_ratios)[cell] for cell in order]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_pairs_within_a_look_is_nothing_to_it(seed):
    log_ratios, random = mixed(seed), np.random.default_rng(seed)
    edges = [0, *RULE.looks]
    order = np.concatenate(
        [random.permutation(np.arange(*edge)) for edge in itertools.pairwise(edges)]
    )

    assert judged(log_ratios[:, order]) == judged(log_ratios)


# The same through launches


@pytest.fixture
def cells(make_case):
    cases = [make_case(batch_size=size) for size in range(1, 9)]
    return [CasePair(case.label, case, case) for case in cases]


def launches(cells, log_ratios, factor=1.0):
    """Pairs of launches, a side's medians by case, with these log ratios."""
    return [
        tuple(
            {
                cell.base.case_id: GateRun("ok", median_s=factor * 0.1 * math.exp(side * log))
                for cell, log in zip(cells, column, strict=True)
            }
            for side in (0, 1)
        )
        for column in log_ratios.T
    ]


@pytest.mark.parametrize("factor", [1e-6, 0.37, 3600.0])
@pytest.mark.parametrize("seed", range(3))
def test_all_times_scaled_change_nothing(cells, seed, factor):
    sides = [log_ratios(cells, launches(cells, mixed(seed), scale)) for scale in (1.0, factor)]

    assert judged(sides[0]) == judged(sides[1])
    assert sides[0] == pytest.approx(sides[1], abs=1e-12)


@pytest.mark.parametrize("samples", [5, 6])
def test_every_sample_of_a_process_taken_twice_changes_nothing(
    make_record, make_measurement, make_latency, cells, samples
):
    def launch(case, forward_s):
        measurement = make_measurement(latency=make_latency(forward_s=forward_s))
        return gate_run_of(make_record(**case.model_dump(), measurement=measurement))

    def pairs(times):
        random = np.random.default_rng(samples)
        return [
            tuple(
                {
                    cell.base.case_id: launch(
                        cell.base, tuple(random.lognormal(-2, 0.05, samples)) * times
                    )
                    for cell in cells
                }
                for _ in range(2)
            )
            for _ in range(FIRST_LOOK)
        ]

    once, twice = (log_ratios(cells, pairs(times)) for times in (1, 2))

    assert np.array_equal(once, twice)
    assert np.isfinite(once).all()
