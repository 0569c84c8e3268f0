"""Statistics of a measurement's samples, computed when a record is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
FEWEST_FOR_P99 = 100
RESOLUTION_S = 20e-6  # a module that takes less can't be told from the noise of its events

Values = NDArray[np.float64]


@lru_cache(maxsize=4096)
def interval_rank(n: int, confidence: float = CONFIDENCE) -> int | None:
    """The rank whose value, and its mirror's, enclose the median; None where n is too small.

    The number of samples below the median is binomial(n, 1/2), whatever the distribution.
    """
    from scipy import special  # scipy.stats takes more than twice as long to load

    below = special.bdtr(np.arange(n), n, 0.5)  # chance of so many below, or fewer
    rank = int(np.searchsorted(below, (1 - confidence) / 2, side="right"))
    return rank - 1 if rank > 0 else None  # the most samples to leave out on each side


def median_interval(samples: ArrayLike) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics; NaN below 6 samples."""
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    rank = interval_rank(len(ordered))
    if rank is None:
        return float("nan"), float("nan")
    return float(ordered[rank]), float(ordered[-1 - rank])


def relative_half_width(samples: ArrayLike) -> float:
    """Half the median's interval over the median; infinite where there is no interval."""
    low, high = median_interval(samples)
    if math.isnan(low):
        return float("inf")
    middle = float(np.median(np.asarray(samples)))
    return (high - low) / 2 / middle if middle > 0 else float("inf")


def count_outliers(samples: Values) -> float:
    """How many lie beyond 1.5 quartile ranges of the quartiles (Tukey); they are never deleted."""
    q1, q3 = np.quantile(samples, [0.25, 0.75])
    reach = 1.5 * (q3 - q1)
    return float(np.sum((samples < q1 - reach) | (samples > q3 + reach)))


def p99(samples: Values) -> float:
    """The 99th percentile; NaN below 100 samples, which say nothing about it."""
    return float(np.quantile(samples, 0.99)) if len(samples) >= FEWEST_FOR_P99 else float("nan")


def summary(samples: Sequence[float]) -> dict[str, float]:
    """n, median and its interval: the same as in `describe`, for the many samples of modules."""
    ordered = sorted(samples)
    n = len(ordered)
    if not n:
        return {"n": 0.0} | dict.fromkeys(("median", "low", "high"), float("nan"))
    rank, middle = interval_rank(n), n // 2
    low, high = (ordered[rank], ordered[-1 - rank]) if rank is not None else (math.nan, math.nan)
    median = ordered[middle] if n % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"n": float(n), "median": median, "low": low, "high": high}


def describe(samples: ArrayLike) -> dict[str, float]:
    """Every statistic of one set of samples, by name."""
    values = np.asarray(samples, dtype=np.float64)
    if not len(values):
        return dict.fromkeys(STATISTICS, float("nan")) | {"n": 0.0}
    return {name: float(function(values)) for name, function in STATISTICS.items()}


STATISTICS: dict[str, Callable[[Values], float]] = {
    "n": len,
    "median": lambda values: float(np.median(values)),
    "low": lambda values: median_interval(values)[0],
    "high": lambda values: median_interval(values)[1],
    "q1": lambda values: float(np.quantile(values, 0.25)),
    "q3": lambda values: float(np.quantile(values, 0.75)),
    "mad": lambda values: float(np.median(np.abs(values - np.median(values)))),
    "p90": lambda values: float(np.quantile(values, 0.9)),
    "p99": p99,
    "min": lambda values: float(np.min(values)),
    "max": lambda values: float(np.max(values)),
    "outliers": count_outliers,
}
