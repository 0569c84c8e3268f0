import pytest
import torch
from segment_anything.modeling import TwoWayTransformer as UpstreamTwoWayTransformer
from torch.utils.flop_counter import FlopCounterMode

from sam.sam1.build import fill_random
from sam.sam1.two_way_transformer import ProjectedAttention, TwoWayTransformer

PROMPTS, TOKENS, GRID_SIDE, WIDTH = 3, 7, 6, 32


def inputs(dtype, count=TOKENS):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    tokens = normal(PROMPTS, count, WIDTH)
    image = normal(PROMPTS, WIDTH, GRID_SIDE, GRID_SIDE)
    return image, normal(1, WIDTH, GRID_SIDE, GRID_SIDE), tokens


def pair(dtype):
    ours = TwoWayTransformer(depth=2, width=WIDTH, heads=4, mlp_hidden=64)
    theirs = UpstreamTwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=4, mlp_dim=64)
    fill_random(ours, seed=0)
    theirs.load_state_dict(ours.state_dict())
    return ours.to(dtype), theirs.to(dtype)


def test_tokens_and_image_equal_upstreams(precision, distance):
    ours, theirs = pair(precision.dtype)
    image, image_pe, tokens = inputs(precision.dtype)

    found = ours(image.flatten(2).mT, image_pe.flatten(2).mT, tokens)

    expected = theirs(image, image_pe.expand(PROMPTS, -1, -1, -1), tokens)
    for output, wanted in zip(found, expected, strict=True):
        assert distance(output, wanted) < precision.tolerance


@pytest.mark.parametrize("count", [1, 3])
def test_tokens_so_few_that_they_take_on_the_images_projections_equal_upstreams(
    count, precision, distance
):
    ours, theirs = pair(precision.dtype)
    image, image_pe, tokens = inputs(precision.dtype, count)

    found = ours(image.flatten(2).mT, image_pe.flatten(2).mT, tokens)

    expected = theirs(image, image_pe.expand(PROMPTS, -1, -1, -1), tokens)
    for output, wanted in zip(found, expected, strict=True):
        assert distance(output, wanted) < precision.tolerance


def count_flops(tokens_of_a_prompt):
    ours, _ = pair(torch.float32)
    image, image_pe, tokens = inputs(torch.float32, tokens_of_a_prompt)
    with FlopCounterMode(display=False) as counter:
        ours(image.flatten(2).mT, image_pe.flatten(2).mT, tokens)
    return counter.get_total_flops()


# Each of 4 heads spares a projection to 16 channels.
@pytest.mark.parametrize(("count", "is_less"), [(3, True), (4, False)])
def test_tokens_take_on_the_images_projections_where_that_is_less_work(count, is_less, monkeypatch):
    flops = count_flops(count)

    monkeypatch.setattr(ProjectedAttention, "_are_few", lambda attention, tokens: False)
    assert (flops < count_flops(count)) == is_less


@pytest.mark.parametrize(
    ("images", "spread"),
    [
        (1, lambda image: image.expand(PROMPTS, *image.shape[1:])),
        (2, lambda image: image[torch.tensor([1, 0, 1])]),
    ],
    ids=["one image", "two images"],
)
def test_images_spread_inside_equal_images_spread_before(images, spread, precision, distance):
    ours, _ = pair(precision.dtype)
    image, image_pe, tokens = inputs(precision.dtype)
    image, image_pe = image[:images].flatten(2).mT, image_pe.flatten(2).mT

    found = ours(image, image_pe, tokens, spread)

    for output, wanted in zip(found, ours(spread(image), image_pe, tokens), strict=True):
        assert distance(output, wanted) < precision.tolerance
