"""Linear layers of the image encoder in eight bits: approximate, for twice the rate of bf16.

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
from torch.utils.flop_counter import register_flop_formula

MLP = ("mlp.lin1", "mlp.lin2")
TINY = 1e-12  # in place of the scale of zeros


@dataclass(frozen=True)
class EightBits:
    """A format of eight bits.

    dtype: Of its numbers.
    largest: Of them.
    layers: How the names of the layers end that it is used in.
    product: Of tokens (M, K) and weights (N, K), (M, N), with nothing done to them.
    multiply: The same with the scales of tokens (M, 1) and of weights (N, 1), and a bias (N,), in
        the bias's type: tokens, scales, weights, scales, bias.
    """

    dtype: torch.dtype
    largest: float
    layers: tuple[str, ...]
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


def quantise_linears(encoder: nn.Module, bits: str) -> None:
    """Put the large linear layers of an image encoder into eight bits, in place.

    Args:
        encoder: With its weights, best in float32, so that they are rounded once.
        bits: A key of EIGHT_BITS.
    """
    for name, module in list(encoder.named_modules()):
        if name.endswith(EIGHT_BITS[bits].layers):
            assert isinstance(module, nn.Linear)
            encoder.set_submodule(name, EightBitLinear(module, bits))


def product_fp8(rows: Tensor, weight: Tensor) -> Tensor:
    ones = torch.ones(1, 1, device=rows.device)
    scales = ones.expand(len(rows), 1).contiguous(), ones.expand(len(weight), 1).contiguous()
    bias = torch.zeros(len(weight), dtype=torch.bfloat16, device=rows.device)
    return multiply_fp8(rows, scales[0], weight, scales[1], bias)


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
    return torch._int_mm(rows, weight.t())  # torch has no public name for it


def multiply_int8(
    rows: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor
) -> Tensor:
    return (product_int8(rows, weight) * scale * weight_scale.t() + bias).to(bias.dtype)


@register_flop_formula([torch.ops.aten._int_mm, torch.ops.aten._scaled_mm_v2])
def flops_of_product(rows: torch.Size, weight: torch.Size, *others: object, **more: object) -> int:
    """Torch's counter knows neither."""
    return 2 * rows[0] * rows[1] * weight[1]


# In fp8 the MLP alone: qkv in it, whose error the softmax magnifies, nearly doubled that of the
# embedding with large relative positions (ViT-B, 512 pixels: 0.083 to 0.138; bf16 has 0.027).
EIGHT_BITS: dict[str, EightBits] = {
    "fp8": EightBits(torch.float8_e4m3fn, 448.0, MLP, product_fp8, multiply_fp8),
    "int8": EightBits(torch.int8, 127.0, ("attn.qkv", *MLP), product_int8, multiply_int8),
}
