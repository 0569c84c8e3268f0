"""Looking a store over, and mending what can be mended without losing anything.

What can't be used is moved to STORE/<sweep_id>/broken/, never deleted.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .addresses import exists, failures, is_held, is_remote, sync_folder
from .case import Case
from .environment import OF_ONE_MACHINE
from .errors import one_line
from .plan import TimingPlan
from .reading import BrokenFileError, OtherVersionError, Problem, read_file
from .schema import Record, SweepEnd, SweepFile
from .store import (
    DEFINITION_DIGITS,
    LockedError,
    Store,
    StoreError,
    case_files,
    left_overs,
    writing,
)

DIGITS = 64  # of a definition; a rebuilt plan knows those in the sweep's id alone


@dataclass
class SweepReport:
    """What was found in one sweep's folder.

    is_running: Whether another process holds its lock; what is missing then may still come.
    sweep_problem: Why there is no sweep.json that can be used.
    unusable: Files that no version can use.
    other_version: Files that another version may be able to use.
    """

    folder: Path
    is_running: bool = False
    sweep: SweepFile | None = None
    sweep_problem: str | None = None
    records: dict[Path, Record] = field(default_factory=dict)
    unusable: list[Problem] = field(default_factory=list)
    other_version: list[Problem] = field(default_factory=list)
    left_over: list[Path] = field(default_factory=list)

    @property
    def sweep_id(self) -> str:
        return self.folder.name

    @property
    def planned(self) -> tuple[Case, ...]:
        return self.sweep.cases if self.sweep else ()

    @property
    def is_rebuilt(self) -> bool:
        """Whether sweep.json was made from records, so that the plan may lack cases."""
        return self.sweep is not None and len(self.sweep.definition_sha256) < DIGITS

    @property
    def missing(self) -> list[Case]:
        """Planned cases without a record."""
        done = {record.case_id for record in self.records.values()}
        return [case for case in self.planned if case.case_id not in done]

    @property
    def unplanned(self) -> list[Path]:
        """Records of cases that were not planned."""
        planned = {case.case_id for case in self.planned}
        known = self.sweep is not None
        return [
            path for path, each in self.records.items() if known and each.case_id not in planned
        ]

    @property
    def misnamed(self) -> list[Path]:
        """Records under another name than their case_id."""
        return [path for path, record in self.records.items() if path.stem != record.case_id]

    @property
    def strangers(self) -> list[Path]:
        """Records of another sweep."""
        own = self.sweep.sweep_id if self.sweep else self.sweep_id
        return [path for path, record in self.records.items() if record.sweep_id != own]

    @property
    def is_fine(self) -> bool:
        return not list(faults(self))


def look_over(store: Store) -> list[SweepReport]:
    """Look at every sweep of a store; nothing is changed."""
    return [look_at(store, sweep_id) for sweep_id in store.sweep_ids()]


def look_at(store: Store, sweep_id: str, is_ours: bool = False) -> SweepReport:
    """Look at one sweep.

    Args:
        is_ours: Whether this process holds the sweep's lock.
    """
    look = SweepReport(store.path / sweep_id)
    # Before the rest, since it may end meanwhile.
    look.is_running = not is_ours and is_held(look.folder / ".lock")
    try:
        look.sweep = read_file(look.folder / "sweep.json", SweepFile)
    except OtherVersionError as error:
        look.other_version.append(Problem(look.folder / "sweep.json", str(error)))
    except BrokenFileError as error:
        look.sweep_problem = str(error)
    for path in case_files(look.folder / "cases", look.unusable):
        read_record(look, path)
    look_at_end(look)
    look.left_over = [] if look.is_running else left_overs(look.folder)
    return look


def read_record(look: SweepReport, path: Path) -> None:
    try:
        look.records[path] = read_file(path, Record)
    except OtherVersionError as error:
        look.other_version.append(Problem(path, str(error)))
    except BrokenFileError as error:
        look.unusable.append(Problem(path, str(error)))


def look_at_end(look: SweepReport) -> None:
    """A sweep that was stopped has no end.json; one that is there must be of use."""
    path = look.folder / "end.json"
    try:
        if exists(path):
            read_file(path, SweepEnd)
    except OtherVersionError as error:
        look.other_version.append(Problem(path, str(error)))
    except BrokenFileError as error:
        look.unusable.append(Problem(path, str(error)))


def describe(look: SweepReport) -> list[str]:
    """What was found, a line each; the counts first."""
    planned = str(len(look.planned)) if look.sweep else "unknown"
    lines = [f"{planned} planned cases, {len(look.records)} good records"]
    if look.is_running:
        lines.append("another process is running it")
    if look.is_rebuilt:
        lines.append("sweep.json was rebuilt from records: the plan may lack cases")
    return [f"{look.sweep_id}: {line}" for line in (*lines, *faults(look))]


def faults(look: SweepReport) -> Iterator[str]:
    """What is not as it should be, a line each."""
    if look.sweep_problem is not None:
        yield f"can't be used: {look.folder / 'sweep.json'}: {look.sweep_problem}"
    for problem in (*look.unusable, *look.other_version):
        yield f"can't be used: {problem.path}: {problem.reason}"
    yield from oddities(look)
    for path in look.misnamed:
        yield f"under another name than its case_id {look.records[path].case_id}: {path}"
    for path in look.left_over:
        yield f"left over by a writer that died: {path}"
    if look.missing and not look.is_running:
        command = look.sweep.command if look.sweep else ""
        yield (
            f"{len(look.missing)} planned cases without a record, the first "
            f"{look.missing[0].label}: the same sweep, typed again, measures them: {command}"
        )


def oddities(look: SweepReport) -> Iterator[str]:
    """What nothing but a person can judge."""
    if look.sweep is not None and look.sweep.sweep_id != look.sweep_id:
        yield f"a copy, or renamed: its sweep.json is that of sweep {look.sweep.sweep_id}"
    for path in look.strangers:
        yield f"a record of sweep {look.records[path].sweep_id}: {path}"
    for path in look.unplanned:
        yield f"a record of a case that was not planned: {path} ({look.records[path].case.label})"


def repair(store: Store) -> Iterator[str]:
    """Mend every sweep that nobody is running; gives a line for each thing done or left.

    Raises:
        StoreError: Where the store can't be written.
    """
    for sweep_id in store.sweep_ids():
        try:
            with store.lock(sweep_id) as removed:
                done = [f"removed {path}: left over by a writer that died" for path in removed]
                done += mend(store, sweep_id)
        except LockedError:
            done = ["left alone: another process is running it"]
        yield from (f"{sweep_id}: {line}" for line in done)


def mend(store: Store, sweep_id: str) -> Iterator[str]:
    """Mend a sweep whose lock is held."""
    look = look_at(store, sweep_id, is_ours=True)
    for problem in look.unusable:
        if problem.path == look.folder / "cases" and problem.path.is_dir():
            yield f"left alone: {problem.path}: {problem.reason}"  # its records may be good
        else:
            aside = set_aside(look.folder, problem.path)
            yield f"moved {problem.path} to {aside}: {problem.reason}"
    for path in look.misnamed:
        yield rename(store, look, path)
    if look.sweep_problem is not None:
        yield from mend_plan(store, look)
    for problem in look.other_version:
        yield f"left alone: {problem.path}: {problem.reason}"
    yield from (f"left alone: {line}" for line in oddities(look))


def rename(store: Store, look: SweepReport, path: Path) -> str:
    """Give a record the name that readers and writers look for, where no other has it."""
    target = store.case_path(look.sweep_id, look.records[path].case_id)
    if exists(target):
        aside = set_aside(look.folder, path)
        return f"moved {path} to {aside}: {target} is a record of the same case"
    move(path, target)
    return f"renamed {path} to {target}: its case_id"


def mend_plan(store: Store, look: SweepReport) -> Iterator[str]:
    """Make a sweep.json that can be used, of what the records tell."""
    path = look.folder / "sweep.json"
    if exists(path):
        yield f"moved {path} to {set_aside(look.folder, path)}: {look.sweep_problem}"
    sweep = rebuilt_plan(look.sweep_id, look.records.values())
    if sweep is not None:
        store.write_sweep(sweep)
        yield (
            f"rebuilt {path} from {len(sweep.cases)} records; the plan may lack cases that have "
            f"none: the same sweep, typed again, completes it: {sweep.command}"
        )
    elif look.records:
        yield f"left alone: {path} can't be rebuilt from records that share no plan and software"
    else:
        if not is_remote(path):  # where there are no empty folders, and to remove one empties it
            with suppress(OSError):
                path.with_name("cases").rmdir()  # so that it is no sweep any more, if it is empty
        yield f"{path} can't be rebuilt: there is no record that can be used"


def rebuilt_plan(sweep_id: str, records: Iterable[Record]) -> SweepFile | None:
    """The plan of cases that have a record, in the order in which they ran.

    Of its definition the first digits are known: those in the sweep's id. None where records of
    this sweep are missing, or made by more than one plan or state of the software.
    """
    own = [record for record in records if record.sweep_id == sweep_id]
    own.sort(key=lambda record: (record.started_at, record.case.batch_size, record.case_id))
    if not own or any(made_by(record) != made_by(own[0]) for record in own):
        return None
    digits = re.search(rf"-([0-9a-f]{{{DEFINITION_DIGITS}}})(-[0-9]+)?$", sweep_id)
    return SweepFile(
        sweep_id=sweep_id,
        definition_sha256=digits[1] if digits else "unknown",
        command=own[0].command,
        created_at=own[0].started_at,
        plan=own[0].plan,
        cases=tuple({record.case_id: record.case for record in own}.values()),
        environment=own[0].environment,
    )


def made_by(record: Record) -> tuple[TimingPlan, dict[str, Any]]:
    """What a sweep's records have in common, whichever machine of a fleet made them."""
    return record.plan, record.environment.model_dump(exclude=set(OF_ONE_MACHINE))


def set_aside(folder: Path, path: Path) -> Path:
    """Move a file of a sweep to its folder of broken ones, under a name that is free there."""
    broken = folder / "broken"
    with writing(broken):
        broken.mkdir(exist_ok=True)
    names = itertools.chain([path.name], (f"{path.name}.{n}" for n in itertools.count(2)))
    target = next(broken / name for name in names if not exists(broken / name))
    move(path, target)
    return target


def move(path: Path, target: Path) -> None:
    """Rename for good; StoreError where the disk does not take it."""
    try:
        path.rename(target)
        sync_folder(target.parent)
        sync_folder(path.parent)
    except failures(path) as error:
        raise StoreError(f"'{path}' can't be moved to '{target}': {one_line(error)}.") from error
