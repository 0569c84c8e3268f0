"""PeakMemory, by a meter that counts what fake modules take; and the true meters."""

from __future__ import annotations

import mmap
import sys

import pytest
import torch
from torch import nn

from hooks import CudaMeter, PeakMemory, ResidentMeter, meter_for

MIB, PAGE = 2**20, 4096
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class FakeMeter:
    """An allocator of bytes that hold nothing."""

    def __init__(self) -> None:
        self.held = self.peak = 1000

    def take(self, count: int) -> None:
        self.held += count
        self.peak = max(self.peak, self.held)

    def held_bytes(self) -> int:
        return self.held

    def peak_bytes(self) -> int:
        return self.peak

    def reset_peak(self) -> None:
        self.peak = self.held


class RoundingMeter(FakeMeter):
    """Tells a peak in coarser steps than what is held, as Linux does."""

    def peak_bytes(self) -> int:
        return self.peak // 64 * 64


class Need(nn.Module):
    """Takes bytes for a while, calls its children, takes more for a while, and keeps some."""

    def __init__(self, meter: FakeMeter, first: int, *parts: nn.Module, last=0, keeps=0) -> None:
        super().__init__()
        self.meter, self.first, self.last, self.keeps = meter, first, last, keeps
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        self.take_and_free(self.first)
        for part in self.parts:
            x = part(x)
        self.take_and_free(self.last)
        self.meter.take(self.keeps)
        return x

    def take_and_free(self, count: int) -> None:
        self.meter.take(count)
        self.meter.take(-count)


class Forgive(Need):
    """Goes on after an error in a child, with 400 bytes for a while."""

    def forward(self, x):
        try:
            return super().forward(x)
        except RuntimeError:
            self.take_and_free(400)
            return x


class Fail(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of memory")


X = torch.zeros(1)


@pytest.fixture
def meter():
    return FakeMeter()


def hooks_left(module: nn.Module) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules())


def test_a_calls_peak_includes_what_was_held_before(meter):
    module = Need(meter, 70)
    with PeakMemory({"module": module}, meter) as memory:
        module(X)

    assert memory.peak_bytes() == {"module": 1070}
    assert memory.rise_bytes() == {"module": 70}


def test_a_childs_peak_counts_for_all_its_parents(meter):
    child = Need(meter, 500)
    parent = Need(meter, 70, child)
    root = Need(meter, 20, parent)
    with PeakMemory({"root": root, "parent": parent, "child": child}, meter) as memory:
        root(X)

    assert memory.rise_bytes() == {"root": 500, "parent": 500, "child": 500}


@pytest.mark.parametrize(("first", "last"), [(500, 0), (0, 500)])
def test_a_parents_peak_outside_a_child_is_not_the_childs(meter, first, last):
    child = Need(meter, 70)
    root = Need(meter, first, child, last=last)
    with PeakMemory({"root": root, "child": child}, meter) as memory:
        root(X)

    assert memory.rise_bytes() == {"root": 500, "child": 70}


def test_what_a_sibling_kept_is_in_the_peak_and_not_in_the_rise(meter):
    keeper, after = Need(meter, 0, keeps=300), Need(meter, 70)
    root = Need(meter, 0, keeper, after)
    with PeakMemory({"root": root, "keeper": keeper, "after": after}, meter) as memory:
        root(X)

    assert memory.peak_bytes() == {"root": 1370, "keeper": 1300, "after": 1370}
    assert memory.rise_bytes() == {"root": 370, "keeper": 300, "after": 70}


def test_the_largest_of_several_calls_counts(meter):
    module = Need(meter, 70)
    with PeakMemory({"module": module}, meter) as memory:
        for need in (70, 900, 10):
            module.first = need
            module(X)

    assert memory.rise_bytes() == {"module": 900}


def test_a_module_never_called_is_left_out(meter):
    with PeakMemory({"module": Need(meter, 70)}, meter) as memory:
        pass

    assert memory.peak_bytes() == memory.rise_bytes() == {}


def test_a_module_that_returns_none_is_watched(meter):
    class Silent(nn.Module):
        def forward(self, x):
            meter.take(30)

    module = Silent()
    with PeakMemory({"module": module}, meter) as memory:
        module(X)

    assert memory.rise_bytes() == {"module": 30}


def test_a_rise_is_never_negative_where_the_meter_rounds():
    meter = RoundingMeter()
    module = Need(meter, 0, keeps=-200)
    with PeakMemory({"module": module}, meter) as memory:
        module(X)

    assert memory.rise_bytes() == {"module": 0}


def test_watches_after_a_caught_error_are_right(meter):
    child, fail = Need(meter, 70), Fail()
    root = Need(meter, 20, child, fail)
    with PeakMemory({"root": root, "child": child, "fail": fail}, meter) as memory:
        with pytest.raises(RuntimeError, match="out of memory"):
            root(X)
        root.parts = nn.ModuleList([child])
        child.first = 90
        root(X)

    assert memory.rise_bytes() == {"root": 90, "child": 90}


def test_a_module_that_goes_on_after_a_childs_error_has_its_own_peak(meter):
    child = Need(meter, 70, Fail())
    root = Forgive(meter, 500, child)
    with PeakMemory({"root": root, "child": child}, meter) as memory:
        root(X)

    assert memory.rise_bytes() == {"root": 500}


def test_an_error_in_another_hook_leaves_the_parents_watch_right(meter):
    def refuse(module, inputs):
        raise RuntimeError("not today")

    child = Need(meter, 70)
    child.register_forward_pre_hook(refuse)
    root = Forgive(meter, 20, child)
    with PeakMemory({"root": root, "child": child}, meter) as memory:
        root(X)

    assert memory.rise_bytes() == {"root": 400}


def test_no_hook_is_left_after_leaving(meter):
    root = Need(meter, 1, Need(meter, 2))
    with PeakMemory(dict(root.named_modules()), meter):
        root(X)
        during = hooks_left(root)

    assert during > 0
    assert hooks_left(root) == 0


def test_no_hook_is_left_after_an_error_in_the_forward(meter):
    root = Need(meter, 1, Fail())
    with pytest.raises(RuntimeError), PeakMemory(dict(root.named_modules()), meter):
        root(X)

    assert hooks_left(root) == 0


def test_no_hook_is_left_after_an_error_while_entering(meter):
    module = Need(meter, 1)
    with pytest.raises(AttributeError), PeakMemory({"module": module, "wrong": 3}, meter):
        pass

    assert hooks_left(module) == 0


def touched_64_mib():
    """Fresh from the kernel: Python's own allocator may hand out what earlier tests gave back."""
    block = mmap.mmap(-1, 64 * MIB)
    block[::PAGE] = bytes(64 * MIB // PAGE)
    return block


@needs_linux
def test_resident_meter_sees_64_mib_that_were_touched_and_freed():
    meter = ResidentMeter()
    meter.reset_peak()
    before = meter.peak_bytes()
    block = touched_64_mib()
    block.close()

    assert meter.peak_bytes() - before >= 60 * MIB


@needs_linux
def test_resident_meter_forgets_a_peak_at_reset():
    meter = ResidentMeter()
    block = touched_64_mib()
    peak = meter.peak_bytes()
    block.close()
    meter.reset_peak()

    assert peak - meter.peak_bytes() >= 60 * MIB


@needs_linux
def test_resident_meter_tells_what_is_held_now():
    meter = ResidentMeter()
    before = meter.held_bytes()
    block = touched_64_mib()
    during = meter.held_bytes()
    block.close()

    assert during - before >= 60 * MIB
    assert during - meter.held_bytes() >= 60 * MIB


@needs_linux
def test_resident_meter_names_what_is_missing():
    with pytest.raises(RuntimeError, match="/proc/self/status has no VmNone"):
        ResidentMeter._status_bytes("VmNone")


@pytest.mark.parametrize(("device", "kind"), [("cpu", ResidentMeter), ("cuda:1", CudaMeter)])
def test_each_device_has_its_meter(device, kind):
    assert type(meter_for(device)) is kind


def test_cuda_meter_asks_torchs_allocator_about_its_device(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    meter = CudaMeter("cuda:1")
    meter.reset_peak()

    assert (meter.held_bytes(), meter.peak_bytes()) == (3, 7)
    assert asked == [torch.device("cuda:1")]


@pytest.mark.gpu
@needs_cuda
def test_cuda_meter_sees_a_tensor_that_came_and_went():
    meter = CudaMeter("cuda")
    meter.reset_peak()
    held = meter.held_bytes()
    tensor = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
    during = meter.held_bytes()
    del tensor

    assert during - held == 64 * MIB
    assert meter.peak_bytes() - held == 64 * MIB
    assert meter.held_bytes() == held
