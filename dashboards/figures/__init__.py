"""Figures, each a pure function of a tidy frame, for the live pages and the report alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import plotly.graph_objects as go

from .compare import ratios_figure, waterfall_figure
from .components import components_figure
from .cost import bars_figure, pareto_figure
from .history import history_figure
from .layers import layer_bars_figure, layers_figure
from .overview import coverage_figure
from .roofline import distance_figure, roofline_figure
from .run import samples_figure, telemetry_figure
from .scaling import scaling_figure
from .series import LINE_AXES, MOST_SERIES

__all__ = ["FIGURES", "MOST_SERIES", "FigureSpec"]


@dataclass(frozen=True)
class FigureSpec:
    """A figure.

    frame: Which it is made of.
    make: Of that frame, and of the options by their names.
    summary: What it tells.
    options: That a person may choose.
    columns: Of its frame, for its table and for downloads.
    in_report: Whether it tells of many records, and so stands in a report.
    """

    frame: str
    make: Callable[..., go.Figure]
    summary: str
    columns: tuple[str, ...]
    options: tuple[str, ...] = ()
    in_report: bool = True


CASE = ("device_name", "model", "batch_size", *LINE_AXES)
TIMES = ("median_s", "low_s", "high_s", "n")

FIGURES: dict[str, FigureSpec] = {
    "coverage": FigureSpec(
        "cases", coverage_figure, "what was measured", (*CASE, "status", "stage", "message"),
    ),
    "components": FigureSpec(
        "components", components_figure, "where the pipeline's time goes",
        (*CASE, "component", *TIMES, "share"), options=("scale", "batch"),
    ),
    "throughput": FigureSpec(
        "current", partial(scaling_figure, column="images_per_s"), "what a larger batch brings",
        (*CASE, "status", "images_per_s", *TIMES),
    ),
    "latency": FigureSpec(
        "current", partial(scaling_figure, column="image_s"),
        "what an image costs at each batch size",
        (*CASE, "status", "image_s", *TIMES),
    ),
    "speedup": FigureSpec(
        "current", partial(scaling_figure, column="speedup"), "how many times as fast a batch is",
        (*CASE, "images_per_s", "speedup"),
    ),
    "efficiency": FigureSpec(
        "current", partial(scaling_figure, column="efficiency"),
        "what share of an ideal batch's speed is reached",
        (*CASE, "images_per_s", "speedup", "efficiency"),
    ),
    "layers": FigureSpec(
        "modules", layers_figure, "each layer at each batch size",
        (*CASE, "module", "kind", "total_s", "self_s", "share", "n"),
        options=("series", "against", "depth"),
    ),
    "layer_bars": FigureSpec(
        "modules", layer_bars_figure, "the layers at one batch size",
        (*CASE, "module", "kind", "total_s", "low_s", "high_s", "share", "n"),
        options=("series", "layer_batch", "depth"),
    ),
    "memory": FigureSpec(
        "current", partial(scaling_figure, column="peak_bytes"), "what a batch needs",
        (*CASE, "status", "peak_bytes", "rise_bytes", "weights_bytes", "device_bytes"),
    ),
    "roofline": FigureSpec(
        "limits", roofline_figure, "how far from what the device can do",
        (*CASE, "module", "flops_per_s", "mfu", "mfu_measured", "floor_s", "bound_by"),
        options=("level",),
    ),
    "distance": FigureSpec(
        "limits", distance_figure, "how many times as long as the hardware would need",
        (*CASE, "module", "total_s", "floor_s", "floor_measured_s", "floor_times", "bound_by"),
        options=("level",),
    ),
    "cost": FigureSpec(
        "cases", partial(bars_figure, column="million_usd"), "what a million images cost",
        (*CASE, "million_usd", "usd_per_hour", "price_source", "price_date", "image_s"),
    ),
    "pareto": FigureSpec(
        "cases", pareto_figure, "what waiting less costs", (*CASE, "median_s", "million_usd"),
    ),
    "energy": FigureSpec(
        "cases", partial(bars_figure, column="image_joules"), "what energy an image takes",
        (*CASE, "image_joules"),
    ),
    "history": FigureSpec(
        "cases", history_figure, "whether it got worse",
        (*CASE, "started_at", "git_commit", "torch", "image_s", *TIMES),
    ),
    "ratios": FigureSpec(
        "comparison", ratios_figure, "which cases differ",
        (*CASE[1:], "before_s", "after_s", "ratio", "ratio_low", "ratio_high", "verdict"),
    ),
    "waterfall": FigureSpec(
        "module_changes", waterfall_figure, "which modules make up the difference",
        ("module", "kind", "before_s", "after_s", "change_s"),
    ),
    "samples": FigureSpec(
        "samples", samples_figure, "each timed forward", ("forward", "forward_s"), in_report=False,
    ),
    "telemetry": FigureSpec(
        "telemetry", telemetry_figure, "what the GPU did meanwhile",
        ("at_s", "sm_clock_hz", "power_watts", "temperature_celsius", "used_bytes",
         "event_reasons"), in_report=False,
    ),
}  # fmt: skip
