"""Cases beyond this process: scripted workers that fail in every way, and the true one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from benchmarking.errors import SweepError
from benchmarking.sweeping import case_runner
from benchmarking.sweeping.case_runner import STDERR_TAIL_CHARS, LocalCaseRunner

READY = "stage('ready')\n"


# Workers that answer


def test_an_outcome_passes_through(measure):
    outcome, stages = measure(
        READY + "next(cases()); stage('latency'); outcome('invalid', stage='output', message='NaN')"
    )

    assert (outcome.status, outcome.stage, outcome.message) == ("invalid", "output", "NaN")
    assert outcome.wall_s == 1.5
    assert stages == ["ready", "latency"]


def test_the_worker_is_told_the_case_and_the_plan(launch, make_case, make_plan):
    case, plan = make_case(batch_size=7), make_plan(seed=9)
    echo = "outcome(message=json.dumps(json.loads(sys.stdin.readline())))"
    outcome = launch(READY + echo).measure(case, plan, lambda stage: None)

    assert outcome.message is not None
    assert f'"batch_size": {case.batch_size}' in outcome.message
    assert f'"seed": {plan.seed}' in outcome.message


def test_a_refusal_ends_the_sweep_with_its_line(measure):
    with pytest.raises(SweepError, match=r"^the checkpoint is empty\.$"):
        measure(READY + "say(kind='refusal', message='the checkpoint is empty.')")


def test_a_worker_that_ends_right_after_its_outcome_is_understood(measure):
    outcome, _ = measure(READY + "outcome(); os._exit(0)")

    assert outcome.status == "ok"


@pytest.mark.parametrize("ending", ["outcome('oom')", "outcome('oom'); time.sleep(600)"])
def test_what_a_failed_worker_printed_is_kept(measure, ending):
    outcome, _ = measure(f"{READY}print('Traceback', file=sys.stderr, flush=True); {ending}")

    assert outcome.status == "oom"
    assert outcome.stderr_tail == "Traceback\n"


def test_what_a_good_worker_printed_is_not(measure):
    outcome, _ = measure(READY + "print('warning', file=sys.stderr, flush=True); outcome()")

    assert outcome.stderr_tail is None


# Workers that fail


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("when", ["", READY, READY + "stage('latency')\n"])
def test_a_worker_that_is_killed_has_crashed_where_it_was(measure, number, when):
    outcome, stages = measure(f"{when}os.kill(os.getpid(), {int(number)}); time.sleep(600)")

    assert outcome.status == "crashed"
    assert outcome.message.startswith(f"the worker was killed by signal {int(number)} (")
    assert outcome.stage == (stages or ["start"])[-1]


def test_a_worker_that_dies_before_its_first_word_tells_why(measure):
    outcome, _ = measure("sys.exit('no torch here')")

    assert (outcome.status, outcome.stage) == ("crashed", "start")
    assert outcome.message == "the worker ended with exit code 1 and without an outcome"
    assert outcome.stderr_tail == "no torch here\n"


def test_a_worker_that_never_answers_is_a_timeout(measure):
    words = "stage('latency'); print('stuck', file=sys.stderr, flush=True); time.sleep(600)"
    outcome, _ = measure(READY + words, case_timeout_s=0.5)

    assert (outcome.status, outcome.stage) == ("timeout", "latency")
    assert outcome.message == "no outcome within 0.5 s"
    assert outcome.stderr_tail == "stuck\n"


def test_a_worker_that_is_never_ready_is_a_timeout(measure, monkeypatch):
    monkeypatch.setattr(case_runner, "START_TIMEOUT_S", 0.5)
    outcome, _ = measure("time.sleep(600)")

    assert (outcome.status, outcome.stage) == ("timeout", "start")


def test_a_slow_start_is_not_the_cases_time(measure):
    outcome, _ = measure("time.sleep(1)\n" + READY + "outcome()", case_timeout_s=0.5)

    assert outcome.status == "ok"


def test_a_worker_that_tells_stages_for_ever_is_a_timeout(measure):
    outcome, _ = measure(READY + "while True: stage('latency')", case_timeout_s=0.5)

    assert outcome.status == "timeout"


GARBAGE = {
    "text": "print('hello', flush=True)",
    "bytes": r"os.write(1, b'\xff\xfe\x00\n')",
    "JSON": "print('{}', flush=True)",
    "unknown word": "say(kind='song')",
    "NaN": """print('{"said":{"kind":"outcome","status":"ok","wall_s":NaN}}', flush=True)""",
    "for ever": "while True: print('hello')",
}


@pytest.mark.parametrize("script", GARBAGE.values(), ids=GARBAGE)
def test_a_worker_that_answers_garbage_has_crashed(measure, script):
    outcome, _ = measure(f"{READY}{script}\ntime.sleep(600)")

    assert outcome.status == "crashed"
    assert outcome.message == "the worker's answer can't be understood"


def test_a_line_without_an_end_is_cut(measure, monkeypatch):
    monkeypatch.setattr(case_runner, "MAX_ANSWER_CHARS", 1000)
    outcome, _ = measure(READY + "while True: os.write(1, b'x' * 100)")

    assert outcome.message == "the worker's answer can't be understood"


def test_of_a_worker_that_prints_for_ever_the_tail_is_kept(measure):
    outcome, _ = measure(READY + "while True: print('x' * 1000, file=sys.stderr)", case_timeout_s=1)

    assert outcome.status == "timeout"
    assert len(outcome.stderr_tail) == STDERR_TAIL_CHARS


# Grandchildren


@pytest.mark.parametrize("session", [False, True], ids=["same session", "own session"])
def test_a_hanging_grandchild_of_a_hanging_worker_is_ended_with_it(
    measure, wait_until, is_gone, session
):
    _, stages = measure(
        f"{READY}grandchild(start_new_session={session}); time.sleep(600)", case_timeout_s=0.5
    )

    wait_until(lambda: is_gone(int(stages[-1])))


@pytest.mark.parametrize("session", [False, True], ids=["same session", "own session"])
def test_a_hanging_grandchild_of_a_dead_worker_is_ended(measure, wait_until, is_gone, session):
    outcome, stages = measure(f"{READY}grandchild(start_new_session={session}); sys.exit(3)")

    assert outcome.message == "the worker ended with exit code 3 and without an outcome"
    wait_until(lambda: is_gone(int(stages[-1])))


def test_a_grandchild_that_can_not_be_found_is_not_waited_for(measure):
    words = "grandchild(start_new_session=True, env={}); sys.exit(3)"  # nothing tells whose it is
    outcome, stages = measure(READY + words)
    grandchild = psutil.Process(int(stages[-1]))
    grandchild.kill()  # it was there still, and held the worker's pipes

    assert outcome.status == "crashed"


# Which worker measures what

SERVING = (
    READY
    + "for case in cases(): stage(os.getpid()); outcome({4: 'oom'}.get(case['batch_size'], 'ok'))"
)


def test_a_worker_is_kept_while_cases_share_its_model(launch, measure_batches):
    statuses, pids = measure_batches(launch(SERVING), 1, 2, 3)

    assert statuses == ["ok"] * 3
    assert len(set(pids)) == 1


def test_inputs_share_a_worker(launch, measure_batches):
    launcher = launch(SERVING)
    pids = [measure_batches(launcher, 1, input=name)[1] for name in ("images", "noise")]

    assert pids[0] == pids[1]


@pytest.mark.parametrize("axis", ["model", "precision", "attention", "execution", "weights"])
def test_another_model_gets_another_worker_and_the_old_one_ends(
    launch, measure_batches, is_gone, axis
):
    launcher = launch(SERVING)
    (first,) = measure_batches(launcher, 1)[1]
    (second,) = measure_batches(launcher, 1, **{axis: "other"})[1]

    assert first != second
    assert is_gone(first)


def test_a_worker_is_replaced_after_a_case_that_failed(launch, measure_batches):
    statuses, pids = measure_batches(launch(SERVING), 2, 4, 8)

    assert statuses == ["ok", "oom", "ok"]
    assert pids[0] == pids[1] != pids[2]


def test_a_worker_that_died_between_cases_is_replaced_for_the_next(launch, measure_batches):
    launcher = launch(READY + "next(cases()); stage(os.getpid()); outcome(); os._exit(0)")
    statuses, _ = measure_batches(launcher, 1, 2, 3)

    assert statuses == ["ok", "crashed", "ok"]


def test_closing_leaves_no_process(launch, measure_batches, is_gone):
    launcher = launch(SERVING)
    (pid,) = measure_batches(launcher, 1)[1]
    launcher.close()
    launcher.close()

    assert is_gone(pid)


def test_a_closed_launcher_starts_again(launch, measure_batches):
    launcher = launch(SERVING)
    measure_batches(launcher, 1)
    launcher.close()

    assert measure_batches(launcher, 1)[0] == ["ok"]


def test_a_worker_killed_for_want_of_memory_is_oom(measure, monkeypatch):
    kills = iter([7, 8])  # the kernel's counter, at the worker's start and end
    monkeypatch.setattr(case_runner, "oom_kills", lambda: next(kills))
    outcome, _ = measure(READY + "os.kill(os.getpid(), signal.SIGKILL); time.sleep(600)")

    assert outcome.status == "oom"


# The true worker

NOISY = """
import os
from benchmarking.measuring import measure, worker

true = measure.measure_case

def noisy(*arguments):
    print("from Python", flush=True)
    os.write(1, b"from C\\n")
    return true(*arguments)

measure.measure_case = noisy
worker.main()
"""


def test_the_worker_measures_and_what_prints_inside_disturbs_nothing(make_case, make_plan):
    launcher = LocalCaseRunner((sys.executable, "-P", "-c", NOISY))
    stages = []
    try:
        outcome = launcher.measure(make_case(), make_plan(passes=("latency",)), stages.append)
    finally:
        launcher.close()

    assert outcome.status == "ok", outcome.stderr_tail
    assert stages == ["ready", "build", "inputs", "latency", "output"]
    assert len(outcome.measurement.latency.forward_s) >= 6


PARENT = """
import sys
from benchmarking.sweeping.case_runner import LocalCaseRunner
from benchmarking.sweeping.protocol import Request

request = Request.model_validate_json(sys.stdin.readline())
launcher = LocalCaseRunner()
launcher.measure(
    request.case,
    request.plan,
    lambda stage: print(launcher._worker.process.pid, stage, flush=True),
)
"""


def test_the_worker_dies_with_its_parent_however_that_dies(
    make_case, make_plan, wait_until, is_gone
):
    plan = make_plan(min_timed_s=3000, max_timed_s=3000, max_forwards=100_000, passes=("latency",))
    request = case_runner.Request(case=make_case(), plan=plan)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        parent.stdin.write(request.model_dump_json() + "\n")
        parent.stdin.flush()
        lines = (line.split() for line in parent.stdout)
        worker = next(int(pid) for pid, stage in lines if stage == "latency")
        os.kill(parent.pid, signal.SIGKILL)

    wait_until(lambda: is_gone(worker))
