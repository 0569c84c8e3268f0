"""Each module's time in forwards with hooks on, its FLOPs, and its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from results.records.measurement import ENCODER, Modules, ModuleTiming

from ...choices.execution import EXECUTIONS, timed_modules
from .bench import Bench
from .flops import try_work

if TYPE_CHECKING:
    from torch import nn

    from hooks import ForwardTimer

Calls = Mapping[str, Sequence[float]]


def run(bench: Bench) -> Modules:
    from hooks import ForwardTimer, PeakMemory

    rig, forward = bench.rig, bench.rotation()
    found = timed_modules(bench.case, bench.plan, rig.encoder)
    modules = {name: timed.module for name, timed in found.items()}
    # Without the root, whose peak the memory pass takes without hooks.
    inner = {name: module for name, module in modules.items() if name != ENCODER}
    with PeakMemory(inner, rig.meter) as memory:
        forward()
    peaks, rises = memory.peak_bytes(), memory.rise_bytes()
    total_s, self_s, plain_s = time_in_turn(bench, ForwardTimer(modules, rig.clock))
    works, parents = try_work(bench), containing(modules)
    plan, hidden = bench.plan, EXECUTIONS[bench.case.execution].hides_parts
    if hidden is not None and (plan.module_depth > 1 or plan.module_pattern is not None):
        bench.notes["modules"] = f"nothing within a block was timed: {hidden}"
    return Modules(
        timings={
            name: ModuleTiming(
                total_s=by_forward(total_s[name], len(plain_s)),
                self_s=by_forward(self_s[name], len(plain_s)),
                kind=found[name].kind,
                parent=parents[name],
                work=works.get(name),
                peak_bytes=peaks.get(name),
                rise_bytes=rises.get(name),
            )
            for name in modules
        },
        plain_forward_s=plain_s,
    )


def time_in_turn(bench: Bench, timer: ForwardTimer) -> tuple[Calls, Calls, tuple[float, ...]]:
    """Time modules in forwards that alternate with plain ones, so that the hooks' cost shows.

    Returns:
        Seconds of each module's calls, with and without the timed modules in it; and seconds of
        the plain forwards.
    """
    from ..timing import collected_garbage, limited

    clock, forward, plain = bench.rig.clock, bench.rotation(), []
    with collected_garbage():
        with timer:
            forward()  # the first with hooks pays for making them
        timer.clear()
        for _ in limited(bench.plan.module_forwards, bench.plan.max_timed_s):
            with timer:
                forward()
            start = clock.mark()
            forward()
            plain.append((start, clock.mark()))
        total_s, self_s = timer.total_s(), timer.self_s()
        plain_s = tuple(clock.seconds(*pair) for pair in plain)
        timer.clear()
    return total_s, self_s, plain_s


def containing(modules: Mapping[str, nn.Module]) -> dict[str, str | None]:
    """The timed module that contains each one: the smallest, if several do."""
    inside = {name: {id(each) for each in module.modules()} for name, module in modules.items()}
    parents: dict[str, str | None] = {}
    for name, module in modules.items():
        outer = [
            other
            for other, ids in inside.items()
            if id(module) in ids and modules[other] is not module
        ]
        parents[name] = min(outer, key=lambda other: len(inside[other]), default=None)
    return parents


def by_forward(calls_s: Sequence[float], forwards: int) -> tuple[float, ...]:
    """The calls of a module, added up where a forward makes several."""
    count = len(calls_s) // forwards
    if count <= 1 or len(calls_s) % forwards:
        return tuple(calls_s)
    return tuple(sum(calls_s[start : start + count]) for start in range(0, len(calls_s), count))
