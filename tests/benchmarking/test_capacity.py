"""The search for the largest batch, on a device that holds so many images and no more."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from benchmarking.choices.sweep import QUICK
from benchmarking.measuring.passes.table import default_passes
from benchmarking.sweeping.capacity import (
    ProbeFailedError,
    SearchHints,
    find_capacity,
    find_largest,
)
from benchmarking.sweeping.runner import SweepContext
from results.answers.capacity import capacity_frame
from results.records.addresses import is_held
from results.records.case import TimingPlan
from results.records.measurement import Memory
from results.records.repair import look_over
from results.records.schema import FAILED
from results.records.store import Store

MOST = 100_000
NOTHING = SearchHints()
SIZES = [*range(301), 511, 512, 513, 1000, 4095, 4096, 4097, 5000]
HINTS = [None, *range(34), 100, 1000, MOST, 10 * MOST]
FIXED, IMAGE = 2**30, 3 * 2**20  # bytes whatever the batch, and of each image


def search(largest, most=MOST, known=NOTHING):
    """What is found where so many fit, and the sizes that were tried."""
    tried = []

    def fits(size):
        tried.append(size)
        return size <= largest

    return find_largest(fits, most, known), tried


# The search itself


@pytest.mark.parametrize("known", [SearchHints(), SearchHints(3, 9), SearchHints(700)], ids=str)
def test_the_largest_that_fits_is_found_whatever_it_is(known):
    found = {largest: search(largest, known=known)[0] for largest in SIZES}

    assert found == {largest: largest for largest in SIZES}


def test_a_search_takes_at_most_twice_the_doublings_and_two():
    too_many = [n for n in SIZES if n and len(search(n)[1]) > 2 * math.log2(n) + 2]

    assert too_many == []


def test_where_nothing_fits_one_try_tells_it():
    assert search(0) == (0, [1])


@pytest.mark.parametrize(
    "known", [SearchHints(), SearchHints(3, 9), SearchHints(9, 3), SearchHints(5, 5)], ids=str
)
@pytest.mark.parametrize("most", [1, 2, 7, 64, 100, MOST])
def test_no_size_is_tried_twice_and_none_beyond_the_most(most, known):
    for largest in SIZES:
        _, tried = search(largest, most, known)

        assert len(set(tried)) == len(tried)
        assert all(1 <= size <= most for size in tried)


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 7, 64, 100, 101])
@pytest.mark.parametrize("off", [-50, -1, 0, 1, 50])
def test_the_most_that_is_tried_ends_the_search(largest, off):
    most = max(1, largest + off)

    assert search(largest, most)[0] == min(largest, most)


@pytest.mark.parametrize("most", [1, 2, 7, 64, 100])
def test_the_most_itself_is_found_where_all_fit(most):
    assert search(MOST, most)[0] == most


@pytest.mark.parametrize("largest", [1, 2, 5, 64, 777])
def test_two_tries_show_that_what_is_known_still_holds(largest):
    assert search(largest, known=SearchHints(largest, largest + 1)) == (
        largest,
        [largest, largest + 1],
    )


def test_one_try_shows_that_the_most_still_fits():
    assert search(MOST, most=64, known=SearchHints(64)) == (64, [64])


def test_one_try_shows_that_still_nothing_fits():
    assert search(0, known=SearchHints(None, 1)) == (0, [1])


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 6, 15, 16, 17, 33, 100, 5000])
def test_what_is_known_wrongly_changes_no_answer_and_costs_a_try_each(largest):
    unknown = len(search(largest)[1])
    for known in (SearchHints(fitting, not_fitting) for fitting in HINTS for not_fitting in HINTS):
        found, tried = search(largest, known=known)

        assert found == largest
        assert len(tried) <= unknown + 2, known


@pytest.mark.parametrize(
    "known", [SearchHints(65), SearchHints(10 * MOST), SearchHints(70, 80), SearchHints(3, 5000)]
)
def test_whatever_is_known_nothing_above_the_most_is_tried(known):
    found, tried = search(50, most=64, known=known)

    assert found == 50
    assert max(tried) <= 64


# On a device


@pytest.fixture
def device(tmp_path, make_case, make_plan, environment, fake_device):
    """A search on a device that holds `largest` images; how it is told in what it gives.

    Args:
        largest: Of a probe.
        whole: Of a full measurement.
        instead: What a batch size gives instead: a status, or an error to raise.
    """

    def start(largest=5, whole=None, instead=None, most=1024, where=environment, plan=None, **case):
        def answer(case, call):
            locked.append(any(is_held(stores.path / each / ".lock") for each in stores.sweep_ids()))
            size, is_probe = case.batch_size, "flops" not in launcher.passes[-1]
            if size in (instead or {}):
                return instead[size]
            if size > (largest if is_probe or whole is None else whole):
                return "oom"
            return measured(fake_device, case)

        launcher, watcher = fake_device.DeviceLauncher(answer), fake_device.Watcher()
        closed, locked, stores = [], [], Store(tmp_path / "runs")
        launcher.close = lambda: closed.append(len(launcher.measured))
        found = SimpleNamespace(case_runner=launcher, store=stores, closed=closed, locked=locked)
        setting = SweepContext(where, stores, launcher, watcher, "sam-bench capacity")
        try:
            found.sweep_ids = find_capacity(make_case(**case), plan or make_plan(), setting, most)
        except (KeyboardInterrupt, ProbeFailedError) as error:
            found.error = error
        sizes = list(zip(launcher.batch_sizes, launcher.passes, strict=True))
        found.probed = [size for size, passes in sizes if "flops" not in passes]
        found.whole = [size for size, passes in sizes if "flops" in passes]
        found.records = stores.read().records
        return found

    return start


def measured(fake_device, case):
    """What a good case gives: time and memory grow with the batch."""
    memory = Memory(
        source="made up", weights_bytes=1, peak_bytes=FIXED + case.batch_size * IMAGE, rise_bytes=1
    )
    found = fake_device.measurement_of(case, times_s=lambda index: 0.01 * case.batch_size)
    return found.with_passes(memory=memory)


@pytest.mark.parametrize("largest", [1, 2, 3, 5, 8, 13])
def test_the_largest_batch_of_a_device_is_found_and_measured_in_full(device, largest):
    found = device(largest)

    assert found.whole == [largest]
    assert capacity_frame(found.records)["largest_batch"].item() == largest
    assert capacity_frame(found.records)["smallest_oom"].item() == largest + 1


def test_no_more_than_the_most_is_tried(device):
    found = device(largest=100, most=6)

    assert found.probed == [1, 2, 4, 6]
    assert found.whole == [6]


def test_each_probe_has_a_process_of_its_own(device):
    found = device()

    assert found.closed[: len(found.probed)] == list(range(1, len(found.probed) + 1))


def test_nothing_is_left_running_after_the_last_measurement(device):
    found = device()

    assert found.closed[-1] == len(found.case_runner.measured)


def test_every_probe_is_a_record_that_was_planned(device):
    found = device()
    probes = found.store.read(found.sweep_ids[0])
    planned = [case.batch_size for case in probes.sweeps[0].cases]

    assert planned == [record.case.batch_size for record in probes.records] == found.probed


def test_the_store_of_a_search_is_fine(device):
    looks = look_over(device().store)

    assert [look.is_fine for look in looks] == [True, True]


def test_a_sweep_of_probes_is_locked_while_it_runs(device):
    found = device()

    assert set(found.locked) == {True}
    assert not any(look.is_running for look in look_over(found.store))


def test_the_memory_line_of_a_search_is_that_of_the_device(device):
    row = capacity_frame(device().records).iloc[0]

    assert row["fixed_bytes"] == pytest.approx(FIXED)
    assert row["image_bytes"] == pytest.approx(IMAGE)


def test_probes_are_short_and_the_full_measurement_as_it_was_asked_for(device):
    plan = TimingPlan()
    found = device(plan=plan)
    probes, whole = (found.store.read(sweep_id).records for sweep_id in found.sweep_ids)
    short = plan.model_copy(update={**QUICK, "passes": ("latency", "memory")})

    assert {record.plan for record in probes} == {short}
    assert [record.plan for record in whole] == [plan]


def test_probes_of_a_gpu_measure_energy_too(device, make_gpu_environment, nvml):
    found = device(where=make_gpu_environment("9.0"), device="cuda:0")

    assert found.case_runner.passes[0] == ("latency", "memory", "energy")


def test_where_nothing_fits_nothing_is_measured_in_full(device):
    found = device(largest=0)

    assert (found.probed, found.whole) == ([1], [])
    assert capacity_frame(found.records).empty


@pytest.mark.parametrize(("whole", "measured"), [(4, [5, 4]), (3, [5, 4, 2, 3]), (1, [5, 4, 2, 1])])
def test_a_full_measurement_that_needs_more_memory_finds_its_own_largest(device, whole, measured):
    found = device(largest=5, whole=whole)

    assert found.whole == measured
    assert capacity_frame(found.records)["largest_batch"].item() == whole


def test_where_no_batch_can_be_measured_in_full_the_search_ends(device):
    assert device(largest=3, whole=0).whole == [3, 2, 1]


# What goes wrong


@pytest.mark.parametrize("status", [status for status in FAILED if status != "invalid"])
def test_a_probe_that_fails_otherwise_ends_the_search_and_keeps_its_records(device, status):
    found = device(instead={4: status})

    assert isinstance(found.error, ProbeFailedError)
    assert str(found.error) == f"batch 4: {status}: {status}"
    assert [record.status for record in found.records] == ["ok", "ok", status]
    assert found.whole == []


def test_after_a_probe_that_failed_nothing_is_left_running_and_the_lock_is_free(device):
    found = device(instead={4: "crashed"})
    (look,) = look_over(found.store)

    assert found.closed[-1] == 3
    assert (look.is_fine, look.is_running) == (True, False)


def test_ctrl_c_goes_on_upwards_after_the_probe_was_stored(device):
    found = device(instead={4: KeyboardInterrupt()})

    assert isinstance(found.error, KeyboardInterrupt)
    assert [record.status for record in found.records] == ["ok", "ok", "interrupted"]


def test_after_ctrl_c_nothing_is_left_running_and_the_lock_is_free(device):
    found = device(instead={4: KeyboardInterrupt()})
    (sweep_id,) = found.store.sweep_ids()
    with found.store.lock(sweep_id) as dead:
        assert dead == []

    assert found.closed[-1] == 3


def test_after_ctrl_c_a_search_goes_on_from_what_fitted(device):
    device(instead={4: KeyboardInterrupt()})

    assert device().probed[0] == 2


# What is known from before


def test_a_second_search_in_the_same_store_takes_two_probes(device):
    device()
    again = device()

    assert (again.probed, again.whole) == ([5, 6], [5])


@pytest.mark.parametrize("largest", [0, 1, 3, 6, 9])
def test_a_device_that_has_changed_is_searched_again(device, largest):
    device()
    again = device(largest)

    assert again.probed[0] == 5
    assert again.whole == ([largest] if largest else [])


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"attention": "sdpa"},
        {"image_size": 128},
        {"plan": TimingPlan(memory_limit_bytes=2**30)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_known_of_another_case_is_not_used(device, changes):
    device()

    assert device(**changes).probed[0] == 1


def test_what_is_known_of_the_same_memory_limit_is_used(device):
    plan = TimingPlan(passes=default_passes(), memory_limit_bytes=2**30)
    device(plan=plan)

    assert device(plan=plan).probed == [5, 6]


@pytest.mark.parametrize(("uuid", "first"), [("GPU-0", 5), ("GPU-of-another-host", 1)])
def test_what_is_known_of_another_gpu_is_not_used(device, make_gpu_environment, nvml, uuid, first):
    here = make_gpu_environment("9.0")
    gpu = here.gpus[0].model_copy(update={"uuid": uuid})
    there = here.model_copy(update={"gpus": (gpu,)})
    device(where=here, device="cuda:0")

    assert device(where=there, device="cuda:0").probed[0] == first


def test_a_sweep_s_records_are_known_too(device, make_store, make_record):
    make_store(make_record(batch_size=4), make_record("oom", batch_size=8))

    assert device().probed[0] == 4
