"""What the A/B gate is tested with: launches by a script, made gates, and true git repositories."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarking.gate.gate import Gate, GateOptions, SideSource
from results.records.case import TimingPlan
from results.records.measurement import Modules, ModuleTiming
from results.records.schema import SweepFile
from results.records.store import Store
from results.verdicts.decision import Rule
from results.verdicts.gates import Cell, GateFile, Pair, Side

from ..repository import git

SIDES = ("base", "head")
RULE = Rule(alpha=0.05, looks=(6, 12))  # six pairs are the fewest that can tell one cell
JITTER = 0.001  # of a launch, as a share


class ScriptedLaunches:
    """Stands for `launch`: each call leaves a sweep of its side, as the script says.

    Args:
        make_record: The fixture.
        answers: By side, seconds of a forward or a status, by batch size; or an error to raise; or
            a function of how many launches that side had before, that gives one of these.
        changes: By side, what else its records have.
    """

    def __init__(self, make_record, answers, changes):
        self.make_record, self.answers, self.changes = make_record, answers, changes
        self.random = np.random.default_rng(20260102)
        self.made = []

    def __call__(self, source, place):
        side = source.side.label
        answer = self.answers[side]
        if callable(answer):
            answer = answer(self.made.count(side))
        self.made.append(side)
        if isinstance(answer, BaseException):
            raise answer
        sweep_id = f"20260102-030405-{len(self.made):03}"
        records = [self.record(side, sweep_id, *each) for each in answer.items()]
        store = Store(place)
        store.write_sweep(
            SweepFile(
                sweep_id=sweep_id, definition_sha256="cd" * 32, command="sam-bench sweep",
                created_at="2026-01-02T03:04:00Z", plan=TimingPlan(),
                cases=tuple(record.case for record in records),
                environment=records[0].environment,
            )
        )  # fmt: skip
        for record in records:
            store.write_record(record)
        return sweep_id

    def record(self, side, sweep_id, batch_size, seconds):
        common = {"batch_size": batch_size, "sweep_id": sweep_id} | self.changes.get(side, {})
        if isinstance(seconds, str):
            return self.make_record(seconds, **common)
        measurement = self.make_record().measurement
        taken_s = seconds * (1 + self.random.normal(0, JITTER))
        latency = measurement.latency.model_copy(update={"forward_s": (taken_s,) * 8})
        # What the base takes besides its block never changes: a slower head has a slower block.
        rest_s = 0.1
        modules = {
            "image_encoder": ModuleTiming(
                total_s=(taken_s,),
                self_s=(rest_s * taken_s / seconds,),
                kind="encoder",
                parent=None,
            ),
            "blocks.0": ModuleTiming(
                total_s=(taken_s - rest_s,),
                self_s=(taken_s - rest_s,),
                kind="window",
                parent="image_encoder",
            ),
        }
        measured = measurement.with_passes(latency=latency, modules=Modules(timings=modules))
        return self.make_record(**{"measurement": measured} | common)


class Watcher:
    """Remembers what it was told, and calls a function at each pair's end."""

    def __init__(self, at_pair=lambda gate: None):
        self.told, self.at_pair = [], at_pair

    def launch_begins(self, gate, pair, side):
        self.told.append(("launch_begins", pair, side.label))

    def pair_ends(self, gate, next_look):
        self.told.append(("pair_ends", len(gate.pairs), next_look))
        self.at_pair(gate)

    def look_ends(self, gate, next_look):
        self.told.append(("look_ends", len(gate.pairs), next_look))

    def end(self):
        self.told.append(("end",))


@pytest.fixture(scope="session")
def make_watcher():
    return Watcher


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def make_gate(tmp_path, store, make_record):
    """Maker of gates whose launches a script answers; both sides take a second by default."""

    def make(base=None, head=None, changes=None, watcher=None, wrap=None, **options):
        one_second = {2: 1.0}
        answers = dict(zip(SIDES, (base or one_second, head or one_second), strict=True))
        launches = ScriptedLaunches(make_record, answers, changes or {})
        sources = [SideSource(Side(label=side), (), tmp_path) for side in SIDES]
        asked = GateOptions(**{"rule": RULE} | options)
        return Gate(
            sources, asked, store, watcher or Watcher(), "sam-bench compare --ab",
            wrap(launches) if wrap else launches,
        )  # fmt: skip

    return make


@pytest.fixture
def run_gate(make_gate):
    """Run such a gate; the file of what it decided."""
    return lambda *answers, **more: make_gate(*answers, **more).run()


@pytest.fixture
def make_cell(make_case):
    """Maker of a cell with a verdict."""

    def make(verdict="OK", **changes) -> Cell:
        fields = {
            "label": "tiny b2 64px", "base": make_case(), "head": make_case(), "pairs": 6,
            "verdict": verdict, "ratio": 1.05, "ratio_low": 1.04, "ratio_high": 1.06,
        }  # fmt: skip
        return Cell(**fields | changes)

    return make


@pytest.fixture
def make_gate_file():
    """Maker of what a gate of these cells knows after six pairs of five seconds."""

    def make(*cells, **changes) -> GateFile:
        pair = Pair(is_head_first=False, base_sweep_id="a", head_sweep_id="b", wall_s=5.0)
        fields = {
            "gate_id": "20260102-030405-gate", "created_at": "2026-01-02T03:04:05Z",
            "command": "sam-bench compare --ab", "seed": 0, "rule": RULE,
            "base": Side(label="main"), "head": Side(label="."), "pairs": (pair,) * 6,
            "cells": cells,
        }  # fmt: skip
        return GateFile(**fields | changes)

    return make


# Repositories


@pytest.fixture(scope="session", autouse=True)
def no_other_repository():
    """Where git itself runs the tests, its variables name a repository that is not theirs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            patch.delenv(name, raising=False)
        yield


def write_files(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(scope="session")
def make_repository():
    """Maker of a repository with a commit for each set of files; gives it, and its commits."""

    def make(folder, *commits):
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch", "main")
        made = []
        for files in commits:
            write_files(folder, files)
            git(folder, "add", "--all")
            git(folder, "commit", "--quiet", "--message", "next")
            made.append(git(folder, "rev-parse", "HEAD"))
        return SimpleNamespace(
            path=folder,
            commits=made,
            git=lambda *words: git(folder, *words),
            worktrees=lambda: git(folder, "worktree", "list").splitlines(),
        )

    return make
