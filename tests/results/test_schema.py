"""The form of a record: what it keeps through JSON, and what it refuses."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from results.records.case import AXES, Case, TimingPlan
from results.records.measurement import EmbeddingError, Pipeline
from results.records.quantities import seven_digits
from results.records.schema import Record

PASSES = ("measurement", "passes")
LATENCY = (*PASSES, "latency")
NECK = (*PASSES, "modules", "timings", "neck")
LEVELS = [
    (), ("case",), ("plan",), ("environment",), ("environment", "gpus", 0), ("measurement",),
    LATENCY, NECK, (*PASSES, "memory"), ("measurement", "output"), (*PASSES, "flops"),
]  # fmt: skip
TIMES = [
    ("wall_s",), (*LATENCY, "forward_s", 0), (*LATENCY, "chunk_wall_s", 1),
    (*LATENCY, "first_forward_s"), (*LATENCY, "warmup_s"), (*NECK, "total_s", 0),
    (*PASSES, "components", "stages_s", "preprocess", 2),
]  # fmt: skip
COUNTS = [
    (*PASSES, "flops", "least_bytes"), ("measurement", "parameters"),
    (*PASSES, "memory", "peak_bytes"), (*PASSES, "memory", "alloc_retries"),
    (*PASSES, "modules", "timings", "blocks.0", "work", "flops"), ("environment", "memory_bytes"),
]  # fmt: skip
WRONG_TYPES = [
    (("case",), []), (("case", "batch_size"), "four"), (("case", "batch_size"), 4.5),
    (("case", "model"), 4), (("case", "weights"), None), (("status",), "fine"),
    ((*LATENCY, "forward_s"), 0.5), (("wall_s",), "soon"), (("wall_s",), None),
    ((*PASSES, "modules"), [1]), (("environment", "gpus"), "L4"),
    (("schema_version",), "first"),
]  # fmt: skip
OUT_OF_RANGE = [
    (("case", "batch_size"), 0), (("case", "batch_size"), 10**7), (("case", "image_size"), 65_537),
    (("case", "image_size"), 15), (("plan", "warmup_s"), -1.0), (("plan", "warmup_s"), math.nan),
    (("plan", "case_timeout_s"), math.inf), (("plan", "min_forwards"), 0),
    (("plan", "module_depth"), 3), (("plan", "prompts"), "masks"),
    (("plan", "prompts_per_image"), 0), (("plan", "prompts_per_image"), 100_001),
    (("plan", "points_per_side"), 0), (("plan", "points_per_side"), 1_001),
    ((*LATENCY, "forward_s"), []),
]  # fmt: skip


@pytest.fixture
def changed(make_record):
    """Makes a full record's plain data with the value at a place set."""

    def change(place, value):
        data = json.loads(make_record().model_dump_json())
        target = data
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = value
        return data

    return change


def through_json(form):
    return type(form).model_validate(json.loads(form.model_dump_json()))


def test_a_full_record_comes_back_from_json(make_record):
    record = make_record()

    assert through_json(record) == record


def test_what_is_measured_on_request_comes_back_from_json(make_record, make_measurement):
    plan = TimingPlan(passes=("mask_generator",), prompts="boxes", prompts_per_image=7)
    measurement = make_measurement(
        mask_generator=Pipeline(stages_s={"image_encoder": (0.25, 0.5)}),
        embedding_error=EmbeddingError(relative_l2=0.0, max_abs=1e-7),
    )
    record = make_record(plan=plan, measurement=measurement)

    assert through_json(record) == record


def test_a_record_from_before_prompts_were_chosen_can_be_read(make_record):
    data = json.loads(make_record().model_dump_json())
    for name in ("prompts", "prompts_per_image", "points_per_side"):
        del data["plan"][name]

    assert Record.model_validate_json(json.dumps(data)) == make_record()


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e-9])
@pytest.mark.parametrize("name", ["relative_l2", "max_abs"])
def test_an_embedding_error_must_be_finite_and_not_negative(name, value):
    with pytest.raises(ValidationError, match=r"finite number|greater than or equal to 0"):
        EmbeddingError(**{"relative_l2": 0.0, "max_abs": 0.0} | {name: value})


@pytest.mark.parametrize("status", ["oom", "crashed", "skipped", "interrupted"])
def test_a_record_without_a_measurement_comes_back_from_json(make_failure, status):
    record = make_failure(status)

    assert through_json(record) == record


def test_a_sweep_file_comes_back_from_json(sweep):
    assert through_json(sweep) == sweep


def test_unchanged_plain_data_makes_the_record(make_record, changed):
    assert Record.model_validate(changed(("wall_s",), 12.5)) == make_record()


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_unknown_fields_are_refused(changed, level):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Record.model_validate(changed((*level, "surprise"), 1))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-9])
@pytest.mark.parametrize("place", TIMES, ids=str)
def test_a_time_must_be_finite_and_not_negative(changed, place, value):
    with pytest.raises(ValidationError, match=r"finite number|greater than or equal to 0"):
        Record.model_validate(changed(place, value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_self_time_must_be_finite(changed, value):
    with pytest.raises(ValidationError, match="finite number"):
        Record.model_validate(changed((*NECK, "self_s"), [value]))


def test_a_self_time_may_be_negative_by_noise(changed):
    record = Record.model_validate(changed((*NECK, "self_s"), [-1e-7]))

    assert through_json(record) == record


@pytest.mark.parametrize("value", [-1, 2**63])
@pytest.mark.parametrize("place", COUNTS, ids=str)
def test_a_count_must_fit_63_bits(changed, place, value):
    with pytest.raises(ValidationError, match=r"greater than or equal to 0|less than"):
        Record.model_validate(changed(place, value))


@pytest.mark.parametrize(("place", "value"), WRONG_TYPES, ids=str)
def test_wrong_types_are_refused(changed, place, value):
    with pytest.raises(ValidationError):
        Record.model_validate(changed(place, value))


@pytest.mark.parametrize(("place", "value"), OUT_OF_RANGE, ids=str)
def test_values_out_of_range_are_refused(changed, place, value):
    with pytest.raises(ValidationError):
        Record.model_validate(changed(place, value))


@pytest.mark.parametrize("field", ["case", "environment", "status", "plan", "wall_s"])
def test_a_missing_field_is_refused(make_record, field):
    data = make_record().model_dump(exclude={field})
    with pytest.raises(ValidationError, match="Field required"):
        Record.model_validate(data)


def test_a_case_can_not_be_changed(make_case):
    with pytest.raises(ValidationError, match="frozen"):
        make_case().batch_size = 8


def test_equal_cases_have_one_id(make_case):
    shuffled = Case(**dict(reversed(make_case().model_dump().items())))

    assert shuffled.case_id == make_case().case_id


@pytest.mark.parametrize("axis", AXES)
def test_cases_that_differ_in_any_field_have_different_ids(make_case, axis):
    case = make_case(gpu="L4")
    other = make_case(**{"gpu": "L4", axis: getattr(case, axis) * 2})

    assert other.case_id != case.case_id


def test_a_case_id_is_the_same_in_every_process_and_version(make_case):
    """Should this fail, stored records have lost their identity: raise SCHEMA_VERSION."""
    assert make_case().case_id == "7530ab29c8c707a8"


@pytest.mark.parametrize("gpu", ["any", "L4"])
def test_a_case_that_asks_for_a_kind_of_gpu_is_another_than_one_that_does_not(make_case, gpu):
    assert make_case(gpu=gpu).case_id != make_case(gpu=None).case_id == make_case().case_id


def test_a_case_without_a_kind_of_gpu_is_read_from_what_was_written_before_there_were_kinds(
    make_case,
):
    assert Case(**make_case().model_dump(exclude={"gpu"})) == make_case()


@pytest.mark.parametrize(("gpu", "told"), [(None, "cuda:0"), ("any", "any GPU"), ("L4", "L4")])
def test_a_label_tells_the_device_or_the_kind_of_gpu(make_case, gpu, told):
    case = make_case(gpu=gpu)

    assert case.place == told
    assert f" eager {told} images" in case.label


@pytest.mark.parametrize("axis", AXES)
def test_a_worker_group_shares_all_of_a_case_but_its_batch_size_and_input(make_case, axis):
    case = make_case(gpu="L4")
    other = make_case(**{"gpu": "L4", axis: getattr(case, axis) * 2})

    assert (other.worker_key == case.worker_key) is (axis in ("batch_size", "input"))


@pytest.mark.parametrize(
    ("seconds", "stored"),
    [(0.0123456789, 0.01234568), (123.456789, 123.4568), (1e-9, 1e-9), (0.0, 0.0), (0.5, 0.5)],
)
def test_times_are_stored_with_seven_digits(make_record, seconds, stored):
    assert through_json(make_record(wall_s=seconds)).wall_s == stored


def test_seven_digits_stay_within_half_a_unit_of_the_last():
    times = [1.1**exponent for exponent in range(-200, 200)]

    assert all(math.isclose(seven_digits(time), time, rel_tol=5e-7) for time in times)


def test_a_record_whose_id_is_not_its_case_s_is_refused(make_record):
    content = json.loads(make_record().model_dump_json())
    content["case"]["batch_size"] *= 2

    with pytest.raises(ValidationError, match="case_id is not that of the case"):
        Record.model_validate_json(json.dumps(content))


@pytest.mark.parametrize("status", ["ok", "not_run"])
def test_a_record_without_a_measurement_has_a_status_that_says_so(make_failure, status):
    content = json.loads(make_failure().model_dump_json()) | {"status": status}

    with pytest.raises(ValidationError, match="without a measurement"):
        Record.model_validate_json(json.dumps(content))


@pytest.mark.parametrize("sweep_id", ["../x", "a/b", "", ".hidden", "x" * 81, "a\0"])
def test_a_sweep_id_that_is_no_file_name_is_refused(make_record, sweep_id):
    content = json.loads(make_record().model_dump_json()) | {"sweep_id": sweep_id}

    with pytest.raises(ValidationError, match="sweep_id"):
        Record.model_validate_json(json.dumps(content))


# Devices

NAMES = {"cuda:0": "GPU-0", "cuda:1": "GPU-1", "cuda": "GPU-0", "cpu": "a CPU"}


@pytest.mark.parametrize("device", NAMES)
def test_a_record_tells_the_gpu_that_its_case_ran_on(make_record, device):
    gpu = make_record(device=device).gpu

    assert (gpu.uuid if gpu is not None else "a CPU") == NAMES[device]


@pytest.mark.parametrize(("device", "name"), NAMES.items())
def test_a_device_is_told_apart_by_its_uuid_or_the_cpu_s_name(environment, device, name):
    share = ", 8 cores, 16 GiB" if device == "cpu" else ""

    assert environment.device_name(device) == name + share


@pytest.mark.parametrize("device", ["cuda:2", "cuda:p", "cpu", "cpu:0", ""])
def test_a_device_that_is_no_gpu_of_the_machine_has_none(environment, device):
    assert environment.find_gpu(device) is None
