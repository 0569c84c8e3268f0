"""Speed, time and memory against the batch size, and where memory ends."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboards.figures import MOST_SERIES
from dashboards.figures.scaling import KNEE_POINT, POINT, with_gains
from results.tables.metrics import METRICS

ABSOLUTE = ("latency", "throughput", "memory")
RELATIVE = ("speedup", "efficiency")
SCALING = (*ABSOLUTE, *RELATIVE)
SERIES = ["gpu", "model", "precision", "attention"]
MIB = METRICS["peak_bytes"].scale


def lines(figure):
    """The traces of what was measured."""
    return [trace for trace in figure.data if trace.mode == "lines+markers"]


def crosses(figure):
    return [trace for trace in figure.data if trace.marker.symbol == "x-thin"]


def fits(figure):
    return [trace for trace in figure.data if trace.mode == "lines" and trace.line.dash == "dot"]


def roofs(figure):
    return [trace for trace in figure.data if trace.mode == "lines" and trace.line.dash != "dot"]


def many_series(rows, models=("vit_b",)):
    """A few more series than are shown, of each model."""
    return pd.concat(
        rows.assign(gpu=f"GPU {number}", model=model)
        for number in range(MOST_SERIES + 3)
        for model in models
    )


def at_batches(rows, **columns):
    """The first row at batches of 1, 2, 4, ... with these values."""
    count = len(next(iter(columns.values())))
    first = pd.concat([rows.head(1)] * count, ignore_index=True)
    sizes = [2**index for index in range(count)]
    return with_gains(first.assign(batch_size=sizes, **columns))


# Series


@pytest.mark.parametrize("name", SCALING)
def test_every_series_is_shown(draw, frames, name):
    good = frames["cases"].query("status == 'ok'")
    figure = draw(name)

    assert len(lines(figure)) == len(good.drop_duplicates(SERIES))
    assert figure.layout.title.subtitle.text == ""


@pytest.mark.parametrize("name", SCALING)
def test_a_line_stands_in_the_panel_of_its_model(draw, frames, name):
    models = frames["cases"].set_index("record_id")["model"]
    figure = draw(name)
    titles = [each.text for each in figure.layout.annotations if each.text != "synthetic"]

    for trace in (*lines(figure), *crosses(figure)):
        panel = int(trace.xaxis[1:] or 1) - 1
        assert {models[told[0]] for told in trace.customdata} == {titles[panel]}


@pytest.mark.parametrize("name", SCALING)
def test_panels_go_from_the_model_with_the_least_work_to_that_with_the_most(draw, frames, name):
    annotations = draw(name, frames["cases"].iloc[::-1]).layout.annotations

    titles = [each.text for each in annotations if each.text != "synthetic"]
    assert titles == ["vit_b", "vit_l", "vit_h"]


@pytest.mark.parametrize("name", SCALING)
def test_it_says_how_many_of_all_series_it_shows(draw, one_series, name):
    figure = draw(name, many_series(one_series))

    assert len(lines(figure)) == MOST_SERIES
    assert figure.layout.title.subtitle.text == f"{MOST_SERIES} of {MOST_SERIES + 3} series shown"


def test_the_number_of_hidden_series_does_not_depend_on_the_number_of_models(draw, one_series):
    figure = draw("latency", many_series(one_series, ("vit_b", "vit_l")))

    assert figure.layout.title.subtitle.text in (
        f"{MOST_SERIES} of {MOST_SERIES + 3} series shown",
        f"{2 * MOST_SERIES} of {2 * (MOST_SERIES + 3)} series shown",
    )


@pytest.mark.parametrize("name", SCALING)
def test_a_name_stands_in_the_legend_once(draw, name):
    named = [trace.name for trace in draw(name).data if trace.showlegend]

    assert len(named) == len(set(named)) > 0


@pytest.mark.parametrize("name", SCALING)
def test_batch_sizes_are_in_their_order_and_each_has_a_tick(draw, frames, name):
    figure = draw(name, frames["cases"].iloc[::-1])

    for trace in lines(figure):
        assert list(trace.x) == sorted(trace.x)
        assert set(trace.x) <= set(figure.layout.xaxis.tickvals)
    assert list(figure.layout.xaxis.ticktext) == [f"{x:.0f}" for x in figure.layout.xaxis.tickvals]


def test_of_equal_cases_the_last_that_was_measured_is_shown(draw, one_series):
    rows = one_series.head(1)
    later = rows.assign(started_at="2027-01-01T00:00:00+00:00", image_s=7.0)
    (trace,) = draw("latency", pd.concat([later, rows])).data

    assert list(trace.y) == [7000.0]


# Intervals


def test_the_error_bars_of_a_latency_are_the_95_percent_interval(draw, one_series):
    (trace,) = draw("latency", one_series).data
    high_s = (np.array(trace.y) + trace.error_y.array) / 1e3
    low_s = (np.array(trace.y) - trace.error_y.arrayminus) / 1e3

    assert high_s == pytest.approx((one_series["high_s"] / one_series["batch_size"]).to_numpy())
    assert low_s == pytest.approx((one_series["low_s"] / one_series["batch_size"]).to_numpy())


def test_the_error_bars_of_a_throughput_reach_up_where_the_time_is_low(draw, one_series):
    (trace,) = draw("throughput", one_series).data
    fastest = one_series["images_per_s"] * one_series["median_s"] / one_series["low_s"]
    slowest = one_series["images_per_s"] * one_series["median_s"] / one_series["high_s"]

    assert np.array(trace.y) + trace.error_y.array == pytest.approx(fastest.to_numpy())
    assert np.array(trace.y) - trace.error_y.arrayminus == pytest.approx(slowest.to_numpy())


def test_memory_has_no_interval_of_the_time(draw, one_series):
    (trace,) = lines(draw("memory", one_series))

    assert trace.error_y.array is None


# The knee


@pytest.mark.parametrize(
    ("images_per_s", "knee"),
    [
        ([50, 94, 96, 100], 4),
        ([50, 95.1, 96, 100], 2),
        ([100, 104, 90, 80], 1),
        ([50, 100, 80, 60], 2),
        ([10, 20, 40, 80], 8),
    ],
)
def test_the_smallest_batch_within_5_percent_of_the_best_is_large(
    draw, one_series, images_per_s, knee
):
    image_s = [1 / each for each in images_per_s]
    rows = at_batches(one_series, images_per_s=images_per_s, image_s=image_s)
    (trace,) = lines(draw("throughput", rows))

    assert dict(zip(trace.x, trace.marker.size, strict=True)) == {
        size: KNEE_POINT if size == knee else POINT for size in (1, 2, 4, 8)
    }


def test_a_batch_that_is_the_only_one_is_no_knee(draw, one_series):
    (trace,) = lines(draw("throughput", one_series.head(1)))

    assert list(trace.marker.size) == [POINT]


@pytest.mark.parametrize("name", [name for name in SCALING if name != "throughput"])
def test_a_knee_is_one_of_the_speed_alone(draw, name):
    assert {size for trace in lines(draw(name)) for size in trace.marker.size} == {POINT}


def test_every_line_has_the_knee_that_the_table_tells(draw, frames):
    cases = frames["cases"].set_index("record_id")
    knees = frames["capacity"].set_index(SERIES)["knee_batch"]
    found = 0
    for trace in lines(draw("throughput")):
        row = cases.loc[trace.customdata[0][0]]
        large = [x for x, size in zip(trace.x, trace.marker.size, strict=True) if size > POINT]
        assert large == ([knees[tuple(row[SERIES])]] if len(trace.x) > 1 else [])
        found += len(large)

    assert found > 10


# Where memory ends


@pytest.mark.parametrize("name", ABSOLUTE)
def test_a_cross_stands_at_the_smallest_batch_that_did_not_fit(draw, frames, name):
    cases = frames["cases"]
    failed = cases[cases["status"] == "oom"]
    shown = {trace.customdata[0][0]: trace for trace in crosses(draw(name))}

    assert set(shown) == set(failed["record_id"])
    for record_id, trace in shown.items():
        (row,) = failed[failed["record_id"] == record_id].to_dict("records")
        assert list(trace.x) == [row["batch_size"]]


@pytest.mark.parametrize("name", ABSOLUTE)
def test_a_cross_is_as_high_as_the_last_batch_that_fitted(draw, name):
    figure = draw(name)
    last = {(trace.name, trace.xaxis): trace.y[-1] for trace in lines(figure)}

    assert crosses(figure)
    for trace in crosses(figure):
        assert list(trace.y) == [last[trace.name, trace.xaxis]]


@pytest.mark.parametrize("name", RELATIVE)
def test_what_is_relative_has_no_crosses(draw, name):
    assert crosses(draw(name)) == []


def test_of_several_batches_that_did_not_fit_the_smallest_has_the_cross(draw, one_series):
    failed = at_batches(one_series, status=["oom"] * 4).iloc[2:]
    failed = failed.assign(record_id=["smaller", "larger"], median_s=None)
    figure = draw("latency", pd.concat([failed.iloc[::-1], one_series.head(1)]))
    (cross,) = crosses(figure)

    assert [told[0] for told in cross.customdata] == ["smaller"]


def test_a_batch_that_fitted_when_it_was_tried_again_has_no_cross(draw, one_series):
    row = one_series.head(1)
    failed = row.assign(status="oom", started_at="2020-01-01T00:00:00+00:00")

    assert crosses(draw("latency", pd.concat([row, failed]))) == []


def test_a_series_of_which_no_batch_fitted_is_told_in_the_note(draw, one_series):
    never = one_series.assign(model="vit_h", status="oom", median_s=None)
    figure = draw("latency", pd.concat([one_series, never]))

    assert crosses(figure) == []
    assert figure.layout.title.subtitle.text == "1 series ran out of memory at every batch"


@pytest.mark.parametrize("status", ["crashed", "timeout", "skipped", "invalid"])
def test_what_failed_otherwise_has_no_cross(draw, one_series, status):
    failed = one_series.tail(1).assign(status=status, batch_size=64)

    assert crosses(draw("latency", pd.concat([one_series, failed]))) == []


# Speed-up and efficiency


@pytest.mark.parametrize(
    ("name", "shown"), [("speedup", [1, 1.5, 3, 3.5]), ("efficiency", [100, 75, 75, 43.75])]
)
def test_gains_are_over_the_smallest_batch(draw, one_series, name, shown):
    rows = at_batches(one_series, images_per_s=[20.0, 30.0, 60.0, 70.0]).iloc[::-1]
    (trace,) = draw(name, rows).data

    assert list(trace.y) == pytest.approx(shown)


@pytest.mark.parametrize(("name", "shown"), [("speedup", [1, 2]), ("efficiency", [100, 50])])
def test_where_batch_1_is_missing_the_next_is_the_ideal(draw, one_series, name, shown):
    rows = at_batches(one_series, images_per_s=[20.0, 40.0]).assign(batch_size=[8, 32])
    (trace,) = draw(name, with_gains(rows)).data

    assert list(trace.y) == pytest.approx(shown)


@pytest.mark.parametrize(("name", "scale"), [("speedup", 1), ("efficiency", 100)])
def test_the_interval_of_a_gain_holds_that_of_the_batch_it_is_over(draw, one_series, name, scale):
    seconds = {"median_s": [1.0, 1.0], "low_s": [0.9, 0.8], "high_s": [1.1, 1.25]}
    rows = at_batches(one_series, images_per_s=[20.0, 40.0], **seconds)
    (trace,) = draw(name, rows).data
    low = np.array(trace.y) - trace.error_y.arrayminus
    high = np.array(trace.y) + trace.error_y.array

    assert np.isnan([low[0], high[0]]).all()  # what all is divided by
    ideal = scale / (2 if name == "efficiency" else 1)
    assert low[1] == pytest.approx(ideal * 2 / 1.25 / (1 / 0.9))
    assert high[1] == pytest.approx(ideal * 2 / 0.8 / (1 / 1.1))


@pytest.mark.parametrize("name", RELATIVE)
def test_each_series_begins_at_its_own_ideal(draw, name):
    first = {"speedup": 1, "efficiency": 100}[name]

    assert {trace.y[0] for trace in lines(draw(name))} == {first}


# Memory


def test_the_fitted_line_is_that_of_the_capacity_table(draw, frames):
    cases = frames["cases"].set_index("record_id")
    capacity = frames["capacity"].set_index(SERIES)
    figure = draw("memory")
    rows = {(each.name, each.xaxis): cases.loc[each.customdata[0][0]] for each in lines(figure)}

    assert len(fits(figure)) == (capacity["predicted_batch"].notna()).sum() > 0
    for trace in fits(figure):
        line = capacity.loc[tuple(rows[trace.name, trace.xaxis][SERIES])]
        fitted = (line["fixed_bytes"] + line["image_bytes"] * np.array(trace.x)) * MIB
        assert np.array(trace.y) == pytest.approx(fitted)


def test_the_fitted_line_goes_through_what_was_measured(draw, one_series):
    figure = draw("memory", one_series)
    (line,), (measured,) = fits(figure), lines(figure)

    assert np.interp(measured.x, line.x, line.y) == pytest.approx(measured.y, rel=1e-3)


@pytest.mark.parametrize(("room", "end"), [(5, 5), (1000, 2 * 4)])
def test_the_fitted_line_ends_where_memory_does_or_at_twice_what_was_measured(
    draw, one_series, room, end
):
    fixed, image = 1000 * 2**20, 100 * 2**20
    rows = at_batches(one_series, peak_bytes=[float(fixed + image * size) for size in (1, 2, 4)])
    rows = rows.assign(device_bytes=float(fixed + image * room))
    (trace,) = fits(draw("memory", rows))

    assert (trace.x[0], trace.x[-1]) == pytest.approx((1, end))
    assert trace.y[-1] == pytest.approx(1000 + 100 * end)


def test_one_batch_size_has_no_fitted_line(draw, one_series):
    assert fits(draw("memory", one_series.head(1))) == []


def test_a_device_s_memory_is_a_line_in_each_panel(draw, frames):
    cases = frames["cases"]
    sizes = cases.drop_duplicates("gpu").set_index("gpu")["device_bytes"]
    shown = roofs(draw("memory"))

    assert sorted(trace.name for trace in shown) == sorted(
        [f"{gpu} has" for gpu in sizes.index] * 3
    )
    for trace in shown:
        assert set(trace.y) == {sizes[trace.name.removesuffix(" has")] * MIB}


def test_a_store_without_memory_has_a_figure_of_it_all_the_same(draw, frames):
    figure = draw("memory", frames["cases"].assign(peak_bytes=np.nan))

    assert figure.data == ()
    assert figure.layout.title.text.endswith("[MiB]")


def test_a_batch_that_can_t_be_trusted_did_fit(draw, one_series):
    (trace,) = lines(draw("memory", one_series.assign(status="invalid")))

    assert list(trace.x) == one_series["batch_size"].tolist()
    assert draw("latency", one_series.assign(status="invalid")).data == ()


@pytest.mark.parametrize("name", [name for name in SCALING if name != "memory"])
def test_lines_that_are_not_of_measurements_are_of_memory_alone(draw, name):
    assert {trace.mode for trace in draw(name).data} <= {"lines+markers", "markers"}
