"""Estimates: rough, but growing with the work and learning from records."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarking.choices.execution import EXECUTIONS
from benchmarking.choices.families import GUESSED_FLOPS, encoder_flops
from benchmarking.choices.precision import PRECISIONS
from benchmarking.measuring.passes.table import PASSES, default_passes
from benchmarking.sweeping.estimate import (
    GUESSED_FLOPS_PER_S,
    GUESSED_SHARE,
    Rates,
    case_seconds,
    guessed_rate,
    measured_rates,
    rate_key,
)
from results.hardware.specs import SPECS
from results.records.case import OWN, TimingPlan
from results.records.measurement import Work
from sam.attention.variants import ATTENTION
from sam.families import MODELS
from sam.sam1.work import encoder_work

PLAN = TimingPlan(passes=default_passes())


@pytest.fixture
def make_other(make_case):
    """Maker of a case of an encoder of which no formula is known."""
    return partial(make_case, model="package.module:function", attention=OWN, weights=OWN)


@pytest.mark.parametrize("model", MODELS)
def test_flops_are_those_that_the_family_knows(make_case, model):
    case = make_case(model=model, image_size=256, attention="sdpa")

    assert encoder_flops(case) == encoder_work(MODELS[model].config, 256, "sdpa")[""].flops


@pytest.mark.parametrize("model", MODELS)
def test_a_case_of_an_attention_that_is_not_known_is_guessed(make_case, model):
    assert encoder_flops(make_case(model=model, attention="of tomorrow")) > 0


def test_an_encoder_without_a_formula_is_guessed_by_area(make_other):
    small, large = (encoder_flops(make_other(image_size=size)) for size in (512, 1024))

    assert large == 4 * small == GUESSED_FLOPS


def test_flops_that_a_record_counted_are_better_than_a_guess(make_record, make_other):
    elsewhere = make_record(model="package.module:function", attention=OWN, weights=OWN, gpu="L4")
    work = Work(flops=2 * 10**15, least_flops=1, least_bytes=1)
    measured = elsewhere.measurement.with_passes(flops=work)
    record = elsewhere.model_copy(update={"measurement": measured})
    rates = measured_rates([record])

    assert rates.forward_s(make_other()) == 2e15 / GUESSED_FLOPS_PER_S["cpu"]
    assert rates.forward_s(make_other(image_size=128)) < 1


def test_a_time_that_a_record_measured_is_better_than_counted_flops(make_record, make_other):
    record = make_record(model="package.module:function", attention=OWN, weights=OWN)

    assert measured_rates([record]).forward_s(record.case) == pytest.approx(0.25)


@pytest.mark.parametrize("changes", [{"batch_size": 8}, {"image_size": 1024}, {"model": "vit_h"}])
def test_more_work_takes_longer(make_case, changes):
    small = {"model": "vit_b", "batch_size": 1, "image_size": 512}
    seconds = [case_seconds(make_case(**small | each), PLAN) for each in ({}, changes)]

    assert seconds[0] < seconds[1]


@pytest.mark.parametrize("name", [name for name in PASSES if name != "flops"])
def test_a_pass_takes_time_where_it_is_asked_for(make_case, name):
    with_all = TimingPlan(passes=tuple(PASSES))
    without = TimingPlan(passes=tuple(each for each in PASSES if each != name))
    case = make_case(device="cuda:0")  # on a CPU there is no energy to wait for

    assert case_seconds(case, without) < case_seconds(case, with_all)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("energy", {"device": "cpu"}), ("modules", {"execution": "compile"})],
)
def test_a_pass_that_can_not_run_takes_no_time(make_case, name, changes):
    case = make_case(**changes)
    with_it, without = TimingPlan(passes=("latency", name)), TimingPlan(passes=("latency",))

    assert case_seconds(case, with_it) == case_seconds(case, without)


def test_the_mask_generator_takes_longer_with_more_points(make_case):
    few, many = (TimingPlan(passes=("mask_generator",), points_per_side=side) for side in (4, 64))

    assert case_seconds(make_case(), few) < case_seconds(make_case(), many)


def test_a_record_tells_the_rate_of_cases_like_it(make_record):
    record = make_record(batch_size=2)

    assert measured_rates([record]).flops_per_s == {
        rate_key(record.case): encoder_flops(record.case) * 2 / 0.25
    }


def test_a_later_record_wins(make_record):
    records = [make_record(batch_size=size) for size in (1, 2)]
    rates = measured_rates(records)

    assert rates == measured_rates(records[1:])


def test_a_case_is_estimated_by_what_was_measured(make_record, make_case):
    rates = measured_rates([make_record(batch_size=1)])
    slower = Rates({key: rate / 1000 for key, rate in rates.flops_per_s.items()})

    assert case_seconds(make_case(), PLAN, rates) < case_seconds(make_case(), PLAN, slower)


@pytest.mark.parametrize("status", ["oom", "timeout", "unsupported"])
def test_a_record_without_a_measurement_tells_no_rate(make_record, status):
    assert measured_rates([make_record(status)]) == Rates()


def test_a_record_of_an_encoder_that_is_not_ours_tells_its_rate_alone(make_record):
    other = make_record(model="package.module:function", attention=OWN, weights=OWN)
    rates = measured_rates([make_record(), other])

    assert rates == measured_rates([make_record()]) | measured_rates([other])
    assert len(rates.flops_per_s) == 2


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_device_that_was_never_measured_is_guessed(make_case, device):
    assert case_seconds(make_case(device=device), PLAN) > 0


@pytest.mark.parametrize(
    "changes",
    [{"precision": name} for name in PRECISIONS]
    + [{"attention": name} for name in ATTENTION]
    + [{"execution": name} for name in EXECUTIONS],
    ids=lambda changes: "-".join(*changes.items()),
)
def test_every_choice_can_be_estimated(make_case, changes):
    assert case_seconds(make_case(**changes), PLAN) > 0


# Kinds of GPU


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_kind_whose_peak_is_known_is_guessed_by_a_share_of_it(make_case, name, precision):
    rate = guessed_rate(make_case(device="cuda:0", gpu=name, precision=precision))
    peaks = SPECS[name].flops_per_s

    assert rate == GUESSED_SHARE * peaks.get(precision, peaks["fp32"])


@pytest.mark.parametrize("gpu", [None, "any", "MI300X"])
def test_a_gpu_of_which_nothing_is_known_is_guessed_low(make_case, gpu):
    assert guessed_rate(make_case(device="cuda:0", gpu=gpu)) == GUESSED_FLOPS_PER_S["cuda"]


@pytest.mark.parametrize("device", ["cpu", "cuda:3"])
def test_a_device_is_guessed_by_what_it_is(make_case, device):
    kind = device.partition(":")[0]

    assert guessed_rate(make_case(device=device)) == GUESSED_FLOPS_PER_S[kind]


def test_a_faster_kind_is_expected_to_take_less_time(make_case):
    work = {"model": "vit_h", "image_size": 1024, "batch_size": 32, "precision": "bf16"}
    kinds = ("L4", "L40S", "H200")
    seconds = [case_seconds(make_case(device="cuda:0", gpu=kind, **work), PLAN) for kind in kinds]

    assert seconds == sorted(seconds, reverse=True)
    assert len(set(seconds)) == 3


def test_a_record_of_a_kind_tells_the_rate_of_that_kind_alone(make_record, make_case):
    rates = measured_rates([make_record(device="cuda:0", gpu="L4")])

    assert rate_key(make_case(device="cuda:0", gpu="L4")) in rates.flops_per_s
    assert rate_key(make_case(device="cuda:0", gpu="H200")) not in rates.flops_per_s
    assert rate_key(make_case(device="cuda:0")) not in rates.flops_per_s
