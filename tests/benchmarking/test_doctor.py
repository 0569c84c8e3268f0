"""The doctor: what is fine, what is not, and why."""

from __future__ import annotations

import os

import pytest

from benchmarking import doctor
from benchmarking.doctor import DELAYS_S, check_clock, check_images_decode, check_store, examine
from benchmarking.environment import ProbeError


@pytest.fixture(autouse=True)
def probed(monkeypatch, environment):
    monkeypatch.setattr(doctor, "probe_environment", lambda: environment)


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

    assert set(names) >= {"sam-bench", "cpu", "torch", "clock", "photographs", "load", "store"}


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
