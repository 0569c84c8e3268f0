"""A sweep over a fleet that does what a script says: what is sent, stored, and told at the end."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

from benchmarking.errors import SweepError
from benchmarking.fleet import driver
from benchmarking.fleet.jobs import CaseBegan, CaseEnded, JobEnded, JobPlaced, JobRefused
from benchmarking.sweeping.runner import SweepOptions
from results.records.store import LockedError

L4, H200 = "NVIDIA L4", "NVIDIA H200"


# A whole run


@pytest.mark.parametrize("gpus", [(L4,), (L4, H200), (L4,) * 5, (L4, None)])
def test_every_case_becomes_a_record(run, statuses, gpus):
    run(gpus=gpus)

    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_a_job_is_told_all_that_its_machine_needs(run, store, cases, make_plan):
    options = SweepOptions(prunes=False)
    ((task, _),) = run(options=options).started

    assert task.sweep.cases == tuple(cases)
    assert (task.sweep.plan, task.sweep.sweep_id) == (make_plan(), *store.sweep_ids())
    assert (task.store, task.options, task.known_ids) == (str(store.path), options, ())


def test_the_plan_of_all_cases_is_stored_before_the_first_job_begins(run, store, cases, measures):
    planned = []

    def script(task, slot):
        planned.append(store.read().sweeps[0].cases)
        return measures(task, slot)

    run(script)

    assert planned[0] == tuple(cases)


def test_a_model_is_one_job(run, make_case):
    cases = [
        make_case(model=model, gpu="any", device="cuda:0", batch_size=size)
        for size in (1, 2)
        for model in ("tiny", "vit_b", "vit_l")
    ]

    assert run(cases=cases).offered == [[1, 2]] * 3


def test_all_gpus_work_at_once(run, make_case):
    cases = [make_case(attention=str(n), gpu="any", device="cuda:0") for n in range(9)]
    fleet = run(cases=cases, gpus=(L4, H200, L4))

    assert fleet.most_at_once == 3


def test_a_kind_runs_on_gpus_of_its_kind(run, make_case):
    kinds = ("L4", "H200")
    cases = [
        make_case(gpu=kind, device="cuda:0", attention=str(n)) for kind in kinds for n in range(4)
    ]
    fleet = run(cases=cases, gpus=(L4, H200))
    pairs = {(task.sweep.cases[0].gpu, slot.gpu) for task, slot in fleet.started}

    assert pairs == {("L4", L4), ("H200", H200)}


def test_a_gpu_that_joins_later_is_used(run, make_case, measures, scripted_fleet):
    cases = [make_case(attention=str(n), gpu="any", device="cuda:0") for n in range(4)]

    def script(task, slot):
        fleet.gpus = [L4, H200]
        return measures(task, slot)

    fleet = scripted_fleet(script, [L4])
    run(fleet=fleet, cases=cases)

    assert {slot.gpu for _, slot in fleet.started} == {L4, H200}


def test_the_watcher_is_told_the_sweeps_story(run, make_watcher):
    watcher = make_watcher()
    run(watcher=watcher, gpus=(L4, L4, H200))

    assert watcher.told == [
        ("begin", 4, 4, 3),
        ("case_begins", 1), ("case_ends", 1, "ok"),
        ("case_begins", 2), ("case_ends", 2, "ok"),
        ("case_begins", 4), ("case_ends", 4, "ok"),
        ("case_begins", 8), ("case_ends", 8, "ok"),
        ("end",),
    ]  # fmt: skip


def test_a_word_that_comes_after_its_jobs_last_is_passed_over(
    run, cases, statuses, measures, scripted_fleet, make_watcher
):
    class Late(scripted_fleet):
        def events(self, timeout_s):
            return [(99, CaseBegan(cases[0])), (99, JobEnded("late")), *super().events(timeout_s)]

    watcher = make_watcher()
    run(fleet=Late(measures, [L4]), watcher=watcher)

    assert watcher.told.count(("case_begins", 1)) == 1
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


ENDINGS = {
    "Ctrl-C": KeyboardInterrupt(),
    "a refusal": JobRefused("the checkpoint is empty."),
    "a fleet that is gone": SweepError("the cluster is gone."),
    "a defect": ZeroDivisionError("ours"),
}


@pytest.mark.parametrize("ending", [None, *ENDINGS.values()], ids=["well", *ENDINGS])
def test_the_fleet_is_closed_and_the_watcher_told_however_it_ends(
    run, measures, ending, scripted_fleet, make_watcher
):
    fleet = scripted_fleet(measures if ending is None else lambda *_: [ending], [L4])
    watcher = make_watcher()
    if ending is None:
        run(fleet=fleet, watcher=watcher)
    else:
        with pytest.raises(SweepError if isinstance(ending, JobRefused) else type(ending)):
            run(fleet=fleet, watcher=watcher)

    assert fleet.is_closed
    assert watcher.told[-1] == ("end",)


# Records


def test_a_record_that_was_told_alone_is_stored_as_it_was_told(run, store, machine):
    run()
    record = store.read().records[0]

    assert (record.environment, record.started_at) == (machine, "2025-01-02T03:04:05Z")


def test_a_record_is_stored_before_its_job_goes_on(run, store, measures):
    stored = []

    def script(task, slot):
        for event in measures(task, slot):
            if isinstance(event, CaseBegan | JobEnded):
                stored.append(len(store.read().records))
            yield event

    run(script)

    assert stored == [0, 1, 2, 3, 4]


def test_a_trace_that_was_told_is_stored_beside_its_record(run, store, measures):
    def script(task, slot):
        for event in measures(task, slot):
            yield replace(event, trace=b"a trace") if isinstance(event, CaseEnded) else event

    run(script)
    traces = [store.trace_path(each.sweep_id, each.case_id) for each in store.read().records]

    assert [path.read_bytes() for path in traces] == [b"a trace"] * 4


def test_what_is_stored_already_is_not_written_again(run, store, statuses, measures):
    written = []

    def script(task, slot):
        for event in measures(task, slot):
            if isinstance(event, CaseEnded):
                store.write_record(event.record)
                path = store.case_path(event.record.sweep_id, event.record.case_id)
                written.append((path, path.stat().st_ino))
                event = replace(event, is_stored=True)
            yield event

    run(script)

    assert len(written) == 4
    assert [(path, path.stat().st_ino) for path, _ in written] == written


def test_no_record_stays_in_memory(run, make_case, machine, record_of):
    alive = []
    cases = [make_case(batch_size=size, gpu="any", device="cuda:0") for size in range(1, 21)]

    def script(task, slot):
        made = []
        yield JobPlaced(machine)
        for case in task.sweep.cases:
            gc.collect()
            alive.append(sum(record() is not None for record in made))
            yield CaseBegan(case)
            record = record_of(task, case, machine)
            made.append(weakref.ref(record))
            yield CaseEnded(record, is_stored=False)
            del record
        yield JobEnded()

    run(script, cases=cases)

    assert len(alive) == 20
    assert max(alive) <= 1


# What ends a sweep


def test_a_refusal_ends_the_sweep_with_its_line_and_keeps_what_was_measured(
    run, measures, refused, statuses
):
    def script(task, slot):
        for event in measures(task, slot):
            if isinstance(event, CaseBegan) and event.case.batch_size == 4:
                event = JobRefused("the checkpoint is empty.")
            yield event

    assert refused(script) == "the checkpoint is empty."
    assert statuses() == {1: "ok", 2: "ok"}


def test_another_commit_of_the_same_code_is_let_pass(run, measures, machine, statuses):
    other = machine.model_copy(update={"git_commit": None, "git_dirty": None})

    def script(task, slot):
        for event in measures(task, slot):
            yield JobPlaced(other) if isinstance(event, JobPlaced) else event

    run(script)

    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_a_kind_that_is_not_there_is_refused_before_anything_is_stored(refused, make_case, store):
    line = refused(cases=[make_case(gpu="H200", device="cuda:0")])

    assert line.startswith("--gpu H200: there is none in the rack, which has: 1 x NVIDIA L4.")
    assert store.sweep_ids() == []


@pytest.fixture
def two_kinds(make_case):
    return [make_case(gpu=kind, device="cuda:0") for kind in ("L4", "H200")]


@pytest.fixture
def shrinking(measures, scripted_fleet):
    """A fleet whose H200 is gone once its L4 has work."""

    def script(task, slot):
        fleet.gpus = [L4]
        return measures(task, slot)

    class Shrinking(scripted_fleet):
        def free(self):
            return super().free()[:1]  # the L4 is offered first

    fleet = Shrinking(script, [L4, H200])
    return fleet


def test_jobs_that_no_gpu_takes_any_more_end_the_sweep(
    refused, two_kinds, shrinking, store, monkeypatch
):
    monkeypatch.setattr(driver, "PATIENCE_S", 0.0)
    line = refused(cases=two_kinds, fleet=shrinking)

    assert "left (they need H200; in the rack there is now: 1 x NVIDIA L4). What was me" in line
    assert line.endswith("What was measured is kept: the same command goes on with the rest.")
    assert [record.case.gpu for record in store.read().records] == ["L4"]


def test_a_gpu_that_comes_back_in_time_takes_them(run, two_kinds, shrinking, store):
    class Returning(type(shrinking)):
        def events(self, timeout_s):
            if not self.running:
                self.gpus = [H200]
            return super().events(timeout_s)

    shrinking.__class__ = Returning
    run(cases=two_kinds, fleet=shrinking)

    assert {record.case.gpu for record in store.read().records} == {"L4", "H200"}


def test_nobody_gives_up_while_a_job_runs(run, make_case, machine, measures, monkeypatch, store):
    monkeypatch.setattr(driver, "PATIENCE_S", -1.0)  # at once, where nothing runs
    cases = [make_case(gpu="any", device="cuda:0", attention=str(n)) for n in range(2)]

    def script(task, slot):
        yield from [JobPlaced(machine)] * 50
        yield from measures(task, slot)

    run(script, cases=cases)

    assert len(store.read().records) == 2


def test_two_drivers_do_not_run_one_sweep(run, measures, statuses):
    refusals = []

    def script(task, slot):
        with pytest.raises(LockedError) as caught:
            run()
        refusals.append(str(caught.value))
        return measures(task, slot)

    run(script)

    assert len(refusals) == 1
    assert refusals[0].startswith("Another process is running sweep ")
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_after_ctrl_c_the_same_sweep_can_be_run(run, measures, statuses):
    def script(task, slot):
        for event in measures(task, slot):
            is_third = isinstance(event, CaseBegan) and event.case.batch_size == 4
            yield KeyboardInterrupt() if is_third else event

    with pytest.raises(KeyboardInterrupt):
        run(script)
    second = run()

    assert second.offered == [[4, 8]]
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


# The end


def test_a_sweep_that_ends_says_what_became_of_its_cases(run, make_script, lost_at, store):
    end = store.read_end(run(make_script(lost_at(2))).sweep_id)

    assert (end.planned, end.statuses) == (4, {"ok": 3, "crashed": 1})
    assert end.wall_s >= 0


def test_every_planned_case_is_accounted_for(run, store):
    checks = store.read_end(run().sweep_id).checks

    assert (checks["accounting"].verdict, checks["accounting"].value) == ("pass", 0)


def test_a_second_run_counts_the_records_of_the_first(run, store, cases):
    sweep_id = run().sweep_id
    store.case_path(sweep_id, cases[3].case_id).unlink()
    run()

    assert store.read_end(sweep_id).statuses == {"ok": 4}


def test_the_measured_seconds_of_all_machines_are_added_up(
    run, store, machine, record_of, make_record
):
    measured = make_record().measurement

    def script(task, slot):
        yield JobPlaced(machine)
        for case in task.sweep.cases:
            yield CaseEnded(record_of(task, case, machine, measurement=measured), is_stored=False)
        yield JobEnded()

    end = store.read_end(run(script).sweep_id)
    latency = measured.latency
    own_s = sum(latency.forward_s) + latency.first_forward_s + latency.warmup_s

    assert end.measured_s >= 4 * own_s


def test_a_sweep_that_is_stopped_has_no_end(run, store, cases):
    sweep_id = run().sweep_id
    store.case_path(sweep_id, cases[3].case_id).unlink()
    with pytest.raises(KeyboardInterrupt):
        run(lambda task, slot: [KeyboardInterrupt()])

    assert store.read_end(sweep_id) is None
