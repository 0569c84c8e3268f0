"""What a larger batch changed: on a made-up GPU every cause is known, and found again."""

from __future__ import annotations

import pytest

from results.answers.batching import (
    BATCHING_COLUMNS,
    CAUSES,
    REST,
    WHOLE,
    batching_frame,
    image_s,
    series_of,
)
from results.hardware.specs import Spec
from results.records.environment import Telemetry
from results.records.measurement import Modules
from results.records.schema import STATUSES
from results.tables.frames import UNATTRIBUTED

MS = 1e-3
G = 1e9  # FLOP or bytes, which take the made-up GPU a ms
GHZ = 1_000_000_000
CLOSE = 0.02  # of the change, that each cause's amount must be right within

COMPUTES = {"kind": "window", "flops": 4 * G, "image_bytes": 0.1 * G}
WAITS = {"kind": "norm", "flops": 0.1 * G, "image_bytes": 1 * G, "weights_bytes": 2 * G}
# Reads weights as long as it would compute for three images.
AMORTISES = {"kind": "mlp", "flops": 1 * G, "image_bytes": 0.1 * G, "weights_bytes": 3 * G}


def by_batch(**values):
    """A function of the batch size, from b1=..., b4=..."""
    return lambda batch_size: values[f"b{batch_size}"]


# What the GPU is, its parts, the batch sizes, and by cause the ms of an image that follow.
KNOWN = {
    "launch": ({"launch_s": 20 * MS}, [COMPUTES], (1, 8), {"launch": 4 - 20}),
    "launch, at both": ({"launch_s": 20 * MS}, [COMPUTES], (1, 2), {"launch": 10 - 20}),
    "memory": ({}, [WAITS], (1, 4), {"memory": 2 / 4 - 2}),
    "memory, until it computes": ({}, [AMORTISES], (1, 4), {"memory": 1 - 3.1}),
    "compute": (
        {"efficiency": by_batch(b1=0.5, b4=0.8)}, [COMPUTES], (1, 4), {"compute": 5 - 8},
    ),
    "clock, lower": (
        {"clock_hz": by_batch(b1=2 * GHZ, b4=1 * GHZ)}, [COMPUTES], (1, 4), {"clock": 8 - 4},
    ),
    "clock, higher": (
        {"clock_hz": by_batch(b1=1 * GHZ, b4=2 * GHZ)}, [COMPUTES], (1, 4), {"clock": 4 - 8},
    ),
    "nothing": ({}, [COMPUTES], (1, 4), {}),
    "memory and compute": (
        {"efficiency": by_batch(b1=0.5, b4=0.8)}, [COMPUTES, WAITS], (1, 4),
        {"memory": 0.5 - 2, "compute": 5 - 8},
    ),
    "compute and clock in one part": (
        {"efficiency": by_batch(b1=0.5, b4=1.0), "clock_hz": by_batch(b1=2 * GHZ, b4=1 * GHZ)},
        [COMPUTES], (1, 4), {"compute": 4 - 8, "clock": 8 - 4},
    ),
    "memory and clock": (
        {"clock_hz": by_batch(b1=2 * GHZ, b4=1 * GHZ)}, [COMPUTES, WAITS], (1, 4),
        {"memory": 0.5 - 2, "clock": 8 - 4},
    ),
    "memory, until it computes at another clock": (
        {"clock_hz": by_batch(b1=2 * GHZ, b4=1 * GHZ)}, [AMORTISES], (1, 4),
        {"memory": 1 - 3.1, "clock": 2 - 1},
    ),
    "launch and clock": (
        {"launch_s": 20 * MS, "clock_hz": by_batch(b1=2 * GHZ, b8=1 * GHZ)}, [COMPUTES], (1, 8),
        {"launch": 4 - 20, "clock": 8 - 4},
    ),
    "all, one after the other": (
        {
            "launch_s": 15 * MS, "efficiency": by_batch(b1=0.5, b2=0.5, b4=0.8, b8=0.8),
            "clock_hz": by_batch(b1=2 * GHZ, b2=2 * GHZ, b4=2 * GHZ, b8=1 * GHZ),
        },
        # An image takes 15, then 8 + 1 + 2 / 2, 5 + 1 + 2 / 4 and 10 + 1 + 2 / 8.
        [COMPUTES, WAITS], (1, 2, 4, 8),
        {"launch": 10 - 15, "memory": 2 / 8 - 2 / 2, "compute": 5 - 8, "clock": 10 - 5},
    ),
}  # fmt: skip


@pytest.fixture
def measured(made_up_gpu, make_record):
    """Records of a made-up GPU at batch sizes; `changes` are of the records."""

    def make(parts, sizes, gpu=(), **changes):
        device = made_up_gpu.MadeUpGpu(**dict(gpu))
        names = {f"blocks.{index}": part for index, part in enumerate(parts)}
        named = parts if isinstance(parts, dict) else names
        made = {name: made_up_gpu.MadeUpPart(**part) for name, part in named.items()}
        return [make_record(**device.measure(made, size) | changes) for size in sizes]

    return make


def causes_ms(frame):
    """By cause, the ms of an image that it changed in all steps."""
    return {
        cause: change / MS for cause, change in frame.groupby("cause")["change_s"].sum().items()
    }


def measured_change_s(records):
    return image_s(records[-1]) - image_s(records[0])


# The amounts


@pytest.mark.parametrize(("gpu", "parts", "sizes", "known"), KNOWN.values(), ids=KNOWN)
def test_each_cause_has_its_amount(measured, gpu, parts, sizes, known):
    records = measured(parts, sizes, gpu)
    found = causes_ms(batching_frame(records))
    close = CLOSE * max(abs(measured_change_s(records)) / MS, 1e-6)

    assert {cause: found.get(cause, 0) for cause in CAUSES} == pytest.approx(
        {cause: known.get(cause, 0) for cause in CAUSES}, abs=close
    )


@pytest.mark.parametrize(("gpu", "parts", "sizes", "known"), KNOWN.values(), ids=KNOWN)
def test_the_changes_add_up_to_the_measured_change(measured, gpu, parts, sizes, known):
    records = measured(parts, sizes, gpu)
    frame = batching_frame(records)

    assert frame["change_s"].sum() == pytest.approx(
        measured_change_s(records), rel=1e-9, abs=1e-12 * image_s(records[0])
    )


@pytest.mark.parametrize(("gpu", "parts", "sizes", "known"), KNOWN.values(), ids=KNOWN)
def test_the_parts_of_a_step_add_up_to_the_measured_times(measured, gpu, parts, sizes, known):
    records = {record.case.batch_size: record for record in measured(parts, sizes, gpu)}
    steps = batching_frame(records.values()).groupby(["from_batch", "to_batch"])
    before_after = {step: tuple(rows[["before_s", "after_s"]].sum()) for step, rows in steps}

    assert before_after == {
        (one, other): pytest.approx((image_s(records[one]), image_s(records[other])), rel=1e-9)
        for one, other in before_after
    }


def test_a_part_s_change_is_its_own(measured):
    gpu = {"efficiency": by_batch(b1=0.5, b4=0.8)}
    frame = batching_frame(measured([COMPUTES, WAITS], (1, 4), gpu))
    changes = frame.groupby("part")["change_s"].sum()

    assert dict(changes / MS) == pytest.approx(
        {"window": 5 - 8, "norm": 0.5 - 2, UNATTRIBUTED: 0}, abs=1e-9
    )


def test_parts_of_one_kind_are_one_part(measured):
    frame = batching_frame(measured([WAITS, WAITS, COMPUTES], (1, 4)))

    assert set(frame["part"]) - {UNATTRIBUTED} == {"norm", "window"}
    assert frame.set_index("part").loc["norm", "before_s"] == pytest.approx(2 * 3 * MS)


def test_what_no_module_accounts_for_is_a_part(measured):
    records = measured([COMPUTES], (1, 4))

    assert set(batching_frame(records)["part"]) == {"window", UNATTRIBUTED}


def test_a_sweep_with_noise_in_its_hooked_times_adds_up_too(make_record, make_measurement):
    """The modules of this record take four times as long as the plain forward."""
    records = [make_record(batch_size=size, measurement=make_measurement()) for size in (1, 2)]

    assert batching_frame(records)["change_s"].sum() == pytest.approx(
        measured_change_s(records), rel=1e-9
    )


# What is not known


@pytest.fixture
def unknown_machine(environment):
    """One whose GPUs nobody has a row for."""
    gpus = tuple(gpu.model_copy(update={"name": "a GPU"}) for gpu in environment.gpus)
    return environment.model_copy(update={"gpus": gpus})


def test_without_roofs_no_cause_is_known(measured, unknown_machine):
    records = measured([COMPUTES, WAITS], (1, 4), roofs=None, environment=unknown_machine)

    assert set(batching_frame(records)["cause"]) == {"unknown"}


def test_without_roofs_the_changes_add_up_too(measured, unknown_machine):
    records = measured([COMPUTES, WAITS], (1, 4), roofs=None, environment=unknown_machine)

    assert batching_frame(records)["change_s"].sum() == pytest.approx(
        measured_change_s(records), rel=1e-9
    )


def test_what_the_maker_says_stands_in_for_roofs_that_were_not_measured(measured):
    """An L4 computes 400 FLOP while it moves a byte."""
    parts = [COMPUTES | {"flops": 400 * G}, WAITS]
    frame = batching_frame(measured(parts, (1, 4), roofs=None))

    assert set(frame["cause"]) == {"compute", "memory"}


def test_a_person_s_own_peaks_stand_in_for_roofs_too(measured, unknown_machine):
    records = measured([COMPUTES, WAITS], (1, 4), roofs=None, environment=unknown_machine)
    own = {"a GPU": Spec({"bf16": 1e12}, bytes_per_s=1e12, cache_bytes=0, source="")}

    assert set(batching_frame(records, own)["cause"]) == {"compute", "memory"}


def test_roofs_that_were_measured_win_over_the_maker_s(measured, made_up_gpu):
    """At 1 TB/s it would wait for memory; one that moves a thousand times as much computes."""
    roofs = made_up_gpu.MadeUpGpu(bytes_per_s=1e15).roofs()

    assert set(batching_frame(measured([WAITS], (1, 4), roofs=roofs))["cause"]) == {"compute"}


def test_launches_are_known_without_roofs(measured, unknown_machine):
    gpu = {"launch_s": 20 * MS}
    records = measured([COMPUTES], (1, 8), gpu, roofs=None, environment=unknown_machine)

    assert set(batching_frame(records)["cause"]) == {"launch"}


def test_modules_without_work_have_no_cause(make_record, make_measurement):
    records = [make_record(batch_size=size, device="cpu") for size in (1, 2)]

    assert set(batching_frame(records)["cause"]) == {"unknown"}


LOOKS = {
    "no telemetry": None,
    "no look": Telemetry(),
    "looks before and after alone": Telemetry(at_s=(0, 1), sm_clock_hz=(GHZ, GHZ)),
    "looks that told nothing": Telemetry(at_s=(0, 1, 2), sm_clock_hz=(GHZ, None, GHZ)),
}


@pytest.mark.parametrize("telemetry", LOOKS.values(), ids=LOOKS)
def test_a_clock_that_is_not_known_is_no_cause(measured, telemetry):
    """The slower clock's time is then left with what computes."""
    gpu = {"clock_hz": by_batch(b1=2 * GHZ, b4=1 * GHZ)}
    frame = batching_frame(measured([COMPUTES], (1, 4), gpu, telemetry=telemetry))

    assert causes_ms(frame) == pytest.approx({"compute": 8 - 4})


# Parts


def without_modules(record):
    measurement = record.measurement.with_passes(modules=None)
    return record.model_copy(update={"measurement": measurement})


@pytest.mark.parametrize("lacking", [(0,), (1,), (0, 1)], ids=str)
def test_a_step_without_modules_on_a_side_is_of_the_whole(measured, lacking):
    records = measured([WAITS], (1, 4))
    for index in lacking:
        records[index] = without_modules(records[index])
    (row,) = batching_frame(records).to_dict("records")

    assert (row["part"], row["cause"]) == (WHOLE, "memory")
    assert row["change_s"] == pytest.approx(measured_change_s(records), rel=1e-9)


def test_a_module_that_was_never_called_takes_no_part(make_record, make_measurement):
    measurement = make_measurement()
    idle = measurement.modules["neck"].model_copy(update={"total_s": (), "self_s": ()})
    modules = Modules(timings=measurement.modules | {"neck": idle})
    changed = measurement.with_passes(modules=modules)
    records = [make_record(batch_size=size, measurement=changed) for size in (1, 2)]

    assert set(batching_frame(records)["part"]) == {"window", UNATTRIBUTED}


@pytest.mark.parametrize("kind", ["window", "global", "block"])
def test_what_of_a_block_its_timed_parts_leave_is_named_so(measured, kind):
    own = "attention" if kind == "block" else f"{kind} attention"
    parts = {"blocks.0": WAITS | {"kind": kind}, "blocks.0.attn": COMPUTES | {"kind": own}}
    frame = batching_frame(measured(parts, (1, 4)))

    assert set(frame["part"]) == {REST, own, UNATTRIBUTED}


@pytest.mark.parametrize("kind", ["window", "global", "block"])
def test_a_block_without_timed_parts_keeps_its_name(measured, kind):
    frame = batching_frame(measured([WAITS | {"kind": kind}], (1, 4)))

    assert set(frame["part"]) == {kind, UNATTRIBUTED}


# Which records are compared


def test_a_row_tells_its_sweep_axes_and_step(measured):
    records = measured([COMPUTES], (1, 4))
    row = batching_frame(records).iloc[0]
    # The GPU is that which it ran on.
    axes = records[0].case.model_dump(exclude={"batch_size"}) | {"gpu": "NVIDIA L4"}

    assert tuple(batching_frame(records).columns) == BATCHING_COLUMNS
    assert {axis: row[axis] for axis in axes} == axes
    assert (row["sweep_id"], row["from_batch"], row["to_batch"]) == (records[0].sweep_id, 1, 4)


def test_each_step_is_to_the_next_larger_batch_whatever_the_order(measured):
    frame = batching_frame(measured([COMPUTES], (4, 1, 2)))

    assert list(frame.groupby(["from_batch", "to_batch"]).groups) == [(1, 2), (2, 4)]


@pytest.mark.parametrize("sizes", [(), (4,)])
def test_fewer_than_two_batch_sizes_make_no_rows(measured, sizes):
    frame = batching_frame(measured([COMPUTES], sizes))

    assert (len(frame), tuple(frame.columns)) == (0, BATCHING_COLUMNS)


@pytest.mark.parametrize("status", [each for each in STATUSES if each not in ("ok", "not_run")])
def test_a_case_that_is_not_good_is_left_out(measured, status):
    records = measured([COMPUTES], (1, 2, 4))
    records[1] = records[1].model_copy(update={"status": status})

    assert list(batching_frame(records).groupby(["from_batch", "to_batch"]).groups) == [(1, 4)]


def test_a_case_without_latency_is_left_out(measured):
    records = measured([COMPUTES], (1, 2, 4))
    measurement = records[1].measurement.with_passes(latency=None)
    records[1] = records[1].model_copy(update={"measurement": measurement})

    assert list(batching_frame(records).groupby(["from_batch", "to_batch"]).groups) == [(1, 4)]


def test_a_case_without_a_measurement_is_left_out(measured, make_failure):
    records = [*measured([COMPUTES], (1, 4)), make_failure(batch_size=2)]

    assert list(batching_frame(records).groupby(["from_batch", "to_batch"]).groups) == [(1, 4)]


def test_forwards_that_took_no_time_are_left_out(make_record, make_measurement, make_latency):
    measurement = make_measurement(latency=make_latency(forward_s=(0.0,)))
    records = [make_record(batch_size=size, measurement=measurement) for size in (1, 2)]

    assert len(batching_frame(records)) == 0


@pytest.mark.parametrize(
    ("name", "other"), [("model", "vit_l"), ("precision", "fp32"), ("sweep_id", "20260101-0")]
)
def test_cases_that_differ_in_more_than_the_batch_size_are_not_compared(measured, name, other):
    records = [*measured([COMPUTES], (1,)), *measured([COMPUTES], (4,), **{name: other})]

    assert len(batching_frame(records)) == 0


def test_of_a_case_that_stands_twice_the_last_counts(measured):
    old, new = measured([COMPUTES], (4,)), measured([WAITS], (4,))
    (series,) = series_of([*old, *new]).values()

    assert series == new
