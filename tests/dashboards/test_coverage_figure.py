"""What was measured at all: four marks, and what was never tried has one too."""

from __future__ import annotations

import pytest

from dashboards.theme import STATUS_MARKS
from results.records.schema import STATUSES

MARKS = {
    "ok": "ok",
    "oom": "oom",
    "timeout": "failed",
    "crashed": "failed",
    "cuda_error": "failed",
    "invalid": "failed",
    "skipped": "oom",
    "unsupported": "not run",
    "interrupted": "not run",
    "not_run": "not run",
}


def marks(figure):
    """The mark at each place."""
    return {
        (y, int(x)): trace.name
        for trace in figure.data
        for x, y in zip(trace.x, trace.y, strict=True)
    }


@pytest.fixture
def row(frames):
    """A good case."""
    return frames["cases"].query("status == 'ok'").head(1)


@pytest.fixture
def several(row):
    """Maker of cases at one place, with these statuses."""

    def make(*statuses):
        rows = row.loc[row.index.repeat(len(statuses))]
        precisions = [f"p{number}" for number in range(len(statuses))]
        return rows.assign(status=list(statuses), precision=precisions)

    return make


def test_every_status_has_a_mark_here():
    assert set(MARKS) == set(STATUSES)


@pytest.mark.parametrize(("status", "mark"), MARKS.items())
def test_every_status_has_one_of_four_marks(draw, row, status, mark):
    (trace,) = draw("coverage", row.assign(status=status)).data

    assert (trace.name, len(trace.x)) == (mark, 1)
    assert (trace.marker.symbol, trace.marker.color) == STATUS_MARKS[mark]


def test_no_two_marks_have_the_same_symbol():
    assert len({symbol for symbol, _ in STATUS_MARKS.values()}) == len(STATUS_MARKS) == 4


@pytest.mark.parametrize(
    ("statuses", "mark"),
    [
        (("ok", "crashed"), "failed"),
        (("crashed", "ok"), "failed"),
        (("ok", "oom"), "oom"),
        (("oom", "timeout"), "failed"),
        (("skipped", "ok"), "oom"),
        (("skipped", "oom"), "oom"),
        (("ok", "ok"), "ok"),
    ],
)
def test_of_several_cases_at_one_place_the_worst_shows(draw, several, statuses, mark):
    assert set(marks(draw("coverage", several(*statuses))).values()) == {mark}


def test_hovering_tells_how_many_of_each_there_are(draw, several):
    statuses = ("ok", "ok", "ok", "oom", "oom", "crashed", "skipped", "unsupported")
    (trace,) = draw("coverage", several(*statuses)).data

    assert list(trace.customdata[0]) == [None, 3, 3, 1]


def test_every_place_of_device_model_and_batch_has_one_mark(draw, frames):
    cases = frames["cases"]
    places = [
        (f"{gpu} {model}", size)
        for gpu in cases["gpu"].unique()
        for model in cases["model"].unique()
        for size in cases["batch_size"].unique()
    ]
    figure = draw("coverage")

    assert set(marks(figure)) == set(places)
    assert sum(len(trace.x) for trace in figure.data) == len(places)


def test_what_was_never_tried_is_not_run(draw, frames):
    cases = frames["cases"]
    mine = (cases["gpu"] == "NVIDIA L4") & (cases["model"] == "vit_b") & (cases["batch_size"] == 4)
    shown = marks(draw("coverage", cases[~mine]))

    assert shown["NVIDIA L4 vit_b", 4] == "not run"
    assert marks(draw("coverage"))["NVIDIA L4 vit_b", 4] == "ok"


def test_a_cpu_is_a_device_by_its_own_name(draw, row):
    figure = draw("coverage", row.assign(gpu=None, cpu="a CPU"))

    assert list(figure.data[0].y) == [f"a CPU {row['model'].iloc[0]}"]


def test_batch_sizes_stand_by_size_and_not_by_name(draw, frames):
    assert list(draw("coverage", frames["cases"].iloc[::-1]).layout.xaxis.categoryarray) == [
        "1", "4", "32",
    ]  # fmt: skip
