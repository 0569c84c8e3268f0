"""What each measured column means: its title, its unit, and how to show it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

FEWEST_DECIMALS = 4  # that a small number is cut at
# How a column that METRICS lacks is shown, by the end of its name.
UNITS = {
    "_s": ("ms", 1e3),
    "_bytes": ("MiB", 2.0**-20),
    "_joules": ("J", 1.0),
    "_watts": ("W", 1.0),
    "_hz": ("MHz", 1e-6),
    "_flops": ("GFLOP", 1e-9),
    "_share": ("%", 100.0),
    "_usd": ("USD", 1.0),
}


@dataclass(frozen=True)
class Metric:
    """How a column of a frame is shown; inside, all values are in base units.

    scale: Factor from the base unit to the unit shown.
    better: Which direction is an improvement, if any.
    """

    title: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 4  # significant ones
    better: Literal["lower", "higher"] | None = None

    @property
    def heading(self) -> str:
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    def show(self, value: float) -> str:
        """The value in the shown unit; a missing one is a dash, never zero."""
        scaled = math.nan if value is None else value * self.scale
        if not math.isfinite(scaled):
            return "-"
        if scaled == int(scaled) and abs(scaled) < 10**self.digits:
            return str(int(scaled))
        exponent = math.floor(math.log10(abs(scaled)))
        if exponent < -self.digits:  # which `digits` decimals would show as zero
            return f"{scaled:.1e}"
        decimals = max(0, self.digits - 1 - exponent)
        return f"{scaled:.{min(decimals, max(self.digits, FEWEST_DECIMALS))}f}"


def milliseconds(title: str) -> Metric:
    return Metric(title, "ms", 1e3, better="lower")


def mebibytes(title: str) -> Metric:
    return Metric(title, "MiB", 2.0**-20, better="lower")


METRICS: dict[str, Metric] = {
    "median_s": milliseconds("median"),
    "low_s": milliseconds("95 % low"),
    "high_s": milliseconds("95 % high"),
    "q1_s": milliseconds("first quartile"),
    "q3_s": milliseconds("third quartile"),
    "mad_s": milliseconds("MAD"),
    "p90_s": milliseconds("p90"),
    "p99_s": milliseconds("p99"),
    "min_s": milliseconds("min"),
    "max_s": milliseconds("max"),
    "n": Metric("n"),
    "outliers": Metric("outliers"),
    "image_s": milliseconds("per image"),
    "images_per_s": Metric("images/s", better="higher"),
    "first_forward_s": Metric("first forward", "s", better="lower"),
    "launch_share": Metric("launch share", "%", 100.0, 3),
    "flops_per_image": Metric("per image", "GFLOP", 1e-9, 5),
    "flops_per_s": Metric("achieved", "TFLOP/s", 1e-12, better="higher"),
    "mfu": Metric("MFU, peak", "%", 100.0, 3, better="higher"),
    "mfu_measured": Metric("MFU, measured", "%", 100.0, 3, better="higher"),
    "floor_s": milliseconds("floor"),
    "floor_measured_s": milliseconds("measured floor"),
    "floor_times": Metric("times the floor", digits=3, better="lower"),
    "roof_flops_per_s": Metric("roof by its maker", "TFLOP/s", 1e-12),
    "roof_bytes_per_s": Metric("memory roof by its maker", "GB/s", 1e-9),
    "measured_roof_flops_per_s": Metric("measured roof", "TFLOP/s", 1e-12),
    "measured_roof_bytes_per_s": Metric("measured memory roof", "GB/s", 1e-9),
    "least_flops": Metric("least work", "GFLOP", 1e-9),
    "least_bytes": mebibytes("least traffic"),
    "moved_bytes": mebibytes("moved"),
    "before_s": milliseconds("before"),
    "after_s": milliseconds("after"),
    "change_s": milliseconds("change"),
    "peak_bytes": mebibytes("peak memory"),
    "rise_bytes": mebibytes("activations"),
    "weights_bytes": mebibytes("weights"),
    "reserved_bytes": mebibytes("reserved"),
    "memory_limit_bytes": Metric("memory limit", "GiB", 2.0**-30),
    "device_bytes": Metric("memory of the device", "GiB", 2.0**-30),
    "embedding_error": Metric("embedding error", digits=2, better="lower"),
    "embedding_max_error": Metric("largest embedding error", digits=2, better="lower"),
    "best_images_per_s": Metric("best images/s", better="higher"),
    "knee_images_per_s": Metric("images/s there", better="higher"),
    "fixed_bytes": Metric("memory whatever the batch", "GiB", 2.0**-30),
    "fixed_s": milliseconds("forward whatever the batch"),
    "marginal_s": milliseconds("each image more"),
    "image_bytes": Metric("memory of an image", "GiB", 2.0**-30),
    "image_joules": Metric("energy of an image", "J", better="lower"),
    "usd_per_hour": Metric("price", "USD/h"),
    "million_usd": Metric("a million images", "USD", better="lower"),
    "speedup": Metric("speed-up", digits=3, better="higher"),
    "efficiency": Metric("efficiency", "%", 100.0, 3, better="higher"),
    "ratio": Metric("after / before", digits=4, better="lower"),
    "ratio_low": Metric("ratio at least", digits=4, better="lower"),
    "ratio_high": Metric("ratio at most", digits=4, better="lower"),
    "busy_share": Metric("busy", "%", 100.0, 3),
    "calls": Metric("calls"),
    "share": Metric("share", "%", 100.0, 3),
    "total_s": milliseconds("total"),
    "self_s": milliseconds("self"),
    "flops": Metric("work", "GFLOP", 1e-9),
    "value": Metric("value", digits=3),
    "wall_s": Metric("measuring took", "s"),
}


def metric_of(column: str) -> Metric | None:
    """How a column of numbers is shown; None if neither METRICS nor its name tells."""
    if column in METRICS:
        return METRICS[column]
    for ending, (unit, scale) in UNITS.items():
        if column.endswith(ending):
            return Metric(column.removesuffix(ending).replace("_", " "), unit, scale)
    return None


def number_metric(column: str) -> Metric:
    """The same, without a unit if none is known."""
    return metric_of(column) or Metric(column.replace("_", " "))
