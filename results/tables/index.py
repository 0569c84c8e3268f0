"""Frames of a store's records, kept beside them so that viewing starts at once.

STORE/.index/files.json, which files were read, and what was wrong with some
STORE/.index/<frame>.parquet

Nothing is lost with it: delete it any time. Only files that are new or changed are read again; all
of them where roofs, peaks or our own code have changed, since the frames follow from these too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..answers.limits import with_roofs
from ..hardware.specs import Spec, store_specs
from ..records.addresses import (
    UnreachableError,
    failures,
    file_system,
    is_remote,
    key,
    read_many,
)
from ..records.case import AXES, SERIES_AXES, Case
from ..records.errors import one_line
from ..records.measurement import MeasuredRoofs
from ..records.quantities import SCHEMA_VERSION
from ..records.reading import BrokenFileError, Problem, read_file
from ..records.schema import Record
from ..records.store import Store, StoreError, write_whole
from .frames import (
    CASE_COLUMNS,
    COMPONENT_COLUMNS,
    IDENTITY,
    MODULE_COLUMNS,
    case_frame,
    component_frame,
    module_frame,
)
from .metrics import METRICS

FOLDER = ".index"
KEY = "record_id"
NEVER_READ = -1  # in the place of when a file changed: it is tried again the next time
FRAMES: dict[str, Callable[..., pd.DataFrame]] = {
    "cases": case_frame,
    "components": lambda records, peaks: component_frame(records),
    "modules": module_frame,
}
NUMBER_AXES = tuple(name for name in AXES if Case.model_fields[name].annotation is int)
COUNTS = (*NUMBER_AXES, "checks", "warnings", "invalid_checks")
BOOLEANS = ("is_synthetic", "is_resolved", "is_innermost")
KNOWN = {*CASE_COLUMNS, *COMPONENT_COLUMNS, *MODULE_COLUMNS}
# What tells rows of a frame apart: a record that was copied to another file counts once.
ROW = {"cases": [KEY], "components": [KEY, "pipeline", "component"], "modules": [KEY, "module"]}
WORTH_WRITING = 0.01  # share of files that changed; to read fewer again takes less than to write
# What a file of another program, or half a file, can lead to.
UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException,
)  # fmt: skip
# What services tell of a file that changes with its content.
MARKS = (
    "size",
    "ETag",
    "etag",
    "md5Hash",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)
CHUNK = 250  # files that one process reads at a time
FEWEST_FOR_PROCESSES = 4 * CHUNK  # files: starting processes takes a second


class File(NamedTuple):
    """A record's file as it was read: with another size, time or inode it has another content."""

    changed_ns: int
    size: int
    inode: int
    record_id: str | None = None
    reason: str | None = None  # why it was passed over


@dataclass(frozen=True)
class StoreIndex:
    """A store at a moment.

    version: Of all that frames follow from besides the records.
    files: By path below the store.
    frames: By name; `cases` has a row a record, the others those columns alone that it lacks.
    unsaved: How many files have changed since it was written down.
    """

    version: str
    files: Mapping[str, File] = field(default_factory=dict)
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    unsaved: int = 0

    @property
    def stamp(self) -> str:
        """Tells this moment from others."""
        content = json.dumps([self.version, sorted(self.files.items())])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def problems(self, store: Path) -> list[Problem]:
        return [
            Problem(store / path, file.reason) for path, file in self.files.items() if file.reason
        ]


def refresh(
    store: Store, old: StoreIndex | None = None, keep: bool = True, processes: int = 1
) -> StoreIndex:
    """A store as it is now; reads what has changed.

    Args:
        store: To read.
        old: What an earlier call gave; None takes what is kept on disk.
        keep: Whether to write it down for the next time, where the store can be written.
        processes: That read, where files are many. Each imports the program's main module, which
            must do nothing then.

    Raises:
        StoreError: Where there is no such folder.
        HardwareError: Where its file of peaks can't be used.
    """
    if not is_there(store):
        raise StoreError(
            f"There is no store '{store.path}': name one, or measure into it with: sam-bench "
            "quickstart"
        )
    version = version_of(store)
    if old is None or old.version != version:
        old = load(store.path / FOLDER, version) or StoreIndex(version)
    now = dict(scan(store))
    changed = {
        path: file
        for path, file in now.items()
        if path not in old.files or old.files[path][:3] != file[:3]
    }
    if not changed and len(now) == len(old.files) and old.frames:
        return old
    read = read_all(store, changed, processes) if changed else StoreIndex("")
    files = {path: old.files[path] for path in now if path not in read.files} | dict(read.files)
    unsaved = old.unsaved + len(changed) + len(old.files.keys() - now.keys())
    new = StoreIndex(version, files, merged(old, read, files), unsaved)
    if not keep or unsaved <= WORTH_WRITING * len(files):
        return new
    with suppress(StoreError, pa.ArrowException):  # what can't be written can still be shown
        save(store.path / FOLDER, new)
    return replace(new, unsaved=0)


def is_there(store: Store) -> bool:
    try:
        return store.path.is_dir()
    except failures(store.path) as error:
        raise StoreError(f"'{store.path}' can't be read: {one_line(error)}.") from error


def version_of(store: Store) -> str:
    """Of our code, and of what the store says of its devices."""
    roofs = sorted(each.model_dump_json() for each in store.read_roofs())
    peaks = sorted((name, str(peak)) for name, peak in store_specs(store.path).items())
    content = json.dumps([SCHEMA_VERSION, code_sha256(), roofs, peaks])
    return hashlib.sha256(content.encode()).hexdigest()


@lru_cache
def code_sha256() -> str:
    """Digest of the code of this package."""
    texts = (path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def scan(store: Store) -> Iterator[tuple[str, File]]:
    """All records' files, without reading them; one that vanishes meanwhile is left out."""
    if is_remote(store.path):
        yield from scan_address(store)
        return
    for sweep_id in store.sweep_ids():
        with suppress(OSError), os.scandir(store.path / sweep_id / "cases") as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat()
                    if entry.name.endswith(".json"):
                        yield f"{sweep_id}/cases/{entry.name}", file_of(status)


def scan_address(store: Store) -> Iterator[tuple[str, File]]:
    """The same in one listing; what tells two contents of a file apart depends on the service."""
    files, root = file_system(store.path), key(store.path)
    for name, facts in files.find(root, detail=True).items():
        path = name.removeprefix(root).strip("/")
        if re.fullmatch(r"[^/.][^/]*/cases/[^/]+\.json", path):
            content = [facts.get(mark) for mark in MARKS]
            digest = hashlib.sha256(repr(content).encode()).digest()
            changed_ns = int.from_bytes(digest[:7])
            yield path, File(changed_ns, int(facts.get("size") or 0), 0)


def file_of(status: os.stat_result) -> File:
    return File(status.st_mtime_ns, status.st_size, status.st_ino)


def read_all(store: Store, files: Mapping[str, File], processes: int) -> StoreIndex:
    """The frames of some files, which were listed so."""
    items = list(files.items())
    chunks = [dict(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK)]
    read = partial(read_chunk, store.path, store.read_roofs(), store_specs(store.path))
    if processes < 2 or len(files) < FEWEST_FOR_PROCESSES:
        parts = [read(chunk) for chunk in chunks]
    else:
        # Spawned: a server's threads may be running, which do not survive a fork.
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(read, chunks))
    found = {path: file for part in parts for path, file in part.files.items()}
    frames = {
        name: pd.concat([part.frames[name] for part in parts], ignore_index=True) for name in FRAMES
    }
    return StoreIndex("", found, frames)


def read_chunk(
    store: Path, roofs: list[MeasuredRoofs], peaks: Mapping[str, Spec], files: Mapping[str, File]
) -> StoreIndex:
    """Read some records; those that can't be read are named."""
    if is_remote(store):
        read = read_address(store, files)
    else:
        read = {path: read_one(store / path) for path in files}
    records = with_roofs((record for _, record in read.values() if record is not None), roofs)
    frames = {name: own_columns(name, make(records, peaks)) for name, make in FRAMES.items()}
    return StoreIndex("", {path: file for path, (file, _) in read.items()}, frames)


def read_one(path: Path) -> tuple[File, Record | None]:
    file = File(0, 0, 0)
    try:
        file = file_of(path.stat())
        record = read_file(path, Record)
    except OSError as error:
        return file._replace(reason=f"it can't be read: {error.strerror}"), None
    except BrokenFileError as error:
        return file._replace(reason=str(error)), None
    return file._replace(record_id=record.record_id), record


def read_address(store: Path, files: Mapping[str, File]) -> dict[str, tuple[File, Record | None]]:
    """Many files at once. One that has changed since it was listed is read again the next time."""
    read: dict[str, tuple[File, Record | None]] = {}
    contents = read_many([store / path for path in files])
    for (path, file), content in zip(files.items(), contents, strict=True):
        try:
            record = read_file(store / path, Record, content)
            read[path] = file._replace(record_id=record.record_id), record
        except BrokenFileError as error:
            read[path] = file._replace(reason=str(error)), None
        except UnreachableError as error:
            reason = f"it can't be read: {one_line(error)}"
            read[path] = file._replace(changed_ns=NEVER_READ, reason=reason), None
    return read


def own_columns(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Of each record's case in `cases` alone; other frames know it by its key."""
    told = [] if name == "cases" else [column for column in IDENTITY if column != KEY]
    return typed(frame.drop(columns=told))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """With the same types whatever the rows hold, so that frames of other rows can be added."""
    return frame.astype({column: type_of(column) for column in frame.columns})


def type_of(column: str) -> str:
    if column in COUNTS:
        return "int64"
    if column in BOOLEANS:
        return "boolean"
    is_of_a_pass = column not in KNOWN
    return "float64" if column in METRICS or is_of_a_pass else "object"


def merged(old: StoreIndex, read: StoreIndex, files: Mapping[str, File]) -> dict[str, pd.DataFrame]:
    """The rows of all files that are there, by sweep and age; those read again replace theirs."""
    again = {file.record_id for file in read.files.values()}
    kept = {file.record_id for file in files.values()} - again
    frames = {}
    for name in FRAMES:
        parts = [each.frames[name] for each in (old, read) if name in each.frames]
        if name in old.frames:
            parts[0] = parts[0][parts[0][KEY].isin(kept)]
        both = pd.concat(parts or [own_columns(name, FRAMES[name]([], None))], ignore_index=True)
        frames[name] = both.drop_duplicates(ROW[name], keep="last")
    cases = frames["cases"]
    order = ["sweep_id", "started_at", *SERIES_AXES, "batch_size"]
    cases = cases.sort_values(order, kind="stable", ignore_index=True)
    place = pd.Series(cases.index, index=cases[KEY])
    for name, frame in frames.items():
        in_order = frame[KEY].map(place).argsort(kind="stable")
        frames[name] = cases if name == "cases" else frame.iloc[in_order].reset_index(drop=True)
    return frames


def load(folder: Path, version: str) -> StoreIndex | None:
    """What was written down; None where it is of another version, or not whole."""
    try:
        kept = json.loads((folder / "files.json").read_text())
        files = {path: File(*file) for path, file in kept["files"].items()}
        if kept["version"] != version:
            return None
        old = StoreIndex(version, files)
        tables = {
            name: pq.read_table(io.BytesIO((folder / f"{name}.parquet").read_bytes()))
            for name in FRAMES
        }
        stamps = {(table.schema.metadata or {}).get(b"stamp") for table in tables.values()}
        if stamps != {old.stamp.encode()}:
            return None
        frames = {name: typed(table.to_pandas()) for name, table in tables.items()}
    except UNREADABLE:
        return None
    return StoreIndex(version, files, frames)


def save(folder: Path, indexed: StoreIndex) -> None:
    """Write it down: the list of files last, so that a half-written index is none."""
    stamp = indexed.stamp
    for name, frame in indexed.frames.items():
        table = pa.Table.from_pandas(frame, preserve_index=False)
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"stamp": stamp}), buffer)
        write_whole(folder / f"{name}.parquet", buffer.getvalue())
    content = {"version": indexed.version, "files": indexed.files}
    write_whole(folder / "files.json", json.dumps(content))
