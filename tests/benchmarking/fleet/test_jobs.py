"""A job on the machine that runs it: what it tells, what it stores, and how it ends."""

from __future__ import annotations

import pickle
from base64 import b64encode
from dataclasses import replace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from benchmarking.errors import USER_ERRORS, SweepError
from benchmarking.fleet import jobs
from benchmarking.fleet.jobs import (
    CaseBegan,
    CaseEnded,
    JobEnded,
    JobPlaced,
    JobRefused,
    Stoppable,
    Task,
    run_to_end,
)
from benchmarking.machine.environment import ProbeError
from benchmarking.sweeping.protocol import Outcome
from benchmarking.sweeping.runner import SweepOptions
from results.records.environment import Gpu
from results.records.measurement import Measurement
from results.records.schema import SweepFile

L4 = Gpu(index=0, name="NVIDIA L4", uuid="GPU-0", memory_bytes=2**34, compute_capability="8.9")
SWEEP_ID = "20250102-030405-abcdef"


@pytest.fixture
def sweep(cases, environment, make_plan):
    return SweepFile(
        sweep_id=SWEEP_ID, definition_sha256="cd" * 32, command="sam-bench sweep --gpu any",
        created_at="2025-01-02T03:04:00Z", plan=make_plan(), cases=tuple(cases),
        environment=environment,
    )  # fmt: skip


@pytest.fixture
def cases(make_case):
    return [make_case(batch_size=size) for size in (1, 2, 4, 8)]


@pytest.fixture
def shared(store, sweep):
    """The store, where the driver has put its plan."""
    store.write_sweep(sweep)
    return store


@pytest.fixture
def task(sweep, store, machine):
    return Task(1, sweep, (), str(store.path), SweepOptions(), environment=machine)


@pytest.fixture
def run(task, scripted_launcher):
    """Run a job to its end; gives what it told, and its launcher."""

    def start(script=None, launcher=None, **changes):
        launcher = launcher or scripted_launcher(script)
        told = []
        run_to_end(replace(task, **changes), told.append, launcher)
        return told, launcher

    return start


def ended(told):
    """Batch size and status of the cases that were told to have ended."""
    records = [event.record for event in told if isinstance(event, CaseEnded)]
    return {record.case.batch_size: record.status for record in records}


# What is told


def test_a_job_tells_its_machine_then_each_case_then_its_end(run, shared, cases):
    told, _ = run()
    words = [JobPlaced, *[CaseBegan, CaseEnded] * 4, JobEnded]

    assert [type(event) for event in told] == words
    assert [event.case for event in told if isinstance(event, CaseBegan)] == cases
    assert told[-1] == JobEnded()


def test_a_record_tells_of_the_machine_that_made_it(run, shared, machine, sweep):
    run()
    records = shared.read().records

    assert {record.environment for record in records} == {machine}
    assert {record.command for record in records} == {sweep.command}


def test_a_machine_that_is_not_known_is_looked_at(run, shared, machine, monkeypatch):
    monkeypatch.setattr(jobs, "probe_environment", lambda: machine)
    told, _ = run(environment=None)

    assert told[0] == JobPlaced(machine)


@pytest.mark.parametrize(
    ("here", "need", "line"),
    [
        (
            {"source_sha256": "1" * 64}, "any",
            "far away runs another state of sam-bench (0.1.0, commit 000",
        ),
        ({"gpus": ()}, "any", "far away was to have a GPU, and has none: "),
        (
            {"gpus": (L4,)}, "H200",
            "far away was to have the GPU H200, and has NVIDIA L4: label it with",
        ),
    ],
    ids=["another state of our code", "no GPU", "another GPU"],
)  # fmt: skip
def test_a_machine_that_is_none_of_the_sweep_s_measures_nothing(
    run, shared, sweep, machine, make_case, here, need, line
):
    own = sweep.model_copy(update={"cases": (make_case(gpu=need, device="cuda:0"),)})
    told, launcher = run(sweep=own, environment=machine.model_copy(update=here))

    assert isinstance(told[-1], JobRefused)
    assert told[-1].message.startswith(line)
    assert launcher.measured == []
    assert shared.read().records == []


def test_a_job_has_left_its_gpu_when_it_tells_its_end(task, shared, scripted_launcher):
    launcher, closed = scripted_launcher(), []
    run_to_end(task, lambda event: closed.append(launcher.is_closed), launcher)

    assert closed[-1]
    assert not any(closed[:-1])


def test_a_task_and_what_is_told_of_it_can_be_sent(run, shared, task):
    told, _ = run()

    for sent in (task, *told):
        assert pickle.loads(pickle.dumps(sent)) == sent


# What is stored


def test_a_record_is_in_the_store_before_it_is_told(shared, task, scripted_launcher):
    stored = []

    def tell(event):
        if isinstance(event, CaseEnded):
            stored.append(bool(shared.read_cases(SWEEP_ID, [event.record.case_id])))

    run_to_end(task, tell, scripted_launcher())

    assert stored == [True] * 4


def test_where_the_store_can_be_reached_no_record_is_told_to_be_written(run, shared):
    told, _ = run()

    assert all(event.is_stored for event in told if isinstance(event, CaseEnded))


def test_where_the_store_can_not_be_reached_records_are_told_alone(run, store):
    told, _ = run()

    assert ended(told) == dict.fromkeys((1, 2, 4, 8), "ok")
    assert not any(event.is_stored for event in told if isinstance(event, CaseEnded))
    assert not store.path.exists()


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("gs://bucket/runs", ImportError("install gcsfs")),
        ("memory://runs", PermissionError("no key")),
        ("memory://runs", TimeoutError("the network is away")),
    ],
    ids=["no package", "no key", "no network"],
)
def test_where_an_address_can_not_be_reached_records_are_told_alone(
    run, address, error, monkeypatch
):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(fsspec, "get_filesystem_class", fail)
    monkeypatch.setattr(MemoryFileSystem, "info", fail)
    told, _ = run(store=address)

    assert ended(told) == dict.fromkeys((1, 2, 4, 8), "ok")
    assert told[-1] == JobEnded()
    assert not any(event.is_stored for event in told if isinstance(event, CaseEnded))


def test_where_the_store_can_not_be_reached_the_next_batch_knows_the_one_before(run):
    told, launcher = run({2: "oom"})

    assert ended(told) == {1: "ok", 2: "oom", 4: "skipped", 8: "skipped"}
    assert launcher.batch_sizes == [1, 2]


@pytest.mark.parametrize("reached", [True, False])
def test_a_trace_is_told_where_the_store_can_not_be_reached(
    run, store, sweep, scripted_launcher, reached
):
    class Tracing(scripted_launcher):
        def measure(self, case, plan, on_stage):
            outcome = super().measure(case, plan, on_stage)
            return Outcome(**outcome.model_dump() | {"trace": b64encode(b"a trace")})

    if reached:
        store.write_sweep(sweep)
    told, _ = run(launcher=Tracing())
    ends = [event for event in told if isinstance(event, CaseEnded)]
    paths = [store.trace_path(SWEEP_ID, event.record.case_id) for event in ends]

    assert [event.trace for event in ends] == [None if reached else b"a trace"] * 4
    assert [path.exists() for path in paths] == [reached] * 4


# What was done before


def test_cases_that_are_done_are_told_and_not_measured(run, shared, task, cases):
    run(sweep=task.sweep.model_copy(update={"cases": tuple(cases[:2])}))
    told, launcher = run()

    assert launcher.batch_sizes == [4, 8]
    assert ended(told) == dict.fromkeys((1, 2, 4, 8), "ok")


@pytest.mark.parametrize("status", ["crashed", "timeout", "cuda_error"])
def test_cases_that_have_no_answer_are_measured_again(run, shared, status):
    run({2: status})
    told, launcher = run()

    assert launcher.batch_sizes == [2]
    assert ended(told) == dict.fromkeys((1, 2, 4, 8), "ok")
    assert len([event for event in told if isinstance(event, CaseEnded)]) == 4


def test_what_earlier_runs_found_not_to_fit_prunes(run, shared, task, cases):
    run({1: "oom"}, sweep=task.sweep.model_copy(update={"cases": (cases[0],)}))
    rest = task.sweep.model_copy(update={"cases": tuple(cases[1:])})
    told, launcher = run(sweep=rest, known_ids=(cases[0].case_id,))

    assert launcher.batch_sizes == []
    assert ended(told) == dict.fromkeys((2, 4, 8), "skipped")


def test_a_known_record_that_is_gone_is_no_fault(run, shared):
    told, _ = run(known_ids=("0" * 16,))

    assert told[-1] == JobEnded()


# How it ends


@pytest.mark.parametrize("kind", USER_ERRORS)
def test_a_users_mistake_ends_the_sweep_with_its_line(run, shared, kind):
    told, launcher = run({2: kind("no.")})

    assert told[-1] == JobRefused("no.")
    assert launcher.is_closed


def test_a_machine_that_can_not_be_looked_at_ends_the_sweep(run, shared, monkeypatch):
    def fail():
        raise ProbeError("torch can't be loaded.")

    monkeypatch.setattr(jobs, "probe_environment", fail)
    told, _ = run(environment=None)

    assert told == [JobRefused("torch can't be loaded.")]


def test_a_defect_is_a_job_that_was_lost(run, shared):
    told, launcher = run({2: ZeroDivisionError("ours\nand more")})

    assert told[-1] == JobEnded(lost="ZeroDivisionError: ours and more")
    assert launcher.is_closed


def test_a_job_that_is_stopped_stores_its_case_as_interrupted(run, shared):
    told, launcher = run({4: KeyboardInterrupt()})
    found = {record.case.batch_size: record.status for record in shared.read().records}

    assert told[-1] == JobEnded(lost="it was told to end")
    assert found == {1: "ok", 2: "ok", 4: "interrupted"}
    assert launcher.is_closed


# Stopping it from elsewhere


@pytest.fixture
def measure(make_case, make_plan):
    return lambda launcher: launcher.measure(make_case(), make_plan(), lambda stage: None)


def test_a_launcher_that_is_not_stopped_measures(measure, scripted_launcher):
    assert measure(Stoppable(scripted_launcher())).status == "ok"


def test_a_stopped_launcher_begins_no_case(measure, scripted_launcher):
    inner = scripted_launcher()
    launcher = Stoppable(inner)
    launcher.stop()
    with pytest.raises(KeyboardInterrupt):
        measure(launcher)

    assert (inner.measured, inner.is_closed) == ([], True)


def test_what_a_case_says_that_was_stopped_is_not_what_became_of_it(measure, scripted_launcher):
    launcher = Stoppable(scripted_launcher({2: "crashed"}, before=lambda case: launcher.stop()))

    with pytest.raises(KeyboardInterrupt):
        measure(launcher)


def test_a_launcher_is_closed_once(scripted_launcher):
    class Counting(scripted_launcher):
        closed = 0

        def close(self):
            self.closed += 1

    inner = Counting()
    launcher = Stoppable(inner)
    launcher.stop()
    launcher.close()

    assert inner.closed == 1


@pytest.mark.parametrize("error", [SweepError("no."), OSError("no.")])
def test_errors_of_a_launcher_pass_through(measure, scripted_launcher, error):
    with pytest.raises(type(error)):
        measure(Stoppable(scripted_launcher({2: error})))


def test_a_measurement_is_told_whole(run, shared, scripted_launcher):
    measurement = Measurement(weights="sha256:ab", input_source="photographs")
    told, _ = run(launcher=scripted_launcher(measurement=measurement))
    found = [event.record.measurement for event in told if isinstance(event, CaseEnded)]

    assert found == [measurement] * 4
