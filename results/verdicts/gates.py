"""What an A/B gate measured and decided, as it is kept: STORE/gates/<gate_id>/gate.json.

The launches' own records lie beside it, in gates/<gate_id>/base and gates/<gate_id>/head: stores
like any other, so that every figure of a gate can be traced to its samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..records.case import Case
from ..records.environment import Environment
from ..records.quantities import FILE_NAME, SCHEMA_VERSION, Strict
from ..records.reading import Problem, read_into
from ..records.store import Store
from .decision import Rule, Verdict

GATES = "gates"  # a folder beside those of the sweeps

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


def read_gates(store: Store, problems: list[Problem]) -> list[GateFile]:
    """All gates of a store, oldest first; files that can't be used are named."""
    found: list[GateFile] = []
    for path in sorted((store.path / GATES).glob("*/gate.json")):
        read_into(found, path, GateFile, problems)
    return sorted(found, key=lambda gate: gate.created_at)


def gate_path(store: Store, gate_id: str) -> Path:
    return store.path / GATES / gate_id
