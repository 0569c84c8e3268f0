"""The A/B gate: two sides launched in turn, pair after pair, until enough is known of every cell.

A launch is a whole `sam-bench sweep` of one side in processes of its own, which leaves its records
in a store of the gate's. What is decided of them is in results.verdicts.decision.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from results.records.reading import BrokenFileError, read_file
from results.records.schema import SweepFile
from results.records.store import Store, to_json, write_whole
from results.verdicts.decision import (
    InterimLooks,
    Rule,
    Verdict,
    estimate,
    is_settled,
    shared_shift,
)
from results.verdicts.gate_runs import (
    CasePair,
    GateRuns,
    axes_apart,
    cycles,
    gate_runs_of,
    judged_cell,
    log_ratios,
    match_cases,
    module_changes,
)
from results.verdicts.gates import GATES, Acceptance, Cell, GateFile, Pair, Side, gate_path

from ..errors import SweepError
from ..sweeping.planning import new_id, utc_now

# Of a launch, unless something else is named: more forwards of one process would tell no more.
QUICK_SETTINGS = {"passes": "latency,modules"}
SETTINGS = {**QUICK_SETTINGS, "max_timed_s": "2", "warmup_s": "1", "warmup_cap_s": "5"}
NO_SWEEP_CODES = (0, 5)  # a sweep's exit codes that leave records: all good, or some cases failed
LONGEST_REASON = 300
MOST_FAILURES = 3  # launches without records, and no whole pair between, that end a gate
GRACE_S = 3.0  # for a launch to end after Ctrl-C


class GateError(SweepError):
    """The two sides can't be compared as asked."""


class GateRunError(GateError):
    """A launch left no records."""


@dataclass(frozen=True)
class SideSource:
    """Where one side's launches come from.

    side: As it is told to a person.
    words: Of `sam-bench sweep`, after its name.
    folder: That it runs in, and imports from first.
    python: That runs it.
    """

    side: Side
    words: tuple[str, ...]
    folder: Path
    python: str = sys.executable

    def command(self, store: Path) -> list[str]:
        start = [self.python, "-P", "-m", "benchmarking.cli", "sweep"]
        return [*start, *self.words, "--store", str(store), "--fresh"]

    def environment(self) -> dict[str, str]:
        """The side's own code comes first, whatever is installed."""
        path = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


class GateWatcher(Protocol):
    """Is told what a gate does; shows it to a person."""

    def launch_begins(self, gate: GateFile, pair: int, side: Side) -> None: ...
    def pair_ends(self, gate: GateFile, next_look: int) -> None: ...
    def look_ends(self, gate: GateFile, next_look: int | None) -> None: ...
    def end(self) -> None: ...


MeasureSide = Callable[[SideSource, Path], str]


def measure_side(source: SideSource, store: Path) -> str:
    """Measure a side once, in processes of its own; the id of the sweep that it left.

    Raises:
        LaunchError: Where it left none, with its own last words.
    """
    before = set(Store(store).sweep_ids())
    try:
        process = subprocess.Popen(
            source.command(store),
            cwd=source.folder,
            env=source.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:  # its Python or its folder was removed
        raise GateRunError(f"{source.side.label} can't be measured: {error}") from error
    try:
        _, complaint = process.communicate()
    except KeyboardInterrupt:  # a terminal's goes to both
        # Reading on, since a launch whose last words find a full pipe would never end.
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=GRACE_S)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate()
        raise
    made = sorted(set(Store(store).sweep_ids()) - before)
    if process.returncode not in NO_SWEEP_CODES or not made:
        raise GateRunError(
            f"{source.side.label} can't be measured (exit code {process.returncode}): "
            f"{last_words(complaint)}"
        )
    return made[-1]


def last_words(complaint: str) -> str:
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return lines[-1][-LONGEST_REASON:] if lines else "it said nothing"


@dataclass(frozen=True)
class GateOptions:
    """How a gate judges, and what it is told before.

    rule: When a change counts.
    seed: Of the order within pairs.
    accepted: What is known and allowed to be slower.
    sees: The least change that a machine can see, by its device and the cell's label.
    """

    rule: Rule = field(default_factory=Rule)
    seed: int = 0
    accepted: Sequence[Acceptance] = ()
    sees: Mapping[tuple[str, str], float | None] = field(default_factory=dict)


class Gate:
    """One run of the gate; what it knows is written after each pair.

    Args:
        sources: Base and head.
        options: How it judges.
        store: That its folder lies in.
        watcher: Is told of each pair.
        command: That repeats it.
        measure: Measures one side once.
    """

    def __init__(
        self,
        sources: Sequence[SideSource],
        options: GateOptions,
        store: Store,
        watcher: GateWatcher,
        command: str,
        measure: MeasureSide = measure_side,
    ) -> None:
        self.sources, self.options, self.rule = sources, options, options.rule
        self.watcher, self.measure = watcher, measure
        self.random = np.random.default_rng(options.seed)
        self.cells: list[CasePair] = []
        self.looks = InterimLooks(0, self.rule)
        self.launches: list[tuple[GateRuns, GateRuns]] = []
        self.notes: tuple[str, ...] = ()
        self.failures = 0  # of launches, since the last whole pair
        self.gate = GateFile(
            gate_id=new_id("gate", {path.name for path in (store.path / GATES).glob("*")}),
            created_at=utc_now(),
            command=command,
            seed=options.seed,
            rule=self.rule,
            base=sources[0].side,
            head=sources[1].side,
        )
        self.folder = gate_path(store, self.gate.gate_id)

    def run(self) -> GateFile:
        """Launch pair after pair until every cell is decided, or the last look was taken.

        Raises:
            GateError: Where a side can't be measured, or shares no case with the other.
            KeyboardInterrupt: What was measured until then is kept.
        """
        try:
            return self.look_after_look()
        finally:
            self.watcher.end()

    def look_after_look(self) -> GateFile:
        last = self.rule.looks[-1]
        for look in self.rule.looks:
            while len(self.gate.pairs) < look:
                self.measure_pair()
                self.keep(self.current())
                self.watcher.pair_ends(self.gate, look)
            self.looks.look(*self.ratios())
            settled = is_settled(self.looks.verdicts)
            self.keep(self.current(is_last=settled or look == last))
            following = next((each for each in self.rule.looks if each > look), None)
            self.watcher.look_ends(self.gate, None if settled else following)
            if settled:
                break
        self.keep(self.gate.model_copy(update={"is_finished": True}))
        return self.gate

    def measure_pair(self) -> None:
        """Launch both sides, one right after the other, in an order that chance decides."""
        is_head_first = bool(self.random.integers(2))
        number, began = len(self.gate.pairs) + 1, time.monotonic()
        ids: list[str | None] = [None, None]
        for side in (1, 0) if is_head_first else (0, 1):
            source = self.sources[side]
            self.watcher.launch_begins(self.gate, number, source.side)
            try:
                ids[side] = self.measure(source, self.store_of(side).path)
            except GateRunError:
                self.failures += 1
                if not self.gate.pairs or self.failures == MOST_FAILURES:
                    raise
        if None not in ids:
            self.failures = 0
        pair = Pair(
            is_head_first=is_head_first,
            base_sweep_id=ids[0],
            head_sweep_id=ids[1],
            wall_s=time.monotonic() - began,
        )
        if not self.gate.pairs:
            self.plan_cells(ids)
        base, head = (gate_runs_of(self.store_of(side), ids[side]) for side in (0, 1))
        self.launches.append((base, head))
        self.gate = self.gate.model_copy(update={"pairs": (*self.gate.pairs, pair)})

    def plan_cells(self, ids: Sequence[str | None]) -> None:
        """What is compared: the cases that both sides have planned."""
        sweeps = [self.sweep_of(side, ids[side]) for side in (0, 1)]
        base, head = (sweep.cases for sweep in sweeps)
        self.cells = match_cases(base, head)
        if not self.cells:
            raise GateError(
                f"{self.gate.base.label} and {self.gate.head.label} have no case in common: they "
                "may differ in axes of which each has one value, and must share the others."
            )
        self.looks = InterimLooks(len(self.cells), self.rule)
        notes = [
            f"compared: {axis} {getattr(base[0], axis)}, then {getattr(head[0], axis)}"
            for axis in axes_apart(base, head)
        ]
        notes += [
            f"{len(cases) - len(self.cells)} cases of {side.label} alone are not compared"
            for cases, side in zip((base, head), (self.gate.base, self.gate.head), strict=True)
            if len(cases) > len(self.cells)
        ]
        self.notes = tuple(notes)
        self.gate = self.gate.model_copy(update={"environment": sweeps[1].environment})

    def sweep_of(self, side: int, sweep_id: str | None) -> SweepFile:
        assert sweep_id is not None  # the first pair is whole
        try:
            return read_file(self.store_of(side).path / sweep_id / "sweep.json", SweepFile)
        except BrokenFileError as error:
            label = self.sources[side].side.label
            raise GateError(
                f"What {label} measured can't be read: {error}. Compare versions that keep the "
                "same form of records."
            ) from error

    def store_of(self, side: int) -> Store:
        return Store(self.folder / ("base", "head")[side])

    def ratios(self) -> tuple[np.ndarray, np.ndarray | None]:
        in_cycles = log_ratios(self.cells, self.launches, cycles)
        is_known = np.isfinite(in_cycles).any()
        return log_ratios(self.cells, self.launches), in_cycles if is_known else None

    def current(self, is_last: bool = False) -> GateFile:
        """What is known after the pairs so far."""
        found = estimate(self.ratios()[0], self.rule.margin)
        cells = [
            judged_cell(
                cell, self.looks.verdicts[row], self.looks.decided_at[row], found, row,
                self.launches,
            )
            for row, cell in enumerate(self.cells)
        ]  # fmt: skip
        shift = shared_shift(found.change, self.rule) if is_last else None
        notes = (*self.notes, *filter(None, [shift]))
        told = [self.with_context(cell, row, is_last) for row, cell in enumerate(cells)]
        return self.gate.model_copy(update={"cells": tuple(told), "notes": notes})

    def with_context(self, cell: Cell, row: int, is_last: bool) -> Cell:
        """With who has accepted it, what could have been seen, and which modules are to blame."""
        environment = self.gate.environment
        device = environment.device_name(cell.head.device) if environment is not None else ""
        context: dict[str, object] = {"sees": self.options.sees.get((device, cell.label))}
        if cell.verdict == "REGRESSED":
            # The newest word on a cell that covers how much slower it became.
            covering = (
                each
                for each in reversed(self.options.accepted)
                if each.case == cell.label and cell.ratio is not None and cell.ratio <= each.up_to
            )
            context["accepted"] = next(covering, None)
            if is_last:
                kinds = self.kinds(self.cells[row])
                context["modules"] = module_changes(self.cells[row], self.launches, kinds)
        return cell.model_copy(update=context)

    def kinds(self, cell: CasePair) -> dict[str, str]:
        """Of the modules, from the first launch of the head."""
        sweep_id = self.gate.pairs[0].head_sweep_id
        for record in self.store_of(1).read(sweep_id).records:
            if record.case_id == cell.head.case_id and record.measurement is not None:
                modules = record.measurement.modules or {}
                return {name: timing.kind for name, timing in modules.items()}
        return {}

    def keep(self, gate: GateFile) -> None:
        self.gate = gate
        write_whole(self.folder / "gate.json", to_json(self.gate))


EXIT_CODES: dict[Verdict, int] = {
    "REGRESSED": 1, "FAILED": 5, "NOT_COMPARABLE": 4, "CLOCK_DRIVEN": 3, "INCONCLUSIVE": 3,
    "IMPROVED": 0, "OK": 0,
}  # fmt: skip


def exit_code(gate: GateFile) -> int:
    """Of the worst verdict among its cells, in the order of EXIT_CODES; a regression that somebody
    has accepted is none.
    """
    told = {cell.verdict for cell in gate.cells if cell.accepted is None}
    return next((code for verdict, code in EXIT_CODES.items() if verdict in told), 0)
