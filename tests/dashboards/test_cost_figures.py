"""What images cost, what a shorter wait costs, and whether it got worse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboards.figures import MOST_SERIES
from dashboards.figures.cost import pareto_front
from results.hardware.prices import million_images_usd
from results.tables.metrics import METRICS

SERIES = ["gpu", "model", "precision", "attention"]
BARS = {"cost": "million_usd", "energy": "image_joules"}


def newest_of(cases):
    """Good cases; of equal ones the last that was measured."""
    in_time = cases.sort_values("started_at", kind="stable").query("status == 'ok'")
    return in_time.drop_duplicates([*SERIES, "batch_size"], keep="last")


def clouds(figure):
    return [trace for trace in figure.data if trace.mode == "markers"]


def fronts(figure):
    """By model: time and cost of each choice."""
    return {
        trace.name.removeprefix("best of "): list(zip(trace.x, trace.y, strict=True))
        for trace in figure.data
        if trace.mode == "lines"
    }


def is_beaten(point, points):
    return any(other[0] <= point[0] and other[1] <= point[1] and other != point for other in points)


# The least of each series


@pytest.mark.parametrize(("name", "column"), BARS.items())
def test_a_bar_is_the_least_of_its_series(draw, frames, name, column):
    cases = newest_of(frames["cases"])
    named = cases[SERIES].agg(" ".join, axis=1)
    least = cases[column].groupby(named).min() * METRICS[column].scale
    shown = {y: x for bar in draw(name).data for y, x in zip(bar.y, bar.x, strict=True)}

    assert len(shown) == MOST_SERIES < len(least)
    assert shown == pytest.approx(least.sort_values().head(MOST_SERIES).to_dict())


@pytest.mark.parametrize(("name", "column"), BARS.items())
def test_a_bar_tells_the_batch_size_where_it_is_least(draw, one_series, name, column):
    rows = one_series.assign(**{column: [3.0, 1.0, 2.0]})
    (bar,) = draw(name, rows).data

    assert (bar.x.item(), bar.customdata[0][1]) == (1.0, rows["batch_size"].iloc[1])


@pytest.mark.parametrize("name", BARS)
def test_bars_go_from_the_least_to_the_most(draw, name):
    figure = draw(name)
    lengths = {y: x for bar in figure.data for y, x in zip(bar.y, bar.x, strict=True)}
    in_order = [lengths[label] for label in figure.layout.yaxis.categoryarray]

    assert in_order == sorted(in_order)
    assert figure.layout.yaxis.autorange == "reversed"


@pytest.mark.parametrize("name", BARS)
def test_it_says_how_many_of_all_bars_it_shows(draw, one_series, name):
    many = pd.concat(one_series.assign(gpu=f"GPU {number}") for number in range(MOST_SERIES + 3))
    figure = draw(name, many)

    assert sum(len(bar.x) for bar in figure.data) == MOST_SERIES
    assert figure.layout.title.subtitle.text == f"{MOST_SERIES} of {MOST_SERIES + 3} series shown"
    assert draw(name, one_series).layout.title.subtitle.text == ""


def test_a_million_images_cost_what_prices_say(draw, one_series):
    (bar,) = draw("cost", one_series).data
    row = one_series.loc[one_series["million_usd"].idxmin()]

    assert bar.x.item() == pytest.approx(million_images_usd(row["image_s"], row["usd_per_hour"]))


def test_hovering_tells_the_price_and_where_it_comes_from(draw, one_series):
    (bar,) = draw("cost", one_series).data
    row = one_series.iloc[0]

    assert bar.customdata[0][3] == METRICS["usd_per_hour"].show(row["usd_per_hour"])
    assert bar.customdata[0][4] == f"{row['price_source']}, {row['price_date']}"


@pytest.mark.parametrize("name", ["cost", "pareto"])
def test_a_gpu_without_a_price_is_left_out(draw, frames, name):
    cases = frames["cases"]
    free = cases.assign(million_usd=cases["million_usd"].where(cases["gpu"] != "NVIDIA L4"))
    figure = draw(name, free)
    gpus = cases.set_index("record_id")["gpu"]
    marked = [trace for trace in figure.data if trace.type == "bar" or trace.mode == "markers"]

    assert {gpus[told[0]] for trace in marked for told in trace.customdata} == {
        "NVIDIA L40S", "NVIDIA H200",
    }  # fmt: skip


# Waiting or paying


def test_every_case_with_a_price_has_a_point(draw, frames):
    shown = [told[0] for cloud in clouds(draw("pareto")) for told in cloud.customdata]

    assert sorted(shown) == sorted(newest_of(frames["cases"])["record_id"])


def test_the_line_joins_what_nothing_beats_and_nothing_else(draw, frames):
    models = frames["cases"].set_index("record_id")["model"]
    figure = draw("pareto")
    points = {model: set() for model in models.unique()}
    for cloud in clouds(figure):
        for x, y, told in zip(cloud.x, cloud.y, cloud.customdata, strict=True):
            points[models[told[0]]].add((x, y))

    assert set(fronts(figure)) == set(points)
    for model, front in fronts(figure).items():
        best = {point for point in points[model] if not is_beaten(point, points[model])}
        assert set(front) == best
        assert front == sorted(front)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_of_any_cases_is_what_nothing_beats(seed):
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        random.integers(1, 9, size=(30, 2)).astype(float), columns=["median_s", "million_usd"]
    )
    points = list(map(tuple, rows.to_numpy().tolist()))
    front = list(map(tuple, pareto_front(rows).to_numpy().tolist()))

    assert front == sorted({point for point in points if not is_beaten(point, points)})


def test_no_cases_have_no_front():
    assert pareto_front(pd.DataFrame({"median_s": [], "million_usd": []})).empty


# Over time


def test_history_has_the_cases_that_were_measured_more_than_once(draw):
    shown = [trace.name for trace in draw("history").data]

    assert shown == [f"NVIDIA H200 {model} bf16 sdpa 4" for model in ("vit_b", "vit_l")]


def test_history_leaves_out_a_case_that_was_measured_once(draw, frames):
    cases = frames["cases"]

    assert not draw("history", cases[cases["sweep_id"] == cases["sweep_id"].iloc[0]]).data


def test_history_is_in_the_order_of_time_whatever_that_of_rows(draw, frames):
    for trace in draw("history", frames["cases"].iloc[::-1]).data:
        assert list(trace.x) == sorted(trace.x)
        assert len(trace.x) == 5


def test_history_tells_the_commit_in_twelve_letters(draw, frames):
    cases = frames["cases"].set_index("record_id")
    for trace in draw("history").data:
        for told in trace.customdata:
            assert told[1] == cases.loc[told[0], "git_commit"][:12]


def test_the_error_bars_of_history_are_the_95_percent_interval(draw, frames):
    cases = frames["cases"].set_index("record_id")
    for trace in draw("history").data:
        rows = cases.loc[[told[0] for told in trace.customdata]]
        high_s, low_s = rows["high_s"] / 4, rows["low_s"] / 4
        assert trace.y + trace.error_y.array == pytest.approx((high_s * 1e3).to_numpy())
        assert trace.y - trace.error_y.arrayminus == pytest.approx((low_s * 1e3).to_numpy())


def test_history_says_how_many_of_all_series_it_shows(draw, one_series):
    rows = one_series.head(1)
    count = MOST_SERIES + 3
    many = pd.concat(
        rows.assign(gpu=f"GPU {number % count}", started_at=f"2026-01-0{1 + number // count}")
        for number in range(2 * count)
    )
    figure = draw("history", many)

    assert len(figure.data) == MOST_SERIES
    assert figure.layout.title.subtitle.text == f"{MOST_SERIES} of {count} series shown"
