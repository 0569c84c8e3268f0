"""Sweeps among faults, from the command line: a store that goes away, company, and Ctrl-C."""

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

from results.records.repair import look_over
from results.records.store import Store, to_json

DELAYS_S = (0.0, 0.001, 0.004, 0.015, 0.06)  # from the first Ctrl-C to the second
PROGRAM = """
import json, sys, time
from benchmarking.machine import environment
from benchmarking.sweeping import case_runner
from benchmarking.cli import main
from results.records.environment import Environment

machine, worker, words = json.load(sys.stdin)
environment.probe_environment = lambda: Environment.model_validate(machine)
true = case_runner.LocalCaseRunner
case_runner.LocalCaseRunner = lambda: true((sys.executable, "-I", "-c", worker))
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


def is_fine(store):
    return all(look.is_fine for look in look_over(store))


# The store


def test_a_sweep_whose_store_was_removed_says_what_is_not_there(invoke, launcher):
    launcher.before = lambda case: case.batch_size == 4 and shutil.rmtree("runs")
    line = "sweep -m tiny -b 1,2,4 --passes flops"
    first = invoke(line)
    launcher.before = lambda case: None
    second = invoke(line)

    assert re.search(r"3 cases planned: \d ok, \d not.run", first.stdout)
    assert "goes on: " in second.stdout
    assert "3 cases planned: 3 ok" in second.stdout


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


# Company and Ctrl-C, in true processes


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


@pytest.mark.parametrize(
    ("number", "delay_s"),
    [(signal.SIGTERM, None), *((signal.SIGINT, delay_s) for delay_s in (None, *DELAYS_S))],
)
def test_ctrl_c_once_or_twice_or_sigterm_ends_a_sweep_that_hangs_and_the_same_goes_on(
    start, tmp_path, wait_until, is_gone, number, delay_s
):
    process = start()
    wait_until(lambda: (tmp_path / "hangs").exists())
    process.send_signal(number)
    if delay_s is not None:
        time.sleep(delay_s)
        process.send_signal(number)
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
