"""A model of a case on its device, ready to run."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hooks import Clock, MemoryMeter, clock_for, meter_for
from results.records.case import Case
from results.records.measurement import Work
from results.records.plan import TimingPlan
from sam.attention.variants import split_attention
from sam.files.checkpoints import fit_state_dict, read_weights
from sam.sam1.build import allocate_sam, fill_random
from sam.sam1.configs import MODELS
from sam.sam1.model import Sam, normalise_and_pad, pixel_statistics

from ..choices.execution import EXECUTIONS
from ..choices.precision import apply_precision, chosen_attention
from ..choices.sweep import checkpoint_path
from .encoders import first_tensor, load_encoder

TIMER_TRIES = 5


@dataclass(frozen=True)
class Reference:
    """What outputs are compared with.

    embedding: Of the first image, by upstream's arithmetic in float32.
    bf16_error: Relative L2 distance of the same in bf16; None where no budget is in its terms.
    """

    embedding: Tensor
    bf16_error: float | None


@dataclass
class Rig:
    """A model on its device, ready to run, with what measures it.

    model: A Sam; or the encoder itself, where it is none of ours.
    encoder: The image encoder.
    encode: The image encoder as the case executes it.
    preprocess: (3, H, W) pixels on the device to its input (3, S, S), in float32.
    references: What outputs are compared with, by input.
    first_embeddings: The first image's, as the first batch size gave it, by input.
    timer_test_s: What the clock makes of known delays, each twice the one before.
    works: Of the modules that are timed, in a forward of so many images.
    trace: The last case's Chrome trace, gzipped.
    """

    model: Any
    encoder: nn.Module
    preprocess: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    device: torch.device
    dtype: torch.dtype
    clock: Clock
    meter: MemoryMeter
    weights: str
    notes: dict[str, str]
    timer_test_s: tuple[float, ...]
    first_embeddings: dict[str, Tensor] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    works: dict[tuple[object, ...], dict[str, Work]] = field(default_factory=dict)
    trace: bytes | None = None


def build_rig(case: Case, plan: TimingPlan) -> Rig:
    """Build the model of a case with its weights, precision and execution."""
    device = torch.device(case.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if plan.memory_limit_bytes is not None:
        load_the_rest()
        limit_memory(device, plan.memory_limit_bytes)
    model, weights, notes = build_model(case, plan)
    clock = clock_for(device)
    dtype = apply_precision(model, case.precision)
    model.to(device)
    encoder = model.image_encoder if isinstance(model, Sam) else model
    encode = EXECUTIONS[case.execution].prepare(encoder)
    if isinstance(model, Sam):
        preprocess = model.preprocess
    else:
        mean, std = pixel_statistics(device)
        preprocess = partial(normalise_and_pad, side=case.image_size, mean=mean, std=std)
        encode = compose(first_tensor, encode)
    return Rig(
        model=model,
        encoder=encoder,
        preprocess=preprocess,
        encode=encode,
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

    counts = (1, 2, 4)
    # In turn, so that a clock that is still rising makes none of them longer than the others.
    tries = [[seconds(count) for count in counts] for _ in range(TIMER_TRIES + 1)][1:]
    return tuple(map(min, zip(*tries, strict=True)))


def build_model(case: Case, plan: TimingPlan) -> tuple[nn.Module, str, dict[str, str]]:
    """A Sam, or another encoder; where its weights come from, and what a person should know."""
    if case.model not in MODELS:
        return (
            load_encoder(case.model, case.image_size, plan.seed),
            f"as {case.model} makes them",
            {},
        )
    attention = chosen_attention(case)
    model = allocate_sam(MODELS[case.model], case.image_size, attention)
    weights, notes = load_weights(model, case, plan)
    if attention != case.attention:
        window, of_global = split_attention(attention)
        notes = notes | {"attention": f"{window} in window blocks, {of_global} in global blocks"}
    return model, weights, notes


def load_the_rest() -> None:
    """Load what is loaded late otherwise: under a limit that could fail half-way, and hang."""
    import torch._dynamo  # noqa: F401
    import torchvision.ops  # noqa: F401


def limit_memory(device: torch.device, limit_bytes: int) -> None:
    """Let this process have no more of its device: the next allocation beyond fails."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total), device)
        return
    data_pages = int(Path("/proc/self/statm").read_text().split()[5])
    held = data_pages * resource.getpagesize()  # torch itself, before there is a model
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = held + limit_bytes
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def compose(
    outer: Callable[[Any], Tensor], inner: Callable[[Tensor], Any]
) -> Callable[[Tensor], Tensor]:
    return lambda images: outer(inner(images))


def load_weights(model: Sam, case: Case, plan: TimingPlan) -> tuple[str, dict[str, str]]:
    """Fill a model; return where the weights come from, and what a person should know."""
    if case.weights == "random":
        fill_random(model, plan.seed)
        return f"random, seed {plan.seed}", {}
    path = checkpoint_path(case.weights, case.model)
    found = read_weights(path)
    model.load_state_dict(fit_state_dict(path, found.state_dict, model, case.model))
    return f"sha256:{found.sha256}", {"weights": "; ".join(found.notes)} if found.notes else {}
