"""What pairs tell of a cell, against scipy's own tests and against counting every case."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from results.verdicts.decision import Rule, blamed, estimate, holm, interval_rank, shared_shift

FEW, MANY = range(1, 6), range(6, 13)
MARGIN = 0.01


def pairs_of(seed, count, spread=0.02):
    return np.random.default_rng(seed).normal(0.01, spread, count)


def subset_sums(count):
    """The sum of each subset of 1 .. count: what signed ranks add up to, by chance alone."""
    signs = itertools.product((0, 1), repeat=count)
    return np.array([np.dot(each, range(1, count + 1)) for each in signs])


# Estimates


@pytest.mark.parametrize("count", [1, 2, 5, 10, 13])
def test_the_change_is_the_median_of_the_means_of_all_pairs_of_values(count):
    values = pairs_of(count, count)
    means = [sum(two) / 2 for two in itertools.combinations_with_replacement(values, 2)]

    assert estimate(values[None], MARGIN).change[0] == pytest.approx(np.median(means))


@pytest.mark.parametrize("count", MANY)
def test_the_interval_is_made_of_means_of_pairs_of_values(count):
    values = pairs_of(count, count)
    means = sorted(sum(two) / 2 for two in itertools.combinations_with_replacement(values, 2))
    found, rank = estimate(values[None], MARGIN), interval_rank(count)

    assert (found.low[0], found.high[0]) == pytest.approx((means[rank], means[-1 - rank]))


@pytest.mark.parametrize("count", MANY)
def test_the_interval_is_the_narrowest_that_covers_95_percent(count):
    rank, sums = interval_rank(count), subset_sums(count)

    assert np.mean(sums <= rank) <= 0.025
    assert np.mean(sums <= rank + 1) > 0.025


@pytest.mark.parametrize("count", FEW)
def test_fewer_than_six_pairs_have_no_interval(count):
    found = estimate(np.full((1, count), 0.1), MARGIN)

    assert np.isnan([found.low[0], found.high[0]]).all()
    assert found.change[0] == 0.1


@pytest.mark.parametrize("count", [10, 20, 30])
@pytest.mark.parametrize("draw", [stats.norm, stats.laplace, stats.uniform(-1, 2)])
def test_the_interval_covers_the_true_change_as_often_as_it_says(draw, count):
    suites, true_change = 2000, 0.03
    found = estimate(true_change + draw.rvs(size=(suites, count), random_state=count), MARGIN)
    covered = int(np.sum((found.low <= true_change) & (true_change <= found.high)))

    assert stats.binomtest(covered, suites, 0.95, alternative="less").pvalue > 0.001
    assert covered < 0.98 * suites


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("count", [1, 5, 10, 20, 30])
def test_p_is_that_of_the_signed_rank_test_beyond_the_margin(count, margin):
    values = pairs_of(count, count)
    found, beyond = estimate(values[None], margin), math.log1p(margin)
    slower = stats.wilcoxon(values - beyond, alternative="greater", method="exact").pvalue
    faster = stats.wilcoxon(values + beyond, alternative="less", method="exact").pvalue

    assert found.p_slower[0] == pytest.approx(slower)
    assert found.p_faster[0] == pytest.approx(faster)


@pytest.mark.parametrize("count", [1, 2, 6, 10])
@pytest.mark.parametrize("seed", range(3))
def test_p_is_the_share_of_all_signs_that_give_as_large_a_sum_of_ranks(seed, count):
    values = pairs_of(seed, count)
    above = values - math.log1p(MARGIN)
    ranks = stats.rankdata(np.abs(above))
    share = np.mean(subset_sums(count) >= ranks[above > 0].sum())

    assert estimate(values[None], MARGIN).p_slower[0] == pytest.approx(share)


def test_cells_are_estimated_each_by_itself():
    rows = [pairs_of(seed, 10) for seed in range(4)]
    rows[1][3] = rows[2][:4] = np.nan
    found = estimate(np.array(rows), MARGIN)

    for row, values in enumerate(rows):
        alone = estimate(values[None], MARGIN)
        for name in ("pairs", "change", "low", "high", "p_slower", "p_faster"):
            assert getattr(found, name)[row] == getattr(alone, name)[0]


# What is degenerate


def test_no_cell_has_no_estimates():
    found = estimate(np.zeros((0, 10)), MARGIN)

    assert [len(each) for each in vars(found).values()] == [0] * 6


@pytest.mark.parametrize("values", [[], [np.nan] * 3, [np.inf, -np.inf, np.nan]])
def test_without_a_valid_pair_nothing_is_known(values):
    found = estimate(np.array([values]), MARGIN)

    assert found.pairs[0] == 0
    assert np.isnan([found.change[0], found.p_slower[0], found.p_faster[0]]).all()


def test_one_pair_has_a_change_and_proves_nothing():
    found = estimate(np.array([[0.5]]), MARGIN)

    assert (found.pairs[0], found.change[0]) == (1, 0.5)
    assert found.p_slower[0] == 0.5


@pytest.mark.parametrize("invalid", [np.nan, np.inf, -np.inf])
def test_a_pair_that_is_invalid_is_as_if_it_had_not_been(invalid):
    values = pairs_of(0, 10)
    with_gaps = estimate(np.insert(values, [0, 5, 10], invalid)[None], MARGIN)
    without = estimate(values[None], MARGIN)

    for name, value in vars(without).items():
        assert getattr(with_gaps, name) == pytest.approx(value)


@pytest.mark.parametrize("value", [0.0, 0.1, -0.1, 600.0, -600.0, 1e-300])
def test_the_interval_of_identical_pairs_is_a_point(value):
    found = estimate(np.full((1, 10), value), MARGIN)

    assert (found.low[0], found.change[0], found.high[0]) == (value,) * 3


def test_pairs_without_any_difference_prove_none():
    found = estimate(np.zeros((1, 10)), 0.0)

    assert (found.p_slower[0], found.p_faster[0]) == (1, 1)


def test_a_huge_pair_beside_a_tiny_one_leaves_the_middle():
    values = np.array([[-700.0, 1e-300, 0.02, 0.02, 0.02, 0.02, 0.02, 700.0]])

    assert estimate(values, MARGIN).change[0] == pytest.approx(0.02)


# Holm

HOLM = {  # p, and those that are rejected at 5 %
    "each step has its own threshold": ([0.010, 0.040, 0.030, 0.005], [1, 0, 0, 1]),
    "nothing is rejected after the first that is not": ([0.020, 0.001, 0.026, 0.030], [0, 1, 0, 0]),
    "a p that is small enough alone is not among several": ([0.03, 0.04], [0, 0]),
    "a p at its threshold is rejected": ([0.025, 0.050], [1, 1]),
    "one hypothesis is corrected for nothing": ([0.05], [1]),
    "equal ones share their fate": ([0.02, 0.02, 0.02], [0, 0, 0]),
    "none": ([], []),
}


@pytest.mark.parametrize(("p_values", "rejected"), HOLM.values(), ids=HOLM)
def test_holm_rejects_what_a_person_finds_by_hand(p_values, rejected):
    assert holm(np.array(p_values), 0.05).tolist() == rejected


@pytest.mark.parametrize("seed", range(20))
def test_holm_rejects_what_every_set_with_it_rejects(seed):
    p_values = np.random.default_rng(seed).beta(0.3, 4, 6)
    sets = [
        each for size in range(1, 7) for each in itertools.combinations(range(6), size)
    ]  # fmt: skip
    small = [min(p_values[list(each)]) <= 0.05 / len(each) for each in sets]
    closed = [
        all(is_small for each, is_small in zip(sets, small, strict=True) if cell in each)
        for cell in range(6)
    ]

    assert holm(p_values, 0.05).tolist() == closed


# Shifts of the whole machine

SHIFTS = {
    "most are slower": ([0.05, 0.05, 0.05, 0.0], "75% of the cells became slower together"),
    "most are faster": ([-0.05, -0.05, -0.05, 0.0], "75% of the cells became faster together"),
    "no more than three of five": ([0.05, 0.05, 0.05, 0.0, 0.0], None),
    "they go both ways": ([0.05, 0.05, -0.05, -0.05], None),
    "all within the margin": ([0.009, 0.009, 0.009, 0.009], None),
    "two cells are too few to tell": ([0.05, 0.05], None),
    "unknown cells are none": ([0.05, 0.05, math.nan, math.nan], None),
    "the known cells tell": ([0.05, 0.05, 0.05, math.nan, math.nan, math.nan], "100% of"),
    "none": ([], None),
}


@pytest.mark.parametrize(("change", "told"), SHIFTS.values(), ids=SHIFTS)
def test_a_shift_is_told_where_most_cells_move_one_way(change, told):
    found = shared_shift(np.array(change), Rule())

    assert (found or "").startswith(told or "")
    assert (found is None) == (told is None)


# Modules


def test_a_module_that_became_slower_is_blamed_alone():
    ratios = np.random.default_rng(0).normal(0, 0.005, (8, 20))
    ratios[5] += 0.1

    assert np.flatnonzero(blamed(ratios)).tolist() == [5]


@pytest.mark.parametrize(
    "change", [-0.1, 0.0, 0.015, math.nan], ids=["faster", "the same", "by the noise", "unknown"]
)
def test_a_module_that_did_not_become_slower_is_not_blamed(change):
    ratios = np.random.default_rng(0).normal(change, 0.001, (3, 20))

    assert not blamed(ratios).any()


@pytest.mark.parametrize("seed", range(10))
def test_modules_are_blamed_as_benjamini_and_hochberg_do(seed):
    random = np.random.default_rng(seed)
    ratios = random.normal(0, 0.02, (12, 8)) + random.choice([0.0, 0.05], (12, 1))
    p_values = np.sort(estimate(ratios, 0.02).p_slower)
    passing = [p for rank, p in enumerate(p_values, 1) if p <= 0.05 * rank / 12]

    assert blamed(ratios).sum() == np.sum(p_values <= max(passing, default=-1))


@pytest.mark.parametrize("pairs", [0, 10])
def test_without_modules_none_is_blamed(pairs):
    assert blamed(np.zeros((0, pairs))).tolist() == []


@pytest.mark.parametrize("pairs", [0, 1, 4])
def test_too_few_pairs_blame_no_module(pairs):
    assert not blamed(np.full((3, pairs), 0.5)).any()
