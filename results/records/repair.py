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

from .addresses import exists, failures, is_held, is_remote, sync_folder
from .case import Case
from .environment import OF_ONE_MACHINE
from .errors import one_line
from .reading import BrokenFileError, Form, OtherVersionError, Problem, read_file
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
    def missing(self) -> list[Case]:
        """Planned cases without a record."""
        done = {record.case_id for record in self.records.values()}
        return [case for case in self.planned if case.case_id not in done]

    @property
    def misnamed(self) -> list[Path]:
        """Records under another name than their case_id."""
        return [path for path, record in self.records.items() if path.stem != record.case_id]

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
    broken: list[Problem] = []
    look.sweep = read(look.folder / "sweep.json", SweepFile, broken, look.other_version)
    look.sweep_problem = broken[0].reason if broken else None
    for path in case_files(look.folder / "cases", look.unusable):
        record = read(path, Record, look.unusable, look.other_version)
        if record is not None:
            look.records[path] = record
    end = look.folder / "end.json"
    if exists(end):  # a sweep that was stopped has none
        read(end, SweepEnd, look.unusable, look.other_version)
    look.left_over = [] if look.is_running else left_overs(look.folder)
    return look


def read(
    path: Path, form: type[Form], broken: list[Problem], other_version: list[Problem]
) -> Form | None:
    """A file's content; None if it can't be used, which is added to one of the lists."""
    try:
        return read_file(path, form)
    except OtherVersionError as error:
        other_version.append(Problem(path, str(error)))
    except BrokenFileError as error:
        broken.append(Problem(path, str(error)))
    return None


def describe(look: SweepReport) -> list[str]:
    """What was found, a line each; the counts first."""
    planned = str(len(look.planned)) if look.sweep else "unknown"
    lines = [f"{planned} planned cases, {len(look.records)} good records"]
    if look.is_running:
        lines.append("another process is running it")
    if look.sweep is not None and len(look.sweep.definition_sha256) < DIGITS:
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
    own = look.sweep.sweep_id if look.sweep else look.sweep_id
    if own != look.sweep_id:
        yield f"a copy, or renamed: its sweep.json is that of sweep {own}"
    for path, record in look.records.items():
        if record.sweep_id != own:
            yield f"a record of sweep {record.sweep_id}: {path}"
    planned = {case.case_id for case in look.planned}
    for path, record in look.records.items():
        if look.sweep is not None and record.case_id not in planned:
            yield f"a record of a case that was not planned: {path} ({record.case.label})"


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
        target = store.case_path(look.sweep_id, look.records[path].case_id)
        if exists(target):
            aside = set_aside(look.folder, path)
            yield f"moved {path} to {aside}: {target} is a record of the same case"
        else:
            move(path, target)
            yield f"renamed {path} to {target}: its case_id"
    if look.sweep_problem is not None:
        yield from mend_plan(store, look)
    for problem in look.other_version:
        yield f"left alone: {problem.path}: {problem.reason}"
    yield from (f"left alone: {line}" for line in oddities(look))


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
    # What they have in common, whichever machine of a fleet made them.
    shared = [
        (record.plan, record.environment.model_dump(exclude=set(OF_ONE_MACHINE))) for record in own
    ]
    if not own or any(each != shared[0] for each in shared):
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
