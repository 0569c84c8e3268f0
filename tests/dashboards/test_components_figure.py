"""Where the time of the pipeline goes: bars of an image, in milliseconds or as shares."""

from __future__ import annotations

import pandas as pd
import pytest

from dashboards.data import Data
from dashboards.figures.components import MOST_BARS
from dashboards.view import ViewState
from results.records.case import MASK_GENERATOR
from results.records.store import Store

PARTS = (
    "decode", "preprocess", "host to device copy", "image encoder", "prompt encoder",
    "mask decoder", "postprocess",
)  # fmt: skip


@pytest.fixture
def parts(frames):
    """Of one series at its batch sizes."""
    rows = frames["components"]
    words = {"gpu": "NVIDIA L4", "model": "vit_b", "precision": "bf16", "attention": "sdpa"}
    return rows[(rows[list(words)] == pd.Series(words)).all(axis=1)]


def of_batch(parts, size):
    return parts[parts["batch_size"] == size].set_index("component")


def bars(figure):
    """The length of each part's bar, of a figure with one bar."""
    return {bar.name: bar.x.item() for bar in figure.data}


def test_parts_stand_in_the_order_of_the_pipeline(draw, parts):
    figure = draw("components", parts)

    assert tuple(bar.name for bar in figure.data) == PARTS
    assert figure.layout.barmode == "stack"


def test_the_bars_of_a_device_add_up_to_the_time_of_an_image(draw, frames):
    rows = frames["components"]
    mine = rows[rows["case_id"] == rows["case_id"].iloc[0]]
    mine = mine[mine["sweep_id"] == mine["sweep_id"].iloc[0]]
    figure = draw("components", mine)

    assert sum(bars(figure).values()) == pytest.approx(
        mine["median_s"].sum() / mine["batch_size"].iloc[0] * 1e3
    )


@pytest.mark.parametrize("size", [1, 4, 32])
def test_each_bar_is_the_part_s_time_of_an_image(draw, parts, size):
    rows = of_batch(parts, size)["median_s"] / size * 1e3

    assert bars(draw("components", parts, batch=str(size))) == pytest.approx(
        {name.replace("_", " "): value for name, value in rows.items()}
    )


@pytest.mark.parametrize("size", [1, 4, 32])
def test_shares_are_percent_and_add_up_to_100(draw, parts, size):
    figure = draw("components", parts, scale="share", batch=str(size))
    shares = of_batch(parts, size)["share"] * 100

    assert bars(figure) == pytest.approx(
        {name.replace("_", " "): value for name, value in shares.items()}
    )
    assert sum(bars(figure).values()) == pytest.approx(100)
    assert figure.layout.title.text.endswith("[%]")
    assert figure.layout.xaxis.title.text.endswith("[%]")


def test_a_title_and_axis_in_milliseconds_say_so(draw, parts):
    layout = draw("components", parts, scale="absolute").layout

    assert layout.title.text.endswith("[ms]")
    assert layout.xaxis.title.text.endswith("[ms]")


@pytest.mark.parametrize("batch", [None, ""])
def test_without_a_batch_size_the_smallest_of_each_series_is_shown(draw, parts, batch):
    larger = parts[parts["batch_size"] > 1]
    larger = larger.assign(model="vit_l", record_id=larger["record_id"] + "l")
    figure = draw("components", pd.concat([parts, larger]), batch=batch)

    assert {(label, told[4]) for bar in figure.data
            for label, told in zip(bar.y, bar.customdata, strict=True)} == {
        ("NVIDIA L4 vit_b", 1), ("NVIDIA L4 vit_l", 4),
    }  # fmt: skip


@pytest.mark.parametrize("batch", ["3", "0"])
def test_a_batch_size_that_nothing_was_measured_at_has_no_bars(draw, parts, batch):
    assert len(draw("components", parts, batch=batch).data) == 0


def test_the_mask_generator_is_another_pipeline(draw, parts):
    other = parts.assign(pipeline=MASK_GENERATOR, median_s=7.0, share=0.5)

    assert bars(draw("components", pd.concat([parts, other]))) == bars(draw("components", parts))
    assert len(draw("components", other).data) == 0


def test_a_part_has_the_same_colour_where_others_are_missing(draw, parts):
    found = {bar.name: bar.marker.color for bar in draw("components", parts).data}
    (alone,) = draw("components", parts[parts["component"] == "mask_decoder"]).data

    assert alone.marker.color == found["mask decoder"]
    assert len(set(found.values())) == len(PARTS)


def test_it_says_how_many_of_all_bars_it_shows(draw, parts):
    many = pd.concat(
        parts.assign(gpu=f"GPU {number}", record_id=parts["record_id"] + f"-{number}")
        for number in range(MOST_BARS + 3)
    )
    figure = draw("components", many)

    assert {len(set(bar.y)) for bar in figure.data} == {MOST_BARS}
    assert figure.layout.title.subtitle.text == f"{MOST_BARS} of {MOST_BARS + 3} series shown"


@pytest.mark.parametrize("is_older_first", [True, False])
def test_of_equal_cases_the_last_that_was_measured_is_shown(
    tmp_path, draw, one_record, is_older_first
):
    stores = [Store(tmp_path / name) for name in ("older", "newer")]
    newer = {"sweep_id": "20990101-000000-later", "started_at": "2099-01-01T00:00:00+00:00"}
    later = one_record.model_copy(update=newer)
    stores[0].write_record(one_record)
    stores[1].write_record(later)
    data = Data([store.path for store in stores[:: 1 if is_older_first else -1]], keep=False)
    data.refresh()
    figure = draw("components", data.frames(ViewState())["components"])

    assert {told[0] for bar in figure.data for told in bar.customdata} == {later.record_id}
