"""Measuring one case: a pass for each question, each with nothing else switched on.

Shapes: B images, S pixels along an edge.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hooks import ForwardTimer, PeakMemory
from results.records.case import Case
from results.records.errors import one_line
from results.records.measurement import ENCODER, Measurement, Memory, ModuleTiming, Output, Work
from results.records.plan import TimingPlan
from sam.sam1.configs import MODELS

from ..choices.execution import EXECUTIONS, timed_modules
from ..choices.inputs import (
    BUFFERS,
    Photographs,
    Pixels,
    noise_batches,
    photograph_batches,
    read_input,
)
from .passes.accuracy import embedding_error_pass
from .passes.energy import energy_pass
from .passes.kernels import kernels_pass
from .passes.pipeline import (
    components_pass,
    copy_to_device,
    mask_generator_pass,
    normalise,
    resize_images,
)
from .rig import Rig
from .timing import collected_garbage, limited, time_forwards
from .work import case_work

NEEDS_SAM = ("components", "mask_generator")

Forward = Callable[[Tensor], Tensor]
Report = Callable[[str], None]


class PassError(Exception):
    """A pass failed; what earlier passes measured is kept."""

    def __init__(self, error: Exception, measurement: Measurement) -> None:
        super().__init__(str(error))
        self.error = error
        self.measurement = measurement


def measure_case(case: Case, plan: TimingPlan, rig: Rig, report: Report) -> Measurement:
    """Run the passes that the plan names.

    Raises:
        PassError: Where one fails.

    Args:
        case: What to measure; its family is the rig's.
        plan: The passes, warm-up and stopping rule.
        rig: The model.
        report: Told the name of each stage as it begins.
    """
    report("inputs")
    photographs = read_input(case.input, plan, case.image_size, case.batch_size + BUFFERS - 1)
    notes = dict(rig.notes)
    if photographs.unreadable:
        notes["input"] = "passed over: " + " ".join(photographs.unreadable)
    measured: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in rig.encoder.parameters()),
        "weights": rig.weights,
        "input_source": photographs.source,
        "notes": notes,
        "flags": torch_flags(),
    }
    try:
        with torch.inference_mode():
            batches = make_batches(case, plan, rig, photographs)
            for name in plan.passes:
                report(name)
                reason = why_not(name, case)
                if reason is not None:
                    notes[name] = f"unsupported: {reason}"
                    continue
                found = PASS_FUNCTIONS[name](case, plan, rig, batches, photographs)
                notes |= found.pop("notes", {})
                measured |= found
            report("output")
            embeddings = rig.encode(batches[0])
            measured["output"] = describe_output(embeddings)
            measured["batch_error"] = batch_error(case, rig, embeddings)
            measured["timer_test_s"] = rig.timer_test_s
    except Exception as error:
        raise PassError(error, Measurement(**measured)) from error
    return Measurement(**measured)


def why_not(name: str, case: Case) -> str | None:
    """Why a pass can't be run on a case, or None where it can."""
    execution = EXECUTIONS[case.execution]
    if name in NEEDS_SAM and case.model not in MODELS:
        return "only SAM has masks"
    if name == "kernels" and execution.only_sam:
        return "torch's profiler does not see what onnxruntime runs"
    if name == "energy" and not case.device.startswith("cuda"):
        return "NVML counts the energy of GPUs alone"
    if name == "modules":
        return execution.hides_modules
    if name == "memory":
        return execution.hides_memory(case.device.partition(":")[0])
    if name == "mask_generator" and case.execution != "eager":
        return "the mask generator runs the image encoder eagerly"
    return None


def make_batches(case: Case, plan: TimingPlan, rig: Rig, photographs: Photographs) -> list[Tensor]:
    """Normalised (B, 3, S, S) inputs on the device, in the encoder's type, for rotation."""
    if case.input == "noise":
        size = case.image_size
        return noise_batches(case.batch_size, size, plan.seed, rig.device, rig.dtype)

    def prepare(images: Sequence[Pixels]) -> Tensor:
        # Allocated whole before the first image, so that a batch that can't fit fails at once.
        shape = (len(images), 3, case.image_size, case.image_size)
        batch = torch.empty(shape, device=rig.device, dtype=rig.dtype)
        for index, image in enumerate(images):
            resized = resize_images([image], case.image_size)
            batch[index] = normalise(rig, copy_to_device(rig, resized))[0]
        return batch

    return photograph_batches(photographs, case.batch_size, prepare)


def latency_pass(
    case: Case, plan: TimingPlan, rig: Rig, batches: list[Tensor], photographs: Photographs
) -> dict[str, Any]:
    """Whole forwards of the image encoder, with no hook and no profiler."""
    return {"latency": time_forwards(rotating(rig.encode, batches), rig.clock, plan)}


def rotating(forward: Forward, batches: list[Tensor]) -> Callable[[], Tensor]:
    """A forward that takes another batch at each call."""
    rotation = itertools.cycle(batches)
    return lambda: forward(next(rotation))


def modules_pass(
    case: Case, plan: TimingPlan, rig: Rig, batches: list[Tensor], photographs: Photographs
) -> dict[str, Any]:
    """Each module's time in forwards with hooks on, its FLOPs, and its memory."""
    found = timed_modules(case, plan, rig.encoder)
    modules = {name: timed.module for name, timed in found.items()}
    forward = rotating(rig.encode, batches)
    # Without the root, whose peak the memory pass takes without hooks.
    inner = {name: module for name, module in modules.items() if name != ENCODER}
    with PeakMemory(inner, rig.meter) as memory:
        forward()
    peaks, rises = memory.peak_bytes(), memory.rise_bytes()
    timer, plain = ForwardTimer(modules, rig.clock), []
    with collected_garbage():
        with timer:
            forward()  # the first with hooks pays for making them
        timer.clear()
        for _ in limited(plan.module_forwards, plan.max_timed_s):
            # In turn with forwards without hooks, so that what hooks cost can be told.
            with timer:
                forward()
            start = rig.clock.mark()
            forward()
            plain.append((start, rig.clock.mark()))
        total_s, self_s = timer.total_s(), timer.self_s()
        plain_s = tuple(rig.clock.seconds(*pair) for pair in plain)
        timer.clear()
    works, notes = try_work(case, plan, rig)
    hidden = EXECUTIONS[case.execution].hides_parts
    if hidden is not None and (plan.module_depth > 1 or plan.module_pattern is not None):
        notes = notes | {"modules": f"nothing within a block was timed: {hidden}"}
    return {
        "modules": {
            name: ModuleTiming(
                total_s=by_forward(total_s[name], len(plain)),
                self_s=by_forward(self_s[name], len(plain)),
                kind=found[name].kind,
                work=works.get(name),
                peak_bytes=peaks.get(name),
                rise_bytes=rises.get(name),
            )
            for name in modules
        },
        "plain_forward_s": plain_s,
        "notes": notes,
    }


def by_forward(calls_s: Sequence[float], forwards: int) -> tuple[float, ...]:
    """The calls of a module, added up where a forward makes several."""
    count = len(calls_s) // forwards
    if count <= 1 or len(calls_s) % forwards:
        return tuple(calls_s)
    return tuple(sum(calls_s[start : start + count]) for start in range(0, len(calls_s), count))


def memory_pass(
    case: Case, plan: TimingPlan, rig: Rig, batches: list[Tensor], photographs: Photographs
) -> dict[str, Any]:
    """The peak of one forward, with no hook."""
    weights = (*rig.model.parameters(), *rig.model.buffers())
    rig.encode(batches[0])  # workspaces of libraries, and compilation, come with the first
    rig.meter.settle()
    held = rig.meter.held_bytes()
    rig.meter.reset_peak()
    rig.encode(batches[0])
    rig.clock.synchronize()
    peak = rig.meter.peak_bytes()
    measured: dict[str, Any] = {}
    if rig.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(rig.device)
        measured = {
            "reserved_bytes": torch.cuda.max_memory_reserved(rig.device),
            "device_used_bytes": total - free,
            "alloc_retries": torch.cuda.memory_stats(rig.device).get("num_alloc_retries", 0),
        }
    return {
        "memory": Memory(
            source=rig.meter.source,
            weights_bytes=sum(weight.nbytes for weight in weights),
            peak_bytes=peak,
            rise_bytes=max(0, peak - held),
            **measured,
        )
    }


def flops_pass(
    case: Case, plan: TimingPlan, rig: Rig, batches: list[Tensor], photographs: Photographs
) -> dict[str, Any]:
    """What a forward has to do: FLOPs and bytes."""
    works, notes = try_work(case, plan, rig)
    return {"work": works.get(ENCODER), "notes": notes}


def try_work(case: Case, plan: TimingPlan, rig: Rig) -> tuple[dict[str, Work], dict[str, str]]:
    """The work of each timed module in one forward; or why it can't be told of another encoder."""
    key = (case.batch_size, plan.module_depth, plan.module_pattern)
    try:
        if key not in rig.works:  # counting takes a moment, and two passes ask
            rig.works[key] = case_work(case, plan, rig.encoder, rig.dtype)
        return rig.works[key], {}
    except Exception as error:
        if case.model in MODELS:
            raise
        reason = f"{type(error).__name__}: {one_line(error)}"
        return {}, {"flops": f"this encoder does not run on the meta device: {reason}"}


def batch_error(case: Case, rig: Rig, embeddings: Tensor) -> float | None:
    """How far the first image's embedding is from that at the first batch size of the rig."""
    own = embeddings[:1].float().clone()
    first = rig.first_embeddings.setdefault(case.input, own)
    error = float((own - first).norm() / first.norm())
    return error if first is not own and math.isfinite(error) else None


def describe_output(embeddings: Tensor) -> Output:
    """Shape, type, finiteness, and a digest of the first image's embedding as float32."""
    first = embeddings[0].to(device="cpu", dtype=torch.float32).contiguous()
    return Output(
        shape=tuple(embeddings.shape),
        dtype=str(embeddings.dtype).removeprefix("torch."),
        finite=bool(embeddings.isfinite().all()),
        sha256=hashlib.sha256(first.numpy().tobytes()).hexdigest(),
    )


def torch_flags() -> dict[str, bool | int | str]:
    """The settings of torch that change a time or a result, as they were."""
    matmul = torch.backends.cuda.matmul
    return {
        "matmul_allow_tf32": matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "bf16_reduced_precision_reduction": matmul.allow_bf16_reduced_precision_reduction,
        "fp16_reduced_precision_reduction": matmul.allow_fp16_reduced_precision_reduction,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
    }


PASS_FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "latency": latency_pass,
    "modules": modules_pass,
    "memory": memory_pass,
    "flops": flops_pass,
    "embedding_error": embedding_error_pass,
    "components": components_pass,
    "mask_generator": mask_generator_pass,
    "energy": energy_pass,
    "kernels": kernels_pass,
}
