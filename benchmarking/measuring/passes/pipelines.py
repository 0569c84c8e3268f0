"""What the passes over whole pipelines share: from images to masks, with the time of each stage."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...choices.inputs import Photograph
from .bench import Bench

if TYPE_CHECKING:
    from hooks import Clock


class Stopwatch:
    """Times named stages of work that follow one another, without waiting for the device."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.names: list[str] = []
        self.marks: list[Any] = []

    def begin(self, name: str) -> None:
        """End the stage before, and begin one of this name."""
        self.names.append(name)
        self.marks.append(self.clock.mark())

    def seconds(self) -> dict[str, float]:
        """End the last stage; seconds of each name's stages together."""
        self.marks.append(self.clock.mark())
        self.clock.synchronize()
        total: dict[str, float] = defaultdict(float)
        for name, pair in zip(self.names, itertools.pairwise(self.marks), strict=True):
            total[name] += self.clock.seconds(*pair)
        self.clock.release(*self.marks)
        return dict(total)


def batch_of(bench: Bench) -> list[Photograph]:
    """As many photographs as a batch has."""
    images = itertools.cycle(bench.photographs.images)
    return list(itertools.islice(images, bench.case.batch_size))


def by_name(runs: Sequence[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    """Seconds of each stage in each run; zero if a run had no such stage."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: tuple(run.get(name, 0.0) for run in runs) for name in names}
