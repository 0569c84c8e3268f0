"""A device that is to seem smaller than it is: for true on a CPU, by its calls on a GPU."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import pytest
import torch

from benchmarking.measuring import rig as rig_file
from benchmarking.measuring.rig import limit_memory
from benchmarking.sweeping.case_runner import LocalCaseRunner

LIMIT = 150_000_000
MANY = 320  # images of 128 pixels, of which two batches alone take more


# For true


@pytest.fixture
def limited(make_case, make_plan):
    """Measure a batch size in a worker that may have so much memory, or as it likes."""
    launcher = LocalCaseRunner()

    def run(batch_size, limit_bytes=LIMIT):
        case = make_case(batch_size=batch_size, image_size=128)
        plan = make_plan(
            passes=("latency",), min_forwards=1, max_forwards=1, memory_limit_bytes=limit_bytes
        )
        return launcher.measure(case, plan, lambda stage: None)

    yield run
    launcher.close()


def test_one_image_fits_in_a_small_memory_and_a_large_batch_does_not(limited):
    one, many = limited(1), limited(MANY)

    assert one.status == "ok", one.stderr_tail
    assert many.status == "oom", many.stderr_tail


def test_without_the_limit_the_same_batch_fits(limited):
    outcome = limited(MANY, limit_bytes=None)

    assert outcome.status == "ok", outcome.stderr_tail


def test_a_model_that_does_not_fit_itself_is_oom(limited):
    assert limited(1, limit_bytes=2**20).status == "oom"


# By its calls


@pytest.fixture
def fractions(monkeypatch):
    """What a GPU of 1000 bytes is told to keep to."""
    told = []
    properties = SimpleNamespace(total_memory=1000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *each: told.append(each)
    )
    return told


@pytest.mark.parametrize(("limit", "fraction"), [(250, 0.25), (1000, 1.0), (5000, 1.0)])
def test_torch_may_have_that_fraction_of_a_gpu(fractions, limit, fraction):
    device = torch.device("cuda:1")
    limit_memory(device, limit)

    assert fractions == [(fraction, device)]


@pytest.fixture
def limits(monkeypatch):
    """The limits on data that this process would have set; torch's own data is left out."""
    told, hard = [], 2**50
    monkeypatch.setattr(rig_file.resource, "getrlimit", lambda kind: (hard, hard))
    monkeypatch.setattr(rig_file.resource, "setrlimit", lambda *each: told.append(each))
    return told


def test_a_cpu_s_process_may_have_that_more_data_than_it_holds(limits):
    for limit in (LIMIT, 3 * LIMIT):
        limit_memory(torch.device("cpu"), limit)
    (kind, (first, hard)), (_, (second, _)) = limits

    assert (kind, hard) == (resource.RLIMIT_DATA, 2**50)
    assert first > LIMIT
    assert second - first == pytest.approx(2 * LIMIT, rel=0.1)


def test_without_a_limit_none_is_set(limits, make_case, make_plan):
    rig_file.build_rig(make_case(image_size=32), make_plan())

    assert limits == []
