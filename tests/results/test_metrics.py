"""How measured columns are shown."""

from __future__ import annotations

import math

import pytest

from results.answers.batching import BATCHING_COLUMNS
from results.answers.capacity import CAPACITY_COLUMNS
from results.answers.compare import COMPARISON_COLUMNS
from results.hardware.prices import with_cost
from results.tables.frames import (
    CASE_COLUMNS,
    CHECK_COLUMNS,
    COMPONENT_COLUMNS,
    KERNEL_COLUMNS,
    LIMITS_COLUMNS,
    MODULE_COLUMNS,
    case_frame,
)
from results.tables.metrics import METRICS, Metric

COLUMNS = {
    *CASE_COLUMNS, *COMPONENT_COLUMNS, *MODULE_COLUMNS, *CHECK_COLUMNS, *LIMITS_COLUMNS,
    *KERNEL_COLUMNS, *COMPARISON_COLUMNS,
}  # fmt: skip
PRICE_COLUMNS = with_cost(case_frame([])).columns
IN_A_VIEW = {"floor_times", "speedup", "efficiency"}  # quotients of two columns
# What a unit shown is in the base unit that a column's name ends in.
UNITS = {
    "ms": 1e-3, "s": 1, "MiB": 2**20, "GiB": 2**30, "GFLOP": 1e9, "TFLOP/s": 1e12, "GB/s": 1e9,
    "J": 1, "%": 0.01, "USD": 1, "USD/h": 1, "": 1,
}  # fmt: skip
ENDINGS = {
    "flops_per_s": {"TFLOP/s"},
    "bytes_per_s": {"GB/s"},
    "images_per_s": {""},
    "flops": {"GFLOP"},
    "flops_per_image": {"GFLOP"},
    "_s": {"ms", "s"},
    "_bytes": {"MiB", "GiB"},
}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_a_column_of_a_frame(name):
    of_frames = {*COLUMNS, *BATCHING_COLUMNS, *CAPACITY_COLUMNS, *COMPARISON_COLUMNS}

    assert name in {*of_frames, *PRICE_COLUMNS, *IN_A_VIEW}


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_every_column_with_a_unit_has_a_metric_of_that_unit(name):
    units = next((units for ending, units in ENDINGS.items() if name.endswith(ending)), None)

    assert units is None or METRICS[name].unit in units


@pytest.mark.parametrize("name", METRICS)
def test_a_value_is_shown_in_the_metrics_unit(name):
    metric = METRICS[name]

    half_a_unit_of_the_last_digit = 0.5 * 10 ** (1 - metric.digits)

    assert float(metric.show(3.25 * UNITS[metric.unit])) == pytest.approx(
        3.25, abs=half_a_unit_of_the_last_digit
    )


@pytest.mark.parametrize("name", METRICS)
def test_a_heading_tells_title_and_unit(name):
    metric = METRICS[name]

    assert metric.heading == metric.title + (f" [{metric.unit}]" if metric.unit else "")


def test_metrics_of_one_frame_have_different_headings():
    for columns in (
        CASE_COLUMNS,
        COMPONENT_COLUMNS,
        MODULE_COLUMNS,
        LIMITS_COLUMNS,
        KERNEL_COLUMNS,
        CAPACITY_COLUMNS,
        COMPARISON_COLUMNS,
        PRICE_COLUMNS,
    ):
        headings = [METRICS[name].heading for name in columns if name in METRICS]

        assert len(set(headings)) == len(headings)


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", METRICS)
def test_a_missing_value_is_a_dash(name, missing):
    assert METRICS[name].show(missing) == "-"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (12.0, "12"),
        (9999, "9999"),
        (1.5, "1.500"),
        (12.3456, "12.35"),
        (123.456, "123.5"),
        (1234.56, "1235"),
        (9999.6, "10000"),
        (123456.7, "123457"),
        (1e15, "1000000000000000"),
        (0.5, "0.5000"),
        (0.012345, "0.0123"),
        (0.0001, "0.0001"),
        (-1.5, "-1.500"),
        (-123456.7, "-123457"),
    ],
)
def test_a_value_is_shown_with_four_digits(value, shown):
    assert Metric("title").show(value) == shown


@pytest.mark.parametrize("value", [1e-4, 5e-5, 1e-5, 1e-9, 5e-324, -1e-9])
def test_what_is_not_zero_is_not_shown_as_zero(value):
    assert float(Metric("title").show(value)) != 0


@pytest.mark.parametrize("value", [1e305, 1e308, -1e308])
def test_a_value_that_overflows_in_its_unit_is_a_dash_and_no_error(value):
    assert Metric("title", "ms", 1e6).show(value) == "-"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.50"), (0.123, "0.12"), (0.0149, "0.015"), (0.00149, "1.5e-03"), (1.5e-6, "1.5e-06")],
)
def test_a_small_value_has_two_digits_where_two_are_asked_for(value, shown):
    assert Metric("title", digits=2).show(value) == shown


def test_the_scale_comes_before_the_digits():
    assert Metric("title", "ms", 1e3).show(0.0312345) == "31.23"
