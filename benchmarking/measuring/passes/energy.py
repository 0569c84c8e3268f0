"""Energy of forwards, by the counter of the whole board: a GPU tells nothing finer."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch
from torch import Tensor

from results.records.case import Case
from results.records.measurement import Energy
from results.records.plan import TimingPlan

from ...choices.inputs import Photographs
from ...machine.telemetry import Gauge
from ..rig import Rig
from ..timing import chunk_size, collected_garbage, timed_chunk

WINDOW_S = 5.0  # the counter moves some ten times a second


def energy_pass(
    case: Case, plan: TimingPlan, rig: Rig, batches: list[Tensor], photographs: Photographs
) -> dict[str, Any]:
    """Joules of forwards that follow one another for some seconds."""
    gauge = Gauge(str(torch.cuda.get_device_properties(rig.device).uuid))
    rotation = itertools.cycle(batches)

    def forward() -> Tensor:
        return rig.encode(next(rotation))

    with collected_garbage():
        size = chunk_size(timed_chunk(forward, rig.clock, 2).forward_s[-1])
        before, began, forwards = gauge.energy_joules(), time.perf_counter(), 0
        while time.perf_counter() - began < WINDOW_S:
            forwards += len(timed_chunk(forward, rig.clock, size).forward_s)
        after, window_s = gauge.energy_joules(), time.perf_counter() - began
    if before is None or after is None:
        return {"notes": {"energy": gauge.missing.get("energy_joules", "NVML does not tell")}}
    return {"energy": Energy(joules=max(0.0, after - before), window_s=window_s, forwards=forwards)}
