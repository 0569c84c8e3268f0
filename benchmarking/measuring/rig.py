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
from results.records.case import Case, TimingPlan
from results.records.measurement import Work
from sam.attention.variants import BOTH
from sam.families import MODELS
from sam.family import BuildOptions, Built, Family

from ..choices.execution import EXECUTIONS
from ..choices.families import family_of, find_model
from ..choices.precision import apply_precision, chosen_attention
from ..choices.sweep import checkpoint_path

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

    family: The model's.
    image_size: Pixels along an edge of the encoder's input.
    model: The whole model.
    encoder: The image encoder of it.
    run_encoder: The image encoder as the case executes it, with all that it returns.
    encode: The same, with the output alone that is compared.
    preprocess: (3, H, W) pixels on the device to its input (3, S, S), in float32.
    references: What outputs are compared with, by input.
    first_embeddings: The first image's, as the first batch size gave it, by input.
    timer_test_s: What the clock makes of known delays, each twice the one before.
    works: Of the modules that are timed, in a forward of so many images.
    trace: The last case's Chrome trace, gzipped.
    """

    family: Family
    image_size: int
    model: Any
    encoder: nn.Module
    preprocess: Callable[[Tensor], Tensor]
    run_encoder: Callable[[Tensor], Any]
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
        load_the_rest(family_of(case.model))
        limit_memory(device, plan.memory_limit_bytes)
    family, attention = family_of(case.model), chosen_attention(case)
    built = build_model(case, plan, attention)
    notes = dict(built.notes)
    if attention != case.attention:  # what a name such as 'auto' stands for in this case
        window, of_global = (attention.split(BOTH) * 2)[:2]
        notes["attention"] = f"{window} in window blocks, {of_global} in global blocks"
    clock = clock_for(device)
    dtype = apply_precision(built.model, case.precision, family)
    built.model.to(device)
    encoder = family.encoder(built.model)
    run_encoder = EXECUTIONS[case.execution].prepare(encoder, family)
    return Rig(
        family=family,
        image_size=case.image_size,
        model=built.model,
        encoder=encoder,
        preprocess=family.preprocessor(case.image_size, device),
        run_encoder=run_encoder,
        encode=(
            run_encoder
            if family.embedding is None
            else lambda images: family.embed(run_encoder(images))
        ),
        device=device,
        dtype=dtype,
        clock=clock,
        meter=meter_for(device),
        weights=built.weights,
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


def build_model(case: Case, plan: TimingPlan, attention: str) -> Built:
    """Build the model of a case with its weights, and with this attention."""
    family = family_of(case.model)
    has_file = family.loads_weights and case.weights != "random"
    options = BuildOptions(
        image_size=case.image_size,
        attention=attention,
        checkpoint=checkpoint_path(case.weights, case.model) if has_file else None,
        seed=plan.seed,
        models=MODELS,
    )
    return family.build(find_model(case.model), options)


def load_the_rest(family: Family) -> None:
    """Load what is loaded late otherwise: under a limit that could fail half-way, and hang."""
    import torch._dynamo  # noqa: F401
    import torchvision.ops  # noqa: F401

    import sam.quantise  # noqa: F401

    family.preload()


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
