"""What tests of merging share: where a record lies, and what was set aside."""

from __future__ import annotations

from results.records.addresses import write_file
from results.records.merge import CONFLICTS
from results.records.schema import RETRIED, STATUSES
from results.records.store import to_json

from . import indexing

OTHER_SWEEP = "20260102-030405-abcdef"
FAILURES = [status for status in RETRIED if status != "not_run"]  # which no record is
ANSWERS = [status for status in STATUSES if status not in RETRIED]


def files(store):
    """As where a sweep is run, but for its lock."""
    found = indexing.files(store).items()
    return {place: content for place, content in found if not place.endswith("/.lock")}


def place_of(record):
    return f"{record.sweep_id}/cases/{record.case_id}.json"


def content_of(record):
    return to_json(record).encode()


def set_aside(store):
    """What lies among a store's conflicts, by its place without the digest."""
    kept = {name: data for name, data in files(store).items() if name.startswith(f"{CONFLICTS}/")}
    return {
        name.removeprefix(f"{CONFLICTS}/").rpartition(".")[0]: data for name, data in kept.items()
    }


def put(store, place, content):
    write_file(store.path / place, content)
