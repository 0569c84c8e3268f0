"""What an A/B gate measured and decided, as it is kept: STORE/gates/<gate_id>/gate.json.

The launches' own records lie beside it, in gates/<gate_id>/base and gates/<gate_id>/head: stores
like any other, so that every figure of a gate can be traced to its samples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from .batching import sm_clock_hz
from .compare import compared_axes
from .decision import Array, Estimates, Rule, Verdict, blamed, estimate
from .schema import (
    AXES,
    ENCODER,
    FILE_NAME,
    SCHEMA_VERSION,
    Case,
    Environment,
    Record,
    Status,
    Strict,
)
from .store import Problem, Store, read_into

GATES = "gates"  # a folder beside those of the sweeps
MOST_MODULES = 20  # that are named below a cell

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Side(Strict):
    """One of the two that are compared."""

    label: str  # a revision, or a sweep file, as it was typed
    commit: str | None = None
    python: str | None = None  # where another than the gate's own measured it


class Pair(Strict):
    """Two adjacent launches, one of each side."""

    is_head_first: bool
    base_sweep_id: str | None  # None where it left no sweep
    head_sweep_id: str | None
    wall_s: float = Field(ge=0)


class ModuleChange(Strict):
    """A module that a cell's regression is laid to."""

    module: str
    kind: str
    ratio: Positive
    lost_s: float  # of a forward


class Acceptance(Strict):
    """Somebody's word that a case may be slower."""

    case: str  # the label of the cell
    up_to: Positive  # ratio, head over base
    reason: str = Field(min_length=1, max_length=2000)
    author: str = Field(min_length=1, max_length=200)
    date: str  # ISO 8601


class Cell(Strict):
    """A case of the gate, and what was decided of it. Ratios are head over base.

    pairs: That are valid. decided_at: After how many; None where it is still open.
    """

    label: str
    base: Case
    head: Case
    verdict: Verdict
    pairs: int = Field(ge=0)
    decided_at: int | None = None
    ratio: Positive | None = None
    ratio_low: Positive | None = None
    ratio_high: Positive | None = None
    base_s: Positive | None = None
    head_s: Positive | None = None
    sees: float | None = None  # the least change that this machine can see, by selftest
    reason: str | None = None
    is_output_same: bool | None = None
    accepted: Acceptance | None = None
    modules: tuple[ModuleChange, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether it is a regression that nobody has accepted."""
        return self.verdict == "REGRESSED" and self.accepted is None


class GateFile(Strict):
    """One run of the gate."""

    schema_version: int = SCHEMA_VERSION
    gate_id: str = Field(pattern=FILE_NAME)
    created_at: str  # UTC, ISO 8601
    command: str
    seed: int
    rule: Rule
    base: Side
    head: Side
    environment: Environment | None = None  # of the head's launches
    pairs: tuple[Pair, ...] = ()
    cells: tuple[Cell, ...] = ()
    notes: tuple[str, ...] = ()
    is_finished: bool = False


@dataclass(frozen=True)
class Launch:
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


NOTHING = Launch()
Launches = dict[str, Launch]  # by case id


@dataclass(frozen=True)
class Matched:
    """A case of each side that is compared: equal, but for what sets the sides apart."""

    label: str
    base: Case
    head: Case


def launch_of(record: Record) -> Launch:
    """Medians of a record; none where it is not valid."""
    measurement = record.measurement
    told = Launch(status=record.status, message=record.message)
    if record.status != "ok" or measurement is None or measurement.latency is None:
        return told
    median_s = statistics.median(measurement.latency.forward_s)
    output = measurement.output
    return Launch(
        status="ok",
        message=None,
        median_s=median_s if median_s > 0 else None,
        clock_hz=sm_clock_hz(record),
        modules_s=tuple(
            (name, statistics.median(timing.self_s))
            for name, timing in (measurement.modules or {}).items()
            if timing.self_s
        ),
        output_sha256=output.sha256 if output is not None else None,
    )


def launches_of(store: Store, sweep_id: str | None) -> Launches:
    """What a launch left, by case."""
    if sweep_id is None:
        return {}
    return {record.case_id: launch_of(record) for record in store.read(sweep_id).records}


def axes_apart(base: Sequence[Case], head: Sequence[Case]) -> tuple[str, ...]:
    """What is compared where it is no revision."""
    sides = (
        {axis: {getattr(case, axis) for case in side} for axis in AXES} for side in (base, head)
    )
    return compared_axes(*sides)


def match_cases(base: Sequence[Case], head: Sequence[Case]) -> list[Matched]:
    """Cases that both sides have, in the order of the base."""
    apart = axes_apart(base, head)
    shared = [axis for axis in AXES if axis not in apart]

    def key(case: Case) -> tuple[object, ...]:
        return tuple(getattr(case, axis) for axis in shared)

    others = {key(case): case for case in head}
    varying = [axis for axis in shared if len({getattr(case, axis) for case in base}) > 1]
    return [
        Matched(short_label(case, varying), case, others[key(case)])
        for case in base
        if key(case) in others
    ]


def short_label(case: Case, varying: Sequence[str]) -> str:
    """The model, the batch size and the image size, and what else differs between the cells."""
    named = ("model", "batch_size", "image_size")
    others = [str(getattr(case, axis)) for axis in varying if axis not in named]
    return " ".join([case.model, f"b{case.batch_size}", f"{case.image_size}px", *others])


def log_ratio(base: float | None, head: float | None) -> float:
    """NaN where one of them is missing or not positive, or floats can't hold their ratio."""
    if not base or not head or base < 0:
        return math.nan
    ratio = head / base
    return math.log(ratio) if 0 < ratio < math.inf else math.nan


def log_ratios(cells: Sequence[Matched], pairs: Sequence[tuple[Launches, Launches]]) -> Array:
    """(cells, pairs): NaN where either launch is not valid."""
    return np.array(
        [
            [
                log_ratio(
                    base.get(cell.base.case_id, NOTHING).median_s,
                    head.get(cell.head.case_id, NOTHING).median_s,
                )
                for base, head in pairs
            ]
            for cell in cells
        ]
    ).reshape(len(cells), len(pairs))


def log_cycle_ratios(cells: Sequence[Matched], pairs: Sequence[tuple[Launches, Launches]]) -> Array:
    """The same in cycles of the clock; NaN where it is not known."""

    def cycles(launch: Launch) -> float | None:
        known = launch.median_s is not None and launch.clock_hz is not None
        return launch.median_s * launch.clock_hz if known else None  # type: ignore[operator]  # known

    return np.array(
        [
            [
                log_ratio(
                    cycles(base.get(cell.base.case_id, NOTHING)),
                    cycles(head.get(cell.head.case_id, NOTHING)),
                )
                for base, head in pairs
            ]
            for cell in cells
        ]
    ).reshape(len(cells), len(pairs))


def module_changes(
    cell: Matched, pairs: Sequence[tuple[Launches, Launches]], kinds: dict[str, str]
) -> tuple[ModuleChange, ...]:
    """The modules that became slower, those that lost most first; none where none can be named."""
    sides = [
        [
            dict(launches.get(case.case_id, NOTHING).modules_s)
            for launches in (pair[side] for pair in pairs)
        ]
        for side, case in enumerate((cell.base, cell.head))
    ]
    known = [dict.fromkeys(name for launch in side for name in launch) for side in sides]
    names = [name for name in known[0] if name in known[1]]
    if not names:
        return ()
    ratios = np.array(
        [
            [log_ratio(base.get(name), head.get(name)) for base, head in zip(*sides, strict=True)]
            for name in names
        ]
    )
    change = estimate(ratios, 0.0).change
    found = [
        ModuleChange(
            module="unattributed" if name == ENCODER else name,
            kind=kinds.get(name, "unattributed"),
            ratio=math.exp(change[row]),
            lost_s=middle(sides[1], name) - middle(sides[0], name),
        )
        for row, name in enumerate(names)
        if blamed(ratios)[row]
    ]
    return tuple(sorted(found, key=lambda each: -each.lost_s)[:MOST_MODULES])


def middle(launches: Iterable[dict[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in launches if name in each)


def judged_cell(
    cell: Matched,
    verdict: Verdict,
    decided_at: int | None,
    found: Estimates,
    row: int,
    pairs: Sequence[tuple[Launches, Launches]],
) -> Cell:
    """What is known of a cell after some pairs."""
    sides = [
        [launches.get(case.case_id, NOTHING) for launches in (pair[side] for pair in pairs)]
        for side, case in enumerate((cell.base, cell.head))
    ]
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


def why_not(sides: Sequence[Sequence[Launch]]) -> str:
    """Why a cell has no valid pair: by the side that was never valid, where there is one."""
    named = zip(("base", "head"), sides, strict=True)
    for name, launches in sorted(named, key=lambda side: any(each.median_s for each in side[1])):
        bad = next((each for each in launches if each.median_s is None), None)
        if bad is not None:
            return f"{name} is {bad.status}: {bad.message or 'no reason was given'}"
    return "no pair was measured"


def exp_or_none(log: float) -> float | None:
    return math.exp(log) if math.isfinite(log) else None


def read_gates(store: Store, problems: list[Problem]) -> list[GateFile]:
    """All gates of a store, oldest first; files that can't be used are named."""
    found: list[GateFile] = []
    for path in sorted((store.path / GATES).glob("*/gate.json")):
        read_into(found, path, GateFile, problems)
    return sorted(found, key=lambda gate: gate.created_at)


def gate_path(store: Store, gate_id: str) -> Path:
    return store.path / GATES / gate_id


GATE_COLUMNS = (
    "gate_id", "created_at", "base", "head", "label", "verdict", "ratio", "ratio_low",
    "ratio_high", "before_s", "after_s", "pairs", "sees", "accepted_by", "reason", "is_synthetic",
)  # fmt: skip


def gate_frame(gates: Iterable[GateFile]) -> pd.DataFrame:
    """A row a cell of each gate, the newest gate first."""
    rows = [
        {
            "gate_id": gate.gate_id, "created_at": gate.created_at, "base": gate.base.label,
            "head": gate.head.label, "label": cell.label, "verdict": cell.verdict,
            "ratio": cell.ratio, "ratio_low": cell.ratio_low, "ratio_high": cell.ratio_high,
            "before_s": cell.base_s, "after_s": cell.head_s, "pairs": cell.pairs,
            "sees": cell.sees, "reason": cell.accepted.reason if cell.accepted else cell.reason,
            "accepted_by": cell.accepted.author if cell.accepted else None, "is_synthetic": False,
        }
        for gate in sorted(gates, key=lambda each: each.created_at, reverse=True)
        for cell in gate.cells
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(GATE_COLUMNS))
