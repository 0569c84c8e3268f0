"""What differs between two runs: each case's ratio, and the modules that make it up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboards.figures.compare import FASTER, MOST_CASES, MOST_MODULES, SAME, SLOWER

INTERVALS = {
    "slower": ((1.01, 1.05, 1.1), "triangle-right", SLOWER),
    "faster": ((0.8, 0.9, 0.99), "triangle-left", FASTER),
    "the same": ((0.99, 1.0, 1.01), "circle", SAME),
    "barely not slower": ((1.0, 1.2, 1.3), "circle", SAME),
    "barely not faster": ((0.7, 0.8, 1.0), "circle", SAME),
    "no interval": ((np.nan, 1.5, np.nan), "circle", SAME),
}


@pytest.fixture
def with_ratios(frames):
    """Maker of a comparison of cases with these ratios: (low, ratio, high)."""

    def make(*ratios):
        rows = pd.concat([frames["comparison"].head(1)] * len(ratios), ignore_index=True)
        low, ratio, high = zip(*ratios, strict=True)
        names = [f"model {number}" for number in range(len(ratios))]
        return rows.assign(ratio_low=low, ratio=ratio, ratio_high=high, model=names)

    return make


@pytest.fixture
def changes():
    """Maker of a frame of modules that change by so many seconds, each 1 s before."""

    def make(*change_s):
        changed = pd.DataFrame({"change_s": change_s, "before_s": 1.0, "is_synthetic": False})
        names = [f"module {number}" for number in range(len(change_s))]
        return changed.assign(module=names, kind="neck", after_s=1.0 + changed["change_s"])

    return make


# Ratios


@pytest.mark.parametrize(("interval", "symbol", "color"), INTERVALS.values(), ids=INTERVALS)
def test_symbol_and_colour_say_whether_the_interval_holds_1(
    draw, with_ratios, interval, symbol, color
):
    (trace,) = draw("ratios", with_ratios(interval)).data

    assert (trace.marker.symbol, trace.marker.color) == ((symbol,), (color,))


def test_a_ratio_has_its_interval(draw, with_ratios):
    (trace,) = draw("ratios", with_ratios((0.9, 1.2, 1.3), (0.5, 0.75, 0.8))).data

    assert dict(zip(trace.y, trace.x, strict=True)) == {"model 0": 1.2, "model 1": 0.75}
    assert trace.x + trace.error_x.array == pytest.approx([0.8, 1.3])
    assert trace.x - trace.error_x.arrayminus == pytest.approx([0.5, 0.9])


def test_what_differs_most_comes_first_whichever_way(draw, with_ratios):
    ratios = [(each, each, each) for each in (1.01, 0.5, 1.9, 1.0)]
    figure = draw("ratios", with_ratios(*ratios))

    assert list(figure.data[0].x) == [0.5, 1.9, 1.01, 1.0]  # half as long is as far as twice
    assert figure.layout.yaxis.autorange == "reversed"


def test_cases_of_one_side_alone_are_not_drawn(draw, with_ratios):
    (trace,) = draw("ratios", with_ratios((1, 1, 1), (np.nan,) * 3)).data

    assert list(trace.y) == ["model 0"]


def test_no_cases_in_both_make_no_trace_and_no_line(draw, with_ratios):
    figure = draw("ratios", with_ratios((np.nan,) * 3))

    assert (figure.data, figure.layout.shapes) == ((), ())


def test_a_line_stands_where_nothing_changed(draw):
    (line,) = draw("ratios").layout.shapes

    assert (line.x0, line.x1) == (1, 1)


def test_a_case_is_named_by_what_differs_among_the_cases(draw, frames):
    (trace,) = draw("ratios").data

    assert sorted(trace.y) == ["vit_b", "vit_l"] == sorted(frames["comparison"]["model"])


def test_hovering_tells_both_times_in_milliseconds_and_the_interval(draw, frames):
    rows = frames["comparison"].set_index("record_id")
    for record_id, *told in draw("ratios").data[0].customdata:
        row = rows.loc[record_id]
        assert told == pytest.approx(
            [row["before_s"] * 1e3, row["after_s"] * 1e3, row["ratio_low"], row["ratio_high"]]
        )


def test_it_says_how_many_of_all_cases_it_shows(draw, with_ratios):
    ratios = [(1.0, 1 + number / 100, 2.0) for number in range(MOST_CASES + 3)]
    figure = draw("ratios", with_ratios(*ratios))

    assert len(figure.data[0].x) == MOST_CASES
    assert min(figure.data[0].x) == pytest.approx(1.03)  # those that differ least are left out
    assert figure.layout.title.subtitle.text == f"{MOST_CASES} of {MOST_CASES + 3} cases shown"
    assert draw("ratios").layout.title.subtitle.text == ""


def test_what_is_compared_is_said_below_the_title(draw, with_ratios):
    rows = with_ratios((0.9, 1.0, 1.1)).assign(compared="precision <fp32>, then bf16")
    figure = draw("ratios", rows)

    assert figure.layout.title.subtitle.text == "precision &lt;fp32&gt;, then bf16"


# The waterfall


def test_a_waterfall_adds_up_from_before_to_after(draw, frames):
    (fall,) = draw("waterfall").data
    modules = frames["module_changes"]

    assert fall.measure[0] == "absolute"
    assert fall.measure[-1] == "total"
    assert set(fall.measure[1:-1]) == {"relative"}
    assert fall.y[0] == pytest.approx(modules["before_s"].sum() * 1e3)
    assert sum(fall.y[:-1]) == pytest.approx(fall.y[-1])
    assert fall.y[-1] == pytest.approx(modules["after_s"].sum() * 1e3)


def test_a_waterfall_goes_from_the_forward_before_to_that_after(draw, frames):
    (fall,) = draw("waterfall").data
    both = frames["comparison"]
    row = both.loc[(both["ratio"] - 1).abs().idxmax()]

    # Of hooked forwards, so that they are not quite the medians of plain ones.
    assert fall.y[0] == pytest.approx(row["before_s"] * 1e3, rel=0.02)
    assert fall.y[-1] == pytest.approx(row["after_s"] * 1e3, rel=0.02)


def test_large_changes_have_a_bar_each_and_the_others_one_together(draw, changes):
    frame = changes(*[0.5] * MOST_MODULES, 0.1, -0.2, 0.04)
    (fall,) = draw("waterfall", frame).data

    assert len(fall.x) == 1 + MOST_MODULES + 1 + 1
    assert fall.x[-2] == "3 others"
    assert fall.y[-2] == pytest.approx(-60)
    assert fall.x[1] == "module 0 (neck)"


def test_few_changes_have_no_bar_of_others(draw, changes):
    (fall,) = draw("waterfall", changes(0.5, -0.25)).data

    assert list(fall.x) == ["before", "module 0 (neck)", "module 1 (neck)", "after"]
    assert list(fall.y) == pytest.approx([2000, 500, -250, 2250])


@pytest.mark.parametrize("change_s", [(0.5, -0.25), (0.0,), (-1.0,), (-0.9, -0.9), (1e-6, -1e-6)])
def test_every_level_is_within_the_axis(draw, changes, change_s):
    figure = draw("waterfall", changes(*change_s))
    low, high = figure.layout.yaxis.range
    levels = np.cumsum(figure.data[0].y[:-1])

    assert 0 <= low <= min(levels)
    assert high >= max(levels)
    assert low < high
