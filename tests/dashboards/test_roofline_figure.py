"""How far cases and modules are from what their device can do."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from dashboards.figures import MOST_SERIES
from dashboards.figures.roofline import BOUNDS
from results.hardware.specs import find_spec
from results.records.measurement import ENCODER

ROOF = {"roof_flops_per_s": 100e12, "roof_bytes_per_s": 1e12}
MEASURED = {"measured_roof_flops_per_s": 80e12, "measured_roof_bytes_per_s": 0.9e12}


def clouds(figure):
    return [trace for trace in figure.data if trace.mode == "markers"]


def roofs(figure):
    return [trace for trace in figure.data if trace.mode == "lines"]


def intensity_of(rows):
    return rows["flops"] / rows["moved_bytes"].fillna(rows["least_bytes"])


@pytest.fixture
def one(frames):
    """Of one case: a row of the encoder, and one of each module."""
    rows = frames["limits"]
    return rows[rows["record_id"] == rows["record_id"].iloc[0]]


@pytest.mark.parametrize("is_of_cases", [True, False])
def test_points_are_of_cases_or_of_their_modules(draw, frames, is_of_cases):
    rows = frames["limits"]
    of_level = rows[(rows["module"] == ENCODER) == is_of_cases]
    known = of_level[of_level["flops_per_s"].notna() & (intensity_of(of_level) > 0)]
    figure = draw("roofline", level="cases" if is_of_cases else "modules")

    shown = [cloud.x > 0 for cloud in clouds(figure)]

    assert sum(map(np.sum, shown)) == len(known) > 100
    assert {told[0] for cloud in clouds(figure) for told in cloud.customdata} == set(
        known["record_id"]
    )


@pytest.mark.parametrize("level", ["cases", "modules"])
def test_a_point_is_what_was_achieved_over_the_flop_for_each_byte(draw, one, level):
    (cloud,) = clouds(draw("roofline", one, level=level))
    rows = one[(one["module"] == ENCODER) == (level == "cases")]
    rows = rows[rows["flops_per_s"].notna() & (intensity_of(rows) > 0)]
    shown = cloud.x > 0

    assert cloud.x[shown] == pytest.approx(intensity_of(rows).to_numpy())
    assert cloud.y[shown] == pytest.approx(rows["flops_per_s"].to_numpy() * 1e-12)


def test_where_traffic_is_not_known_the_least_stands_for_it(draw, one):
    whole = one[one["module"] == ENCODER]
    (cloud,) = clouds(draw("roofline", whole.assign(moved_bytes=np.nan)))

    assert cloud.x == pytest.approx((whole["flops"] / whole["least_bytes"]).to_numpy())


def test_what_moves_nothing_has_no_point(draw, one):
    assert draw("roofline", one.assign(moved_bytes=0)).data == ()


@pytest.mark.parametrize("level", ["cases", "modules"])
def test_a_roof_is_the_peak_of_the_device(draw, level):
    shown = roofs(draw("roofline", level=level))

    assert len(shown) == 12  # of three GPUs and four precisions
    for trace in shown:
        gpu, _, precision = trace.legendgroup.rpartition(" ")
        peak = find_spec(gpu)
        ceiling = peak.flops_per_s[precision]
        roof = np.minimum(trace.x * peak.bytes_per_s, ceiling) * 1e-12
        assert trace.y == pytest.approx(roof)
        assert max(trace.y) == pytest.approx(ceiling * 1e-12)


@pytest.mark.parametrize("level", ["cases", "modules"])
def test_nothing_is_above_its_roof(draw, level):
    for cloud in clouds(draw("roofline", level=level)):
        gpu, _, precision = cloud.legendgroup.rpartition(" ")
        peak = find_spec(gpu)
        roof = np.minimum(cloud.x * peak.bytes_per_s, peak.flops_per_s[precision]) * 1e-12
        assert (cloud.y <= roof).all()


@pytest.mark.parametrize("level", ["cases", "modules"])
def test_nothing_is_at_0_which_a_logarithmic_axis_does_not_have(draw, level):
    figure = draw("roofline", level=level)

    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    for trace in figure.data:
        assert (np.asarray(trace.x) > 0).all()
        assert (np.asarray(trace.y) > 0).all()


def test_a_roof_spans_all_points(draw):
    figure = draw("roofline")
    all_x = np.concatenate([cloud.x for cloud in clouds(figure)])

    for roof in roofs(figure):
        assert roof.x[0] == pytest.approx(all_x.min())
        assert roof.x[-1] >= all_x.max() * (1 - 1e-9)


def test_both_roofs_are_shown_and_told_apart_by_their_lines(draw, one):
    whole = one[one["module"] == ENCODER].assign(**ROOF, **MEASURED)
    shown = {trace.line.dash: trace for trace in roofs(draw("roofline", whole))}

    assert set(shown) == {"dash", "solid"}
    for dash, (flops_per_s, bytes_per_s) in {
        "dash": ROOF.values(), "solid": MEASURED.values()
    }.items():  # fmt: skip
        trace = shown[dash]
        assert trace.y == pytest.approx(np.minimum(trace.x * bytes_per_s, flops_per_s) * 1e-12)


def test_a_roof_bends_where_memory_and_computing_meet(draw, one):
    whole = one[one["module"] == ENCODER].assign(**ROOF, flops=1e12, moved_bytes=1e12)
    (roof,) = roofs(draw("roofline", whole))

    assert list(roof.x) == pytest.approx([1, 100])
    assert list(roof.y) == pytest.approx([1, 100])


def test_left_of_the_bend_a_roof_is_a_slope_and_right_of_it_a_ceiling(draw, one):
    whole = one[one["module"] == ENCODER].assign(**ROOF, flops=1e15)
    rows = [whole.assign(moved_bytes=moved) for moved in (1e14, 1e12)]
    (roof,) = roofs(draw("roofline", pd.concat(rows)))

    assert list(roof.x) == pytest.approx([10, 100, 1000])
    assert list(roof.y) == pytest.approx([10, 100, 100])


def test_a_roof_that_is_not_known_is_not_drawn(draw, one):
    whole = one[one["module"] == ENCODER].assign(**dict.fromkeys((*ROOF, *MEASURED), np.nan))
    figure = draw("roofline", whole)

    assert (len(clouds(figure)), len(roofs(figure))) == (1, 0)


def test_of_several_roofs_of_a_device_that_of_the_last_case_is_drawn(draw, one):
    whole = one[one["module"] == ENCODER].assign(**ROOF)
    earlier = whole.assign(roof_flops_per_s=1e12, started_at="2020-01-01T00:00:00+00:00")
    (roof,) = roofs(draw("roofline", pd.concat([whole, earlier])))

    assert max(roof.y) == pytest.approx(100)


@pytest.mark.parametrize(
    ("known", "share"),
    [
        (ROOF, 100 * 10 / 50),  # of what memory allows at 50 FLOP for a byte
        (ROOF | MEASURED, 100 * 10 / 45),
        (ROOF | {"moved_bytes": 1e9}, 100 * 10 / 100),  # of what computing allows
    ],
)
def test_hovering_tells_the_share_of_the_roof_at_the_same_place(draw, one, known, share):
    whole = one[one["module"] == ENCODER].assign(
        **{"flops": 1e12, "moved_bytes": 2e10, "flops_per_s": 10e12} | known
    )
    (cloud,) = clouds(draw("roofline", whole))

    assert cloud.customdata[0][1] == pytest.approx(share)


# The distance to the limit


def test_a_bar_is_how_many_times_the_floor_its_case_takes(draw, frames):
    limits = frames["limits"]
    whole = limits[limits["module"] == ENCODER].set_index("record_id")
    bars = draw("distance").data

    assert bars
    for bar in bars:
        rows = whole.loc[[told[0] for told in bar.customdata]]
        times = rows["total_s"] / rows["floor_measured_s"].fillna(rows["floor_s"])
        assert bar.x == pytest.approx(times.to_numpy())
        assert bar.name == f"bound by {rows['bound_by'].unique().item()}"


def test_of_each_series_the_nearest_case_has_the_bar(draw, one_series, frames):
    limits = frames["limits"]
    mine = limits[limits["record_id"].isin(one_series["record_id"])]
    whole = mine[mine["module"] == ENCODER].assign(floor_times=[6.0, 2.0, 4.0], bound_by="memory")
    (bar,) = draw("distance", whole).data

    assert (bar.x.item(), bar.customdata[0][0]) == (2.0, whole["record_id"].iloc[1])


@pytest.mark.parametrize(
    ("measured_s", "told"), [(0.8, [800, "as measured"]), (np.nan, [500, "by its maker"])]
)
def test_hovering_tells_the_floor_and_whose_it_is(draw, one, measured_s, told):
    whole = one[one["module"] == ENCODER].assign(floor_s=0.5, floor_measured_s=measured_s)
    (bar,) = draw("distance", whole).data

    assert list(bar.customdata[0][3:]) == told


@pytest.mark.parametrize("level", ["cases", "modules"])
def test_bars_go_from_the_nearest_to_the_farthest_and_say_how_many_are_left_out(draw, level):
    figure = draw("distance", level=level)
    times = {y: x for bar in figure.data for y, x in zip(bar.y, bar.x, strict=True)}
    in_order = [times[label] for label in figure.layout.yaxis.categoryarray]

    assert in_order == sorted(in_order)
    assert len(in_order) == MOST_SERIES
    assert re.fullmatch(rf"{MOST_SERIES} of \d+ series shown", figure.layout.title.subtitle.text)


def test_modules_have_bars_of_their_own(draw, one):
    figure = draw("distance", one, level="modules")
    modules = set(one["module"]) - {ENCODER}
    shown = {label.removeprefix("NVIDIA L4 ") for bar in figure.data for label in bar.y}

    assert shown
    assert shown <= modules


def test_what_holds_a_case_back_is_a_colour_and_a_pattern():
    colors, patterns = zip(*BOUNDS.values(), strict=True)

    assert len(set(colors)) == len(set(patterns)) == len(BOUNDS)


@pytest.mark.parametrize("bound", ["compute", "memory", "launch"])
def test_whatever_holds_a_case_back_has_a_bar(draw, one, bound):
    whole = one[one["module"] == ENCODER]
    (bar,) = draw("distance", whole.assign(bound_by=bound)).data

    assert (bar.name, bar.marker.color) == (f"bound by {bound}", BOUNDS[bound][0])
