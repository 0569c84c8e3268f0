"""Measuring one case: a pass for each question, each with nothing else switched on.

Shapes: B images, S pixels along an edge.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from results.records.case import Case, TimingPlan
from results.records.measurement import Measurement, Output, PassResult, to_result

from ..choices.inputs import BUFFERS, read_input
from ..machine import telemetry  # noqa: F401
from . import timing, work  # noqa: F401
from .batches import make_batches
from .passes.bench import Bench
from .passes.table import PASSES
from .rig import Rig

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
    passes: dict[str, PassResult] = {}
    measured: dict[str, Any] = {
        "passes": passes,
        "parameters": sum(weight.numel() for weight in rig.encoder.parameters()),
        "weights": rig.weights,
        "input_source": photographs.source,
        "notes": notes,
        "flags": torch_flags(),
    }
    try:
        with torch.no_grad():  # not inference mode, whose tensors can have no gradients later
            batches = make_batches(case, plan, rig, photographs)
        bench = Bench(case, plan, rig, batches, photographs, notes)
        for name in plan.passes:
            report(name)
            found = run_pass(name, bench)
            if found is not None:
                passes[name] = found
        report("output")
        with torch.inference_mode():
            embeddings = rig.encode(batches[0])
            measured["output"] = describe_output(embeddings)
            measured["batch_error"] = batch_error(case, rig, embeddings)
        measured["timer_test_s"] = rig.timer_test_s
    except Exception as error:
        raise PassError(error, Measurement(**measured)) from error
    return Measurement(**measured)


def run_pass(name: str, bench: Bench) -> PassResult | None:
    """What a pass finds; None, and mostly a note, if it can't run or finds nothing."""
    row = PASSES[name]
    reason = row.why_not(bench.case)
    if reason is not None:
        bench.notes[name] = f"unsupported: {reason}"
        return None
    with torch.inference_mode(not row.needs_gradients):
        found = row.run(bench)
    return to_result(name, found) if found is not None else None


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
