"""What a forward has to do: FLOPs and bytes."""

from __future__ import annotations

from results.records.measurement import Work

from .bench import Bench


def try_work(bench: Bench) -> dict[str, Work]:
    """The work of each timed module in one forward; none, and a note, if it can't be counted."""
    from ..work import case_work

    case, plan, rig = bench.case, bench.plan, bench.rig
    key = (case.batch_size, plan.module_depth, plan.module_pattern)
    try:
        if key not in rig.works:  # counting takes a moment, and two passes ask
            rig.works[key] = case_work(case, plan, rig.encoder, rig.dtype)
        return rig.works[key]
    except Exception as error:
        if rig.family.work is not None:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        bench.notes["flops"] = f"this encoder does not run on the meta device: {reason}"
        return {}
