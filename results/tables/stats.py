"""Statistics of a measurement's samples, computed when a record is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from statistics import median

import numpy as np

CONFIDENCE = 0.95
FEWEST_FOR_P99 = 100
RESOLUTION_S = 20e-6  # a module that takes less can't be told from the noise of its events

Ordered = list[float]  # samples, the smallest first


@lru_cache(maxsize=4096)
def interval_rank(n: int, confidence: float = CONFIDENCE) -> int | None:
    """The rank whose value, and its mirror's, enclose the median; None where n is too small.

    The number of samples below the median is binomial(n, 1/2), whatever the distribution.
    """
    from scipy import special  # scipy.stats takes more than twice as long to load

    below = special.bdtr(np.arange(n), n, 0.5)  # chance of so many below, or fewer
    rank = int(np.searchsorted(below, (1 - confidence) / 2, side="right"))
    return rank - 1 if rank > 0 else None  # the most samples to leave out on each side


def describe(samples: Iterable[float], names: Iterable[str] | None = None) -> dict[str, float]:
    """Statistics of one set of samples, by name; all of them unless you name some."""
    names = STATISTICS if names is None else names
    ordered = sorted(samples)
    if not ordered:
        return {name: 0.0 if name == "n" else math.nan for name in names}
    return {name: float(STATISTICS[name](ordered)) for name in names}


def summary(samples: Iterable[float]) -> dict[str, float]:
    """n, the median and its interval: fast enough for the many samples of modules."""
    return describe(samples, ("n", "median", "low", "high"))


def median_interval(samples: Iterable[float]) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics; NaN below 6 samples."""
    found = describe(samples, ("low", "high"))
    return found["low"], found["high"]


def relative_half_width(samples: Iterable[float]) -> float:
    """Half the median's interval over the median; infinite where there is no interval."""
    found = summary(samples)
    if math.isnan(found["low"]):
        return math.inf
    width = found["high"] - found["low"]
    return width / 2 / found["median"] if found["median"] > 0 else math.inf


def low(ordered: Ordered) -> float:
    """Where the median's interval begins; NaN below 6 samples."""
    rank = interval_rank(len(ordered))
    return math.nan if rank is None else ordered[rank]


def high(ordered: Ordered) -> float:
    """Where the median's interval ends; NaN below 6 samples."""
    rank = interval_rank(len(ordered))
    return math.nan if rank is None else ordered[-1 - rank]


def p99(ordered: Ordered) -> float:
    """The 99th percentile; NaN below 100 samples, which say nothing about it."""
    return quantile(ordered, 0.99) if len(ordered) >= FEWEST_FOR_P99 else math.nan


def quantile(ordered: Ordered, share: float) -> float:
    return float(np.quantile(ordered, share))


def count_outliers(ordered: Ordered) -> float:
    """How many lie beyond 1.5 quartile ranges of the quartiles (Tukey); they are never deleted."""
    values = np.asarray(ordered)
    q1, q3 = np.quantile(values, [0.25, 0.75])
    reach = 1.5 * (q3 - q1)
    return float(np.sum((values < q1 - reach) | (values > q3 + reach)))


STATISTICS: dict[str, Callable[[Ordered], float]] = {
    "n": len,
    "median": median,
    "low": low,
    "high": high,
    "q1": lambda ordered: quantile(ordered, 0.25),
    "q3": lambda ordered: quantile(ordered, 0.75),
    "mad": lambda ordered: float(np.median(np.abs(np.asarray(ordered) - median(ordered)))),
    "p90": lambda ordered: quantile(ordered, 0.9),
    "p99": p99,
    "min": lambda ordered: ordered[0],
    "max": lambda ordered: ordered[-1],
    "outliers": count_outliers,
}
