"""What sweeps are tested with: made records, scripted launchers, and a clock that stands still.

Each `make_...` fixture gives a maker that takes changes.
"""

from __future__ import annotations

import gc
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pynvml
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarking import doctor, runner, telemetry
from benchmarking import environment as environment_file
from benchmarking.checks import Evidence
from benchmarking.cli import main
from benchmarking.environment import probe_environment
from benchmarking.inputs import InputError
from benchmarking.launchers import LAUNCHERS, LocalLauncher
from benchmarking.measure import measure_case
from benchmarking.protocol import Outcome
from benchmarking.rig import build_rig
from benchmarking.runner import Options, run_sweep
from benchmarking.sweep import SweepError
from results.schema import (
    AXES,
    Case,
    Environment,
    Gpu,
    Latency,
    Measurement,
    ModuleTiming,
    Record,
    SweepFile,
    TimingPlan,
)
from results.store import Store

SWEEP_ID = "20250102-030405-abcdef"
KNOWN_GPU = "NVIDIA H100 80GB HBM3"
NVML_KEYS = ("GetCurrentClocksEventReasons", "GetComputeRunningProcesses")
SECRET = "hunter2-must-stay-here"
LONGEST_LINE = 500
SAM_BENCH = Path(sys.executable).with_name("sam-bench")
# Long enough for Ctrl-C to come between the first case's end and the second's.
UNHURRIED = (
    "sweep -m tiny -s 64 -b 1,2,4 --input noise --warmup-s 0 --warmup-cap-s 0.5 --min-timed-s 1 "
    "--max-timed-s 1.5 --min-forwards 6 --module-forwards 3"
)


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
        return measure_case(case, plan, rig or build_rig(case, plan), report)

    return run


@pytest.fixture
def make_record(make_case, environment):
    """Maker of records; names of axes change the case, the others the record."""

    def make(status="ok", **changes) -> Record:
        case = make_case(**{axis: changes.pop(axis) for axis in AXES if axis in changes})
        measurement = Measurement(
            latency=Latency(
                forward_s=(0.25,) * 8, chunk_forwards=(8,), chunk_wall_s=(2.0,),
                chunk_launch_s=(0.001,), stop_reason="converged", first_forward_s=1.0,
                warmup_s=1.0, warmup_forwards=4,
            ),
            components_s={"preprocess": (0.25,), "image_encoder": (0.75,)},
            modules={
                "image_encoder": ModuleTiming(total_s=(1.0,), self_s=(0.125,), kind="encoder"),
                "blocks.0": ModuleTiming(total_s=(0.875,), self_s=(0.875,), kind="window"),
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


NOTHING = Measurement(weights="random, seed 0", input_source="noise, seed 0")


class ScriptedLauncher:
    """Answers by batch size: a status, or an error to raise; 'ok' where nothing is said.

    Args:
        script: Answers by batch size.
        measurement: Of the cases that are ok.
        before: Called with each case before it is answered.
    """

    def __init__(self, script=None, measurement=NOTHING, before=lambda case: None):
        self.script, self.measurement, self.before = dict(script or {}), measurement, before
        self.measured: list[Case] = []
        self.is_closed = False

    @property
    def batch_sizes(self) -> list[int]:
        return [case.batch_size for case in self.measured]

    def measure(self, case, plan, on_stage):
        self.measured.append(case)
        self.before(case)
        on_stage("latency")
        answer = self.script.get(case.batch_size, "ok")
        if isinstance(answer, BaseException):
            raise answer
        measurement = self.measurement if answer == "ok" else None
        return Outcome(status=answer, message=answer, measurement=measurement, wall_s=0.5)

    def close(self):
        self.is_closed = True


@pytest.fixture(scope="session")
def scripted_launcher():
    return ScriptedLauncher


class FakeClock:
    """Stands still but for `now_s`; knows what it was asked, and the marks that are still out.

    Args:
        wait_s: What the host spends in each synchronise.
    """

    def __init__(self, wait_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.wait_s = wait_s
        self.log: list[str] = []
        self.out = 0

    def mark(self) -> float:
        self.log.append("mark")
        self.out += 1
        return self.now_s

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def synchronize(self) -> None:
        self.log.append("wait")
        self.now_s += self.wait_s

    def release(self, *marks: float) -> None:
        self.out -= len(marks)

    def now(self) -> float:
        return self.now_s


@pytest.fixture(scope="session")
def fake_clock():
    return FakeClock


@pytest.fixture(scope="session")
def fake_device():
    """The names of fake_device.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("fake_device.py"))))


@pytest.fixture(scope="session")
def made_up_gpu():
    """The names of made_up_gpu.py, of which every cause of a forward's time is known."""
    path = Path(__file__).parents[1] / "results" / "made_up_gpu.py"
    return SimpleNamespace(**runpy.run_path(str(path)))


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
def make_evidence(make_record, make_case, make_gpu_environment, fake_device, nvml):
    """Maker of a case measured on a fake GPU, and at half the batch size too.

    Args:
        smaller_s: Seconds of a forward at half the batch size.
        gpu: The GPU's name.
        changes: NVML's answers, or what the GPU does.
    """

    def make(device="cuda:0", smaller_s=0.006, gpu=KNOWN_GPU, **changes) -> Evidence:
        machine = make_gpu_environment("9.0")
        machine = machine.model_copy(
            update={"gpus": (machine.gpus[0].model_copy(update={"name": gpu}),)}
        )
        nvml(**{key: changes.pop(key) for key in NVML_KEYS if key in changes})
        telemetry = fake_device.look_at() if device.startswith("cuda") else None

        def record(batch_size, **changes):
            measurement = fake_device.measurement_of(make_case(batch_size=batch_size), **changes)
            return make_record(
                batch_size=batch_size, device=device, environment=machine,
                measurement=measurement, telemetry=telemetry,
            )  # fmt: skip

        return Evidence(record(2, **changes), [record(1, times_s=lambda index: smaller_s)])

    return make


@pytest.fixture
def naps(monkeypatch):
    """Seconds that the runner would have slept."""
    slept = []
    monkeypatch.setattr(runner.time, "sleep", slept.append)
    return slept


@pytest.fixture
def run_on_gpu(tmp_path, make_case, make_plan, make_gpu_environment, fake_device, nvml, naps):
    """Run a sweep over batch sizes on a fake GPU; give its launcher, with the watcher and end.

    Args:
        measure: (case, number of the call) -> a measurement, a status, or an error to raise.
    """

    def start(measure=None, sizes=(1, 2, 4), device="cuda:0", plan=None, **options):
        answer = measure or (lambda case, call: fake_device.measurement_of(case))
        launcher, watcher = fake_device.DeviceLauncher(answer), fake_device.Watcher()
        launcher.watcher = watcher
        store = Store(tmp_path / "runs")
        launcher.sweep_id = run_sweep(
            [make_case(batch_size=size, device=device, model="tiny") for size in sizes],
            plan or make_plan(),
            make_gpu_environment("9.0"),
            store,
            launcher,
            watcher,
            "sam-bench sweep",
            Options(**options),
        )
        launcher.end = store.read_end(launcher.sweep_id)
        return launcher

    return start


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


# Workers

# What scripted workers are written in.
WORDS = """
import json, os, signal, subprocess, sys, time

def say(**said):
    print(json.dumps({"said": said}), flush=True)

def stage(name):
    say(kind="stage", name=str(name))

def outcome(status="ok", **more):
    say(kind="outcome", status=status, wall_s=1.5, **more)

def cases():
    for line in sys.stdin:
        yield json.loads(line)["case"]

def grandchild(**options):
    stage(subprocess.Popen(["sleep", "600"], **options).pid)
"""


@pytest.fixture
def launch():
    """Start a launcher of scripted workers; none is left behind."""
    started = []

    def start(script):
        launcher = LocalLauncher((sys.executable, "-I", "-c", WORDS + script))
        started.append(launcher)
        return launcher

    yield start
    for launcher in started:
        launcher.close()


@pytest.fixture
def measure(launch, make_case, make_plan):
    """Measure one case with a scripted worker; give its outcome and the stages that it told."""

    def run(script, **plan):
        stages = []
        outcome = launch(script).measure(make_case(), make_plan(**plan), stages.append)
        return outcome, stages

    return run


@pytest.fixture
def measure_batches(make_case, make_plan):
    """Measure a case a batch size; give the statuses, and the pid of the worker of each."""

    def run(launcher, *sizes, **changes):
        statuses, stages = [], []
        for size in sizes:
            case = make_case(batch_size=size, **changes)
            statuses.append(launcher.measure(case, make_plan(), stages.append).status)
        return statuses, [int(name) for name in stages if name.isdecimal()]

    return run


@pytest.fixture(scope="session")
def is_gone():
    """Whether a process has ended; a zombie waits only for its parent, which may be a bad one."""

    def look(pid):
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    return look


# The command line


@pytest.fixture
def invoke(tmp_path, monkeypatch, here):
    """Call the command in tmp_path, without looking at the machine again."""
    monkeypatch.chdir(tmp_path)
    for module in (environment_file, doctor):
        monkeypatch.setattr(module, "probe_environment", lambda: here)
    answer = {"own_s": 0.001, "referee_s": 0.001, "ratio": 1.0, "limit": 0.1, "rounds": 10}
    monkeypatch.setattr(doctor, "ask_referee", lambda device: answer)

    on_ctrl_c = signal.getsignal(signal.SIGINT)

    def call(line, *more):
        result = CliRunner().invoke(main, [*shlex.split(line), *map(str, more)])
        signal.signal(signal.SIGINT, on_ctrl_c)  # which a command that ends ignores
        return result

    return call


@pytest.fixture
def launcher(monkeypatch, scripted_launcher, make_record):
    """Let sweeps be run by a scripted launcher; its `script` can be changed."""
    scripted = scripted_launcher(measurement=make_record().measurement)
    monkeypatch.setitem(LAUNCHERS, "local", lambda: scripted)
    return scripted


@pytest.fixture(scope="session")
def mistake():
    """Check that a call ended with exit code 2 and one line; give that line."""

    def line(result):
        code = result.exit_code if hasattr(result, "exit_code") else result.returncode
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert code == 2, (result.stdout, result.stderr)
        assert len(errors) == 1
        assert result.stderr.splitlines()[-1] == errors[0]
        assert "Traceback" not in result.stderr
        assert result.stdout == ""
        return errors[0]

    return line


@pytest.fixture(scope="session")
def run_process():
    """Run `sam-bench` for true."""

    def run(*arguments, cwd=None, **changes):
        return subprocess.run(
            [SAM_BENCH, *arguments],
            cwd=cwd, env={**os.environ, **changes}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def true_sweep(tmp_path_factory, secret):
    """A sweep of three cases for true: stopped by Ctrl-C after the first, then run again."""
    folder = tmp_path_factory.mktemp("sweep")
    command = [SAM_BENCH, *UNHURRIED.split()]
    options = {
        "cwd": folder, "env": {**os.environ, "OMP_NUM_THREADS": "1", "SECRET_TOKEN": secret},
        "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
    }  # fmt: skip
    with subprocess.Popen(command, **options) as process:
        next(line for line in process.stdout if line.startswith("[1/3]"))
        process.send_signal(signal.SIGINT)
        stopped = subprocess.CompletedProcess(command, 0, *process.communicate())
    stopped.returncode = process.returncode
    after = {each.case.batch_size: each.status for each in Store(folder / "runs").read().records}
    finished = subprocess.run(command, check=False, **options)
    return SimpleNamespace(
        command=UNHURRIED, folder=folder, store=folder / "runs", stopped=stopped, after=after,
        finished=finished,
    )  # fmt: skip
