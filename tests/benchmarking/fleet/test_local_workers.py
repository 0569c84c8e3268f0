"""Worker processes on made-up GPUs, side by side: what each sees, and what their records tell."""

from __future__ import annotations

import secrets
import sys
import threading

import pytest

from benchmarking.sweeping import case_runner
from benchmarking.sweeping.case_runner import LocalCaseRunner

L4, H200 = "NVIDIA L4", "NVIDIA H200"
TOGETHER_S = 20.0  # for threads to meet; they do at once, or never

MEETING = """
seen = os.environ["CUDA_VISIBLE_DEVICES"]
open(os.path.join(FOLDER, seen), "w").close()
stage("ready")
for case in cases():
    while len(os.listdir(FOLDER)) < 2:
        time.sleep(0.01)
    told = {"weights": "random", "input_source": seen}
    outcome(measurement=told)
"""


@pytest.fixture
def side_by_side(run_local, fakes, make_cases, make_machine, tmp_path, monkeypatch):
    """Two worker processes that measure at once, of which none ends before both were looked at."""
    mark = f"SAM_BENCH_TEST_{secrets.token_hex(8)}"  # of whatever else runs here
    monkeypatch.setattr(case_runner, "MARK", mark)
    folder = tmp_path / "workers"
    folder.mkdir()
    command = (sys.executable, "-I", "-c", f"FOLDER = {str(folder)!r}\n{fakes.WORDS}{MEETING}")
    both_looked = threading.Barrier(2)

    class Patient(LocalCaseRunner):
        def measure(self, case, plan, on_stage):
            outcome = super().measure(case, plan, on_stage)
            both_looked.wait(TOGETHER_S)
            return outcome

    run_local(make_cases(2), make_machine(L4, H200), lambda gpu: Patient(command, gpu))
    return sorted(folder.iterdir())


def test_each_worker_sees_a_gpu_of_its_own(side_by_side, store):
    told = {record.gpu.uuid: record.measurement.input_source for record in store.read().records}

    assert [path.name for path in side_by_side] == ["GPU-0", "GPU-1"]
    assert told == {"GPU-0": "GPU-0", "GPU-1": "GPU-1"}


def test_each_record_names_the_worker_beside_its_own(side_by_side, store):
    others = {record.gpu.uuid: record.co_tenants for record in store.read().records}

    assert [tenant.gpu for tenant in others["GPU-0"]] == ["GPU-1"]
    assert [tenant.gpu for tenant in others["GPU-1"]] == ["GPU-0"]


def test_a_case_that_did_not_run_alone_is_warned_of(side_by_side, store):
    records = store.read().records
    found = {record.gpu.uuid: record.checks["co_tenants"] for record in records}

    assert {check.verdict for check in found.values()} == {"warn"}
    assert found["GPU-0"].reason == "other cases ran on this machine at once: GPU-1"
