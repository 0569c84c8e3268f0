"""Timing the forward calls of modules, with what each spends outside its timed children."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .calls import CallHooks
from .clocks import Clock


@dataclass(slots=True)
class Call:
    """One forward call of a timed module."""

    name: str
    start: Any
    end: Any = None
    children: list[Call] = field(default_factory=list)


class ForwardTimer(CallHooks[Call]):
    """Times forward calls of modules while it is entered.

    No hook waits for the device: marks are queued, and read when results are asked for. Leaving,
    also through an error, removes every hook. A call that raised is left out.

        with ForwardTimer({"block": model.block}, clock_for(device)) as timer:
            model(images)
        timer.total_s()  # {"block": [0.0123]}

    Args:
        modules: Name and module; a module may contain another.
        clock: Marks moments on the device that the modules run on.
    """

    def __init__(self, modules: Mapping[str, nn.Module], clock: Clock) -> None:
        super().__init__(modules)
        self.clock = clock
        self._done: list[Call] = []

    def _begin(self, name: str) -> Call:
        return Call(name, self.clock.mark())

    def _end(self, name: str, has_failed: bool) -> None:
        call = self._open.pop()
        if has_failed:
            self.clock.release(call.start)
            return
        call.end = self.clock.mark()
        self._done.append(call)
        if self._open:
            self._open[-1].children.append(call)

    def total_s(self) -> dict[str, list[float]]:
        """Seconds of each call by module name, children included; waits for the device."""
        return self._by_name(self._seconds)

    def self_s(self) -> dict[str, list[float]]:
        """Seconds of each call by module name, without timed children; waits for the device."""
        return self._by_name(
            lambda call: self._seconds(call) - sum(map(self._seconds, call.children))
        )

    def clear(self) -> None:
        """Forget all finished calls, so that the next ones are alone."""
        for call in self._done:
            self.clock.release(call.start, call.end)
        self._done.clear()

    def _seconds(self, call: Call) -> float:
        return self.clock.seconds(call.start, call.end)

    def _by_name(self, seconds: Callable[[Call], float]) -> dict[str, list[float]]:
        self.clock.synchronize()
        by_name: dict[str, list[float]] = {name: [] for name in self.modules}
        for call in self._done:
            by_name[call.name].append(seconds(call))
        return by_name
