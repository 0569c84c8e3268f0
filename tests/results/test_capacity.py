"""Which batch size is best, told from made records."""

from __future__ import annotations

import numpy as np
import pytest

from results.answers.capacity import (
    CAPACITY_COLUMNS,
    capacity_frame,
    capacity_key,
    capacity_of_cases,
    knee,
)
from results.records.case import TimingPlan
from results.records.measurement import Energy, Memory
from results.records.schema import STATUSES, Check
from results.tables.frames import case_frame

MIB = 2**20
FIXED, IMAGE = 700 * MIB, 90 * MIB
OTHERS = [status for status in STATUSES if status not in ("ok", "not_run")]


@pytest.fixture
def make_batch(make_record, make_measurement, make_latency):
    """Maker of records of a batch size: image_s sets what an image takes."""

    def make(size, image_s=0.01, joules=None, **changes):
        measured = {
            "latency": make_latency(forward_s=(size * image_s,) * 7),
            "memory": Memory(
                source="made up", weights_bytes=1, peak_bytes=FIXED + size * IMAGE, rise_bytes=1
            ),
        }
        if joules is not None:
            measured["energy"] = Energy(joules=joules, window_s=5.0, forwards=100)
        return make_record(batch_size=size, measurement=make_measurement(**measured), **changes)

    return make


@pytest.fixture
def card(make_batch, environment):
    """The only row of batches given as {size: seconds an image}, on a GPU of so many bytes."""

    def read(image_s, device_bytes=None, **options):
        machine = {}
        if device_bytes is not None:
            gpu = environment.gpus[0].model_copy(update={"memory_bytes": device_bytes})
            machine = {"environment": environment.model_copy(update={"gpus": (gpu,)})}
        records = [make_batch(*each, **machine) for each in image_s.items()]
        frame = capacity_frame(records, **options)
        assert len(frame) == 1
        return frame.iloc[0]

    return read


def same(text):
    """Batches of 1, 2, 4, ... with these milliseconds an image."""
    return {2**index: float(each) * 1e-3 for index, each in enumerate(text.split())}


# Rows


def test_no_records_make_an_empty_frame_with_all_columns():
    frame = capacity_frame([])

    assert (len(frame), tuple(frame.columns)) == (0, CAPACITY_COLUMNS)


def test_a_frame_has_its_columns_and_no_other(make_batch):
    assert tuple(capacity_frame([make_batch(1)]).columns) == CAPACITY_COLUMNS


@pytest.mark.parametrize("status", [status for status in OTHERS if status != "invalid"])
def test_failures_alone_make_no_row(make_failure, status):
    assert capacity_frame([make_failure(status, batch_size=1)]).empty


def test_a_batch_that_can_t_be_trusted_did_fit(make_batch):
    row = capacity_frame([make_batch(1), make_batch(2, status="invalid")]).iloc[0]

    assert (row["largest_batch"], row["best_batch"]) == (2, 1)


def test_a_record_without_a_latency_has_no_throughput(make_record, make_measurement):
    record = make_record(batch_size=4, measurement=make_measurement(latency=None))
    row = capacity_frame([record]).iloc[0]

    assert row["largest_batch"] == 4
    assert row[["best_batch", "best_images_per_s", "knee_batch"]].isna().all()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "vit_l"},
        {"precision": "fp32"},
        {"attention": "sdpa"},
        {"image_size": 512},
        {"device": "cuda:1"},
        {"plan": TimingPlan(memory_limit_bytes=2**30)},
        {"is_synthetic": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_not_the_same_but_for_the_batch_has_a_row_of_its_own(make_batch, changes):
    frame = capacity_frame([make_batch(1), make_batch(2), make_batch(4, **changes)])

    assert list(frame["largest_batch"]) == [2, 4]


def test_two_gpus_of_one_name_have_a_row_each(make_batch, environment):
    gpu = environment.gpus[0].model_copy(update={"uuid": "GPU-of-another-host"})
    other = environment.model_copy(update={"gpus": (gpu,)})
    frame = capacity_frame([make_batch(1), make_batch(2, environment=other)])

    assert list(frame["gpu"]) == ["NVIDIA L4", "NVIDIA L4"]
    assert list(frame["largest_batch"]) == [1, 2]


def test_another_sweep_of_the_same_machine_adds_to_the_row(make_batch):
    frame = capacity_frame([make_batch(1), make_batch(2, sweep_id="another")])

    assert list(frame["largest_batch"]) == [2]


def test_a_row_tells_the_memory_limit(make_batch):
    limited = make_batch(1, plan=TimingPlan(memory_limit_bytes=2**30))

    assert capacity_frame([limited])["memory_limit_bytes"].item() == 2**30


def test_a_family_does_not_know_the_batch_size_nor_how_it_was_timed(make_batch):
    first, second = make_batch(1), make_batch(2, plan=TimingPlan(warmup_s=1))

    assert capacity_key(first.case, first.environment, first.plan) == capacity_key(
        second.case, second.environment, second.plan
    )


# What fits


def test_the_largest_batch_is_the_largest_that_was_measured(card):
    assert card({4: 0.01, 1: 0.01, 3: 0.01})["largest_batch"] == 4


@pytest.mark.parametrize("sizes", [(5, 8, 6), (8, 5), (5,)])
def test_the_smallest_that_did_not_fit_is_told(make_batch, make_failure, sizes):
    records = [make_batch(4), *(make_failure(batch_size=size) for size in sizes)]

    assert capacity_frame(records)["smallest_oom"].item() == 5


@pytest.mark.parametrize("status", [status for status in OTHERS if status != "oom"])
def test_another_failure_does_not_tell_what_fits(make_batch, make_failure, status):
    frame = capacity_frame([make_batch(4), make_failure(status, batch_size=5)])

    assert frame["smallest_oom"].isna().all()


def test_a_batch_whose_later_pass_ran_out_of_memory_did_not_fit(make_batch):
    row = capacity_frame([make_batch(4), make_batch(5, status="oom")]).iloc[0]

    assert (row["largest_batch"], row["smallest_oom"]) == (4, 5)


@pytest.mark.parametrize(("above", "largest"), [(4, 2), (5, 5), (8, 8)])
def test_what_did_not_fit_says_nothing_of_larger_batches_that_did(
    make_batch, make_failure, above, largest
):
    records = [make_batch(2), make_batch(above), make_failure(batch_size=4, sweep_id="later")]

    assert capacity_frame(records)["largest_batch"].item() == largest


@pytest.mark.parametrize(("later", "largest"), [("ok", 4), ("oom", 2)])
def test_of_one_batch_size_the_newest_record_tells(make_batch, later, largest):
    earlier = "oom" if later == "ok" else "ok"
    records = [
        make_batch(2),
        make_batch(4, status=later, started_at="2027-01-01T00:00:00+00:00"),
        make_batch(4, status=earlier, started_at="2026-01-01T00:00:00+00:00"),
    ]

    assert capacity_frame(records)["largest_batch"].item() == largest


# Memory


def test_the_memory_line_is_found_again_in_exact_data(card):
    row = card(same("10 10 10 10"))

    assert row["fixed_bytes"] == pytest.approx(FIXED, rel=1e-9)
    assert row["image_bytes"] == pytest.approx(IMAGE, rel=1e-9)


def test_one_batch_has_no_memory_line(card):
    assert card({4: 0.01})[["fixed_bytes", "image_bytes", "predicted_batch"]].isna().all()


def test_records_without_memory_have_no_line(make_record, make_measurement):
    records = [
        make_record(batch_size=size, measurement=make_measurement(memory=None)) for size in (1, 2)
    ]

    assert capacity_frame(records)[["fixed_bytes", "image_bytes"]].isna().all(axis=None)


@pytest.mark.parametrize(("room", "batch"), [(8.0, 8), (8.999, 8), (9.0, 9), (0.5, 0), (-3, 0)])
def test_the_batch_that_should_fit_is_what_the_line_leaves_room_for(card, room, batch):
    memory = int(FIXED + room * IMAGE)

    assert card(same("10 10 10 10"), device_bytes=memory)["predicted_batch"] == batch


def test_a_memory_limit_is_what_has_to_do(make_batch):
    plan = TimingPlan(memory_limit_bytes=FIXED + 5 * IMAGE)
    row = capacity_frame([make_batch(1, plan=plan), make_batch(2, plan=plan)]).iloc[0]

    assert row["predicted_batch"] == 5


@pytest.mark.parametrize("bytes_of", [lambda size: FIXED, lambda size: FIXED - size * MIB])
def test_where_memory_does_not_grow_nothing_says_what_should_fit(
    make_record, make_measurement, bytes_of
):
    records = [
        make_record(
            batch_size=size,
            measurement=make_measurement(
                memory=Memory(
                    source="made up", weights_bytes=1, peak_bytes=bytes_of(size), rise_bytes=1
                )
            ),
        )
        for size in (1, 2, 4)
    ]

    assert capacity_frame(records)["predicted_batch"].isna().all()


# Speed


@pytest.mark.parametrize(("fixed_s", "marginal_s"), [(0.004, 0.01), (0.0, 0.01), (0.5, 1e-4)])
def test_the_time_line_is_found_again_in_exact_data(card, fixed_s, marginal_s):
    row = card({size: fixed_s / size + marginal_s for size in (1, 2, 4, 8)})

    assert row["fixed_s"] == pytest.approx(fixed_s, abs=1e-12)
    assert row["marginal_s"] == pytest.approx(marginal_s)


def test_the_time_line_is_that_of_least_squares(card):
    times = {1: 0.010, 2: 0.025, 4: 0.035, 8: 0.09}
    row = card({size: seconds / size for size, seconds in times.items()})
    marginal_s, fixed_s = np.polyfit(list(times), list(times.values()), 1)

    assert (row["fixed_s"], row["marginal_s"]) == pytest.approx((fixed_s, marginal_s))


def test_one_batch_has_no_time_line(card):
    assert card({4: 0.01})[["fixed_s", "marginal_s"]].isna().all()


def test_a_batch_that_can_t_be_trusted_is_not_in_the_time_line(make_batch):
    records = [make_batch(1), make_batch(2), make_batch(4, 9.0, status="invalid")]
    row = capacity_frame(records).iloc[0]

    assert row["marginal_s"] == pytest.approx(0.01)


def test_frames_of_cases_tell_the_same_as_their_records(make_batch, make_failure):
    records = [*map(make_batch, (1, 2, 4)), make_failure(batch_size=8)]

    assert capacity_of_cases(case_frame(records)).equals(capacity_frame(records))
    assert capacity_of_cases(case_frame(records), 0.02).equals(capacity_frame(records, 0.02))


def test_the_best_batch_takes_least_an_image(card):
    row = card(same("10 8 7 9"))

    assert (row["best_batch"], row["best_images_per_s"]) == (4, pytest.approx(1 / 7e-3))


@pytest.mark.parametrize(
    ("image_ms", "batch"),
    [
        ("10 8 7.3 7.2 7.1", 4),
        ("10 8 7.6 7.2 7.1", 8),
        ("7.4 8 7.1 7.2", 1),
        ("10", 1),
        ("10 9.51", 1),
        ("10 9.49", 2),
    ],
)
def test_the_knee_is_the_smallest_batch_within_5_percent_of_the_best(card, image_ms, batch):
    assert card(same(image_ms))["knee_batch"] == batch


def test_the_knee_does_not_depend_on_the_order_of_the_records(make_batch):
    image_s = same("10 8 7.3 7.2 7.1")
    records = [make_batch(*each) for each in image_s.items()]

    assert capacity_frame(records[::-1]).equals(capacity_frame(records))


def test_of_two_measurements_of_a_batch_the_later_counts(make_batch):
    frame = capacity_frame([make_batch(2, 0.02), make_batch(2, 0.01, sweep_id="later")])

    assert frame["best_images_per_s"].item() == pytest.approx(100)


# A budget


@pytest.mark.parametrize(
    ("budget_s", "batch"), [(0.010, 1), (0.0159, 1), (0.016001, 2), (0.029, 4), (9.0, 4)]
)
def test_within_a_latency_budget_the_best_batch_is_told(card, budget_s, batch):
    row = card(same("10 8 7 8"), latency_budget_s=budget_s)

    assert (row["budget_batch"], row["latency_budget_s"]) == (batch, budget_s)
    assert row["budget_images_per_s"] == pytest.approx(1 / same("10 8 7 8")[batch])


def test_a_budget_that_no_batch_meets_gives_missing_values_and_no_zeros(card):
    row = card(same("10 8"), latency_budget_s=0.001)

    assert row[["budget_batch", "budget_images_per_s"]].isna().all()


def test_without_a_budget_no_batch_is_told_for_it(card):
    columns = ["latency_budget_s", "budget_batch", "budget_images_per_s"]

    assert card(same("10 8"))[columns].isna().all()


# The knee


@pytest.mark.parametrize(
    ("images_per_s", "size"),
    [
        ({1: 100}, 1),
        ({1: 50, 2: 94, 4: 96, 8: 100}, 4),
        ({1: 50, 2: 95.1, 4: 96, 8: 100}, 2),
        ({1: 100, 2: 104, 4: 90}, 1),
        ({1: 50, 2: 100, 4: 80, 8: 60}, 2),
    ],
)
def test_the_knee_of_a_family_by_its_images_per_s(images_per_s, size):
    family = [{"batch_size": each, "image_s": 1 / rate} for each, rate in images_per_s.items()]

    assert knee(family)["batch_size"] == size


# Energy


def test_the_batch_that_takes_least_energy_an_image_is_told(make_batch):
    joules = {1: 500.0, 2: 800.0, 4: 2000.0}
    records = [make_batch(size, joules=each) for size, each in joules.items()]
    row = capacity_frame(records).iloc[0]

    assert (row["joules_batch"], row["image_joules"]) == (2, 4.0)


def test_a_batch_whose_energy_is_not_known_does_not_take_least(make_batch):
    row = capacity_frame([make_batch(1), make_batch(2, joules=800.0)]).iloc[0]

    assert (row["joules_batch"], row["image_joules"]) == (2, 4.0)


def test_where_no_energy_was_measured_it_is_missing(card):
    assert card(same("10 8"))[["joules_batch", "image_joules"]].isna().all()


def test_energy_of_no_forwards_tells_nothing_of_an_image(make_record, make_measurement):
    energy = Energy(joules=0, window_s=5.0, forwards=0)

    (joules,) = capacity_frame([make_record(measurement=make_measurement(energy=energy))])[
        "image_joules"
    ]
    assert joules is None


# Self-checks


def test_a_row_counts_the_warnings_of_all_its_batches(make_batch):
    checks = {
        name: Check(value=1.0, limit="a limit", verdict=verdict)
        for name, verdict in (("spread", "warn"), ("trend", "warn"), ("output", "pass"))
    }
    frame = capacity_frame(
        [make_batch(1, checks=checks), make_batch(2), make_batch(4, checks=checks)]
    )

    assert frame["warnings"].item() == 4
