"""`sam-bench doctor --calibrate`: what it keeps in the store and says, and what is a fault."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest

from benchmarking.choices.precision import PRECISIONS
from benchmarking.machine import doctor, environment
from results.records.measurement import MeasuredRoofs
from results.records.store import Store

ON_A_CPU = [name for name, precision in PRECISIONS.items() if precision.on_cpu]


@pytest.fixture
def asked(monkeypatch, roofs):
    """Let a device be calibrated at once; the devices that were asked for."""
    devices = []

    def ask(module, device, task):
        assert module == "benchmarking.measuring.calibrate"
        devices.append(device)
        return roofs.model_dump_json()

    monkeypatch.setattr(doctor, "ask", ask)
    return devices


@pytest.fixture
def calibrate_with(monkeypatch):
    """Let the process that calibrates run this instead."""
    true = subprocess.run

    def install(script):
        run = partial(true, [sys.executable, "-I", "-c", script])
        monkeypatch.setattr(environment.subprocess, "run", lambda command, **rest: run(**rest))

    return install


def test_the_doctor_keeps_the_roofs_in_the_store_and_says_each(invoke, asked, roofs, tmp_path):
    result = invoke("doctor --calibrate --store kept")
    told = [line.partition(":")[0] for line in result.stdout.splitlines() if "ok  roof" in line]

    assert told == [f"ok  roof of cpu, {name}" for name in (*ON_A_CPU, "memory")]
    assert Store(tmp_path / "kept").read_roofs() == [
        MeasuredRoofs.model_validate_json(roofs.model_dump_json())
    ]


def test_the_doctor_says_where_the_roofs_lie(invoke, asked, tmp_path):
    result = invoke("doctor --calibrate --store kept")
    (path,) = (tmp_path / "kept" / "roofs").iterdir()

    assert f"all kept in 'kept/roofs/{path.name}'" in result.stdout


def test_calibrating_again_replaces_what_was_kept(invoke, asked, tmp_path):
    for _ in range(2):
        invoke("doctor --calibrate --store kept")

    assert len(Store(tmp_path / "kept").read_roofs()) == 1


def test_nothing_is_calibrated_unless_it_is_asked_for(invoke, asked, tmp_path):
    result = invoke("doctor --store kept")

    assert asked == []
    assert "roof" not in result.stdout
    assert not (tmp_path / "kept").exists()


def test_every_gpu_is_calibrated_and_not_the_cpu(
    tmp_path, monkeypatch, asked, make_gpu_environment
):
    monkeypatch.setattr(doctor, "probe_environment", lambda: make_gpu_environment("9.0", "9.0"))
    monkeypatch.setattr(doctor, "check_referee", lambda device: doctor.Diagnosis("x", True, ""))
    doctor.examine(tmp_path, calibrates=True)

    assert asked == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit('a\\nwhy not')", "cpu could not be calibrated (why not): see what this"),
        ("", "cpu could not be calibrated (no message): see what this prints: python -m"),
        ("print('{}')", "validation errors for MeasuredRoofs"),
        ("print('nonsense')", "validation error for MeasuredRoofs"),
    ],
)
def test_a_calibration_that_fails_is_a_fault_in_one_line(
    invoke, calibrate_with, tmp_path, script, reason
):
    calibrate_with(script)
    result = invoke("doctor --calibrate --store kept")
    # Beside other work the doctor may find a fault with the clock too.
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("BAD roofs: "))

    assert reason in line
    assert result.exit_code == 5
    assert Store(tmp_path / "kept").read_roofs() == []


def test_a_store_that_can_not_keep_the_roofs_is_a_fault(invoke, asked, tmp_path):
    (tmp_path / "kept").touch()
    result = invoke("doctor --calibrate --store kept")
    bad = [line for line in result.stdout.splitlines() if line.startswith("BAD")]

    assert {"BAD roofs", "BAD store"} <= {line.partition(":")[0] for line in bad}
    assert result.exit_code == 5
