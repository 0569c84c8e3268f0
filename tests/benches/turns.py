"""Encoders that are measured beside each other: batch by batch, all of them in turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, groupby

import numpy as np
import torch
from torch import Tensor, nn

from benchmarking.choices.inputs import BUFFERS, read_input
from benchmarking.choices.precision import PRECISIONS
from benchmarking.errors import SweepError
from benchmarking.measuring.batches import make_batches
from benchmarking.measuring.failures import classify
from benchmarking.measuring.measure import describe_output, torch_flags
from benchmarking.measuring.passes.bench import Bench
from benchmarking.measuring.passes.embedding_error import compare_embedding, find_reference
from benchmarking.measuring.passes.table import PASSES
from benchmarking.measuring.rig import Reference, Rig, build_rig
from benchmarking.measuring.timing import Chunk, chunk_size, collected_garbage, timed_chunk, warm_up
from benchmarking.measuring.worker import failure
from benchmarking.sweeping.protocol import Outcome, Refusal
from results.records.case import Case, TimingPlan
from results.records.measurement import Latency, Measurement, Memory, PassResult
from sam.sam1.registry import build_sam_model

OTHERS = {
    "upstream": "examples.encoders:segment_anything_",
    "transformers": "examples.encoders:transformers_",
}
# Parts of a parameter's name in upstream's encoder and ours, and in that of transformers.
TRANSFORMERS_NAMES = {
    "patch_embed.proj.": "patch_embed.projection.",
    "blocks.": "layers.",
    ".norm1.": ".layer_norm1.",
    ".norm2.": ".layer_norm2.",
    "neck.0.": "neck.conv1.",
    "neck.1.": "neck.layer_norm1.",
    "neck.2.": "neck.conv2.",
    "neck.3.": "neck.layer_norm2.",
}
LOOKS = {
    "memory": PASSES["memory"].run,
    "flops": PASSES["flops"].run,
    "embedding_error": compare_embedding,
}


@dataclass(frozen=True)
class Entry:
    """What is measured beside what.

    name: "upstream", "transformers" or an attention of ours; and after a space how it is run, which
        is eagerly where nothing is named.
    model: A key of MODELS.
    """

    name: str
    model: str

    @property
    def encoder(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def execution(self) -> str:
        return self.name.partition(" ")[2] or "eager"


@dataclass
class Contender:
    """An encoder in a precision that takes its turns, and what became of it so far.

    outcome: Why it can go no further.
    """

    rig: Rig
    first_s: float = 0.0
    warm_s: list[float] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    outcome: Outcome | None = None


def in_turn(
    entries: dict[Case, Entry], plan: TimingPlan, rounds: int
) -> Iterator[tuple[Case, Outcome]]:
    """Measure one model, batch by batch; what each case came to."""
    began = time.perf_counter()
    contenders: dict[tuple[str, ...], Contender] = {}
    references: dict[str, Reference] = {}
    first, entry = next(iter(entries.items()))
    weights = build_sam_model(entry.model, image_size=first.image_size, seed=plan.seed)
    for case, entry in entries.items():
        if case.worker_key not in contenders:
            try:
                rig = build_rig(case, plan)
                if entry.encoder in OTHERS:
                    take_weights(rig, entry.encoder, weights.image_encoder, plan.seed)
            except Exception as error:
                yield case, lost(error, began)
                continue
            rig.references = references  # one for all
            contenders[case.worker_key] = Contender(rig)
    by_batch = sorted(entries, key=lambda case: case.batch_size)
    for _, cases in groupby(by_batch, lambda case: case.batch_size):
        parts = {
            case: contenders[case.worker_key] for case in cases if case.worker_key in contenders
        }
        if parts:
            yield from measure_batch(entry.model, parts, plan, rounds)


def take_weights(rig: Rig, name: str, encoder: nn.Module, seed: int) -> None:
    """Give others' encoders the weights that ours has, whose relative positions are large."""
    state = dict(encoder.state_dict())
    if name == "transformers":
        for ours, theirs in TRANSFORMERS_NAMES.items():
            state = {key.replace(ours, theirs): value for key, value in state.items()}
    rig.encoder.load_state_dict(state)
    rig.weights = f"random, seed {seed}"


def measure_batch(
    model: str, contenders: dict[Case, Contender], plan: TimingPlan, rounds: int
) -> Iterator[tuple[Case, Outcome]]:
    """All contenders at one batch size: cold, warm, then in turn, then what is not timed."""
    began = time.perf_counter()
    case, rig = next((case, each.rig) for case, each in contenders.items())
    photographs = read_input(case.input, plan, case.image_size, case.batch_size + BUFFERS - 1)
    with torch.inference_mode(), collected_garbage():
        batches = make_batches(case, plan, rig, photographs)
        for contender in contenders.values():
            start(contender, batches, plan, began)
        for index in range(rounds):
            left = [each for each in contenders.values() if each.outcome is None]
            first = index % max(1, len(left))  # so that none always follows the same other
            for contender in left[first:] + left[:first]:
                attempt(contender, partial(take_turn, batches=batches), began)
        # In a precision that has a budget, so that bf16's own error is found too.
        budgeted = (each.precision for each in contenders if PRECISIONS[each.precision].budget)
        own = {"model": model, "precision": next(budgeted, case.precision), "weights": "random"}
        try_reference(Bench(case.model_copy(update=own), plan, rig, batches, photographs))
        for case, contender in contenders.items():
            bench = Bench(case, plan, contender.rig, batches, photographs)
            yield case, outcome_of(bench, contender, began)


def try_reference(bench: Bench) -> None:
    """What all embeddings are compared with, unless a model in float32 does not fit too."""
    try:
        find_reference(bench)
    except Exception as error:
        if classify(error)[0] != "oom":
            raise


def start(contender: Contender, batches: list[Tensor], plan: TimingPlan, began: float) -> None:
    """The first forward, which compiles, and the warm-up."""
    contender.chunks, contender.outcome = [], None

    def warm(contender: Contender) -> None:
        forward, clock = rotating(contender.rig, batches), contender.rig.clock
        contender.first_s = timed_chunk(forward, clock, 1).wall_s
        contender.warm_s = warm_up(forward, clock, plan, time.perf_counter)

    attempt(contender, warm, began)


def take_turn(contender: Contender, batches: list[Tensor]) -> None:
    rig, size = contender.rig, chunk_size(float(np.median(contender.warm_s)))
    contender.chunks.append(timed_chunk(rotating(rig, batches), rig.clock, size))


def rotating(rig: Rig, batches: list[Tensor]) -> Callable[[], Tensor]:
    """A forward that takes another batch at each call."""
    rotation = cycle(batches)
    return lambda: rig.encode(next(rotation))


def attempt(contender: Contender, work: Callable[[Contender], None], began: float) -> None:
    try:
        work(contender)
    except Exception as error:
        contender.outcome = lost(error, began)


def lost(error: Exception, began: float) -> Outcome:
    said = failure(error, "latency", time.perf_counter() - began)
    if isinstance(said, Refusal):
        raise SweepError(said.message) from error
    if said.status == "oom":  # which says nothing of a machine that it would have alone
        message = f"beside the others: {said.message}"
        return said.model_copy(update={"status": "skipped", "message": message})
    return said


def outcome_of(bench: Bench, contender: Contender, began: float) -> Outcome:
    """What was timed, with memory, FLOPs and embedding error."""
    if contender.outcome is not None:
        return contender.outcome
    rig, chunks, notes = contender.rig, contender.chunks, bench.notes
    notes |= rig.notes
    passes: dict[str, PassResult] = {}
    for name, look in LOOKS.items():
        reason = PASSES[name].why_not(bench.case)
        if name == "embedding_error" and not rig.references:
            reason = "a model in float32 does not fit beside those that are measured"
        if reason is not None:
            notes[name] = f"unsupported: {reason}"
            continue
        try:
            found = look(bench)
        except Exception as error:  # what was timed is kept
            notes[name] = f"failed: {classify(error)[1]}"
            continue
        if found is not None:
            passes[name] = found
    if "memory" in passes:
        passes["memory"] = of_its_own(passes["memory"])
    passes["latency"] = Latency(
        forward_s=tuple(seconds for chunk in chunks for seconds in chunk.forward_s),
        chunk_forwards=tuple(len(chunk.forward_s) for chunk in chunks),
        chunk_wall_s=tuple(chunk.wall_s for chunk in chunks),
        chunk_launch_s=tuple(chunk.launch_s for chunk in chunks),
        stop_reason="cap",
        first_forward_s=contender.first_s,
        warmup_s=sum(contender.warm_s),
        warmup_forwards=len(contender.warm_s),
    )
    measurement = Measurement(
        passes=passes,
        parameters=sum(weight.numel() for weight in rig.encoder.parameters()),
        output=describe_output(rig.encode(bench.batches[0])),
        timer_test_s=rig.timer_test_s,
        weights=rig.weights,
        input_source=bench.photographs.source,
        notes=notes,
        flags=torch_flags(),
    )
    return Outcome(status="ok", measurement=measurement, wall_s=time.perf_counter() - began)


def of_its_own(memory: Memory) -> Memory:
    """Without the weights of those that are measured beside it."""
    peak = memory.weights_bytes + memory.rise_bytes
    unknown = {"reserved_bytes": None, "device_used_bytes": None, "alloc_retries": None}
    return memory.model_copy(update={"peak_bytes": peak, **unknown})


def release() -> None:
    """Give back what a model took before the next is built."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
