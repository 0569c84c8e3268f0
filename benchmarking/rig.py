"""A model of a case on its device, ready to run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from hooks import Clock, MemoryMeter, clock_for, meter_for
from results.schema import Case, TimingPlan
from sam.build import allocate_sam, fill_random
from sam.checkpoints import fit_state_dict, read_weights
from sam.configs import MODELS
from sam.model import Sam

from .execution import EXECUTIONS
from .precision import apply_precision
from .sweep import checkpoint_path

TIMER_TRIES = 5


@dataclass
class Rig:
    """A model on its device, ready to run, with what measures it.

    encode: The image encoder as the case executes it.
    references: Embeddings of the first image that the outputs are compared with, by input.
    first_embeddings: The first image's, as the first batch size gave it, by input.
    timer_test_s: What the clock makes of known delays, each twice the one before.
    """

    model: Sam
    encode: Callable[[Tensor], Tensor]
    device: torch.device
    dtype: torch.dtype
    clock: Clock
    meter: MemoryMeter
    weights: str
    notes: dict[str, str]
    timer_test_s: tuple[float, ...]
    first_embeddings: dict[str, Tensor] = field(default_factory=dict)
    references: dict[str, Tensor] = field(default_factory=dict)


def build_rig(case: Case, plan: TimingPlan) -> Rig:
    """Build the model of a case with its weights, precision and execution."""
    device = torch.device(case.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    model = allocate_sam(MODELS[case.model], case.image_size, case.attention)
    clock = clock_for(device)
    weights, notes = load_weights(model, case, plan)
    dtype = apply_precision(model, case.precision)
    model.to(device)
    return Rig(
        model=model,
        encode=EXECUTIONS[case.execution].prepare(model.image_encoder),
        device=device,
        dtype=dtype,
        clock=clock,
        meter=meter_for(device),
        weights=weights,
        notes=notes,
        timer_test_s=time_known_delays(clock, device),
    )


def time_known_delays(clock: Clock, device: torch.device) -> tuple[float, ...]:
    """Seconds that the clock makes of one, two and four equal delays on the device.

    The least of several tries, since a busy machine only ever comes late.
    """
    is_cuda = device.type == "cuda"
    delay = partial(torch.cuda._sleep, 2**24) if is_cuda else partial(time.sleep, 0.01)

    def seconds(count: int) -> float:
        clock.synchronize()
        start = clock.mark()
        for _ in range(count):
            delay()
        end = clock.mark()
        clock.synchronize()
        taken = clock.seconds(start, end)
        clock.release(start, end)
        return taken

    return tuple(min(seconds(count) for _ in range(TIMER_TRIES)) for count in (1, 2, 4))


def load_weights(model: Sam, case: Case, plan: TimingPlan) -> tuple[str, dict[str, str]]:
    """Fill a model; return where the weights come from, and what a person should know."""
    if case.weights == "random":
        fill_random(model, plan.seed)
        return f"random, seed {plan.seed}", {}
    path = checkpoint_path(case.weights, case.model)
    found = read_weights(path)
    model.load_state_dict(fit_state_dict(path, found.state_dict, model, case.model))
    return f"sha256:{found.sha256}", {"weights": "; ".join(found.notes)} if found.notes else {}
