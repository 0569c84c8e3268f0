"""What is read of a GPU beside a case, from an NVML that a script answers for."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pynvml
import pytest

from benchmarking.machine import telemetry as telemetry_module
from benchmarking.machine.telemetry import (
    FACTS,
    REASONS,
    SERIES,
    SLOWDOWNS,
    TelemetryWatch,
    slowdowns,
)
from results.records.environment import OtherProcess, Telemetry
from results.records.store import Store

# The quantities that fail with a call, by its name.
CALLS = {
    "GetClockInfo": {"sm_clock_hz", "memory_clock_hz"},
    "GetPowerUsage": {"power_watts"},
    "GetTemperature": {"temperature_celsius"},
    "GetMemoryInfo": {"used_bytes"},
    "GetCurrentClocksEventReasons": {"event_reasons"},
    "GetEnforcedPowerLimit": {"power_limit_watts"},
    "GetTotalEccErrors": {"uncorrected_errors"},
    "GetMigMode": {"is_mig"},
    "GetComputeRunningProcesses": {"other_processes", "process_count"},
    "GetTotalEnergyConsumption": {"energy_joules"},
}
QUANTITIES = {*SERIES, *FACTS, "energy_joules", *CALLS["GetComputeRunningProcesses"]} - {
    "processes"
}
LISTS = QUANTITIES & {*SERIES, "process_count"}


def known(telemetry):
    """Names of the quantities that were read."""
    return {
        name
        for name in QUANTITIES
        if (value := getattr(telemetry, name)) is not None
        and not (name in LISTS and all(each is None for each in value))
    }


def process(pid, used_bytes=None):
    """One that NVML names."""
    return SimpleNamespace(pid=pid, usedGpuMemory=used_bytes)


def wait_for_looks(watch, wanted, wait_until):
    wait_until(lambda: len(watch.looks) >= wanted)


# Looks


def test_a_gpu_is_looked_at_before_and_after_the_work(nvml, fake_device):
    nvml(GetTemperature=[40, 70])
    telemetry = fake_device.look_at(interval_s=60)

    assert telemetry.temperature_celsius == (40, 70)
    assert telemetry.at_s[0] <= telemetry.at_s[1]


def test_a_gpu_is_looked_at_during_the_work_too(nvml, wait_until):
    nvml(GetTemperature=[40, 60, 60, 60, 50])
    with TelemetryWatch("GPU-0", interval_s=0.001) as watch:
        wait_for_looks(watch, 6, wait_until)
    telemetry = watch.telemetry()

    assert telemetry.temperature_celsius[:5] == (40, 60, 60, 60, 50)
    assert list(telemetry.at_s) == sorted(telemetry.at_s)


def test_every_series_has_a_value_a_look(nvml, wait_until):
    with TelemetryWatch("GPU-0", interval_s=0.001) as watch:
        wait_for_looks(watch, 3, wait_until)
    telemetry = watch.telemetry()

    assert {len(getattr(telemetry, name)) for name in LISTS} == {len(telemetry.at_s)}


def test_quantities_are_in_base_units(nvml, fake_device):
    nvml(GetMigMode=[[1, 0]], GetTotalEccErrors=3)
    telemetry = fake_device.look_at()

    assert telemetry.sm_clock_hz[0] == telemetry.memory_clock_hz[0] == 1_500_000_000
    assert telemetry.power_watts[0] == 300
    assert telemetry.power_limit_watts == 700
    assert telemetry.used_bytes[0] == 2**30
    assert (telemetry.is_mig, telemetry.uncorrected_errors) == (True, 3)


def test_the_two_clocks_are_asked_for_by_their_numbers(nvml, fake_device):
    fake = nvml()
    fake_device.look_at()

    asked = {call[2] for call in fake.calls if call[0] == "GetClockInfo"}

    assert asked == {pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM}


def test_energy_is_what_was_used_between_the_looks(nvml, fake_device):
    nvml(GetTotalEnergyConsumption=[5_000, 12_500])

    assert fake_device.look_at().energy_joules == 7.5


def test_a_counter_that_began_anew_gives_no_negative_energy(nvml, fake_device):
    nvml(GetTotalEnergyConsumption=[5_000, 100])

    assert fake_device.look_at().energy_joules == 0


def test_what_was_seen_can_be_asked_for_twice(nvml):
    with TelemetryWatch("GPU-0") as watch:
        pass

    assert watch.telemetry() == watch.telemetry()


# What NVML does not tell


def test_every_quantity_is_known_of_a_gpu_that_tells_all(nvml, fake_device):
    telemetry = fake_device.look_at()

    assert known(telemetry) == QUANTITIES
    assert telemetry.missing == {}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_leaves_the_others_and_names_itself(nvml, fake_device, nvml_error, call):
    nvml(**{call: nvml_error})
    telemetry = fake_device.look_at()

    assert telemetry.missing == dict.fromkeys(CALLS[call], "Not Supported")
    assert known(telemetry) == QUANTITIES - CALLS[call]


def test_every_quantity_has_its_call():
    assert set().union(*CALLS.values()) == QUANTITIES


def test_a_call_that_fails_once_keeps_what_it_told_before(nvml, fake_device, nvml_error):
    nvml(GetPowerUsage=[300_000, nvml_error])
    telemetry = fake_device.look_at()

    assert telemetry.power_watts == (300, None)
    assert telemetry.missing == {"power_watts": "Not Supported"}


def test_a_call_that_failed_is_not_tried_again(nvml, nvml_error, wait_until):
    fake = nvml(GetPowerUsage=nvml_error)
    with TelemetryWatch("GPU-0", interval_s=0.001) as watch:
        wait_for_looks(watch, 5, wait_until)

    assert len([call for call in fake.calls if call[0] == "GetPowerUsage"]) == 1


def test_energy_that_failed_at_the_end_is_not_known(nvml, fake_device, nvml_error):
    nvml(GetTotalEnergyConsumption=[5_000, nvml_error])

    assert fake_device.look_at().energy_joules is None


@pytest.mark.parametrize("call", ["Init", "GetHandleByUUID"])
def test_without_nvml_or_the_gpu_all_is_missing_with_the_reason(nvml, fake_device, call):
    nvml(**{call: pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)})
    telemetry = fake_device.look_at()

    assert telemetry.missing == dict.fromkeys(QUANTITIES, "NVML Shared Library Not Found")
    assert known(telemetry) == set()


@pytest.mark.parametrize(
    ("uuid", "full"), [("ab-12", "GPU-ab-12"), ("GPU-ab-12", "GPU-ab-12"), ("MIG-1", "MIG-1")]
)
def test_a_gpu_is_found_by_torch_s_uuid_and_by_nvml_s(nvml, fake_device, uuid, full):
    fake = nvml()
    fake_device.look_at(uuid)

    assert ("GetHandleByUUID", full) in fake.calls


# Company and clocks


def test_own_processes_are_no_company(nvml, fake_device):
    nvml(GetComputeRunningProcesses=[[process(pid) for pid in (9, 7, 5)]])
    telemetry = fake_device.look_at(find_own_pids=lambda: {7})

    assert [each.pid for each in telemetry.other_processes] == [5, 9]
    assert telemetry.process_count == (3, 3)


def test_a_process_that_comes_while_the_work_runs_is_company(nvml, fake_device):
    nvml(GetComputeRunningProcesses=[[], [process(9)]])
    telemetry = fake_device.look_at(find_own_pids=lambda: ())

    assert [each.pid for each in telemetry.other_processes] == [9]
    assert telemetry.process_count == (0, 1)


def test_a_stranger_is_told_with_the_most_memory_that_it_had(nvml, fake_device):
    nvml(GetComputeRunningProcesses=[[process(9, 5), process(8)], [process(9, 3)]])
    telemetry = fake_device.look_at(find_own_pids=lambda: ())

    assert telemetry.other_processes == (
        OtherProcess(pid=8), OtherProcess(pid=9, used_bytes=5),
    )  # fmt: skip


def test_a_worker_that_is_replaced_is_never_company(nvml, fake_device):
    nvml(GetComputeRunningProcesses=[[process(1)], [process(2)]])
    own = iter([{1}, {2}])

    assert fake_device.look_at(find_own_pids=lambda: next(own)).other_processes == ()


def test_in_a_container_processes_are_counted_but_not_named(nvml, fake_device, monkeypatch):
    nvml(GetComputeRunningProcesses=[[process(9)]])
    monkeypatch.setattr(telemetry_module, "sees_host_pids", lambda: False)
    telemetry = fake_device.look_at()

    assert telemetry.other_processes is None
    assert telemetry.process_count == (1, 1)
    assert "container" in telemetry.missing["other_processes"]


@pytest.mark.parametrize(
    ("link", "is_host"), [("pid:[4026531836]", True), ("pid:[4026532999]", False), (None, False)]
)
def test_a_container_is_known_by_its_namespace(monkeypatch, link, is_host):
    def readlink(path):
        if link is None:
            raise FileNotFoundError(path)
        return link

    monkeypatch.setattr(telemetry_module.os, "readlink", readlink)

    assert telemetry_module.sees_host_pids() is is_host


@pytest.mark.parametrize(("bit", "name"), REASONS.items())
def test_an_event_s_bit_has_its_name(nvml, fake_device, bit, name):
    nvml(GetCurrentClocksEventReasons=bit)

    assert fake_device.look_at().event_reasons == ((name,), (name,))


def test_bits_that_are_set_together_have_a_name_each(nvml, fake_device):
    nvml(GetCurrentClocksEventReasons=0x4 | 0x40 | 0x8)

    assert fake_device.look_at().event_reasons[0] == (
        "power cap", "hardware slowdown", "thermal slowdown by the hardware",
    )  # fmt: skip


def test_a_bit_that_is_not_known_is_passed_over(nvml, fake_device):
    nvml(GetCurrentClocksEventReasons=2**40)

    assert fake_device.look_at().event_reasons[0] == ()


@pytest.mark.parametrize("name", REASONS.values())
def test_only_heat_and_hardware_are_slowdowns(name):
    telemetry = Telemetry(event_reasons=((), (name,), None))

    assert slowdowns(telemetry) == ((name,) if name in SLOWDOWNS else ())


def test_what_was_before_the_work_is_no_slowdown_of_it():
    assert slowdowns(Telemetry(event_reasons=((SLOWDOWNS[0],), ()))) == ()


def test_slowdowns_are_names_of_reasons():
    assert set(SLOWDOWNS) < set(REASONS.values())


# The thread


@pytest.mark.parametrize("error", [None, ValueError("in the body"), KeyboardInterrupt()])
def test_no_thread_is_left_however_the_work_ends(nvml, error):
    before = threading.active_count()
    expected = nullcontext() if error is None else pytest.raises(type(error))
    with expected, TelemetryWatch("GPU-0", interval_s=0.001):
        if error is not None:
            raise error

    assert threading.active_count() == before


def test_the_end_of_the_work_waits_for_no_interval(nvml, fake_device):
    assert fake_device.look_at(interval_s=3600).at_s[-1] < 60


# The record


def test_telemetry_comes_back_from_the_store(
    nvml, fake_device, nvml_error, make_record, make_store, tmp_path
):
    nvml(GetPowerUsage=nvml_error, GetCurrentClocksEventReasons=0x4)
    record = make_record(telemetry=fake_device.look_at(), attempts=2)
    make_store(record)
    (found,) = Store(tmp_path / "runs").read().records

    assert found.attempts == 2
    assert found.telemetry.missing == {"power_watts": "Not Supported"}
    assert found.telemetry.model_copy(update={"at_s": ()}) == record.telemetry.model_copy(
        update={"at_s": ()}
    )
