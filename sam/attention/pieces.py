"""Attention of some heads and some queries at a time, so that their scores stay in a CPU's cache.

Shapes as in sam.attention.attend: q, k and v are (B', N, L, D), rel_h and rel_w (B', N, L, S).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

FUSED_BYTES = 16 * 2**20  # of the bias: glibc keeps at most 32 MiB for reuse
TILE_BYTES = 2 * 2**20  # of scores: about a core's second-level cache


def attend_fused(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, attn_mask=written_out(rel_h, rel_w))


def attend_tile(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Of scaled queries."""
    bias = written_out(rel_h, rel_w).flatten(0, 1)
    scores = torch.baddbmm(bias, q.flatten(0, 1), k.flatten(0, 1).transpose(-2, -1))
    return (scores.softmax(-1) @ v.flatten(0, 1)).view(*q.shape[:-1], v.shape[-1])


def attend_plain_tile(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of scaled queries, without bias."""
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


def written_out(rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """The bias of each query and key, (..., queries, L)."""
    return (rel_h.unsqueeze(-1) + rel_w.unsqueeze(-2)).flatten(-2)


# By name, since an operation of torch takes no function: what attends, and bytes of its piece.
PIECES: dict[str, tuple[Callable[..., Tensor], int]] = {
    "fused": (attend_fused, FUSED_BYTES),
    "tile": (attend_tile, TILE_BYTES),
    "plain tile": (attend_plain_tile, TILE_BYTES),
}


def attend_in_pieces(piece: str, q: Tensor, k: Tensor, v: Tensor, *of_queries: Tensor) -> Tensor:
    """Attend piece by piece on a CPU; as one call on a GPU, and in a graph that is exported.

    Args:
        piece: A key of PIECES.
        of_queries: What else there is for each query.
    """
    if q.device.type != "cpu" or torch.compiler.is_exporting():
        return PIECES[piece][0](q, k, v, *of_queries)
    if torch.compiler.is_compiling():
        attended: Tensor = compiled_in_pieces(piece, q, k, v, of_queries)
        return attended
    return run_pieces(piece, q, k, v, of_queries)


def run_pieces(piece: str, q: Tensor, k: Tensor, v: Tensor, of_queries: Sequence[Tensor]) -> Tensor:
    attend, most_bytes = PIECES[piece]
    flat_q, flat_k, flat_v, *flat = (
        tensor.flatten(0, 1).unsqueeze(0) for tensor in (q, k, v, *of_queries)
    )
    attended = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    flat_attended = attended.view(flat_v.shape)
    lengths = flat_q.shape[1], flat_q.shape[2], most_bytes // flat_q.element_size()
    for heads, queries in pieces(*lengths):
        flat_attended[:, heads, queries] = attend(
            flat_q[:, heads, queries],
            flat_k[:, heads],
            flat_v[:, heads],
            *(tensor[:, heads, queries] for tensor in flat),
        )
    return attended


def pieces(heads: int, length: int, most_scores: int) -> Iterator[tuple[slice, slice]]:
    """Groups of heads and bands of queries that have at most so many scores, or one query's."""
    band = max(1, min(length, most_scores // length))
    group = max(1, most_scores // (band * length))
    for first in range(0, heads, group):
        for start in range(0, length, band):
            yield slice(first, first + group), slice(start, start + band)


@torch.library.custom_op("sam_bench::attention_in_pieces", mutates_args=())
def compiled_in_pieces(
    piece: str, q: Tensor, k: Tensor, v: Tensor, of_queries: Sequence[Tensor]
) -> Tensor:
    """An operation of its own: a compiler would unroll the loop, or write all scores out."""
    return run_pieces(piece, q, k, v, of_queries)


@compiled_in_pieces.register_fake
def shape_in_pieces(
    piece: str, q: Tensor, k: Tensor, v: Tensor, of_queries: Sequence[Tensor]
) -> Tensor:
    return v.new_empty(v.shape)
