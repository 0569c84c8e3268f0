import pytest
import torch

from sam.sam1.registry import build_sam_model

IMAGE_SIZE, GRID_SIDE = 128, 8
POINTS = torch.tensor([[[10.0, 20]], [[99, 64]]])
LABELS = torch.tensor([[1], [0]])
BOXES = torch.tensor([[5.0, 6, 70, 80], [0, 0, 127, 60]])

PROMPTS = {
    "nothing": {},
    "points": {"point_coords": POINTS, "point_labels": LABELS},
    "boxes": {"boxes": BOXES},
    "points and boxes": {"point_coords": POINTS, "point_labels": LABELS, "boxes": BOXES},
    "masks": {"mask_inputs": torch.linspace(-9, 9, 2 * 32 * 32).view(2, 1, 32, 32)},
}


def record(height, width, original_size, prompts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"image": image, "original_size": original_size, **prompts}


def in_float64(records):
    return [
        {
            key: value.double() if torch.is_tensor(value) and value.is_floating_point() else value
            for key, value in record.items()
        }
        for record in records
    ]


@pytest.fixture
def batch():
    """Images of three shapes, with a prompt of each kind."""
    return [
        record(128, 96, (301, 226), PROMPTS["points"], seed=1),
        record(128, 128, (40, 40), PROMPTS["boxes"], seed=2),
        record(3, 128, (5, 400), PROMPTS["masks"], seed=3),
    ]


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("attention", ["reference", "sdpa"])
def test_logits_and_quality_equal_upstreams(attention, prompts, multimask, build_pair, distance):
    ours, theirs = build_pair(attention=attention)
    records = [record(96, 128, (37, 53), PROMPTS[prompts])]

    found, expected = ours(records, multimask)[0], theirs(records, multimask)[0]

    assert distance(found["low_res_logits"], expected["low_res_logits"]) < 1e-5
    assert (found["iou_predictions"] - expected["iou_predictions"]).abs().max() < 1e-5


# In float64 no logit is so near zero that rounding decides its sign.
@pytest.mark.usefixtures("upstream_in_float64")
@pytest.mark.parametrize("multimask", [True, False])
def test_masks_equal_upstreams_to_the_pixel(multimask, batch, build_pair):
    ours, theirs = build_pair(dtype=torch.float64)

    found = ours(in_float64(batch), multimask)

    for output, wanted in zip(found, theirs(in_float64(batch), multimask), strict=True):
        assert torch.equal(output["masks"], wanted["masks"])


def test_masks_have_the_size_of_the_original_image(batch, build_pair):
    outputs = build_pair().ours(batch, True)

    sizes = [tuple(output["masks"].shape[-2:]) for output in outputs]
    assert sizes == [record["original_size"] for record in batch]


def test_an_image_gets_the_same_masks_alone_and_in_a_batch(batch, build_pair, distance):
    model = build_pair().ours

    together, alone = model(batch, True)[1], model(batch[1:2], True)[0]

    assert distance(together["low_res_logits"], alone["low_res_logits"]) < 1e-5


@pytest.mark.parametrize("size", [(96, 128), (128, 5), (1, 1), (128, 128)])
def test_preprocessing_equals_upstreams(size, build_pair):
    ours, theirs = build_pair()
    image = record(*size, (1, 1), {})["image"]

    torch.testing.assert_close(ours.preprocess(image), theirs.preprocess(image))


def test_an_image_larger_than_the_model_is_refused(build_pair):
    with pytest.raises(ValueError, match=r"fit the model's 128 x 128 pixels, got 129 x 50.*Resize"):
        build_pair().ours.preprocess(torch.zeros(3, 129, 50))


def test_normalisation_is_not_part_of_the_saved_weights(build_pair):
    assert not any("pixel_" in name for name in build_pair().ours.state_dict())


def test_a_bf16_model_predicts_masks_near_those_in_float32(batch, distance):
    model = build_sam_model("tiny", image_size=IMAGE_SIZE)
    expected = model(batch, True)

    found = model.to(torch.bfloat16)(batch, True)

    for output, wanted in zip(found, expected, strict=True):
        assert output["masks"].dtype == torch.bool
        assert distance(output["low_res_logits"].float(), wanted["low_res_logits"]) < 0.2
