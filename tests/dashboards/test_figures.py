"""Figures: what each of them shows of a frame, and what it must not make up."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from dashboards.figures import FIGURES, MOST_SERIES
from dashboards.theme import MARKERS, color_of
from results.hardware import find_peak

EVIL = "<img src=x onerror=alert(1)>"
SCALING = ("latency", "throughput", "memory")
OF_DEVICES = (*SCALING, "roofline", "history")  # a line or a cloud a device
SHOWN_COLUMN = {
    "components": "median_s",
    "throughput": "images_per_s",
    "latency": "image_s",
    "layers": "total_s",
    "memory": "peak_bytes",
    "roofline": "flops_per_s",
    "history": "image_s",
}


def texts(value):
    """All strings in a figure, also those of its arrays."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def strings(figure):
    return list(texts(json.loads(figure.to_json())))


def drawn(trace):
    """The numbers that a trace shows, missing ones too."""
    shown = {"bar": "x", "heatmap": "z"}.get(trace.type, "y")
    return np.asarray(trace[shown], dtype=float).ravel()


def colors(figure):
    """By device, of all its traces."""
    found = {}
    for trace in figure.data:
        name = trace.name or trace.legendgroup
        device = next(each for each in ("L40S", "L4", "H200") if f"NVIDIA {each} " in f"{name} ")
        own = (trace.marker.color, trace.line.color)
        found.setdefault(f"NVIDIA {device}", set()).update(filter(None, own))
    return found


def one_series(cases):
    """Good cases of one device, model, precision and attention, by batch size."""
    words = {"gpu": "NVIDIA L4", "model": "vit_b", "precision": "bf16", "attention": "sdpa"}
    mine = np.logical_and.reduce([cases[axis] == word for axis, word in words.items()])
    return cases[mine & (cases["status"] == "ok")].sort_values("batch_size")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_the_demonstration_has_something_to_see(draw, name):
    figure = draw(name)

    assert any(np.isfinite(drawn(trace)).any() for trace in figure.data)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_no_records_has_no_traces(draw, make_frames, name):
    figure = draw(name, make_frames([])[FIGURES[name].frame])

    assert len(figure.data) == 0


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_failures_has_no_traces(draw, failed_frames, name):
    figure = draw(name, failed_frames[FIGURES[name].frame])

    assert len(figure.data) == 0


@pytest.mark.parametrize("name", FIGURES)
def test_a_title_ends_in_its_unit(draw, name):
    figure = draw(name)

    assert figure.layout.title.text.partition(";")[0].rstrip().endswith("]")


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_made_up_says_synthetic(draw, name):
    figure = draw(name)

    assert [each.text for each in figure.layout.annotations].count("synthetic") == 1


@pytest.mark.parametrize("name", FIGURES)
def test_what_was_measured_does_not_say_synthetic(draw, measured_frames, name):
    figure = draw(name, measured_frames[FIGURES[name].frame])

    assert len(figure.data) > 0
    assert "synthetic" not in [each.text for each in figure.layout.annotations]


@pytest.mark.parametrize("name", OF_DEVICES)
def test_a_gpu_has_the_same_colour_in_all_figures(draw, name):
    for device, found in colors(draw(name)).items():
        assert found == {color_of(device)}


@pytest.mark.parametrize("name", SCALING)
def test_a_gpu_has_the_same_colour_whatever_the_order_of_rows(draw, frames, name):
    frame = frames[FIGURES[name].frame]

    assert colors(draw(name, frame.iloc[::-1])) == colors(draw(name))


@pytest.mark.parametrize("name", OF_DEVICES)
def test_a_precision_has_its_marker(draw, name):
    traces = [trace for trace in draw(name).data if "markers" in trace.mode]

    assert traces
    for trace in traces:
        (precision,) = MARKERS.keys() & set(trace.name.split())
        assert trace.marker.symbol == MARKERS[precision]


@pytest.mark.parametrize("name", FIGURES)
def test_a_label_is_text_and_not_html(draw, frames, name):
    frame = frames[FIGURES[name].frame].copy()
    for column in {"gpu", "model", "precision", "git_commit", "kind", "component"} & {*frame}:
        frame[column] = frame[column].where(frame[column].isna(), frame[column] + EVIL)
    shown = strings(draw(name, frame))

    assert any("&lt;img" in text for text in shown)
    assert not any("<img" in text for text in shown)


def test_a_module_is_text_and_not_html(draw, frames):
    frame = frames["modules"]
    shown = strings(draw("layers", frame.assign(module=frame["module"] + EVIL)))

    assert any("&lt;img" in text for text in shown)
    assert not any("<img" in text for text in shown)


@pytest.mark.parametrize("name", FIGURES)
def test_a_missing_value_is_never_zero(draw, frames, name):
    frame, column = frames[FIGURES[name].frame], SHOWN_COLUMN[name]
    holes = frame.assign(**{column: frame[column].where(np.arange(len(frame)) % 3 > 0)})
    figure = draw(name, holes)

    assert len(figure.data) > 0
    assert not any((drawn(trace) == 0).any() for trace in figure.data)


def test_a_store_without_memory_has_a_figure_of_it_all_the_same(draw, frames):
    figure = draw("memory", frames["cases"].assign(peak_bytes=None))

    assert not any(np.isfinite(drawn(trace)).any() for trace in figure.data)


@pytest.mark.parametrize("name", SCALING)
def test_scaling_shows_every_series(draw, frames, name):
    good = frames["cases"].query("status == 'ok'")
    series = good.drop_duplicates(["gpu", "model", "precision", "attention"])
    figure = draw(name)

    assert len(figure.data) == len(series)
    assert " shown" not in figure.layout.title.text


@pytest.mark.parametrize("name", SCALING)
def test_scaling_says_how_many_of_all_series_it_shows(draw, frames, name):
    rows = one_series(frames["cases"])
    many = pd.concat([rows.assign(gpu=f"GPU {number}") for number in range(MOST_SERIES + 3)])
    figure = draw(name, many)

    assert len(figure.data) == MOST_SERIES
    assert f"; {MOST_SERIES} of {MOST_SERIES + 3} series shown" in figure.layout.title.text


def test_the_number_of_hidden_series_does_not_depend_on_the_number_of_models(draw, frames):
    rows = one_series(frames["cases"])
    many = pd.concat(
        rows.assign(gpu=f"GPU {number}", model=model)
        for number in range(MOST_SERIES + 3)
        for model in ("vit_b", "vit_l")
    )
    title = draw("latency", many).layout.title.text

    assert (
        f"; {MOST_SERIES} of {MOST_SERIES + 3} series shown" in title
        or f"; {2 * MOST_SERIES} of {2 * (MOST_SERIES + 3)} series shown" in title
    )


def test_the_error_bars_of_a_latency_are_the_95_percent_interval(draw, frames):
    rows = one_series(frames["cases"])
    (trace,) = draw("latency", rows).data
    high_s, low_s = (
        (trace.y + trace.error_y.array) / 1e3,
        (trace.y - trace.error_y.arrayminus) / 1e3,
    )

    assert high_s == pytest.approx((rows["high_s"] / rows["batch_size"]).to_numpy())
    assert low_s == pytest.approx((rows["low_s"] / rows["batch_size"]).to_numpy())


def test_the_error_bars_of_a_throughput_reach_up_where_the_time_is_low(draw, frames):
    rows = one_series(frames["cases"])
    (trace,) = draw("throughput", rows).data
    fastest = rows["images_per_s"] * rows["median_s"] / rows["low_s"]
    slowest = rows["images_per_s"] * rows["median_s"] / rows["high_s"]

    assert trace.y + trace.error_y.array == pytest.approx(fastest.to_numpy())
    assert trace.y - trace.error_y.arrayminus == pytest.approx(slowest.to_numpy())


def test_memory_has_no_interval_of_the_time(draw, frames):
    (trace,) = draw("memory", one_series(frames["cases"])).data

    assert trace.error_y.array is None


def test_of_equal_cases_the_last_that_was_measured_is_shown(draw, frames):
    rows = one_series(frames["cases"]).head(1)
    later = rows.assign(started_at="2027-01-01T00:00:00+00:00", image_s=7.0)
    (trace,) = draw("latency", pd.concat([later, rows])).data

    assert list(trace.y) == [7000.0]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_heat_map_has_the_batch_sizes_in_their_order(draw, frames, is_reversed):
    frame = frames["modules"]
    axes = ["sweep_id", "model", "precision", "attention"]
    family = frame[(frame[axes] == frame.iloc[0][axes]).all(axis=1)]
    (heat,) = draw("layers", family.iloc[::-1] if is_reversed else family).data

    assert list(heat.x) == ["1", "4"]  # 32 is out of memory


def test_a_heat_map_has_categories_for_axes(draw):
    layout = draw("layers").layout

    assert (layout.xaxis.type, layout.yaxis.type) == ("category", "category")


def test_a_roof_is_the_peak_of_the_device(draw):
    roofs = [trace for trace in draw("roofline").data if trace.mode == "lines"]

    assert len(roofs) == 12  # of three GPUs and four precisions
    for trace in roofs:
        gpu, _, precision = trace.legendgroup.rpartition(" ")
        assert list(trace.y) == pytest.approx([find_peak(gpu).flops_per_s[precision] * 1e-12] * 2)


def test_no_case_is_above_its_roof(draw):
    figure = draw("roofline")
    roofs = {each.legendgroup: each.y[0] for each in figure.data if each.mode == "lines"}

    for cloud in (each for each in figure.data if each.mode == "markers"):
        assert max(cloud.y) < roofs[cloud.legendgroup]


def test_history_has_the_cases_that_were_measured_more_than_once(draw):
    shown = [trace.name for trace in draw("history").data]

    assert shown == [f"NVIDIA H200 {model} bf16 sdpa batch 4" for model in ("vit_b", "vit_l")]


def test_history_leaves_out_a_case_that_was_measured_once(draw, frames):
    cases = frames["cases"]

    assert not draw("history", cases[cases["sweep_id"] == cases["sweep_id"].iloc[0]]).data


def test_the_bars_of_a_device_add_up_to_the_time_of_an_image(draw, frames):
    rows = frames["components"]
    mine = rows[rows["case_id"] == rows["case_id"].iloc[0]]
    mine = mine[mine["sweep_id"] == mine["sweep_id"].iloc[0]]
    bars = draw("components", mine).data

    assert sum(bar.x[0] for bar in bars) == pytest.approx(
        mine["median_s"].sum() / mine["batch_size"].iloc[0] * 1e3
    )
