import pytest
import torch

from sam.families import MODELS
from sam.sam1.build import allocate_sam, fill_random

GRID_SIDE, IMAGE_SIZE = 8, 128

COORDS = torch.tensor([[[0, 0], [127.5, 3.25]], [[64, 64], [-5, 200]]])
POINTS = (COORDS, torch.tensor([[1, 0], [1, 1]], dtype=torch.int))
PADDED_POINTS = (COORDS, torch.tensor([[1, -1], [0, -1]], dtype=torch.int))
BOXES = torch.tensor([[0.0, 0, 127, 127], [10.5, 20.25, 30, 90]])
MASKS = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))

PROMPTS = {
    "none": (None, None, None),
    "points": (POINTS, None, None),
    "points with padding": (PADDED_POINTS, None, None),
    "boxes": (None, BOXES, None),
    "points and boxes": (POINTS, BOXES, None),
    "padded points and boxes": (PADDED_POINTS, BOXES, None),
    "masks": (None, None, MASKS),
    "points and masks": (POINTS, None, MASKS),
    "all": (POINTS, BOXES, MASKS),
}


def in_type(prompts, dtype):
    points, boxes, masks = prompts
    return (
        points and (points[0].to(dtype), points[1]),
        boxes if boxes is None else boxes.to(dtype),
        masks if masks is None else masks.to(dtype),
    )


@pytest.fixture
def encoders(build_pair, precision, request):
    if precision.dtype == torch.float64:
        request.getfixturevalue("upstream_in_float64")
    ours, theirs = build_pair(image_size=IMAGE_SIZE, dtype=precision.dtype)
    return ours.prompt_encoder, theirs.prompt_encoder


@pytest.mark.parametrize("prompts", PROMPTS)
def test_embeddings_equal_upstreams(prompts, encoders, precision, distance):
    ours, theirs = encoders
    given = in_type(PROMPTS[prompts], precision.dtype)

    found, expected = ours(*given), theirs(*given)

    for embedding, wanted in zip(found, expected, strict=True):
        assert distance(embedding, wanted) < precision.tolerance


def test_the_positions_of_the_grid_equal_upstreams(encoders, precision, distance):
    ours, theirs = encoders

    assert distance(ours.get_dense_pe(), theirs.get_dense_pe()) < precision.tolerance


@pytest.mark.parametrize("prompts", PROMPTS)
def test_a_bf16_model_embeds_positions_computed_in_float32(prompts, build_pair, distance):
    exact = build_pair(image_size=IMAGE_SIZE).ours.prompt_encoder
    coarse = allocate_sam(MODELS["tiny"].config, IMAGE_SIZE).prompt_encoder
    coarse.load_state_dict(exact.state_dict())
    coarse.to(torch.bfloat16)
    # What bf16 does to the weights is not at issue here.
    exact = allocate_sam(MODELS["tiny"].config, IMAGE_SIZE).prompt_encoder
    exact.load_state_dict(coarse.state_dict())

    found, expected = coarse(*PROMPTS[prompts]), exact(*PROMPTS[prompts])

    for embedding, wanted in zip(found, expected, strict=True):
        assert embedding.dtype == torch.bfloat16
        assert distance(embedding.float(), wanted) < 0.02


def test_a_bf16_model_tells_neighbouring_pixels_apart():
    encoder = allocate_sam(MODELS["tiny"].config, 1024).prompt_encoder
    fill_random(encoder, seed=0)
    encoder.to(torch.bfloat16)
    coords = torch.tensor([[[1000.0, 1000.0], [1001.0, 1000.0]]])

    embeddings, _ = encoder((coords, torch.ones(1, 2)), None, None)

    assert not torch.equal(embeddings[:, 0], embeddings[:, 1])


def test_embedding_leaves_the_prompts_as_they_are(build_pair):
    encoder = build_pair(image_size=IMAGE_SIZE).ours.prompt_encoder
    coords, boxes = COORDS.clone(), BOXES.clone()

    encoder((coords, POINTS[1]), boxes, None)

    assert torch.equal(coords, COORDS)
    assert torch.equal(boxes, BOXES)


def test_a_mask_prompt_is_four_times_the_grid(build_pair):
    encoder = build_pair(image_size=IMAGE_SIZE).ours.prompt_encoder

    assert encoder.mask_input_size == (4 * GRID_SIDE, 4 * GRID_SIDE)


@pytest.mark.parametrize("boxes", [None, BOXES], ids=["alone", "with boxes"])
def test_a_point_without_a_label_is_refused(boxes, build_pair):
    encoder = build_pair(image_size=IMAGE_SIZE).ours.prompt_encoder

    with pytest.raises(ValueError, match=r"needs one label.* got \(2, 1\) and \(2, 2, 2\)"):
        encoder((COORDS, torch.ones(2, 1)), boxes, None)
