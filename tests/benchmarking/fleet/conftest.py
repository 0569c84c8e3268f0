"""Fleets that jobs are sent to in tests: one that does what a script says, and made-up GPUs."""

from __future__ import annotations

import pytest

from benchmarking.fleet.driver import run_on_fleet
from benchmarking.fleet.jobs import CaseBegan, CaseEnded, JobEnded, JobPlaced, Slot
from benchmarking.fleet.local import LocalFleet
from benchmarking.sweeping.runner import SweepContext, SweepOptions
from results.records.case import Case
from results.records.measurement import Measurement
from results.records.store import Store

NOTHING = Measurement(weights="random, seed 0", input_source="noise, seed 0")
MOST_LOOKS = 10_000  # at what happens, in a sweep that ends


class ScriptedFleet:
    """Its jobs tell what a script says, each one event whenever it is asked.

    Args:
        script: (task, slot) -> the job's events; a true error among them is raised.
        gpus: Names of its GPUs, None for a CPU; may be changed while it runs.
    """

    where = "in the rack"

    def __init__(self, script, gpus):
        self.script, self.gpus = script, list(gpus)
        self.started, self.running, self.taken = [], {}, {}
        self.most_at_once = self.looks = 0
        self.is_closed = False

    @property
    def offered(self):
        """Batch sizes of each job."""
        return [[case.batch_size for case in task.sweep.cases] for task, _ in self.started]

    def lanes(self):
        return len(self.slots())

    def slots(self):
        return [Slot(gpu, f"node-{index}") for index, gpu in enumerate(self.gpus)]

    def free(self):
        return [slot for slot in self.slots() if slot not in self.taken.values()]

    def start(self, task, slot):
        assert slot in self.free()
        self.started.append((task, slot))
        self.running[task.job_id], self.taken[task.job_id] = iter(self.script(task, slot)), slot
        self.most_at_once = max(self.most_at_once, len(self.running))

    def events(self, timeout_s):
        self.looks += 1
        assert self.looks < MOST_LOOKS, "the sweep does not end"
        told = []
        for job_id, events in list(self.running.items()):
            event = next(events)
            if isinstance(event, BaseException):
                raise event
            told.append((job_id, event))
            if isinstance(event, JobEnded):
                del self.running[job_id], self.taken[job_id]
        return told

    def close(self):
        self.is_closed = True


class Watcher:
    """Remembers what it was told, and no record.

    Args:
        at_case: Called as each case begins.
    """

    def __init__(self, at_case=lambda case: None):
        self.told, self.at_case = [], at_case

    def begin(self, sweep, left, lanes=1):
        self.told.append(("begin", len(sweep.cases), len(left), lanes))

    def case_begins(self, case):
        self.told.append(("case_begins", case.batch_size))
        self.at_case(case)

    def stage(self, name):
        raise AssertionError("a fleet tells of no stages")

    def case_ends(self, record):
        self.told.append(("case_ends", record.case.batch_size, record.status))

    def end(self):
        self.told.append(("end",))


@pytest.fixture(scope="session")
def scripted_fleet():
    return ScriptedFleet


@pytest.fixture(scope="session")
def make_watcher():
    return Watcher


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def cases(make_case):
    return [make_case(batch_size=size, device="cuda:0", gpu="any") for size in (1, 2, 4, 8)]


@pytest.fixture
def machine(environment):
    """Where jobs run: not where the sweep was typed."""
    return environment.model_copy(update={"hostname": "far away", "cpu": "another CPU"})


@pytest.fixture
def record_of():
    """Maker of the record of a case that a task's machine measured."""

    def make(task, case, environment, **changes):
        told = {"status": "ok", "measurement": NOTHING, "started_at": "2025-01-02T03:04:05Z"}
        sweep = task.sweep.model_copy(update={"environment": environment})
        return sweep.record(case, **{**told, "wall_s": 0.5, **changes})

    return make


@pytest.fixture
def measures(machine, record_of):
    """Script of jobs that measure all their cases."""

    def script(task, slot):
        yield JobPlaced(machine)
        for case in task.sweep.cases:
            yield CaseBegan(case)
            yield CaseEnded(record_of(task, case, machine), is_stored=False)
        yield JobEnded()

    return script


@pytest.fixture
def make_script(measures):
    """Maker of a script whose first jobs follow scripts of their own, and the others measure."""

    def make(*scripts):
        first = iter(scripts)

        def script(task, slot):
            return next(first, measures)(task, slot)

        return script

    return make


@pytest.fixture
def lost_at(machine, record_of):
    """Maker of a script of a job that is lost at the case with a batch size."""

    def make(batch_size, arrives=True):
        def script(task, slot):
            if arrives:
                yield JobPlaced(machine)
            for case in task.sweep.cases:
                yield CaseBegan(case)
                if case.batch_size == batch_size:
                    break
                yield CaseEnded(record_of(task, case, machine), is_stored=False)
            yield JobEnded(lost="the power was cut")

        return script

    return make


@pytest.fixture
def run(store, cases, environment, make_plan, measures):
    """Run the sweep of four cases on a fleet of these GPUs; give the fleet, closed."""

    def start(script=None, gpus=("NVIDIA L4",), watcher=None, fleet=None, **changes):
        fleet = fleet or ScriptedFleet(script or measures, gpus)
        where = changes.pop("environment", environment)
        setting = SweepContext(where, store, None, watcher or Watcher(), "sam-bench sweep")
        arguments = {"cases": cases, "plan": make_plan(), "options": SweepOptions()}
        fleet.sweep_id = run_on_fleet(setting=setting, fleet=fleet, **arguments | changes)
        return fleet

    return start


@pytest.fixture
def statuses(store):
    """Statuses of a store's records by batch size."""
    return lambda: {
        record.case.batch_size: record.status
        for record in sorted(store.read().records, key=lambda record: record.case.batch_size)
    }


@pytest.fixture
def refused(run, refusal):
    """The line with which a run ends."""
    return lambda *scripts, **changes: refusal(lambda: run(*scripts, **changes))


# Kinds


@pytest.fixture
def make_needy(make_case):
    """Maker of cases that need a kind of GPU, or a CPU."""

    def make(need, **changes) -> Case:
        where = {"device": "cpu"} if need == "cpu" else {"device": "cuda:0", "gpu": need}
        return make_case(**where | changes)

    return make


# GPUs of this machine


@pytest.fixture
def make_machine(make_gpu_environment, nvml):
    """Maker of a machine with GPUs of these names."""

    def make(*names):
        machine = make_gpu_environment(*["9.0"] * len(names))
        gpus = [
            gpu.model_copy(update={"name": name})
            for gpu, name in zip(machine.gpus, names, strict=True)
        ]
        return machine.model_copy(update={"gpus": tuple(gpus)})

    return make


@pytest.fixture
def make_cases(make_case):
    """Maker of a case a family, of each kind so many."""

    def make(count, *kinds, **changes):
        return [
            make_case(
                image_size=16 * (number + 1), gpu=None if kind == "cpu" else kind,
                device="cpu" if kind == "cpu" else "cuda:0", **changes,
            )
            for number in range(count)
            for kind in kinds or ("any",)
        ]  # fmt: skip

    return make


@pytest.fixture
def run_local(store, make_plan):
    """Run cases on a machine of these GPUs; gives its fleet, closed."""

    def start(cases, machine, make_case_runner, lanes=None, watcher=None):
        fleet = LocalFleet(machine, lanes, make_case_runner)
        setting = SweepContext(machine, store, None, watcher or Watcher(), "sam-bench sweep")
        run_on_fleet(cases, make_plan(), setting, fleet, SweepOptions())
        return fleet

    return start
