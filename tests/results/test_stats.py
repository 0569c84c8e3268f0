"""Statistics, against numpy's, scipy's and Python's own."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from results.tables.stats import (
    FEWEST_FOR_P99,
    STATISTICS,
    describe,
    interval_rank,
    median_interval,
    relative_half_width,
    summary,
)

chance = np.random.default_rng(20250102)
SAMPLES = {
    "skewed": chance.lognormal(0, 0.5, 200),
    "few": chance.normal(5, 1, 7),
    "duplicates": np.round(chance.normal(5, 1, 150)),
    "with outliers": np.concatenate([chance.normal(5, 0.1, 120), [50.0, 60.0, -40.0]]),
    "identical": np.full(101, 0.125),
}


def interval(values):
    return stats.quantile_test(values, p=0.5).confidence_interval(0.95)


def whiskers(values):
    """How many samples a box plot would show beyond its whiskers."""
    q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return sum(not q1 - 1.5 * (q3 - q1) <= value <= q3 + 1.5 * (q3 - q1) for value in values)


REFERENCES = {
    "n": lambda values: values.size,
    "median": statistics.median,
    "low": lambda values: interval(values).low,
    "high": lambda values: interval(values).high,
    "q1": lambda values: statistics.quantiles(values, n=4, method="inclusive")[0],
    "q3": lambda values: statistics.quantiles(values, n=4, method="inclusive")[2],
    "mad": stats.median_abs_deviation,
    "p90": lambda values: statistics.quantiles(values, n=10, method="inclusive")[8],
    "p99": lambda values: (
        statistics.quantiles(values, n=100, method="inclusive")[98]
        if len(values) >= 100
        else np.nan
    ),
    "min": min,
    "max": max,
    "outliers": whiskers,
}


@pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_what_another_library_makes_of_it(name, samples):
    assert describe(samples)[name] == pytest.approx(float(REFERENCES[name](samples)), nan_ok=True)


@pytest.mark.parametrize("name", STATISTICS)
def test_the_order_of_samples_is_nothing_to_a_statistic(name):
    samples = SAMPLES["skewed"]

    assert describe(samples)[name] == describe(np.sort(samples)[::-1])[name]


def test_describing_changes_no_samples():
    samples = SAMPLES["skewed"].copy()
    describe(samples)

    assert np.array_equal(samples, SAMPLES["skewed"])


@pytest.mark.parametrize("name", [name for name in STATISTICS if name != "n"])
def test_no_samples_have_no_statistic(name):
    assert math.isnan(describe([])[name])


def test_a_summary_is_part_of_the_description():
    described = describe(SAMPLES["skewed"])

    assert summary(SAMPLES["skewed"]).items() <= described.items()


def test_only_the_statistics_that_are_named_are_computed():
    assert describe([2.0, 1.0], ("max", "n")) == {"max": 2.0, "n": 2.0}


def test_no_samples_are_zero_samples():
    assert describe([])["n"] == 0


def coverage(n: int, rank: int) -> float:
    """How likely the median is between the samples of this rank from below and from above.

    It is missed where at most `rank` of n fair coins show heads, or at most `rank` show tails.
    """
    missed = 2 * sum(math.comb(n, heads) for heads in range(rank + 1))
    return 1 - missed / 2**n


@pytest.mark.parametrize("n", range(6, 201))
def test_the_medians_interval_is_the_narrowest_that_covers_95_percent(n):
    rank = interval_rank(n)

    assert rank is not None
    assert coverage(n, rank) >= 0.95
    assert coverage(n, rank + 1) < 0.95


@pytest.mark.parametrize("n", range(6, 201))
def test_the_medians_interval_is_made_of_the_samples_at_its_ranks(n):
    rank = interval_rank(n)

    assert median_interval(chance.permutation(n)) == (rank, n - 1 - rank)


@pytest.mark.parametrize("n", range(6))
def test_fewer_than_six_samples_have_no_interval(n):
    assert np.isnan(median_interval(range(n))).all()


def test_the_interval_of_identical_samples_is_a_point():
    assert median_interval([0.25] * 50) == (0.25, 0.25)


def test_p99_is_told_from_100_samples_on():
    assert math.isnan(describe(np.arange(FEWEST_FOR_P99 - 1))["p99"])
    assert describe(np.arange(101))["p99"] == 99


def test_the_relative_half_width_is_half_the_interval_over_the_median():
    samples = np.arange(1.0, 101.0)
    low, high = median_interval(samples)

    assert relative_half_width(samples) == (high - low) / 2 / 50.5


def test_the_relative_half_width_of_identical_samples_is_zero():
    assert relative_half_width([0.25] * 6) == 0


@pytest.mark.parametrize("samples", [[], [1.0] * 5, [0.0] * 50], ids=["none", "few", "zeros"])
def test_the_relative_half_width_is_infinite_where_nothing_is_known(samples):
    assert relative_half_width(samples) == math.inf
