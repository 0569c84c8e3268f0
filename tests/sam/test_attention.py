import pytest
import torch

from sam.attention import ATTENTION


def random_inputs(windows, heads, height, width, channels):
    generator = torch.Generator().manual_seed(0)

    def normal(last):
        shape = (windows, heads, height * width, last)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return normal(channels), normal(channels), normal(channels), normal(height), normal(width)


def attend_by_the_book(q, k, v, rel_h, rel_w):
    """One score at a time, as the formula at the top of sam/attention.py says."""
    height, width = rel_h.shape[-1], rel_w.shape[-1]
    scores = torch.stack(
        [
            (q * k[:, :, [row * width + column]]).sum(-1) / q.shape[-1] ** 0.5
            + rel_h[..., row]
            + rel_w[..., column]
            for row in range(height)
            for column in range(width)
        ],
        dim=-1,
    )
    return torch.einsum("bnqk,bnkd->bnqd", scores.softmax(-1), v)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4, 8), (1, 2, 14, 14, 80), (3, 1, 1, 1, 5)])
@pytest.mark.parametrize("attention", ATTENTION)
def test_every_variant_computes_the_formula(attention, shape, distance):
    inputs = random_inputs(*shape)
    expected = attend_by_the_book(*inputs)

    assert distance(ATTENTION[attention].attend(*inputs), expected) < 1e-12


@pytest.mark.parametrize("attention", ATTENTION)
def test_no_variant_changes_its_inputs(attention):
    inputs = random_inputs(2, 3, 4, 4, 8)
    before = [tensor.clone() for tensor in inputs]

    ATTENTION[attention].attend(*inputs)

    assert all(torch.equal(now, then) for now, then in zip(inputs, before, strict=True))


@pytest.mark.parametrize("attention", ATTENTION)
def test_every_variant_has_a_one_line_summary(attention):
    summary = ATTENTION[attention].summary

    assert summary
    assert "\n" not in summary
