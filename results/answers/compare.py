"""Two sets of cases side by side: which are the same, and how their times differ.

This describes what was measured. A single run per side can't tell a small change from what a
process is dealt at its start, so a verdict has a question mark: `verdicts.decision` decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..records.case import AXES, TimingPlan
from ..records.environment import Environment

COMPARISON_COLUMNS = (
    *AXES, "record_id", "after_record_id", "before_s", "after_s", "ratio", "ratio_low",
    "ratio_high", "verdict", "compared", "is_synthetic",
)  # fmt: skip
USED = (*AXES, "record_id", "median_s", "low_s", "high_s", "is_synthetic")
CODE = ("git_commit", "git_dirty", "source_sha256", "sam_bench")  # of an environment
NOTABLE = 1.03  # ratio, from which on a change is worth a word
UNLIKE = ("sweep_id", "started_at", "notes")  # differs between any two


def compare_cases(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """A row a case of either side; the other side's values are missing where it has none.

    Where the sides differ in an axis of which each has one value, that is what is compared: their
    cases are the same in all other axes, the rows show the value of before, and `compared` says
    both.

    The ratio is of medians, after over before. Its interval spans the quotients of both medians'
    95 % intervals: wider than an interval of the ratio itself would be.

    Args:
        before, after: Frames of cases; of equal cases the newest counts.
    """
    sides = [newest(before), newest(after)]
    apart = compared_values(*sides)
    shared = [axis for axis in AXES if axis not in {name for name, *_ in apart}]
    sides[1] = sides[1].drop(columns=[axis for axis, *_ in apart])
    both = sides[0].merge(sides[1], on=shared, how="outer", suffixes=("", "_after"), sort=False)
    made_up = both[["is_synthetic", "is_synthetic_after"]].fillna(False).astype(bool)
    low, high = both["low_s_after"] / both["high_s"], both["high_s_after"] / both["low_s"]
    compared = both.assign(
        before_s=both["median_s"],
        after_s=both["median_s_after"],
        after_record_id=both["record_id_after"],
        ratio=both["median_s_after"] / both["median_s"],
        ratio_low=low,
        ratio_high=high,
        is_synthetic=made_up.any(axis=1),
        verdict=apparent(both["median_s_after"] / both["median_s"], low, high),
        compared="; ".join(f"{axis} {old}, then {new}" for axis, old, new in apart) or None,
    )
    return compared[list(COMPARISON_COLUMNS)]


def apparent(ratio: pd.Series, low: pd.Series, high: pd.Series) -> pd.Series:
    """What it looks like: `~` where the interval holds 1, or the change is small."""
    told = pd.Series("~", index=ratio.index, dtype=object)
    told[(low > 1) & (ratio >= NOTABLE)] = "slower?"
    told[(high < 1) & (ratio <= 1 / NOTABLE)] = "faster?"
    return told.where(ratio.notna(), None)


def compared_values(before: pd.DataFrame, after: pd.DataFrame) -> tuple[tuple[str, str, str], ...]:
    """The axes that are compared, with both values."""
    old, new = (
        # None is the GPU of a CPU.
        {axis: set(cases[axis].astype(object).where(cases[axis].notna(), None)) for axis in AXES}
        for cases in (before, after)
    )
    axes = compared_axes(old, new)
    return tuple((axis, str(*old[axis]), str(*new[axis])) for axis in axes)


def compared_axes(
    before: Mapping[str, Collection[object]], after: Mapping[str, Collection[object]]
) -> tuple[str, ...]:
    """The axes, but the batch size, of which each side has one value, and another one."""
    return tuple(
        axis
        for axis in AXES
        if axis != "batch_size"
        and len(before[axis]) == len(after[axis]) == 1
        and set(before[axis]) != set(after[axis])
    )


def newest(cases: pd.DataFrame) -> pd.DataFrame:
    """Good cases; of equal ones the last that was measured."""
    good = cases[(cases["status"] == "ok") & cases["median_s"].notna()]
    newest_last = good.sort_values("started_at", kind="stable")
    return newest_last.drop_duplicates(list(AXES), keep="last")[list(USED)]


def matched(comparison: pd.DataFrame) -> pd.DataFrame:
    """Cases that both sides have."""
    return comparison[comparison["ratio"].notna()]


def geometric_mean(comparison: pd.DataFrame) -> float:
    """Of the ratios of all cases that both sides have; NaN where there are none."""
    from scipy import stats  # here, since it takes as long to load as all else together

    ratios = matched(comparison)["ratio"]
    return float(stats.gmean(ratios)) if len(ratios) else float("nan")


def environment_changes(before: Environment, after: Environment) -> list[tuple[str, str, str]]:
    """What differs between two machines or installations: the field, and both values."""
    sides = [flat(each.model_dump(exclude=set(UNLIKE))) for each in (before, after)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    pairs = ((name, *(side.get(name, "none") for side in sides)) for name in names)
    return [(name, old, new) for name, old, new in pairs if old != new]


def unasked_changes(
    changes: Iterable[tuple[str, str, str]], is_code_compared: bool
) -> list[tuple[str, str, str]]:
    """Of what differs between two environments, what is not what is compared."""
    return [each for each in changes if not (is_code_compared and each[0] in CODE)]


def plan_changes(before: TimingPlan, after: TimingPlan) -> list[tuple[str, str, str]]:
    """What differs in how two sweeps measured."""
    sides = [each.model_dump() for each in (before, after)]
    pairs = ((name, str(sides[0][name]), str(sides[1][name])) for name in sides[0])
    return [(f"plan: {name}", old, new) for name, old, new in pairs if old != new]


def flat(values: dict[str, Any]) -> dict[str, str]:
    """Fields as text, those of each GPU by its number."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if name == "gpus":
            for gpu in value:
                found |= {f"gpu {gpu['index']} {key}": str(each) for key, each in gpu.items()}
        else:
            found[name] = str(value)
    return found


def module_changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Which modules make up the difference of one case: seconds of a forward before and after.

    None where one of the two has no modules. A module that one side alone timed took no time on
    the other: what it did is in another module's own time there.

    Args:
        before, after: The modules of one record each.
    """
    columns = ["module", "kind", "self_s", "is_synthetic"]
    if before.empty or after.empty:
        before, after = before.head(0), after.head(0)
    both = before[columns].merge(
        after[columns], on="module", how="outer", suffixes=("", "_after"), sort=False
    )
    kind = both["kind"].fillna(both["kind_after"])
    before_s, after_s = both["self_s"].fillna(0.0), both["self_s_after"].fillna(0.0)
    made_up = both[["is_synthetic", "is_synthetic_after"]].fillna(False).astype(bool).any(axis=1)
    change_s = after_s - before_s
    changes = pd.DataFrame({
        "module": both["module"], "kind": kind, "before_s": before_s, "after_s": after_s,
        "change_s": change_s, "is_synthetic": made_up,
    })  # fmt: skip
    return changes.iloc[np.argsort(-np.abs(change_s.to_numpy()), kind="stable")]
