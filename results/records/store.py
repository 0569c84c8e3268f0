"""Records on disk: one JSON file a case, written whole, read strictly.

STORE/<sweep_id>/sweep.json
STORE/<sweep_id>/cases/<case_id>.json
STORE/<sweep_id>/traces/<case_id>.json.gz, where they were asked for
STORE/roofs/<device>.json, by doctor --calibrate
STORE/hardware.toml, a person's own peaks of GPUs
STORE/prices.toml, a person's own prices of GPUs

STORE is a folder, or an address that fsspec knows.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from .addresses import (
    TEMPORARY,
    UnreachableError,
    exists,
    failures,
    holding,
    is_remote,
    open_address,
    read_many,
    write_file,
)
from .errors import UserError, one_line
from .measurement import MeasuredRoofs
from .reading import BrokenFileError, Problem, read_file, read_into
from .schema import Record, SweepEnd, SweepFile

ROOFS = "roofs"  # a folder beside those of the sweeps
MANY = 500  # files that are read at a time
DEFINITION_DIGITS = 6  # of a sweep's definition, at the end of its id
ADVICE = "Name another store with --store, or make room."


class StoreError(UserError):
    """A store can't be read or written."""


class LockedError(StoreError):
    """Another process is running the sweep."""


@dataclass
class Contents:
    """What was read of a store."""

    records: list[Record] = field(default_factory=list)
    sweeps: list[SweepFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Store:
    """A folder of sweeps.

    Args:
        path: Made at the first write; may be an address such as "s3://bucket/runs".
        takes_over: Replace locks that dead processes left in an object store.
    """

    def __init__(self, path: str | Path, takes_over: bool = False) -> None:
        self.path = open_address(path) if isinstance(path, str) else path
        self.takes_over = takes_over
        self._sweeps: dict[str, SweepFile] = {}

    def case_path(self, sweep_id: str, case_id: str) -> Path:
        return self.path / sweep_id / "cases" / f"{case_id}.json"

    def write_sweep(self, sweep: SweepFile) -> None:
        write_whole(self.path / sweep.sweep_id / "sweep.json", to_json(sweep))
        self._sweeps[sweep.sweep_id] = sweep

    def write_record(self, record: Record) -> None:
        """Store a record; one of the same case and sweep is replaced whole.

        Where somebody has removed the folder meanwhile, the plan that was written is so again: the
        same sweep can then measure what went with it.

        Raises:
            StoreError: Where it can't be written.
        """
        sweep = self._sweeps.get(record.sweep_id)
        if sweep is not None:
            plan = self.path / sweep.sweep_id / "sweep.json"
            with writing(plan):
                is_there = exists(plan)
            if not is_there:
                self.write_sweep(sweep)
        write_whole(self.case_path(record.sweep_id, record.case_id), to_json(record))

    def trace_path(self, sweep_id: str, case_id: str) -> Path:
        return self.path / sweep_id / "traces" / f"{case_id}.json.gz"

    def write_trace(self, record: Record, trace: bytes) -> None:
        """Store a case's Chrome trace, gzipped JSON."""
        write_whole(self.trace_path(record.sweep_id, record.case_id), trace)

    def write_end(self, end: SweepEnd) -> None:
        write_whole(self.path / end.sweep_id / "end.json", to_json(end))

    def remove_end(self, sweep_id: str) -> None:
        path = self.path / sweep_id / "end.json"
        with writing(path):
            path.unlink(missing_ok=True)

    def read_end(self, sweep_id: str) -> SweepEnd | None:
        """What a sweep said at its end; None where it came to none, or that can't be read."""
        try:
            return read_file(self.path / sweep_id / "end.json", SweepEnd)
        except (BrokenFileError, UnreachableError):
            return None

    def write_roofs(self, roofs: MeasuredRoofs) -> Path:
        """Store what a device reached; an older record of the same device is replaced."""
        identity = f"{roofs.device} {roofs.torch} {roofs.threads}"
        name = hashlib.sha256(identity.encode()).hexdigest()[:16]
        path = self.path / ROOFS / f"{name}.json"
        write_whole(path, to_json(roofs))
        return path

    def read_roofs(self) -> list[MeasuredRoofs]:
        """What devices reached; files that can't be used are passed over."""
        found: list[MeasuredRoofs] = []
        for path in case_files(self.path / ROOFS, []):
            read_into(found, path, MeasuredRoofs, [])
        return found

    def sweep_ids(self) -> list[str]:
        """Ids of all sweeps, oldest first: an id begins with its time."""
        try:
            # Also where one of the two is missing or broken: reading names it.
            return sorted(
                entry.name
                for entry in self.path.iterdir()
                if not entry.name.startswith(".")
                and (exists(entry / "sweep.json") or exists(entry / "cases"))
            )
        except FileNotFoundError:
            return []
        except failures(self.path) as error:
            if is_absent(self.path, error):
                return []
            what = "can't be read" if is_remote(self.path) else "must be a folder"
            raise StoreError(f"'{self.path}' {what}: {one_line(error)}.") from error

    def read(self, sweep_id: str | None = None) -> Contents:
        """Read all sweeps, or one; files that can't be used are named in `problems`."""
        contents, ids = Contents(), self.sweep_ids()
        if sweep_id is not None and sweep_id not in ids:
            raise StoreError(f"There is no sweep {ascii(sweep_id)[:80]} in '{self.path}'.")
        for each in ids if sweep_id is None else [sweep_id]:
            sweeps: list[SweepFile] = []
            read_into(sweeps, self.path / each / "sweep.json", SweepFile, contents.problems)
            contents.sweeps += sweeps
            # In the order in which they were planned.
            planned = [case.case_id for sweep in sweeps for case in sweep.cases]
            position = {case_id: index for index, case_id in enumerate(planned)}
            contents.records += sorted(
                self.iterate(each, contents.problems),
                key=lambda record: position.get(record.case_id, len(position)),
            )
        return contents

    def iterate(self, sweep_id: str, problems: list[Problem]) -> Iterator[Record]:
        """A sweep's records, never all of them in memory; by name."""
        paths = case_files(self.path / sweep_id / "cases", problems)
        for start in range(0, len(paths), MANY):
            some = paths[start : start + MANY]
            # A path of this machine one by one, since what is no file must not be opened.
            data = read_many(some) if is_remote(self.path) else [None] * len(some)
            for path, content in zip(some, data, strict=True):
                found: list[Record] = []
                read_into(found, path, Record, problems, content)
                yield from found

    def known(self, sweep_id: str) -> Iterator[Record]:
        """What was measured, never all of it in memory; what can't be used was not.

        Raises:
            UnreachableError: At the end, where something could not be read: it may be a record.
        """
        problems: list[Problem] = []
        yield from self.iterate(sweep_id, problems)
        for problem in problems:
            if problem.is_unread:
                raise UnreachableError(errno.EIO, f"'{problem.path}': {problem.reason}")

    def read_cases(self, sweep_id: str, case_ids: Iterable[str]) -> list[Record]:
        """Some records of a sweep; what is not there or can't be used is left out.

        Raises:
            UnreachableError: Where an address does not tell.
        """
        found: list[Record] = []
        for case_id in case_ids:
            with suppress(BrokenFileError):
                found.append(read_file(self.case_path(sweep_id, case_id), Record))
        return found

    @contextmanager
    def lock(self, sweep_id: str) -> Iterator[list[Path]]:
        """Hold a sweep for writing; gives the temporary files of dead writers, which it removes.

        Raises:
            LockedError: Where another process holds it.
            StoreError: Where the folder can't be written or locked.
        """
        path = self.path / sweep_id / ".lock"
        if not is_remote(path):
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(holding(path, self.takes_over))
            except BlockingIOError as error:
                who, hint = "", ""
                if is_remote(path):
                    who = f" ({one_line(error)})"
                    hint = f" If it is dead, delete '{path}', or use sam-bench sweep --take-over."
                raise LockedError(
                    f"Another process is running sweep {sweep_id} in '{self.path}'{who}: wait for "
                    f"it, or name another store with --store.{hint}"
                ) from error
            except failures(path) as error:  # some network disks
                raise StoreError(
                    f"'{path}' can't be locked: {one_line(error)}. Name another store with --store."
                ) from error
            dead = left_overs(path.parent)
            with writing(path):
                for temporary in dead:
                    temporary.unlink(missing_ok=True)
            yield dead


def is_absent(path: Path, error: Exception) -> bool:
    """Whether an address can't be listed since there is nothing at it."""
    return is_remote(path) and isinstance(error, NotADirectoryError) and not exists(path)


def left_overs(folder: Path) -> list[Path]:
    """A sweep's temporary files: of dead writers, where nobody is running it."""
    if is_remote(folder):
        return []
    found = (*folder.glob(f".*{TEMPORARY}"), *folder.glob(f"*/.*{TEMPORARY}"))
    return sorted(path for path in found if path.is_symlink() or path.is_file())


def case_files(folder: Path, problems: list[Problem]) -> list[Path]:
    """A sweep's records; a folder that can't be listed is named, since its records are missed."""
    try:
        found = (path for path in folder.iterdir() if path.suffix == ".json")
        return sorted(found, key=lambda path: path.name)
    except FileNotFoundError:  # no case is done yet
        return []
    except failures(folder) as error:
        if is_absent(folder, error):
            return []
        reason = f"it can't be listed: {one_line(error)}"
        problems.append(Problem(folder, reason, is_unread=True))
        return []


def to_json(form: BaseModel) -> str:
    try:
        return form.model_dump_json() + "\n"
    except PydanticSerializationError as error:  # half of a surrogate pair
        raise StoreError(f"A record must hold text that UTF-8 can: {error}.") from error


def write_whole(path: Path, content: str | bytes, advice: str = ADVICE) -> None:
    """Write so that a reader, or a crash at any moment, meets the old file or the new, never half.

    Args:
        advice: What to do if the file can't be written.

    Raises:
        StoreError: The disk does not take it; the old file stays.
    """
    with writing(path, advice):
        write_file(path, content.encode() if isinstance(content, str) else content)


@contextmanager
def writing(path: Path, advice: str = ADVICE) -> Iterator[None]:
    """Turn what the operating system says into one clear line."""
    try:
        yield
    except failures(path) as error:
        raise StoreError(f"'{path}' can't be written: {one_line(error)}. {advice}") from error
