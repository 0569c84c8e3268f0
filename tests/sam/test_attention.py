"""Every way to compute attention against the formula, computed one score at a time."""

from __future__ import annotations

import functools
from dataclasses import astuple, replace

import pytest
import torch

from sam.attention.attend import AttentionInputs
from sam.attention.pieces import pieces
from sam.attention.variants import (
    ATTENTION,
    BEST,
    best_attention,
    concrete_attention,
    split_attention,
)

# Batch, height, width, heads, channels a head, side of a window: whole windows, windows beyond the
# grid at one edge or two, a window larger than the grid, and whole grids.
GRIDS = {
    "two windows": (2, 4, 8, 3, 16, 4),
    "padded": (1, 5, 7, 2, 32, 4),
    "larger than the grid": (2, 3, 5, 1, 16, 7),
    "as in SAM": (1, 16, 16, 1, 80, 14),
    "a grid": (2, 16, 16, 2, 80, 16),
    "a grid of another side": (1, 12, 12, 1, 64, 12),
    "a large grid": (1, 32, 32, 1, 16, 32),
}
# What an encoder in half precision rounds in each product.
HALF = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


def make_queried(batch, height, width, heads, head_dim, side, dtype=torch.float64):
    """Of large relative positions and a large qkv bias: an error in them must show."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    channels = 3 * heads * head_dim
    made = AttentionInputs(
        normal(batch, height, width, channels), 2 * normal(channels),
        normal(2 * side - 1, head_dim) / 2, normal(2 * side - 1, head_dim) / 2, heads, side,
    )  # fmt: skip
    return rounded(made, dtype)


def rounded(queried, dtype):
    names = ("qkv", "padding", "rel_pos_h", "rel_pos_w")
    return replace(queried, **{name: getattr(queried, name).to(dtype) for name in names})


def attend_by_the_book(queried):
    """A query at a time, as the formula at the top of sam/attention/attend.py says."""
    side = queried.side
    batch, height, width, channels = queried.qkv.shape
    down, across = (-(-length // side) * side for length in (height, width))
    padded = queried.padding.expand(batch, down, across, channels).clone()
    padded[:, :height, :width] = queried.qkv
    q, k, v = padded.unflatten(-1, (3, queried.heads, -1)).unbind(3)
    attended = torch.empty(batch, height, width, *q.shape[3:], dtype=q.dtype)
    for y in range(height):
        for x in range(width):
            top, left = y // side * side, x // side * side
            rows, columns = slice(top, top + side), slice(left, left + side)
            query = q[:, y, x]
            bias_h = torch.stack(
                [query @ queried.rel_pos_h[y - row + side - 1] for row in range(top, top + side)]
            )
            bias_w = torch.stack(
                [query @ queried.rel_pos_w[x - c + side - 1] for c in range(left, left + side)]
            )
            scores = torch.einsum("bnd,brcnd->rcbn", query, k[:, rows, columns])
            scores = scores / query.shape[-1] ** 0.5 + bias_h[:, None] + bias_w[None]
            weights = scores.flatten(0, 1).softmax(0).view_as(scores)
            attended[:, y, x] = torch.einsum("rcbn,brcnd->bnd", weights, v[:, rows, columns])
    return attended.flatten(3)


@functools.cache
def by_the_book(grid, dtype):
    """The formula's answer in float64 for a grid whose numbers are of a type."""
    return attend_by_the_book(rounded(make_queried(*GRIDS[grid], dtype), torch.float64))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("attention", ATTENTION)
def test_every_variant_computes_the_formula(attention, grid, distance):
    queried = make_queried(*GRIDS[grid])
    wanted = by_the_book(grid, torch.float64)

    assert distance(ATTENTION[attention].attend(queried), wanted) < 1e-12


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("attention", ATTENTION)
def test_every_variant_computes_the_formula_in_float32(attention, grid, distance):
    queried = make_queried(*GRIDS[grid], torch.float32)
    wanted = by_the_book(grid, torch.float32).float()

    assert distance(ATTENTION[attention].attend(queried), wanted) < 1e-5


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("grid", ["padded", "as in SAM", "a grid"])
@pytest.mark.parametrize("attention", ATTENTION)
def test_in_half_precision_a_variant_errs_about_as_little_as_the_reference(
    attention, grid, dtype, interpreted_bf16
):
    queried = make_queried(*GRIDS[grid], dtype)
    wanted = by_the_book(grid, dtype)

    def error(name):
        difference = ATTENTION[name].attend(queried).double() - wanted
        return float(difference.norm() / wanted.norm())

    assert error(attention) < 1.5 * error("reference") < HALF[dtype]


@pytest.mark.parametrize("attention", ATTENTION)
def test_no_variant_changes_its_inputs(attention):
    queried = make_queried(*GRIDS["padded"])
    before = [each.clone() for each in astuple(queried)[:4]]

    ATTENTION[attention].attend(queried)

    assert all(map(torch.equal, astuple(queried)[:4], before))


@pytest.mark.parametrize("attention", ATTENTION)
def test_what_a_variant_reads_need_not_be_contiguous(attention, distance):
    queried = make_queried(*GRIDS["padded"])
    strided = replace(
        queried,
        qkv=queried.qkv.repeat_interleave(2, -1)[..., ::2],
        rel_pos_h=queried.rel_pos_h.t().contiguous().t(),
    )
    variant = ATTENTION[attention]

    assert distance(variant.attend(strided), variant.attend(queried)) < 1e-12


@pytest.mark.parametrize("attention", ATTENTION)
def test_every_variant_has_a_one_line_summary(attention):
    summary = ATTENTION[attention].summary

    assert summary
    assert "\n" not in summary


# Names


def test_one_name_stands_for_both_kinds_of_block():
    assert split_attention("fold") == ("fold", "fold")
    assert split_attention("fold+triton") == ("fold", "triton")


@pytest.mark.parametrize("name", ["", "flash", "fold+", "+fold", "fold+flash", "fold+sdpa+fold"])
def test_an_unknown_name_is_refused_with_those_known(name):
    with pytest.raises(ValueError, match=r"^Unknown attention '.*'\. Known: reference, sdpa"):
        split_attention(name)


@pytest.mark.parametrize(("device_type", "dtype"), [*BEST, ("cpu", "float16"), ("cuda", "float64")])
def test_auto_stands_for_variants_that_the_device_can_do(device_type, dtype):
    for name in best_attention(device_type, dtype):
        assert name != "auto"
        assert ATTENTION[name].why_unsupported(device_type, dtype) is None


def test_auto_is_told_apart_from_what_it_stands_for():
    window, of_global = best_attention("cpu", "bfloat16")

    assert concrete_attention("auto", "cpu", "bfloat16") == f"{window}+{of_global}"
    assert concrete_attention("reference+auto", "cpu", "bfloat16") == f"reference+{of_global}"
    assert concrete_attention("auto", "cpu", "float64") == "sdpa"
    assert concrete_attention("fold", "cpu", "bfloat16") == "fold"


def test_a_cpu_has_no_triton():
    assert "needs a CUDA GPU" in ATTENTION["triton"].why_unsupported("cpu", "float32")


# Pieces


@pytest.mark.parametrize("most", [1, 30, 100, 250, 1_000, 10_000])
def test_pieces_cover_every_query_of_every_head_once(most):
    count = torch.zeros(7, 30, dtype=torch.int)
    for heads, queries in pieces(7, 30, most):
        count[heads, queries] += 1
        assert count[heads, queries].numel() * 30 <= max(most, 30)

    assert (count == 1).all()
