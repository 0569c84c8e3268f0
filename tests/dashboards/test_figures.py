"""Figures, all of them: what each shows of a frame, and what it must not make up."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from plotly.colors import hex_to_rgb

from dashboards.figures import FIGURES
from dashboards.theme import MARKERS, color_of
from results.tables.metrics import METRICS

HTML, MATH, TEMPLATE = "<img src=x onerror=alert(1)>", r"$\href{javascript:alert(1)}{x}$", "%{y}|"
ANYBODYS = (
    "gpu", "cpu", "device_name", "sweep_id", "model", "precision", "attention", "execution",
    "input", "weights", "git_commit",
    "torch", "kind", "component", "module", "price_source", "price_date", "event_reasons",
)  # fmt: skip
WITHOUT_TEXT = ("samples",)
GPUS = ("NVIDIA L4", "NVIDIA L40S", "NVIDIA H200")
SCALING = ("latency", "throughput", "speedup", "efficiency", "memory")
OF_DEVICES = (*SCALING, "roofline", "history", "pareto")  # a line or a cloud a device
COLOURED = (*OF_DEVICES, "cost", "energy")
OF_FAILURES = ("coverage",)
SHOWN_COLUMN = {
    "components": "median_s",
    "throughput": "images_per_s",
    "latency": "image_s",
    "speedup": "speedup",
    "efficiency": "efficiency",
    "layers": "total_s",
    "layer_bars": "total_s",
    "memory": "peak_bytes",
    "roofline": "flops_per_s",
    "distance": "floor_times",
    "cost": "million_usd",
    "pareto": "million_usd",
    "energy": "image_joules",
    "history": "image_s",
    "ratios": "ratio",
    "telemetry": "power_watts",
}
ALWAYS_KNOWN = ("coverage", "waterfall", "samples")  # nothing of theirs can be missing
# What a point of a record shows of it, by axis.
SHOWN_OF_CASES = {
    "throughput": {"x": "batch_size", "y": "images_per_s"},
    "latency": {"x": "batch_size", "y": "image_s"},
    "speedup": {"x": "batch_size", "y": "speedup"},
    "efficiency": {"x": "batch_size", "y": "efficiency"},
    "memory": {"x": "batch_size", "y": "peak_bytes"},
    "cost": {"x": "million_usd"},
    "energy": {"x": "image_joules"},
    "pareto": {"x": "median_s", "y": "million_usd"},
    "history": {"y": "image_s"},
}
OF_RECORDS = (
    *SHOWN_OF_CASES, "components", "layers", "layer_bars", "roofline", "distance", "ratios",
)  # fmt: skip
OF_NO_RECORD = ("coverage", "waterfall", "samples", "telemetry")  # of many, or of the page's own


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
    shown = trace.z if trace.type == "heatmap" else trace.y
    if len(shown) and isinstance(shown[0], str):
        shown = trace.x
    return np.asarray(shown, dtype=float).ravel()


def plain(color):
    """Without how much shines through."""
    found = re.fullmatch(r"rgba\((\d+), (\d+), (\d+), [\d.]+\)", color)
    return tuple(map(int, found.groups())) if found else hex_to_rgb(color)


def colors(figure):
    """By device, of all its traces."""
    found = {}
    for trace in figure.data:
        name = f"{trace.name or trace.legendgroup} "
        own = [trace.marker.color, trace.marker.line.color]
        own += [trace.line.color] if trace.type == "scatter" else []
        for device in (device for device in GPUS if f"{device} " in name):
            found.setdefault(device, set()).update(plain(each) for each in own if each)
    return found


def marks(figure):
    """The traces that are more than a line to guide the eye."""
    return [each for each in figure.data if each.type != "scatter" or "markers" in each.mode]


def ids_of(trace):
    """What a click opens, of each point."""
    return np.asarray(trace.customdata, dtype=object)[..., 0].ravel()


def watermarks(figure):
    return [each.text for each in figure.layout.annotations].count("synthetic")


def with_text(frame, text):
    """With a text after every name that stands there."""
    changed = frame.copy()
    for column in set(ANYBODYS) & {*frame}:
        named = changed[column].notna() & (changed[column] != "image_encoder")
        changed[column] = changed[column].astype(object).where(~named, changed[column] + text)
    return changed


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_the_demonstration_has_something_to_see(draw, name):
    figure = draw(name)

    assert any(np.isfinite(drawn(trace)).any() for trace in figure.data)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_no_records_has_no_traces(draw, make_frames, name):
    figure = draw(name, make_frames([])[FIGURES[name].frame])

    assert len(figure.data) == 0


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in OF_FAILURES])
def test_a_figure_of_failures_has_no_traces(draw, failed_frames, name):
    figure = draw(name, failed_frames[FIGURES[name].frame])

    assert len(figure.data) == 0


@pytest.mark.parametrize("name", OF_FAILURES)
def test_a_figure_of_what_became_of_cases_shows_failures(draw, failed_frames, name):
    figure = draw(name, failed_frames[FIGURES[name].frame])

    assert {trace.name for trace in figure.data} == {"oom", "failed", "not run"}


@pytest.mark.parametrize("name", FIGURES)
def test_a_title_ends_in_its_unit(draw, name):
    assert re.fullmatch(r".+ \[[^][]+\]", draw(name).layout.title.text)


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_made_up_says_synthetic(draw, name):
    assert watermarks(draw(name)) == 1


@pytest.mark.parametrize("name", FIGURES)
def test_what_was_measured_does_not_say_synthetic(draw, measured_frames, name):
    figure = draw(name, measured_frames[FIGURES[name].frame])

    assert len(figure.data) > 0
    assert watermarks(figure) == 0


@pytest.mark.parametrize("name", COLOURED)
def test_a_gpu_has_the_same_colour_in_all_figures(draw, name):
    found = colors(draw(name))

    assert set(found) == set(GPUS if name != "history" else GPUS[-1:])
    for device, own in found.items():
        assert own == {hex_to_rgb(color_of(device))}


@pytest.mark.parametrize("name", SCALING)
def test_a_gpu_has_the_same_colour_whatever_the_order_of_rows(draw, frames, name):
    frame = frames[FIGURES[name].frame]

    assert colors(draw(name, frame.iloc[::-1])) == colors(draw(name))


@pytest.mark.parametrize("name", OF_DEVICES)
def test_a_precision_has_its_marker(draw, name):
    traces = [trace for trace in draw(name).data if "markers" in trace.mode]
    points = [trace for trace in traces if trace.marker.symbol != "x-thin"]  # where memory ended

    assert points
    for trace in points:
        (precision,) = MARKERS.keys() & set(trace.name.split())
        assert trace.marker.symbol == MARKERS[precision]


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_of_a_record_is_html(draw, frames, name):
    shown = strings(draw(name, with_text(frames[FIGURES[name].frame], HTML)))

    assert any("&lt;img" in text for text in shown) == (name not in WITHOUT_TEXT)
    assert not any("<img" in text for text in shown)


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_of_a_record_is_typeset(draw, frames, name):
    shown = strings(draw(name, with_text(frames[FIGURES[name].frame], MATH)))

    assert any("href" in text for text in shown) == (name not in WITHOUT_TEXT)
    assert not any("$" in text for text in shown)  # not even one: a label's is no label's end


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_of_a_record_is_filled_in(draw, frames, name):
    shown = strings(draw(name, with_text(frames[FIGURES[name].frame], TEMPLATE)))

    assert any("{y}|" in text for text in shown) == (name not in WITHOUT_TEXT)
    assert not any(TEMPLATE in text for text in shown)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_shows_a_column_that_can_be_missing_or_can_not(name):
    assert (name in SHOWN_COLUMN) != (name in ALWAYS_KNOWN)


@pytest.mark.parametrize("name", SHOWN_COLUMN)
def test_a_missing_value_is_never_zero(draw, frames, name):
    frame, column = frames[FIGURES[name].frame], SHOWN_COLUMN[name]
    holes = frame.assign(**{column: frame[column].where(np.arange(len(frame)) % 3 > 0)})
    figure = draw(name, holes)

    assert len(figure.data) > 0
    assert not any((drawn(trace) == 0).any() for trace in figure.data)


@pytest.mark.parametrize("name", [name for name in SHOWN_COLUMN if name != "telemetry"])
def test_a_value_that_no_record_has_is_not_drawn(draw, frames, name):
    frame = frames[FIGURES[name].frame]
    figure = draw(name, frame.assign(**{SHOWN_COLUMN[name]: np.nan}))

    for trace in figure.data:
        is_of_a_device = trace.name.endswith(" has")  # memory, which has no more to do with it
        assert is_of_a_device or not np.isfinite(drawn(trace)).any()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_of_records_or_not(name):
    assert (name in OF_RECORDS) != (name in OF_NO_RECORD)


@pytest.mark.parametrize("name", OF_RECORDS)
def test_a_point_of_a_record_says_which_it_is(draw, frames, name):
    known = set(frames["cases"]["record_id"])
    traces = marks(draw(name))

    assert traces
    for trace in traces:
        ids = ids_of(trace)[np.isfinite(drawn(trace))]
        assert len(ids)
        assert set(ids) <= known


@pytest.mark.parametrize("name", SHOWN_OF_CASES)
def test_a_point_shows_the_record_that_it_names(draw, frames, name):
    cases = frames["cases"].set_index("record_id")
    for trace in marks(draw(name)):
        of_trace = cases.loc[ids_of(trace)]
        is_cross = set(of_trace["status"]) == {"oom"}
        for axis, column in SHOWN_OF_CASES[name].items():
            if is_cross and axis == "y":  # has no height of its own
                continue
            scale = METRICS[column].scale if column in METRICS else 1
            assert np.asarray(trace[axis], dtype=float) == pytest.approx(
                of_trace[column].to_numpy(dtype=float) * scale
            )


@pytest.mark.parametrize(
    ("name", "column"),
    [(name, column) for name, spec in FIGURES.items() for column in spec.columns],
)
def test_every_column_of_a_figure_s_table_is_one_of_its_frame(made_once, name, column):
    assert column in made_once[FIGURES[name].frame]


@pytest.mark.parametrize("name", FIGURES)
def test_a_summary_is_a_clause_that_no_other_figure_has(name):
    spec = FIGURES[name]

    assert spec.summary[0].islower()
    assert not spec.summary.endswith(".")
    assert [each.summary for each in FIGURES.values()].count(spec.summary) == 1
