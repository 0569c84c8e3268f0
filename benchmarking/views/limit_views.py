"""What figures mean: how far from its limits a case is, and why a larger batch helped or not."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd

from results.answers.capacity import KNEE
from results.records.case import AXES, PLACE_AXES, SERIES_AXES, case_label
from results.records.measurement import ENCODER
from results.tables.metrics import METRICS

from .printing import TextTable, text_headings, two_lines, varying_axes

LIMIT_METRICS = ("image_s", "flops_per_s", "mfu", "mfu_measured")
KIND_HEADINGS = (
    *text_headings("kind"), "modules", "share\n[%]", "work\n[GFLOP]", "moved\n[MiB]",
    "achieved\n[TFLOP/s]", "MFU\n[%]", *text_headings("bound by"),
)  # fmt: skip
HELPS, HELPS_LITTLE = 1.5, 1.05  # times as many images a second
WORTH_TELLING = 0.05  # of a change, before a cause of it is named
NOISE = 0.01  # of an image's time, that no machine tells

# Cases that differ in one of these do not do the same: none of them is the best of the other.
WORK_AXES = [axis for axis in SERIES_AXES if AXES[axis].role == "work"]
# What names a case beside its device.
NAMED_AXES = tuple(axis for axis in AXES if axis not in PLACE_AXES)

Row = dict[Hashable, Any]


# How far from the limit


def limits_views(frame: pd.DataFrame) -> list[TextTable]:
    """How far each case is from its limits, and of the best ones which part holds them back."""
    cases = frame[(frame["module"] == ENCODER) & frame["image_s"].notna()]
    if cases.empty:
        return []
    axes, caption = varying_axes(cases)
    shown = [name for name in LIMIT_METRICS if cases[name].notna().any()]
    headings = [two_lines(METRICS[name].heading) for name in shown]
    view = TextTable(
        "How far from the limit",
        [*axes, *headings, "floor\n[ms/image]", "times the\nfloor", *text_headings("bound by")],
        caption=caption,
    )
    for row in cases.to_dict("records"):
        floor_s = image_floor_s(row)
        view.rows.append(
            [
                *(str(row[axis]) for axis in axes),
                *(METRICS[name].show(row[name]) for name in shown),
                METRICS["floor_s"].show(floor_s),
                METRICS["floor_times"].show(row["image_s"] / floor_s if floor_s else float("nan")),
                row["bound_by"] if pd.notna(row["bound_by"]) else "-",
            ]
        )
    good = cases[cases["status"] == "ok"]
    where = good["gpu"].where(good["gpu"].notna(), good["cpu"])
    models = good.groupby([*WORK_AXES, "precision", where], sort=False)["image_s"]
    best = good.loc[models.idxmin()].to_dict("records")
    kinds = [kind_view(modules_of(frame, row), row) for row in best]
    view.sentences = [limit_sentence(row, modules_of(frame, row)) for row in best]
    return [view, *(each for each in kinds if each.rows)]


def image_floor_s(row: Row) -> float:
    """By what the device reached; or else by what its maker says; NaN where neither is known."""
    measured = row["floor_measured_s"]
    floor_s: float = measured if pd.notna(measured) else row["floor_s"]
    return floor_s / row["batch_size"] if pd.notna(floor_s) else float("nan")


def device_of(row: Row) -> str:
    return str(row["gpu"] if pd.notna(row["gpu"]) else row["cpu"])


def modules_of(frame: pd.DataFrame, case: Row) -> pd.DataFrame:
    """The innermost modules of a case: a block's work is that of its parts, where these are."""
    is_same = (frame["case_id"] == case["case_id"]) & (frame["sweep_id"] == case["sweep_id"])
    return frame[is_same & frame["is_innermost"].eq(True)]


def kind_view(modules: pd.DataFrame, case: Row) -> TextTable:
    """A row a kind of module of one case."""
    own = case_label(case, NAMED_AXES)
    view = TextTable(f"By part: {own} on {device_of(case)}", KIND_HEADINGS)
    mfu_name: str = "mfu_measured" if pd.notna(case["mfu_measured"]) else "mfu"
    for kind, group in modules.groupby("kind", sort=False):
        total_s, flops = group["total_s"].sum(), group["flops"].sum(min_count=1)
        values: dict[str, float] = {
            "share": group["share"].sum(),
            "flops": flops,
            "moved_bytes": group["moved_bytes"].sum(min_count=1),
            "flops_per_s": flops / total_s,
            mfu_name: (group[mfu_name] * group["total_s"]).sum(min_count=1) / total_s,
        }
        cells = [METRICS[name].show(value) for name, value in values.items()]
        view.rows.append([str(kind), str(len(group)), *cells, main_bound(group)])
    return view


def main_bound(modules: pd.DataFrame) -> str:
    """What holds most of the modules' time back."""
    known = modules.dropna(subset="bound_by")
    return str(known.groupby("bound_by")["total_s"].sum().idxmax()) if len(known) else "-"


def limit_sentence(row: Row, modules: pd.DataFrame) -> str:
    """What holds a model back at its best, and what would be the best possible."""
    show, batch = METRICS["image_s"].show, row["batch_size"]
    begin = (
        f"{row['model']} at {row['image_size']} px in {row['precision']} on {device_of(row)}: "
        f"at best ({row['attention']}, {row['execution']}, batch {batch}) an image takes "
        f"{show(row['image_s'])} ms"
    )
    floor_s = image_floor_s(row)
    if pd.isna(floor_s) or not floor_s or not row["least_flops"]:
        return f"{begin}. What this device can do is not known: sam-bench doctor --calibrate."
    is_measured = bool(pd.notna(row["mfu_measured"]))
    mfu: float = row["mfu_measured" if is_measured else "mfu"]
    gflop = METRICS["least_flops"].show(row["least_flops"] / batch)
    flops_per_s = row["least_flops"] / row["total_s"] / mfu
    basis = "measured here" if is_measured else "as its maker says"
    work = f"{gflop} GFLOP at {METRICS['flops_per_s'].show(flops_per_s)} TFLOP/s"
    if row["least_flops"] / flops_per_s < 0.99 * floor_s * batch:  # memory takes longer
        work = f"the {METRICS['least_bytes'].show(row['least_bytes'])} MiB that a forward must move"
    sentence = (
        f"{begin}, {row['image_s'] / floor_s:.2f} times the best possible, {show(floor_s)} ms for "
        f"{work} ({basis}). {BOUND_SENTENCES[row['bound_by']]}"
    )
    if modules.empty:
        return sentence
    shares = modules.groupby("kind")["share"].sum()
    kind = shares.idxmax()
    bound = main_bound(modules[modules["kind"] == kind])
    share = METRICS["share"].show(float(shares.max()))
    return f"{sentence} Most of it, {share} %, is in {kind} modules, bound by {bound}."


BOUND_SENTENCES = {
    "launch": "It is bound by launches: the GPU waits for the host.",
    "compute": "It is bound by computing.",
    "memory": "It is bound by memory: operations that are fused would move less.",
}


# What a larger batch changed


def batching_views(frame: pd.DataFrame) -> list[TextTable]:
    """A table for each set of cases that differ in the batch size alone, a row a step."""
    axes = ["sweep_id", *SERIES_AXES]
    varying = [axis for axis in axes if frame[axis].nunique() > 1]
    return [
        batching_view(series, ", ".join(f"{axis} {series[axis].iloc[0]}" for axis in varying))
        for _, series in frame.groupby(axes, sort=False, dropna=False)
    ]


def batching_view(series: pd.DataFrame, own: str) -> TextTable:
    parts, causes = (list(dict.fromkeys(series[name])) for name in ("part", "cause"))
    view = TextTable(
        "What a larger batch changed" + (f": {own}" if own else ""),
        [
            *("batch", "before\n[ms/image]", "after\n[ms/image]", "change\n[%]"),
            *(f"{name.replace('_', ' ')}\n[ms]" for name in parts),
            *(f"by {name}\n[ms]" for name in causes),
            "self-checks\nthat warn",
        ],
        caption="parts add up to the change, and so do causes; what is below zero is gained"
        + ("; --module-depth 2 tells attention from MLP" if "window" in parts else ""),
    )
    show = METRICS["change_s"].show
    for (smaller, larger), step in series.groupby(["from_batch", "to_batch"], sort=False):
        before_s, change_s = step["before_s"].sum(), step["change_s"].sum()
        by_part, by_cause = (step.groupby(name)["change_s"].sum() for name in ("part", "cause"))
        view.rows.append(
            [
                f"{smaller} -> {larger}",
                show(before_s),
                show(before_s + change_s),
                METRICS["share"].show(change_s / before_s),
                *map(show, by_part.reindex(parts)),
                *map(show, by_cause.reindex(causes)),
                str(step["warnings"].iloc[0]),
            ]
        )
    view.sentences = [batching_sentence(series)]
    return view


def batching_sentence(series: pd.DataFrame) -> str:
    """Whether larger batches help, how much, and why they do or do not."""
    case = series.iloc[0]
    steps = series.groupby(["from_batch", "to_batch"], sort=False)[["before_s", "change_s"]].sum()
    image_s = {int(steps.index[0][0]): float(steps["before_s"].iloc[0])}
    sizes = steps.index.get_level_values("to_batch")
    image_s |= dict(zip(map(int, sizes), map(float, steps.sum(axis=1)), strict=True))
    first, last = min(image_s), max(image_s)
    first_s, last_s = image_s[first], image_s[last]
    best_s = min(image_s.values())
    enough = next(size for size, each_s in image_s.items() if each_s * KNEE <= best_s)
    show = METRICS["image_s"].show
    held = series[series["from_batch"] == first].groupby("cause")["before_s"].sum()
    cause, share = str(held.idxmax()), float(held.max() / held.sum())
    return " ".join(
        [
            f"{case['model']} at {case['image_size']} px in {case['precision']}, "
            f"{case['attention']}, {case['execution']}, {case['input']} on {case['device']}:",
            f"from batch {first} to {last} an image takes {show(first_s)} -> {show(last_s)} ms.",
            f"{how_much(first_s / last_s)}, {first_s / last_s:.2f} times as many images a second;",
            f"batch {enough} is within {(1 - KNEE) * 100:.0f} % of the best.",
            *cause_sentences(series, max(WORTH_TELLING * abs(first_s - last_s), NOISE * first_s)),
            f"At batch {first}, {share * 100:.0f} % of the time {HELD_BY[cause]}.",
        ]
    )


def how_much(gain: float) -> str:
    """In words: what a machine's noise explains is no help."""
    if gain >= HELPS:
        return "Larger batches help"
    return "Larger batches help a little" if gain > HELPS_LITTLE else "Larger batches do not help"


def cause_sentences(series: pd.DataFrame, least_s: float) -> list[str]:
    """The causes of the whole change, the largest first; none where nothing is worth telling."""
    by_cause = series.groupby("cause")["change_s"].sum().sort_values(key=lambda each: -each.abs())
    told = [
        f"{METRICS['change_s'].show(abs(each))} ms {'gained' if each < 0 else 'lost'} by "
        f"{CAUSE_NAMES[str(cause)]}"
        for cause, each in by_cause.items()
        if abs(each) >= least_s
    ]
    return [f"Of an image, {', '.join(told)}."] if told else []


CAUSE_NAMES = {
    "launch": "launches that serve more images",
    "memory": "parts that wait for memory",
    "compute": "parts that compute",
    "clock": "another clock of the GPU",
    "unknown": "what is not known (sam-bench doctor --calibrate)",
}
HELD_BY = {
    "launch": "the GPU waits for launches, which a larger batch mends",
    "memory": "goes by in parts that wait for memory",
    "compute": "goes by in parts that compute, and each image has its own to do",
    "unknown": "goes by in parts of which is not known what holds them back",
}


# Which batch size is best


def capacity_views(frame: pd.DataFrame) -> list[TextTable]:
    """A card for each set of cases that differ in the batch size alone."""
    return [capacity_view(row) for row in frame.to_dict("records")]


def capacity_view(row: Row) -> TextTable:
    own = case_label(row, [axis for axis in NAMED_AXES if axis != "batch_size"])
    view = TextTable(
        f"Capacity: {own} on {device_of(row)}",
        [*text_headings("what"), "batch", *text_headings("figure")],
    )
    gib, rate = METRICS["fixed_bytes"].show, METRICS["images_per_s"].show
    fitting = "nothing larger was tried that did not fit"
    if pd.notna(row["smallest_oom"]):
        limit = row["memory_limit_bytes"]
        is_limited = f" of {gib(limit)} GiB" if pd.notna(limit) else ""
        fitting = f"{row['smallest_oom']:.0f} did not fit{is_limited}"
    enough = f"enough, within {(1 - KNEE) * 100:.0f} %"
    figures = [
        ("largest that fits", "largest_batch", fitting),
        ("best throughput", "best_batch", f"{rate(row['best_images_per_s'])} images/s"),
        (enough, "knee_batch", f"{rate(row['knee_images_per_s'])} images/s"),
    ]
    if pd.notna(row["latency_budget_s"]):
        budget = METRICS["median_s"].show(row["latency_budget_s"])
        within = f"{rate(row['budget_images_per_s'])} images/s"
        found = pd.notna(row["budget_batch"])
        figures.append((f"within {budget} ms", "budget_batch", within if found else "none is"))
    if pd.notna(row["image_joules"]):
        joules = f"{METRICS['image_joules'].show(row['image_joules'])} J an image, whole board"
        figures.append(("least energy", "joules_batch", joules))
    for what, batch, figure in figures:
        view.rows.append([what, f"{row[batch]:.0f}" if pd.notna(row[batch]) else "-", figure])
    if pd.notna(row["image_bytes"]):
        memory = f"{gib(row['fixed_bytes'])} GiB + {gib(row['image_bytes'])} GiB an image"
        view.rows.append(["memory, fitted", "", memory])
    view.rows.append(["self-checks", "", f"{row['warnings']} warn"])
    return view
