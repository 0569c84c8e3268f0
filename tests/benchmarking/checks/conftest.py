"""Cases and sweeps on a fake GPU, which self-checks are tested with."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarking.machine.telemetry import TelemetryWatch
from benchmarking.sweeping import runner
from benchmarking.sweeping.checks import Evidence
from benchmarking.sweeping.runner import SweepContext, SweepOptions, run_sweep
from results.records.store import Store

KNOWN_GPU = "NVIDIA H100 80GB HBM3"
NVML_KEYS = ("GetCurrentClocksEventReasons", "GetComputeRunningProcesses")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def records(store):
    """The store's records by batch size."""
    return lambda: {record.case.batch_size: record for record in store.read().records}


@pytest.fixture
def make_evidence(make_record, make_case, make_gpu_environment, fake_device, nvml):
    """Maker of a case measured on a fake GPU, and at half the batch size too.

    Args:
        smaller_s: Seconds of a forward at half the batch size.
        gpu: The GPU's name.
        precision: Of the cases.
        co_tenants: Other cases that a launcher saw; None where it did not look.
        changes: NVML's answers, or what the GPU does.
    """

    def make(
        device="cuda:0",
        smaller_s=0.006,
        gpu=KNOWN_GPU,
        precision="fp32",
        co_tenants=None,
        **changes,
    ) -> Evidence:
        machine = make_gpu_environment("9.0")
        machine = machine.model_copy(
            update={"gpus": (machine.gpus[0].model_copy(update={"name": gpu}),)}
        )
        nvml(**{key: changes.pop(key) for key in NVML_KEYS if key in changes})
        telemetry = fake_device.look_at() if device.startswith("cuda") else None

        def record(batch_size, **changes):
            measurement = fake_device.measurement_of(make_case(batch_size=batch_size), **changes)
            return make_record(
                batch_size=batch_size, device=device, precision=precision,
                environment=machine, measurement=measurement, telemetry=telemetry,
                co_tenants=co_tenants,
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
def run_on_gpu(
    store, make_case, make_plan, make_gpu_environment, fake_device, nvml, naps, monkeypatch
):
    """Run a sweep over batch sizes on a fake GPU; give its launcher, with the watcher and end.

    Args:
        measure: (case, number of the call) -> a measurement, a status, or an error to raise.
    """
    # A look before and one after alone: scripts of NVML's answers count them.
    monkeypatch.setattr(runner, "TelemetryWatch", partial(TelemetryWatch, interval_s=3600.0))

    def start(measure=None, sizes=(1, 2, 4), device="cuda:0", plan=None, **options):
        answer = measure or (lambda case, call: fake_device.measurement_of(case))
        launcher, watcher = fake_device.DeviceLauncher(answer), fake_device.Watcher()
        launcher.watcher = watcher
        launcher.sweep_id = run_sweep(
            [make_case(batch_size=size, device=device, model="tiny") for size in sizes],
            plan or make_plan(),
            SweepContext(make_gpu_environment("9.0"), store, launcher, watcher, "sam-bench sweep"),
            SweepOptions(**options),
        )
        launcher.end = store.read_end(launcher.sweep_id)
        return launcher

    return start
