"""The peak memory of one forward, with no hook."""

from __future__ import annotations

from typing import Any

from results.records.measurement import Memory

from .bench import Bench


def run(bench: Bench) -> Memory:
    import torch

    rig, batch = bench.rig, bench.batches[0]
    weights = (*rig.model.parameters(), *rig.model.buffers())
    rig.encode(batch)  # workspaces of libraries, and compilation, come with the first
    rig.meter.settle()
    held = rig.meter.held_bytes()
    rig.meter.reset_peak()
    rig.encode(batch)
    rig.clock.synchronize()
    peak = rig.meter.peak_bytes()
    measured: dict[str, Any] = {}
    if rig.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(rig.device)
        measured = {
            "reserved_bytes": torch.cuda.max_memory_reserved(rig.device),
            "device_used_bytes": total - free,
            "alloc_retries": torch.cuda.memory_stats(rig.device).get("num_alloc_retries", 0),
        }
    return Memory(
        source=rig.meter.source,
        weights_bytes=sum(weight.nbytes for weight in weights),
        peak_bytes=peak,
        rise_bytes=max(0, peak - held),
        **measured,
    )
