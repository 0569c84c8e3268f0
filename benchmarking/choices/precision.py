"""Number formats that a model can be measured in.

Torch is imported inside the functions, so that a command can list the formats at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.records.case import Case
from sam.attention.variants import ATTENTION, concrete_attention, split_attention

if TYPE_CHECKING:
    import torch
    from torch import nn

# 1,024 pixels do not fit into 8 or 11 bits of a coordinate's frequency.
COORDINATES = r"positional_encoding_gaussian_matrix$"
PIXEL_STATISTICS = r"pixel_(mean|std)$"
SCALES = r"\.weight_scale$"  # of weights of eight bits
# With float32 positions the sum of all blocks stays float32 too: fp16 overflows in it, and in
# the squares of the layer norms. The neck's first convolution reads that sum as it is (0.2 % of the
# FLOPs). Other linear layers and attention run in fp16.
RESIDUAL_AND_NORMS = r"image_encoder\.(pos_embed|blocks\.\d+\.norm\d\..*|neck\.[013]\..*)$"


@dataclass(frozen=True)
class Precision:
    """A number format.

    dtype: Torch's name of the weights' type.
    float32: Patterns of the weights that stay in float32.
    tf32: Whether float32 matrix products may round their factors to TF32.
    cuda_capability: The least compute capability of a GPU; None where any will do.
    on_cpu: Whether a CPU can do it.
    eight_bits: The key of sam.quantise.EIGHT_BITS that large linear layers are computed in.
    budget: How many times as far from float32 as bf16 its embeddings may be; None where the format
        rounds, and does not approximate.
    """

    dtype: str
    summary: str
    float32: tuple[str, ...] = (COORDINATES,)
    tf32: bool = False
    cuda_capability: tuple[int, int] | None = None
    on_cpu: bool = True
    eight_bits: str | None = None
    budget: float | None = None

    @property
    def keeps_residual(self) -> bool:
        """Whether the sum of all blocks stays in float32."""
        return self.dtype == "float32" or RESIDUAL_AND_NORMS in self.float32


def why_unsupported(name: str, device_type: str, capability: tuple[int, int] | None) -> str | None:
    """Why a device can't do a precision, or None where it can.

    Args:
        name: A key of PRECISIONS.
        device_type: "cpu" or "cuda".
        capability: The GPU's compute capability.
    """
    precision = PRECISIONS[name]
    if device_type == "cpu":
        return None if precision.on_cpu else f"{name} needs a CUDA GPU; a CPU has none of it"
    least = precision.cuda_capability
    if least is not None and capability is not None and capability < least:
        return (
            f"{name} needs compute capability {least[0]}.{least[1]} or newer; this GPU "
            f"has {capability[0]}.{capability[1]}"
        )
    return None


def chosen_attention(case: Case) -> str:
    """The attention of a case, with what `auto` stands for on its device in its place."""
    device_type, dtype = case.device.partition(":")[0], PRECISIONS[case.precision].dtype
    return concrete_attention(case.attention, device_type, dtype)


def why_no_attention(attention: str, precision: str, device_type: str) -> str | None:
    """Why a type of device can't do an attention in a precision, or None where it can."""
    dtype = PRECISIONS[precision].dtype
    reasons = (
        ATTENTION[name].why_unsupported(device_type, dtype) for name in split_attention(attention)
    )
    return next(filter(None, reasons), None)


def apply_precision(model: nn.Module, name: str) -> torch.dtype:
    """Convert a model's weights in place and set torch's TF32 flags; return the inputs' type."""
    import torch

    precision = PRECISIONS[name]
    dtype: torch.dtype = getattr(torch, precision.dtype)
    if precision.eight_bits is not None:
        from sam.quantise import quantise_linears

        quantise_linears(getattr(model, "image_encoder", model), precision.eight_bits)
    patterns = (*precision.float32, PIXEL_STATISTICS, SCALES)
    kept = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    for weight_name, weight in (*model.named_parameters(), *model.named_buffers()):
        is_wide = weight.is_floating_point() and weight.element_size() > 1
        if is_wide and not kept.search(weight_name):
            weight.data = weight.data.to(dtype)
    allow_tf32(precision.tf32)
    return dtype


def allow_tf32(is_allowed: bool) -> None:
    """Set both of torch's flags, whose defaults differ."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = is_allowed
    torch.backends.cudnn.allow_tf32 = is_allowed


@contextmanager
def without_tf32() -> Iterator[None]:
    """Exact float32 for a while, whatever a case's precision has set."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    were_allowed = matmul.allow_tf32, cudnn.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = were_allowed


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision("float32", "float32 throughout, TF32 off"),
    "tf32": Precision(
        "float32", "float32, matrix products in TF32", tf32=True, cuda_capability=(8, 0),
        on_cpu=False,
    ),
    "bf16": Precision("bfloat16", "bfloat16 throughout", cuda_capability=(8, 0)),
    "fp16": Precision(
        "float16", "float16, residual and norms of the image encoder in float32",
        float32=(COORDINATES, RESIDUAL_AND_NORMS),
    ),
    "fp8": Precision(
        "bfloat16", "approximate: the MLPs' products in e4m3, with scales by row; else bf16",
        cuda_capability=(8, 9), eight_bits="fp8", budget=6.0,
    ),
    "int8": Precision(
        "bfloat16", "approximate: products of qkv and MLPs in int8, with scales by row; else bf16",
        cuda_capability=(8, 0), eight_bits="int8", budget=3.0,
    ),
}  # fmt: skip
