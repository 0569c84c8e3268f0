"""How far a time is from what the hardware could do, and what holds it back."""

from __future__ import annotations

import math

import pytest

from results.answers.limits import (
    LIMIT_COLUMNS,
    REACHED,
    Roof,
    bound_by,
    is_launch_bound,
    launch_share,
    limit_columns,
    limits_of,
    measured_roof,
    reached_s,
    spec_roof,
    with_roofs,
)
from results.hardware.specs import SPECS, Spec
from results.records.measurement import MatrixProducts, Work

ROOF = Roof(flops_per_s=100.0, bytes_per_s=10.0, cache_bytes=50)
MAKERS = {"mfu", "floor_s"}
MEASURED = {"mfu_measured", "floor_measured_s"}
BY_WORK = {"flops", "least_flops", "least_bytes", "moved_bytes", "flops_per_s"}
OWN_PEAK = {"L4": Spec({"bf16": 1e15}, bytes_per_s=1e15, cache_bytes=0, source="mine")}


def make_work(**changes):
    return Work(
        **{"flops": 1000, "least_flops": 800, "least_bytes": 60, "moved_bytes": 90} | changes
    )


@pytest.fixture
def make_roofs(made_up_gpu):
    """Maker of what calibrating `environment`'s first GPU found."""
    return made_up_gpu.MadeUpGpu().roofs


def known(columns):
    return {name for name, value in columns.items() if value is not None}


# Floors


@pytest.mark.parametrize(
    ("flops", "least_bytes", "seconds"),
    [
        (500, 0, 5.0),
        (500, 50 + 40, 5.0),
        (500, 50 + 60, 6.0),
        (0, 50 + 60, 6.0),
        (0, 50, 0.0),
        (0, 49, 0.0),
        (0, 0, 0.0),
    ],
)
def test_a_floor_is_the_longer_of_computing_and_of_moving_what_the_cache_does_not_hold(
    flops, least_bytes, seconds
):
    assert ROOF.floor_s(flops, least_bytes) == seconds


# Roofs


def test_a_maker_s_roof_is_that_of_the_gpu_and_precision_of_the_case(make_record):
    peak = SPECS["L40S"]
    roof = spec_roof(make_record(device="cuda:1", precision="tf32"))

    assert roof == Roof(peak.flops_per_s["tf32"], peak.bytes_per_s, peak.cache_bytes)


def test_a_person_s_own_peak_wins_over_the_maker_s(make_record):
    assert spec_roof(make_record(), OWN_PEAK) == Roof(1e15, 1e15, 0)


def renamed(record, name):
    """The record as if it were made on another GPU."""
    gpus = tuple(gpu.model_copy(update={"name": name}) for gpu in record.environment.gpus)
    environment = record.environment.model_copy(update={"gpus": gpus})
    return record.model_copy(update={"environment": environment})


@pytest.mark.parametrize(
    ("gpu", "changes"),
    [
        ("NVIDIA L4", {"device": "cpu"}),
        ("NVIDIA L4", {"device": "cuda:7"}),
        ("a GPU", {}),
        ("Tesla T4", {"precision": "bf16"}),
    ],
    ids=["CPU", "absent GPU", "unknown GPU", "precision that the GPU lacks"],
)
def test_what_no_maker_says_is_no_roof(make_record, gpu, changes):
    assert spec_roof(renamed(make_record(**changes), gpu)) is None


def test_a_measured_roof_is_what_products_and_copies_reached(make_record, make_roofs):
    roofs = make_roofs(
        products={"bf16": MatrixProducts(side=10, product_s=(2.0,) * 5)},
        copied_bytes=300, copy_s=(3.0,) * 5, cache_bytes=7,
    )  # fmt: skip

    # 2 FLOP a MAC, and a copy reads and writes.
    assert measured_roof(make_record(roofs=roofs)) == Roof(2 * 10**3 / 2.0, 2 * 300 / 3.0, 7)


def test_what_was_reached_is_the_fastest_tenth():
    assert reached_s(float(each) for each in range(101)) == 100 * REACHED == 10


def test_one_hiccup_does_not_lower_what_was_reached():
    assert reached_s([1.0] * 9 + [50.0]) == 1.0


def test_without_calibration_there_is_no_measured_roof(make_record):
    assert measured_roof(make_record()) is None


def test_a_precision_that_was_not_calibrated_has_no_measured_roof(make_record, make_roofs):
    assert measured_roof(make_record(precision="fp32", roofs=make_roofs())) is None


# What holds a case back


@pytest.mark.parametrize(
    ("changes", "launches", "bound"),
    [
        ({"flops": 1000, "moved_bytes": 90}, False, "compute"),
        ({"flops": 1000, "moved_bytes": 100}, False, "compute"),
        ({"flops": 1000, "moved_bytes": 110}, False, "memory"),
        ({"flops": 1000, "moved_bytes": 110}, True, "launch"),
        ({"flops": 1000, "moved_bytes": None, "least_bytes": 90}, False, "compute"),
        ({"flops": 1000, "moved_bytes": None, "least_bytes": 110}, False, "memory"),
        ({"flops": 1000, "least_flops": 10, "moved_bytes": 90}, False, "compute"),
    ],
)
def test_work_is_bound_by_launching_or_by_what_takes_longer(changes, launches, bound):
    assert bound_by(make_work(**changes), ROOF, launches) == bound


def test_a_launch_share_is_the_medians_quotient(make_latency):
    latency = make_latency(chunk_launch_s=(0.1, 0.05, 9.0), forward_s=(0.25, 0.25, 4.0))

    assert launch_share(latency) == pytest.approx(0.4)


def test_a_launch_share_of_no_time_is_not_a_number(make_latency):
    assert math.isnan(launch_share(make_latency(forward_s=(0.0,))))


@pytest.mark.parametrize(
    ("device", "launch_s", "is_bound"),
    [("cuda:0", 0.24, True), ("cuda", 0.24, True), ("cuda:0", 0.2, False), ("cpu", 0.25, False)],
)
def test_only_a_gpu_waits_for_launches(
    make_record, make_measurement, make_latency, device, launch_s, is_bound
):
    latency = make_latency(forward_s=(0.25,), chunk_launch_s=(launch_s,))
    record = make_record(device=device, measurement=make_measurement(latency=latency))

    assert is_launch_bound(record) is is_bound


@pytest.mark.parametrize("changes", [{"measurement": None, "status": "oom"}, {"latency": None}])
def test_what_was_not_timed_waits_for_nothing(make_record, make_measurement, changes):
    if "latency" in changes:
        changes = {"measurement": make_measurement(**changes)}

    assert is_launch_bound(make_record(**changes)) is False


# Columns


@pytest.fixture
def unhurried(make_record, make_measurement, make_latency):
    """A record of a GPU with a maker's row, whose host does not limit."""
    latency = make_latency(chunk_launch_s=(1e-3,))
    return make_record(measurement=make_measurement(latency=latency))


@pytest.mark.parametrize("has_maker", [True, False])
@pytest.mark.parametrize("is_calibrated", [True, False])
def test_the_known_columns_are_those_of_the_known_roofs(
    unhurried, make_roofs, has_maker, is_calibrated
):
    record = unhurried.model_copy(update={"roofs": make_roofs() if is_calibrated else None})
    record = record if has_maker else renamed(record, "a GPU")
    columns = limit_columns(make_work(), 2.0, limits_of(record))
    expected = set(BY_WORK)
    expected |= MAKERS if has_maker else set()
    expected |= MEASURED if is_calibrated else set()
    expected |= {"bound_by"} if has_maker or is_calibrated else set()

    assert tuple(columns) == LIMIT_COLUMNS
    assert known(columns) == expected


def test_columns_tell_work_rate_share_and_floor(unhurried, made_up_gpu):
    """Of a GPU that computes 1 FLOP/s and moves 1 byte/s."""
    roofs = made_up_gpu.MadeUpGpu(flops_per_s=1.0, bytes_per_s=1.0).roofs(cache_bytes=10)
    columns = limit_columns(
        make_work(), 1600.0, limits_of(unhurried.model_copy(update={"roofs": roofs}))
    )

    assert {name: columns[name] for name in (*sorted(BY_WORK), *sorted(MEASURED))} == {
        "flops": 1000,
        "least_flops": 800,
        "least_bytes": 60,
        "moved_bytes": 90,
        "flops_per_s": 1000 / 1600,
        "mfu_measured": pytest.approx(0.5),  # nothing for work on padding
        "floor_measured_s": pytest.approx(800),
    }


def test_what_was_measured_says_what_binds(unhurried, made_up_gpu):
    """The maker's row is bound by computing; a device that hardly moves a byte is not."""
    slow = made_up_gpu.MadeUpGpu(bytes_per_s=1e-6).roofs()
    calibrated = unhurried.model_copy(update={"roofs": slow})
    work = make_work(flops=10**12)
    bounds = [
        limit_columns(work, 1.0, limits_of(each))["bound_by"] for each in (unhurried, calibrated)
    ]

    assert bounds == ["compute", "memory"]


def test_a_record_that_waits_for_launches_is_bound_by_them(make_record):
    assert limit_columns(make_work(), 1.0, limits_of(make_record()))["bound_by"] == "launch"


def test_a_person_s_own_peaks_are_what_columns_are_of(unhurried):
    columns = limit_columns(make_work(least_flops=10**15), 2.0, limits_of(unhurried, OWN_PEAK))

    assert (columns["mfu"], columns["floor_s"]) == (0.5, 1.0)


def test_without_work_every_column_is_missing(unhurried, make_roofs):
    record = unhurried.model_copy(update={"roofs": make_roofs()})

    assert limit_columns(None, 1.0, limits_of(record)) == dict.fromkeys(LIMIT_COLUMNS)


@pytest.mark.parametrize("time_s", [math.nan, 0.0])
def test_without_a_time_the_work_alone_is_known(unhurried, make_roofs, time_s):
    record = unhurried.model_copy(update={"roofs": make_roofs()})

    assert known(limit_columns(make_work(), time_s, limits_of(record))) == BY_WORK - {"flops_per_s"}


def test_bytes_that_were_not_counted_stay_missing(unhurried):
    assert (
        limit_columns(make_work(moved_bytes=None), 1.0, limits_of(unhurried))["moved_bytes"] is None
    )


# Which roofs belong to a record


def test_a_record_made_before_the_calibration_gets_its_roofs_too(make_record, make_roofs):
    (record,) = with_roofs([make_record()], [make_roofs(measured_at="2030-01-01T00:00:00+00:00")])

    assert record.roofs.device == record.gpu.uuid


@pytest.mark.parametrize(
    "changes", [{"device": "GPU-1"}, {"device": "a CPU"}, {"torch": "2.14.0"}], ids=str
)
def test_roofs_of_another_device_or_torch_are_not_taken(make_record, make_roofs, changes):
    (record,) = with_roofs([make_record()], [make_roofs(**changes)])

    assert record.roofs is None


def test_a_gpu_s_roofs_do_not_depend_on_the_cpu_s_threads(make_record, make_roofs):
    (record,) = with_roofs([make_record()], [make_roofs(threads=64)])

    assert record.roofs is not None


@pytest.mark.parametrize(("threads", "is_taken"), [(2, True), (1, False)])
def test_a_cpu_s_roofs_are_of_so_many_threads(make_record, make_roofs, threads, is_taken):
    """The record's own are 2, as its flags say."""
    roofs = make_roofs(device="a CPU, 8 cores, 16 GiB", threads=threads)
    (record,) = with_roofs([make_record(device="cpu")], [roofs])

    assert (record.roofs is not None) is is_taken


def test_a_failure_on_a_cpu_has_no_roofs(make_failure, make_roofs):
    (record,) = with_roofs(
        [make_failure(device="cpu")], [make_roofs(device="a CPU, 8 cores, 16 GiB")]
    )

    assert record.roofs is None


def test_of_several_roofs_the_newest_is_taken(make_record, make_roofs):
    stamps = [f"20{year}-01-01T00:00:00+00:00" for year in (25, 27, 26)]
    (record,) = with_roofs([make_record()], [make_roofs(measured_at=each) for each in stamps])

    assert record.roofs.measured_at == stamps[1]


def test_a_record_keeps_the_roofs_that_it_was_made_with(make_record, make_roofs):
    own = make_roofs(measured_at="2020-01-01T00:00:00+00:00")
    (record,) = with_roofs([make_record(roofs=own)], [make_roofs()])

    assert record.roofs == own


def test_each_record_gets_the_roofs_of_its_own_gpu(make_record, make_roofs):
    records = [make_record(device=name) for name in ("cuda:1", "cuda:0")]
    found = with_roofs(records, [make_roofs(device=name) for name in ("GPU-0", "GPU-1")])

    assert [record.roofs.device for record in found] == ["GPU-1", "GPU-0"]
