import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sam.families import MODELS
from sam.sam1.build import allocate_sam
from sam.sam1.mask_decoder import PART_ON_CPU

pytestmark = pytest.mark.usefixtures("one_thread")

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


# Images, and which of them each of five prompts belongs to.
IMAGES = {
    "one image": (1, None),
    "one image, named": (1, torch.zeros(5, dtype=torch.int64)),
    "several images": (3, IMAGE_OF_PROMPT),
    "an image without a prompt": (9, IMAGE_OF_PROMPT),
    "an image each": (5, None),
}


@pytest.mark.parametrize("images", IMAGES)
def test_a_dense_embedding_shared_by_all_prompts_equals_one_for_each(
    images, build_pair, precision, distance
):
    decoder = build_pair(dtype=precision.dtype).ours.mask_decoder
    count, image_of_prompt = IMAGES[images]
    *given, dense = embeddings(5, count, precision.dtype)

    found = decoder(*given, dense[:1], True, image_of_prompt)

    expanded = decoder(*given, dense[:1].expand(5, -1, -1, -1), True, image_of_prompt)
    for output, wanted in zip(found, expanded, strict=True):
        assert distance(output, wanted) < precision.tolerance


def count_flops(prompts, dense_of, images=1, image_of_prompt=None):
    decoder = allocate_sam(MODELS["tiny"].config, device="meta").mask_decoder
    *given, dense = (tensor.to("meta") for tensor in embeddings(prompts, images))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(*given, dense[:dense_of], True, image_of_prompt)
    return counter.get_total_flops()


# The image's tokens are projected in layer 0 to k, v and q, of half the width each.
IMAGE_ONLY_FLOPS = 2 * 3 * GRID_SIDE**2 * WIDTH * WIDTH // 2


@pytest.mark.parametrize("prompts", [2, 64])
def test_what_depends_on_the_image_alone_is_computed_once_for_all_prompts(prompts):
    saved = count_flops(prompts, dense_of=prompts) - count_flops(prompts, dense_of=1)

    assert saved == (prompts - 1) * IMAGE_ONLY_FLOPS


def test_what_depends_on_the_image_alone_is_computed_once_for_each_of_several_images():
    image_of_prompt = IMAGE_OF_PROMPT.to("meta")

    expanded, shared = (
        count_flops(5, dense_of, images=3, image_of_prompt=image_of_prompt) for dense_of in (5, 1)
    )

    assert expanded - shared == (5 - 3) * IMAGE_ONLY_FLOPS


PROMPTS = PART_ON_CPU * 2 + 1


def above(decoder, least_iou):
    image, image_pe, sparse, dense = embeddings(PROMPTS)
    return decoder.predict_masks_above(image, image_pe, sparse, dense[:1], least_iou)


def test_prompts_beyond_those_at_a_time_equal_each_alone(decoder, distance):
    *images, sparse, dense = embeddings(PROMPTS)

    found = decoder(*images, sparse, dense, True)

    for prompt in range(PROMPTS):
        one = slice(prompt, prompt + 1)
        alone = decoder(*images, sparse[one], dense[one], True)
        for output, wanted in zip(found, alone, strict=True):
            assert distance(output[one], wanted) < 1e-5


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_masks_above_a_predicted_iou_are_those_of_all(share, decoder, distance):
    image, image_pe, sparse, dense = embeddings(PROMPTS)
    masks, predicted_iou = decoder(image, image_pe, sparse, dense[:1], True)
    least_iou = predicted_iou.quantile(1 - share).item() - 1e-3 * (share == 1.0)

    found = above(decoder, least_iou)

    prompts, chosen = (predicted_iou > least_iou).nonzero(as_tuple=True)
    assert torch.equal(found[2], prompts)
    wanted = (masks[prompts, chosen], predicted_iou[prompts, chosen])
    for output, expected in zip(found[:2], wanted, strict=True):
        assert distance(output, expected) < 1e-5


def test_the_masks_of_prompts_without_a_good_one_are_not_computed(decoder):
    flops = []
    for least_iou in (math.inf, -math.inf):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            above(decoder, least_iou)
        flops.append(counter.get_total_flops())

    upscaling = 2 * GRID_SIDE**2 * (WIDTH * WIDTH + 4 * WIDTH // 4 * WIDTH // 2)
    assert flops[1] - flops[0] > PROMPTS * upscaling


def test_images_that_do_not_match_the_prompts_are_refused(decoder):
    with pytest.raises(ValueError, match=r"as many as prompts \(4\); got 3 images"):
        decoder(*embeddings(4, images=3), True)


def test_prompts_without_an_image_are_refused(decoder):
    with pytest.raises(ValueError, match=r"an image for each of 4 prompts, got shape \(1,\)"):
        decoder(*embeddings(4, images=3), True, torch.tensor([0]))


def test_a_bf16_decoder_is_close_to_upstreams_in_float32(build_pair, decoder, distance):
    coarse = allocate_sam(MODELS["tiny"].config, 128).mask_decoder
    coarse.load_state_dict(decoder.state_dict())
    given = embeddings(2)
    expected, _ = build_pair().upstream.mask_decoder(*given, True)

    masks, _ = coarse.to(torch.bfloat16)(*(tensor.bfloat16() for tensor in given), True)

    assert masks.dtype == torch.bfloat16
    assert distance(masks.float(), expected) < 0.1
