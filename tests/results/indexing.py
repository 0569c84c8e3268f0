"""What tests of the index share: what it must say, and how a store changes."""

from __future__ import annotations

import os
from collections import Counter

from results.answers.limits import with_roofs
from results.hardware.specs import store_specs
from results.records.addresses import file_system, is_remote, key
from results.tables.frames import case_frame, component_frame, module_frame
from results.tables.index import FRAMES

SIZES = (1, 2, 4)


def rows(frame):
    """Of a frame, each with how often it stands there; a missing value is None."""
    plain = frame.astype(object).where(frame.notna(), None)
    return Counter(plain.itertuples(index=False, name=None))


def made_of(store):
    """The frames of a store's records, made without an index."""
    records = with_roofs(store.read().records, store.read_roofs())
    peaks = store_specs(store.path)
    return {
        "cases": case_frame(records, peaks),
        "components": component_frame(records),
        "modules": module_frame(records, peaks),
    }


def assert_is_of(indexed, store):
    """Whether an index says what the store's records say."""
    expected = made_of(store)
    assert set(indexed.frames) == set(FRAMES) == set(expected)
    for name, frame in indexed.frames.items():
        assert rows(frame) == rows(expected[name][list(frame.columns)]), name


def case_path(store, record):
    return store.case_path(record.sweep_id, record.case_id)


def later(path):
    """As if written some seconds later, whatever the clock's resolution."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**10))


def rewrite(store, record):
    store.write_record(record)
    later(case_path(store, record))


def listing(folder):
    """All files below a folder, with their content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files(store):
    """All of a store's files by their place below it, with their content, wherever it lies."""
    if is_remote(store.path):
        found, at = file_system(store.path), key(store.path)
        return {name.removeprefix(f"{at}/"): found.cat_file(name) for name in found.find(at)}
    return {
        path.relative_to(store.path).as_posix(): content
        for path, content in listing(store.path).items()
    }


def two_families(make_record, make_failure):
    """Records of two attentions and three batch sizes, and one that ran out of memory."""
    good = [
        make_record(attention=attention, batch_size=size)
        for attention in ("reference", "sdpa")
        for size in SIZES
    ]
    return [*good, make_failure(batch_size=8)]


def count_reads(index, monkeypatch):
    """Names of the files that are read from now on."""
    found, read_one = [], index.read_one

    def count(path):
        found.append(path.name)
        return read_one(path)

    monkeypatch.setattr(index, "read_one", count)
    return found


def names_of(*records):
    return sorted(f"{record.case_id}.json" for record in records)
