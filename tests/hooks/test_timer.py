"""ForwardTimer, by a clock that moves only when a module moves it: all times are exact."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import nn

from hooks import ForwardTimer


class Mark(NamedTuple):
    number: int
    at_s: int


class FakeClock:
    """Stands still but for `now`; counts waits, and knows the marks that are still out."""

    def __init__(self) -> None:
        self.now = 0
        self.waits = 0
        self.marks = 0
        self.out: set[Mark] = set()

    def mark(self) -> Mark:
        self.marks += 1
        self.out.add(mark := Mark(self.marks, self.now))
        return mark

    def seconds(self, start: Mark, end: Mark) -> float:
        assert {start, end} <= self.out, "a mark was read after its release"
        return end.at_s - start.at_s

    def synchronize(self) -> None:
        self.waits += 1

    def release(self, *marks: Mark) -> None:
        self.out -= set(marks)


class Spend(nn.Module):
    """Spends seconds, calls its children in turn, and spends some more."""

    def __init__(self, clock: FakeClock, before: int, *parts: nn.Module, after: int = 0) -> None:
        super().__init__()
        self.clock, self.before, self.after = clock, before, after
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        self.clock.now += self.before
        for part in self.parts:
            x = part(x)
        self.clock.now += self.after
        return x + 1


class Fail(nn.Module):
    """Raises while `error` is set."""

    error: BaseException | None = RuntimeError("out of memory")

    def forward(self, x):
        if self.error is not None:
            raise self.error
        return x


class Forgive(Spend):
    """Goes on after an error in a child, as a fallback would."""

    def forward(self, x):
        try:
            return super().forward(x)
        except RuntimeError:
            self.clock.now += 50
            return x


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def tree(clock):
    """Name and module: a root of 31 s, of which 6 s are in no timed child."""
    left = Spend(clock, 4)
    inner = Spend(clock, 7)
    right = Spend(clock, 5, inner, after=9)
    root = Spend(clock, 1, left, Spend(clock, 3), right, after=2)
    return {"root": root, "left": left, "right": right, "inner": inner}


X = torch.zeros(1)


def hooks_left(*modules: nn.Module) -> int:
    return sum(
        len(hooks)
        for module in modules
        for each in module.modules()
        for hooks in (
            each._forward_hooks,
            each._forward_pre_hooks,
            each._forward_hooks_always_called,
            each._forward_hooks_with_kwargs,
        )
    )


def test_total_time_includes_timed_children(clock, tree):
    with ForwardTimer(tree, clock) as timer:
        tree["root"](X)

    assert timer.total_s() == {"root": [31], "left": [4], "right": [21], "inner": [7]}


def test_self_time_leaves_out_timed_children_only(clock, tree):
    with ForwardTimer(tree, clock) as timer:
        tree["root"](X)

    assert timer.self_s() == {"root": [6], "left": [4], "right": [14], "inner": [7]}


@pytest.mark.parametrize("left_out", ["", "left", "right", "inner"])
def test_self_times_add_up_to_the_roots_total(clock, tree, left_out):
    modules = {name: module for name, module in tree.items() if name != left_out}
    with ForwardTimer(modules, clock) as timer:
        tree["root"](X)

    assert sum(map(sum, timer.self_s().values())) == sum(timer.total_s()["root"]) == 31


def test_a_root_without_timed_children_keeps_all_its_time(clock, tree):
    with ForwardTimer({"root": tree["root"]}, clock) as timer:
        tree["root"](X)

    assert timer.self_s() == timer.total_s() == {"root": [31]}


def test_each_call_of_a_module_is_a_sample(clock):
    twice = Spend(clock, 3)
    root = Spend(clock, 1, twice, twice)
    with ForwardTimer({"root": root, "twice": twice}, clock) as timer:
        root(X)
        twice.before = 10
        root(X)

    assert timer.total_s() == {"root": [7, 21], "twice": [3, 3, 10, 10]}
    assert timer.self_s()["root"] == [1, 1]


def test_a_module_that_calls_itself_is_a_child_of_itself(clock):
    class Countdown(nn.Module):
        def forward(self, steps):
            clock.now += steps
            return self(steps - 1) if steps else steps

    module = Countdown()
    with ForwardTimer({"module": module}, clock) as timer:
        module(2)

    assert timer.total_s() == {"module": [0, 1, 3]}
    assert timer.self_s() == {"module": [0, 1, 2]}


def test_one_module_may_have_two_names(clock):
    module = Spend(clock, 3)
    with ForwardTimer({"a": module, "b": module}, clock) as timer:
        module(X)

    assert timer.total_s() == {"a": [3], "b": [3]}


def test_a_module_never_called_has_no_samples(clock, tree):
    with ForwardTimer(tree, clock) as timer:
        tree["right"](X)

    assert timer.total_s() == {"root": [], "left": [], "right": [21], "inner": [7]}


def test_a_module_that_returns_none_is_timed(clock):
    class Silent(nn.Module):
        def forward(self, x):
            clock.now += 8

    module = Silent()
    with ForwardTimer({"module": module}, clock) as timer:
        module(X)

    assert timer.total_s() == {"module": [8]}


def test_no_hook_is_left_after_leaving(clock, tree):
    with ForwardTimer(tree, clock):
        tree["root"](X)
        during = hooks_left(tree["root"])

    assert during > 0
    assert hooks_left(tree["root"]) == 0


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_no_hook_is_left_after_an_error_in_the_forward(clock, error):
    fail = Fail()
    fail.error = error
    root = Spend(clock, 1, fail)
    with pytest.raises(type(error)), ForwardTimer({"root": root, "fail": fail}, clock):
        root(X)

    assert hooks_left(root) == 0


def test_no_hook_is_left_after_an_error_while_entering(clock, tree):
    with pytest.raises(AttributeError), ForwardTimer({**tree, "wrong": 3}, clock):
        pass

    assert hooks_left(tree["root"]) == 0


def test_hooks_of_others_stay(clock, tree):
    handle = tree["left"].register_forward_hook(lambda module, inputs, output: None)
    with ForwardTimer(tree, clock):
        pass

    assert hooks_left(tree["root"]) == 1
    handle.remove()


def test_a_call_that_raised_is_left_out(clock):
    good, fail = Spend(clock, 3), Fail()
    root = Spend(clock, 1, good, fail)
    timer = ForwardTimer({"root": root, "good": good, "fail": fail}, clock)
    with timer, pytest.raises(RuntimeError, match="out of memory"):
        root(X)

    assert timer.total_s() == {"root": [], "good": [3], "fail": []}


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_calls_after_a_caught_error_are_right(clock, error):
    good, fail = Spend(clock, 3), Fail()
    root = Spend(clock, 1, good, fail, after=2)
    fail.error = error
    with ForwardTimer({"root": root, "good": good, "fail": fail}, clock) as timer:
        with pytest.raises(type(error)):
            root(X)
        timer.clear()
        fail.error = None
        root(X)

    assert timer.total_s() == {"root": [6], "good": [3], "fail": [0]}
    assert timer.self_s() == {"root": [3], "good": [3], "fail": [0]}


def test_a_module_that_goes_on_after_a_childs_error_keeps_that_time_as_its_own(clock):
    fail = Fail()
    child = Spend(clock, 5, fail)
    root = Forgive(clock, 1, child)
    with ForwardTimer({"root": root, "child": child, "fail": fail}, clock) as timer:
        root(X)

    assert timer.self_s() == {"root": [56], "child": [], "fail": []}


def test_an_error_in_another_hook_leaves_the_parents_call_right(clock):
    def refuse(module, inputs):
        raise RuntimeError("not today")

    child = Spend(clock, 5)
    child.register_forward_pre_hook(refuse)
    root = Forgive(clock, 1, child)
    with ForwardTimer({"root": root, "child": child}, clock) as timer:
        root(X)

    assert timer.total_s() == {"root": [51], "child": []}


def test_no_hook_waits_for_the_device(clock, tree):
    with ForwardTimer(tree, clock):
        for _ in range(3):
            tree["root"](X)

    assert clock.waits == 0


@pytest.mark.parametrize("read", [ForwardTimer.total_s, ForwardTimer.self_s])
def test_reading_waits_once_for_the_device(clock, tree, read):
    with ForwardTimer(tree, clock) as timer:
        tree["root"](X)
    read(timer)

    assert clock.waits == 1


def test_a_cleared_timer_has_only_the_calls_since(clock, tree):
    with ForwardTimer(tree, clock) as timer:
        tree["root"](X)
        timer.clear()
        tree["left"](X)

    assert timer.total_s() == {"root": [], "left": [4], "right": [], "inner": []}


def test_clear_gives_every_mark_back(clock, tree):
    with ForwardTimer(tree, clock) as timer:
        tree["root"](X)
    used = len(clock.out)
    timer.clear()

    assert used == 2 * len(tree)
    assert clock.out == set()


def test_marks_of_failed_calls_are_given_back(clock):
    fail = Fail()
    root = Spend(clock, 1, fail)
    with ForwardTimer({"root": root, "fail": fail}, clock), pytest.raises(RuntimeError):
        root(X)

    assert clock.out == set()


def test_inference_mode_changes_nothing(clock, tree):
    with torch.inference_mode(), ForwardTimer(tree, clock) as timer:
        tree["root"](X)

    assert timer.self_s() == {"root": [6], "left": [4], "right": [14], "inner": [7]}


def test_any_module_can_be_timed(clock):
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), nn.Softmax(1))
    modules = {name: module for name, module in model.named_modules() if name}
    with ForwardTimer(modules, clock) as timer:
        model(torch.ones(2, 3))

    assert timer.total_s() == {name: [0] for name in modules}


def test_outputs_and_gradients_are_unchanged(clock):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    images = torch.randn(2, 3, requires_grad=True)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        output = model(images)
        return output, torch.autograd.grad(output.sum(), images)[0]

    plain = run()
    with ForwardTimer(dict(model.named_modules()), clock):
        timed = run()

    assert all(map(torch.equal, plain, timed))
