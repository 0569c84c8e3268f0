"""Referees of our latency: the logic by made clocks, and the referees themselves where they run."""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent

from benchmarking.measuring import reference_timer as referee
from benchmarking.measuring.reference_timer import (
    EXAMS,
    GOAL,
    LAUNCH_BOUND,
    REFERENCE_TIMERS,
    TIMER,
    Agreement,
    ReferenceTimer,
    agreement,
    device_seconds,
    examine,
)
from hooks import clock_for

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GAPLESS = "torch.profiler, sum of kernels"


class FakeGpu:
    """A forward, the clock and the host's time on a GPU that works behind the host.

    Args:
        launch_s: What the host takes to launch a forward.
        compute_s: What the GPU takes for one.
    """

    def __init__(self, launch_s, compute_s):
        self.launch_s, self.compute_s = launch_s, compute_s
        self.host_s = self.done_s = 0.0

    def forward(self):
        self.done_s = max(self.done_s, self.host_s) + self.compute_s
        self.host_s += self.launch_s
        self.done_s = max(self.done_s, self.host_s)

    def now(self):
        return self.host_s

    def mark(self):
        return max(self.done_s, self.host_s)

    def seconds(self, start, end):
        return end - start

    def synchronize(self):
        self.host_s = max(self.host_s, self.done_s)

    def release(self, *marks):
        pass


@pytest.fixture
def meet():
    """Meet referees that answer these seconds, over and over, with a forward of 0.125 s."""

    def run(rounds=4, devices=("cpu",), device=CPU, gpu=None, sees_gaps=True, **answers):
        gpu = gpu or FakeGpu(0.125, 0.0)
        referees = {}
        for name, seconds in answers.items():
            cycle = itertools.cycle(seconds)
            referees[name] = ReferenceTimer(lambda *_, it=cycle: next(it), devices, sees_gaps)
        return agreement(gpu.forward, gpu, rounds, device, referees, gpu.now)

    return run


# Ratio and spread


def test_the_ratio_is_ours_over_the_referees(meet):
    assert meet(a=[0.25])["a"].ratio == 0.5


def test_the_ratio_is_the_median_of_the_rounds(meet):
    assert meet(rounds=3, a=[0.125, 100.0, 0.0625])["a"].ratio == 1.0


def test_each_referee_has_its_own_ratio(meet):
    met = meet(a=[0.125], b=[0.25])

    assert {name: each.ratio for name, each in met.items()} == {"a": 1.0, "b": 0.5}


def test_a_few_rounds_spread_from_the_least_to_the_most(meet):
    assert meet(rounds=3, a=[0.125, 0.25, 0.0625])["a"].spread == (0.5, 2.0)


def test_one_odd_round_of_many_is_outside_the_interval(meet):
    assert meet(rounds=12, a=[0.125] * 11 + [1.0])["a"].spread == (1.0, 1.0)


# Order


def test_the_order_is_reversed_every_other_round(fake_clock):
    clock, order = fake_clock(), []

    def forward():
        order.append("own")
        clock.now_s += 1.0

    def answer(name):
        return ReferenceTimer(lambda *_: order.append(name) or 1.0, ("cpu",))

    agreement(forward, clock, 3, CPU, {name: answer(name) for name in "ab"}, clock.now)
    turns = [turn for turn, _ in itertools.groupby(order)]

    assert turns == ["own", "a", "b", "a", "own", "a", "b"]


def test_a_steady_drift_cancels(fake_clock):
    clock, now_s = fake_clock(), itertools.count(1000)

    def spend():
        seconds = float(next(now_s))  # every turn is slower than the one before
        clock.now_s += seconds
        return seconds

    met = agreement(
        spend, clock, 40, CPU, {"a": ReferenceTimer(lambda *_: spend(), ("cpu",))}, clock.now
    )

    assert met["a"].ratio == pytest.approx(1.0, abs=2e-3)


def test_referees_time_the_same_forward_on_the_same_device():
    gpu, seen = FakeGpu(0.125, 0.0), []
    taking = ReferenceTimer(lambda *given: seen.append(given) or 1.0, ("cpu",))
    agreement(gpu.forward, gpu, 1, CPU, {"a": taking}, gpu.now)

    assert seen == [(gpu.forward, CPU)]


def test_a_referee_that_does_not_serve_the_device_stays_out(meet):
    assert meet(devices=("cuda",), a=[1.0]) == {}


# Labels


@pytest.mark.parametrize(
    ("ratios", "label"),
    [
        ((1.0, 1.0, 1.0), "yes"),
        ((1 - GOAL + 0.001, 1.0, 1 + GOAL - 0.001), "yes"),
        ((1.5, 1.5, 1.5), "no"),
        ((0.5, 0.5, 0.5), "no"),
        ((1.0, 1.0, 1.5), "~"),
        ((0.5, 1.0, 1.0), "~"),
        ((0.5, 1.0, 1.5), "~"),
    ],
)
def test_a_label_says_whether_we_are_within_the_goal(ratios, label):
    assert Agreement(ratios, (1.0, 1.0, 1.0)).label == label


def test_a_referee_that_disagrees_is_shown(meet):
    assert [(each.ratio, each.label) for each in meet(a=[0.1]).values()] == [(1.25, "no")]


LAUNCH_BOUND_GPU, BUSY_GPU = (0.125, 0.01), (0.01, 0.125)


@pytest.mark.parametrize(
    ("times", "is_launch_bound"), [(LAUNCH_BOUND_GPU, True), (BUSY_GPU, False)]
)
def test_a_forward_whose_launching_takes_as_long_is_launch_bound(meet, times, is_launch_bound):
    met = meet(gpu=FakeGpu(*times), device=CUDA, devices=("cuda",), a=[0.125])

    assert met["a"].is_launch_bound is is_launch_bound


@pytest.mark.parametrize(
    ("times", "sees_gaps", "label"),
    [
        (LAUNCH_BOUND_GPU, False, "launch-bound"),
        (LAUNCH_BOUND_GPU, True, "no"),
        (BUSY_GPU, False, "no"),
    ],
)
def test_only_who_sees_no_gaps_is_not_judged_where_launching_leaves_them(
    meet, times, sees_gaps, label
):
    met = meet(gpu=FakeGpu(*times), device=CUDA, devices=("cuda",), sees_gaps=sees_gaps, a=[0.01])

    assert met["a"].label == label


def test_a_forward_on_a_cpu_is_never_launch_bound(meet):
    assert not meet(a=[0.125])["a"].is_launch_bound


def test_the_launch_share_that_makes_a_label_is_the_limit_itself():
    below, at = (Agreement((1.0,), (1.0,), share) for share in (LAUNCH_BOUND - 0.01, LAUNCH_BOUND))

    assert (below.is_launch_bound, at.is_launch_bound) == (False, True)


# The referees


@pytest.fixture
def product():
    matrix = torch.randn(96, 96, generator=torch.Generator().manual_seed(0))
    return lambda: matrix @ matrix


@pytest.fixture
def fake_cuda(monkeypatch):
    """Let a CPU's forward be one on the GPU that was chosen; give the choices."""
    chosen = []
    monkeypatch.setattr(
        torch.cuda, "device", lambda device: nullcontext(chosen.append(str(device)))
    )
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)

    class Profile:
        def __init__(self, activities):
            self.is_on = False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def events(self):
            return [event(2000.0)] * referee.KERNEL_FORWARDS

    monkeypatch.setattr(referee, "profile", Profile)
    triton = SimpleNamespace(do_bench=lambda forward, rep, return_mode: forward() is None or 2.0)
    monkeypatch.setitem(sys.modules, "triton.testing", triton)
    return chosen


def event(duration_us, device_type=DeviceType.CUDA, **more):
    """What torch.profiler lists."""
    return FunctionEvent(1, "it", 0, 10.0, 10.0 + duration_us, device_type=device_type, **more)


@pytest.mark.parametrize("name", REFERENCE_TIMERS)
def test_a_referee_serves_devices_that_torch_knows(name):
    devices = REFERENCE_TIMERS[name].devices

    assert devices
    assert set(devices) <= {"cpu", "cuda"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_device_has_a_referee(device):
    assert any(device in each.devices for each in REFERENCE_TIMERS.values())


@pytest.mark.parametrize(
    "name", [name for name in REFERENCE_TIMERS if "cpu" in REFERENCE_TIMERS[name].devices]
)
def test_a_referee_of_cpus_sees_about_what_we_see(product, name):
    def forward():
        time.sleep(0.02)  # a busy machine makes products several times slower, and this hardly
        return product()

    met = agreement(forward, clock_for(CPU), 3, CPU, {name: REFERENCE_TIMERS[name]})

    assert 0.5 < met[name].ratio < 2


@pytest.mark.parametrize("name", REFERENCE_TIMERS)
def test_a_referee_times_on_the_gpu_that_it_is_told(fake_cuda, product, name):
    seconds = REFERENCE_TIMERS[name].seconds(product, torch.device("cuda:1"))

    assert fake_cuda == ["cuda:1"]
    assert seconds > 0


@pytest.mark.parametrize("name", [name for name in REFERENCE_TIMERS if name != TIMER])
def test_a_referee_that_answers_in_other_units_is_converted(fake_cuda, product, name):
    assert REFERENCE_TIMERS[name].seconds(product, CUDA) == pytest.approx(2e-3)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", REFERENCE_TIMERS)
def test_a_referee_of_gpus_sees_about_what_we_see(name):
    matrix = torch.randn(2048, 2048, device="cuda")
    met = agreement(
        lambda: matrix @ matrix, clock_for(CUDA), 3, CUDA, {name: REFERENCE_TIMERS[name]}
    )

    assert 0.5 < met[name].ratio < 2


def test_the_timer_computes_with_all_threads_of_the_process(monkeypatch, product):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    timers = []

    class Timer(referee.benchmark.Timer):
        def __init__(self, *given, **more):
            timers.append(more["num_threads"])
            super().__init__(*given, **{**more, "num_threads": 1})

    monkeypatch.setattr(referee.benchmark, "Timer", Timer)
    REFERENCE_TIMERS[TIMER].seconds(product, CPU)

    assert timers == [3]


def test_only_one_referee_sees_no_gaps():
    assert [name for name, each in REFERENCE_TIMERS.items() if not each.sees_gaps] == [GAPLESS]


def test_what_the_device_did_is_summed():
    assert device_seconds([event(250.0), event(750.0)]) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "other", [event(5.0, DeviceType.CPU), event(5.0, is_user_annotation=True)], ids=["CPU", "range"]
)
def test_what_is_no_work_of_the_device_is_left_out(other):
    assert device_seconds([event(250.0), other]) == pytest.approx(250e-6)


def test_a_profiler_that_sees_no_kernel_is_an_error_that_says_why():
    with pytest.raises(RuntimeError, match=r"must record kernels, got none: CUPTI"):
        device_seconds([event(5.0, DeviceType.CPU)])


# The doctor's exam


@pytest.fixture
def meetings(monkeypatch):
    """Let each meeting of an exam give the next of these pairs of our and the referee's times."""

    def install(*pairs):
        pairs = iter(pairs)
        given = []

        def meet(forward, clock, rounds, device, referees):
            own_s, referee_s = next(pairs)
            given.append(rounds)
            return {TIMER: Agreement(own_s, referee_s)}

        monkeypatch.setattr(referee, "agreement", meet)
        return given

    return install


def test_an_exam_compares_the_least_of_either(meetings):
    meetings(((3.0, 1.0), (1.0, 9.0)))

    assert examine(CPU)["ratio"] == 1.0


def test_an_exam_that_is_passed_ends(meetings):
    given = meetings(((1.0,), (1.0,)), ((1.0,), (1.0,)))
    examine(CPU)

    assert len(given) == 1


def test_a_busy_machine_is_tried_again(meetings):
    meetings(((1.0,), (2.0,)), ((1.5,), (1.0,)))
    answer = examine(CPU)

    assert (answer["ratio"], answer["rounds"]) == (1.0, 2)


def test_a_wrong_clock_stays_wrong(meetings, monkeypatch):
    monkeypatch.setattr(referee, "EXAM_TRIES", 3)
    meetings(*[((2.0,), (1.0,))] * 3)

    assert examine(CPU)["ratio"] == 2.0


def test_an_exam_ends_after_some_time(meetings, monkeypatch):
    monkeypatch.setattr(referee, "EXAM_CAP_S", 0.0)
    given = meetings(*[((2.0,), (1.0,))] * 3)
    examine(CPU)

    assert len(given) == 1


@pytest.mark.parametrize("device", EXAMS)
def test_only_a_cpu_is_given_more_than_the_goal(device):
    assert (EXAMS[device].limit > GOAL) == (device == "cpu")
