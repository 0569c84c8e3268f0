"""Files that are cut, altered or something else: named with a reason, and in nobody's way."""

from __future__ import annotations

import json
import os
import random
import re

import pytest

from results.records import reading
from results.records.reading import BrokenFileError, parse_json
from results.tables import frames


@pytest.fixture
def read(store, sweep):
    """Read the store with these bytes as its only record; the record, or why there is none."""
    path = store.case_path(sweep.sweep_id, "0123")
    path.parent.mkdir()

    def read_bytes(content: bytes):
        path.unlink(missing_ok=True)  # since ext4 waits for the disk where a file is cut to zero
        path.write_bytes(content)
        contents = store.read()
        assert len(contents.records) + len(contents.problems) == 1
        assert [problem.path for problem in contents.problems] in ([], [path])
        return contents.records[0] if contents.records else contents.problems[0].reason

    return read_bytes


def test_a_record_cut_at_any_byte_is_named(read, text, make_record):
    content = text.encode()
    readings = {type(read(content[:size])) for size in range(len(content))}

    assert readings == {str}
    assert read(content) == make_record()


def test_a_record_with_any_bit_flipped_is_named_or_can_be_shown(read, text):
    chance = random.Random(20250102)
    content = text.encode()
    outcomes = []
    for _ in range(2000):
        flipped = bytearray(content)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        outcomes.append(read(bytes(flipped)))
    records = [outcome for outcome in outcomes if not isinstance(outcome, str)]

    assert 0 < len(records) < len(outcomes)
    assert len(frames.case_frame(records)) == len(records)
    # A flipped pass's name is that of another pass, whose result has no components or modules.
    told = [record.measurement.passes for record in records]
    components, modules = (sum(name in each for each in told) for name in ("components", "modules"))
    assert len(frames.component_frame(records)) == 2 * components
    assert len(frames.module_frame(records)) == 3 * modules


NUMBER = '"wall_s":12.5'
BROKEN = {
    "nan": (NUMBER, '"wall_s":NaN', "NaN is not a number that JSON knows"),
    "infinity": (NUMBER, '"wall_s":-Infinity', "-Infinity is not a number that JSON knows"),
    "overflow": (NUMBER, '"wall_s":1e999', "'wall_s': .*finite number"),
    "negative": (NUMBER, '"wall_s":-1.0', "'wall_s': .*greater than or equal to 0"),
    "number as text": (NUMBER, '"wall_s":"12.5"', "'wall_s': .*valid number"),
    "number as boolean": ('"batch_size":4', '"batch_size":true', "'case.batch_size': "),
    "count as fraction": ('"batch_size":4', '"batch_size":4.0', "'case.batch_size': "),
    "5,000 digits": (NUMBER, f'"wall_s":{"9" * 5000}', "it is not JSON .*digit"),
    "over 63 bits": (
        '"parameters":89670912',
        f'"parameters":{2**63}',
        "'measurement.parameters': ",
    ),
    "100 digits": (
        '"parameters":89670912',
        f'"parameters":{"9" * 100}',
        "'measurement.parameters': ",
    ),
    "key twice": (NUMBER, f"{NUMBER},{NUMBER}", "a key stands twice"),
    "inner key twice": ('"index":0', '"index":0,"index":1', "a key stands twice"),
    "missing field": ('"status":"ok",', "", "'status': Field required"),
    "extra field": (NUMBER, f'{NUMBER},"surprise":1', "'surprise': Extra inputs"),
    "unknown status": ('"status":"ok"', '"status":"fine"', "'status': Input should be 'ok'"),
    "half a surrogate": ('"hostname":"host"', '"hostname":"\\ud800"', "JSON"),
    "version 0": (
        '"schema_version":3',
        '"schema_version":0',
        "schema_version is 0, and .* 2 to 3$",
    ),
    "version 999": ('"schema_version":3', '"schema_version":999', "schema_version is 999"),
    "version true": ('"schema_version":3', '"schema_version":true', "schema_version is True"),
    "no version": ('"schema_version":3,', "", "schema_version is None"),
    "trailing text": (NUMBER + "}", NUMBER + "} {}", "it is not JSON .*Extra data"),
    "escape in a key": (NUMBER, f'{NUMBER},"\\u001b[31m\\n":1', r"'\\x1b\[31m\\n': "),
}


@pytest.mark.parametrize(("old", "new", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_named_with_its_reason(read, text, old, new, reason):
    assert text.count(old) == 1

    assert re.search(reason, read(text.replace(old, new).encode()))


UNUSABLE = {
    "empty": (b"", "it is not JSON"),
    "blank": (b" \n", "it is not JSON"),
    "zeros": (bytes(500), "it is not JSON"),
    "a list": (b"[]", "schema_version is None"),
    "a number": (b"1", "schema_version is None"),
    "other JSON": (b'{"a": 1}', "schema_version is None"),
    "latin-1": ('{"a": "é"}'.encode("latin-1"), "it is not UTF-8 text"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "it is not UTF-8 text"),
    "byte-order mark": (b"\xef\xbb\xbf{}", "it is not JSON .*BOM"),
    "200,000 brackets": (b"[" * 200_000, "its brackets are nested too deep"),
    "200,000 braces": (b'{"a":' * 200_000, "its brackets are nested too deep"),
    "web page": (b"<!DOCTYPE html><title>404</title>", "it is not JSON"),
}


@pytest.mark.parametrize(("content", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_no_record_is_named_with_its_reason(read, content, reason):
    assert re.search(reason, read(content))


def test_a_reason_is_one_short_line_whatever_the_file_holds(read, text):
    long = json.dumps("x\n" * 10**6)
    reasons = [
        read(text.replace('"schema_version":3', f'"schema_version":{long}').encode()),
        read(text.replace(NUMBER, f"{NUMBER},{long}:1").encode()),
        read(text.replace('"status":"ok"', f'"status":{long}').encode()),
    ]

    assert all(len(reason) < 300 and "\n" not in reason for reason in reasons)


def test_a_file_over_the_cap_is_named_unread(read, text, monkeypatch):
    size = len(text.encode())
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", size - 1)

    assert read(text.encode()) == f"it has {size} bytes, more than {size - 1}"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_regular_file_is_named_and_not_waited_for(store, sweep, make_record, make):
    store.write_record(make_record())
    path = store.case_path(sweep.sweep_id, "0123")
    make(path)
    contents = store.read()

    assert contents.records == [make_record()]
    assert [(each.path, each.reason) for each in contents.problems] == [
        (path, "it is not a regular file")
    ]


def test_a_link_to_itself_is_named(store, sweep):
    path = store.case_path(sweep.sweep_id, "0123")
    path.parent.mkdir()
    path.symlink_to(path)

    assert [problem.path for problem in store.read().problems] == [path]


def test_a_broken_file_hides_no_other(store, make_record):
    records = [make_record(batch_size=size) for size in (1, 2, 4)]
    for record in records:
        store.write_record(record)
    broken = store.case_path(records[1].sweep_id, records[1].case_id)
    broken.write_text("{")
    contents = store.read()

    assert sorted(record.case.batch_size for record in contents.records) == [1, 4]
    assert [problem.path for problem in contents.problems] == [broken]


@pytest.mark.parametrize("breakage", ["missing", "cut", "pipe"])
def test_records_beside_a_broken_sweep_file_are_read(store, sweep, make_record, breakage):
    store.write_record(make_record())
    path = store.path / sweep.sweep_id / "sweep.json"
    content = path.read_text()
    path.unlink()
    if breakage == "cut":
        path.write_text(content[:100])
    if breakage == "pipe":
        os.mkfifo(path)
    contents = store.read()

    assert contents.records == [make_record()]
    assert [problem.path for problem in contents.problems] == [path]


def test_a_cases_folder_that_can_not_be_listed_is_named(store, sweep):
    cases = store.path / sweep.sweep_id / "cases"
    cases.write_text("no folder")

    assert [(each.path, each.reason) for each in store.read().problems] == [
        (cases, "it can't be listed: Not a directory")
    ]


def test_plain_json_is_parsed():
    assert parse_json('{"a": [1, 2.5, null, true, "é"]}') == {"a": [1, 2.5, None, True, "é"]}


def test_parsing_raises_nothing_but_broken_file():
    with pytest.raises(BrokenFileError, match="it is not JSON"):
        parse_json("{")
