"""Gates on disk, and as a table."""

from __future__ import annotations

import json

import pytest

from results.records.reading import read_file
from results.records.store import Store, to_json, write_whole
from results.verdicts.decision import Rule
from results.verdicts.gates import (
    GATES,
    Acceptance,
    Cell,
    GateFile,
    ModuleChange,
    Pair,
    Side,
    gate_path,
    read_gates,
)

WORD = Acceptance(
    case="vit_b b4 1024px", up_to=1.1, reason="exact masks", author="Ada", date="2025-01-02"
)


@pytest.fixture
def make_cell(make_case):
    def make(**changes):
        fields = {
            "label": "vit_b b4 1024px", "base": make_case(), "head": make_case(attention="sdpa"),
            "verdict": "REGRESSED", "pairs": 10, "decided_at": 10, "ratio": 1.1, "ratio_low": 1.05,
            "ratio_high": 1.2, "base_s": 0.1, "head_s": 0.11, "sees": 0.02,
            "is_output_same": False,
            "modules": (ModuleChange(module="neck", kind="neck", ratio=1.5, lost_s=0.01),),
        }  # fmt: skip
        return Cell(**fields | changes)

    return make


@pytest.fixture
def make_gate(make_cell, environment):
    def make(gate_id="20250102-gate", **changes):
        fields = {
            "gate_id": gate_id, "created_at": "2025-01-02T03:04:05Z", "seed": 7, "rule": Rule(),
            "command": "sam-bench compare --ab main", "base": Side(label="main", commit="0" * 40),
            "head": Side(label=".", python="/usr/bin/python3"), "environment": environment,
            "pairs": (
                Pair(is_head_first=True, base_sweep_id="b", head_sweep_id=None, wall_s=1.5),
            ),
            "cells": (make_cell(),), "notes": ("a note",), "is_finished": True,
        }  # fmt: skip
        return GateFile(**fields | changes)

    return make


def write(store, gate):
    path = gate_path(store, gate.gate_id) / "gate.json"
    write_whole(path, to_json(gate))
    return path


# On disk


def test_a_gate_is_read_as_it_was_written(store, make_gate, make_cell):
    bare = make_gate("bare", cells=(), pairs=(), notes=(), environment=None, is_finished=False)
    full = make_gate("full", cells=(make_cell(), make_cell(accepted=WORD, verdict="OK")))
    for gate in (bare, full):
        write(store, gate)
    problems = []

    assert read_gates(store, problems) == [bare, full]
    assert problems == []


def test_a_gate_written_again_has_the_same_bytes(store, make_gate):
    path = write(store, make_gate())
    text = path.read_bytes()
    write(store, read_file(path, GateFile))

    assert path.read_bytes() == text


def test_gates_come_oldest_first_whatever_their_names(store, make_gate):
    for gate_id, created_at in (("a", "2025-03-01"), ("b", "2025-01-01"), ("c", "2025-02-01")):
        write(store, make_gate(gate_id, created_at=created_at))

    assert [gate.gate_id for gate in read_gates(store, [])] == ["b", "c", "a"]


@pytest.mark.parametrize("made", ["nothing", "an empty folder", "a gate without a file"])
def test_a_store_without_gates_has_none(tmp_path, made):
    store, problems = Store(tmp_path / "runs"), []
    if made != "nothing":
        (store.path / GATES / ("" if made == "an empty folder" else "id")).mkdir(parents=True)

    assert (read_gates(store, problems), problems) == ([], [])


def changed(**changes):
    return lambda text: json.dumps(json.loads(text) | changes)


BROKEN = {  # what becomes of the text, and what is said of it
    "half of it": (lambda text: text[: len(text) // 2], "it is not JSON"),
    "nothing": (lambda text: "", "it is not JSON"),
    "a list": (lambda text: "[]", "schema_version is None"),
    "another version": (changed(schema_version=99), "schema_version is 99"),
    "an unknown field": (changed(verdict="OK"), "verdict"),
    "a missing field": (lambda text: text.replace('"seed":7,', ""), "seed"),
    "a number as text": (changed(seed="7"), "seed"),
    "an unknown verdict": (lambda text: text.replace("REGRESSED", "WORSE"), "cells.0.verdict"),
    "a name that leaves the folder": (changed(gate_id="../../etc"), "gate_id"),
    "no number": (lambda text: text.replace('"ratio":1.1', '"ratio":NaN'), "NaN is not a number"),
    "no ratio": (lambda text: text.replace('"ratio":1.1', '"ratio":0'), "cells.0.ratio"),
    "negative pairs": (lambda text: text.replace('"pairs":10', '"pairs":-1'), "cells.0.pairs"),
    "a key twice": (lambda text: text.replace('"seed":7', '"seed":7,"seed":8'), "stands twice"),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_gate_is_named_and_hides_no_other(store, make_gate, broken, reason):
    good, bad = make_gate("good"), make_gate("bad")
    write(store, good)
    path = write(store, bad)
    path.write_text(broken(path.read_text()))
    problems = []

    assert read_gates(store, problems) == [good]
    assert [problem.path for problem in problems] == [path]
    assert reason in problems[0].reason


def test_a_folder_in_place_of_a_gate_s_file_is_named(store):
    (gate_path(store, "id") / "gate.json").mkdir(parents=True)
    problems = []

    assert read_gates(store, problems) == []
    assert problems[0].reason == "it is not a regular file"


def test_gates_are_no_sweeps_of_the_store(store, make_gate, sweep):
    write(store, make_gate())

    assert store.sweep_ids() == [sweep.sweep_id]
    assert store.read().problems == []


# Whether it fails


@pytest.mark.parametrize(
    ("verdict", "accepted", "fails"),
    [("REGRESSED", None, True), ("REGRESSED", WORD, False), ("OK", None, False),
     ("IMPROVED", None, False), ("INCONCLUSIVE", None, False), ("CLOCK_DRIVEN", None, False)],
)  # fmt: skip
def test_a_cell_fails_where_it_regressed_and_nobody_accepted_it(
    make_cell, verdict, accepted, fails
):
    assert make_cell(verdict=verdict, accepted=accepted).fails is fails
