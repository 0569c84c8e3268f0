"""What a pass measures with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from results.records.case import Case, TimingPlan

if TYPE_CHECKING:
    from torch import Tensor

    from ...choices.inputs import Photographs
    from ..rig import Rig


@dataclass(frozen=True)
class Bench:
    """A case that is ready to be measured.

    rig: Its model on its device.
    batches: Inputs (B, 3, S, S) on the device, in the encoder's type, for rotation.
    photographs: What they were made of.
    notes: What to know about the measurement, by pass; a pass adds its own.
    """

    case: Case
    plan: TimingPlan
    rig: Rig
    batches: list[Tensor]
    photographs: Photographs
    notes: dict[str, str] = field(default_factory=dict)

    def rotation(self) -> Callable[[], Tensor]:
        """A forward that takes another batch at each call."""
        rotation = itertools.cycle(self.batches)
        return lambda: self.rig.encode(next(rotation))


def in_turn_s(plan: TimingPlan, forward_s: float) -> float:
    """Seconds of as many forwards as a pass takes that is limited in time, with its first ones."""
    return min(plan.module_forwards * forward_s, plan.max_timed_s) + 3 * forward_s
