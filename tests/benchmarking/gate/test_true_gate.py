"""The whole gate once for true: two commits, of which the second computes three times as much."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from results.records.reading import read_file
from results.records.store import Store
from results.verdicts.gates import GateFile, read_gates

SAM_BENCH = Path(sys.executable).with_name("sam-bench")
SLOW = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images):
        for _ in range({times}):
            images = self.convolution(images)
        return images

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, images):
        images = self.patch_embed(images)
        for block in self.blocks:
            images = block(images)
        return images

def make():
    return Encoder()
"""
SETTINGS = (
    "--encoder slow:make -b 1 -s 64 --input noise --device cpu --pairs 7 --smallest 10% "
    "--warmup-s 0.05 --warmup-cap-s 0.2 --max-timed-s 0.2 --min-timed-s 0.05 --min-forwards 6 "
    "--module-forwards 3"
)


@pytest.fixture(scope="module")
def true_gate(tmp_path_factory, make_repository):
    """Revision one against two, as a person would type it."""
    folder = tmp_path_factory.mktemp("true gate")
    repository = make_repository(
        folder / "repository", {"slow.py": SLOW.format(times=3)}, {"slow.py": SLOW.format(times=9)}
    )
    repository.git("tag", "before", repository.commits[0])
    outputs = {name: folder / name for name in ("gate.xml", "gate.json", "gate.md", "summary.md")}
    command = [
        SAM_BENCH, "compare", "--ab", "before", "main", *SETTINGS.split(),
        "--store", folder / "runs", "--junit", outputs["gate.xml"], "--json",
        outputs["gate.json"], "--markdown", outputs["gate.md"],
    ]  # fmt: skip
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GITHUB_STEP_SUMMARY": str(outputs["summary.md"]),
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=repository.path, env=environment, capture_output=True, text=True, check=False
    )
    return SimpleNamespace(
        done=done, repository=repository, store=Store(folder / "runs"), outputs=outputs
    )


@pytest.fixture(scope="module")
def kept(true_gate):
    """What the gate left in its store."""
    problems = []
    (gate,) = read_gates(true_gate.store, problems)
    assert problems == []
    return gate


def test_a_true_regression_ends_with_exit_code_1(true_gate):
    assert true_gate.done.returncode == 1, true_gate.done.stderr
    assert true_gate.done.stderr == ""


def test_a_true_regression_is_found(kept):
    (cell,) = kept.cells

    assert (cell.verdict, cell.label, cell.pairs) == ("REGRESSED", "slow:make b1 64px", 7)
    assert cell.ratio > 1.5


def test_the_modules_that_compute_more_are_named(kept):
    assert {"blocks.0", "blocks.1"} <= {module.module for module in kept.cells[0].modules}


def test_two_encoders_that_differ_compute_different_outputs(kept):
    assert kept.cells[0].is_output_same is False


def test_a_true_gate_knows_its_sides_by_name_and_commit(true_gate, kept):
    sides = [(side.label, side.commit) for side in (kept.base, kept.head)]

    assert sides == list(zip(("before", "main"), true_gate.repository.commits, strict=True))


def test_a_true_gate_keeps_the_command_that_repeats_it(kept):
    assert kept.command.startswith("sam-bench compare --ab before main --encoder slow:make -b 1 ")


def test_a_true_gate_leaves_no_worktree(true_gate):
    assert len(true_gate.repository.worktrees()) == 1
    assert true_gate.repository.git("status", "--porcelain") == ""


def test_each_true_launch_is_in_the_gates_store(true_gate, kept):
    folder = true_gate.store.path / "gates" / kept.gate_id
    for side in ("base", "head"):
        contents = Store(folder / side).read()

        assert contents.problems == []
        assert [record.status for record in contents.records] == ["ok"] * 7
        assert {record.case.model for record in contents.records} == {"slow:make"}


def test_a_true_gate_tells_each_pair_and_its_verdict(true_gate):
    out = true_gate.done.stdout

    assert [f"[{pair}/7] " in out for pair in range(1, 8)] == [True] * 7
    assert "before against main: REGRESSED, 1 of 1 cells" in out


def test_the_comment_of_a_true_gate_names_the_cell(true_gate):
    text = true_gate.outputs["gate.md"].read_text()

    assert text.startswith("### sam-bench: REGRESSED, 1 of 1 cells")
    assert "| REGRESSED | slow:make b1 64px |" in text


def test_the_jobs_summary_of_a_true_gate_is_its_comment(true_gate):
    comment, summary = (true_gate.outputs[name].read_text() for name in ("gate.md", "summary.md"))

    assert summary.strip() == comment.strip()


def test_the_json_of_a_true_gate_is_what_its_store_holds(true_gate, kept):
    assert read_file(true_gate.outputs["gate.json"], GateFile) == kept


def test_a_true_gate_fails_in_junits_xml(true_gate):
    suite = ElementTree.fromstring(true_gate.outputs["gate.xml"].read_text())

    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert suite.find("testcase").get("name") == "slow:make b1 64px"
