"""What launches of two sides measured, cell by cell: from records to the pairs that are judged.

Shapes: C cells, R pairs of launches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..answers.batching import sm_clock_hz
from ..answers.compare import compared_axes
from ..records.case import AXES, Case, case_label
from ..records.measurement import ENCODER
from ..records.schema import Record, Status
from ..records.store import Store
from .decision import Array, Estimates, Verdict, blamed, estimate
from .gates import Cell, ModuleChange

MOST_MODULES = 20  # that are named below a cell


@dataclass(frozen=True)
class GateRun:
    """What one process measured of one case.

    median_s: None where it is not valid, which `status` and `message` explain.
    clock_hz: Of the GPU's multiprocessors while it worked.
    modules_s: Median seconds of a forward, each module's own.
    """

    status: Status = "not_run"
    message: str | None = None
    median_s: float | None = None
    clock_hz: float | None = None
    modules_s: tuple[tuple[str, float], ...] = ()
    output_sha256: str | None = None


NOTHING = GateRun()
GateRuns = dict[str, GateRun]  # by case id


@dataclass(frozen=True)
class CasePair:
    """A case of each side that is compared: equal, but for what sets the sides apart."""

    label: str
    base: Case
    head: Case


def gate_run_of(record: Record) -> GateRun:
    """Medians of a record; none where it is not valid."""
    measurement = record.measurement
    if record.status != "ok" or measurement is None or measurement.latency is None:
        return GateRun(record.status, record.message)
    median_s = statistics.median(measurement.latency.forward_s)
    output = measurement.output
    return GateRun(
        status="ok",
        median_s=median_s if median_s > 0 else None,
        clock_hz=sm_clock_hz(record),
        modules_s=tuple(
            (name, statistics.median(timing.self_s))
            for name, timing in (measurement.modules or {}).items()
            if timing.self_s
        ),
        output_sha256=output.sha256 if output is not None else None,
    )


def gate_runs_of(store: Store, sweep_id: str | None) -> GateRuns:
    """What a launch left, by case."""
    if sweep_id is None:
        return {}
    return {record.case_id: gate_run_of(record) for record in store.read(sweep_id).records}


def axes_apart(base: Sequence[Case], head: Sequence[Case]) -> tuple[str, ...]:
    """What is compared where it is no revision."""
    sides = (
        {axis: {getattr(case, axis) for case in side} for axis in AXES} for side in (base, head)
    )
    return compared_axes(*sides)


def match_cases(base: Sequence[Case], head: Sequence[Case]) -> list[CasePair]:
    """Cases that both sides have, in the order of the base."""
    apart = axes_apart(base, head)
    shared = [axis for axis in AXES if axis not in apart]
    others = {case.values(shared): case for case in head}
    varying = [axis for axis in shared if len({getattr(case, axis) for case in base}) > 1]
    return [
        CasePair(short_label(case, varying), case, others[case.values(shared)])
        for case in base
        if case.values(shared) in others
    ]


def short_label(case: Case, varying: Iterable[str]) -> str:
    """The model, the batch size and the image size, and what else differs between the cells.

    Baselines are kept by it, so it must not change: an axis that is newer than a baseline counts
    only if its value is another than older records have.
    """
    always = ("model", "batch_size", "image_size")
    others = ((AXES[axis], getattr(case, axis)) for axis in varying if axis not in always)
    told = [str(value) for axis, value in others if value not in (None, axis.since)]
    return " ".join([case_label(case.model_dump(), always), *told])


def log_ratio(base: float | None, head: float | None) -> float:
    """NaN where one of them is missing or not positive, or floats can't hold their ratio."""
    if not base or not head or base < 0:
        return math.nan
    ratio = head / base
    return math.log(ratio) if 0 < ratio < math.inf else math.nan


def log_ratios(
    cells: Sequence[CasePair],
    pairs: Sequence[tuple[GateRuns, GateRuns]],
    value: Callable[[GateRun], float | None] = lambda launch: launch.median_s,
) -> Array:
    """(cells, pairs): NaN where either launch is not valid.

    Args:
        cells: The rows.
        pairs: The columns, base and head of each.
        value: Of a launch; its median time, or the cycles that it took.
    """
    found = [
        log_ratio(value(base), value(head))
        for cell in cells
        for base, head in zip(*runs(cell, pairs), strict=True)
    ]
    return np.array(found).reshape(len(cells), len(pairs))


def runs(cell: CasePair, pairs: Sequence[tuple[GateRuns, GateRuns]]) -> list[list[GateRun]]:
    """What each launch of the base measured of a cell, and each of the head."""
    return [
        [pair[side].get(case.case_id, NOTHING) for pair in pairs]
        for side, case in enumerate((cell.base, cell.head))
    ]


def cycles(launch: GateRun) -> float | None:
    """Of the GPU's clock in a forward; None where it is not known."""
    if launch.median_s is None or launch.clock_hz is None:
        return None
    return launch.median_s * launch.clock_hz


def module_changes(
    cell: CasePair, pairs: Sequence[tuple[GateRuns, GateRuns]], kinds: dict[str, str]
) -> tuple[ModuleChange, ...]:
    """The modules that became slower, those that lost most first; none where none can be named."""
    sides = [[dict(launch.modules_s) for launch in side] for side in runs(cell, pairs)]
    known = [dict.fromkeys(name for launch in side for name in launch) for side in sides]
    names = [name for name in known[0] if name in known[1]]
    if not names:
        return ()
    launches = list(zip(*sides, strict=True))
    ratios = np.array(
        [[log_ratio(base.get(name), head.get(name)) for base, head in launches] for name in names]
    )
    change, is_blamed = estimate(ratios, 0.0).change, blamed(ratios)
    found = [
        ModuleChange(
            module="unattributed" if name == ENCODER else name,
            kind=kinds.get(name, "unattributed"),
            ratio=math.exp(change[row]),
            lost_s=middle(sides[1], name) - middle(sides[0], name),
        )
        for row, name in enumerate(names)
        if is_blamed[row]
    ]
    return tuple(sorted(found, key=lambda each: -each.lost_s)[:MOST_MODULES])


def middle(launches: Iterable[dict[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in launches if name in each)


def judged_cell(
    cell: CasePair,
    verdict: Verdict,
    decided_at: int | None,
    found: Estimates,
    row: int,
    pairs: Sequence[tuple[GateRuns, GateRuns]],
) -> Cell:
    """What is known of a cell after some pairs."""
    sides = runs(cell, pairs)
    medians = [[each.median_s for each in side if each.median_s] for side in sides]
    digests = [{each.output_sha256 for each in side} - {None} for side in sides]
    is_known = all(len(each) == 1 for each in digests)
    has_failed = verdict == "NOT_COMPARABLE" and bool(medians[0]) and not medians[1]
    return Cell(
        label=cell.label,
        base=cell.base,
        head=cell.head,
        verdict="FAILED" if has_failed else verdict,
        decided_at=decided_at,
        pairs=int(found.pairs[row]),
        ratio=exp_or_none(found.change[row]),
        ratio_low=exp_or_none(found.low[row]),
        ratio_high=exp_or_none(found.high[row]),
        base_s=statistics.median(medians[0]) if medians[0] else None,
        head_s=statistics.median(medians[1]) if medians[1] else None,
        reason=why_not(sides) if verdict == "NOT_COMPARABLE" else None,
        is_output_same=digests[0] == digests[1] if is_known else None,
    )


def why_not(sides: Sequence[Sequence[GateRun]]) -> str:
    """Why a cell has no valid pair: by the side that was never valid, where there is one."""
    named = zip(("base", "head"), sides, strict=True)
    for name, launches in sorted(named, key=lambda side: any(each.median_s for each in side[1])):
        bad = next((each for each in launches if each.median_s is None), None)
        if bad is not None:
            return f"{name} is {bad.status}: {bad.message or 'no reason was given'}"
    return "no pair was measured"


def exp_or_none(log: float) -> float | None:
    return math.exp(log) if math.isfinite(log) else None
