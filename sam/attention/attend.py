"""Attention with decomposed relative position bias: the function of each way to compute it.

All compute, in each window of a grid of tokens (or over the whole grid, in global blocks),

    softmax(q k^T / sqrt(D) + rel_h[query, key row] + rel_w[query, key column]) v

    rel_h[query, row] = q . rel_pos_h[query row - row + S - 1], and rel_w likewise with columns

Shapes: B images, H x W tokens, C channels, N heads, D = C / N channels a head, S tokens along a
window's edge, L = S * S tokens of a window, B' windows of all images.
Torch is imported inside the functions, so that a command can list the variants at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# q, k, v: (B', N, L, D); rel_h, rel_w: (B', N, L, S). Returns (B', N, L, D).
AttendWindows = Callable[["Tensor", "Tensor", "Tensor", "Tensor", "Tensor"], "Tensor"]

FOLDED_MULTIPLE = 16  # columns of the bias: for 14, GPUs' libraries pick a much slower kernel


@dataclass(frozen=True)
class AttentionInputs:
    """What attention is computed from.

    qkv: (B, H, W, 3 C), queries, keys and values of the grid; C is heads after heads.
    padding: (3 C,), those of a padded token: what the qkv layer makes of zeros, its bias.
    rel_pos_h, rel_pos_w: (2 S - 1, D), by the difference of query and key, the least first.
    heads: N.
    side: S; windows at the right and bottom edge reach beyond the grid where it is no multiple.
    """

    qkv: Tensor
    padding: Tensor
    rel_pos_h: Tensor
    rel_pos_w: Tensor
    heads: int
    side: int

    @property
    def head_dim(self) -> int:
        return self.rel_pos_h.shape[1]


def in_windows(attend: AttendWindows) -> Callable[[AttentionInputs], Tensor]:
    """The variant that cuts the grid into windows, and joins what it attended to."""

    def attend_grid(queried: AttentionInputs) -> Tensor:
        q, k, v = windowed(queried)
        rel_h, rel_w = relative_bias(queried, q, queried.side)
        return joined(queried, attend(q, k, v, rel_h, rel_w))

    return attend_grid


def windowed(queried: AttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all windows, (B', N, L, D) each."""
    from .windows import partition_windows

    windows = partition_windows(queried.qkv, queried.side, fill=queried.padding)
    length = queried.side**2
    q, k, v = windows.view(len(windows), length, 3, queried.heads, -1).permute(2, 0, 3, 1, 4)
    return q, k, v


def joined(queried: AttentionInputs, attended: Tensor) -> Tensor:
    """(B', N, L, D) to (B, H, W, C)."""
    from .windows import join_windows

    windows = attended.transpose(1, 2).reshape(len(attended), queried.side, queried.side, -1)
    return join_windows(windows, grid_size(queried))


def grid_size(queried: AttentionInputs) -> tuple[int, int]:
    return queried.qkv.shape[1], queried.qkv.shape[2]


def relative_bias(
    queried: AttentionInputs, q: Tensor, columns: int, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Bias of each query for every key row and for every key column, (B', N, L, columns) both.

    Args:
        queried: Whose relative positions.
        q: (B', N, L, D).
        columns: S or more; those beyond S mean nothing.
        scale: Of the bias.
    """
    import torch

    side = queried.side
    query_grid = q.unflatten(2, (side, side))
    of_rows = relative_table(queried.rel_pos_h, side, columns, scale)
    of_columns = relative_table(queried.rel_pos_w, side, columns, scale)
    rel_h = torch.einsum("bnhwc,hck->bnhwk", query_grid, of_rows)
    rel_w = torch.einsum("bnhwc,wck->bnhwk", query_grid, of_columns)
    return rel_h.flatten(2, 3), rel_w.flatten(2, 3)


def relative_table(rel_pos: Tensor, side: int, columns: int, scale: float) -> Tensor:
    """Lay out relative positions for each pair of a query's and a key's coordinate.

    Args:
        rel_pos: (2 side - 1, D); the row of offset o (query minus key) is o + side - 1.
        side: Coordinates along an edge.
        columns: Of keys; those beyond `side` hold zeros.
        scale: Of the positions, rounded once.

    Returns:
        (side, D, columns): query coordinate, channel, key coordinate.
    """
    import torch
    from torch.nn.functional import pad

    if scale != 1:
        wide = torch.promote_types(rel_pos.dtype, torch.float32)
        rel_pos = (rel_pos.to(wide) * scale).to(rel_pos.dtype)
    # Reversed, the keys of a query are neighbours: a sliding view, with no index to build on the
    # CPU in each forward.
    by_key = rel_pos.flip(0)
    if columns > side:
        by_key = pad(by_key, (0, 0, 0, columns - side))
    return by_key.unfold(0, columns, 1).flip(0)


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
    from .pieces import attend_in_pieces

    return attend_in_pieces("fused", q, k, v, rel_h, rel_w)


def attend_tiled(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Products and softmax as operations of their own, on tiles of scores that a cache holds."""
    from .pieces import attend_in_pieces

    return attend_in_pieces("tile", q * q.shape[-1] ** -0.5, k, v, rel_h, rel_w)


def attend_flex(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """FlexAttention, whose generated kernel looks the bias up; on a CPU only where it is compiled,
    and else step by step."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    from .pieces import attend_fused

    if q.device.type == "meta" or torch.compiler.is_exporting():  # neither knows FlexAttention
        return attend_fused(q, k, v, rel_h, rel_w)
    side = rel_h.shape[-1]

    def add_bias(score: Tensor, window: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score + rel_h[window, head, i, j // side] + rel_w[window, head, i, j % side]

    attended: Tensor
    if torch.compiler.is_compiling():
        attended = flex_attention(q, k, v, score_mod=add_bias)
    elif q.device.type == "cpu":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
            attended = flex_attention(q, k, v, score_mod=add_bias)
    else:
        attended = compiled_flex()(q, k, v, score_mod=add_bias)
    return attended


@cache
def compiled_flex() -> Any:
    """Once for all blocks: a kernel for each shape. Beyond its limit (8), torch would run step by
    step without a word: fullgraph makes that an error.
    """
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)


def attend_folded(queried: AttentionInputs) -> Tensor:
    """The bias as part of the product of queries and keys: plain attention computes it.

    With q' = [q, sqrt(D) rel_h, sqrt(D) rel_w] and k' = [k, a one at its row, a one at its column],
    q' k'^T / sqrt(D) is the product with its bias, so no L x L bias is ever in memory.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from .pieces import attend_in_pieces

    side, head_dim = queried.side, queried.head_dim
    columns = side if queried.qkv.device.type == "cpu" else folded_columns(side)
    q, k, v = windowed(queried)
    rel_h, rel_w = relative_bias(queried, q, columns, head_dim**0.5)
    ones = torch.eye(side, columns, dtype=k.dtype, device=k.device)
    places = torch.cat([ones.repeat_interleave(side, 0), ones.repeat(side, 1)], -1)
    queries = torch.cat([q, rel_h, rel_w], -1)
    keys = torch.cat([k, places.expand(*k.shape[:2], -1, -1)], -1)
    if q.device.type == "cpu":  # whose fused attention needs values as wide as queries
        attended = attend_in_pieces("plain tile", queries * head_dim**-0.5, keys, v)
    else:
        attended = scaled_dot_product_attention(queries, keys, v, scale=head_dim**-0.5)
    return joined(queried, attended)


def folded_columns(side: int) -> int:
    """Columns of the bias for key rows, and as many for key columns, on a GPU."""
    return -(-side // FOLDED_MULTIPLE) * FOLDED_MULTIPLE
