"""What GPUs can do at most: dense matrix products and memory traffic, as their makers state it.

Rates without sparsity, in FLOP/s by precision (2 FLOP = 1 MAC), and byte/s. Each row names its
source.
"""

from __future__ import annotations

from dataclasses import dataclass

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Peak:
    """A GPU's limits.

    flops_per_s: By precision; fp32 without tensor cores.
    bytes_per_s: Of its memory.
    source: Where the figures stand.
    """

    flops_per_s: dict[str, float]
    bytes_per_s: float
    source: str


def peak(fp32: float, tf32: float, half: float, gigabytes_per_s: float, source: str) -> Peak:
    """A row in TFLOP/s and GB/s; fp16 and bf16 are the same on all of them."""
    rates = {"fp32": fp32, "tf32": tf32, "bf16": half, "fp16": half}
    flops_per_s = {name: rate * TERA for name, rate in rates.items()}
    return Peak(flops_per_s, gigabytes_per_s * GIGA, source)


def find_peak(gpu_name: str) -> Peak | None:
    """The row of a GPU by the name that its driver gives it; None where there is none."""
    words = gpu_name.replace("-", " ").split()
    found = [name for name in PEAKS if set(name.split()) <= set(words)]
    return PEAKS[max(found, key=len)] if found else None  # the most particular one


PEAKS: dict[str, Peak] = {
    "L4": peak(30.3, 60, 121, 300, "NVIDIA L4 data sheet, 2023"),
    "L40S": peak(91.6, 183, 362, 864, "NVIDIA L40S data sheet, 2023"),
    "A100 40GB": peak(19.5, 156, 312, 1555, "NVIDIA A100 data sheet, 2022"),
    "A100 80GB": peak(19.5, 156, 312, 2039, "NVIDIA A100 data sheet, 2022"),
    "H100": peak(67, 494, 989, 3350, "NVIDIA H100 data sheet, 2023, SXM5"),
    "H200": peak(67, 494, 989, 4800, "NVIDIA H200 data sheet, 2023, SXM"),
}
