"""Attention with decomposed relative position bias: one function for each way to compute it.

A variant holds no parameters, so every variant loads the same weights. All compute

    softmax(q k^T / sqrt(D) + rel_h[key row] + rel_w[key column]) v

Shapes: B windows (or images, in global blocks), N heads, L = H * W tokens, D channels a head.
Torch is imported inside the functions, so that a command can list the variants at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

# q, k, v: (B, N, L, D); rel_h: (B, N, L, H) and rel_w: (B, N, L, W), the bias of each query
# for every key row and every key column. Returns (B, N, L, D).
Attend = Callable[["Tensor", "Tensor", "Tensor", "Tensor", "Tensor"], "Tensor"]


CPU_BIAS_BYTES = 16 * 2**20  # glibc keeps at most 32 MiB for reuse


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
    """Torch's fused attention, with the bias written out as an L x L mask.

    On a CPU in pieces whose bias fits memory that the C allocator keeps: what is larger comes fresh
    from the kernel in each call, and faulting its pages in took almost half the attention's time.
    """
    import torch

    if q.device.type != "cpu" or torch.compiler.is_compiling():
        return attend_fused(q, k, v, rel_h, rel_w)
    flat_q, flat_k, flat_v, flat_h, flat_w = (
        tensor.flatten(0, 1).unsqueeze(0) for tensor in (q, k, v, rel_h, rel_w)
    )
    attended = q.new_empty(flat_q.shape)
    for heads, queries in cpu_pieces(flat_q.shape[1], flat_q.shape[2], q.element_size()):
        attended[:, heads, queries] = attend_fused(
            flat_q[:, heads, queries],
            flat_k[:, heads],
            flat_v[:, heads],
            flat_h[:, heads, queries],
            flat_w[:, heads, queries],
        )
    return attended.view(q.shape)


def attend_fused(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    bias = (rel_h.unsqueeze(-1) + rel_w.unsqueeze(-2)).flatten(-2)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias)


def cpu_pieces(heads: int, length: int, item_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Groups of heads and bands of queries whose bias stays below CPU_BIAS_BYTES."""
    band = max(1, min(length, CPU_BIAS_BYTES // (length * item_bytes)))
    group = max(1, CPU_BIAS_BYTES // (band * length * item_bytes))
    for first in range(0, heads, group):
        for start in range(0, length, band):
            yield slice(first, first + group), slice(start, start + band)


ATTENTION: dict[str, AttentionVariant] = {
    "reference": AttentionVariant(
        attend_reference, "tokens", "upstream's arithmetic and FLOPs, step by step"
    ),
    "sdpa": AttentionVariant(
        attend_sdpa, "bias", "fused attention with the bias as a mask; no FLOPs spent on padding"
    ),
}
