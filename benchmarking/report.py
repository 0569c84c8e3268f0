"""Tables of records, for a terminal or as Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from results.metrics import METRICS
from results.schema import (
    AXES,
    ENCODER,
    MASK_GENERATOR,
    PROMPTS,
    Case,
    Environment,
    Record,
    SweepEnd,
)

if TYPE_CHECKING:
    import pandas as pd


CASE_METRICS = ("image_s", "images_per_s", "flops_per_s", "peak_bytes", "embedding_error", "n")
IF_THERE = ("embedding_error",)  # columns that are left out where no case has a value
PIPELINES = {
    PROMPTS: "From files to the masks of all prompts",
    MASK_GENERATOR: "Mask generator",
}
CHECK_HEADINGS = ("check", "value", "limit", "verdict", "reason")
TEXT_HEADINGS = (
    "sweep_id", "module", "kind", "status", "name", "what it is", "check", "limit", "verdict",
    "reason",
)  # fmt: skip


@dataclass
class View:
    """A table ready to be shown: text cells, and what is the same in every row above it."""

    title: str
    headings: list[str]
    rows: list[list[str]] = field(default_factory=list)
    caption: str = ""


def print_view(view: View, console: Console) -> None:
    table = Table(
        title=escape(harmless(view.title)),
        title_justify="left",
        title_style="bold",
        caption=escape(harmless(view.caption)) or None,
        caption_justify="left",
    )
    for heading in view.headings:
        is_text = heading in AXES or heading in TEXT_HEADINGS
        justify: Literal["left", "right"] = "left" if is_text else "right"
        # Folded where the terminal is narrow: a cut number would be a wrong one.
        table.add_column(escape(heading), justify=justify, overflow="fold")
    for row in view.rows:
        table.add_row(*(escape(harmless(cell)) for cell in row))
    console.print(table)


def harmless(text: str) -> str:
    """Text that can't drive a terminal, whoever wrote the record that it is from."""
    return "".join(char if char.isprintable() else "?" for char in text)


def markdown(view: View) -> str:
    """The view as a Markdown table; what would end a cell is escaped."""

    def line(cells: Iterable[str]) -> str:
        safe = (re.sub(r"([\\|])", r"\\\1", cell.replace("\n", " ")) for cell in cells)
        return "| " + " | ".join(safe) + " |"

    rule = line("---" for _ in view.headings)
    body = "\n".join([line(view.headings), rule, *map(line, view.rows)])
    return f"**{view.title}**\n\n{body}\n\n{view.caption}".strip()


def case_views(frame: pd.DataFrame) -> list[View]:
    """A row a case: latency, throughput and memory, or why there is none."""
    axes, caption = varying_axes(frame)
    shown = [name for name in CASE_METRICS if name not in IF_THERE or frame[name].notna().any()]
    metrics = [two_lines(METRICS[name].heading) for name in shown]
    view = View(
        "Image encoder, median time of a forward",
        [*axes, "status", "forward\n[ms]", "95 % interval\n[ms]", *metrics],
        caption=caption,
    )
    for row in frame.to_dict("records"):
        own = [str(row[axis]) for axis in axes]
        times = [METRICS["median_s"].show(row["median_s"]), interval(row["low_s"], row["high_s"])]
        others = [METRICS[name].show(row[name]) for name in shown]
        view.rows.append([*own, row["status"], *times, *others])
    return [view]


def two_lines(heading: str) -> str:
    """The unit below the title, for narrow terminals."""
    return heading.replace(" [", "\n[")


def interval(low_s: float, high_s: float) -> str:
    metric = METRICS["low_s"]
    return "-" if low_s != low_s else f"{metric.show(low_s)} .. {metric.show(high_s)}"


def component_views(frame: pd.DataFrame) -> list[View]:
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
        view = View(title, [*axes, *titles, "image encoder\nshare [%]"], caption=caption)
        for _, case in group.groupby(["sweep_id", "case_id"], sort=False):
            by_name = case.drop_duplicates("component", keep="last").set_index("component")
            own = [str(case.iloc[0][axis]) for axis in axes]
            medians = by_name["median_s"].reindex(components)
            share = METRICS["share"].show(by_name["share"].get(ENCODER, float("nan")))
            view.rows.append([*own, *map(METRICS["median_s"].show, medians), share])
        views.append(view)
    return views


def module_views(frame: pd.DataFrame) -> list[View]:
    """A table for each set of cases that differ in the batch size alone, a row a module."""
    if frame.empty:
        return []
    axes, shared = varying_axes(frame)
    others = [axis for axis in axes if axis != "batch_size"]
    groups = frame.groupby(others, sort=False) if others else [((), frame)]
    return [module_view(group, others, values, shared) for values, group in groups]


def module_view(
    group: pd.DataFrame, axes: list[str], values: tuple[object, ...], caption: str
) -> View:
    """A row a module, a column a batch size, and each module's share at the largest."""
    batches = sorted(group["batch_size"].unique())
    own = ", ".join(f"{axis} {value}" for axis, value in zip(axes, values, strict=True))
    batch_headings = [f"batch {batch}\n[ms/image]" for batch in batches]
    view = View(
        "Time by module" + (f": {own}" if own else ""),
        ["module", "kind", *batch_headings, f"share at {batches[-1]}\n[%]"],
        caption=caption,
    )
    for module, rows in group.groupby("module", sort=False):
        by_batch = rows.drop_duplicates("batch_size", keep="last").set_index("batch_size")
        per_image = by_batch["total_s"].reindex(batches) / batches
        share = by_batch["share"].get(batches[-1], float("nan"))
        times = [METRICS["total_s"].show(seconds) for seconds in per_image]
        view.rows.append([str(module), rows.iloc[0]["kind"], *times, METRICS["share"].show(share)])
    return view


def varying_axes(frame: pd.DataFrame) -> tuple[list[str], str]:
    """The axes, and the sweep, that differ between rows; and a line that names the other axes."""
    axes = ("sweep_id", *AXES)
    varying = [axis for axis in axes if frame[axis].nunique() > 1 or axis == "batch_size"]
    if frame.empty:
        return varying, ""
    fixed = (f"{axis} {frame[axis].iloc[0]}" for axis in AXES if axis not in varying)
    return varying, f"in all rows: {', '.join(fixed)}; {check_line(frame)}"


def check_line(frame: pd.DataFrame) -> str:
    """How many self-checks the cases of a frame have passed."""
    cases = frame.drop_duplicates(["sweep_id", "case_id"])
    total, warned, invalid = (
        int(cases[name].sum()) for name in ("checks", "warnings", "invalid_checks")
    )
    return f"self-checks: {total} made, {warned} warn, {invalid} invalid"


def check_views(frame: pd.DataFrame) -> list[View]:
    """What the self-checks found, where they did not pass."""
    if frame.empty:
        return []
    axes, caption = varying_axes(frame)
    view = View("Self-checks that did not pass", [*axes, *CHECK_HEADINGS], caption=caption)
    for row in frame[frame["verdict"] != "pass"].to_dict("records"):
        own = [str(row[axis]) for axis in axes]
        value = METRICS["value"].show(row["value"])
        text = [str(row[name] or "") for name in ("limit", "verdict", "reason")]
        view.rows.append([*own, row["check"], value, *text])
    return [view]


VIEWS = {
    "case": case_views,
    "component": component_views,
    "module": module_views,
    "check": check_views,
}


def failure_lines(records: Sequence[Record]) -> list[str]:
    """A line for each case that has no number, with its reason."""
    return [
        harmless(f"{record.status}: {record.case.label}: {record.message}")
        for record in records
        if record.status != "ok"
    ]


def note_lines(records: Iterable[Record]) -> list[str]:
    """What a person should know of the measurements, each note once."""
    notes = {
        f"note: {subject}: {text}"
        for record in records
        if record.measurement is not None
        for subject, text in record.measurement.notes.items()
    }
    return sorted(notes)


def end_lines(end: SweepEnd | None) -> list[str]:
    """What the sweep cost beside its measuring, and its own checks that did not pass."""
    if end is None:
        return []
    lines = []
    if end.measured_s > 0:
        lines.append(
            f"It took {end.wall_s:.0f} s, {end.wall_s / end.measured_s:.2f} times its timed and "
            "warm-up work."
        )
    lines += [
        harmless(f"self-check {name}: {check.verdict}: {check.reason}")
        for name, check in end.checks.items()
        if check.verdict != "pass"
    ]
    return lines


def status_line(planned: int, records: Iterable[Record]) -> str:
    """'12 cases planned: 10 ok, 1 oom, 1 not run'; the parts always add up."""
    counts = Counter(record.status for record in records)
    not_run = planned - sum(counts.values())
    parts = [f"{count} {status}" for status, count in counts.items()]
    parts += [f"{not_run} not run"] if not_run else []
    return f"{planned} cases planned: {', '.join(parts)}"


def plan_view(cases: Sequence[Case], environment: Environment) -> View:
    """A row a case, with why it can't be measured here."""
    from .sweep import unsupported_reason

    headings = [*AXES, "status"]
    rows = []
    for case in cases:
        own = [str(value) for value in case.model_dump().values()]
        rows.append([*own, unsupported_reason(case, environment) or "planned"])
    return View("Cases of the sweep", headings, rows)


def choices_views() -> list[View]:
    """A table an axis that has a vocabulary."""
    from .sweep import VOCABULARY

    return [
        View(
            f"--{axis}",
            ["name", "what it is"],
            [[name, getattr(entry, "summary", str(entry))] for name, entry in entries.items()],
        )
        for axis, entries in VOCABULARY.items()
    ]
