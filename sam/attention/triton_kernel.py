"""Attention of the image encoder as one Triton kernel, from what the qkv layer gave to its output.

A program attends for a tile of queries of one head in one window (or of the whole grid, in global
blocks). It reads queries, keys and values where they lie in the grid, so that no window is ever cut
out, padded or joined; makes the bias of its queries itself, from the relative positions; and adds
it to the scores while they are in registers.

Shapes as in sam.attention.attend. Source of the softmax over tiles: FlashAttention-2 (Dao 2023).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .attend import AttentionInputs
from .windows import windows_along

LOG2E = tl.constexpr(1.4426950408889634)
LEAST = 16  # rows and columns of a matrix product on tensor cores


class Tile(NamedTuple):
    """How much a program does at a time.

    queries: Tokens whose output a program computes.
    keys: Tokens that they attend to at a time.
    """

    queries: int
    keys: int
    warps: int
    stages: int


# Not tuned on a GPU yet; these compile for all of them without filling their shared memory.
TILE = Tile(queries=64, keys=64, warps=4, stages=3)


@triton.jit
def load_tokens(base, padding, tokens, is_real, channels, IS_PADDED: tl.constexpr):
    """(tokens, channels) of a window; those beyond the grid hold what qkv makes of zeros."""
    found = tl.load(base + tokens[:, None] + channels[None, :], mask=is_real[:, None], other=0.0)
    if IS_PADDED:
        beyond = tl.load(padding + channels)
        found = tl.where(is_real[:, None], found, beyond[None, :])
    return found


@triton.jit
def relative_bias(
    q, q_rest, rel_pos, places, channels, rest,
    SIDE: tl.constexpr, COLUMNS: tl.constexpr, OFFSETS: tl.constexpr, HEAD_DIM: tl.constexpr,
    HAS_REST: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(queries, COLUMNS): of each query for the keys at each row, or column, in powers of 2."""
    offsets = tl.arange(0, OFFSETS)
    is_offset = offsets[None, :] < 2 * SIDE - 1
    at = rel_pos + offsets[None, :] * HEAD_DIM
    table = tl.load(at + channels[:, None], mask=is_offset, other=0.0)
    products = tl.dot(q, table, out_dtype=ACC, input_precision=PRECISION)
    if HAS_REST:
        table_rest = tl.load(at + rest[:, None], mask=is_offset, other=0.0)
        products += tl.dot(q_rest, table_rest, out_dtype=ACC, input_precision=PRECISION)
    keys = tl.arange(0, COLUMNS)
    # Of queries and keys beyond the window too, whose offsets would lie beyond the table.
    offset = tl.minimum(tl.maximum(places[:, None] - keys[None, :] + SIDE - 1, 0), OFFSETS - 1)
    return tl.gather(products, offset, axis=1) * LOG2E


@triton.jit
def attention_kernel(
    qkv, padding, rel_pos_h, rel_pos_w, output, height, width, windows_down, windows_across,
    SIDE: tl.constexpr, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, MAIN: tl.constexpr,
    REST: tl.constexpr, COLUMNS: tl.constexpr, OFFSETS: tl.constexpr, QUERIES: tl.constexpr,
    KEYS: tl.constexpr, IS_PADDED: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of queries, of one head, in one window.

    A head's channels are cut into MAIN and REST, both powers of 2: 80 = 64 + 16, not 128.
    Where a tile of keys is one row of keys (KEYS = SIDE), their bias is a number a query for the
    row, and the same tile each time for the columns. Where it is not, a product with ones at the
    keys' rows and columns spreads the bias: exact, and on tensor cores.
    """
    HAS_REST: tl.constexpr = REST > 0
    WIDTH: tl.constexpr = HEADS * HEAD_DIM
    LENGTH: tl.constexpr = SIDE * SIDE
    IS_ROW: tl.constexpr = KEYS == SIDE and COLUMNS == SIDE
    head = tl.program_id(1)
    window = tl.program_id(2)
    image = window // (windows_down * windows_across)
    window = window % (windows_down * windows_across)
    top = (window // windows_across) * SIDE
    left = (window % windows_across) * SIDE
    first_token = image.to(tl.int64) * height * width
    own = qkv + first_token * (3 * WIDTH) + head * HEAD_DIM  # of this image and head
    padding += head * HEAD_DIM
    channels = tl.arange(0, MAIN)
    rest = MAIN + tl.arange(0, REST if HAS_REST else 1)

    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    row, column = query // SIDE, query % SIDE
    is_query = (query < LENGTH) & (top + row < height) & (left + column < width)
    token = (top + row) * width + left + column
    at = token * (3 * WIDTH)
    q = load_tokens(own, padding, at, is_query, channels, False)
    q_rest = q
    if HAS_REST:
        q_rest = load_tokens(own, padding, at, is_query, rest, False)
    rel_h = relative_bias(
        q, q_rest, rel_pos_h, row, channels, rest, SIDE, COLUMNS, OFFSETS, HEAD_DIM, HAS_REST,
        ACC, PRECISION,
    )  # fmt: skip
    rel_w = relative_bias(
        q, q_rest, rel_pos_w, column, channels, rest, SIDE, COLUMNS, OFFSETS, HEAD_DIM, HAS_REST,
        ACC, PRECISION,
    )  # fmt: skip

    scale = LOG2E / tl.sqrt(tl.full((), HEAD_DIM, ACC))
    places = tl.arange(0, COLUMNS)
    highest = tl.full((QUERIES,), float("-inf"), ACC)
    total = tl.zeros((QUERIES,), ACC)
    attended = tl.zeros((QUERIES, MAIN), ACC)
    attended_rest = tl.zeros((QUERIES, REST if HAS_REST else 1), ACC)
    for start in range(0, LENGTH, KEYS):
        key = start + tl.arange(0, KEYS)
        key_row, key_column = key // SIDE, key % SIDE
        is_key = key < LENGTH
        is_real = is_key & (top + key_row < height) & (left + key_column < width)
        key_at = ((top + key_row) * width + left + key_column) * (3 * WIDTH)
        k = load_tokens(own + WIDTH, padding + WIDTH, key_at, is_real, channels, IS_PADDED)
        scores = tl.dot(q, tl.trans(k), out_dtype=ACC, input_precision=PRECISION)
        if HAS_REST:
            k = load_tokens(own + WIDTH, padding + WIDTH, key_at, is_real, rest, IS_PADDED)
            scores += tl.dot(q_rest, tl.trans(k), out_dtype=ACC, input_precision=PRECISION)
        if IS_ROW:
            of_row = tl.sum(tl.where(places[None, :] == start // SIDE, rel_h, 0.0), 1)
            scores = scores * scale + (rel_w + of_row[:, None])
        else:
            at_row = tl.where(places[:, None] == key_row[None, :], 1.0, 0.0).to(q.dtype)
            at_column = tl.where(places[:, None] == key_column[None, :], 1.0, 0.0).to(q.dtype)
            bias = tl.dot(rel_h.to(q.dtype), at_row, out_dtype=ACC, input_precision=PRECISION)
            bias += tl.dot(rel_w.to(q.dtype), at_column, out_dtype=ACC, input_precision=PRECISION)
            scores = tl.where(is_key[None, :], scores * scale + bias, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        shrunk = tl.exp2(highest - higher)
        weights = tl.exp2(scores - higher[:, None])
        highest = higher
        total = total * shrunk + tl.sum(weights, 1)
        weights = weights.to(q.dtype)
        v = load_tokens(own + 2 * WIDTH, padding + 2 * WIDTH, key_at, is_real, channels, IS_PADDED)
        attended = attended * shrunk[:, None] + tl.dot(
            weights, v, out_dtype=ACC, input_precision=PRECISION
        )
        if HAS_REST:
            v = load_tokens(own + 2 * WIDTH, padding + 2 * WIDTH, key_at, is_real, rest, IS_PADDED)
            attended_rest = attended_rest * shrunk[:, None] + tl.dot(
                weights, v, out_dtype=ACC, input_precision=PRECISION
            )

    written = output + first_token * WIDTH + head * HEAD_DIM + (token * WIDTH)[:, None]
    attended = (attended / total[:, None]).to(q.dtype)
    tl.store(written + channels[None, :], attended, mask=is_query[:, None])
    if HAS_REST:
        attended_rest = (attended_rest / total[:, None]).to(q.dtype)
        tl.store(written + rest[None, :], attended_rest, mask=is_query[:, None])


def attend(queried: AttentionInputs) -> Tensor:
    """(B, H, W, C), the attention of all windows.

    Raises:
        ValueError: Where a head's channels are no sum of two powers of 2 from 16 on; on a CPU.
    """
    attended: Tensor = windowed_attention(
        queried.qkv,
        queried.padding,
        queried.rel_pos_h,
        queried.rel_pos_w,
        queried.heads,
        queried.side,
    )
    return attended


@torch.library.custom_op("sam_bench::windowed_attention", mutates_args=())
def windowed_attention(
    qkv: Tensor, padding: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, heads: int, side: int
) -> Tensor:
    """An operation of its own, so that torch's compiler takes it as it is."""
    if qkv.device.type == "cpu" and not triton.knobs.runtime.interpret:
        raise ValueError("attention 'triton' needs a CUDA GPU: on a CPU take 'auto' or 'sdpa'.")
    batch, height, width, channels = qkv.shape
    head_dim = channels // 3 // heads
    main, rest = split_channels(head_dim)
    qkv = qkv.contiguous()
    output = qkv.new_empty(batch, height, width, channels // 3)
    down, across = windows_along(height, side), windows_along(width, side)
    grid = (windows_along(side * side, TILE.queries), heads, batch * down * across)
    attention_kernel[grid](
        qkv,
        padding,
        rel_pos_h.contiguous(),
        rel_pos_w.contiguous(),
        output,
        height,
        width,
        down,
        across,
        **constants(side, heads, head_dim, qkv.dtype),
        MAIN=main,
        REST=rest,
        IS_PADDED=bool(height % side or width % side),
        num_warps=TILE.warps,
        num_stages=TILE.stages,
    )
    return output


def constants(side: int, heads: int, head_dim: int, dtype: torch.dtype) -> dict[str, object]:
    """What a kernel is compiled for, besides the type of its arguments."""
    columns = max(LEAST, triton.next_power_of_2(side))
    is_row = columns == side <= 2 * TILE.keys  # then a tile is one row of keys
    return {
        "SIDE": side,
        "HEADS": heads,
        "HEAD_DIM": head_dim,
        "COLUMNS": columns,
        "OFFSETS": 2 * columns,
        "QUERIES": TILE.queries,
        "KEYS": side if is_row else TILE.keys,
        "ACC": tl.float64 if dtype == torch.float64 else tl.float32,
        "PRECISION": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
    }


def split_channels(head_dim: int) -> tuple[int, int]:
    """A head's channels as two powers of 2, the second 0 where one will do."""
    main = 1 << (head_dim.bit_length() - 1)
    rest = head_dim - main
    if main < LEAST or (rest and (rest < LEAST or rest & (rest - 1))):
        raise ValueError(
            "attention 'triton' needs heads of 16, 32, 64 or 128 channels, or of two of these "
            f"together such as 80, got {head_dim}. Take 'fold' or 'sdpa'."
        )
    return main, rest


@windowed_attention.register_fake
def shape_of_attention(
    qkv: Tensor, padding: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor, heads: int, side: int
) -> Tensor:
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)


@register_flop_formula(torch.ops.sam_bench.windowed_attention)
def flops_of_attention(
    qkv: torch.Size, padding: object, rel_pos_h: object, rel_pos_w: object, heads: int, side: int,
    **more: object,
) -> int:  # fmt: skip
    """Of both products, and of the bias by key row and column."""
    batch, height, width, channels = qkv
    padded = batch * windows_along(height, side) * windows_along(width, side) * side**2
    return 4 * padded * (side**2 + side) * (channels // 3)
