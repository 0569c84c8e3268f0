"""Ways to run a forward.

Torch is imported inside the functions, so that a command can list the ways at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from results.records.case import Case, TimingPlan
from results.records.measurement import ENCODER

from .families import family_of
from .modules import TimedModule, find_modules

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sam.family import Family

    Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Execution:
    """A way to run a module.

    prepare: Makes a function of the images out of the image encoder of a family.
    hides_modules: Why hooks on inner modules would not tell the truth, or None where they do.
    hides_parts: The same of modules within blocks, and the other modules of the encoder.
    hides_memory: Why the peak of a forward can't be told on a type of device, or None where it can.
    why_unsupported: Why a type of device can't do it in a precision, or None where it can.
    needs_export: Whether it runs what Family.export writes, outside torch.
    """

    prepare: Callable[[nn.Module, Family], Forward]
    summary: str
    hides_modules: str | None = None
    hides_parts: str | None = None
    hides_memory: Callable[[str], str | None] = lambda device_type: None
    why_unsupported: Callable[[str, str], str | None] = lambda device_type, precision: None
    needs_export: bool = False


def prepare_eager(encoder: nn.Module, family: Family) -> Forward:
    return encoder


def prepare_compiled(encoder: nn.Module, family: Family, mode: str | None = None) -> Forward:
    """Static shapes: a sweep measures each batch size on its own.

    Args:
        encoder: Any module.
        family: Of any kind.
        mode: Of torch.compile.
    """
    import torch

    allow_recompiling()
    return torch.compile(encoder, dynamic=False, fullgraph=True, mode=mode)


def prepare_graphed(encoder: nn.Module, family: Family, mode: str) -> Forward:
    """In a mode of torch.compile that replays CUDA graphs, whose memory holds the output only until
    the next forward: what is returned is a copy.
    """
    from torch import Tensor
    from torch.utils._pytree import tree_map_only

    compiled = prepare_compiled(encoder, family, mode)
    return lambda images: tree_map_only(Tensor, Tensor.clone, compiled(images))


def prepare_regional(encoder: nn.Module, family: Family) -> Forward:
    """Blocks of one kind are one piece of code, so that each kind is compiled once.

    Their forwards are compiled and not their calls, so that hooks stay outside.
    """
    import torch

    allow_recompiling()
    for region in compiled_regions(encoder, family).values():
        compiled = torch.compile(region.forward, dynamic=False, fullgraph=True)
        region.forward = compiled
    return encoder


def compiled_regions(encoder: nn.Module, family: Family) -> dict[str, nn.Module]:
    """By name: blocks, and the other large modules of the encoder."""
    found = find_modules(encoder, block_names=family.block_names)
    return {name: timed.module for name, timed in found.items() if name != ENCODER}


def timed_modules(case: Case, plan: TimingPlan, encoder: nn.Module) -> dict[str, TimedModule]:
    """Those of a case's modules that hooks can time: none within what is compiled as one."""
    family = family_of(case.model)
    found = find_modules(encoder, plan.module_depth, plan.module_pattern, family.block_names)
    if EXECUTIONS[case.execution].hides_parts is None:
        return found
    regions = tuple(f"{name}." for name in compiled_regions(encoder, family))
    return {name: timed for name, timed in found.items() if not name.startswith(regions)}


def allow_recompiling() -> None:
    """A compilation a batch size. Beyond its limit (8), or where it can't compile the whole, torch
    would run eagerly without a word: fullgraph makes that an error.
    """
    import torch

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit


def prepare_onnxruntime(encoder: nn.Module, family: Family) -> Forward:
    """Export the encoder for any batch, and run it on the CPU with as many threads as torch."""
    import onnxruntime
    import torch

    assert family.export is not None  # cases of others are unsupported
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:  # the session holds the weights itself
        path = Path(folder, "encoder.onnx")
        family.export(encoder, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(images: Tensor) -> Tensor:
        (embeddings,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(embeddings)

    return forward


def why_no_export(name: str, family: Family) -> str | None:
    """Why an execution can't run a family's encoders, or None if it can."""
    if not EXECUTIONS[name].needs_export or family.export is not None:
        return None
    return f"{name} needs an ONNX export, which {family.title} does not have"


def why_no_graphs(device_type: str, precision: str) -> str | None:
    if device_type != "cuda":
        return "cudagraphs needs a CUDA GPU: a CPU has no launches to save"
    return None


def why_no_memory_of_graphs(device_type: str) -> str | None:
    if device_type != "cuda":
        return None
    return "a CUDA graph's memory is set aside when it is recorded, and none is asked for later"


def why_no_onnxruntime(device_type: str, precision: str) -> str | None:
    if any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")):
        return "onnxruntime needs more packages: pip install 'sam-encoder-bench[onnx]'"
    if (device_type, precision) != ("cpu", "fp32"):
        return f"onnxruntime is run in fp32 on a CPU alone, not in {precision} on {device_type}"
    return None


ACROSS_MODULES = "the compiler fuses across modules, so hooks would time something else"

EXECUTIONS: dict[str, Execution] = {
    "eager": Execution(prepare_eager, "operation by operation, as torch runs a module"),
    "compile": Execution(
        prepare_compiled,
        "torch.compile of the whole encoder; the first forward compiles",
        hides_modules=ACROSS_MODULES,
    ),
    "regional": Execution(
        prepare_regional,
        "torch.compile of each block, once a kind: cold in seconds, and blocks can be timed",
        hides_parts="the compiler fuses across the parts of a block",
    ),
    "cudagraphs": Execution(
        partial(prepare_graphed, mode="reduce-overhead"),
        "as compile, replayed as one CUDA graph: the host launches once a forward",
        hides_modules=ACROSS_MODULES,
        hides_memory=why_no_memory_of_graphs,
        why_unsupported=why_no_graphs,
    ),
    "max-autotune": Execution(
        partial(prepare_graphed, mode="max-autotune"),
        "as cudagraphs, each kernel the fastest of many that were tried; minutes to compile",
        hides_modules=ACROSS_MODULES,
        hides_memory=why_no_memory_of_graphs,
    ),
    "onnxruntime": Execution(
        prepare_onnxruntime,
        "the encoder as an ONNX graph, by onnxruntime on a CPU",
        hides_modules="onnxruntime runs a graph without torch's modules",
        hides_memory=lambda device_type: "onnxruntime keeps what its first forward took",
        why_unsupported=why_no_onnxruntime,
        needs_export=True,
    ),
}
