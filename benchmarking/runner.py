"""Running a sweep: which cases are left, one after another, each stored as soon as it ends."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from results.schema import (
    RETRIED,
    Case,
    Environment,
    Record,
    Status,
    SweepFile,
    TimingPlan,
)
from results.store import BrokenFileError, Store, read_file

from .launchers import Launcher
from .protocol import Outcome
from .sweep import unsupported_reason


class Watcher(Protocol):
    """Is told what a sweep does; shows it to a person."""

    def begin(self, sweep: SweepFile, left: list[Case]) -> None: ...
    def case_begins(self, case: Case) -> None: ...
    def stage(self, name: str) -> None: ...
    def case_ends(self, record: Record) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class Options:
    """How to treat what is there, and what can't be.

    is_fresh: Begin a new sweep, also where an equal one can be resumed.
    prunes: Skip batch sizes above one that did not fit.
    """

    is_fresh: bool = False
    prunes: bool = True


def run_sweep(
    cases: list[Case],
    plan: TimingPlan,
    environment: Environment,
    store: Store,
    launcher: Launcher,
    watcher: Watcher,
    command: str,
    options: Options = Options(),
) -> str:
    """Measure the cases that are not measured yet; return the sweep's id.

    Raises:
        KeyboardInterrupt: After storing what was interrupted.
        SweepError: Where a person's file or setting can't be used.
        StoreError: Where the store can't be written.
    """
    sweep = find_or_plan(cases, plan, environment, store, command, options)
    stage = StageKeeper(watcher)
    with store.lock(sweep.sweep_id):
        store.write_sweep(sweep)
        done = finished(store, sweep.sweep_id, options)
        left = [case for case in cases if case.case_id not in done]
        watcher.begin(sweep, left)
        too_large = smallest_oom(done.values()) if options.prunes else {}
        try:
            for case in left:
                watcher.case_begins(case)
                started_at, began = utc_now(), time.monotonic()
                try:
                    outcome = run_case(case, plan, environment, launcher, stage, too_large)
                except KeyboardInterrupt:
                    stopped = Outcome(
                        status="interrupted",
                        stage=stage.name,
                        message="stopped by Ctrl-C",
                        wall_s=time.monotonic() - began,
                    )
                    store.write_record(make_record(sweep, case, stopped, started_at))
                    raise
                if options.prunes and does_not_fit(outcome):
                    too_large.setdefault(group(case), case.batch_size)
                record = make_record(sweep, case, outcome, started_at)
                store.write_record(record)  # at once, so a crash in a later case loses nothing
                watcher.case_ends(record)
        finally:
            watcher.end()  # first, since a second Ctrl-C may come while the launcher closes
            launcher.close()
    return sweep.sweep_id


def run_case(
    case: Case,
    plan: TimingPlan,
    environment: Environment,
    launcher: Launcher,
    on_stage: Callable[[str], None],
    too_large: dict[tuple[str, ...], int],
) -> Outcome:
    """Measure a case, unless it is known that it can't be."""
    reason = unsupported_reason(case, environment)
    if reason is not None:
        return not_measured("unsupported", reason)
    limit = too_large.get(group(case))
    if limit is not None and case.batch_size >= limit:
        return not_measured("skipped", f"oom at batch size {limit}")
    return launcher.measure(case, plan, on_stage)


class StageKeeper:
    """Passes stages on to a watcher and keeps the last one."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.name = "start"

    def __call__(self, name: str) -> None:
        self.name = name
        self.watcher.stage(name)


def does_not_fit(outcome: Outcome | Record) -> bool:
    """Whether the encoder itself ran out of memory, and not a later pass that needs more."""
    measurement = outcome.measurement
    return outcome.status == "oom" and (measurement is None or measurement.latency is None)


def not_measured(status: Status, message: str) -> Outcome:
    return Outcome(status=status, stage="plan", message=message, wall_s=0.0)


def group(case: Case) -> tuple[str, ...]:
    """Cases that differ in nothing but the batch size."""
    return (*case.family(), case.input)


def smallest_oom(records: Iterable[Record]) -> dict[tuple[str, ...], int]:
    """The smallest batch size of each group that did not fit."""
    smallest: dict[tuple[str, ...], int] = {}
    for record in records:
        if does_not_fit(record):
            known = smallest.get(group(record.case), record.case.batch_size)
            smallest[group(record.case)] = min(known, record.case.batch_size)
    return smallest


def finished(store: Store, sweep_id: str, options: Options) -> dict[str, Record]:
    """Records that a resumed sweep keeps, by case id."""
    again = RETRIED if options.prunes else (*RETRIED, "skipped")
    records = store.read(sweep_id).records
    return {record.case_id: record for record in records if record.status not in again}


def find_or_plan(
    cases: list[Case],
    plan: TimingPlan,
    environment: Environment,
    store: Store,
    command: str,
    options: Options,
) -> SweepFile:
    """The newest sweep of the store that is the same in all that matters, or a new one."""
    definition = definition_sha256(cases, plan, environment)
    for sweep_id in [] if options.is_fresh else reversed(store.sweep_ids()):
        try:
            sweep = read_file(store.path / sweep_id / "sweep.json", SweepFile)
        except BrokenFileError:
            continue
        if sweep.definition_sha256 == definition:
            return sweep
    return SweepFile(
        sweep_id=new_sweep_id(store, definition),
        definition_sha256=definition,
        command=command,
        created_at=utc_now(),
        plan=plan,
        cases=tuple(cases),
        environment=environment,
    )


def definition_sha256(cases: list[Case], plan: TimingPlan, environment: Environment) -> str:
    """What makes two sweeps the same: cases, plan, machine, and the code that measures."""
    machine = environment.model_dump(exclude={"notes", "os"})
    paths = [*(case.weights for case in cases if case.weights != "random"), plan.images]
    files = [describe_path(Path(path)) for path in dict.fromkeys(paths) if path is not None]
    content = [[case.model_dump() for case in cases], plan.model_dump(), machine, files]
    canonical = json.dumps(content, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def describe_path(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of the files of a folder.

    Folders in it are left out: the store may be one. So are links that lead nowhere.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [(str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file, stat in stats]


def new_sweep_id(store: Store, definition: str) -> str:
    """The time, so that ids sort by age, and a little of the definition."""
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{definition[:6]}"
    taken = set(store.sweep_ids())
    candidates = (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3)))
    return next(candidate for candidate in candidates if candidate not in taken)


def make_record(sweep: SweepFile, case: Case, outcome: Outcome, started_at: str) -> Record:
    return Record(
        sweep_id=sweep.sweep_id,
        case_id=case.case_id,
        case=case,
        plan=sweep.plan,
        environment=sweep.environment,
        command=sweep.command,
        started_at=started_at,
        status=outcome.status,
        stage=outcome.stage,
        message=outcome.message,
        stderr_tail=outcome.stderr_tail,
        measurement=outcome.measurement,
        wall_s=outcome.wall_s,
    )


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
