"""Stores put together: each file once, what two stores tell differently named, nothing lost.

Records of shards, and of machines that share no disk, become one store. A sweep may be in several
of them, as far as each has run it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import groupby
from pathlib import Path

from .addresses import exists, failures, file_system, is_remote, key
from .errors import one_line
from .reading import BrokenFileError, check_version, parse_json, read_file
from .repair import DIGITS
from .schema import RETRIED, Record, SweepEnd, SweepFile
from .store import Store, StoreError, write_whole
from .upgrades import upgraded

CONFLICTS = "conflicts"  # a folder beside those of the sweeps


class FileRank(IntEnum):
    """Of two files that differ the better one is kept: a sweep that goes on replaces the others."""

    BROKEN, REBUILT, RETRIED, NOT_TRIED, ANSWER = range(5)


@dataclass
class MergeResult:
    """What became of the files of all stores.

    copied: That the target lacked.
    same: That it had.
    replaced: By a better one, or better than that of another store: a case that crashed in one and
        was measured in the other.
    conflicts: What two stores tell differently, and which of them is kept.
    """

    copied: int = 0
    same: int = 0
    replaced: int = 0
    conflicts: list[str] = field(default_factory=list)


def merge(sources: Sequence[Store], target: Store) -> MergeResult:
    """Copy all that the sources hold to the target, which may hold something already.

    Of two answers that differ the first is kept, and the other lies in the target's folder
    "conflicts", under its own path and a digest of its content. Sources are not changed.

    Raises:
        LockedError: Where a process runs one of the sweeps in the target.
        StoreError: Where a source is not there or can't be read, or the target not be written.
        UnreachableError: Where an address does not tell what is there.
    """
    for source in sources:
        check_source(source, target)
    merged = MergeResult()
    for source in sources:
        sweep_ids = source.sweep_ids()
        for name, places in groupby(files_of(source.path), lambda place: place.split("/")[0]):
            with target.lock(name) if name in sweep_ids else nullcontext():
                for place in places:
                    add(source.path, target.path, place, merged)
    return merged


def check_source(source: Store, target: Store) -> None:
    if not source.sweep_ids():
        raise StoreError(f"A store to merge must hold records, and '{source.path}' holds none.")
    paths = (source.path, target.path)
    one, other = (f"{path if is_remote(path) else path.resolve()}/" for path in paths)
    if one.startswith(other) or other.startswith(one):
        raise StoreError(
            f"The target '{target.path}' must be none of the stores to merge, nor lie in one, and "
            f"'{source.path}' is one: name a new one with -o."
        )


def files_of(root: Path) -> Iterator[str]:
    """Where a store's files lie below it; plans before their cases, so that a reader knows them.

    Left out is what begins with a dot: made anew from the records, or of use to its writer alone.
    """
    if not is_remote(root):
        yield from walked(root)
        return
    try:
        found = file_system(root).find(key(root))
    except Exception as error:
        raise StoreError(f"'{root}' can't be listed: {one_line(error)}.") from error
    places = [name.removeprefix(key(root)).strip("/") for name in found]
    places.sort(key=lambda place: (place.split("/")[0], place.count("/"), place))
    yield from (place for place in places if "/." not in f"/{place}")


def walked(folder: Path, below: str = "") -> Iterator[str]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
    except OSError as error:
        raise StoreError(f"'{folder}' can't be listed: {one_line(error)}.") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walked(entry, f"{below}{entry.name}/")
        else:
            yield below + entry.name


def add(source: Path, target: Path, place: str, merged: MergeResult) -> None:
    """One file of a source."""
    new = read(source / place)
    if not exists(target / place):
        write_whole(target / place, new)
        merged.copied += 1
        return
    old = read(target / place)
    if new == old or is_same(target / place, source / place):
        merged.same += 1
        return
    before, after = rank(target / place), rank(source / place)
    aside = old if after > before else new
    digest = hashlib.sha256(aside).hexdigest()[:8]
    write_whole(target / CONFLICTS / f"{place}.{digest}", aside)  # first: nothing is lost between
    if after > before:
        write_whole(target / place, new)
    if before != after:
        merged.replaced += 1
    else:
        merged.conflicts.append(
            f"{place}: '{source}' tells it differently; the first is kept, the other is in "
            f"'{target / CONFLICTS}'"
        )


def is_same(one: Path, other: Path) -> bool:
    """Whether two files say the same, if in the words of two versions."""
    form = form_of(one)
    try:
        if form is not None:
            return bool(read_file(one, form) == read_file(other, form))
        first, second = (
            upgraded(check_version(parse_json(read(path).decode()))) for path in (one, other)
        )
        return first == second
    except (BrokenFileError, UnicodeDecodeError):
        return False


def form_of(path: Path) -> type[Record | SweepFile | SweepEnd] | None:
    """What a file of a sweep is read as."""
    if path.parent.name == "cases":
        return Record
    if path.name == "sweep.json":
        return SweepFile
    return SweepEnd if path.name == "end.json" else None


def read(path: Path) -> bytes:
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            raise StoreError(f"'{path}' must be a file, and it is none: remove it.")
        return path.read_bytes()
    except StoreError:
        raise
    except failures(path) as error:
        raise StoreError(f"'{path}' can't be read: {one_line(error)}.") from error


def rank(path: Path) -> tuple[FileRank, str]:
    """Of two files at one place the higher is kept; of what two runs of a sweep said at their end,
    the later.
    """
    form = form_of(path)
    try:
        found = read_file(path, form) if form is not None else None
    except BrokenFileError:
        return FileRank.BROKEN, ""
    if isinstance(found, Record) and found.status in RETRIED:
        return FileRank.RETRIED, ""
    if isinstance(found, Record) and found.status in ("skipped", "unsupported"):
        return FileRank.NOT_TRIED, ""
    if isinstance(found, SweepFile) and len(found.definition_sha256) != DIGITS:
        return FileRank.REBUILT, ""
    return FileRank.ANSWER, found.ended_at if isinstance(found, SweepEnd) else ""
