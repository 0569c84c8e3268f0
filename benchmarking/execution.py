"""Ways to run a forward.

Torch is imported inside the functions, so that a command can list the ways at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Execution:
    """A way to run a module.

    prepare: Makes a function of the images out of the image encoder.
    hides_modules: Why hooks on inner modules would not tell the truth, or None where they do.
    hides_parts: The same of modules within blocks, and the other modules of the encoder.
    hides_memory: Why the peak of a forward can't be told, or None where it can.
    why_unsupported: Why a type of device can't do it in a precision, or None where it can.
    only_sam: Whether it can run SAM's own encoder alone.
    """

    prepare: Callable[[nn.Module], Forward]
    summary: str
    hides_modules: str | None = None
    hides_parts: str | None = None
    hides_memory: str | None = None
    why_unsupported: Callable[[str, str], str | None] = lambda device_type, precision: None
    only_sam: bool = False


def prepare_eager(encoder: nn.Module) -> Forward:
    return encoder


def prepare_compiled(encoder: nn.Module) -> Forward:
    """Static shapes: a sweep measures each batch size on its own."""
    import torch

    allow_recompiling()
    return torch.compile(encoder, dynamic=False, fullgraph=True)


def prepare_regional(encoder: nn.Module) -> Forward:
    """Blocks of one kind are one piece of code, so that each kind is compiled once.

    Their forwards are compiled and not their calls, so that hooks stay outside.
    """
    import torch

    allow_recompiling()
    for region in compiled_regions(encoder).values():
        compiled = torch.compile(region.forward, dynamic=False, fullgraph=True)
        region.forward = compiled
    return encoder


def compiled_regions(encoder: nn.Module) -> dict[str, nn.Module]:
    """By name: blocks, and the other large modules of the encoder."""
    from results.schema import ENCODER

    from .modules import find_modules

    found = find_modules(encoder)
    return {name: timed.module for name, timed in found.items() if name != ENCODER}


def allow_recompiling() -> None:
    """A compilation a batch size. Beyond its limit (8), or where it can't compile the whole, torch
    would run eagerly without a word: fullgraph makes that an error.
    """
    import torch

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit


def prepare_onnxruntime(encoder: nn.Module) -> Forward:
    """Export the encoder for any batch, and run it on the CPU with as many threads as torch."""
    import onnxruntime
    import torch

    from sam.image_encoder import ImageEncoderViT
    from sam.onnx_export import export_encoder

    assert isinstance(encoder, ImageEncoderViT)  # cases of others are unsupported
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:  # the session holds the weights itself
        path = Path(folder, "encoder.onnx")
        export_encoder(encoder, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def forward(images: Tensor) -> Tensor:
        (embeddings,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(embeddings)

    return forward


def why_no_onnxruntime(device_type: str, precision: str) -> str | None:
    if any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")):
        return "onnxruntime needs more packages: pip install 'sam-encoder-bench[onnx]'"
    if (device_type, precision) != ("cpu", "fp32"):
        return f"onnxruntime is run in fp32 on a CPU alone, not in {precision} on {device_type}"
    return None


EXECUTIONS: dict[str, Execution] = {
    "eager": Execution(prepare_eager, "operation by operation, as torch runs a module"),
    "compile": Execution(
        prepare_compiled,
        "torch.compile of the whole encoder; the first forward compiles",
        hides_modules="the compiler fuses across modules, so hooks would time something else",
    ),
    "regional": Execution(
        prepare_regional,
        "torch.compile of each block, once a kind: cold in seconds, and blocks can be timed",
        hides_parts="the compiler fuses across the parts of a block",
    ),
    "onnxruntime": Execution(
        prepare_onnxruntime,
        "the encoder as an ONNX graph, by onnxruntime on a CPU",
        hides_modules="onnxruntime runs a graph without torch's modules",
        hides_memory="onnxruntime keeps what its first forward took",
        why_unsupported=why_no_onnxruntime,
        only_sam=True,
    ),
}
