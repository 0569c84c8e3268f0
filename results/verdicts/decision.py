"""Whether one side is slower than the other, told from pairs of process launches.

The launch is the unit of replication, not the forward: what a process is dealt at its start (its
memory's layout, the clock's state) moves all of its forwards, so that more of them make one more
sure of what is not so. Two adjacent launches, one of each side, make a pair; of each cell it gives
D = ln(median after / median before). The estimate is D's Hodges-Lehmann median, the test is the
exact one-sided signed-rank test (Wilcoxon 1945) that D lies within the margin, and cells are
corrected for by Holm (1979).

Shapes: C cells, R pairs. A pair that is invalid for a cell is NaN there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..records.quantities import Strict

# FAILED is a cell that the base measures and the head never does; NOT_COMPARABLE one that has no
# valid pair for another reason; CLOCK_DRIVEN is slower in seconds, but not in cycles of the clock.
Verdict = Literal[
    "REGRESSED", "FAILED", "NOT_COMPARABLE", "CLOCK_DRIVEN", "INCONCLUSIVE", "IMPROVED", "OK"
]
CONFIDENCE = 0.95  # of an estimate's interval
SHARED_SHIFT = 0.6  # share of cells that move one way, above which it is the machine that moved
FEWEST_CELLS_FOR_SHIFT = 3
MODULE_MARGIN = 0.02  # a module has more noise than the whole
MODULE_Q = 0.05  # false discoveries among the modules that are blamed

Array = NDArray[np.float64]


class Rule(Strict):
    """When a change counts."""

    margin: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Change that nobody minds; what is tested is a larger one.",
    )
    smallest: float = Field(
        default=0.03, gt=0, lt=10, description="Least change that is reported as one: 0.03 is 3 %."
    )
    alpha: float = Field(
        default=0.015,
        gt=0,
        lt=1,
        description="Most probability of a wrong alarm among all cells and looks.",
    )
    looks: tuple[int, ...] = Field(
        default=(10, 20, 30), description="Pairs after which it is looked whether enough is known."
    )

    def alpha_at(self, look: int) -> float:
        """What a look may spend of alpha: more where there are more pairs, which can use it.

        A cell can reach 2^-pairs at best, which Holm's threshold asks of it times the cells.
        """
        return self.alpha * self.looks[look] / sum(self.looks)


@dataclass(frozen=True)
class Estimates:
    """Of each cell, as natural logarithms of ratios; NaN where pairs are too few.

    low, high: The 95 % interval.
    p_slower, p_faster: That the change is within the margin, against its being beyond.
    """

    pairs: NDArray[np.int64]
    change: Array
    low: Array
    high: Array
    p_slower: Array
    p_faster: Array


def estimate(log_ratios: Array, margin: float) -> Estimates:
    """What pairs tell of each cell.

    Args:
        log_ratios: (C, R).
        margin: As in Rule.
    """
    log_ratios = np.asarray(log_ratios, dtype=np.float64)
    is_valid = np.isfinite(log_ratios)
    pairs = is_valid.sum(axis=1)
    columns = [np.full(len(log_ratios), np.nan) for _ in range(5)]
    for count in np.unique(pairs):
        rows = np.flatnonzero(pairs == count)
        own = log_ratios[rows][is_valid[rows]].reshape(len(rows), count)
        for column, values in zip(columns, of_full_rows(own, math.log1p(margin)), strict=True):
            column[rows] = values
    return Estimates(pairs, *columns)


def of_full_rows(differences: Array, margin: float) -> tuple[Array, ...]:
    """The same of pairs that are all valid: change, low, high, p_slower, p_faster."""
    from scipy import stats  # here, since it takes as long to load as all else together

    count = differences.shape[1]
    if count == 0:
        return (np.full(len(differences), np.nan),) * 5
    # (C, R (R + 1) / 2): the Walsh averages, means of all pairs of values, each with itself too.
    one, other = np.triu_indices(count)
    averages = np.sort((differences[:, one] + differences[:, other]) / 2, axis=1)
    change, rank = np.median(averages, axis=1), interval_rank(count)
    outside = np.full(len(differences), np.nan)
    low, high = (averages[:, rank], averages[:, -1 - rank]) if rank is not None else (outside,) * 2
    slower, faster = (
        stats.wilcoxon(sided - margin, alternative="greater", method="exact", axis=1).pvalue
        for sided in (differences, -differences)
    )
    return change, low, high, np.asarray(slower), np.asarray(faster)


@lru_cache(maxsize=256)
def interval_rank(count: int) -> int | None:
    """The rank among Walsh averages whose value, and its mirror's, enclose the median.

    None where no interval of so few pairs reaches 95 %. The signed-rank sum of n values is that of
    a random subset of 1 .. n, whose distribution is the product of (1 + z^i) / 2; scipy computes
    it, but keeps it to itself.
    """
    steps = (np.r_[0.5, np.zeros(rank - 1), 0.5] for rank in range(1, count + 1))
    at_most = np.cumsum(functools.reduce(np.convolve, steps, np.ones(1)))
    rank = int(np.searchsorted(at_most, (1 - CONFIDENCE) / 2, side="right"))
    return rank - 1 if rank > 0 else None


def holm(p_values: Array, alpha: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected, with at most alpha that one of them is so wrongly."""
    order = np.argsort(p_values, kind="stable")
    left = len(p_values) - np.arange(len(p_values))
    is_small = p_values[order] <= alpha / left
    rejected = np.zeros(len(p_values), dtype=bool)
    rejected[order] = np.logical_and.accumulate(is_small)
    return rejected


def verdicts(found: Estimates, rule: Rule, look: int = -1) -> list[Verdict]:
    """What one look at all cells tells of each.

    A cell is OK when it can't be slower by as much as would be reported. One that looks faster by
    as much stays open until the last look, so that it can be proven.

    Args:
        found: Of all cells.
        rule: When a change counts.
        look: Which of the rule's it is, from 0; the last where none is named.
    """
    alpha, smallest = rule.alpha_at(look), math.log1p(rule.smallest)
    is_last = look in (-1, len(rule.looks) - 1)
    # A cell without pairs has no p: it is not rejected, and still counts among the cells.
    slower, faster = (
        holm(np.nan_to_num(p, nan=1.0), alpha) for p in (found.p_slower, found.p_faster)
    )
    told: list[Verdict] = []
    for cell, change in enumerate(found.change):
        if found.pairs[cell] == 0:
            told.append("NOT_COMPARABLE")
        elif slower[cell] and change >= smallest:
            told.append("REGRESSED")
        elif faster[cell] and change <= -smallest:
            told.append("IMPROVED")
        elif found.high[cell] < smallest and (is_last or change > -smallest):
            told.append("OK")
        else:
            told.append("INCONCLUSIVE")
    return told


def is_settled(told: Sequence[Verdict]) -> bool:
    """Whether more pairs could change nothing that matters."""
    return "INCONCLUSIVE" not in told


class InterimLooks:
    """Pairs that come one after another, judged at each look; what was decided stays decided.

    Args:
        cells: How many.
        rule: When a change counts.
    """

    def __init__(self, cells: int, rule: Rule) -> None:
        self.rule = rule
        self.verdicts: list[Verdict] = ["INCONCLUSIVE"] * cells
        self.decided_at: list[int | None] = [None] * cells
        self.taken = 0

    def look(self, log_ratios: Array, log_cycle_ratios: Array | None = None) -> Estimates:
        """Judge the cells that are still open, by all pairs so far.

        Args:
            log_ratios: (C, R).
            log_cycle_ratios: The same in cycles of the clock, where it is known.
        """
        found = estimate(log_ratios, self.rule.margin)
        told = verdicts(found, self.rule, self.taken)
        if log_cycle_ratios is not None:
            told = in_cycles(told, log_cycle_ratios, self.rule, self.taken)
        self.taken += 1
        still_open = ("INCONCLUSIVE", "NOT_COMPARABLE")
        for cell, verdict in enumerate(told):
            if self.verdicts[cell] in still_open:
                self.verdicts[cell] = verdict
                self.decided_at[cell] = None if verdict in still_open else int(found.pairs[cell])
        return found


def look_through(log_ratios: Array, rule: Rule) -> InterimLooks:
    """Look after look at pairs that are all there, as far as a gate would have measured them."""
    looks = InterimLooks(len(log_ratios), rule)
    for pairs in rule.looks:
        looks.look(log_ratios[:, :pairs])
        if is_settled(looks.verdicts):
            break
    return looks


def in_cycles(
    told: Sequence[Verdict], log_ratios: Array, rule: Rule, look: int = -1
) -> list[Verdict]:
    """A regression must hold in cycles too, where the clock is known: else it is the clock's.

    Where it is known of fewer pairs than a first look takes, they could not hold it.
    """
    found = estimate(log_ratios, rule.margin)
    holds = (found.change >= math.log1p(rule.smallest)) & (found.p_slower <= rule.alpha_at(look))
    is_known = found.pairs >= rule.looks[0]
    return [
        "CLOCK_DRIVEN" if verdict == "REGRESSED" and is_known[cell] and not holds[cell] else verdict
        for cell, verdict in enumerate(told)
    ]


def shared_shift(change: Array, rule: Rule) -> str | None:
    """Where most cells move the same way it is the machine, or something that all of them use."""
    known = change[np.isfinite(change)]
    beyond = math.log1p(rule.margin)
    if len(known) < FEWEST_CELLS_FOR_SHIFT:
        return None
    for word, share in (("slower", np.mean(known > beyond)), ("faster", np.mean(known < -beyond))):
        if share > SHARED_SHIFT:
            return f"{share:.0%} of the cells became {word} together: a machine-wide shift?"
    return None


def blamed(log_ratios: Array) -> NDArray[np.bool_]:
    """Which modules became slower: at most 5 % of those named are so wrongly (Benjamini-Hochberg).

    Args:
        log_ratios: (modules, R).
    """
    from scipy import stats

    found = estimate(log_ratios, MODULE_MARGIN)
    p_values = np.nan_to_num(found.p_slower, nan=1.0)
    if not len(p_values):
        return np.zeros(0, dtype=bool)
    return np.asarray(stats.false_discovery_control(p_values) <= MODULE_Q)
