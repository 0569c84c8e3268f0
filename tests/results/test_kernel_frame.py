"""Kernels of records to a table."""

from __future__ import annotations

import pytest

from results.records.case import AXES
from results.records.measurement import Kernels, KernelTime
from results.tables.frames import KERNEL_COLUMNS, kernel_frame

FORWARDS = 4
TIMES = (
    ("blocks.0", "window", "gemm", 8, 0.5),
    ("blocks.2", "global", "gemm", 4, 0.25),
    ("blocks.0", "window", "softmax", 4, 0.15),
    ("image_encoder", "encoder", "copy", 4, 0.1),
)


def kernels_of(*rows, forwards=FORWARDS):
    names = ("module", "kind", "name", "calls", "total_s")
    times = tuple(KernelTime(**dict(zip(names, row, strict=True))) for row in rows)
    return Kernels(forwards=forwards, times=times)


KERNELS = kernels_of(*TIMES)


@pytest.fixture
def traced(make_record, make_measurement):
    """Maker of records with kernels."""

    def make(kernels=KERNELS, latency="as made", **changes):
        measured = {} if latency == "as made" else {"latency": latency}
        measurement = make_measurement(kernels=kernels, **measured)
        return make_record(measurement=measurement, **changes)

    return make


@pytest.fixture
def frame(traced):
    return kernel_frame([traced()])


def test_no_records_make_an_empty_frame_with_all_columns():
    frame = kernel_frame([])

    assert (len(frame), tuple(frame.columns)) == (0, KERNEL_COLUMNS)


def test_a_frame_has_its_columns_and_no_other(frame):
    assert tuple(frame.columns) == KERNEL_COLUMNS


def test_a_row_tells_every_axis_of_its_case_and_the_gpu_that_it_ran_on(traced):
    record = traced(batch_size=16)
    first = kernel_frame([record]).iloc[0]

    assert {axis: first[axis] for axis in AXES} == record.case.model_dump() | {"gpu": "NVIDIA L4"}


def test_a_row_a_module_and_kernel_the_longest_first(frame):
    assert list(zip(frame["module"], frame["kind"], frame["kernel"], strict=True)) == [
        row[:3] for row in TIMES
    ]


def test_calls_and_seconds_are_of_one_forward(frame):
    assert list(frame["calls"]) == [2, 1, 1, 1]
    assert list(frame["total_s"]) == [0.125, 0.0625, 0.0375, 0.025]


def test_shares_of_a_case_add_up_to_1(frame):
    assert frame["share"].sum() == pytest.approx(1)
    assert list(frame["share"]) == pytest.approx([0.5, 0.25, 0.15, 0.1])


def test_shares_of_each_of_two_cases_add_up_to_1(traced):
    frame = kernel_frame([traced(batch_size=1), traced(kernels_of(TIMES[1]), batch_size=2)])

    assert list(frame.groupby("batch_size")["share"].sum()) == pytest.approx([1, 1])


def test_the_busy_share_is_of_a_forward_without_the_profiler(frame):
    assert list(frame["busy_share"]) == [1.0] * 4  # 1 s of 4 forwards, and 0.25 s a plain forward


def test_without_a_latency_the_busy_share_is_missing_and_the_shares_are_not(traced):
    frame = kernel_frame([traced(latency=None)])

    assert frame["busy_share"].isna().all()
    assert frame["share"].sum() == pytest.approx(1)


def test_kernels_that_took_no_time_have_no_share(traced):
    frame = kernel_frame([traced(kernels_of(("neck", "neck", "nothing", 4, 0.0)))])

    assert frame["share"].isna().all()


def test_a_record_without_kernels_has_no_rows(make_record, make_failure):
    assert kernel_frame([make_record(), make_failure()]).empty


def test_a_row_names_the_gpu(frame):
    assert set(frame["gpu"]) == {"NVIDIA L4"}


def test_on_a_cpu_no_gpu_is_named(traced):
    assert kernel_frame([traced(device="cpu")])["gpu"].isna().all()
