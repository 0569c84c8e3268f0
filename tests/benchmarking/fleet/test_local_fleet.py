"""The GPUs of one machine, made up, each with a scripted launcher or a scripted worker process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from benchmarking.errors import SweepError
from benchmarking.fleet.jobs import Slot, Task
from benchmarking.fleet.local import LocalFleet
from benchmarking.sweeping.planning import new_sweep
from benchmarking.sweeping.runner import SweepOptions
from results.hardware.specs import fits
from results.records import store as store_file
from results.records.store import StoreError, write_whole

L4, H200 = "NVIDIA L4", "NVIDIA H200"
TOGETHER_S = 20.0  # for threads to meet; they do at once, or never


class Meter:
    """Counts what measures at once."""

    def __init__(self):
        self.lock, self.now, self.seen = threading.Lock(), Counter(), []

    @contextmanager
    def counting(self, gpu):
        with self.lock:
            self.now[gpu] += 1
            self.seen.append(dict(+self.now))
        try:
            yield
        finally:
            with self.lock:
                self.now[gpu] -= 1


@pytest.fixture
def meter():
    return Meter()


@pytest.fixture
def metered(scripted_launcher, meter):
    """Maker of launchers whose cases take a moment, counted by the meter."""

    class Metered(scripted_launcher):
        def __init__(self, gpu):
            super().__init__()
            self.gpu = gpu

        def measure(self, case, plan, on_stage):
            with meter.counting(self.gpu):
                time.sleep(0.01)
                return super().measure(case, plan, on_stage)

    return Metered


@pytest.fixture
def until_closed(scripted_launcher):
    """Maker of launchers whose cases last until somebody closes them, then look like a crash."""

    class UntilClosed(scripted_launcher):
        def __init__(self, gpu):
            super().__init__(dict.fromkeys(range(10), "crashed"))
            self.closed = threading.Event()

        def measure(self, case, plan, on_stage):
            assert self.closed.wait(TOGETHER_S)
            return super().measure(case, plan, on_stage)

        def close(self):
            self.closed.set()

    return UntilClosed


@pytest.fixture
def places(store):
    """Of all records, the kind that was asked for and the GPU that it ran on."""
    return lambda: [
        (record.case.gpu, record.gpu.name if record.gpu else None)
        for record in store.read().records
    ]


# What is there, and what is free


def test_every_gpu_is_a_place_and_so_is_the_cpu(make_machine):
    assert LocalFleet(make_machine(L4, H200)).slots() == [
        Slot(L4, "cuda:0"), Slot(H200, "cuda:1"), Slot(None, "cpu"),
    ]  # fmt: skip


def test_a_machine_without_a_gpu_has_its_cpu(environment):
    fleet = LocalFleet(environment)

    assert fleet.slots() == fleet.free() == [Slot(None, "cpu")]


@pytest.mark.parametrize(
    ("lanes", "most"), [(None, 3), (1, 1), (2, 2), (8, 3)], ids=["by default", "1", "2", "8"]
)
def test_so_many_cases_run_at_once_as_there_are_lanes(
    run_local, make_cases, make_machine, meter, metered, lanes, most
):
    meeting = threading.Barrier(most)  # which so few never pass

    class Meeting(metered):
        def measure(self, case, plan, on_stage):
            with meter.counting(self.gpu):
                meeting.wait(TOGETHER_S)
            return super().measure(case, plan, on_stage)

    run_local(make_cases(12), make_machine(L4, L4, L4), Meeting, lanes)

    assert max(sum(now.values()) for now in meter.seen) == most


def test_a_gpu_measures_one_case_at_a_time(run_local, make_cases, make_machine, meter, metered):
    run_local(make_cases(12), make_machine(L4, H200), metered)

    assert {count for now in meter.seen for count in now.values()} == {1}
    assert {gpu for now in meter.seen for gpu in now} == {"GPU-0", "GPU-1"}


def test_all_gpus_measure_at_once(run_local, make_cases, make_machine, scripted_launcher, store):
    meeting = threading.Barrier(4)
    run_local(
        make_cases(4),
        make_machine(L4, L4, H200, H200),
        lambda gpu: scripted_launcher(before=lambda case: meeting.wait(TOGETHER_S)),
    )

    assert [record.status for record in store.read().records] == ["ok"] * 4


@pytest.mark.parametrize("lanes", [None, 1])
def test_a_cpu_measures_while_no_gpu_does(
    run_local, make_cases, make_machine, meter, metered, lanes
):
    run_local(make_cases(4, "any", "cpu"), make_machine(L4, H200), metered, lanes)
    beside = [now for now in meter.seen if None in now]

    assert beside == [{None: 1}] * 4


@pytest.fixture
def busy(make_machine, until_closed, make_cases, store, make_plan):
    """A fleet of two GPUs, one lane each, with a case at one of its places."""
    machine = make_machine(L4, H200)
    fleet = LocalFleet(machine, None, until_closed)

    def start(place, kind):
        sweep = new_sweep(make_cases(1, kind), make_plan(), machine, store, "sam-bench sweep")
        slot = next(slot for slot in fleet.slots() if slot.place == place)
        fleet.start(Task(0, sweep, (), str(store.path), SweepOptions()), slot)
        return fleet

    yield start
    fleet.close()


def test_beside_a_gpu_that_measures_the_other_gpus_are_free_and_the_cpu_is_not(busy):
    assert busy("cuda:1", "H200").free() == [Slot(L4, "cuda:0")]


def test_beside_a_cpu_that_measures_nothing_is_free(busy):
    assert busy("cpu", "cpu").free() == []


def test_what_has_ended_is_free_again(busy):
    fleet = busy("cuda:0", "L4")
    fleet.close()

    assert fleet.free() == fleet.slots()


# What a GPU is given


def test_a_kind_runs_on_gpus_of_its_kind(run_local, make_cases, make_machine, metered, places):
    run_local(make_cases(3, "L4", "H200", "any"), make_machine(H200, L4, L4), metered)

    assert len(places()) == 9
    assert all(kind == "any" or fits(kind, name) for kind, name in places())


def test_a_launcher_is_told_its_gpu_and_none_for_a_cpu(
    run_local, make_cases, make_machine, scripted_launcher
):
    told = []

    def make_case_runner(gpu):
        told.append(gpu)
        return scripted_launcher()

    run_local(make_cases(1, "L4", "H200", "cpu"), make_machine(L4, H200), make_case_runner)

    assert sorted(told, key=str) == ["GPU-0", "GPU-1", None]


@pytest.mark.parametrize(
    ("uuid", "name"),
    [
        ("4b9f71d4-0000", "GPU-4b9f71d4-0000"),  # as torch tells it
        ("GPU-4b9f71d4-0000", "GPU-4b9f71d4-0000"),
        ("MIG-4b9f71d4-0000", "MIG-4b9f71d4-0000"),
    ],
)
def test_a_gpu_is_named_as_cuda_visible_devices_takes_it(
    run_local, make_cases, make_machine, metered, meter, store, uuid, name
):
    machine = make_machine(L4)
    gpu = machine.gpus[0].model_copy(update={"uuid": uuid})
    run_local(make_cases(1), machine.model_copy(update={"gpus": (gpu,)}), metered)
    (record,) = store.read().records

    assert meter.seen == [{name: 1}]
    assert record.environment.cuda_visible_devices == name


def test_a_record_knows_its_gpu_as_the_only_one(
    run_local, make_cases, make_machine, metered, store
):
    machine = make_machine(L4, H200)
    run_local(make_cases(1, "H200"), machine, metered)
    (record,) = store.read().records

    assert record.environment.gpus == (machine.gpus[1].model_copy(update={"index": 0}),)
    assert record.gpu.uuid == record.environment.cuda_visible_devices == "GPU-1"
    assert record.environment.hostname == machine.hostname


def test_a_record_of_a_cpu_knows_the_machine_as_it_is(
    run_local, make_cases, make_machine, metered, store
):
    machine = make_machine(L4, H200)
    run_local(make_cases(1, "cpu"), machine, metered)

    assert store.read().records[0].environment == machine


def test_a_gpu_is_watched_while_it_measures(
    run_local, make_cases, make_machine, metered, store, nvml
):
    calls = nvml().calls
    run_local(make_cases(1, "H200"), make_machine(L4, H200), metered)

    assert {call[1] for call in calls if call[0] == "GetHandleByUUID"} == {"GPU-1"}
    assert store.read().records[0].telemetry is not None


def test_batch_sizes_of_a_model_ascend_on_one_gpu(
    run_local, make_case, make_machine, metered, store
):
    made = []

    def make_case_runner(gpu):
        made.append(metered(gpu))
        return made[-1]

    cases = [make_case(batch_size=size, gpu="any", device="cuda:0") for size in (1, 2, 4, 8)]
    run_local(cases, make_machine(L4, L4), make_case_runner)

    assert [launcher.batch_sizes for launcher in made] == [[1, 2, 4, 8]]


def test_a_batch_that_did_not_fit_prunes_the_larger_ones(
    run_local, make_case, make_machine, scripted_launcher, store
):
    cases = [make_case(batch_size=size, gpu="any", device="cuda:0") for size in (1, 2, 4)]
    run_local(cases, make_machine(L4), lambda gpu: scripted_launcher({2: "oom"}))

    assert [record.status for record in store.read().records] == ["ok", "oom", "skipped"]


def test_what_a_gpu_of_its_kind_lacks_is_unsupported(
    run_local, make_case, make_gpu_environment, nvml, metered, store
):
    case = make_case(precision="fp8", gpu="any", device="cuda:0")
    run_local([case], make_gpu_environment("7.5"), metered)
    (record,) = store.read().records

    assert (record.status, record.stage) == ("unsupported", "plan")


# Stopping


def job_threads():
    return [thread for thread in threading.enumerate() if "_run" in thread.name]


def test_ctrl_c_stores_the_cases_that_ran_as_interrupted(
    run_local, make_cases, make_machine, until_closed, store, make_watcher
):
    began = []

    def stop(case):
        began.append(case)
        if len(began) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(make_cases(6), make_machine(L4, L4), until_closed, watcher=make_watcher(stop))
    records = store.read().records

    assert [record.status for record in records] == ["interrupted"] * 2
    assert {record.case_id for record in records} == {case.case_id for case in began}


def test_no_thread_is_left_after_ctrl_c(
    run_local, make_cases, make_machine, until_closed, make_watcher
):
    def stop(case):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(make_cases(6), make_machine(L4, L4), until_closed, watcher=make_watcher(stop))

    assert job_threads() == []


def test_the_next_run_measures_what_was_stopped(
    run_local, make_cases, make_machine, until_closed, metered, store, make_watcher
):
    def stop(case):
        raise KeyboardInterrupt

    cases, machine = make_cases(3), make_machine(L4, L4)
    with pytest.raises(KeyboardInterrupt):
        run_local(cases, machine, until_closed, watcher=make_watcher(stop))
    run_local(cases, machine, metered)

    assert len(store.sweep_ids()) == 1
    assert [record.status for record in store.read().records] == ["ok"] * 3


def test_closing_twice_and_closing_an_idle_fleet_is_no_fault(environment):
    fleet = LocalFleet(environment)
    fleet.close()
    fleet.close()

    assert fleet.events(0) == []


def test_a_store_that_takes_no_record_ends_the_sweep_in_one_line(
    run_local, make_cases, make_machine, metered, monkeypatch, refusal
):
    def write(path, content):
        if path.parent.name == "cases":
            raise StoreError(f"'{path.name}' can't be written: No space left on device.")
        write_whole(path, content)

    monkeypatch.setattr(store_file, "write_whole", write)
    line = refusal(run_local, make_cases(6), make_machine(L4, L4), metered)

    assert line.endswith("can't be written: No space left on device.")
    assert job_threads() == []


def test_a_refused_setting_ends_the_sweep_on_all_gpus(
    run_local, make_cases, make_machine, until_closed, scripted_launcher, refusal
):
    def make_case_runner(gpu):
        refused = SweepError("the checkpoint is empty.")
        return scripted_launcher({2: refused}) if gpu == "GPU-1" else until_closed(gpu)

    line = refusal(run_local, make_cases(6), make_machine(L4, L4), make_case_runner)

    assert line == "the checkpoint is empty."
    assert job_threads() == []


def test_a_defect_on_one_gpu_costs_its_case_alone(
    run_local, make_cases, make_machine, scripted_launcher, store
):
    faults = iter([ZeroDivisionError("ours")])

    def fail(case):
        if case.image_size == 16:
            raise next(faults)

    run_local(make_cases(4), make_machine(L4, L4), lambda gpu: scripted_launcher(before=fail))
    told = {record.case.image_size: record for record in store.read().records}

    assert {size: record.status for size, record in told.items()} == {
        16: "crashed", 32: "ok", 48: "ok", 64: "ok",
    }  # fmt: skip
    assert told[16].message.endswith(": ZeroDivisionError: ours")
