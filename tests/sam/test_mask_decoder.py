import pytest
import torch

from sam.build import allocate_sam
from sam.configs import MODELS

GRID_SIDE, WIDTH = 8, 256
IMAGE_OF_PROMPT = torch.tensor([0, 2, 2, 1, 0])


def normal(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def embeddings(prompts, images=1, dtype=torch.float32):
    """Image embeddings, their positions, sparse and dense prompt embeddings."""
    return (
        normal(images, WIDTH, GRID_SIDE, GRID_SIDE, dtype=dtype, seed=1),
        normal(1, WIDTH, GRID_SIDE, GRID_SIDE, dtype=dtype, seed=2),
        normal(prompts, 3, WIDTH, dtype=dtype, seed=3),
        normal(prompts, WIDTH, GRID_SIDE, GRID_SIDE, dtype=dtype, seed=4),
    )


@pytest.fixture
def decoder(build_pair):
    return build_pair().ours.mask_decoder


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompts", [1, 4])
def test_masks_and_quality_equal_upstreams(prompts, multimask, build_pair, precision, distance):
    ours, theirs = build_pair(dtype=precision.dtype)
    given = embeddings(prompts, dtype=precision.dtype)

    found = ours.mask_decoder(*given, multimask)

    for output, wanted in zip(found, theirs.mask_decoder(*given, multimask), strict=True):
        assert distance(output, wanted) < precision.tolerance


@pytest.mark.parametrize("dense_of", [1, 4], ids=["one dense embedding", "one each"])
def test_points_without_a_token_equal_upstreams(dense_of, build_pair, distance):
    ours, theirs = build_pair()
    image, image_pe, _, dense = embeddings(4)
    given = (image, image_pe, torch.empty(4, 0, WIDTH), dense[:dense_of])

    found = ours.mask_decoder(*given, True)

    for output, wanted in zip(found, theirs.mask_decoder(*given, True), strict=True):
        assert distance(output, wanted) < 1e-5


@pytest.mark.parametrize(("multimask", "masks"), [(True, 3), (False, 1)])
def test_a_prompt_gets_three_masks_or_one(multimask, masks, decoder):
    logits, predicted_iou = decoder(*embeddings(2), multimask)

    assert logits.shape == (2, masks, 4 * GRID_SIDE, 4 * GRID_SIDE)
    assert predicted_iou.shape == (2, masks)


def test_prompts_on_several_images_equal_each_on_its_own_image(decoder, distance):
    image, image_pe, sparse, dense = embeddings(len(IMAGE_OF_PROMPT), images=3)

    found = decoder(image, image_pe, sparse, dense, True, IMAGE_OF_PROMPT)

    for prompt, index in enumerate(IMAGE_OF_PROMPT):
        one = slice(prompt, prompt + 1)
        alone = decoder(image[index : index + 1], image_pe, sparse[one], dense[one], True)
        for output, wanted in zip(found, alone, strict=True):
            assert distance(output[one], wanted) < 1e-5


def test_as_many_images_as_prompts_pair_up(decoder, distance):
    image, image_pe, sparse, dense = embeddings(3, images=3)

    masks, _ = decoder(image, image_pe, sparse, dense, True)

    expected, _ = decoder(image, image_pe, sparse, dense, True, torch.arange(3))
    assert distance(masks, expected) < 1e-5


def test_images_that_do_not_match_the_prompts_are_refused(decoder):
    with pytest.raises(ValueError, match=r"as many as prompts \(4\); got 3 images"):
        decoder(*embeddings(4, images=3), True)


def test_prompts_without_an_image_are_refused(decoder):
    with pytest.raises(ValueError, match=r"an image for each of 4 prompts, got shape \(1,\)"):
        decoder(*embeddings(4, images=3), True, torch.tensor([0]))


def test_a_bf16_decoder_is_close_to_upstreams_in_float32(build_pair, decoder, distance):
    coarse = allocate_sam(MODELS["tiny"], 128).mask_decoder
    coarse.load_state_dict(decoder.state_dict())
    given = embeddings(2)
    expected, _ = build_pair().upstream.mask_decoder(*given, True)

    masks, _ = coarse.to(torch.bfloat16)(*(tensor.bfloat16() for tensor in given), True)

    assert masks.dtype == torch.bfloat16
    assert distance(masks.float(), expected) < 0.1
