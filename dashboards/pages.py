"""The pages: which figures stand on each, what may be chosen there, and what else it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .data import Frames
from .details import (
    Parts,
    comparison_details,
    overview_cards,
    price_notes,
    regression_tables,
    run_details,
    run_tables,
)


@dataclass(frozen=True)
class Page:
    """A page.

    lead: What it answers, in a sentence.
    figures: By their names in FIGURES.
    options: That a person may choose, by their names in OPTIONS.
    tables: By their names in TABLES.
    above: What stands above the figures.
    below: What stands below them, above the tables.
    """

    title: str
    lead: str
    figures: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    above: Callable[[Frames], Parts] = lambda frames: []
    below: Callable[[Frames], Parts] = lambda frames: []


PAGES: dict[str, Page] = {
    "/": Page(
        "Overview",
        "What was measured, what was best, and what went wrong.",
        figures=("coverage",),
        tables=("sweeps", "latest"),
        above=overview_cards,
    ),
    "/components": Page(
        "Components",
        "Where the time of SAM's pipeline goes, from image files to masks.",
        figures=("components",),
        options=("scale", "batch"),
    ),
    "/scaling": Page(
        "Scaling",
        "What a larger batch brings, until memory ends. A forward takes a fixed time, and each "
        "image more its own: the table has both.",
        figures=("throughput", "latency", "speedup", "efficiency"),
        tables=("capacity", "cases"),
    ),
    "/layers": Page(
        "Layers",
        "Which layers take the time, and which of them a larger batch helps.",
        figures=("layers", "layer_bars"),
        options=("series", "depth", "layer_batch", "against"),
    ),
    "/memory": Page(
        "Memory",
        "What a batch needs: a fixed part and a part of each image, and how many images fit.",
        figures=("memory",),
        tables=("capacity",),
    ),
    "/roofline": Page(
        "Roofline",
        "How far each case and module is from what its device can do.",
        figures=("roofline", "distance"),
        options=("level",),
    ),
    "/cost": Page(
        "GPUs and cost",
        "What a million images cost on each GPU, in dollars and in joules.",
        figures=("cost", "pareto", "energy"),
        options=("prices",),
        tables=("prices",),
        above=price_notes,
    ),
    "/compare": Page(
        "Compare",
        "Two sweeps, case by case. The figures describe; they do not judge.",
        figures=("ratios", "waterfall"),
        options=("before", "after", "case"),
        tables=("comparison",),
        above=comparison_details,
    ),
    "/regressions": Page(
        "Regressions",
        "Cases that were measured more than once, over days and commits, and what gates judged.",
        figures=("history",),
        below=regression_tables,
    ),
    "/run": Page(
        "Run detail",
        "One case from close by: its samples, its self-checks, and the command that repeats it.",
        figures=("samples", "telemetry"),
        options=("run",),
        above=run_details,
        below=run_tables,
    ),
}
