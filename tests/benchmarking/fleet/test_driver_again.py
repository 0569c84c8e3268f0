"""What is offered again: the rest of a job whose machine died, and what an earlier run left."""

from __future__ import annotations

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from benchmarking.fleet.driver import MOST_LOSSES, run_on_fleet
from benchmarking.fleet.jobs import CaseBegan, JobEnded, JobPlaced
from benchmarking.sweeping.planning import definition_sha256
from benchmarking.sweeping.runner import SweepContext, SweepOptions
from results.records.addresses import UnreachableError
from results.records.store import Store

L4 = "NVIDIA L4"
POWER = "the power was cut"


def lost_at_once(task, slot):
    """A job of which nothing was ever heard."""
    yield JobEnded(lost="the power was cut")


# Machines that die


def test_a_case_whose_machine_dies_has_crashed(run, make_script, lost_at, store, machine):
    run(make_script(lost_at(2)))
    record = next(each for each in store.read().records if each.case.batch_size == 2)

    assert (record.status, record.stage, record.message) == (
        "crashed",
        "lost",
        f"far away: {POWER}",
    )
    assert record.environment == machine
    assert record.wall_s >= 0


def test_the_cases_after_one_that_was_lost_are_offered_again(run, make_script, lost_at, statuses):
    fleet = run(make_script(lost_at(2)))

    assert fleet.offered == [[1, 2, 4, 8], [4, 8]]
    assert statuses() == {1: "ok", 2: "crashed", 4: "ok", 8: "ok"}


def test_a_job_that_is_offered_again_has_an_id_of_its_own_and_knows_what_is_done(
    run, make_script, lost_at, cases
):
    (first, _), (second, _) = run(make_script(lost_at(2))).started

    assert first.job_id != second.job_id
    assert second.known_ids == tuple(case.case_id for case in cases[:2])


def test_the_watcher_is_told_of_a_case_that_was_lost(run, make_script, lost_at, make_watcher):
    watcher = make_watcher()
    run(make_script(lost_at(8)), watcher=watcher)

    assert watcher.told[-2:] == [("case_ends", 8, "crashed"), ("end",)]


def test_of_a_machine_that_never_said_what_it_is_the_record_knows_the_place_alone(
    run, make_script, lost_at, store, environment
):
    run(make_script(lost_at(1, arrives=False)))
    there = store.read().records[0].environment

    assert (there.hostname, there.gpus, there.cpu) == ("node-0", (), "unknown")
    assert there.source_sha256 == environment.source_sha256
    assert there.notes == ("it was lost before it said what it is",)


def test_a_case_that_was_lost_is_measured_in_the_next_run(run, make_script, lost_at, statuses):
    run(make_script(lost_at(2)))
    second = run()

    assert second.offered == [[2]]
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_a_job_that_is_lost_before_its_first_case_is_offered_again_without_blame(
    run, make_script, statuses
):
    fleet = run(make_script(lost_at_once))

    assert fleet.offered == [[1, 2, 4, 8]] * 2
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_a_job_that_ends_well_too_early_is_offered_again(run, make_script, machine, statuses):
    fleet = run(make_script(lambda task, slot: iter([JobPlaced(machine), JobEnded()])))

    assert fleet.offered == [[1, 2, 4, 8]] * 2
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


@pytest.mark.parametrize("losses", range(1, MOST_LOSSES))
def test_fewer_losses_in_a_row_are_borne(run, make_script, statuses, losses):
    run(make_script(*[lost_at_once] * losses))

    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_too_many_losses_in_a_row_end_the_sweep(refused, statuses):
    line = refused(lambda task, slot: lost_at_once(task, slot))

    assert line == (
        f"5 jobs in a row were lost before they began a case, the last on node-0: {POWER}. Mend "
        "that: the same command goes on."
    )
    assert statuses() == {}


def test_if_one_worker_group_is_always_lost_its_first_case_is_taken_for_the_cause(
    run, make_case, measures, record_of, machine, store
):
    """As where its first case takes all the memory that Slurm gives: which case, it can't tell."""
    cases = [
        make_case(attention=name, gpu="any", device="cuda:0", batch_size=size)
        for name in ("reference", *map(str, range(2 * MOST_LOSSES)))
        for size in (1, 2)
    ]

    def script(task, slot):
        first = task.sweep.cases[0]
        is_lost = (first.attention, first.batch_size) == ("reference", 1)
        return (lost_at_once if is_lost else measures)(task, slot)

    fleet = run(script, cases=cases)
    told = [each for each in store.read().records if each.case.attention == "reference"]

    assert {each.case.batch_size: each.status for each in told} == {1: "crashed", 2: "ok"}
    assert told[0].message == (
        f"node-0: lost 5 times before it told of a case, the last time: {POWER}"
    )
    assert len(fleet.started) == MOST_LOSSES + 1 + 2 * MOST_LOSSES


def test_a_case_that_is_measured_forgives_all_losses_before(run, make_script, lost_at, statuses):
    losses = [lost_at_once] * (MOST_LOSSES - 1)
    run(make_script(*losses, lost_at(2), *losses))

    assert statuses() == {1: "ok", 2: "crashed", 4: "ok", 8: "ok"}


def test_a_node_of_many_gpus_may_die(run, make_case, lost_at, measures, statuses):
    """So many jobs that were at a case are lost at once, and none was lost at its beginning."""
    cases = [make_case(attention=str(n), gpu="any", device="cuda:0") for n in range(16)]
    dead = {f"node-{n}" for n in range(8)}

    def script(task, slot):
        is_first = task.job_id < len(cases)
        own = task.sweep.cases[0].batch_size
        return (lost_at(own) if is_first and slot.place in dead else measures)(task, slot)

    run(script, cases=cases, gpus=(L4,) * 16)

    assert set(statuses().values()) <= {"ok", "crashed"}


def test_a_place_that_loses_jobs_is_the_last_to_get_one(run, measures, make_case, store):
    cases = [make_case(gpu="any", device="cuda:0")]

    def script(task, slot):
        return lost_at_once(task, slot) if slot.place == "node-0" else measures(task, slot)

    run(script, cases=cases, gpus=(L4, L4))

    assert [record.status for record in store.read().records] == ["ok"]


def test_every_case_may_be_lost(run, lost_at, statuses):
    lost = {1: lost_at(1), 2: lost_at(2), 4: lost_at(4), 8: lost_at(8)}
    run(lambda task, slot: lost[task.sweep.cases[0].batch_size](task, slot))

    assert statuses() == dict.fromkeys((1, 2, 4, 8), "crashed")


def test_the_gpus_beside_one_that_fails_go_on(run, make_case, measures, lost_at, store):
    cases = [make_case(attention=str(n), gpu="any", device="cuda:0") for n in range(6)]

    def script(task, slot):
        return lost_at(2)(task, slot) if slot.place == "node-1" else measures(task, slot)

    run(script, cases=cases, gpus=(L4, L4))
    records = store.read().records
    lost = [record.message for record in records if record.status == "crashed"]

    assert len(records) == 6
    assert 0 < len(lost) < 6
    assert set(lost) == {f"far away: {POWER}"}


def test_a_record_that_was_stored_but_not_told_before_the_machine_died_is_kept(
    run, make_script, machine, record_of, store, statuses
):
    def script(task, slot):
        case = task.sweep.cases[0]
        yield JobPlaced(machine)
        yield CaseBegan(case)
        store.write_record(record_of(task, case, machine))
        yield JobEnded(lost=POWER)

    run(make_script(script))

    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


@pytest.mark.parametrize("status", ["crashed", "interrupted", "timeout"])
def test_a_record_of_an_earlier_failure_is_not_taken_for_what_was_stored_now(
    run, make_script, lost_at, store, status
):
    run(make_script(lost_at(2)))
    before = store.read().records[1]
    store.write_record(before.model_copy(update={"status": status, "message": "before"}))
    run(make_script(lost_at(2)))
    record = store.read().records[1]

    assert (record.status, record.message) == ("crashed", f"far away: {POWER}")


# A second run


def test_a_finished_sweep_starts_no_job(run):
    first, second = run(), run()

    assert first.sweep_id == second.sweep_id
    assert second.started == []


def test_a_finished_sweep_keeps_what_it_said_at_its_end(run, store):
    sweep_id = run().sweep_id
    end = store.read_end(sweep_id)
    run()

    assert store.read_end(sweep_id) == end


def test_a_second_run_measures_what_is_missing_and_knows_the_rest(run, store, cases):
    sweep_id = run().sweep_id
    for case in cases[1:3]:
        store.case_path(sweep_id, case.case_id).unlink()
    second = run()
    ((task, _),) = second.started

    assert (second.sweep_id, second.offered) == (sweep_id, [[2, 4]])
    assert set(task.known_ids) == {cases[0].case_id, cases[3].case_id}


def test_a_job_knows_the_records_of_its_own_model_alone(run, store, make_case):
    cases = [
        make_case(model=model, gpu="any", device="cuda:0", batch_size=size)
        for model in ("tiny", "vit_b")
        for size in (1, 2)
    ]
    sweep_id = run(cases=cases).sweep_id
    for case in cases[1::2]:
        store.case_path(sweep_id, case.case_id).unlink()
    tasks = [task for task, _ in run(cases=cases).started]

    assert {task.known_ids for task in tasks} == {(case.case_id,) for case in cases[::2]}


@pytest.mark.parametrize(
    ("places", "goes_on"),
    [
        ([("cuda:0", "L4")], True),
        ([("cuda:0", "any")], True),
        ([("cuda:0", "L4"), ("cpu", None)], True),
        ([("cuda:0", None)], False),
        ([("cpu", None)], False),
    ],
    ids=["L4", "any", "L4,cpu", "cuda:0", "cpu"],
)
def test_a_sweep_over_kinds_goes_on_wherever_it_is_typed(
    make_case, make_plan, environment, make_gpu_environment, places, goes_on
):
    """As a spot machine that is replaced; on a device that is named it is another sweep."""
    cases = [make_case(gpu=gpu, device=device) for device, gpu in places]
    here = make_gpu_environment("8.9").model_copy(update={"cudnn": "91002"})
    there = environment.model_copy(update={"hostname": "other", "cudnn": None})
    ids = {definition_sha256(cases, make_plan(), where) for where in (here, there)}

    assert (len(ids) == 1) == goes_on


@pytest.mark.parametrize("ending", ["/sweep.json", "/cases"])
def test_a_sweep_that_can_not_be_read_just_now_is_not_begun_anew(
    cases, environment, make_plan, scripted_fleet, measures, make_watcher, ending
):
    """As where an object store does not answer for a moment."""
    store = Store(f"memory://{ending.strip('/')}-just-now")
    setting = SweepContext(environment, store, None, make_watcher(), "sam-bench sweep")
    run_on_fleet(cases, make_plan(), setting, scripted_fleet(measures, [L4]), SweepOptions())
    fleet = scripted_fleet(measures, [L4])
    with pytest.MonkeyPatch.context() as patch:
        for step in ("_open", "ls", "cat_file"):
            patch.setattr(MemoryFileSystem, step, failing(getattr(MemoryFileSystem, step), ending))
        with pytest.raises(UnreachableError, match="no answer"):
            run_on_fleet(cases, make_plan(), setting, fleet, SweepOptions())

    assert fleet.started == []
    assert len(store.sweep_ids()) == 1


def failing(true, ending):
    """A way to read that fails for files whose names end so."""

    def call(files, path, *arguments, **options):
        if path.endswith(ending):
            raise TimeoutError("no answer")
        return true(files, path, *arguments, **options)

    return call


def test_fresh_makes_a_new_sweep_of_all_cases(run):
    first, second = run(), run(options=SweepOptions(is_fresh=True))

    assert first.sweep_id != second.sweep_id
    assert second.offered == [[1, 2, 4, 8]]


@pytest.mark.parametrize(("prunes", "offered"), [(True, []), (False, [[4]])])
def test_without_pruning_what_was_skipped_before_is_offered(
    run, store, measures, cases, prunes, offered
):
    sweep_id = run().sweep_id
    (record,) = store.read_cases(sweep_id, [cases[2].case_id])
    store.write_record(record.model_copy(update={"status": "skipped", "measurement": None}))

    assert run(options=SweepOptions(prunes=prunes)).offered == offered
