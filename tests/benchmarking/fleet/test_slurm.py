"""Jobs through submitit: its local executor runs them here as Slurm would on its nodes."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import replace

import psutil
import pytest
from submitit.core.utils import FailedJobError

from benchmarking.errors import SweepError
from benchmarking.fleet import slurm
from benchmarking.fleet.driver import run_on_fleet
from benchmarking.fleet.jobs import Slot
from benchmarking.fleet.slurm import SlurmFleet, SlurmOptions
from benchmarking.sweeping.runner import SweepContext, SweepOptions
from results.records.store import Store

WORKER = """
import json, os, sys, time
def say(**said):
    print(json.dumps({"said": said}), flush=True)
nothing = {"weights": "random", "input_source": "noise"}
say(kind="stage", name="ready")
for line in sys.stdin:
    size = json.loads(line)["case"]["batch_size"]
    if size == 4:
        os._exit(3)
    if size == 8:
        open(FOLDER + "/hangs", "w").close()
        time.sleep(600)
    say(kind="outcome", status="ok", wall_s=0.01, measurement=nothing)
"""


TWO_JOBS = SlurmOptions(jobs=2)


class Watcher:
    def __init__(self):
        self.ended = []

    def begin(self, sweep, left, lanes=1):
        self.lanes = lanes

    def case_begins(self, case):
        pass

    def case_ends(self, record):
        self.ended.append(record.case.batch_size)

    def stage(self, name):
        pass

    def end(self):
        pass


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def watcher():
    return Watcher()


@pytest.fixture
def make_fleet(store, tmp_path, monkeypatch, environment):
    """Maker of a fleet whose jobs run here, with scripted workers on this made-up machine."""
    monkeypatch.setattr(slurm, "LOOK_S", 0.2)
    command = (sys.executable, "-I", "-c", f"FOLDER = {str(tmp_path)!r}\n{WORKER}")
    made = []

    class Local(SlurmFleet):
        def start(self, task, slot):
            super().start(replace(task, environment=environment, worker=command, **self.more), slot)

    def make(needs=("cpu",), options=TWO_JOBS, **more):
        fleet = Local(list(needs), store, options, cluster="local")
        fleet.more = more
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()


@pytest.fixture
def sweep(environment, store, watcher, make_plan):
    def run(cases, fleet):
        setting = SweepContext(environment, store, None, watcher, "sam-bench sweep")
        return run_on_fleet(cases, make_plan(), setting, fleet, SweepOptions())

    return run


def test_every_case_of_every_job_becomes_a_record(make_fleet, sweep, make_case, store, watcher):
    cases = [
        make_case(attention=name, batch_size=size)
        for name in ("reference", "sdpa")
        for size in (1, 2, 4)
    ]
    sweep_id = sweep(cases, make_fleet())
    told = {record.case: record.status for record in store.read(sweep_id).records}

    assert told == {case: "crashed" if case.batch_size == 4 else "ok" for case in cases}
    assert sorted(watcher.ended) == [1, 1, 2, 2, 4, 4]


def test_a_sweep_that_goes_on_tells_no_old_record_as_a_new_one(
    make_fleet, sweep, make_case, store, watcher
):
    cases = [make_case(batch_size=size) for size in (2, 4)]
    sweep(cases, make_fleet())
    (first,) = [each for each in store.read().records if each.status == "crashed"]
    watcher.ended.clear()
    sweep(cases, make_fleet())
    (second,) = [each for each in store.read().records if each.status == "crashed"]

    assert watcher.ended == [4]
    assert second.started_at >= first.started_at


def test_records_come_along_where_the_nodes_do_not_reach_the_store(
    make_fleet, sweep, make_case, store, tmp_path
):
    fleet = make_fleet(store=str(tmp_path / "nowhere"))
    sweep_id = sweep([make_case()], fleet)

    assert [record.status for record in store.read(sweep_id).records] == ["ok"]
    assert not (tmp_path / "nowhere").exists()


def test_ctrl_c_cancels_what_runs(
    make_fleet, sweep, make_case, tmp_path, store, wait_until, monkeypatch
):
    fleet = make_fleet()
    submitted = []

    def stop_when_it_hangs(timeout_s):
        submitted.extend(fleet._jobs.values())
        wait_until(lambda: (tmp_path / "hangs").exists())
        raise KeyboardInterrupt

    monkeypatch.setattr(fleet, "events", stop_when_it_hangs)
    with pytest.raises(KeyboardInterrupt):
        sweep([make_case(batch_size=size) for size in (1, 8)], fleet)

    wait_until(submitted[0].batch_job.done)
    told = {record.case.batch_size: record.status for record in store.read().records}
    assert told == {1: "ok", 8: "interrupted"}


def test_a_job_that_slurm_lost_gives_a_crashed_case_and_the_rest_is_offered_again(
    make_fleet, sweep, make_case, store, tmp_path, monkeypatch, wait_until
):
    fleet = make_fleet()
    true = fleet.look

    def kill(job):
        if (tmp_path / "hangs").exists():
            (tmp_path / "hangs").unlink()
            controller = psutil.Process(int(job.batch_job.job_id))
            for process in (*controller.children(recursive=True), controller):
                process.kill()
            wait_until(job.batch_job.done)
        return true(job)

    monkeypatch.setattr(fleet, "look", kill)
    sweep([make_case(batch_size=size) for size in (1, 8, 16)], fleet)
    told = {record.case.batch_size: record.status for record in store.read().records}

    assert told == {1: "ok", 8: "crashed", 16: "ok"}


def test_a_job_that_slurm_ends_gives_a_crashed_case_and_the_rest_is_offered_again(
    make_fleet, sweep, make_case, store, tmp_path, monkeypatch
):
    """As scancel does it, and a limit of time: with SIGTERM to all processes of the job."""
    fleet = make_fleet()
    true = fleet.look

    def end(job):
        if (tmp_path / "hangs").exists():
            (tmp_path / "hangs").unlink()
            controller = psutil.Process(int(job.batch_job.job_id))
            for process in controller.children(recursive=True):
                process.terminate()
        return true(job)

    monkeypatch.setattr(fleet, "look", end)
    sweep([make_case(batch_size=size) for size in (1, 8, 16)], fleet)
    told = {record.case.batch_size: record for record in store.read().records}

    assert {size: record.status for size, record in told.items()} == {
        1: "ok", 8: "crashed", 16: "ok",
    }  # fmt: skip
    assert told[8].message.endswith("it was told to end")


def test_what_a_killed_driver_left_of_the_sweep_is_cancelled_once(
    make_fleet, sweep, make_case, store, tmp_path, monkeypatch
):
    scancel = tmp_path / "bin" / "scancel"
    scancel.parent.mkdir()
    scancel.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/cancelled\n')
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scancel.parent}:{os.environ['PATH']}")
    fleet = make_fleet()
    monkeypatch.setattr(fleet.executor, "cluster", "slurm")
    sweep_id = sweep([make_case(attention=name) for name in ("reference", "sdpa")], fleet)

    assert (tmp_path / "cancelled").read_text() == (
        f"-u {getpass.getuser()} -n sam-bench-{sweep_id}\n"
    )


def test_what_slurm_refuses_is_told_in_one_line(make_fleet, sweep, make_case, monkeypatch, capfd):
    fleet = make_fleet()

    def refuse(*arguments):
        print("sbatch: error: no such partition", file=sys.stderr)
        raise FailedJobError("sbatch: error: no such partition")

    monkeypatch.setattr(fleet.executor, "submit", refuse)
    with pytest.raises(SweepError, match=r"^Slurm takes no job for cpu: sbatch: error: no such "):
        sweep([make_case()], fleet)

    assert capfd.readouterr().err == ""


# What Slurm is asked for


@pytest.mark.parametrize(
    ("need", "options", "asked"),
    [
        ("L40S", {}, {"gres": "gpu:l40s:1"}),
        ("any", {}, {"gres": "gpu:1"}),
        ("any", {"constraint": "{kind}"}, {"gres": "gpu:1"}),
        ("any", {"gres": "gpu:a100:1"}, {"gres": "gpu:a100:1"}),
        ("cpu", {"gres": "gpu:a100:1"}, {"exclusive": True}),
        ("cpu", {}, {"exclusive": True}),
        ("cpu", {"constraint": "{kind}"}, {"exclusive": True}),
        ("A100 80GB", {}, {"gres": "gpu:a100_80gb:1"}),
        (
            "L4",
            {"gres": "gpu:nvidia_{kind}:1", "partition": "gpus", "constraint": "{kind}&ib"},
            {"gres": "gpu:nvidia_l4:1", "partition": "gpus", "constraint": "l4&ib"},
        ),
    ],
)
def test_a_kind_is_asked_for_as_a_person_says(make_fleet, need, options, asked):
    fleet = make_fleet([need], SlurmOptions(minutes=7, **options))

    always = {"timeout_min": 7, "cpus_per_task": 8, "mem_gb": 64}
    assert fleet.parameters(fleet.slots()[0]) == always | {"slurm_additional_parameters": asked}


def test_so_many_jobs_of_a_kind_are_in_the_queue_at_most(make_fleet):
    fleet = make_fleet(["L4", "H200"], SlurmOptions(jobs=3))

    assert fleet.free() == [Slot("L4", "L4")] * 3 + [Slot("H200", "H200")] * 3


def test_there_must_be_slurm(store, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SweepError, match=r"^There is no Slurm here \(.+\): type this on a machine"):
        SlurmFleet(["L4"], store, SlurmOptions())
