import numpy as np
import pytest
import segment_anything
import torch
from PIL import Image

from sam.build import build_sam_model
from sam.predictor import SamPredictor

SIZES = [(37, 53), (301, 200), (1, 1), (5, 400)]  # (height, width)
POINTS = {"point_coords": np.array([[3, 4], [20, 30]]), "point_labels": np.array([1, 0])}
BOX = {"box": np.array([2.5, 1, 30, 33])}
MASK = {"mask_input": np.linspace(-9, 9, 32 * 32, dtype=np.float32).reshape(1, 32, 32)}

PROMPTS = {
    "nothing": {},
    "points": POINTS,
    "box": BOX,
    "points and box": POINTS | BOX,
    "mask": MASK,
    "all": POINTS | BOX | MASK,
}


def noise_image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def predictors(build_pair):
    ours, theirs = build_pair()
    return SamPredictor(ours), segment_anything.SamPredictor(theirs)


@pytest.fixture
def predictor(predictors):
    predictors[0].set_image(noise_image(37, 53))
    return predictors[0]


@pytest.fixture
def empty_predictor(build_pair):
    return SamPredictor(build_pair().ours)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("size", SIZES)
def test_logits_and_quality_equal_upstreams(size, prompts, multimask, predictors, distance):
    for predictor in predictors:
        predictor.set_image(noise_image(*size))
    ours, theirs = (
        map(
            torch.as_tensor,
            predictor.predict(**PROMPTS[prompts], multimask_output=multimask, return_logits=True),
        )
        for predictor in predictors
    )
    (masks, predicted_iou, low_res_logits), (masks_wanted, iou_wanted, low_res_wanted) = (
        ours,
        theirs,
    )

    assert distance(masks, masks_wanted) < 1e-5
    assert distance(low_res_logits, low_res_wanted) < 1e-5
    assert (predicted_iou - iou_wanted).abs().max() < 1e-5


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_embeddings_equal_upstreams_in_both_orders_of_channels(image_format, predictors, distance):
    for predictor in predictors:
        predictor.set_image(noise_image(37, 53), image_format)
    ours, theirs = (predictor.get_image_embedding() for predictor in predictors)

    assert distance(ours, theirs) < 1e-5


def test_the_order_of_channels_matters(predictor):
    embedding = predictor.get_image_embedding()

    predictor.set_image(noise_image(37, 53), "BGR")

    assert not torch.allclose(embedding, predictor.get_image_embedding())


def test_many_prompts_at_once_equal_upstreams(predictors, distance):
    coords = torch.tensor([[[3.0, 4]], [[50, 60]], [[100, 20]]])
    labels = torch.ones(3, 1, dtype=torch.int)
    for predictor in predictors:
        predictor.set_image(noise_image(37, 53))
    ours, theirs = (
        predictor.predict_torch(coords, labels, return_logits=True) for predictor in predictors
    )

    for output, wanted in zip(ours, theirs, strict=True):
        assert distance(output, wanted) < 1e-5


def test_masks_are_where_logits_are_above_zero(predictor):
    masks, _, _ = predictor.predict(**POINTS)

    logits, _, _ = predictor.predict(**POINTS, return_logits=True)
    assert masks.dtype == bool
    np.testing.assert_array_equal(masks, logits > 0)


def test_a_prediction_can_be_refined_by_its_own_logits(predictor):
    _, _, low_res_logits = predictor.predict(**POINTS, multimask_output=False)

    masks, _, _ = predictor.predict(**POINTS, mask_input=low_res_logits, multimask_output=False)

    assert masks.shape == (1, 37, 53)


def test_a_resized_image_gives_the_embedding_of_the_image_itself(predictor):
    embedding = predictor.get_image_embedding()
    resized = predictor.transform.apply_image(noise_image(37, 53))

    predictor.set_torch_image(torch.as_tensor(resized).permute(2, 0, 1)[None], (37, 53))

    assert torch.equal(embedding, predictor.get_image_embedding())


def test_an_image_of_one_pixel_by_very_many_is_segmented(predictor):
    predictor.set_image(noise_image(1, 5000))

    assert predictor.predict(**POINTS)[0].shape == (3, 1, 5000)


def test_a_bf16_model_takes_and_gives_ordinary_arrays():
    predictor = SamPredictor(build_sam_model("tiny", image_size=128).to(torch.bfloat16))
    predictor.set_image(noise_image(37, 53))

    masks, predicted_iou, low_res_logits = predictor.predict(**POINTS, **BOX, **MASK)

    assert masks.dtype == bool
    assert predicted_iou.dtype == low_res_logits.dtype == np.float32


@pytest.mark.parametrize(
    "ask",
    [
        lambda predictor: predictor.predict(**POINTS),
        lambda predictor: predictor.predict_torch(None, None),
        lambda predictor: predictor.get_image_embedding(),
    ],
    ids=["predict", "predict_torch", "get_image_embedding"],
)
def test_asking_before_an_image_is_set_says_so(ask, empty_predictor):
    with pytest.raises(RuntimeError, match=r"No image is set: call set_image\(image\) first"):
        ask(empty_predictor)


def test_reset_forgets_the_image(predictor):
    predictor.reset_image()

    assert not predictor.is_image_set
    with pytest.raises(RuntimeError, match="No image is set"):
        predictor.predict(**POINTS)


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((4, 5, 3), np.float32), r"shape \(4, 5, 3\) and dtype float32"),
        (np.zeros((4, 5, 3), np.uint16), r"shape \(4, 5, 3\) and dtype uint16"),
        (np.zeros((4, 5), np.uint8), r"shape \(4, 5\) and dtype uint8"),
        (np.zeros((4, 5, 1), np.uint8), r"shape \(4, 5, 1\)"),
        (np.zeros((4, 5, 4), np.uint8), r"shape \(4, 5, 4\)"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \(3, 4, 5\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"shape \(1, 4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (Image.new("RGB", (4, 5)), "got Image"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), "got Tensor"),
    ],
)
def test_what_is_no_colour_image_is_refused_with_the_way_to_convert_it(image, got, empty_predictor):
    with pytest.raises(ValueError, match=rf"\(height, width, 3\).*{got}.*convert it with np"):
        empty_predictor.set_image(image)


def test_an_unknown_order_of_channels_is_refused(empty_predictor):
    with pytest.raises(ValueError, match=r"one of \('RGB', 'BGR'\), got 'rgb'"):
        empty_predictor.set_image(noise_image(4, 5), "rgb")


@pytest.mark.parametrize(
    "shape", [(3, 128, 96), (1, 3, 127, 96), (1, 3, 129, 96), (1, 4, 128, 96), (2, 3, 128, 96)]
)
def test_a_tensor_that_is_not_one_resized_image_is_refused(shape, empty_predictor):
    with pytest.raises(ValueError, match=r"\(1, 3, H, W\) with its longest side 128, got \("):
        empty_predictor.set_torch_image(torch.zeros(shape), (37, 53))


def test_a_refused_image_leaves_the_one_that_is_set(predictor):
    embedding = predictor.get_image_embedding()

    with pytest.raises(ValueError, match="uint8"):
        predictor.set_image(np.zeros((4, 5, 3)))

    assert predictor.get_image_embedding() is embedding


@pytest.mark.parametrize("alone", ["point_coords", "point_labels"])
def test_points_and_labels_come_together_or_not_at_all(alone, predictor):
    with pytest.raises(ValueError, match="must be given together"):
        predictor.predict(**{alone: POINTS[alone]})


def test_points_without_labels_are_not_silently_left_out(predictor):
    with pytest.raises(ValueError, match="must be given together"):
        predictor.predict_torch(torch.zeros(1, 1, 2), None)
