"""Energy of forwards, by an NVML that a script answers for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from benchmarking.measuring import timing
from benchmarking.measuring.passes import energy as energy_module
from benchmarking.measuring.rig import build_rig
from benchmarking.measuring.timing import MAX_CHUNK_FORWARDS


@pytest.fixture
def rig(make_case, make_plan, monkeypatch):
    """A tiny model on the CPU, which passes for a GPU; the window is short."""
    monkeypatch.setattr(energy_module, "WINDOW_S", 0.01)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="of-torch")
    )
    return build_rig(make_case(image_size=32), make_plan())


@pytest.fixture
def measure(run_case, rig):
    """The energy pass of a case on this GPU, through all that a worker does."""

    def run(**changes):
        return run_case(rig=rig, device="cuda:0", image_size=32, passes=("energy",), **changes)

    return run


@pytest.mark.parametrize(("counter_mj", "joules"), [([5_000, 12_500], 7.5), ([0, 1], 0.001)])
def test_energy_is_the_difference_of_the_board_s_counter(measure, nvml, counter_mj, joules):
    nvml(GetTotalEnergyConsumption=counter_mj)

    assert measure().energy.joules == pytest.approx(joules)


def test_a_counter_that_began_anew_gives_no_negative_energy(measure, nvml):
    nvml(GetTotalEnergyConsumption=[5_000, 100])

    assert measure().energy.joules == 0


def test_the_forwards_between_the_two_looks_are_counted(measure, rig, nvml):
    fake, counts, encode = nvml(), [], rig.encode

    def counting(images):
        counts.append(len([call for call in fake.calls if call[0] == "GetTotalEnergyConsumption"]))
        return encode(images)

    rig.encode = counting
    energy = measure().energy

    assert energy.forwards == counts.count(1) > 0


def test_the_window_is_at_least_as_long_as_it_must_be(measure, nvml):
    assert measure().energy.window_s >= energy_module.WINDOW_S


def test_chunks_have_as_many_forwards_as_the_second_of_two_tells(measure, rig, nvml, monkeypatch):
    sizes, true = [], timing.timed_chunk

    def spying(forward, clock, size):
        sizes.append(size)
        return true(forward, clock, size)

    monkeypatch.setattr(timing, "timed_chunk", spying)
    monkeypatch.setattr(timing, "chunk_size", lambda forward_s: 3)
    measure()

    assert (sizes[0], set(sizes[1:])) == (2, {3})
    assert max(sizes) <= MAX_CHUNK_FORWARDS


def test_the_gpu_is_found_by_torch_s_uuid(measure, nvml):
    fake = nvml()
    measure()

    assert ("GetHandleByUUID", "GPU-of-torch") in fake.calls


@pytest.mark.parametrize("call", ["Init", "GetHandleByUUID", "GetTotalEnergyConsumption"])
def test_where_nvml_does_not_tell_there_is_a_note_with_the_reason(measure, nvml, nvml_error, call):
    nvml(**{call: nvml_error})
    measured = measure()

    assert measured.energy is None
    assert measured.notes["energy"] == str(nvml_error)


def test_a_counter_that_fails_after_the_forwards_gives_no_energy(measure, nvml, nvml_error):
    nvml(GetTotalEnergyConsumption=[5_000, nvml_error])
    measured = measure()

    assert measured.energy is None
    assert measured.notes["energy"] == str(nvml_error)


def test_on_a_cpu_the_pass_is_unsupported_with_the_reason(run_case):
    measured = run_case(passes=("energy",), image_size=32)

    assert measured.energy is None
    assert measured.notes == {"energy": "unsupported: NVML counts the energy of GPUs alone"}
