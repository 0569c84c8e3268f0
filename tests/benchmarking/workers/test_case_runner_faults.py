"""Workers that hang, are stopped, cut loose what they started, or live by a clock that jumps."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from benchmarking.measuring.passes.table import PASSES
from benchmarking.sweeping import case_runner
from benchmarking.sweeping.case_runner import STDERR_TAIL_CHARS

READY = "stage('ready')\n"
STAGES = ("build", "inputs", *PASSES, "output")
BEATING = """
def beat(seconds, every=0.1):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        say(kind="beat")
        time.sleep(every)
"""


@pytest.fixture
def quick_silence(monkeypatch):
    """Workers that say nothing for half a second are thought to hang."""
    monkeypatch.setattr(case_runner, "SILENCE_LIMIT_S", 0.5)


# Beats


def test_a_beat_is_no_stage(measure):
    outcome, stages = measure(f"{BEATING}say(kind='beat')\n{READY}beat(0.3); outcome()")

    assert outcome.status == "ok"
    assert stages == ["ready"]


def test_a_worker_that_is_not_heard_any_more_is_a_timeout(measure, quick_silence):
    outcome, _ = measure(f"{BEATING}{READY}stage('latency'); beat(0.3); time.sleep(600)")

    assert (outcome.status, outcome.stage) == ("timeout", "latency")
    assert outcome.message == "the worker was not heard for 0.5 s: it hangs"


def test_a_worker_that_beats_is_waited_for(measure, quick_silence):
    outcome, _ = measure(f"{BEATING}{READY}beat(1.2); outcome()")

    assert outcome.status == "ok"


def test_a_worker_that_beats_is_ended_at_its_deadline(measure):
    outcome, _ = measure(f"{BEATING}{READY}beat(600)", case_timeout_s=0.5)

    assert outcome.message == "no outcome within 0.5 s"


def test_a_slow_start_may_be_silent(measure, quick_silence):
    outcome, _ = measure(f"time.sleep(1)\n{READY}outcome()")

    assert outcome.status == "ok"


def test_a_worker_that_was_heard_between_cases_is_kept(launch, measure_batches, quick_silence):
    launcher = launch(
        f"{BEATING}import threading\n"
        "threading.Thread(target=beat, args=(600,), daemon=True).start()\n"
        f"{READY}for case in cases(): stage(os.getpid()); outcome()"
    )
    first = measure_batches(launcher, 1)
    time.sleep(1)

    assert measure_batches(launcher, 2) == first == (["ok"], first[1])


# Stopped processes and clocks


def test_a_worker_that_is_stopped_is_ended(measure, quick_silence, is_gone):
    outcome, stages = measure(
        READY + "stage(os.getpid()); os.kill(os.getpid(), signal.SIGSTOP); outcome()"
    )

    assert outcome.status == "timeout"
    assert is_gone(int(stages[-1]))


STOPPED = """
import sys
from benchmarking.sweeping import case_runner
case_runner.SILENCE_LIMIT_S = 0.5
worker, request = sys.argv[1], case_runner.Request.model_validate_json(sys.stdin.readline())
launcher = case_runner.LocalCaseRunner((sys.executable, "-I", "-c", worker))
outcome = launcher.measure(request.case, request.plan, lambda stage: print(stage, flush=True))
launcher.close()
print(outcome.status, flush=True)
"""
ANSWERS_SOON = """
import json, sys, time
def say(**said):
    print(json.dumps({"said": said}), flush=True)
say(kind="stage", name="ready")
for _ in range(16):
    time.sleep(0.05)
    say(kind="beat")
say(kind="outcome", status="ok", wall_s=0.5)
time.sleep(600)
"""


def test_an_outcome_that_came_while_the_sweep_was_stopped_counts(make_case, make_plan):
    request = case_runner.Request(case=make_case(), plan=make_plan(case_timeout_s=1))
    with subprocess.Popen(
        [sys.executable, "-P", "-c", STOPPED, ANSWERS_SOON],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as sweep:  # fmt: skip
        sweep.stdin.write(request.model_dump_json() + "\n")
        sweep.stdin.flush()
        ready = sweep.stdout.readline()
        os.kill(sweep.pid, signal.SIGSTOP)
        time.sleep(1.5)  # as long as a suspend; over the silence and over the deadline
        os.kill(sweep.pid, signal.SIGCONT)

        assert (ready, sweep.stdout.readline()) == ("ready\n", "ok\n")


DAYS = {"forwards": 86_400.0, "backwards": -86_400.0}


@pytest.mark.parametrize("jump_s", DAYS.values(), ids=DAYS)
def test_a_clock_that_jumps_ends_no_case(measure, monkeypatch, jump_s):
    jumps = itertools.count(time.time(), jump_s)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    outcome, _ = measure(f"{BEATING}{READY}beat(0.6); outcome()", case_timeout_s=60)

    assert outcome.status == "ok"


@pytest.mark.parametrize("jump_s", DAYS.values(), ids=DAYS)
def test_a_clock_that_jumps_moves_no_deadline(measure, monkeypatch, jump_s):
    began = time.monotonic()
    jumps = itertools.count(time.time(), jump_s)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    outcome, _ = measure(f"{BEATING}{READY}beat(600)", case_timeout_s=0.5)

    assert outcome.status == "timeout"
    assert 0.5 <= outcome.wall_s < time.monotonic() - began < 60


# Deaths and words without end


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_killed_in_any_stage_has_crashed_there(measure, stage, number):
    outcome, _ = measure(f"{READY}stage('{stage}'); os.kill(os.getpid(), {int(number)})")

    assert (outcome.status, outcome.stage) == ("crashed", stage)
    assert outcome.message.startswith(f"the worker was killed by signal {int(number)} (")


def test_a_worker_that_prints_for_ever_beside_its_answer_is_ok(measure):
    outcome, _ = measure(
        f"{READY}if not os.fork():\n while True: os.write(2, b'x' * 100_000)\n"
        "time.sleep(0.5); outcome('oom')"
    )

    assert outcome.status == "oom"
    assert len(outcome.stderr_tail) == STDERR_TAIL_CHARS


def test_a_cuda_error_ends_its_worker_and_the_next_cases_share_a_new_one(launch, measure_batches):
    answer = "outcome({4: 'cuda_error'}.get(case['batch_size'], 'ok'))"
    launcher = launch(f"{READY}for case in cases(): stage(os.getpid()); {answer}")
    statuses, pids = measure_batches(launcher, 2, 4, 8, 16)

    assert statuses == ["ok", "cuda_error", "ok", "ok"]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert not psutil.pid_exists(pids[0])


def test_a_worker_that_dies_before_each_first_word_stops_no_other_case(launch, measure_batches):
    statuses, _ = measure_batches(launch("sys.exit('no torch here')"), 1, 2)

    assert statuses == ["crashed", "crashed"]


# Grandchildren


ORPHAN = """
stage('ready')
read, write = os.pipe()
if not os.fork():
    os.setsid()
    if not os.fork():
        os.write(write, str(os.getpid()).encode())
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    os._exit(0)
stage(os.read(read, 20).decode())
"""


@pytest.mark.parametrize("end", ["outcome()", "os._exit(3)", "time.sleep(600)"])
def test_a_daemon_of_a_worker_is_gone_after_close(launch, make_case, make_plan, is_gone, end):
    launcher, stages = launch(ORPHAN + end), []
    launcher.measure(make_case(), make_plan(case_timeout_s=0.5), stages.append)
    launcher.close()

    assert is_gone(int(stages[-1]))


def test_the_worker_of_another_sweep_lives_on(launch, measure_batches, is_gone):
    serving = f"{READY}for case in cases(): stage(os.getpid()); outcome()"
    kept, closed = launch(serving), launch(serving)
    pids = [measure_batches(each, 1)[1][0] for each in (kept, closed)]
    closed.close()

    assert [is_gone(pid) for pid in pids] == [False, True]
    assert measure_batches(kept, 2) == (["ok"], [pids[0]])
