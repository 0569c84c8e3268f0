"""Estimates: rough, but growing with the work and learning from records."""

from __future__ import annotations

import pytest

from benchmarking.estimate import (
    WORKER_START_S,
    case_seconds,
    encoder_flops,
    measured_rates,
    rate_key,
    sweep_seconds,
)
from benchmarking.execution import EXECUTIONS
from benchmarking.measure import count_flops
from benchmarking.precision import PRECISIONS
from results.schema import ENCODER, PASSES, TimingPlan
from sam.attention import ATTENTION
from sam.configs import MODELS

PLAN = TimingPlan()


@pytest.mark.parametrize("image_size", [256, 1024])
@pytest.mark.parametrize("model", [name for name in MODELS if name != "tiny"])
def test_estimated_flops_are_within_a_fifth_of_the_counted(make_case, model, image_size):
    case = make_case(model=model, image_size=image_size, attention="sdpa")

    assert encoder_flops(case) == pytest.approx(
        count_flops(case.model, case.image_size, case.attention)[ENCODER], rel=0.2
    )


@pytest.mark.parametrize("changes", [{"batch_size": 8}, {"image_size": 1024}, {"model": "vit_h"}])
def test_more_work_takes_longer(make_case, changes):
    small = {"model": "vit_b", "batch_size": 1, "image_size": 512}
    seconds = [case_seconds(make_case(**small | each), PLAN, {}) for each in ({}, changes)]

    assert seconds[0] < seconds[1]


@pytest.mark.parametrize("name", [name for name in PASSES if name != "flops"])
def test_a_pass_takes_time_where_it_is_asked_for(make_case, name):
    with_all = TimingPlan(passes=PASSES)
    without = TimingPlan(passes=tuple(each for each in PASSES if each != name))

    assert case_seconds(make_case(), without, {}) < case_seconds(make_case(), with_all, {})


def test_the_mask_generator_takes_longer_with_more_points(make_case):
    few, many = (TimingPlan(passes=("mask_generator",), points_per_side=side) for side in (4, 64))

    assert case_seconds(make_case(), few, {}) < case_seconds(make_case(), many, {})


def test_a_record_tells_the_rate_of_cases_like_it(make_record):
    record = make_record(batch_size=2)

    assert measured_rates([record]) == {
        rate_key(record.case): encoder_flops(record.case) * 2 / 0.25
    }


def test_a_later_record_wins(make_record):
    records = [make_record(batch_size=size) for size in (1, 2)]
    rates = measured_rates(records)

    assert rates == measured_rates(records[1:])


def test_a_case_is_estimated_by_what_was_measured(make_record, make_case):
    rates = measured_rates([make_record(batch_size=1)])
    slower = {key: rate / 1000 for key, rate in rates.items()}

    assert case_seconds(make_case(), PLAN, rates) < case_seconds(make_case(), PLAN, slower)


@pytest.mark.parametrize("status", ["oom", "timeout", "unsupported"])
def test_a_record_without_a_measurement_tells_no_rate(make_record, status):
    assert measured_rates([make_record(status)]) == {}


def test_a_record_of_a_model_that_is_not_known_here_tells_no_rate(make_record):
    assert measured_rates([make_record(model="vit_of_tomorrow")]) == {}


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_device_that_was_never_measured_is_guessed(make_case, device):
    assert case_seconds(make_case(device=device), PLAN, {}) > 0


@pytest.mark.parametrize(
    "changes",
    [{"precision": name} for name in PRECISIONS]
    + [{"attention": name} for name in ATTENTION]
    + [{"execution": name} for name in EXECUTIONS],
    ids=lambda changes: "-".join(*changes.items()),
)
def test_every_choice_can_be_estimated(make_case, changes):
    assert case_seconds(make_case(**changes), PLAN, {}) > 0


def test_each_family_of_cases_costs_the_start_of_a_worker(make_case):
    alone = [make_case()]
    other = make_case(attention="sdpa")
    more = sweep_seconds([*alone, other], PLAN, {}) - sweep_seconds(alone, PLAN, {})

    assert more == pytest.approx(WORKER_START_S + case_seconds(other, PLAN, {}))
