"""A recommendation as a table and sentences, and what was not measured yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from results.records.case import AXES, WAY_AXES
from results.tables.metrics import METRICS
from sam.attention.variants import BOTH

from ..choices.execution import EXECUTIONS, why_no_export
from ..choices.families import family_of
from ..choices.precision import PRECISIONS, why_no_eight_bits
from .printing import TextTable, text_headings

if TYPE_CHECKING:
    import pandas as pd

    from results.answers.recommend import Recommendation, Requirements, Row

SHOWN = (
    "batch_size", *WAY_AXES, "image_s", "images_per_s", "median_s",
    "p90_s", "peak_bytes", "embedding_error", "mfu", "mfu_measured", "first_forward_s", "n",
    "started_at",
)  # fmt: skip


def recommendation_view(
    found: Recommendation, wanted: Requirements, cases: pd.DataFrame
) -> TextTable:
    """What is recommended beside its runner-up.

    Args:
        found: What is recommended.
        wanted: What it was asked for.
        cases: All that the store has.
    """
    import pandas as pd

    row, other = found.row, found.runner_up
    device: str = row["gpu"] if pd.notna(row["gpu"]) else row["cpu"]
    headings = [*text_headings("what"), "recommended"] + ["runner-up"] * (other is not None)
    view = TextTable(f"{wanted.model} at {wanted.image_size} px on {device}", headings)
    for name in SHOWN:
        metric = METRICS.get(name)
        show = metric.show if metric else str
        cells = [show(each[name]) for each in (row, other) if each is not None]
        if any(text not in ("-", "nan") for text in cells):
            view.rows.append([metric.heading if metric else name, *cells])
    view.sentences = list(sentences(found, wanted))
    missing = not_measured(row, wanted, cases)
    if missing:
        view.sentences.append(f"Not measured on this device: {', '.join(missing)}.")
    return view


def sentences(found: Recommendation, wanted: Requirements) -> Iterator[str]:
    row, fastest, other = found.row, found.fastest, found.runner_up
    if not found.keeps_latency and wanted.latency_s is not None:
        yield (
            f"Nothing that was measured keeps {wanted.latency_s * 1e3:g} ms: this comes nearest."
        )
    if row["batch_size"] != fastest["batch_size"]:
        more = fastest["images_per_s"] / row["images_per_s"] - 1
        yield (
            f"Batch {fastest['batch_size']} gives {more * 100:.1f} % more images a second, for "
            f"forwards of {fastest['median_s'] * 1e3:.4g} ms."
        )
    if other is not None:
        ratio = other["image_s"] / fastest["image_s"]
        yield f"An image takes the runner-up {ratio:.3f} times as long."
    doubts = "; ".join((*found.grave, *found.slight))
    yield f"Confidence: {found.confidence}" + (f" ({doubts})." if doubts else ".")
    read = [row, *([fastest] if fastest is not row else []), *([other] if other else [])]
    records = (f"{each['sweep_id']}/{each['case_id']}" for each in read)
    yield f"Evidence: {', '.join(dict.fromkeys(records))}."


def not_measured(row: Row, wanted: Requirements, cases: pd.DataFrame) -> list[str]:
    """Precisions, attentions and executions that could run there, and that no record is of."""
    import pandas as pd

    kind: str = "cuda" if pd.notna(row["gpu"]) else "cpu"
    same = cases["gpu"].isna() if kind == "cpu" else cases["gpu"] == row["gpu"]
    of_model = (cases["model"] == wanted.model) & (cases["image_size"] == wanted.image_size)
    there = cases[same & of_model & (cases["status"] == "ok")]
    precision = row["precision"]
    family, dtype = family_of(wanted.model), PRECISIONS[precision].dtype
    able = {axis: list(AXES[axis].choices) for axis in WAY_AXES} | {
        "precision": [
            name
            for name in wanted.precisions
            if (kind == "cuda" or PRECISIONS[name].on_cpu)
            and why_no_eight_bits(name, family) is None
        ],
        "attention": [
            name for name in family.attention if family.why_no_attention(name, kind, dtype) is None
        ],
        "execution": [
            name
            for name, execution in EXECUTIONS.items()
            if execution.why_unsupported(kind, precision) is None
            and why_no_export(name, family) is None
        ],
    }
    known = {axis: {part for name in there[axis] for part in name.split(BOTH)} for axis in able}
    return [name for axis, names in able.items() for name in names if name not in known[axis]]
