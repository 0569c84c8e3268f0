import pytest
import torch
from segment_anything.modeling import TwoWayTransformer as UpstreamTwoWayTransformer

from sam.build import fill_random
from sam.two_way_transformer import TwoWayTransformer

PROMPTS, TOKENS, GRID_SIDE, WIDTH = 3, 7, 6, 32


def inputs(dtype):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    tokens = normal(PROMPTS, TOKENS, WIDTH)
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
