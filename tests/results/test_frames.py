"""Records to tables."""

from __future__ import annotations

import numpy as np
import pytest

from results.answers.limits import LIMIT_COLUMNS
from results.hardware.specs import Spec
from results.records.case import AXES
from results.records.measurement import (
    ENCODER,
    EmbeddingError,
    Modules,
    ModuleTiming,
    Pipeline,
    Work,
)
from results.records.schema import STATUSES, Check
from results.tables.frames import (
    CASE_COLUMNS,
    CHECK_COLUMNS,
    COMPONENT_COLUMNS,
    LIMITS_COLUMNS,
    MODULE_COLUMNS,
    UNATTRIBUTED,
    case_frame,
    check_frame,
    component_frame,
    limits_frame,
    module_frame,
)

FRAMES = {
    case_frame: CASE_COLUMNS,
    component_frame: COMPONENT_COLUMNS,
    module_frame: MODULE_COLUMNS,
    check_frame: CHECK_COLUMNS,
    limits_frame: LIMITS_COLUMNS,
}
NAMES = [make.__name__ for make in FRAMES]
ONE = {"output": Check(value=0.0, limit="0 faults", verdict="pass")}
MEASURED = [
    "n", "median_s", "low_s", "high_s", "p99_s", "outliers", "image_s", "images_per_s",
    "stop_reason", "first_forward_s", "launch_share", "flops_per_image", "flops_per_s",
    "peak_bytes", "rise_bytes", "weights_bytes", "reserved_bytes",
]  # fmt: skip


@pytest.fixture
def row(make_record):
    """The only row of a full record's case frame."""
    return case_frame([make_record()]).iloc[0]


@pytest.mark.parametrize(("make", "columns"), FRAMES.items(), ids=NAMES)
def test_no_records_make_an_empty_frame_with_all_columns(make, columns):
    frame = make([])

    assert (len(frame), tuple(frame.columns)) == (0, columns)


@pytest.mark.parametrize(("make", "columns"), FRAMES.items(), ids=NAMES)
def test_a_frame_has_its_columns_and_no_other(make_record, make, columns):
    assert tuple(make([make_record(checks=ONE)]).columns) == columns


@pytest.mark.parametrize("make", FRAMES, ids=NAMES)
def test_a_row_tells_every_axis_of_its_case(make_record, make):
    record = make_record(batch_size=16, checks=ONE)
    first = make([record]).iloc[0]

    told = record.case.model_dump() | {"gpu": record.gpu.name}  # what it ran on
    assert {axis: first[axis] for axis in AXES} == told


# Cases


def test_a_case_frame_has_a_row_a_case_in_order(make_record, make_failure):
    frame = case_frame([make_record(batch_size=4), make_failure(batch_size=2), make_record()])

    assert list(frame["batch_size"]) == [4, 2, 4]
    assert list(frame["status"]) == ["ok", "oom", "ok"]


@pytest.mark.parametrize(
    "status", [status for status in STATUSES if status not in ("ok", "not_run")]
)
def test_a_case_without_a_measurement_has_missing_values_and_no_zeros(make_failure, status):
    failed = case_frame([make_failure(status)]).iloc[0]

    assert failed["status"] == status
    assert failed[MEASURED].isna().all()


def test_a_failed_case_tells_where_and_why(make_failure):
    failed = case_frame([make_failure()]).iloc[0]

    assert (failed["stage"], failed["message"]) == ("latency", "CUDA out of memory")


def test_a_failed_case_leaves_the_numbers_of_others_numbers(make_record, make_failure):
    frame = case_frame([make_failure(), make_record()])

    assert frame["median_s"].dtype == np.float64


def test_a_measured_case_has_every_value(row):
    assert list(row[MEASURED].index[row[MEASURED].isna()]) == ["p99_s"]  # of 7 samples


def test_times_are_in_seconds(row):
    assert (row["median_s"], row["min_s"], row["max_s"]) == (0.25, 0.25, 0.5)


def test_time_per_image_is_the_median_over_the_batch(row):
    assert row["image_s"] == 0.25 / 4


def test_throughput_is_all_images_over_all_time(row):
    assert row["images_per_s"] == 4 * 7 / 2.0  # not 4 / median, which is 16


def test_work_is_in_flop(row):
    assert row["flops_per_image"] == 740_000_000_000
    assert row["flops_per_s"] == 4 * 740_000_000_000 / 0.25  # by the median


def test_the_launch_share_is_the_host_s_time_to_launch_over_a_forward_s(row):
    assert row["launch_share"] == 0.25 / 0.25


def test_memory_is_in_bytes(row):
    assert list(row[["weights_bytes", "peak_bytes", "rise_bytes", "reserved_bytes"]]) == [
        360, 5000, 4000, 6000,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "gpu"),
    [
        ("cuda:0", "NVIDIA L4"),
        ("cuda:1", "NVIDIA L40S"),
        ("cuda", "NVIDIA L4"),
        ("cuda:2", None),
        ("cuda:p", None),
        ("cpu", None),
    ],
)
def test_the_gpu_is_the_one_that_the_case_ran_on(make_record, device, gpu):
    assert case_frame([make_record(device=device)])["gpu"].tolist() == [gpu]


@pytest.mark.parametrize("left_out", ["latency", "memory", "flops"])
def test_a_pass_left_out_is_missing_and_the_others_are_there(
    make_record, make_measurement, left_out
):
    columns = {
        "latency": "median_s",
        "memory": "peak_bytes",
        "flops": "flops_per_image",
    }
    first = case_frame([make_record(measurement=make_measurement(**{left_out: None}))]).iloc[0]

    assert {name: bool(first.isna()[column]) for name, column in columns.items()} == {
        name: name == left_out for name in columns
    }


def test_an_embedding_error_is_relative_and_the_largest_beside_it(make_record, make_measurement):
    error = EmbeddingError(relative_l2=0.25, max_abs=3.5)
    first = case_frame([make_record(measurement=make_measurement(embedding_error=error))]).iloc[0]

    assert (first["embedding_error"], first["embedding_max_error"]) == (0.25, 3.5)


def test_an_embedding_error_that_was_not_measured_is_missing(row):
    assert row[["embedding_error", "embedding_max_error"]].isna().all()


def test_times_of_zero_make_no_throughput(make_record, make_measurement, make_latency):
    latency = make_latency(forward_s=(0.0,) * 7)
    first = case_frame([make_record(measurement=make_measurement(latency=latency))]).iloc[0]

    assert first[["images_per_s", "flops_per_s", "launch_share"]].isna().all()


# Components


def test_a_component_frame_has_a_row_a_case_and_component(make_record):
    frame = component_frame([make_record(batch_size=2), make_record(batch_size=4)])

    assert list(zip(frame["batch_size"], frame["component"], strict=True)) == [
        (2, "preprocess"), (2, "image_encoder"), (4, "preprocess"), (4, "image_encoder"),
    ]  # fmt: skip


def test_a_component_has_the_median_of_its_samples(make_record):
    frame = component_frame([make_record()])

    assert list(frame["median_s"]) == [0.1, 0.3]
    assert list(frame["n"]) == [3, 3]


def test_shares_of_components_are_of_the_sum_of_their_medians(make_record):
    assert list(component_frame([make_record()])["share"]) == pytest.approx([0.25, 0.75])


GENERATOR = Pipeline(stages_s={"image_encoder": (0.25,), "nms": (0.75,)})


def test_components_of_a_case_tell_their_pipeline(make_record, make_measurement):
    measurement = make_measurement(mask_generator=GENERATOR)
    frame = component_frame([make_record(measurement=measurement)])

    assert list(zip(frame["pipeline"], frame["component"], strict=True)) == [
        ("prompts", "preprocess"), ("prompts", "image_encoder"),
        ("mask_generator", "image_encoder"), ("mask_generator", "nms"),
    ]  # fmt: skip


def test_shares_add_up_to_one_in_each_pipeline(make_record, make_measurement):
    measurement = make_measurement(mask_generator=GENERATOR)
    frame = component_frame([make_record(measurement=measurement)])

    assert list(frame["share"]) == pytest.approx([0.25, 0.75, 0.25, 0.75])
    assert dict(frame.groupby("pipeline")["share"].sum()) == pytest.approx(
        {"prompts": 1.0, "mask_generator": 1.0}
    )


@pytest.mark.parametrize("name", ["components", "mask_generator"])
def test_a_case_may_have_one_pipeline_alone(make_record, make_measurement, name):
    samples = {"components": None, "mask_generator": None, name: GENERATOR}
    frame = component_frame([make_record(measurement=make_measurement(**samples))])

    assert set(frame["pipeline"]) == {
        {"components": "prompts", "mask_generator": "mask_generator"}[name]
    }


@pytest.mark.parametrize("make", [component_frame, module_frame])
def test_a_case_without_parts_has_no_rows(make_record, make_failure, make_measurement, make):
    plain = make_measurement(components=None, modules=None)

    assert len(make([make_failure(), make_record(measurement=plain)])) == 0


# Modules


@pytest.fixture
def modules(make_record):
    """A full record's module frame, by module."""
    return module_frame([make_record()]).set_index("module")


def test_a_module_frame_has_a_row_a_module_and_last_one_for_the_rest(modules):
    assert list(modules.index) == ["blocks.0", "neck", UNATTRIBUTED]


def test_shares_of_modules_and_the_rest_add_up_to_one(modules):
    assert modules["share"].to_dict() == {"blocks.0": 0.625, "neck": 0.25, UNATTRIBUTED: 0.125}


def test_the_rest_is_what_the_encoder_spends_outside_its_modules(modules):
    assert modules.loc[UNATTRIBUTED, ["total_s", "self_s"]].tolist() == [0.125, 0.125]
    assert modules.loc[UNATTRIBUTED, ["flops", "flops_per_s"]].isna().all()


def test_a_modules_work_is_over_its_median_time(modules):
    assert modules["flops_per_s"].dropna().to_dict() == {"blocks.0": 5e9 / 0.625}


def test_parts_within_a_block_are_not_counted_twice(make_record, make_measurement):
    times = {
        ENCODER: (1.0, 0.25, "encoder", None),
        "blocks.0": (0.75, 0.125, "window", ENCODER),
        "blocks.0.attn": (0.5, 0.5, "attn", "blocks.0"),
        "blocks.0.mlp": (0.125, 0.125, "mlp", "blocks.0"),
    }
    timings = {
        name: ModuleTiming(total_s=(total,), self_s=(own,), kind=kind, parent=parent)
        for name, (total, own, kind, parent) in times.items()
    }
    frame = module_frame(
        [make_record(measurement=make_measurement(modules=Modules(timings=timings)))]
    )

    assert frame.set_index("module")["share"].to_dict() == {
        UNATTRIBUTED: 0.25,
        "blocks.0": 0.125,
        "blocks.0.attn": 0.5,
        "blocks.0.mlp": 0.125,
    }


def test_without_the_encoder_no_share_is_known(make_record, make_measurement):
    timings = {"neck": ModuleTiming(total_s=(0.25,), self_s=(0.25,), kind="neck", parent=ENCODER)}
    frame = module_frame(
        [make_record(measurement=make_measurement(modules=Modules(timings=timings)))]
    )

    assert frame["share"].isna().all()


def test_a_module_never_called_is_missing_and_not_zero(make_record, make_measurement):
    timings = {
        ENCODER: ModuleTiming(total_s=(1.0,), self_s=(1.0,), kind="encoder", parent=None),
        "neck": ModuleTiming(
            total_s=(),
            self_s=(),
            kind="neck",
            parent=ENCODER,
            work=Work(flops=5, least_flops=5, least_bytes=5),
        ),
    }
    frame = module_frame(
        [make_record(measurement=make_measurement(modules=Modules(timings=timings)))]
    )
    neck = frame.set_index("module").loc["neck"]

    assert neck[["total_s", "self_s", "share", "flops_per_s"]].isna().all()
    assert neck["n"] == 0


# Self-checks

CHECKS = {
    "output": Check(value=0.0, limit="0 faults", verdict="pass"),
    "spread": Check(value=0.5, limit="<= 0.05", verdict="warn", reason="samples lie far apart"),
    "clocks": Check(value=None, limit="none", verdict="unknown", reason="Not Supported"),
    "events": Check(value=1.5, limit="0.9 to 1.01", verdict="invalid", reason="too fast"),
}


def test_a_check_frame_has_a_row_a_case_and_check(make_record):
    records = [make_record(batch_size=size, checks=CHECKS) for size in (2, 4)]
    frame = check_frame(records)

    assert list(zip(frame["batch_size"], frame["check"], strict=True)) == [
        (size, name) for size in (2, 4) for name in CHECKS
    ]


def test_a_row_of_a_check_tells_all_of_it(make_record):
    frame = check_frame([make_record(checks=CHECKS)]).set_index("check")
    columns = ["value", "limit", "verdict", "reason"]

    assert tuple(frame.loc["spread", columns]) == (0.5, "<= 0.05", "warn", "samples lie far apart")


def test_a_check_s_value_that_is_not_known_is_missing(make_record):
    frame = check_frame([make_record(checks=CHECKS)]).set_index("check")

    assert np.isnan(frame.loc["clocks", "value"])


@pytest.mark.parametrize("make", FRAMES, ids=NAMES)
def test_every_row_counts_the_checks_of_its_case(make_record, make):
    rows = make([make_record(checks=CHECKS)])

    assert set(zip(rows["checks"], rows["warnings"], rows["invalid_checks"], strict=True)) == {
        (4, 1, 1)
    }


def test_a_case_without_checks_has_counts_of_zero(make_failure):
    row = case_frame([make_failure()]).iloc[0]

    assert list(row[["checks", "warnings", "invalid_checks"]]) == [0, 0, 0]


# Limits


def test_a_limits_frame_has_a_row_for_the_encoder_and_one_for_each_of_its_modules(make_record):
    frame = limits_frame([make_record(batch_size=size) for size in (2, 4)])

    assert list(zip(frame["batch_size"], frame["module"], strict=True)) == [
        (size, name) for size in (2, 4) for name in (ENCODER, "blocks.0", "neck")
    ]


def test_a_row_of_limits_is_of_its_own_time_and_work(make_record):
    rows = limits_frame([make_record()]).set_index("module")

    assert rows.loc[[ENCODER, "blocks.0"], "total_s"].tolist() == [0.25, 0.625]
    assert rows.loc[[ENCODER, "blocks.0"], "flops"].tolist() == [4 * 740e9, 5e9]


def test_a_module_whose_work_was_not_counted_has_no_limits(make_record):
    neck = limits_frame([make_record()]).set_index("module").loc["neck"]

    assert neck[list(LIMIT_COLUMNS)].isna().all()


def test_a_failed_case_has_a_row_of_limits_without_a_number(make_failure):
    row = limits_frame([make_failure()]).iloc[0]

    assert (row["module"], row["status"]) == (ENCODER, "oom")
    assert row[[*LIMIT_COLUMNS, "total_s", "image_s"]].isna().all()


@pytest.mark.parametrize("make", [case_frame, module_frame, limits_frame])
def test_a_person_s_own_peaks_are_what_shares_are_of(make_record, make):
    """The record's GPU is an L4, and its precision bf16."""
    own = {"L4": Spec({"bf16": 1e20}, bytes_per_s=1e20, cache_bytes=0, source="")}
    theirs, ours = (make([make_record()], peaks)["mfu"].dropna() for peaks in (None, own))

    assert list(ours) == pytest.approx([each * 121e12 / 1e20 for each in theirs])
    assert len(ours)
