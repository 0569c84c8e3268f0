"""One record from close by: a row a timed forward, a row a look at the GPU."""

from __future__ import annotations

import pytest

from results.records.environment import Telemetry
from results.tables.frames import SAMPLE_COLUMNS, TELEMETRY_COLUMNS, sample_frame, telemetry_frame

LOOKS = Telemetry(
    at_s=(0.0, 0.5, 1.0),
    sm_clock_hz=(10**9, None, 2 * 10**9),
    memory_clock_hz=(None, None, None),
    power_watts=(70.5, 71.0, None),
    temperature_celsius=(40, 41, 42),
    used_bytes=(1, 2, 3),
    event_reasons=((), ("power cap", "heat"), None),
    process_count=(1, 1, 1),
)


@pytest.mark.parametrize(
    ("make", "columns"), [(sample_frame, SAMPLE_COLUMNS), (telemetry_frame, TELEMETRY_COLUMNS)]
)
def test_a_frame_has_its_columns_also_of_a_failure(make_record, make_failure, make, columns):
    assert tuple(make(make_record(telemetry=LOOKS)).columns) == columns
    assert (tuple(make(make_failure()).columns), len(make(make_failure()))) == (columns, 0)


@pytest.mark.parametrize("is_synthetic", [True, False])
@pytest.mark.parametrize("make", [sample_frame, telemetry_frame])
def test_every_row_says_whether_it_was_made_up(make_record, make, is_synthetic):
    frame = make(make_record(is_synthetic=is_synthetic, telemetry=LOOKS))

    assert set(frame["is_synthetic"]) == {is_synthetic}


# Samples


def test_a_row_is_a_forward_in_its_order_from_1(make_record):
    frame = sample_frame(make_record())

    assert frame["forward"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert frame["forward_s"].tolist() == [0.5, *[0.25] * 6]


def test_a_record_without_a_latency_has_no_samples(make_record, make_measurement):
    assert sample_frame(make_record(measurement=make_measurement(latency=None))).empty


# Telemetry


def test_a_row_is_a_look_at_the_gpu(make_record):
    frame = telemetry_frame(make_record(telemetry=LOOKS))

    assert frame["at_s"].tolist() == [0.0, 0.5, 1.0]
    assert frame["temperature_celsius"].tolist() == [40, 41, 42]
    assert frame["used_bytes"].tolist() == [1, 2, 3]


def test_what_the_gpu_did_not_tell_is_missing_and_never_0(make_record):
    frame = telemetry_frame(make_record(telemetry=LOOKS))

    assert frame["sm_clock_hz"].isna().tolist() == [False, True, False]
    assert frame["power_watts"].isna().tolist() == [False, False, True]
    assert frame["memory_clock_hz"].isna().all()
    assert frame["sm_clock_hz"].dropna().tolist() == [10**9, 2 * 10**9]


def test_reasons_stand_in_words(make_record):
    frame = telemetry_frame(make_record(telemetry=LOOKS))

    assert frame["event_reasons"].tolist() == ["", "power cap, heat", ""]


def test_a_quantity_that_was_never_looked_at_is_missing_in_every_row(make_record):
    frame = telemetry_frame(make_record(telemetry=Telemetry(at_s=(0.0, 0.5), used_bytes=(1, 2))))

    assert frame["at_s"].tolist() == [0.0, 0.5]
    assert frame["sm_clock_hz"].isna().all()
    assert len(frame) == 2


@pytest.mark.parametrize("telemetry", [None, Telemetry()], ids=["none", "empty"])
def test_a_record_that_was_not_watched_has_no_rows(make_record, telemetry):
    assert telemetry_frame(make_record(telemetry=telemetry)).empty


def test_a_made_up_record_without_reasons_says_so_all_the_same(make_record):
    looks = Telemetry(at_s=(0.0, 0.5), used_bytes=(1, 2))
    frame = telemetry_frame(make_record(is_synthetic=True, telemetry=looks))

    assert frame["is_synthetic"].tolist() == [True, True]
