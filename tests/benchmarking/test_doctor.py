"""The doctor: what is fine, what is not, and why."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarking.machine import doctor
from benchmarking.machine import environment as environment_file
from benchmarking.machine.doctor import (
    DELAYS_S,
    ask_referee,
    check_clock,
    check_images_decode,
    check_referee,
    check_store,
    examine,
)
from benchmarking.machine.environment import ProbeError


@pytest.fixture(autouse=True)
def probed(monkeypatch, environment):
    monkeypatch.setattr(doctor, "probe_environment", lambda: environment)


@pytest.fixture(autouse=True)
def refereed(monkeypatch):
    """Let the referee answer this, which can be changed; 'asked' are the devices."""
    answer = {"own_s": 0.00025, "referee_s": 0.00025, "ratio": 1.0, "limit": 0.1, "rounds": 10}
    asked = []
    monkeypatch.setattr(doctor, "ask_referee", lambda device: asked.append(device) or answer)
    answer["asked"] = asked
    return answer


@pytest.fixture
def clock_that_tells(monkeypatch):
    """Let each delay be measured as a factor of itself."""

    def install(factors):
        now = [0.0]
        spent = dict(zip(DELAYS_S, factors, strict=True))

        def sleep(seconds):
            now[0] += seconds * spent[seconds]

        monkeypatch.setattr(doctor.time, "perf_counter", lambda: now[0])
        return sleep

    return install


def test_everything_that_a_sweep_needs_is_looked_at(tmp_path):
    names = [finding.name for finding in examine(tmp_path)]

    assert set(names) >= {
        "sam-bench", "cpu", "torch", "referee", "clock", "photographs", "load", "store",
    }  # fmt: skip


def test_a_missing_gpu_is_a_fact_and_no_fault(tmp_path):
    assert [
        finding for finding in doctor.describe(doctor.probe_environment()) if not finding.is_fine
    ] == []


def test_a_torch_that_can_not_be_loaded_is_a_fault_and_the_rest_is_looked_at(tmp_path, monkeypatch):
    def fail():
        raise ProbeError("torch can't be loaded (no message): install it again with pip.")

    monkeypatch.setattr(doctor, "probe_environment", fail)
    findings = {finding.name: finding for finding in examine(tmp_path)}

    assert not findings["torch"].is_fine
    assert findings["store"].is_fine


@pytest.mark.parametrize(
    ("factors", "is_fine"),
    [
        ((1.0, 1.0, 1.0), True),
        ((1.04, 1.0, 1.0), True),
        ((2.0, 2.0, 2.0), False),
        ((1.0, 1.0, 1.1), False),
    ],
)
def test_a_clock_must_tell_known_delays(clock_that_tells, factors, is_fine):
    assert check_clock(clock_that_tells(factors)).is_fine is is_fine


# The referee


@pytest.mark.parametrize(
    ("ratio", "limit", "is_fine"),
    [
        (0.91, 0.1, True),
        (1.09, 0.1, True),
        (0.89, 0.1, False),
        (1.11, 0.1, False),
        (1.015, 0.02, True),
        (1.025, 0.02, False),
    ],
)
def test_our_time_must_be_near_the_referees(refereed, ratio, limit, is_fine):
    refereed.update(ratio=ratio, limit=limit)

    assert check_referee("cpu").is_fine is is_fine


def test_the_referees_finding_says_all_that_it_is_made_of(refereed):
    refereed.update(referee_s=0.0002, ratio=1.25)

    assert check_referee("cpu").detail == (
        "a matrix product on cpu takes 0.25 ms by our clock, 0.2 ms by "
        "torch.utils.benchmark.Timer: ratio 1.250 of the least of 10 rounds in turn; fine within "
        "10 %, since other work shares a CPU"
    )


def test_a_gpu_is_not_excused_by_other_work_on_the_cpu(refereed):
    refereed["limit"] = 0.02

    assert check_referee("cuda:0").detail.endswith("; fine within 2 %")


def test_a_machine_without_a_gpu_is_refereed_on_its_cpu(tmp_path, refereed):
    examine(tmp_path)

    assert refereed["asked"] == ["cpu"]


def test_a_machine_with_gpus_is_refereed_on_the_first(
    tmp_path, refereed, monkeypatch, make_gpu_environment
):
    monkeypatch.setattr(doctor, "probe_environment", lambda: make_gpu_environment("9.0", "9.0"))
    examine(tmp_path)

    assert refereed["asked"] == ["cuda:0"]


def test_a_machine_without_torch_is_not_refereed(tmp_path, refereed, monkeypatch):
    def fail():
        raise ProbeError("torch can't be loaded (no message): install it again with pip.")

    monkeypatch.setattr(doctor, "probe_environment", fail)
    examine(tmp_path)

    assert refereed["asked"] == []


def test_a_referee_that_can_not_be_asked_is_a_fault(monkeypatch):
    def fail(device):
        raise ProbeError("why not")

    monkeypatch.setattr(doctor, "ask_referee", fail)
    finding = check_referee("cpu")

    assert (finding.is_fine, finding.detail) == (False, "why not")


@pytest.fixture
def referee_process(monkeypatch):
    """Let the referee's process do something else."""
    true = subprocess.run

    def install(script):
        def run(command, **options):
            return true([sys.executable, "-I", "-c", script], **options)

        monkeypatch.setattr(environment_file.subprocess, "run", run)

    return install


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("", "no message"),
        ("print(' ')", "no message"),
        ("raise SystemExit('a\\nwhy not')", "why not"),
        ("print('{}'); raise SystemExit('why not')", "why not"),
    ],
)
def test_a_referee_that_does_not_answer_is_told_in_one_line(referee_process, script, reason):
    referee_process(script)
    with pytest.raises(ProbeError) as caught:
        ask_referee("cpu")

    assert str(caught.value) == (
        f"No forward could be refereed ({reason}): see what this prints: "
        "python -m benchmarking.measuring.reference_timer cpu. If it is torch that can't be "
        "loaded, install it again with pip."
    )


@pytest.mark.parametrize("answer", ["nonsense", "{}", "[]", "3", '{"own_s": 1}'])
def test_a_referee_that_answers_something_else_is_told_in_one_line(referee_process, answer):
    referee_process(f"print({answer!r})")
    with pytest.raises(ProbeError) as caught:
        ask_referee("cpu")

    assert str(caught.value) == (
        "No forward could be refereed: see what this prints: "
        "python -m benchmarking.measuring.reference_timer cpu"
    )


def test_a_referee_that_takes_too_long_is_told(referee_process, monkeypatch):
    monkeypatch.setattr(environment_file, "PROBE_TIMEOUT_S", 0.2)
    referee_process("import time; time.sleep(60)")
    with pytest.raises(
        ProbeError, match=r"^No forward could be refereed: it took more than 0 s\.$"
    ):
        ask_referee("cpu")


def test_a_true_referee_answers_all_that_the_finding_says():
    assert set(ask_referee("cpu")) == {"own_s", "referee_s", "ratio", "limit", "rounds"}


def test_the_doctor_leaves_torch_to_other_processes(tmp_path):
    code = "import sys, pathlib; from benchmarking.machine.doctor import examine; "
    code += "examine(pathlib.Path('.')); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"


def test_the_photographs_that_come_with_sam_bench_decode():
    assert check_images_decode().is_fine


@pytest.mark.parametrize("place", ["runs", "deep/er/runs"])
def test_a_store_that_a_sweep_would_make_is_fine_and_is_not_made(tmp_path, place):
    finding = check_store(tmp_path / place)

    assert finding.is_fine, finding.detail
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "pipe", "link to itself", "below a file"])
def test_a_store_that_can_not_be_written_is_a_fault_in_one_line(tmp_path, kind):
    path = tmp_path / "runs"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path)
    else:
        path.touch()
    finding = check_store(path / "below" if kind == "below a file" else path)

    assert not finding.is_fine
    assert "can't be written: " in finding.detail
    assert "\n" not in finding.detail


def test_a_store_without_room_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 2**80)

    assert not check_store(tmp_path).is_fine
