"""Energy of forwards, by the counter of the whole board: a GPU tells nothing finer."""

from __future__ import annotations

import time

from results.records.measurement import Energy

from .bench import Bench

WHY_NOT = "NVML counts the energy of GPUs alone"
WINDOW_S = 5.0  # the counter moves some ten times a second


def run(bench: Bench) -> Energy | None:
    """Joules of forwards that follow one another for some seconds."""
    import torch

    from ...machine.telemetry import Gauge
    from ..timing import chunk_size, collected_garbage, timed_chunk

    rig, forward = bench.rig, bench.rotation()
    gauge = Gauge(str(torch.cuda.get_device_properties(rig.device).uuid))
    with collected_garbage():
        size = chunk_size(timed_chunk(forward, rig.clock, 2).forward_s[-1])
        before, began, forwards = gauge.energy_joules(), time.perf_counter(), 0
        while time.perf_counter() - began < WINDOW_S:
            forwards += len(timed_chunk(forward, rig.clock, size).forward_s)
        after, window_s = gauge.energy_joules(), time.perf_counter() - began
    if before is None or after is None:
        bench.notes["energy"] = gauge.missing.get("energy_joules", "NVML does not tell")
        return None
    return Energy(joules=max(0.0, after - before), window_s=window_s, forwards=forwards)
