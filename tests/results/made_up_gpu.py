"""A GPU whose every cause of a forward's time is known, for tests of what is said of them.

Loaded by the fixture `made_up_gpu`, since pytest's importlib mode lets tests import no neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from results.records.environment import Telemetry
from results.records.measurement import (
    ENCODER,
    Latency,
    MatrixProducts,
    MeasuredRoofs,
    Measurement,
    Modules,
    ModuleTiming,
    Work,
)

FULL_HZ = 2_000_000_000
IDLE_HZ = 300_000_000  # before and after the work, when nobody should look
HOOKS_COST = 1.03  # of a forward with hooks over a plain one
NOISE = (0.98, 0.99, 1.0, 1.0, 1.0, 1.01, 1.02)  # about the median
SIDE = 1000


@dataclass(frozen=True)
class MadeUpPart:
    """What one module asks of the GPU: FLOPs and bytes of an image, and bytes of its weights."""

    kind: str
    flops: float = 0.0
    image_bytes: float = 0.0
    weights_bytes: float = 0.0


@dataclass(frozen=True)
class MadeUpGpu:
    """Computes 1 TFLOP/s and moves 1 TB/s: a GFLOP, or a GB, in a ms.

    launch_s: Of the host, for a forward of any batch size.
    efficiency: Share of the FLOP/s that is reached, by the batch size.
    clock_hz: By the batch size.
    """

    launch_s: float = 1e-6
    efficiency: Callable[[int], float] = lambda batch_size: 1.0
    clock_hz: Callable[[int], int] = lambda batch_size: FULL_HZ
    flops_per_s: float = 1e12
    bytes_per_s: float = 1e12

    def part_s(self, part: MadeUpPart, batch_size: int) -> float:
        clock = self.clock_hz(batch_size) / FULL_HZ
        rate = self.flops_per_s * self.efficiency(batch_size) * clock
        moved = part.weights_bytes + part.image_bytes * batch_size
        return max(part.flops * batch_size / rate, moved / self.bytes_per_s)

    def roofs(self, **changes) -> MeasuredRoofs:
        """What calibrating it would find."""
        product_s = 2 * SIDE**3 / self.flops_per_s
        fields = {
            "device": "GPU-0",
            "threads": 2,
            "torch": "2.15.0",
            "measured_at": "2025-01-01T00:00:00+00:00",
            "products": {"bf16": MatrixProducts(side=SIDE, product_s=(product_s,) * 3)},
            "copied_bytes": 10**9,
            "copy_s": (2 * 10**9 / self.bytes_per_s,) * 3,
            "cache_bytes": 0,
        }
        return MeasuredRoofs(**fields | changes)

    def measure(self, parts: dict[str, MadeUpPart], batch_size: int) -> dict[str, object]:
        """The fields of a record that measuring would fill."""
        own_s = {name: self.part_s(part, batch_size) for name, part in parts.items()}
        forward_s = max(self.launch_s, sum(own_s.values()))
        if forward_s == self.launch_s:  # each module takes as long as its launches
            own_s = dict.fromkeys(parts, forward_s / len(parts))
        works = {name: work_of(batch_size, part) for name, part in parts.items()}
        whole = work_of(batch_size, *parts.values())
        modules = {ENCODER: timing("encoder", 0.0, whole, sum(own_s.values()))}
        modules |= {
            name: timing(part.kind, own_s[name], works[name], own_s[name], parent_of(name, parts))
            for name, part in parts.items()
        }
        looks = (IDLE_HZ, *(self.clock_hz(batch_size),) * 2, IDLE_HZ)
        return {
            "batch_size": batch_size,
            "device": "cuda:0",
            "precision": "bf16",
            "measurement": Measurement(
                passes={
                    "latency": latency(forward_s, self.launch_s),
                    "modules": Modules(timings=modules),
                    "flops": whole,
                },
                weights="random, seed 0", input_source="noise, seed 0",
            ),
            "telemetry": Telemetry(at_s=tuple(range(4)), sm_clock_hz=looks),
            "roofs": self.roofs(),
        }  # fmt: skip


def latency(forward_s: float, launch_s: float) -> Latency:
    return Latency(
        forward_s=tuple(forward_s * each for each in NOISE), chunk_forwards=(len(NOISE),),
        chunk_wall_s=(forward_s * len(NOISE),), chunk_launch_s=(launch_s,), stop_reason="converged",
        first_forward_s=forward_s, warmup_s=forward_s, warmup_forwards=1,
    )  # fmt: skip


def parent_of(name: str, parts: dict[str, MadeUpPart]) -> str:
    outer = name.rpartition(".")[0]
    return outer if outer in parts else ENCODER


def timing(
    kind: str, self_s: float, work: Work, total_s: float, parent: str = ENCODER
) -> ModuleTiming:
    return ModuleTiming(
        kind=kind,
        parent=None if kind == "encoder" else parent,
        self_s=tuple(HOOKS_COST * self_s * each for each in NOISE),
        total_s=tuple(HOOKS_COST * total_s * each for each in NOISE),
        work=work,
    )


def work_of(batch_size: int, *parts: MadeUpPart) -> Work:
    flops = round(batch_size * sum(part.flops for part in parts))
    moved = round(sum(part.weights_bytes + part.image_bytes * batch_size for part in parts))
    return Work(flops=flops, least_flops=flops, least_bytes=moved, moved_bytes=moved)
