"""What sweeps are tested with: made records, scripted launchers, and a clock that stands still.

Each `make_...` fixture gives a maker that takes changes.
"""

from __future__ import annotations

import gc
import re
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pynvml
import pytest
import torch
from PIL import Image

from benchmarking.choices.inputs import InputError
from benchmarking.choices.precision import without_tf32
from benchmarking.demo import demo
from benchmarking.errors import SweepError
from benchmarking.machine import telemetry
from benchmarking.machine.environment import probe_environment
from benchmarking.measuring import calibrate
from benchmarking.measuring import rig as rig_file
from benchmarking.measuring.measure import measure_case
from benchmarking.measuring.passes.table import default_passes
from benchmarking.measuring.rig import build_rig
from benchmarking.sweeping.case_runner import LocalCaseRunner
from results.records.case import AXES, Case, TimingPlan
from results.records.environment import Environment, Gpu
from results.records.measurement import Latency, Measurement, Modules, ModuleTiming, Pipeline
from results.records.schema import Record, SweepFile
from results.records.store import Store

SWEEP_ID = "20250102-030405-abcdef"
SECRET = "hunter2-must-stay-here"
LONGEST_LINE = 500
HERE = Path(__file__).parent


def names_of(path: Path) -> SimpleNamespace:
    """What a file defines, of which pytest's importlib mode lets tests import nothing."""
    return SimpleNamespace(**runpy.run_path(str(path)))


@pytest.fixture(scope="session", autouse=True)
def quick_garbage_collection():
    """Timing collects garbage first: 0.2 s each time, if it looks at all that torch has loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on busy cores make tiny forwards a hundred times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # for workers
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def here():
    """This machine, as one probe for all tests describes it, with a secret in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_TOKEN", SECRET)
        return probe_environment()


@pytest.fixture(scope="session")
def secret():
    return SECRET


@pytest.fixture
def environment():
    """A machine without a GPU."""
    return Environment(
        hostname="host", os="Linux", cpu="a CPU", cores=8, memory_bytes=2**34, gpus=(),
        driver=None, cuda="13.2", cudnn=None, torch="2.15.0", torchvision="0.29.2",
        python="3.11.9", sam_bench="0.1.0", git_commit="0" * 40, git_dirty=False,
        source_sha256="0" * 64,
    )  # fmt: skip


@pytest.fixture
def make_gpu_environment(environment):
    """Maker of a machine with a GPU for each compute capability."""

    def make(*capabilities: str) -> Environment:
        gpus = tuple(
            Gpu(index=i, name="a GPU", uuid=f"GPU-{i}", memory_bytes=2**34, compute_capability=each)
            for i, each in enumerate(capabilities)
        )
        return environment.model_copy(update={"gpus": gpus})

    return make


@pytest.fixture(scope="session")
def make_case():
    def make(**changes) -> Case:
        fields = {
            "model": "tiny",
            "batch_size": 2,
            "image_size": 64,
            "precision": "fp32",
            "attention": "reference",
            "execution": "eager",
            "device": "cpu",
            "input": "noise",
            "weights": "random",
        }
        return Case(**fields | changes)

    return make


@pytest.fixture(scope="session")
def make_plan():
    """Maker of plans that take no time."""

    def make(**changes) -> TimingPlan:
        fields = {
            "passes": default_passes(),
            "warmup_s": 0.0,
            "warmup_forwards": 1,
            "warmup_cap_s": 0.5,
            "min_timed_s": 0.0,
            "max_timed_s": 0.5,
            "min_forwards": 6,
            "min_slow_forwards": 3,
            "max_forwards": 8,
            "module_forwards": 3,
            "case_timeout_s": 120.0,
        }
        return TimingPlan(**fields | changes)

    return make


@pytest.fixture(scope="session")
def run_case(make_case, make_plan):
    """Measure a tiny case; names of the plan's fields change the plan, the others the case."""

    def run(report=lambda stage: None, rig=None, **changes) -> Measurement:
        fields = TimingPlan.model_fields
        plan = make_plan(**{name: changes.pop(name) for name in fields if name in changes})
        case = make_case(**changes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rig_file, "TIMER_TRIES", 1)  # of delays that are true
            return measure_case(case, plan, rig or build_rig(case, plan), report)

    return run


@pytest.fixture
def make_record(make_case, environment):
    """Maker of records; names of axes change the case, the others the record."""

    def make(status="ok", **changes) -> Record:
        case = make_case(**{axis: changes.pop(axis) for axis in AXES if axis in changes})
        measurement = Measurement(
            passes={
                "latency": Latency(
                    forward_s=(0.25,) * 8, chunk_forwards=(8,), chunk_wall_s=(2.0,),
                    chunk_launch_s=(0.001,), stop_reason="converged", first_forward_s=1.0,
                    warmup_s=1.0, warmup_forwards=4,
                ),
                "components": Pipeline(
                    stages_s={"preprocess": (0.25,), "image_encoder": (0.75,)}
                ),
                "modules": Modules(
                    timings={
                        "image_encoder": ModuleTiming(
                            total_s=(1.0,), self_s=(0.125,), kind="encoder", parent=None
                        ),
                        "blocks.0": ModuleTiming(
                            total_s=(0.875,), self_s=(0.875,), kind="window",
                            parent="image_encoder",
                        ),
                    }
                ),
            },
            weights="random, seed 0",
            input_source="noise, seed 0",
        )  # fmt: skip
        fields = {
            "sweep_id": SWEEP_ID,
            "case_id": case.case_id,
            "case": case,
            "plan": TimingPlan(),
            "status": status,
            "message": None if status == "ok" else f"why it is {status}",
            "measurement": measurement if status == "ok" else None,
            "environment": environment,
            "command": "sam-bench sweep",
            "started_at": "2025-01-02T03:04:05Z",
            "wall_s": 12.5,
        }
        return Record(**fields | changes)

    return make


@pytest.fixture
def make_store(tmp_path, make_case, environment):
    """Maker of a store of these records, in tmp_path/runs, and of the cases not run yet."""

    def make(*records: Record, not_run: tuple[Case, ...] = ()) -> Store:
        store = Store(tmp_path / "runs")
        for sweep_id in {record.sweep_id for record in records} or {SWEEP_ID}:
            own = [record for record in records if record.sweep_id == sweep_id]
            store.write_sweep(
                SweepFile(
                    sweep_id=sweep_id, definition_sha256="cd" * 32, command="sam-bench sweep",
                    created_at="2025-01-02T03:04:00Z", plan=TimingPlan(),
                    cases=(*(record.case for record in own), *not_run), environment=environment,
                )
            )  # fmt: skip
            for record in own:
                store.write_record(record)
        return store

    return make


@pytest.fixture(scope="session")
def fakes():
    """The names of fakes.py."""
    return names_of(HERE / "fakes.py")


@pytest.fixture(scope="session")
def scripted_launcher(fakes):
    return fakes.ScriptedLauncher


@pytest.fixture(scope="session")
def fake_clock(fakes):
    return fakes.FakeClock


@pytest.fixture(scope="session")
def fake_device():
    """The names of fake_device.py."""
    return names_of(HERE / "fake_device.py")


@pytest.fixture(scope="session")
def made_up_gpu():
    """The names of made_up_gpu.py, of which every cause of a forward's time is known."""
    return names_of(HERE.parent / "results" / "made_up_gpu.py")


@pytest.fixture
def measured(made_up_gpu, make_record, make_gpu_environment):
    """Records of a made-up GPU at batch sizes.

    Args:
        parts: Fields of MadeUpPart of each module.
        gpu: Fields of MadeUpGpu.
        changes: Of the records.
    """

    def make(parts, sizes, gpu=(), **changes) -> list[Record]:
        device = made_up_gpu.MadeUpGpu(**dict(gpu))
        made = {f"blocks.{i}": made_up_gpu.MadeUpPart(**part) for i, part in enumerate(parts)}
        common = {"environment": make_gpu_environment("9.0")} | changes
        return [make_record(**device.measure(made, size) | common) for size in sizes]

    return make


@pytest.fixture
def nvml(monkeypatch, fake_device):
    """Let a script answer for NVML: by default a GPU that is fine."""

    def script(**answers):
        fake = fake_device.FakeNvml(**answers)
        monkeypatch.setattr(telemetry, "pynvml", fake)
        return fake

    monkeypatch.setattr(telemetry, "sees_host_pids", lambda: True)  # also in a container
    script()
    return script


@pytest.fixture(scope="session")
def nvml_error():
    return pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture
def photograph(tmp_path):
    """A folder with one image."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.new("RGB", (40, 30), (10, 20, 30)).save(folder / "one.png")
    return folder


@pytest.fixture(scope="session")
def wait_until():
    """Wait for what other processes do; fails where it does not happen at all."""

    def wait(is_true, deadline_s: float = 60.0) -> None:
        ends = time.monotonic() + deadline_s
        while not is_true():
            assert time.monotonic() < ends, "it did not happen"
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def refusal():
    """Check that a call refuses what a person gave, in one harmless line; give that line."""

    def refused(call, *arguments):
        with pytest.raises((SweepError, InputError)) as caught:
            call(*arguments)
        line = str(caught.value)
        assert len(line) <= LONGEST_LINE
        assert line.isprintable()
        assert re.search(r"[^.][.?]$|\.{4}$", line)  # one full stop, also after three dots
        return line

    return refused


# What tests of a file and of its command share


@pytest.fixture(scope="module")
def quick_calibration():
    """Products and copies that take no time."""
    with pytest.MonkeyPatch.context() as patch, without_tf32():
        patch.setattr(calibrate, "SPAN_S", 0.001)
        patch.setattr(calibrate, "SMALLEST_SIDE", 16)
        patch.setattr(calibrate, "LARGEST_SIDE", {"cpu": 64})
        patch.setattr(calibrate, "PRODUCT_S", {"cpu": 0.0})
        patch.setattr(calibrate, "COPY_BYTES", {"cpu": 4096})
        yield


@pytest.fixture(scope="module")
def roofs(quick_calibration):
    """Of this CPU."""
    return calibrate.calibrate(torch.device("cpu"))


@pytest.fixture
def short_demo(monkeypatch):
    """A demonstration of one GPU and model and two batch sizes."""
    for name, value in (
        ("GPUS", demo.GPUS[:1]), ("MODELS_SHOWN", ("vit_b",)), ("BATCHES", (1, 32)),
        ("COMMITS", 1),
    ):  # fmt: skip
        monkeypatch.setattr(demo, name, value)


# Workers


@pytest.fixture
def launch(fakes):
    """Start a launcher of scripted workers; none is left behind."""
    started = []

    def start(script):
        launcher = LocalCaseRunner((sys.executable, "-I", "-c", fakes.WORDS + script))
        started.append(launcher)
        return launcher

    yield start
    for launcher in started:
        launcher.close()


@pytest.fixture(scope="session")
def is_gone():
    """Whether a process has ended; a zombie waits only for its parent, which may be a bad one."""

    def look(pid):
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    return look
