"""The passes: one row per kind of measurement, in the order in which they run.

Free of torch, since the process that plans and supervises asks which passes there are, why a case
can't have one, and how long it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import BaseModel

from results.records.case import Case, TimingPlan
from results.records.measurement import (
    ENCODER,
    EmbeddingError,
    Energy,
    Kernels,
    Latency,
    Memory,
    Modules,
    Pipeline,
    Work,
)

from ...choices.execution import EXECUTIONS
from . import (
    components,
    embedding_error,
    energy,
    flops,
    kernels,
    latency,
    mask_generator,
    memory,
    modules,
)
from .bench import Bench, in_turn_s


@dataclass(frozen=True)
class Pass:
    """One kind of measurement, with nothing else switched on.

    summary: What it measures, for the help.
    result: What a measurement stores under the pass's name. Tables show the numbers of a model of
        its own in columns named after the pass.
    run: Measures; None if there is nothing to store. Adds notes to those of the bench.
    seconds: About how long it takes on a case whose forward takes so many seconds; as long as a
        forward, if nothing else is said.
    why_not: Why it can't run on a case, or None if it can.
    on_request: Whether it runs only if it is named.
    needs_gradients: Whether it runs outside of torch's inference mode.
    """

    summary: str
    result: type[BaseModel]
    run: Callable[[Bench], BaseModel | None]
    seconds: Callable[[Case, TimingPlan, float], float] = lambda case, plan, forward_s: forward_s
    why_not: Callable[[Case], str | None] = lambda case: None
    on_request: bool = False
    needs_gradients: bool = False


PASSES: dict[str, Pass] = {
    "latency": Pass("whole forwards of the image encoder", Latency, latency.run, latency.seconds),
    "modules": Pass(
        "time, work and memory of each module",
        Modules, modules.run, lambda case, plan, forward_s: in_turn_s(plan, forward_s),
        lambda case: EXECUTIONS[case.execution].hides_modules,
    ),
    "memory": Pass(
        "peak memory of a forward", Memory, memory.run,
        why_not=lambda case: EXECUTIONS[case.execution].hides_memory(case.device.partition(":")[0]),
    ),
    "flops": Pass(  # counting takes a moment, whatever a forward takes
        "FLOPs and bytes of a forward",
        Work, lambda bench: flops.try_work(bench).get(ENCODER), lambda case, plan, forward_s: 0.0,
    ),
    "embedding_error": Pass(
        "distance of the embeddings from upstream's in float32",
        EmbeddingError, embedding_error.run,
    ),
    "components": Pass(
        "stages of the pipeline from image files to masks",
        Pipeline, components.run,
        lambda case, plan, forward_s: components.OVERHEAD * in_turn_s(plan, forward_s),
        components.why_not,
    ),
    "mask_generator": Pass(
        "stages of the mask generator, which takes as long as a thousand prompts per image",
        Pipeline, mask_generator.run, mask_generator.seconds, mask_generator.why_not,
        on_request=True,
    ),
    "energy": Pass(
        "energy of forwards, which keeps the GPU busy for five seconds more",
        Energy, energy.run, lambda case, plan, forward_s: energy.WINDOW_S,
        lambda case: None if case.device.startswith("cuda") else energy.WHY_NOT,
        on_request=True,
    ),
    "kernels": Pass(
        "kernels of each module, with a trace of some megabytes",
        Kernels, kernels.run, lambda case, plan, forward_s: (kernels.FORWARDS + 1) * forward_s,
        kernels.why_not,
        on_request=True,
    ),
}  # fmt: skip


def default_passes() -> tuple[str, ...]:
    """Those that run if none is named."""
    return tuple(name for name, row in PASSES.items() if not row.on_request)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Named passes, each once, in the order in which they run."""
    chosen = set(names)
    return tuple(name for name in PASSES if name in chosen)


def passes_help() -> str:
    """The help of the option that chooses passes."""
    on_request = ", ".join(name for name, row in PASSES.items() if row.on_request)
    return f"Passes to run, each on its own; {on_request} only if named."
