"""Attention with decomposed relative position bias: one function for each way to compute it.

A variant holds no parameters, so every variant loads the same weights. All compute

    softmax(q k^T / sqrt(D) + rel_h[key row] + rel_w[key column]) v

Shapes: B windows (or images, in global blocks), N heads, L = H * W tokens, D channels a head.
Torch is imported inside the functions, so that a command can list the variants at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

# q, k, v: (B, N, L, D); rel_h: (B, N, L, H) and rel_w: (B, N, L, W), the bias of each query
# for every key row and every key column. Returns (B, N, L, D).
Attend = Callable[["Tensor", "Tensor", "Tensor", "Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class AttentionVariant:
    """A way to compute the attention of the image encoder.

    padding: What a window's padded tokens go through. "tokens": zero tokens are added before the
        qkv layer, as upstream does. "bias": qkv runs on the real tokens alone and the padded
        slots get what qkv makes of a zero token, its bias. Equal, with fewer FLOPs. (Masking the
        padding would be wrong: padded tokens take part in the softmax.)
    """

    attend: Attend
    padding: Literal["tokens", "bias"]
    summary: str


def attend_reference(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Upstream's arithmetic, step by step; the bias is added in place to save two L x L copies."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    by_key_row = scores.view(*scores.shape[:-1], rel_h.shape[-1], rel_w.shape[-1])
    by_key_row += rel_h.unsqueeze(-1)
    by_key_row += rel_w.unsqueeze(-2)
    return scores.softmax(dim=-1) @ v


def attend_sdpa(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Torch's fused attention, with the bias written out as an L x L mask."""
    from torch.nn.functional import scaled_dot_product_attention

    bias = (rel_h.unsqueeze(-1) + rel_w.unsqueeze(-2)).flatten(-2)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias)


ATTENTION: dict[str, AttentionVariant] = {
    "reference": AttentionVariant(
        attend_reference, "tokens", "upstream's arithmetic and FLOPs, step by step"
    ),
    "sdpa": AttentionVariant(
        attend_sdpa, "bias", "fused attention with the bias as a mask; no FLOPs spent on padding"
    ),
}
