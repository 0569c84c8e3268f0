"""Who else measures on this machine while a case is measured: workers of ours, and nobody else."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from benchmarking.sweeping import case_runner
from benchmarking.sweeping.case_runner import VISIBLE, CoTenantWatch, LocalCaseRunner

TOGETHER_S = 20.0
SERVING = "stage('ready')\nfor case in cases(): stage(os.getpid()); outcome()"
FAMILY = "stage('ready')\nfor case in cases(): grandchild(); stage(os.getpid()); outcome()"


@pytest.fixture(autouse=True)
def own_mark(monkeypatch):
    """Workers of other tests, and of whatever else runs here, are marked otherwise."""
    mark = f"SAM_BENCH_TEST_{secrets.token_hex(8)}"
    monkeypatch.setattr(case_runner, "MARK", mark)
    return mark


@pytest.fixture(autouse=True)
def no_gpu_chosen(monkeypatch):
    monkeypatch.delenv(VISIBLE, raising=False)


@pytest.fixture
def start(launch, make_case, make_plan):
    """Start a worker that serves; gives its launcher, its pid, and what measures its next case."""

    def make(script=SERVING, gpu=None):
        launcher, stages = launch(script), []
        launcher.gpu = gpu

        def measure():
            return launcher.measure(make_case(), make_plan(), stages.append)

        first = measure()
        pid = int(next(stage for stage in reversed(stages) if stage.isdecimal()))
        return SimpleNamespace(case_runner=launcher, first=first, measure=measure, pid=pid)

    return make


def others(outcome):
    return [(tenant.pid, tenant.gpu) for tenant in outcome.co_tenants]


# Who is there


def test_a_worker_that_is_alone_sees_nobody(start):
    assert start().first.co_tenants == ()


def test_a_worker_sees_one_that_was_there_before(start):
    there = start()

    assert others(start().first) == [(there.pid, None)]


def test_two_that_measure_at_once_see_one_another(launch, make_case, make_plan):
    meeting, outcomes = threading.Barrier(2), {}

    def measure(gpu):
        launcher = launch(SERVING)
        launcher.gpu = gpu
        meeting.wait(TOGETHER_S)
        # The first case starts the workers; in the second both are there.
        for _ in range(2):
            outcomes[gpu] = launcher.measure(make_case(), make_plan(), lambda stage: None)
            meeting.wait(TOGETHER_S)

    threads = [threading.Thread(target=measure, args=(gpu,)) for gpu in ("GPU-a", "GPU-b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [tenant.gpu for tenant in outcomes["GPU-a"].co_tenants] == ["GPU-b"]
    assert [tenant.gpu for tenant in outcomes["GPU-b"].co_tenants] == ["GPU-a"]


@pytest.mark.parametrize("gpu", [None, "GPU-4b9f71d4", "MIG-4b9f71d4"])
def test_a_neighbour_is_told_with_its_pid_and_its_gpu(start, gpu):
    there = start(gpu=gpu)

    assert others(start().first) == [(there.pid, gpu)]


def test_all_neighbours_are_told(start):
    there = {start(gpu=f"GPU-{number}").pid for number in range(3)}

    assert {pid for pid, _ in others(start().first)} == there


def test_a_neighbour_that_has_ended_is_nobodys_company(start):
    start().case_runner.close()

    assert start().first.co_tenants == ()


def test_a_neighbour_that_ends_meanwhile_was_company(start, launch, make_case, make_plan):
    there = start()
    outcome = launch(SERVING).measure(
        make_case(), make_plan(), lambda stage: there.case_runner.close()
    )

    assert others(outcome) == [(there.pid, None)]


# Who is no company


def test_a_workers_own_children_are_no_company(start):
    assert start(FAMILY).first.co_tenants == ()


def test_a_neighbour_with_children_is_told_once(start):
    start(FAMILY)

    assert len(start().first.co_tenants) == 1


def test_a_process_that_no_worker_started_is_no_company(start):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        outcome = start().first
        stranger.communicate()

    assert outcome.co_tenants == ()


# When it is looked


def test_a_neighbour_that_comes_and_goes_is_seen_where_there_is_time_to_look(
    start, monkeypatch, own_mark
):
    monkeypatch.setattr(case_runner, "LOOK_S", 0.0)
    company = CoTenantWatch("ours")
    with subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        env={**os.environ, own_mark: "theirs", VISIBLE: "GPU-9"},
    ) as neighbour:
        company.look_now_and_then()
        neighbour.communicate()
    company.look()

    assert [(each.pid, each.gpu) for each in company.seen()] == [(neighbour.pid, "GPU-9")]


def test_a_neighbour_that_comes_meanwhile_is_seen_at_the_end(start, launch, make_case, make_plan):
    came = []

    def come(stage):
        came.append(start())

    outcome = launch("stage('ready'); outcome()").measure(make_case(), make_plan(), come)

    assert others(outcome) == [(came[0].pid, None)]


def test_it_is_looked_seldom(monkeypatch):
    company = CoTenantWatch("ours")
    looked = []
    monkeypatch.setattr(company, "look", lambda: looked.append(1))
    for _ in range(100):
        company.look_now_and_then()

    assert looked == []


ENDS = {
    "an error": "stage('ready'); outcome('oom')",
    "a crash": "stage('ready'); os._exit(3)",
    "garbage": "stage('ready'); print('hello', flush=True); time.sleep(600)",
    "a timeout": "stage('ready'); time.sleep(600)",
}


@pytest.mark.parametrize("script", ENDS.values(), ids=ENDS)
def test_company_is_told_however_a_case_ends(start, launch, make_case, make_plan, script):
    there = start()
    plan = make_plan(case_timeout_s=0.5)
    outcome = launch(script).measure(make_case(), plan, lambda stage: None)

    assert outcome.status != "ok"
    assert others(outcome) == [(there.pid, None)]


# The GPU that a worker sees

SEEN = "stage('ready'); outcome(message=str(os.environ.get('CUDA_VISIBLE_DEVICES')))"


@pytest.mark.parametrize("outer", [None, "0,1"])
@pytest.mark.parametrize("gpu", [None, "GPU-4b9f71d4"])
def test_a_worker_sees_its_gpu_or_what_this_process_sees(
    fakes, make_case, make_plan, monkeypatch, outer, gpu
):
    if outer is not None:
        monkeypatch.setenv(VISIBLE, outer)
    launcher = LocalCaseRunner((sys.executable, "-I", "-c", fakes.WORDS + SEEN), gpu)
    outcome = launcher.measure(make_case(), make_plan(), lambda stage: None)
    launcher.close()

    assert outcome.message == str(gpu or outer)


def test_binding_a_worker_changes_nothing_here(start):
    start(gpu="GPU-4b9f71d4")

    assert VISIBLE not in os.environ
