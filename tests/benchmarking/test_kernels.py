"""Which kernels run in which module: for true on a CPU, and from events as a GPU's profile has."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import DeviceType

from benchmarking.choices.modules import TimedModule, find_modules
from benchmarking.measuring.measure import PassError
from benchmarking.measuring.passes.kernels import FORWARDS, MARK, kernel_times
from benchmarking.measuring.rig import build_rig
from results.records.measurement import ENCODER


@pytest.fixture
def rig(make_case, make_plan):
    return build_rig(make_case(image_size=32), make_plan())


@pytest.fixture(scope="module")
def traced(run_case, make_case, make_plan):
    """The kernels of a tiny model, those by part of a block, and the trace of the first."""
    rig = build_rig(make_case(image_size=32), make_plan())
    run = {"rig": rig, "image_size": 32, "passes": ("kernels",)}
    kernels, trace = run_case(**run).kernels, rig.trace
    deep = run_case(module_depth=2, **run).kernels
    return SimpleNamespace(kernels=kernels, deep=deep, trace=trace, encoder=rig.encoder)


def hooks_of(model):
    return [
        hook
        for module in model.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks)
        for hook in hooks.values()
    ]


# For true


@pytest.mark.parametrize(("name", "depth"), [("kernels", 1), ("deep", 2)])
def test_every_module_with_kernels_is_one_that_is_timed(traced, name, depth):
    found = find_modules(traced.encoder, depth)
    times = getattr(traced, name).times

    assert {(each.module, each.kind) for each in times} <= {
        (module, timed.kind) for module, timed in found.items()
    }


@pytest.mark.parametrize("module", ["patch_embed", "blocks.0", "blocks.3", "neck"])
def test_a_module_that_computes_has_kernels(traced, module):
    assert module in {each.module for each in traced.kernels.times}


@pytest.mark.parametrize("part", ["norm1", "attn", "norm2", "mlp"])
def test_a_block_s_parts_have_their_own_kernels_where_they_are_asked_for(traced, part):
    assert f"blocks.0.{part}" in {each.module for each in traced.deep.times}


def test_each_forward_makes_the_same_calls(traced):
    calls = [each.calls for each in traced.kernels.times]

    assert traced.kernels.forwards == FORWARDS
    assert {count % FORWARDS for count in calls} == {0}
    assert min(calls) > 0


def test_the_longest_kernels_stand_first(traced):
    seconds = [each.total_s for each in traced.kernels.times]

    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 0


def test_a_module_s_kernel_stands_once(traced):
    counts = Counter((each.module, each.name) for each in traced.kernels.times)

    assert set(counts.values()) == {1}


def test_no_range_of_ours_is_a_kernel(traced):
    assert not any(each.name.startswith(MARK) for each in traced.kernels.times)


def test_the_trace_is_gzipped_json_of_events_with_our_ranges(traced):
    events = json.loads(gzip.decompress(traced.trace))["traceEvents"]
    names = {event.get("name") for event in events}

    assert {f"{MARK}{ENCODER}", f"{MARK}blocks.0", "aten::addmm"} <= names


def test_hooks_are_gone_after_the_pass(run_case, rig):
    run_case(rig=rig, image_size=32, passes=("kernels",))

    assert hooks_of(rig.encoder) == []


@pytest.fixture
def failing(rig, monkeypatch):
    """A rig whose neck fails in its second forward, which is the first in the profile."""
    true, calls = rig.encoder.neck.forward, []

    def forward(images):
        calls.append(images)
        if len(calls) == 2:
            raise RuntimeError("the neck broke")
        return true(images)

    monkeypatch.setattr(rig.encoder.neck, "forward", forward)
    return rig


def test_hooks_are_gone_after_an_error(run_case, failing):
    with pytest.raises(PassError, match="the neck broke"):
        run_case(rig=failing, image_size=32, passes=("kernels",))

    assert hooks_of(failing.encoder) == []


def test_after_an_error_the_next_pass_finds_the_same_kernels(run_case, failing, traced):
    with pytest.raises(PassError):
        run_case(rig=failing, image_size=32, passes=("kernels",))
    again = run_case(rig=failing, image_size=32, passes=("kernels",)).kernels

    assert {(each.module, each.name, each.calls) for each in again.times} == {
        (each.module, each.name, each.calls) for each in traced.kernels.times
    }


def test_every_range_is_left_after_an_error(run_case, failing, monkeypatch):
    entered, left = [], []

    class Range:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            entered.append(self.name)

        def __exit__(self, *error):
            left.append(self.name)

    monkeypatch.setattr("torch.profiler.record_function", Range)
    with pytest.raises(PassError):
        run_case(rig=failing, image_size=32, passes=("kernels",))

    assert MARK + "neck" in entered
    assert sorted(left) == sorted(entered)


# Events as torch's profiler gives them


def event(name, parent=None, kernels=(), own_us=0.0, device_type=DeviceType.CPU):
    return SimpleNamespace(
        name=name,
        cpu_parent=parent,
        kernels=[SimpleNamespace(name=kernel, duration=us) for kernel, us in kernels],
        self_cpu_time_total=own_us,
        device_type=device_type,
    )


FOUND = {
    ENCODER: TimedModule(nn.Identity(), "encoder"),
    "blocks.0": TimedModule(nn.Identity(), "window"),
    "blocks.0.attn": TimedModule(nn.Identity(), "window attention"),
}
WHOLE = event(MARK + ENCODER)
BLOCK = event(MARK + "blocks.0", parent=WHOLE)
ATTENTION = event(MARK + "blocks.0.attn", parent=BLOCK)


def told(*events, device_type="cuda"):
    """(module, kind, kernel, calls, microseconds) of these events."""
    return [
        (each.module, each.kind, each.name, each.calls, pytest.approx(each.total_s * 1e6))
        for each in kernel_times(events, FOUND, device_type)
    ]


def test_a_kernel_belongs_to_the_innermost_module():
    product = event("aten::mm", parent=event("aten::linear", parent=ATTENTION))
    product.kernels = [SimpleNamespace(name="gemm", duration=7.0)]

    assert told(product) == [("blocks.0.attn", "window attention", "gemm", 1, 7.0)]


def test_a_kernel_between_a_module_s_parts_belongs_to_the_module():
    after = event("aten::add", parent=BLOCK, kernels=[("add", 2.0)])

    assert told(ATTENTION, after) == [("blocks.0", "window", "add", 1, 2.0)]


@pytest.mark.parametrize("parent", [None, WHOLE, event("aten::to")], ids=["none", "own", "other"])
def test_a_kernel_outside_all_modules_belongs_to_the_encoder(parent):
    copy = event("aten::copy_", parent=parent, kernels=[("copy", 3.0)])

    assert told(copy) == [(ENCODER, "encoder", "copy", 1, 3.0)]


def test_calls_and_seconds_of_a_module_s_kernel_are_summed():
    events = [event("aten::mm", parent=BLOCK, kernels=[("gemm", us)]) for us in (5.0, 7.0, 9.0)]

    assert told(*events) == [("blocks.0", "window", "gemm", 3, 21.0)]


def test_one_operation_may_launch_several_kernels():
    product = event("aten::mm", parent=BLOCK, kernels=[("split", 5.0), ("reduce", 1.0)])

    assert [row[2:] for row in told(product)] == [("split", 1, 5.0), ("reduce", 1, 1.0)]


def test_a_kernel_of_two_modules_stands_twice_the_longer_first():
    events = [
        event("aten::mm", parent=BLOCK, kernels=[("gemm", 5.0)]),
        event("aten::mm", parent=ATTENTION, kernels=[("gemm", 9.0)]),
    ]

    assert [row[0] for row in told(*events)] == ["blocks.0.attn", "blocks.0"]


def test_on_a_gpu_the_host_s_own_time_is_no_kernel():
    events = [
        event("aten::mm", parent=BLOCK, own_us=500.0, kernels=[("gemm", 5.0)]),
        event("aten::view", parent=BLOCK, own_us=400.0),
    ]

    assert told(*events) == [("blocks.0", "window", "gemm", 1, 5.0)]


def test_a_kernel_is_not_counted_again_by_its_own_event():
    launch = event("aten::mm", parent=BLOCK, kernels=[("gemm", 5.0)])
    kernel = event("gemm", kernels=[("gemm", 5.0)], device_type=DeviceType.CUDA)

    assert told(launch, kernel) == told(launch)


def test_our_range_as_the_gpu_saw_it_is_no_kernel():
    on_host = event(MARK + "blocks.0", own_us=9.0, kernels=[(MARK + "blocks.0", 9.0)])
    on_gpu = event(MARK + "blocks.0", own_us=9.0, device_type=DeviceType.CUDA)

    assert told(on_host, on_gpu) == []


def test_on_a_cpu_an_operation_s_time_is_its_own_without_those_that_it_calls():
    linear = event("aten::linear", parent=BLOCK, own_us=1.0)
    product = event("aten::addmm", parent=linear, own_us=8.0)
    rows = told(linear, product, device_type="cpu")

    assert [row[2:] for row in rows] == [("aten::addmm", 1, 8.0), ("aten::linear", 1, 1.0)]


def test_on_a_cpu_what_is_outside_the_forward_is_left_out():
    assert told(event("aten::randn", own_us=9.0), device_type="cpu") == []


def test_on_a_cpu_no_profile_of_a_gpu_is_asked_for(run_case, rig, monkeypatch):
    asked, true = [], torch.profiler.profile

    def spying(activities):
        asked.extend(activities)
        return true(activities=activities)

    monkeypatch.setattr("torch.profiler.profile", spying)
    run_case(rig=rig, image_size=32, passes=("kernels",))

    assert asked == [torch.profiler.ProfilerActivity.CPU]
