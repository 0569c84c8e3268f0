"""A GPU that does what a script says, for tests of the self-checks on machines that have none.

Loaded by the fixture `fake_device`, since pytest's importlib mode lets tests import no neighbour.
"""

from __future__ import annotations

from types import SimpleNamespace

import pynvml

from benchmarking.machine.telemetry import TelemetryWatch
from benchmarking.measuring.timing import time_forwards
from benchmarking.sweeping.protocol import Outcome
from results.records.case import TimingPlan
from results.records.measurement import (
    ENCODER,
    EmbeddingError,
    Measurement,
    Modules,
    ModuleTiming,
    Output,
    Work,
)

BEFORE = 3  # forwards that time_forwards makes before those that it keeps, as asked here


class FakeGpu:
    """A clock and a forward: a host that launches, and a queue of work that it fills.

    Args:
        times_s: Seconds of the forward with this index; of those of the warm-up as of the first.
        launch_s: What the host spends on launching a forward.
        wait_s: What it spends on waiting beside the work itself.
        pace: Of the events over that of the wall.
    """

    def __init__(self, times_s, launch_s=1e-3, wait_s=0.0, pace=1.0):
        self.times_s, self.launch_s, self.wait_s, self.pace = times_s, launch_s, wait_s, pace
        self.host_s = self.queue_s = 0.0
        self.forwards = 0

    def now(self):
        return self.host_s

    def forward(self):
        begin = max(self.queue_s, self.host_s)
        self.queue_s = begin + self.times_s(max(0, self.forwards - BEFORE))
        self.host_s += self.launch_s
        self.forwards += 1

    def mark(self):
        return max(self.queue_s, self.host_s)

    def seconds(self, start, end):
        return (end - start) * self.pace

    def synchronize(self):
        self.host_s = max(self.host_s, self.queue_s) + self.wait_s

    def release(self, *marks):
        """Numbers need no reuse."""

    def latency(self, forwards):
        plan = TimingPlan(
            warmup_s=0, warmup_forwards=1, warmup_cap_s=3600, min_timed_s=0, max_timed_s=3600,
            min_forwards=forwards, max_forwards=forwards,
        )  # fmt: skip
        return time_forwards(self.forward, self, plan, self.now)


def steady(index):
    return 0.01


def measurement_of(
    case,
    *,
    times_s=steady,
    forwards=20,
    finite=True,
    shape=None,
    dtype="float32",
    hooks_cost=1.01,
    covered=0.97,
    neck_s=1e-3,
    flops_per_image=10**9,
    least_bytes=10**7,
    batch_error=1e-6,
    error=None,
    timer_test_s=(0.01, 0.02, 0.04),
    left_out=(),
    **gpu,
):
    """What measuring a case on such a GPU would find; every pass that has a check.

    Args:
        covered: The share of a hooked forward that its modules take.
        error: Of the embedding, relative L2, and that of bf16; None where it was not looked for.
        left_out: Passes, and fields of the measurement.
    """
    side = case.image_size // 16
    plain = times_s(0)
    hooked = plain * hooks_cost
    block_s = hooked * covered - neck_s
    samples = {ENCODER: hooked, "blocks.0": block_s, "neck": neck_s}
    found = {
        "latency": FakeGpu(times_s, **gpu).latency(forwards),
        "modules": Modules(timings={
            name: ModuleTiming(
                total_s=(seconds,) * 20, self_s=(seconds,) * 20, kind="any",
                parent=None if name == ENCODER else ENCODER,
            )
            for name, seconds in samples.items()
        }, plain_forward_s=(plain,) * 20),
        "flops": Work(
            flops=flops_per_image * case.batch_size,
            least_flops=flops_per_image * case.batch_size,
            least_bytes=least_bytes,
            moved_bytes=least_bytes,
        ),
        "output": Output(
            shape=shape or (case.batch_size, 256, side, side), dtype=dtype, finite=finite,
            sha256="ab" * 32,
        ),
        "batch_error": batch_error,
        "embedding_error": error
        and EmbeddingError(relative_l2=error[0], max_abs=1.0, bf16_relative_l2=error[1]),
        "timer_test_s": timer_test_s,
    }  # fmt: skip
    kept = {name: value for name, value in found.items() if name not in left_out}
    own = {name: kept.pop(name) for name in Measurement.model_fields if name in kept}
    measurement = Measurement(**own, weights="random, seed 0", input_source="noise, seed 0")
    return measurement.with_passes(**kept)


class DeviceLauncher:
    """Measures cases on a fake GPU.

    Args:
        measure: (case, number of the call) -> a measurement, a status, or an error to raise.
    """

    def __init__(self, measure=lambda case, call: measurement_of(case)):
        self.measure_call = measure
        self.measured, self.passes = [], []
        self.is_closed = False

    @property
    def batch_sizes(self):
        return [case.batch_size for case in self.measured]

    def measure(self, case, plan, on_stage):
        self.measured.append(case)
        self.passes.append(plan.passes)
        on_stage("latency")
        answer = self.measure_call(case, len(self.measured) - 1)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, str):
            return Outcome(status=answer, message=answer, wall_s=0.5)
        return Outcome(status="ok", measurement=answer, wall_s=0.5)

    def close(self):
        self.is_closed = True


class FakeNvml:
    """pynvml, whose calls a script answers; all else is pynvml's own.

    Args:
        answers: By a call's name without "nvmlDevice" or "nvml": a value, an error to raise, or a
            list of them, one a call, the last for all that follow.
    """

    def __init__(self, **answers):
        self.answers = {
            "Init": None,
            "GetHandleByUUID": "a handle",
            "GetClockInfo": 1500,
            "GetPowerUsage": 300_000,
            "GetTemperature": 50,
            "GetMemoryInfo": SimpleNamespace(used=2**30),
            "GetCurrentClocksEventReasons": 0,
            "GetEnforcedPowerLimit": 700_000,
            "GetTotalEccErrors": 0,
            "GetMigMode": [[0, 0]],
            "GetComputeRunningProcesses": [[]],
            "GetTotalEnergyConsumption": [5_000, 12_000],
        } | answers  # fmt: skip
        self.calls = []

    def __getattr__(self, name):
        short = name.removeprefix("nvml").removeprefix("Device")
        if short not in self.answers:
            return getattr(pynvml, name)

        def call(*arguments):
            self.calls.append((short, *arguments))
            answer = self.answers[short]
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


def look_at(uuid="GPU-0", **settings):
    """What a watch sees of a GPU while nothing happens."""
    with TelemetryWatch(uuid, **settings) as watch:
        pass
    return watch.telemetry()


class Watcher:
    """Remembers the stages and statuses that it was told."""

    def __init__(self):
        self.stages = []
        self.statuses = []

    def begin(self, sweep, left, lanes=1):
        """Not looked at here."""

    def case_begins(self, case):
        """Not looked at here."""

    def stage(self, name):
        self.stages.append(name)

    def case_ends(self, record):
        self.statuses.append(record.status)

    def end(self):
        """Not looked at here."""
