"""Launches of a gate, made by hand."""

from __future__ import annotations

from results.verdicts.gate_runs import GateRun

FAILED = GateRun(status="oom", message="CUDA out of memory")


def ok(median_s, **changes):
    return GateRun("ok", median_s=median_s, **changes)


def pairs_of(cell, *launches):
    """Pairs, each of a base's launch and a head's; None where there is none."""
    return [
        tuple(
            {} if launch is None else {case.case_id: launch}
            for case, launch in zip((cell.base, cell.head), pair, strict=True)
        )
        for pair in launches
    ]
