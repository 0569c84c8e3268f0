"""One case from close by: each timed forward, and what the GPU did meanwhile."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboards.figures.run import QUANTITIES
from results.tables.frames import TELEMETRY_COLUMNS
from results.tables.stats import median_interval


@pytest.fixture
def samples(frames):
    """Maker of a frame of these seconds."""

    def make(*seconds):
        numbers = range(1, len(seconds) + 1)
        return pd.DataFrame({"forward": numbers, "forward_s": seconds, "is_synthetic": False})

    return make


def lines_across(figure):
    return [shape for shape in figure.layout.shapes if shape.type == "line"]


def bands(figure):
    return [shape for shape in figure.layout.shapes if shape.type == "rect"]


# Samples


def test_forwards_stand_in_the_order_in_which_they_were_taken(draw, one_record):
    points, _ = draw("samples").data
    seconds = np.array(one_record.measurement.latency.forward_s)

    assert list(points.x) == list(range(1, len(seconds) + 1))
    assert points.y == pytest.approx(seconds * 1e3)


def test_beside_them_stands_how_many_took_at_most_so_long(draw, samples):
    _, steps = draw("samples", samples(0.4, 0.1, 0.3, 0.2)).data

    assert list(steps.x) == pytest.approx([100, 200, 300, 400])
    assert list(steps.y) == pytest.approx([25, 50, 75, 100])
    assert steps.line.shape == "hv"


@pytest.mark.parametrize("seconds", [(0.1,), (0.4, 0.1, 0.3, 0.2), (0.3, 0.1, 0.2)])
def test_a_dashed_line_is_the_median(draw, samples, seconds):
    (line,) = lines_across(draw("samples", samples(*seconds)))

    assert (line.y0, line.y1) == pytest.approx((np.median(seconds) * 1e3,) * 2)
    assert line.line.dash == "dash"


def test_a_band_is_the_median_s_95_percent_interval(draw, one_record):
    (band,) = bands(draw("samples"))
    seconds = one_record.measurement.latency.forward_s

    assert (band.y0, band.y1) == pytest.approx([each * 1e3 for each in median_interval(seconds)])


def test_the_band_is_that_of_the_case_s_row(draw, frames, one_record):
    (band,) = bands(draw("samples"))
    row = frames["cases"].set_index("record_id").loc[one_record.record_id]

    assert (band.y0, band.y1) == pytest.approx((row["low_s"] * 1e3, row["high_s"] * 1e3))


@pytest.mark.parametrize(("count", "has_interval"), [(1, False), (5, False), (6, True), (7, True)])
def test_samples_too_few_for_an_interval_have_no_band(draw, samples, count, has_interval):
    seconds = [0.1 + number / 100 for number in range(count)]

    assert len(bands(draw("samples", samples(*seconds)))) == has_interval


# Telemetry


def test_each_quantity_has_a_panel_in_its_unit(draw, one_record):
    figure = draw("telemetry")
    telemetry = one_record.telemetry
    shown = {
        figure.layout[f"yaxis{trace.yaxis[1:]}"].title.text: np.array(trace.y)
        for trace in figure.data
    }

    assert set(shown) == {title for title, _ in QUANTITIES.values()}
    assert shown["SM clock [GHz]"] == pytest.approx(np.array(telemetry.sm_clock_hz) / 1e9)
    assert shown["power [W]"] == pytest.approx(np.array(telemetry.power_watts))
    assert shown["temperature [°C]"] == pytest.approx(np.array(telemetry.temperature_celsius))
    assert shown["memory used [GiB]"] == pytest.approx(np.array(telemetry.used_bytes) / 2**30)


def test_looks_stand_at_their_times(draw, one_record):
    for trace in draw("telemetry").data:
        assert list(trace.x) == list(one_record.telemetry.at_s)


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_that_the_gpu_does_not_tell_has_no_panel(draw, frames, name):
    figure = draw("telemetry", frames["telemetry"].assign(**{name: None}))

    assert len(figure.data) == len(QUANTITIES) - 1
    assert QUANTITIES[name][0] not in figure.to_json()


def test_a_look_that_told_nothing_is_a_gap(draw, frames):
    looks = frames["telemetry"]
    power = looks["power_watts"].where(looks.index != 3)
    (trace,) = [
        each for each in draw("telemetry", looks.assign(power_watts=power)).data
        if each.hovertemplate.count("[W]")
    ]  # fmt: skip

    assert list(np.flatnonzero(np.isnan(np.array(trace.y, dtype=float)))) == [3]


def test_hovering_tells_why_clocks_are_not_at_their_highest(draw):
    for trace in draw("telemetry").data:
        assert set(trace.text) == {"power cap"}
        assert "%{text}" in trace.hovertemplate


def test_a_record_without_looks_has_no_traces(draw):
    assert draw("telemetry", pd.DataFrame(columns=list(TELEMETRY_COLUMNS))).data == ()
