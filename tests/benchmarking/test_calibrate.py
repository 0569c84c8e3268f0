"""What a device can do at most: measured, kept in the store, and told by the doctor."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch

from benchmarking import calibrate as calibrate_file
from benchmarking import doctor, environment
from benchmarking.calibrate import cache_bytes, calibrate, time_copies, time_products
from benchmarking.environment import describe_environment
from benchmarking.precision import PRECISIONS, without_tf32
from hooks import WallClock
from results.schema import Roofs
from results.store import Store

CPU = torch.device("cpu")
ON_A_CPU = [name for name, precision in PRECISIONS.items() if precision.on_cpu]


@pytest.fixture(scope="module")
def small():
    """Products and copies that take no time."""
    with pytest.MonkeyPatch.context() as patch, without_tf32():
        patch.setattr(calibrate_file, "SPAN_S", 0.001)
        patch.setattr(calibrate_file, "SMALLEST_SIDE", 16)
        patch.setattr(calibrate_file, "LARGEST_SIDE", {"cpu": 64})
        patch.setattr(calibrate_file, "PRODUCT_S", {"cpu": 0.0})
        patch.setattr(calibrate_file, "COPY_BYTES", {"cpu": 4096})
        yield


@pytest.fixture(scope="module")
def roofs(small):
    return calibrate(CPU)


# What is measured


def test_roofs_have_every_precision_that_the_device_can_do_and_no_other(roofs):
    assert list(roofs.products) == ON_A_CPU


@pytest.mark.parametrize("precision", ON_A_CPU)
def test_every_product_took_time(roofs, precision):
    samples = roofs.products[precision].product_s

    assert samples
    assert min(samples) > 0


def test_every_copy_took_time(roofs):
    assert min(roofs.copy_s) > 0
    assert roofs.copied_bytes == 4096


def test_roofs_name_the_device_and_what_ran_on_it(roofs):
    here = describe_environment()

    assert roofs.device == here.device_name("cpu")
    assert (roofs.torch, roofs.threads) == (torch.__version__, torch.get_num_threads())


def test_roofs_are_equal_after_they_were_written(roofs, tmp_path):
    store = Store(tmp_path)
    store.write_roofs(roofs)

    assert store.read_roofs() == [Roofs.model_validate_json(roofs.model_dump_json())]


@pytest.mark.parametrize(("product_s", "side"), [(0.0, 16), (1e9, 64)])
def test_products_grow_until_they_take_long_or_are_the_largest(small, monkeypatch, product_s, side):
    monkeypatch.setattr(calibrate_file, "PRODUCT_S", {"cpu": product_s})

    assert time_products("fp32", CPU, WallClock()).side == side


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_are_of_the_precisions_type(small, monkeypatch, precision):
    seen = []
    true = torch.mm

    def spying(first, second, out):
        seen.append((first.dtype, second.dtype, out.dtype, torch.backends.cudnn.allow_tf32))
        return true(first, second, out=out)

    monkeypatch.setattr(torch, "mm", spying)
    with without_tf32():
        time_products(precision, CPU, WallClock())
    dtype = getattr(torch, PRECISIONS[precision].dtype)

    assert set(seen) == {(dtype, dtype, dtype, PRECISIONS[precision].tf32)}


def test_a_copy_takes_at_most_a_quarter_of_the_free_memory(small, monkeypatch):
    monkeypatch.setattr(calibrate_file, "COPY_BYTES", {"cpu": 2**60})
    monkeypatch.setattr(
        calibrate_file.psutil, "virtual_memory", lambda: type("Free", (), {"available": 8000})
    )

    assert time_copies(CPU, WallClock())[0] == 2000


# The cache


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Let the system tell these sizes of the caches."""

    def install(*sizes):
        for index, size in enumerate(sizes):
            (tmp_path / f"index{index}").mkdir()
            (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
        monkeypatch.setattr(calibrate_file, "CACHE", tmp_path)

    return install


@pytest.mark.parametrize(
    ("sizes", "largest"),
    [
        (("32K", "1024K", "36608K"), 36608 * 2**10),
        (("48K", "2M"), 2 * 2**20),
        (("64M", "512K"), 64 * 2**20),
        (("1G",), 2**30),
        (("32K", "unknown"), 32 * 2**10),
        (("32K", ""), 32 * 2**10),
        (("unknown",), 0),
        ((), 0),
    ],
)
def test_the_last_cache_is_the_largest_that_the_system_tells(caches, sizes, largest):
    caches(*sizes)

    assert cache_bytes(CPU) == largest


def test_a_system_that_tells_no_cache_has_0(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate_file, "CACHE", tmp_path / "missing")

    assert cache_bytes(CPU) == 0


# The doctor


@pytest.fixture
def asked(monkeypatch, roofs):
    """Let a device be calibrated at once; the devices that were asked for."""
    devices = []

    def ask(module, device, task):
        assert module == "benchmarking.calibrate"
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
        Roofs.model_validate_json(roofs.model_dump_json())
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
    monkeypatch.setattr(doctor, "check_referee", lambda device: doctor.Finding("x", True, ""))
    doctor.examine(tmp_path, calibrates=True)

    assert asked == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit('a\\nwhy not')", "cpu could not be calibrated (why not): see what this"),
        ("", "cpu could not be calibrated (no message): see what this prints: python -m"),
        ("print('{}')", "validation errors for Roofs"),
        ("print('nonsense')", "validation error for Roofs"),
    ],
)
def test_a_calibration_that_fails_is_a_fault_in_one_line(
    invoke, calibrate_with, tmp_path, script, reason
):
    calibrate_with(script)
    result = invoke("doctor --calibrate --store kept")
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("BAD"))

    assert line.startswith("BAD roofs: ")
    assert reason in line
    assert result.exit_code == 5
    assert Store(tmp_path / "kept").read_roofs() == []


def test_a_store_that_can_not_keep_the_roofs_is_a_fault(invoke, asked, tmp_path):
    (tmp_path / "kept").touch()
    result = invoke("doctor --calibrate --store kept")
    bad = [line for line in result.stdout.splitlines() if line.startswith("BAD")]

    assert [line.partition(":")[0] for line in bad] == ["BAD roofs", "BAD store"]
    assert result.exit_code == 5
