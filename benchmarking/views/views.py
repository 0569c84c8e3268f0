"""What is shown of records: from a frame to tables and sentences, for each view."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
import pandas as pd
from rich.console import Console

from results.answers.batching import batching_frame
from results.answers.capacity import capacity_frame
from results.hardware.specs import Spec
from results.records.case import AXES, MASK_GENERATOR, PROMPTS, Case
from results.records.environment import Environment
from results.records.errors import printable
from results.records.measurement import ENCODER
from results.records.schema import Record
from results.tables.frames import (
    CASE_COLUMNS,
    case_frame,
    check_frame,
    component_frame,
    kernel_frame,
    limits_frame,
    module_frame,
)
from results.tables.metrics import METRICS, number_metric
from results.tables.pass_columns import pass_columns

from .limit_views import batching_views, capacity_views, limits_views
from .printing import TextTable, markdown, print_table, text_headings, two_lines, varying_axes

CASE_METRICS = (
    "image_s", "images_per_s", "flops_per_s", "mfu", "mfu_measured", "peak_bytes",
    "embedding_error", "n",
)  # fmt: skip
IF_THERE = ("mfu", "mfu_measured", "embedding_error")  # left out where no case has a value
PIPELINES = {
    PROMPTS: "From files to the masks of all prompts",
    MASK_GENERATOR: "Mask generator",
}
KERNEL_HEADINGS = (*text_headings("kind", "kernel"), "calls", "time\n[ms]", "share\n[%]")
MOST_KERNELS, LONGEST_KERNEL = 20, 90
CHECK_HEADINGS = (
    *text_headings("check"), "value", *text_headings("limit", "verdict", "reason")
)  # fmt: skip
IN_PARENTHESES = "in parentheses: too short for the timer to tell"


def case_views(frame: pd.DataFrame) -> list[TextTable]:
    """A row a case: latency, throughput and memory, or why there is none."""
    axes, caption = varying_axes(frame)
    shown = [name for name in CASE_METRICS if name not in IF_THERE or frame[name].notna().any()]
    shown += pass_columns(frame, CASE_COLUMNS)
    metrics = [two_lines(number_metric(name).heading) for name in shown]
    view = TextTable(
        "Image encoder, median time of a forward",
        [*axes, *text_headings("status"), "forward\n[ms]", "95 % interval\n[ms]", *metrics],
        caption=caption,
    )
    for row in frame.to_dict("records"):
        own = [str(row[axis]) for axis in axes]
        low_s, high_s = (METRICS["low_s"].show(row[name]) for name in ("low_s", "high_s"))
        interval = f"{low_s} .. {high_s}" if row["low_s"] == row["low_s"] else "-"  # or NaN
        times = [METRICS["median_s"].show(row["median_s"]), interval]
        others = [number_metric(name).show(row[name]) for name in shown]
        view.rows.append([*own, row["status"], *times, *others])
    return [view]


def component_views(frame: pd.DataFrame) -> list[TextTable]:
    """A table a pipeline: a row a case, a column a component."""
    axes, caption = varying_axes(frame)
    views = []
    for pipeline, group in frame.groupby("pipeline", sort=False):
        # In the order of the longest row: a case without files has no decoding, the others do.
        length = group.groupby(["sweep_id", "case_id"])["component"].transform("size")
        in_order = group.loc[length.sort_values(ascending=False, kind="stable").index, "component"]
        components = list(dict.fromkeys(in_order))
        titles = [name.replace("_", " ") for name in components]
        title = f"{PIPELINES[str(pipeline)]}, median time of a batch [ms]"
        view = TextTable(title, [*axes, *titles, "image encoder\nshare [%]"], caption=caption)
        for _, case in group.groupby(["sweep_id", "case_id"], sort=False):
            by_name = case.drop_duplicates("component", keep="last").set_index("component")
            own = [str(case.iloc[0][axis]) for axis in axes]
            medians = by_name["median_s"].reindex(components)
            share = METRICS["share"].show(by_name["share"].get(ENCODER, float("nan")))
            view.rows.append([*own, *map(METRICS["median_s"].show, medians), share])
        views.append(view)
    return views


def module_views(frame: pd.DataFrame) -> list[TextTable]:
    """A table for each set of cases that differ in the batch size alone.

    A row a module, a column a batch size, and each module's share at the largest.
    """
    if frame.empty:
        return []
    axes, shared = varying_axes(frame)
    others = [axis for axis in axes if axis != "batch_size"]
    groups = frame.groupby(others, sort=False, dropna=False) if others else [((), frame)]
    views = []
    for values, group in groups:
        batches = sorted(group["batch_size"].unique())
        own = ", ".join(f"{axis} {value}" for axis, value in zip(others, values, strict=True))
        batch_headings = [f"batch {batch}\n[ms/image]" for batch in batches]
        view = TextTable(
            "Time by module" + (f": {own}" if own else ""),
            [*text_headings("module", "kind"), *batch_headings, f"share at {batches[-1]}\n[%]"],
            caption=shared,
        )
        for module, rows in group.groupby("module", sort=False):
            by_batch = rows.drop_duplicates("batch_size", keep="last").set_index("batch_size")
            per_image = by_batch["total_s"].reindex(batches) / batches
            shown_share = METRICS["share"].show(by_batch["share"].get(batches[-1], float("nan")))
            times = [METRICS["total_s"].show(seconds) for seconds in per_image]
            too_short = by_batch["is_resolved"].reindex(batches).eq(False)
            for column in (index for index, is_short in enumerate(too_short) if is_short):
                view.faint.add((len(view.rows), column + 2))
                times[column] = f"({times[column]})"
            view.rows.append([str(module), rows.iloc[0]["kind"], *times, shown_share])
        if view.faint:
            view.caption = f"{view.caption}; {IN_PARENTHESES}"
        views.append(view)
    return views


def check_views(frame: pd.DataFrame) -> list[TextTable]:
    """What the self-checks found, where they did not pass."""
    if frame.empty:
        return []
    axes, caption = varying_axes(frame)
    view = TextTable("Self-checks that did not pass", [*axes, *CHECK_HEADINGS], caption=caption)
    for row in frame[frame["verdict"] != "pass"].to_dict("records"):
        own = [str(row[axis]) for axis in axes]
        value = METRICS["value"].show(row["value"])
        text = [str(row[name] or "") for name in ("limit", "verdict", "reason")]
        view.rows.append([*own, row["check"], value, *text])
    return [view]


def kernel_views(frame: pd.DataFrame) -> list[TextTable]:
    """A table a case: the kernels that take most, by kind of module."""
    axes, shared = varying_axes(frame)
    views = []
    for _, case in frame.groupby(["sweep_id", "case_id"], sort=False):
        first = case.iloc[0]
        own = ", ".join(f"{axis} {first[axis]}" for axis in axes)
        view = TextTable(f"Kernels of a forward: {own}", KERNEL_HEADINGS)
        kinds = case.groupby(["kind", "kernel"], sort=False)[["calls", "total_s", "share"]].sum()
        longest = kinds.sort_values("total_s", ascending=False)
        for row in longest.head(MOST_KERNELS).reset_index().to_dict("records"):
            shown = (METRICS[name].show(row[name]) for name in ("calls", "total_s", "share"))
            name = row["kernel"]
            if len(name) > LONGEST_KERNEL:  # the arguments of its templates fill lines
                name = f"{name[: LONGEST_KERNEL - 3]}..."
            view.rows.append([row["kind"], name, *shown])
        rest = longest.iloc[MOST_KERNELS:]
        view.caption = (
            f"{shared}; {len(rest)} more take {METRICS['share'].show(rest['share'].sum())} %; "
            "under the profiler, which slows a forward: trust the shares"
        )
        if isinstance(first["gpu"], str):
            busy = METRICS["busy_share"].show(first["busy_share"])
            view.sentences = [f"Together they fill {busy} % of a forward without the profiler."]
        views.append(view)
    return views


@dataclass(frozen=True)
class View:
    """A way to look at records.

    frame: Of records and a person's own peaks of GPUs.
    views: Of that frame.
    """

    frame: Callable[..., pd.DataFrame]
    views: Callable[[pd.DataFrame], list[TextTable]]
    summary: str


def of_records(frame: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    return lambda records, peaks: frame(records)


VIEWS: dict[str, View] = {
    "cases": View(case_frame, case_views, "latency, throughput and memory of each case"),
    "components": View(of_records(component_frame), component_views, "the pipeline's components"),
    "modules": View(module_frame, module_views, "the encoder's modules"),
    "checks": View(of_records(check_frame), check_views, "self-checks that did not pass"),
    "kernels": View(of_records(kernel_frame), kernel_views, "kernels of traced cases"),
    "capacity": View(of_records(capacity_frame), capacity_views, "which batch size is best"),
    "limits": View(limits_frame, limits_views, "how far from what the hardware can do, and why"),
    "batching": View(batching_frame, batching_views, "what a larger batch changed, and why"),
}


def show_views(
    records: list[Record],
    peaks: dict[str, Spec],
    names: tuple[str, ...],
    form: str,
    console: Console,
) -> None:
    for name in names:
        frame = VIEWS[name].frame(records, peaks)
        if form == "csv":
            click.echo(frame.to_csv(index=False), nl=False)
        elif form == "json":
            rows = json.loads(frame.to_json(orient="records", double_precision=15))
            click.echo(json.dumps(rows, indent=1))
        elif form == "md":
            click.echo("\n\n".join(markdown(view) for view in VIEWS[name].views(frame)))
        elif len(frame):
            for view in VIEWS[name].views(frame):
                print_table(view, console)


def show_sentences(
    records: list[Record], peaks: dict[str, Spec], names: tuple[str, ...], console: Console
) -> None:
    """What views say in words, without their tables."""
    for name in names:
        for view in VIEWS[name].views(VIEWS[name].frame(records, peaks)):
            for sentence in view.sentences:
                console.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)


def plan_view(
    cases: Sequence[Case], environment: Environment, there: Sequence[str | None] | None = None
) -> TextTable:
    """A row a case, with where it can run, or why it can't.

    Args:
        there: Names of the GPUs of a fleet, None for a CPU; None where this machine runs the cases
            on the devices that they name.
    """
    from ..choices.sweep import foreseen_reason
    from ..fleet.scheduler import CPU, counted, does, need_of

    def places(case: Case) -> list[str | None]:
        if there is None:
            gpu = environment.find_gpu(case.device)
            return [gpu.name if gpu is not None else None]
        return [name for name in there if does(name, need_of(case))]

    headings = text_headings(*AXES, "where", "status")
    rows = []
    for case in cases:
        own = ["-" if value is None else str(value) for value in case.model_dump().values()]
        reason = foreseen_reason(case, environment)
        lacks = "no CPU to measure on" if need_of(case) == CPU else "no such GPU"
        status = reason or ("planned" if places(case) else lacks)
        rows.append([*own, counted(places(case)), status])
    return TextTable("Cases of the sweep", headings, rows)


def choices_views() -> list[TextTable]:
    """A table for each axis whose values are listed."""
    from ..choices.sweep import VOCABULARY

    chosen = {name: axis.choices for name, axis in AXES.items() if axis.choices}
    tables = VOCABULARY | {name: dict.fromkeys(words, "") for name, words in chosen.items()}
    return [
        TextTable(
            f"--{axis}",
            text_headings("name", "what it is"),
            [[name, getattr(entry, "summary", str(entry))] for name, entry in entries.items()],
        )
        for axis, entries in tables.items()
    ]
