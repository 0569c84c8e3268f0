"""Gates that were never run, for tests of what is said of them."""

from __future__ import annotations

import re

from results.records.case import Case
from results.records.environment import Environment
from results.verdicts.decision import Rule
from results.verdicts.gates import Acceptance, Cell, GateFile, ModuleChange, Pair, Side


def make_cell(verdict="OK", ratio=1.0, **changes) -> Cell:
    case = Case(
        model="vit_b", batch_size=1, image_size=1024, precision="bf16", attention="sdpa",
        execution="eager", device="cuda:0", input="noise", weights="random",
    )  # fmt: skip
    fields = {
        "label": "vit_b b1 1024px",
        "base": case,
        "head": case,
        "verdict": verdict,
        "pairs": 10,
    }
    if ratio is not None:
        fields |= {
            "ratio": ratio, "ratio_low": ratio - 0.01, "ratio_high": ratio + 0.01,
            "base_s": 0.02, "head_s": 0.02 * ratio, "decided_at": 10,
        }  # fmt: skip
    return Cell(**fields | changes)


def make_gate(*cells, **changes) -> GateFile:
    pair = Pair(is_head_first=False, base_sweep_id="a", head_sweep_id="b", wall_s=1.0)
    environment = Environment(
        hostname="host", os="Linux", cpu="a CPU", cores=8, memory_bytes=2**34, gpus=(),
        driver=None, cuda=None, cudnn=None, torch="2.15.0", torchvision=None, python="3.11.9",
        sam_bench="0.1.0", git_commit=None, git_dirty=None, source_sha256="0" * 64,
    )  # fmt: skip
    fields = {
        "gate_id": "20250102-030405-abcdef",
        "created_at": "2025-01-02T03:04:05Z",
        "command": "sam-bench compare --ab main .",
        "seed": 0,
        "rule": Rule(),
        "base": Side(label="main", commit="0123456789abcdef" * 2),
        "head": Side(label="."),
        "environment": environment,
        "pairs": (pair,) * 10,
        "cells": cells,
        "is_finished": True,
    }
    return GateFile(**fields | changes)


def make_acceptance(**changes) -> Acceptance:
    fields = {
        "case": "vit_b b8 1024px", "up_to": 1.06, "reason": "exact masks", "author": "Ada",
        "date": "2025-01-02",
    }  # fmt: skip
    return Acceptance(**fields | changes)


def make_module(name="blocks.2", ratio=1.2) -> ModuleChange:
    return ModuleChange(module=name, kind="global", ratio=ratio, lost_s=0.0021)


def unmeasured(verdict, **changes) -> Cell:
    """A cell without a valid pair."""
    return make_cell(verdict, None, pairs=0, **changes)


def regressed_gate() -> GateFile:
    return make_gate(
        make_cell(sees=0.015),
        make_cell(
            "REGRESSED", 1.08, label="vit_b b4 1024px", is_output_same=False,
            modules=(make_module(), make_module("blocks.5", 1.1)),
        ),
        make_cell("REGRESSED", 1.05, label="vit_b b8 1024px", accepted=make_acceptance()),
        make_cell("IMPROVED", 0.9, label="vit_b b16 1024px"),
        unmeasured("FAILED", label="vit_b b32 1024px", reason="head is oom: out of memory"),
        notes=("67% of the cells became slower together: a machine-wide shift?",),
    )  # fmt: skip


def fine_gate() -> GateFile:
    return make_gate(make_cell(), make_cell(ratio=1.004, label="vit_b b2 1024px"))


def unclear_gate() -> GateFile:
    noisy = make_cell("INCONCLUSIVE", 1.02, ratio_low=0.97, ratio_high=1.07, pairs=30)
    lost = unmeasured("NOT_COMPARABLE", label="vit_b b2 1024px", reason="base is timeout: 900 s")
    return make_gate(noisy, lost, environment=None)


GATES = {"regressed": regressed_gate, "fine": fine_gate, "unclear": unclear_gate}


def rows_of(text) -> list[list[str]]:
    """Cells of each row of the tables, without headings and rules."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", row)[1:-1] for row in rows]
    stripped = [[cell.strip() for cell in row] for row in cells]
    return [row for row in stripped if row[0] not in ("verdict", "---")]
