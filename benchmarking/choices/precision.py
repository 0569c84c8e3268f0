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
from sam.family import Family

from .families import family_of

if TYPE_CHECKING:
    import torch
    from torch import nn

SCALES = r"\.weight_scale$"  # of weights of eight bits


@dataclass(frozen=True)
class Precision:
    """A number format.

    dtype: Torch's name of the weights' type.
    wide_residual: Whether the weights stay in float32 that Family.keep_float32_in_fp16 names.
    tf32: Whether float32 matrix products may round their factors to TF32.
    cuda_capability: The least compute capability of a GPU; None where any will do.
    on_cpu: Whether a CPU can do it.
    eight_bits: The key of sam.quantise.EIGHT_BITS that large linear layers are computed in.
    budget: How many times as far from float32 as bf16 its embeddings may be; None where the format
        rounds, and does not approximate.
    """

    dtype: str
    summary: str
    wide_residual: bool = False
    tf32: bool = False
    cuda_capability: tuple[int, int] | None = None
    on_cpu: bool = True
    eight_bits: str | None = None
    budget: float | None = None

    @property
    def keeps_residual(self) -> bool:
        """Whether the sum of all blocks stays in float32."""
        return self.dtype == "float32" or self.wide_residual


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
    return family_of(case.model).concrete_attention(case.attention, device_type, dtype)


def why_no_eight_bits(name: str, family: Family) -> str | None:
    """Why a family's models can't be computed in a precision, or None if they can."""
    bits = PRECISIONS[name].eight_bits
    if bits is None or bits in family.eight_bit_layers:
        return None
    return f"{name} needs to know the large linear layers, which {family.title} does not name"


def apply_precision(model: nn.Module, name: str, family: Family) -> torch.dtype:
    """Convert a model's weights in place and set torch's TF32 flags; return the inputs' type.

    Args:
        model: A model of the family, or its image encoder alone if the precision is a plain one.
        name: A key of PRECISIONS.
        family: Knows which weights stay in float32, and which layers may have eight bits.
    """
    import torch

    precision = PRECISIONS[name]
    dtype: torch.dtype = getattr(torch, precision.dtype)
    if precision.eight_bits is not None:
        from sam.quantise import quantise_linears

        layers = family.eight_bit_layers[precision.eight_bits]
        quantise_linears(family.encoder(model), precision.eight_bits, layers)
    patterns = [SCALES, *family.keep_float32]
    if precision.wide_residual:
        patterns += family.keep_float32_in_fp16
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
        wide_residual=True,
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
