"""Which kernels run in which module, and for how long, from torch's profiler."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from results.records.case import Case
from results.records.measurement import ENCODER, Kernels, KernelTime

from ...choices.execution import EXECUTIONS, timed_modules
from ...choices.modules import TimedModule
from .bench import Bench

FORWARDS = 3
MARK = "module "  # what a module's range in the profile begins with
MICRO = 1e-6


def run(bench: Bench) -> Kernels:
    """Kernels by module, and the Chrome trace; nothing of it is published as a latency."""
    from torch.profiler import ProfilerActivity, profile

    case, rig, batches = bench.case, bench.rig, bench.batches
    found = timed_modules(case, bench.plan, rig.encoder)
    if EXECUTIONS[case.execution].hides_modules:
        found = {ENCODER: found[ENCODER]}
    activities = [ProfilerActivity.CPU]
    if rig.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    rig.encode(batches[0])
    rig.clock.synchronize()
    hooked = {} if EXECUTIONS[case.execution].hides_modules else found
    with annotated(hooked), profile(activities=activities) as profiler:
        for index in range(FORWARDS):
            rig.encode(batches[index % len(batches)])
        rig.clock.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json.gz")
        profiler.export_chrome_trace(str(trace))  # as chrome://tracing and Perfetto read it
        rig.trace = trace.read_bytes()
    times = kernel_times(profiler.events(), found, rig.device.type)
    return Kernels(forwards=FORWARDS, times=times)


def why_not(case: Case) -> str | None:
    if EXECUTIONS[case.execution].needs_export:
        return "torch's profiler does not see what onnxruntime runs"
    return None


def annotated(found: Mapping[str, TimedModule]) -> AbstractContextManager[object]:
    """Mark each module's calls as a range in the profile."""
    from torch.profiler import record_function

    from hooks.calls import CallHooks

    class Ranges(CallHooks[Any]):
        def _begin(self, name: str) -> Any:
            marked = record_function(MARK + name)
            marked.__enter__()
            return marked

        def _end(self, name: str, has_failed: bool) -> None:
            self._open.pop().__exit__(None, None, None)

    return Ranges({name: timed.module for name, timed in found.items()})


def kernel_times(
    events: Iterable[Any], found: Mapping[str, TimedModule], device_type: str
) -> tuple[KernelTime, ...]:
    """Calls and seconds by module and kernel, the longest first.

    On a CPU an operation is its own kernel: its time without the operations that it calls.
    """
    import torch

    calls: dict[tuple[str, str], int] = defaultdict(int)
    total_s: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if event.device_type != torch.autograd.DeviceType.CPU or event.name.startswith(MARK):
            continue
        module = module_of(event)
        launched = [(kernel.name, kernel.duration) for kernel in event.kernels]
        if device_type == "cpu" and (module is not None or len(found) == 1):
            launched = [(event.name, event.self_cpu_time_total)]
        for name, duration_us in launched:
            key = module or ENCODER, name
            calls[key] += 1
            total_s[key] += duration_us * MICRO
    times = (
        KernelTime(
            module=module,
            kind=found[module].kind,
            name=name,
            calls=calls[module, name],
            total_s=seconds,
        )
        for (module, name), seconds in total_s.items()
    )
    return tuple(sorted(times, key=lambda each: -each.total_s))


def module_of(event: Any) -> str | None:
    """The innermost module whose range an operation is in."""
    while event is not None:
        if event.name.startswith(MARK):
            return str(event.name.removeprefix(MARK))
        event = event.cpu_parent
    return None
