"""Cells over time, for a terminal."""

from __future__ import annotations

import pandas as pd

from results.records.case import AXES
from results.tables.metrics import METRICS

from .printing import TextTable, text_headings

HEADINGS = ("since", "commit", "step [%]", "sessions", "now\n[ms/image]")


def history_view(rows: pd.DataFrame) -> TextTable:
    """A row a step, the newest first, and below how many cells stayed as they were."""
    axes = [axis for axis in AXES if axis == "batch_size" or rows[axis].nunique() > 1]
    devices = ["gpu"] if rows["gpu"].nunique() > 1 else []
    view = TextTable("Steps over time", [*text_headings(*devices, *axes), *HEADINGS])
    steps = rows[rows["step"].notna()].sort_values("started_at", ascending=False, kind="stable")
    sessions = rows.groupby("series")["session"].max()
    now_s = rows.groupby("series")["image_s"].last()
    for row in steps.to_dict("records"):
        own = [str(row[name]) for name in (*devices, *axes)]
        commit = row["git_commit"][:12] if isinstance(row["git_commit"], str) else "-"  # or NaN
        since, step = str(row["started_at"])[:16], f"{(row['step'] - 1) * 100:+.1f}"
        now = METRICS["image_s"].show(now_s[row["series"]])
        view.rows.append([*own, since, commit, step, str(sessions[row["series"]]), now])
    stayed = len(sessions) - steps["series"].nunique()
    view.caption = f"{len(sessions)} cells were measured more than once, {stayed} have no step"
    return view
