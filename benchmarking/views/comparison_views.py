"""Two sets of records side by side, for a terminal and as Markdown or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from results.answers.compare import (
    compare_cases,
    compared_values,
    environment_changes,
    geometric_mean,
    matched,
    newest,
    plan_changes,
    unasked_changes,
)
from results.records.case import AXES
from results.records.errors import printable
from results.records.schema import Record
from results.tables.frames import case_frame
from results.tables.metrics import METRICS

from .printing import TextTable, text_headings, two_lines

Change = tuple[str, str, str]  # what differs, before, after
SHOWN = ("before_s", "after_s", "ratio")
TOLD_OF_CODE = ("git_commit", "sam_bench")  # of an environment
MOST_CHANGES = 12  # of the environment, that are told below a table


@dataclass(frozen=True)
class Comparison:
    """Two sets of records.

    rows: A row a case of either side.
    apart: Axes that are compared, with both values.
    changes: What differs between machines, installations and plans, the newest of each side.
    warnings: What differs though it is not what is compared.
    """

    rows: pd.DataFrame
    apart: tuple[Change, ...]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]

    @property
    def matched(self) -> pd.DataFrame:
        return matched(self.rows)

    def json(self) -> str:
        rows = json.loads(self.rows.to_json(orient="records", double_precision=15))
        mean = geometric_mean(self.rows)
        content = {
            "compared": self.apart,
            "geometric_mean": None if math.isnan(mean) else mean,
            "cases": rows,
            "environment": self.changes,
            "warnings": self.warnings,
        }
        return json.dumps(content, indent=1)


def compared(before: Sequence[Record], after: Sequence[Record]) -> Comparison:
    frames = [case_frame(side) for side in (before, after)]
    apart = compared_values(*map(newest, frames))
    sides = [max(side, key=lambda record: record.started_at) for side in (before, after)]
    environment = environment_changes(sides[0].environment, sides[1].environment)
    plans = plan_changes(sides[0].plan, sides[1].plan)
    unasked = [*unasked_changes(environment, is_code_compared=not apart), *plans]
    return Comparison(
        rows=compare_cases(frames[0], frames[1]),
        apart=apart,
        changes=(*environment, *plans),
        warnings=tuple(
            f"they differ in {name} too: {old}, then {new}" for name, old, new in unasked
        ),
    )


def comparison_view(both: Comparison) -> TextTable:
    """A row a case that both have, the largest change first; what else there is, below."""
    rows = both.matched.sort_values("ratio", ascending=False, kind="stable")
    axes = [axis for axis in AXES if axis == "batch_size" or rows[axis].nunique() > 1]
    headings = [two_lines(METRICS[name].heading) for name in SHOWN]
    view = TextTable(
        "After against before",
        [*text_headings(*axes), *headings, "95 % interval", *text_headings("verdict")],
    )
    for row in rows.to_dict("records"):
        interval = (METRICS["ratio"].show(row[name]) for name in ("ratio_low", "ratio_high"))
        shown = [METRICS[name].show(row[name]) for name in SHOWN]
        own = [printable(str(row[axis])) for axis in axes]
        view.rows.append([*own, *shown, " .. ".join(interval), row["verdict"]])
    mean = geometric_mean(both.rows)
    view.caption = f"geometric mean of {len(rows)} ratios: {mean:.4f}; above 1 is slower"
    view.sentences = [printable(each) for each in sentences(both)]
    return view


def sentences(both: Comparison) -> list[str]:
    told = [f"compared: {axis} {old}, then {new}" for axis, old, new in both.apart]
    for name, column in (("before", "after_s"), ("after", "before_s")):
        count = int(both.rows[column].isna().sum())
        if count:
            told.append(f"{count} cases {name} alone are not compared")
    told += [
        f"compared: {name} {old}, then {new}"
        for name, old, new in both.changes
        if name in TOLD_OF_CODE and not both.apart
    ]
    told += [f"warning: {each}" for each in both.warnings[:MOST_CHANGES]]
    left_out = len(both.warnings) - MOST_CHANGES
    if left_out > 0:
        told.append(f"and {left_out} differences more, which --format json has")
    told.append(
        "Intervals are of forwards within one process: a launch can differ by more. To be sure, "
        "measure both in turn: sam-bench compare --ab"
    )
    return told
