"""Running a sweep with a scripted launcher: what is measured, what is stored, and when."""

from __future__ import annotations

import shutil

import pytest

from benchmarking.errors import SweepError
from benchmarking.sweeping.runner import SweepContext, SweepExecution, SweepOptions, run_sweep
from results.records import store as store_file
from results.records.schema import RETRIED, STATUSES
from results.records.store import Store, StoreError, write_whole

KEPT = tuple(status for status in STATUSES if status not in (*RETRIED, "skipped"))


class Watcher:
    """Remembers what it was told."""

    def __init__(self):
        self.told = []

    def begin(self, sweep, left, lanes=1):
        self.told.append(("begin", len(sweep.cases), len(left)))

    def case_begins(self, case):
        self.told.append(("case_begins", case.batch_size))

    def stage(self, name):
        self.told.append(("stage", name))

    def case_ends(self, record):
        self.told.append(("case_ends", record.case.batch_size, record.status))

    def end(self):
        self.told.append(("end",))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def cases(make_case):
    return [make_case(batch_size=size) for size in (1, 2, 4, 8)]


@pytest.fixture
def run(store, cases, environment, make_plan, scripted_launcher):
    """Run the sweep of four cases with a script; give the launcher, closed."""

    def start(script=None, launcher=None, watcher=None, command="sam-bench sweep", **changes):
        launcher = launcher or scripted_launcher(script)
        where = changes.pop("environment", environment)
        setting = SweepContext(where, store, launcher, watcher or Watcher(), command)
        arguments = {"cases": cases, "plan": make_plan(), "options": SweepOptions()}
        launcher.sweep_id = run_sweep(setting=setting, **arguments | changes)
        return launcher

    return start


@pytest.fixture
def statuses(store):
    """Statuses of a store's records by batch size, over all its sweeps."""
    return lambda: {
        record.case.batch_size: record.status
        for record in sorted(store.read().records, key=lambda record: record.case.batch_size)
    }


def test_what_a_smaller_gpu_could_not_hold_is_tried_on_a_larger_one(
    run, make_gpu_environment, make_case, store, scripted_launcher
):
    """Of a sweep over any GPUs, another may measure the rest of a family."""
    cases = [make_case(batch_size=size, gpu="any", device="cuda:0") for size in (1, 2)]
    small = make_gpu_environment("9.0")
    gpu = small.gpus[0].model_copy(update={"uuid": "GPU-large", "memory_bytes": 2**37})
    large = small.model_copy(update={"gpus": (gpu,)})
    run({1: "oom"}, cases=cases[:1], environment=small)
    (first,) = store.read().records
    tried = {}
    for name, where in (("small", small), ("large", large)):
        sweep = store.read().sweeps[0].model_copy(update={"environment": where})
        setting = SweepContext(where, store, scripted_launcher(), Watcher(), "sam-bench sweep")
        tried[name] = SweepExecution(sweep, setting, SweepOptions(), [first]).known_outcome(
            cases[1]
        )

    assert tried["small"].status == "skipped"
    assert tried["large"] is None


# A whole run


def test_every_case_is_measured_and_stored(run, statuses):
    launcher = run()

    assert launcher.batch_sizes == [1, 2, 4, 8]
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_a_record_is_stored_before_the_next_case_begins(run, store, scripted_launcher):
    stored = []
    launcher = scripted_launcher(before=lambda case: stored.append(len(store.read().records)))
    run(launcher=launcher)

    assert stored == [0, 1, 2, 3]


def test_the_plan_is_stored_before_the_first_case_begins(run, store, cases, scripted_launcher):
    planned = []
    run(
        launcher=scripted_launcher(before=lambda case: planned.append(store.read().sweeps[0].cases))
    )

    assert planned[0] == tuple(cases)


def test_a_record_tells_the_case_the_plan_the_machine_and_the_command(
    run, store, cases, environment, make_plan
):
    sweep_id = run().sweep_id
    record = store.read().records[0]

    assert (record.sweep_id, record.case_id, record.case) == (sweep_id, cases[0].case_id, cases[0])
    assert (record.plan, record.environment) == (make_plan(), environment)
    assert (record.command, record.wall_s) == ("sam-bench sweep", 0.5)


def test_the_watcher_is_told_the_sweeps_story(run):
    watcher = Watcher()
    run({2: "oom"}, watcher=watcher)

    assert watcher.told == [
        ("begin", 4, 4),
        ("case_begins", 1), ("stage", "latency"), ("case_ends", 1, "ok"),
        ("case_begins", 2), ("stage", "latency"), ("case_ends", 2, "oom"),
        ("case_begins", 4), ("case_ends", 4, "skipped"),
        ("case_begins", 8), ("case_ends", 8, "skipped"),
        ("end",),
    ]  # fmt: skip


@pytest.mark.parametrize("answer", [None, KeyboardInterrupt(), SweepError("no."), OSError("x")])
def test_the_launcher_is_closed_and_the_watcher_told_however_it_ends(
    run, scripted_launcher, answer
):
    launcher, watcher = scripted_launcher({2: answer} if answer else {}), Watcher()
    if answer is None:
        run(launcher=launcher, watcher=watcher)
    else:
        with pytest.raises(type(answer)):
            run(launcher=launcher, watcher=watcher)

    assert launcher.is_closed
    assert watcher.told[-1] == ("end",)


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "not_run"])
def test_planned_is_the_sum_over_statuses(run, store, statuses, status):
    run({2: status})

    assert len(store.read().sweeps[0].cases) == len(statuses()) == 4


# Resuming


def test_a_finished_sweep_is_not_measured_again(run):
    first, second = run(), run()

    assert first.sweep_id == second.sweep_id
    assert second.batch_sizes == []


@pytest.mark.parametrize("status", KEPT)
def test_an_answer_is_kept(run, status):
    run({2: status}, options=SweepOptions(prunes=False))

    assert run(options=SweepOptions(prunes=False)).batch_sizes == []


@pytest.mark.parametrize("status", [status for status in RETRIED if status != "not_run"])
def test_a_case_that_has_no_answer_is_offered_again(run, statuses, status):
    run({2: status})
    second = run()

    assert second.batch_sizes == [2]
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_a_case_without_a_record_is_measured(run, store, cases):
    sweep_id = run().sweep_id
    store.case_path(sweep_id, cases[2].case_id).unlink()

    assert run().batch_sizes == [4]


def test_a_case_whose_record_is_broken_is_measured_again(run, store, cases, statuses):
    sweep_id = run().sweep_id
    store.case_path(sweep_id, cases[2].case_id).write_text("{")
    second = run()

    assert second.batch_sizes == [4]
    assert statuses()[4] == "ok"


def test_ctrl_c_stores_the_case_as_interrupted_and_ends_the_sweep(run, statuses):
    with pytest.raises(KeyboardInterrupt):
        run({4: KeyboardInterrupt()})

    assert statuses() == {1: "ok", 2: "ok", 4: "interrupted"}


def test_an_interrupted_case_tells_how_far_it_came(run, store):
    with pytest.raises(KeyboardInterrupt):
        run({1: KeyboardInterrupt()})
    (record,) = store.read().records

    assert (record.stage, record.message) == ("latency", "stopped by Ctrl-C or SIGTERM")
    assert record.wall_s > 0


def test_the_next_run_finishes_what_ctrl_c_stopped(run, statuses):
    with pytest.raises(KeyboardInterrupt):
        run({4: KeyboardInterrupt()})
    second = run()

    assert second.batch_sizes == [4, 8]
    assert statuses() == dict.fromkeys((1, 2, 4, 8), "ok")


def test_a_second_ctrl_c_while_the_launcher_closes_loses_nothing(run, statuses, scripted_launcher):
    class Stubborn(scripted_launcher):
        def close(self):
            raise KeyboardInterrupt

    watcher = Watcher()
    with pytest.raises(KeyboardInterrupt):
        run(launcher=Stubborn({2: KeyboardInterrupt()}), watcher=watcher)

    assert statuses() == {1: "ok", 2: "interrupted"}
    assert watcher.told[-1] == ("end",)


def test_a_refusal_ends_the_sweep_without_a_record_of_its_case(run, statuses):
    with pytest.raises(SweepError, match="the checkpoint is empty"):
        run({4: SweepError("the checkpoint is empty.")})

    assert statuses() == {1: "ok", 2: "ok"}


def test_fresh_makes_a_new_sweep_of_all_cases(run, store):
    first, second = run(), run(options=SweepOptions(is_fresh=True))

    assert first.sweep_id != second.sweep_id
    assert second.batch_sizes == [1, 2, 4, 8]
    assert len(store.read().records) == 8


def test_sweeps_of_one_second_have_ids_of_their_own_in_order(run, store):
    ids = [run(options=SweepOptions(is_fresh=True)).sweep_id for _ in range(3)]

    assert store.sweep_ids() == ids


CHANGES = {
    "machine": {"hostname": "other"},
    "commit": {"git_commit": "1" * 40},
    "uncommitted changes": {"git_dirty": True},
    "torch": {"torch": "2.16.0"},
    "driver": {"driver": "580.1"},
    "source": {"source_sha256": "1" * 64},
    "GPUs that are visible": {"cuda_visible_devices": "0"},
    "allocator": {"alloc_conf": "expandable_segments:True"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_machine_or_code_makes_a_new_sweep(run, environment, change):
    first, second = run(), run(environment=environment.model_copy(update=change))

    assert first.sweep_id != second.sweep_id
    assert second.batch_sizes == [1, 2, 4, 8]


def test_another_plan_makes_a_new_sweep(run, make_plan):
    assert run().sweep_id != run(plan=make_plan(seed=7)).sweep_id


def test_other_cases_make_a_new_sweep(run, cases):
    assert run().sweep_id != run(cases=cases[:3]).sweep_id


@pytest.mark.parametrize("axis", ["weights", "images"])
def test_other_content_of_the_same_file_makes_a_new_sweep(
    run, photograph, make_case, make_plan, axis
):
    file = photograph / "one.png"
    sweep = {
        "weights": {"cases": [make_case(weights=str(file))]},
        "images": {"plan": make_plan(images=str(photograph))},
    }[axis]
    first, second = run(**sweep), run(**sweep)
    file.write_bytes(b"other")

    assert first.sweep_id == second.sweep_id
    assert run(**sweep).sweep_id != first.sweep_id


def test_a_folder_or_a_broken_link_beside_the_images_is_no_content_of_theirs(
    run, photograph, make_plan
):
    plan = make_plan(images=str(photograph))
    (photograph / "loop.jpg").symlink_to("loop.jpg")
    first = run(plan=plan)
    (photograph / "runs").mkdir()

    assert run(plan=plan).sweep_id == first.sweep_id


def test_another_command_for_the_same_cases_goes_on_with_the_sweep(run):
    assert run().sweep_id == run(command="sam-bench quickstart").sweep_id


def test_the_newest_of_equal_sweeps_goes_on(run):
    run()
    second = run({2: "timeout"}, options=SweepOptions(is_fresh=True))
    third = run()

    assert (third.sweep_id, third.batch_sizes) == (second.sweep_id, [2])


def test_a_broken_plan_hides_no_other_sweep(run, store):
    first = run()
    other = store.path / "20990101-000000-abcdef" / "sweep.json"
    other.parent.mkdir()
    other.write_text("{")

    assert run().sweep_id == first.sweep_id


# What can't be measured


def test_batches_above_one_that_did_not_fit_are_skipped_with_the_reason(run, store, statuses):
    launcher = run({2: "oom"})

    assert launcher.batch_sizes == [1, 2]
    assert statuses() == {1: "ok", 2: "oom", 4: "skipped", 8: "skipped"}
    assert store.read().records[-1].message == "oom at batch size 2"


def test_pruning_lasts_across_a_resume(run, store, cases):
    sweep_id = run({2: "oom"}).sweep_id
    for case in cases[2:]:
        store.case_path(sweep_id, case.case_id).unlink()

    assert run().batch_sizes == []


def test_without_pruning_larger_batches_are_tried(run):
    assert run({2: "oom"}, options=SweepOptions(prunes=False)).batch_sizes == [1, 2, 4, 8]


def test_without_pruning_what_was_skipped_before_is_tried(run):
    run({2: "oom"})

    assert run(options=SweepOptions(prunes=False)).batch_sizes == [4, 8]


@pytest.mark.parametrize("axis", ["precision", "attention", "input", "weights", "execution"])
def test_a_batch_that_did_not_fit_prunes_no_other_axis(run, make_case, axis):
    others = {
        "precision": "bf16", "attention": "sdpa", "execution": "compile", "input": "images",
        "weights": "other",
    }  # fmt: skip
    cases = [make_case(batch_size=2), make_case(batch_size=4, **{axis: others[axis]})]

    assert run({2: "oom"}, cases=cases).batch_sizes == [2, 4]


def test_a_pass_that_needs_more_than_a_forward_prunes_nothing(run, scripted_launcher, make_record):
    class OutOfMemoryLater(scripted_launcher):
        """As where the latency was measured before the memory was full."""

        def measure(self, case, plan, on_stage):
            outcome = super().measure(case, plan, on_stage)
            return outcome.model_copy(update={"measurement": make_record().measurement})

    launcher = run(launcher=OutOfMemoryLater({2: "oom"}))

    assert launcher.batch_sizes == [1, 2, 4, 8, 1]  # last the first, to see whether it drifted
    assert run().batch_sizes == []


@pytest.mark.parametrize("status", ["timeout", "crashed", "cuda_error", "invalid"])
def test_other_failures_prune_nothing(run, status):
    assert run({2: status}).batch_sizes == [1, 2, 4, 8]


def test_an_unsupported_case_is_recorded_and_never_launched(run, store, make_case):
    cases = [make_case(precision="tf32"), make_case()]
    launcher = run(cases=cases)
    record = store.read().records[0]

    assert [case.precision for case in launcher.measured] == ["fp32"]
    assert (record.status, record.stage) == ("unsupported", "plan")
    assert record.message == "tf32 needs a CUDA GPU; a CPU has none of it"


# Faults


def test_a_full_disk_ends_the_sweep_and_loses_no_finished_case(run, statuses, monkeypatch):
    room = iter(range(3))  # the plan and two records

    def write(path, text):
        if next(room, None) is None:
            raise StoreError(f"'{path}' can't be written: No space left on device.")
        write_whole(path, text)

    monkeypatch.setattr(store_file, "write_whole", write)
    with pytest.raises(StoreError, match="No space left on device"):
        run()
    monkeypatch.setattr(store_file, "write_whole", write_whole)

    assert statuses() == {1: "ok", 2: "ok"}
    assert run().batch_sizes == [4, 8]


def test_a_second_run_of_the_same_sweep_is_refused_in_one_line(run, statuses, scripted_launcher):
    refusals = []

    def run_too(case):
        with pytest.raises(StoreError) as caught:
            run()
        refusals.append(str(caught.value))

    run(launcher=scripted_launcher(before=run_too))

    assert all("Another process is running sweep" in line for line in refusals)
    assert len(refusals) == len(statuses()) == 4


def test_another_sweep_runs_in_the_same_store(run, make_plan, store, scripted_launcher):
    launcher = scripted_launcher(before=lambda case: run(plan=make_plan(seed=case.batch_size)))
    run(launcher=launcher)

    assert len(store.sweep_ids()) == 5
    assert len(store.read().records) == 20


def test_a_store_that_is_removed_meanwhile_takes_the_rest(run, store, statuses, scripted_launcher):
    def remove(case):
        if case.batch_size == 4:
            shutil.rmtree(store.path)

    run(launcher=scripted_launcher(before=remove))

    assert statuses() == {4: "ok", 8: "ok"}
