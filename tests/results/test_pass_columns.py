"""Results of passes that have no model: what is read, what is refused, and what is shown."""

from __future__ import annotations

import json

import pytest

from results.records.measurement import MOST_FIELDS, OtherResult
from results.records.quantities import PASS_NAME
from results.records.reading import BrokenFileError, parse_file
from results.records.schema import Record
from results.records.store import to_json
from results.tables.frames import CASE_COLUMNS, case_frame
from results.tables.index import refresh
from results.tables.metrics import METRICS, UNITS, metric_of, number_metric
from results.tables.pass_columns import pass_columns

RESULT = {
    "depth_m": 2.5, "points": 7, "scan_s": [0.5, 0.25, 0.125], "held_bytes": 2**21,
    "is_calm": True, "sensor": "a|b", "parts": {"x": [1, {"y": None}]}, "none": None, "empty_s": [],
}  # fmt: skip


@pytest.fixture
def with_result(make_record, make_measurement):
    """Maker of records with the result of a pass that has no model."""

    def make(name="lidar", result=RESULT, **changes):
        measurement = make_measurement(**{name: OtherResult.model_validate(result)})
        return make_record(measurement=measurement, **changes)

    return make


@pytest.fixture
def refused(with_result):
    """Read a record with another result; the reason why it is refused."""

    def read(name, result):
        content = json.loads(to_json(with_result()))
        content["measurement"]["passes"] = {name: result}
        with pytest.raises(BrokenFileError) as caught:
            parse_file(json.dumps(content), Record)
        return str(caught.value)

    return read


# Read


def test_a_result_without_a_model_comes_back_as_it_is(with_result):
    record = with_result()
    read = parse_file(to_json(record), Record)

    assert read == record
    assert read.measurement.other_passes["lidar"].fields == RESULT


def test_its_seconds_count_as_measured():
    assert OtherResult.model_validate(RESULT).timed_s() == 0.875


@pytest.mark.parametrize(
    ("name", "result", "reason"),
    [
        ("lidar", 4, "'measurement.passes.lidar': "),
        ("lidar", None, "'measurement.passes.lidar': "),
        ("lidar", {"x": 2**63}, "64 bits"),
        ("lidar", {"x": [{"y": 1e308 * 10}]}, "Infinity is not a number"),
        ("lidar", {"x y": 1}, "lowercase letters"),
        ("lidar", {f"x{number}": 1 for number in range(MOST_FIELDS + 1)}, "fields, got 101"),
        ("Lidar", {"x": 1}, "lowercase letters"),
        ("a" * 41, {"x": 1}, "lowercase letters"),
        ("", {"x": 1}, "lowercase letters"),
        ("latency", {"x": 1}, "'measurement.passes.latency"),
    ],
)
def test_what_is_no_result_is_refused(refused, name, result, reason):
    line = refused(name, result)

    assert reason in line
    assert len(line) < 300


def test_a_number_too_large_for_a_float_is_refused(with_result):
    text = to_json(with_result()).replace('"depth_m":2.5', '"depth_m":1e999')

    with pytest.raises(BrokenFileError, match="finite"):
        parse_file(text, Record)


# Columns


def test_numbers_and_seconds_become_columns_after_all_others(with_result):
    frame = case_frame([with_result()])

    assert tuple(frame.columns) == (
        *CASE_COLUMNS, "lidar_depth_m", "lidar_points", "lidar_scan_s", "lidar_held_bytes",
    )  # fmt: skip
    assert frame.iloc[0, -4:].tolist() == [2.5, 7, 0.25, 2**21]


def test_records_without_such_results_have_no_more_columns(make_record, make_failure):
    assert tuple(case_frame([make_record(), make_failure()]).columns) == CASE_COLUMNS


def test_a_name_that_means_something_else_is_told_apart(with_result):
    frame = case_frame([with_result("peak", {"bytes": 5, "watts": 6})])

    assert frame.iloc[0][["peak_bytes", "pass_peak_bytes", "peak_watts"]].tolist() == [5000, 5, 6]


def test_columns_that_no_row_fills_are_not_named(with_result, make_record):
    frame = case_frame([with_result(), make_record(batch_size=1)])

    assert pass_columns(frame, CASE_COLUMNS)[:2] == ["lidar_depth_m", "lidar_points"]
    assert pass_columns(frame[frame["batch_size"] == 1], CASE_COLUMNS) == []


def test_an_index_has_the_columns_whichever_records_came_first(store_of, make_record, with_result):
    store = store_of(make_record())
    first = refresh(store)
    store.write_record(with_result(batch_size=8))
    frames = [refresh(store, old, keep=False).frames["cases"] for old in (first, None)]
    found = [frame.set_index("batch_size")["lidar_points"] for frame in frames]

    assert [column.dropna().to_dict() for column in found] == [{8: 7.0}, {8: 7.0}]
    assert [len(column) for column in found] == [2, 2]


# Units


@pytest.mark.parametrize(
    ("column", "value", "heading", "shown"),
    [
        ("lidar_scan_s", 0.25, "lidar scan [ms]", "250"),
        ("lidar_held_bytes", 2**21, "lidar held [MiB]", "2"),
        ("lidar_busy_share", 0.25, "lidar busy [%]", "25"),
        ("lidar_points", 0.25, "lidar points", "0.2500"),
    ],
)
def test_the_end_of_a_name_is_its_unit(column, value, heading, shown):
    metric = number_metric(column)

    assert (metric.heading, metric.show(value)) == (heading, shown)


def test_a_known_column_keeps_its_metric():
    assert all(metric_of(name) is metric for name, metric in METRICS.items())
    assert metric_of("sensor") is None


@pytest.mark.parametrize("ending", UNITS)
def test_every_unit_can_end_the_name_of_a_field(ending):
    assert PASS_NAME.fullmatch(f"x{ending}")
