"""A sweep on a fake GPU: each case is checked, and tried again while the GPU is throttled."""

from __future__ import annotations

import os

import pytest

from benchmarking.machine.telemetry import own_pids
from benchmarking.sweeping import runner
from benchmarking.sweeping.runner import ATTEMPTS

THERMAL, POWER_CAP = 0x20, 0x4


# Checks


def test_a_case_on_a_gpu_has_telemetry_and_checks(run_on_gpu, records):
    run_on_gpu(sizes=(1,))
    record = records()[1]

    assert record.telemetry.power_watts[0] == 300
    assert record.checks["clocks"].verdict == "pass"


def test_a_case_is_watched_on_its_own_gpu(run_on_gpu, nvml):
    fake = nvml()
    run_on_gpu(sizes=(1,))

    assert ("GetHandleByUUID", "GPU-0") in fake.calls


def test_a_record_keeps_the_roofs_of_the_store(run_on_gpu, records, store, made_up_gpu):
    roofs = made_up_gpu.MadeUpGpu().roofs()
    store.write_roofs(roofs)
    run_on_gpu(sizes=(1,))

    assert records()[1].roofs == roofs


def test_a_person_s_own_peaks_are_what_a_case_is_held_against(run_on_gpu, records, store):
    """Without them nothing is known of this GPU; with these, 1 GFLOP takes a second."""
    store.path.mkdir()
    (store.path / "hardware.toml").write_text('["a GPU"]\nfp32 = 0.001\nmemory = 1000\n')
    run_on_gpu(sizes=(1,))

    assert records()[1].checks["physics"].verdict == "invalid"


def test_a_case_on_a_cpu_has_checks_and_no_telemetry(run_on_gpu, records):
    run_on_gpu(sizes=(1,), device="cpu")
    record = records()[1]

    assert record.telemetry is None
    assert record.checks["steady"].verdict == "pass"


def test_an_invalid_case_is_stored_with_its_reason_and_told(run_on_gpu, records, fake_device):
    launcher = run_on_gpu(
        lambda case, call: fake_device.measurement_of(case, finite=False), sizes=(1,)
    )
    record = records()[1]

    assert (record.status, record.message) == ("invalid", "output: it holds NaN or infinity")
    assert record.measurement is not None
    assert launcher.watcher.statuses == ["invalid"]


def test_a_case_without_the_latency_pass_is_checked_too(run_on_gpu, records, fake_device):
    run_on_gpu(
        lambda case, call: fake_device.measurement_of(case, finite=False, left_out=("latency",))
    )

    assert {record.status for record in records().values()} == {"invalid"}


def test_a_case_is_compared_with_smaller_batches_of_its_own_kind(run_on_gpu, records, fake_device):
    def measure(case, call):
        return fake_device.measurement_of(case, times_s=lambda index: 0.01 / case.batch_size)

    run_on_gpu(measure)

    assert "monotony" not in records()[1].checks
    assert records()[2].checks["monotony"].verdict == "warn"


def test_an_invalid_smaller_batch_is_compared_with_nothing(run_on_gpu, records, fake_device):
    def measure(case, call):
        return fake_device.measurement_of(case, finite=case.batch_size > 1)

    run_on_gpu(measure, sizes=(1, 2))

    assert "monotony" not in records()[2].checks


def test_the_process_of_the_sweep_is_no_company_of_its_own(run_on_gpu, records, nvml):
    nvml(
        GetComputeRunningProcesses=[[type("Process", (), {"pid": os.getpid(), "usedGpuMemory": 5})]]
    )
    run_on_gpu(sizes=(1,))

    assert records()[1].telemetry.other_processes == ()


def test_workers_are_processes_of_the_sweep(launch, make_case, make_plan):
    launcher = launch("for case in cases(): outcome()")
    launcher.measure(make_case(), make_plan(), lambda stage: None)

    assert launcher._worker.process.pid in own_pids()


# A throttled GPU


def reasons(*attempts):
    """Event bits of attempts, each of a look before and one after."""
    return [bits for attempt in attempts for bits in (0, attempt)]


def test_a_throttled_case_is_tried_again_and_then_invalid(run_on_gpu, records, nvml, naps):
    nvml(GetCurrentClocksEventReasons=reasons(*[THERMAL] * ATTEMPTS))
    launcher = run_on_gpu(sizes=(1,))
    record = records()[1]

    assert (record.status, record.attempts) == ("invalid", ATTEMPTS)
    assert record.message == "clocks: thermal slowdown by the driver"
    assert launcher.batch_sizes == [1] * ATTEMPTS
    assert naps == [runner.RECOVERY_S] * (ATTEMPTS - 1)


def test_a_case_whose_gpu_recovers_is_ok(run_on_gpu, records, nvml):
    nvml(GetCurrentClocksEventReasons=reasons(THERMAL, 0))
    launcher = run_on_gpu(sizes=(1,))
    record = records()[1]

    assert (record.status, record.attempts) == ("ok", 2)
    assert launcher.batch_sizes == [1, 1]


def test_the_drift_probe_is_tried_again_under_heat_and_then_not_judged(run_on_gpu, records, nvml):
    nvml(GetCurrentClocksEventReasons=[*reasons(0, 0, 0), *reasons(*[THERMAL] * ATTEMPTS)])
    launcher = run_on_gpu(probes_drift=True)

    assert launcher.batch_sizes == [1, 2, 4, *[1] * ATTEMPTS]
    assert records()[1].status == "ok"
    assert records()[1].checks["drift"].verdict == "unknown"
    assert launcher.end.drift_telemetry.event_reasons[1] == ("thermal slowdown by the driver",)


def test_the_wait_for_a_throttled_gpu_is_told(run_on_gpu, nvml):
    nvml(GetCurrentClocksEventReasons=reasons(THERMAL, 0))
    stages = run_on_gpu(sizes=(1,)).watcher.stages

    assert "waiting for the GPU to recover: thermal slowdown by the driver" in stages


def test_a_power_cap_is_kept_and_labelled(run_on_gpu, records, nvml, naps):
    nvml(GetCurrentClocksEventReasons=POWER_CAP)
    run_on_gpu(sizes=(1,))
    record = records()[1]

    assert (record.status, record.attempts) == ("ok", 1)
    assert (record.checks["clocks"].verdict, record.checks["clocks"].reason) == (
        "warn", "power cap",
    )  # fmt: skip
    assert naps == []


@pytest.mark.parametrize("status", ["oom", "timeout", "crashed", "cuda_error"])
def test_a_case_that_failed_is_not_tried_again_for_the_gpu_s_heat(
    run_on_gpu, records, nvml, status
):
    nvml(GetCurrentClocksEventReasons=THERMAL)
    launcher = run_on_gpu(lambda case, call: status, sizes=(1,))

    assert launcher.batch_sizes == [1]
    assert (records()[1].status, records()[1].attempts) == (status, 1)


def test_ctrl_c_while_the_gpu_recovers_is_stored_as_interrupted(
    run_on_gpu, records, nvml, monkeypatch
):
    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.time, "sleep", stop)
    nvml(GetCurrentClocksEventReasons=THERMAL)
    with pytest.raises(KeyboardInterrupt):
        run_on_gpu(sizes=(1,))

    assert records()[1].status == "interrupted"
    assert records()[1].stage.startswith("waiting for the GPU to recover")
