import pytest
import torch
from segment_anything.modeling.image_encoder import window_partition

from sam.attention.windows import join_windows, partition_windows

# Tokens down and across, and tokens along a window's edge: padded both ways, one way, not at all.
GRIDS = [(64, 64, 14), (16, 5, 14), (14, 20, 14), (28, 14, 14), (4, 6, 14), (7, 9, 3), (1, 1, 1)]


def numbered(height, width, batch=2, channels=3):
    """Tokens that all differ, none of them zero."""
    return 1.0 + torch.arange(batch * height * width * channels).view(
        batch, height, width, channels
    )


@pytest.mark.parametrize(("height", "width", "side"), GRIDS)
def test_joining_undoes_partitioning(height, width, side):
    tokens = numbered(height, width)

    assert torch.equal(join_windows(partition_windows(tokens, side), (height, width)), tokens)


@pytest.mark.parametrize(("height", "width", "side"), GRIDS)
def test_windows_equal_upstreams(height, width, side):
    tokens = numbered(height, width)

    assert torch.equal(partition_windows(tokens, side), window_partition(tokens, side)[0])


@pytest.mark.parametrize(("height", "width", "side"), GRIDS)
def test_the_fill_lands_in_padded_slots_and_nowhere_else(height, width, side):
    tokens, fill = numbered(height, width), torch.tensor([-1.0, -2.0, -3.0])
    padded = partition_windows(tokens, side) == 0  # no token is zero: these are the padded slots

    filled = partition_windows(tokens, side, fill)

    assert torch.equal(filled, torch.where(padded, fill, partition_windows(tokens, side)))


def test_partitioning_leaves_the_tokens_as_they_are():
    tokens = numbered(5, 5)
    before = tokens.clone()

    partition_windows(tokens, 3, torch.zeros(3)).fill_(9)

    assert torch.equal(tokens, before)


def test_tokens_need_not_be_contiguous():
    tokens = numbered(9, 5).transpose(1, 2)
    assert not tokens.is_contiguous()

    assert torch.equal(partition_windows(tokens, 4), window_partition(tokens, 4)[0])
