"""Linear layers of the image encoder in eight bits: approximate, at up to twice the rate of bf16.

Each token and each output channel has a scale of its own (row-wise), which maps the largest of its
values to the format's largest number. Those of tokens are found anew in each forward (dynamic), so
that nothing need be calibrated. Attention's products, the projection after it and the neck stay as
they are: the projection is so small that finding its scales costs more than eight bits save.

Shapes: M tokens, K channels in, N channels out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import ScalingType
from torch.utils.flop_counter import flop_registry, register_flop_formula

TINY = 1e-12  # in place of the scale of zeros
FEWEST_ROWS = 32  # of an int8 product on CUDA, which refuses 16


@dataclass(frozen=True)
class EightBits:
    """A format of eight bits.

    dtype: Of its numbers.
    largest: Of them.
    product: Of tokens (M, K) and weights (N, K), (M, N), with nothing done to them.
    multiply: The same with the scales of tokens (M, 1) and of weights (N, 1), and a bias (N,), in
        the bias's type: tokens, scales, weights, scales, bias.
    """

    dtype: torch.dtype
    largest: float
    product: Callable[[Tensor, Tensor], Tensor]
    multiply: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

    def quantise(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of eight bits, and each row's scale, in float32."""
        wide = rows.float()
        scale = (wide.abs().amax(-1, keepdim=True) / self.largest).clamp_min(TINY)
        scaled = wide / scale
        if not self.dtype.is_floating_point:
            scaled = scaled.round()
        return scaled.to(self.dtype), scale


class EightBitLinear(nn.Module):
    """A linear layer whose product is computed in eight bits.

    Args:
        linear: Whose weights it takes.
        bits: A key of EIGHT_BITS.
    """

    weight_scale: Tensor  # (N, 1)

    def __init__(self, linear: nn.Linear, bits: str) -> None:
        super().__init__()
        self.bits = EIGHT_BITS[bits]
        weight, scale = self.bits.quantise(linear.weight.detach())
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("weight_scale", scale)
        self.bias = linear.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., K) to (..., N), in the bias's type."""
        rows, scale = self.bits.quantise(tokens.flatten(0, -2))
        product = self.bits.multiply(rows, scale, self.weight, self.weight_scale, self.bias)
        return product.unflatten(0, tokens.shape[:-1])


def quantise_linears(encoder: nn.Module, bits: str, layers: tuple[str, ...]) -> None:
    """Put the large linear layers of an image encoder into eight bits, in place.

    Args:
        encoder: With its weights, best in float32, so that they are rounded once.
        bits: A key of EIGHT_BITS.
        layers: How the names of the layers end; Family.eight_bit_layers has them.
    """
    for name, module in list(encoder.named_modules()):
        if name.endswith(layers):
            assert isinstance(module, nn.Linear)
            encoder.set_submodule(name, EightBitLinear(module, bits))


def product_fp8(rows: Tensor, weight: Tensor) -> Tensor:
    scale, weight_scale = (torch.ones(len(each), 1, device=each.device) for each in (rows, weight))
    bias = torch.zeros(len(weight), dtype=torch.bfloat16, device=rows.device)
    return multiply_fp8(rows, scale, weight, weight_scale, bias)


def multiply_fp8(
    rows: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor
) -> Tensor:
    return F.scaled_mm(
        rows,
        weight.t(),
        scale,
        ScalingType.RowWise,
        weight_scale.t(),
        ScalingType.RowWise,
        bias=bias,
        output_dtype=bias.dtype,
        use_fast_accum=True,
    )


def product_int8(rows: Tensor, weight: Tensor) -> Tensor:
    missing = FEWEST_ROWS - len(rows) if rows.device.type == "cuda" else 0
    if missing > 0:
        return product_int8(F.pad(rows, (0, 0, 0, missing)), weight)[: len(rows)]
    return torch._int_mm(rows, weight.t())  # torch has no public name for it


def multiply_int8(
    rows: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor
) -> Tensor:
    return (product_int8(rows, weight) * scale * weight_scale.t() + bias).to(bias.dtype)


def flops_of_product(rows: torch.Size, weight: torch.Size, *others: object, **more: object) -> int:
    return 2 * rows[0] * rows[1] * weight[1]


for operation in (torch.ops.aten._int_mm, torch.ops.aten._scaled_mm_v2):
    if operation not in flop_registry:  # torch 2.15 knows neither
        register_flop_formula(operation)(flops_of_product)


EIGHT_BITS: dict[str, EightBits] = {
    "fp8": EightBits(torch.float8_e4m3fn, 448.0, product_fp8, multiply_fp8),
    "int8": EightBits(torch.int8, 127.0, product_int8, multiply_int8),
}
