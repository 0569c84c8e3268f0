"""A cell over days and commits: where it became slower or faster, and stayed so.

A single session proves nothing, since machines have bad days. Three in a row beyond what the
twenty before predict, and by more than 3 %, are a step; the sessions after it are judged by
themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from ..records.case import AXES
from ..tables.stats import CONFIDENCE

FEWEST_SESSIONS = 10  # that a prediction needs
MOST_SESSIONS = 20  # before a session, that predict it
IN_A_ROW = 3
SMALLEST = 0.03
NORMAL_MAD = 1.4826  # of a normal distribution, its standard deviation over its MAD
# What makes a series: equal cases on one device.
SERIES = [*AXES, "device_uid", "memory_limit_bytes"]


@dataclass(frozen=True)
class Band:
    """What the next session is predicted to be."""

    low: float
    middle: float
    high: float

    def is_beyond(self, value: float, sign: int, smallest: float = SMALLEST) -> bool:
        """Whether a value is slower (sign 1) or faster (-1) than predicted, and by enough."""
        if sign > 0:
            return value > self.high and value > self.middle * (1 + smallest)
        return value < self.low and value * (1 + smallest) < self.middle


@dataclass(frozen=True)
class Step:
    """Where a series changed its level.

    at: Position of the first session at the new level.
    ratio: The new level over the old.
    """

    at: int
    ratio: float


@lru_cache(maxsize=256)
def reach(count: int) -> float:
    """Student's t, for the difference of a value to come from the mean of so many."""
    from scipy import stats  # here, since it takes as long to load as all else together

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * math.sqrt(1 + 1 / count))


def predict(before: Sequence[float]) -> Band | None:
    """A robust 95 % interval of the next value; None where there are too few before it."""
    if len(before) < FEWEST_SESSIONS:
        return None
    values = np.asarray(before, dtype=np.float64)
    middle = float(np.median(values))
    spread = NORMAL_MAD * float(np.median(np.abs(values - middle))) * reach(len(values))
    return Band(middle - spread, middle, middle + spread)


def find_steps(values: Sequence[float]) -> list[Step]:
    """Steps of a series in time's order, slower and faster ones."""
    steps: list[Step] = []
    start = 0  # of the level that holds now
    run, sign = 0, 0  # sessions in a row beyond the band, and on which side
    for position, value in enumerate(values):
        first = position - run
        band = predict(values[max(start, first - MOST_SESSIONS) : first])
        side = side_of(value, band)
        if side != sign and run:  # it was none: what came between belongs to what is before
            band = predict(values[max(start, position - MOST_SESSIONS) : position])
            run, side = 0, side_of(value, band)
        sign, run = side, run + 1 if side else 0
        if run == IN_A_ROW and band is not None:
            start = position - IN_A_ROW + 1
            level = float(np.median(values[start : position + 1]))
            steps.append(Step(start, level / band.middle))
            run = sign = 0
    return steps


def side_of(value: float, band: Band | None) -> int:
    """1 above the band, -1 below it, 0 in it or where there is none."""
    if band is None:
        return 0
    return next((sign for sign in (1, -1) if band.is_beyond(value, sign)), 0)


def history_frame(cases: pd.DataFrame) -> pd.DataFrame:
    """Good cases that were measured more than once, in time's order, each with what it is.

    Columns added: `series`, a number for each; `session`, from 1; `step`, the ratio where a new
    level begins, else missing.
    """
    good = cases[(cases["status"] == "ok") & (cases["image_s"].astype(float) > 0)]
    good = good.sort_values("started_at", kind="stable", ignore_index=True)
    series = good.groupby(SERIES, dropna=False, sort=False)
    rows = good.assign(series=series.ngroup(), session=series.cumcount() + 1, step=np.nan)
    rows = rows[series["image_s"].transform("size") > 1]
    for _, own in rows.groupby("series", sort=False):
        for step in find_steps(list(own["image_s"])):
            rows.loc[own.index[step.at], "step"] = step.ratio
    return rows
