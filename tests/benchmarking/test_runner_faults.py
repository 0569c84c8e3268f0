"""Sweeps among faults: workers that fail in every way, a store that goes away, Ctrl-C, company."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarking.runner import Options, run_sweep
from results.repair import look_over, repair
from results.store import Store, StoreError, to_json

# A worker's end by batch size, and what it makes of the case.
ENDS = {
    1: ("outcome(**NOTHING)", "ok"),
    2: ("os.kill(os.getpid(), 9)", "crashed"),
    3: ("os.kill(os.getpid(), 11)", "crashed"),
    4: ("time.sleep(600)", "timeout"),
    5: ("os.write(1, b'x' * 10_000 + bytes([10]))", "crashed"),
    6: ("outcome('cuda_error')", "cuda_error"),
    7: ("sys.exit(1)", "crashed"),
    8: ("grandchild(start_new_session=True); sys.exit(1)", "crashed"),
    9: ("while True: stage('latency')", "timeout"),
    10: ("while True: os.write(2, b'x' * 10_000)", "timeout"),
    11: ("outcome('oom')", "oom"),
    12: ("outcome(**NOTHING)", "ok"),
}
NOTHING = "NOTHING = {'measurement': {'weights': 'random', 'input_source': 'noise'}}\n"
FAULTY = (
    NOTHING
    + "stage('ready')\nfor case in cases():\n"
    + "".join(
        f"    if case['batch_size'] == {size}:\n        {end}\n" for size, (end, _) in ENDS.items()
    )
)


class Silent:
    """A watcher that shows nothing."""

    def __getattr__(self, name):
        return lambda *arguments: None


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def cases(make_case):
    return [make_case(batch_size=size) for size in ENDS]


@pytest.fixture
def run(store, cases, make_plan, environment):
    """Run a sweep of all batch sizes; give its id."""

    def start(launcher, **changes):
        arguments = {
            "cases": cases,
            "plan": make_plan(case_timeout_s=0.5),
            "environment": environment,
            "store": store,
            "watcher": Silent(),
            "command": "sam-bench sweep",
            "options": Options(prunes=False),
        }
        return run_sweep(launcher=launcher, **arguments | changes)

    return start


@pytest.fixture
def statuses(store):
    return lambda: {record.case.batch_size: record.status for record in store.read().records}


@pytest.fixture
def measured(scripted_launcher):
    """A launcher whose cases are all ok, and which calls a function before each."""
    return lambda before=lambda case: None: scripted_launcher(before=before)


def is_fine(store):
    return all(look.is_fine for look in look_over(store))


# Workers


def test_no_worker_stops_a_sweep(run, launch, store, statuses):
    run(launch(FAULTY))

    assert statuses() == {size: status for size, (_, status) in ENDS.items()}
    assert is_fine(store)


def test_what_failing_workers_left_is_measured_by_better_ones(run, launch, measured, statuses):
    run(launch(FAULTY))
    launcher = measured()
    run(launcher)

    assert set(launcher.batch_sizes) == set(ENDS) - {1, 11, 12}
    assert set(statuses().values()) == {"ok", "oom"}


# The store


def test_a_store_that_is_removed_meanwhile_is_made_again_with_its_plan(
    run, store, measured, statuses, cases
):
    def remove(case):
        if case.batch_size == 6:
            shutil.rmtree(store.path)

    sweep_id = run(measured(remove))
    (look,) = look_over(store)
    again = measured()

    assert list(statuses()) == [6, 7, 8, 9, 10, 11, 12]
    assert look.planned == tuple(cases)
    assert [case.batch_size for case in look.missing] == [1, 2, 3, 4, 5]
    assert run(again) == sweep_id
    assert again.batch_sizes == [1, 2, 3, 4, 5]
    assert is_fine(store)


def test_a_sweep_whose_store_was_removed_says_what_is_not_there(invoke, launcher):
    launcher.before = lambda case: case.batch_size == 4 and shutil.rmtree("runs")
    line = "sweep -m tiny -b 1,2,4 --passes flops"
    first = invoke(line)
    launcher.before = lambda case: None
    second = invoke(line)

    assert re.search(r"3 cases planned: \d ok, \d not.run", first.stdout)
    assert "goes on: " in second.stdout
    assert "3 cases planned: 3 ok" in second.stdout


def test_a_file_in_the_stores_place_ends_the_sweep_in_one_line(run, store, measured):
    def replace(case):
        if case.batch_size == 6:
            shutil.rmtree(store.path)
            store.path.write_text("no folder")

    with pytest.raises(StoreError, match=r"^'[^\n]*' can't be written: [^\n]*--store[^\n]*$"):
        run(measured(replace))


@pytest.mark.parametrize("step", ["fsync", "replace", "mkdir"])
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_a_disk_that_fills_up_ends_the_sweep_with_exit_code_2_and_the_same_goes_on(
    invoke, launcher, monkeypatch, step, writes
):
    line = "sweep -m tiny -b 1,2,4 --passes flops"
    with monkeypatch.context() as patch:
        true, room = getattr(os, step), itertools.count(-writes)

        def fill(*arguments, **options):
            if next(room) >= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return true(*arguments, **options)

        patch.setattr(os, step, fill)
        stopped = invoke(line)
    before = Store("runs").read() if Path("runs").exists() else None
    finished = invoke(line)

    if stopped.exit_code:  # the folders are made once
        assert stopped.exit_code == 2
        assert re.search(
            r"^Error: '.*' can't be written: No space left on device\..*$", stopped.stderr
        )
        assert len(stopped.stderr.splitlines()) == 1
    assert before is None or before.problems == []
    assert finished.exit_code == 0
    assert "3 cases planned: 3 ok" in finished.stdout
    assert is_fine(Store("runs"))


def test_a_sweep_with_a_rebuilt_plan_goes_on(run, store, measured, cases):
    sweep_id = run(measured())
    store.case_path(sweep_id, cases[3].case_id).unlink()
    (store.path / sweep_id / "sweep.json").write_text("{")
    list(repair(store))
    again = measured()

    assert run(again) == sweep_id
    assert again.batch_sizes == [4]
    assert store.read().sweeps[0].cases == tuple(cases)
    assert is_fine(store)


# Company and Ctrl-C, in true processes


DELAYS_S = (0.0, 0.001, 0.004, 0.015, 0.06)  # from the first Ctrl-C to the second
PROGRAM = """
import json, sys, time
from benchmarking import environment, launchers
from benchmarking.cli import main
from results.schema import Environment

machine, worker, words = json.load(sys.stdin)
environment.probe_environment = lambda: Environment.model_validate(machine)
launchers.LAUNCHERS["local"] = lambda: launchers.LocalLauncher((sys.executable, "-I", "-c", worker))
main(words)
"""
HANGING = """
import json, os, signal, subprocess, sys, time
def say(**said):
    print(json.dumps({"said": said}), flush=True)
nothing = {"weights": "random", "input_source": "noise"}
say(kind="stage", name="ready")
for line in sys.stdin:
    size = json.loads(line)["case"]["batch_size"]
    open("pids", "a").write(f"{os.getpid()}\\n")
    if size == 4 and not os.path.exists("go on"):
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        open("hangs", "w").close()
        time.sleep(600)
    time.sleep(0.02)
    say(kind="outcome", status="ok", wall_s=0.02, measurement=nothing)
"""


@pytest.fixture
def start(tmp_path, environment):
    """Begin a true sweep of scripted workers in tmp_path."""
    started = []

    def begin(*words):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM], cwd=tmp_path, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        given = ["sweep", "-m", "tiny", "-b", "1,2,4,8", "--passes", "latency", *words]
        json.dump([json.loads(to_json(environment)), HANGING, given], process.stdin)
        process.stdin.close()
        process.stdin = None
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def workers(folder):
    return {int(line) for line in (folder / "pids").read_text().split()}


@pytest.mark.parametrize("delay_s", [None, *DELAYS_S])
def test_ctrl_c_once_or_twice_ends_a_sweep_that_hangs_and_the_same_goes_on(
    start, tmp_path, wait_until, is_gone, delay_s
):
    process = start()
    wait_until(lambda: (tmp_path / "hangs").exists())
    process.send_signal(signal.SIGINT)
    if delay_s is not None:
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    pids = workers(tmp_path)
    stored = {each.case.batch_size: each.status for each in Store(tmp_path / "runs").read().records}
    (tmp_path / "go on").touch()
    again = start()
    output, _ = again.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert errors == "Interrupted. The same command goes on where this one stopped.\n"
    assert stored in ({1: "ok", 2: "ok", 4: "interrupted"}, {1: "ok", 2: "ok"})
    assert all(is_gone(pid) for pid in pids)
    assert again.returncode == 0
    assert "4 cases planned: 4 ok\n" in output
    assert is_fine(Store(tmp_path / "runs"))


def test_of_two_equal_sweeps_at_once_one_is_refused_in_one_line(start, tmp_path, wait_until):
    first = start()
    wait_until(lambda: (tmp_path / "hangs").exists())
    second = start()
    _, errors = second.communicate(timeout=60)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)

    assert second.returncode == 2
    assert re.search(r"^Error: Another process is running sweep [^\n]*\n$", errors)
    assert {each.status for each in Store(tmp_path / "runs").read().records} == {
        "ok",
        "interrupted",
    }


def test_two_different_sweeps_at_once_both_finish(start, tmp_path):
    (tmp_path / "go on").touch()
    both = [start("--seed", str(seed)) for seed in (1, 2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    store = Store(tmp_path / "runs")

    assert [process.returncode for process in both] == [0, 0]
    assert all("4 cases planned: 4 ok\n" in output for output in outputs)
    assert len(store.sweep_ids()) == 2
    assert is_fine(store)


# Clocks


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_a_clock_that_jumps_makes_no_record_wrong(run, measured, store, monkeypatch, jump_s):
    jumps = itertools.count(time.time(), jump_s)
    monkeypatch.setattr(time, "time", lambda: next(jumps))

    def stop(case):
        if case.batch_size == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(measured(stop))

    assert all(0 <= record.wall_s < 60 for record in store.read().records)
