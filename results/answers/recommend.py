"""Which way to run the encoder, told from records: the fastest that was measured, and how sure.

A way is a value for each axis that says how a case is computed; it is measured at one or more
batch sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from ..hardware.specs import fits
from ..records.case import WAY_AXES
from ..records.errors import UserError
from .capacity import KNEE

AGREEMENT = 0.05  # between two measurements of the same
FEWEST_FOR_P90 = 10  # forwards; of fewer the longest is taken

Row = dict[Any, Any]  # of a case, by column
Confidence = Literal["high", "medium", "low"]


class NoRecordError(UserError):
    """No record answers the question."""


@dataclass(frozen=True)
class Requirements:
    """What a person wants to run.

    gpu: Words of its name, or "cpu"; None where the records are of one device.
    latency_s: The most that a forward of the whole batch may take, nine times in ten.
    precisions: That may be chosen.
    """

    model: str
    gpu: str | None = None
    image_size: int = 1024
    latency_s: float | None = None
    precisions: tuple[str, ...] = ("fp32",)


@dataclass(frozen=True)
class Recommendation:
    """What to run, and what speaks for it.

    row: Of the case, as case_frame has it.
    fastest: Of the same way, with the most images a second, maybe at a larger batch size.
    runner_up: The fastest case of another way; None where there is none.
    keeps_latency: Whether it is within what was wanted; where nothing is, `row` comes nearest.
    grave, slight: Why not to be sure of it.
    """

    row: Row
    fastest: Row
    runner_up: Row | None
    keeps_latency: bool
    grave: tuple[str, ...] = ()
    slight: tuple[str, ...] = ()

    @property
    def confidence(self) -> Confidence:
        if self.grave:
            return "low"
        return "medium" if self.slight else "high"


def recommend(cases: pd.DataFrame, wanted: Requirements) -> Recommendation:
    """The fastest measured way, at the smallest batch size that is within 5 % of its best.

    Args:
        cases: As case_frame has them, of any sweeps and devices.
        wanted: What is to be run.

    Raises:
        NoRecordError: Where nothing was measured of it.
    """
    tried: list[Row] = find_candidates(cases, wanted).to_dict("records")
    by_age = sorted(tried, key=lambda row: str(row["started_at"]))
    newest = [
        row
        for row in {(*way(row), row["batch_size"]): row for row in by_age}.values()
        if row["status"] == "ok"
    ]
    if not newest:
        raise NoRecordError(
            f"Of {wanted.model} at {wanted.image_size} px all ran out of memory when they were "
            "last tried: measure smaller batches with sam-bench capacity."
        )
    within = [row for row in newest if wanted.latency_s is None or p90_s(row) <= wanted.latency_s]
    fastest = min(within, key=image_s) if within else min(newest, key=p90_s)
    same = [row for row in within if way(row) == way(fastest)] or [fastest]
    enough = (each for each in same if each["image_s"] <= fastest["image_s"] / KNEE)
    others = [row for row in within if way(row) != way(fastest)]
    row = min(enough, key=lambda each: each["batch_size"])
    like_row = (*way(row), row["batch_size"], "ok")
    repeated = [
        each for each in tried if (*way(each), each["batch_size"], each["status"]) == like_row
    ]
    found = Recommendation(row, fastest, min(others, key=image_s, default=None), bool(within))
    return replace(
        found,
        grave=tuple(grave_doubts(found, newest, repeated)),
        slight=tuple(slight_doubts(found, newest, repeated)),
    )


def find_candidates(cases: pd.DataFrame, wanted: Requirements) -> pd.DataFrame:
    """Cases of the model on the wanted device, in precisions that may be chosen.

    What ran out of memory is among them, since it may have fitted before; and what was made up only
    where nothing was measured.
    """
    good = cases[(cases["status"] == "ok") & (cases["image_s"] > 0)]
    if good.empty:
        raise NoRecordError("The store has no good record of a forward.")
    chosen = find_model(*find_device(good, wanted), wanted)
    if not chosen["is_synthetic"].all():
        chosen = chosen[~chosen["is_synthetic"].astype(bool)]
    is_full = (cases["status"] == "oom") & cases["device_uid"].isin(chosen["device_uid"])
    is_full &= is_of(cases, wanted) & cases["precision"].isin(wanted.precisions)
    return cases[cases.index.isin(chosen.index) | is_full]


def find_device(good: pd.DataFrame, wanted: Requirements) -> tuple[pd.DataFrame, str]:
    """Cases of the one device that is meant, and its name."""
    names = good["gpu"].fillna(good["cpu"])
    is_there = is_named(good, names, wanted.gpu)
    devices = sorted(set(names[is_there]))
    if not devices:
        raise NoRecordError(
            f"The store has no record of a GPU '{wanted.gpu}', but of {listed(names)}: measure "
            f"there with sam-bench sweep -m {wanted.model}, or name another with --gpu."
        )
    if len(devices) > 1:
        raise NoRecordError(f"The store has records of {listed(devices)}: name one with --gpu.")
    return good[is_there], devices[0]


def find_model(of_device: pd.DataFrame, device: str, wanted: Requirements) -> pd.DataFrame:
    """Cases of the model that is meant, in precisions that may be chosen."""
    of_model = of_device[is_of(of_device, wanted)]
    if of_model.empty:
        pairs = zip(of_device["model"], of_device["image_size"], strict=True)
        raise NoRecordError(
            f"Of {device} the store has no record of {wanted.model} at {wanted.image_size} "
            f"px, but of {listed(f'{model} at {size}' for model, size in pairs)}: measure it with "
            f"sam-bench sweep -m {wanted.model} -s {wanted.image_size}."
        )
    chosen = of_model[of_model["precision"].isin(wanted.precisions)]
    if chosen.empty:
        raise NoRecordError(
            f"Of {device} the store has {wanted.model} in {listed(of_model['precision'])} "
            f"alone: let one of these be chosen, or measure it with sam-bench sweep -m "
            f"{wanted.model} -p {wanted.precisions[0]}."
        )
    return chosen


def is_of(cases: pd.DataFrame, wanted: Requirements) -> pd.Series[bool]:
    return (cases["model"] == wanted.model) & (cases["image_size"] == wanted.image_size)


def is_named(cases: pd.DataFrame, names: pd.Series[str], gpu: str | None) -> pd.Series[bool]:
    """Which cases are of a device; a whole name is meant alone, words of it may be several."""
    if gpu is not None and gpu.casefold() == "cpu":
        return cases["gpu"].isna()
    is_whole = names.map(lambda name: gpu is not None and name.casefold() == gpu.casefold())
    if is_whole.any():
        return is_whole
    return names.map(lambda name: gpu is None or fits(gpu, name))


def listed(names: Iterable[str]) -> str:
    """Each once."""
    return ", ".join(sorted(set(names)))


def way(row: Row) -> tuple[str, ...]:
    return tuple(row[axis] for axis in WAY_AXES)


def image_s(row: Row) -> float:
    return float(row["image_s"])


def p90_s(row: Row) -> float:
    """What nine forwards in ten keep; the longest, where there are too few to tell."""
    return float(row["p90_s"] if row["n"] >= FEWEST_FOR_P90 else row["max_s"])


def grave_doubts(
    found: Recommendation, newest: Sequence[Row], repeated: Sequence[Row]
) -> Iterator[str]:
    row = found.row
    if row["is_synthetic"]:
        yield "its record is made up, for a demonstration"
    fewest = min((row, found.fastest), key=lambda each: each["n"])
    if not has_interval(fewest):
        yield f"{fewest['n']:.0f} forwards are too few for an interval"
    if all(way(each) == way(row) for each in newest):
        yield "no other way was measured"
    times = [image_s(each) for each in repeated]
    if max(times) > min(times) * (1 + AGREEMENT):
        yield f"it was measured {len(times)} times, which differ by over {AGREEMENT * 100:.0f} %"


def slight_doubts(
    found: Recommendation, newest: Sequence[Row], repeated: Sequence[Row]
) -> Iterator[str]:
    row, fastest, runner_up = found.row, found.fastest, found.runner_up
    # Slight, since then it hardly matters which of them is taken.
    if runner_up is not None and interval_s(fastest)[1] >= interval_s(runner_up)[0]:
        yield "the runner-up may be as fast: their intervals overlap"
    if len({each["sweep_id"] for each in repeated}) == 1:
        yield "one sweep measured it"
    if row["warnings"] or fastest["warnings"]:
        yield "some of its self-checks warn"
    if len({each["torch"] for each in newest}) > 1:
        yield "ways were measured with several versions of torch"
    of_way = {each["batch_size"]: image_s(each) for each in newest if way(each) == way(fastest)}
    size = fastest["batch_size"]
    smaller = [seconds for other, seconds in of_way.items() if other < size]
    is_gaining = not smaller or of_way[size] < min(smaller) * KNEE
    if size == max(of_way) and is_gaining:
        yield "no larger batch was measured, and one may be faster"


def has_interval(row: Row) -> bool:
    return bool(pd.notna(row["low_s"]))


def interval_s(row: Row) -> tuple[float, float]:
    """Of an image's time: the median's interval, or the median where there is none."""
    low, high = ("low_s", "high_s") if has_interval(row) else ("median_s", "median_s")
    return row[low] / row["batch_size"], row[high] / row["batch_size"]
