import numpy as np
import pytest
import segment_anything
import torch
from PIL import Image

from sam.sam1.predictor import SamPredictor
from sam.sam1.prompts import Prompts
from sam.sam1.registry import build_sam_model

pytestmark = pytest.mark.usefixtures("one_thread")

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


def test_points_above_a_predicted_iou_are_those_of_all_points(predictor_of_two, distance):
    coords = np.array([[3.0, 4], [20, 30], [36, 1]])
    logits, predicted_iou = predictor_of_two.predict_points(1, coords)
    least_iou = predicted_iou.median().item()

    found = predictor_of_two.predict_points_above(1, coords, least_iou)

    good = predicted_iou > least_iou
    assert torch.equal(found[2], good.nonzero()[:, 0])
    for output, wanted in zip(found[:2], (logits[good], predicted_iou[good]), strict=True):
        assert distance(output, wanted) < 1e-5


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


def grid_of(*shape, low, high):
    """Numbers without a pattern, between low and high."""
    return np.random.default_rng(len(shape)).uniform(low, high, shape)


def points(prompts, each):
    labels = np.arange(prompts * each).reshape(prompts, each) % 3 % 2
    return {"point_coords": grid_of(prompts, each, 2, low=0, high=36), "point_labels": labels}


def boxes(prompts):
    return {"boxes": grid_of(prompts, 4, low=(0, 0, 18, 18), high=(18, 18, 36, 36))}


def masks(prompts):
    return {"mask_inputs": grid_of(prompts, 1, 32, 32, low=-9, high=9)}


# Of each image, in the order of SIZES.
BATCHES = {
    "points, different numbers": [points(3, 1), points(1, 1), points(7, 1), points(2, 1)],
    "points, different numbers a prompt": [points(2, 1), points(3, 2), points(1, 3), points(2, 2)],
    "boxes": [boxes(2), boxes(1), boxes(5), boxes(1)],
    "masks": [masks(1), masks(1), masks(2), masks(1)],
    "boxes, one with a mask": [boxes(2), boxes(1) | masks(1), boxes(1), boxes(3)],
    "all kinds": [points(2, 2), boxes(3), masks(2), points(2, 2) | boxes(2)],
    "together": [
        points(2, 1) | boxes(2) | masks(2),
        points(1, 1) | masks(1),
        boxes(2) | masks(2),
        points(3, 1) | boxes(3) | masks(3),
    ],
}


def predict_alone(upstream, image, prompts, dtype, multimask):
    """Upstream's logits, quality and low-resolution logits of the prompts on one image."""
    upstream.set_image(image)
    size, transform = image.shape[:2], upstream.transform
    coords, boxes = prompts.get("point_coords"), prompts.get("boxes")
    given = [
        None if coords is None else transform.apply_coords(coords, size),
        None if boxes is None else transform.apply_boxes(boxes, size),
        prompts.get("mask_inputs"),
    ]
    coords, boxes, masks = (
        None if each is None else torch.tensor(each).to(dtype) for each in given
    )
    labels = None if coords is None else torch.tensor(prompts["point_labels"])
    return upstream.predict_torch(coords, labels, boxes, masks, multimask, return_logits=True)


@pytest.mark.parametrize(
    ("batch", "multimask"), [("all kinds", False), *[(batch, True) for batch in BATCHES]]
)
def test_prompts_on_many_images_equal_upstreams_one_by_one(
    batch, multimask, build_pair, precision, distance, request
):
    if precision.dtype == torch.float64:
        request.getfixturevalue("both_in_float64")
    ours, theirs = build_pair(dtype=precision.dtype)
    images = [noise_image(*size) for size in SIZES]
    predictor, alone = SamPredictor(ours), segment_anything.SamPredictor(theirs)
    predictor.set_images(images)

    found = predictor.predict_batch(
        [Prompts(**prompts) for prompts in BATCHES[batch]], multimask, return_logits=True
    )

    for outputs, image, prompts in zip(found, images, BATCHES[batch], strict=True):
        expected = predict_alone(alone, image, prompts, precision.dtype, multimask)
        for output, wanted in zip(outputs, expected, strict=True):
            assert distance(torch.as_tensor(output), wanted) < precision.tolerance


@pytest.fixture
def predictor_of_two(empty_predictor):
    empty_predictor.set_images([noise_image(37, 53), noise_image(301, 200)])
    return empty_predictor


def test_masks_of_a_batch_are_where_logits_are_above_zero(predictor_of_two):
    prompts = [Prompts(**points(2, 1)), Prompts(**boxes(1))]

    binary, logits = (
        predictor_of_two.predict_batch(prompts, return_logits=logits) for logits in (False, True)
    )

    assert [masks.shape for masks, _, _ in binary] == [(2, 3, 37, 53), (1, 3, 301, 200)]
    for (masks, *_), (levels, *_) in zip(binary, logits, strict=True):
        assert masks.dtype == bool
        np.testing.assert_array_equal(masks, levels > 0)


@pytest.mark.parametrize("first", [points(0, 1), boxes(0)], ids=["points", "boxes"])
def test_an_image_without_prompts_gets_no_masks(first, predictor_of_two):
    prompts = [Prompts(**first), Prompts(**points(2, 1))]

    (none, *_), (some, *_) = predictor_of_two.predict_batch(prompts)

    assert (len(none), len(some)) == (0, 2)


def test_each_image_keeps_its_order_of_channels(empty_predictor):
    images = [noise_image(37, 53), noise_image(301, 200)]
    empty_predictor.set_images([image[..., ::-1] for image in images], "BGR")
    embeddings = empty_predictor.get_image_embedding()

    empty_predictor.set_images(images)

    assert torch.equal(embeddings, empty_predictor.get_image_embedding())


@pytest.mark.parametrize("index", [0, 1])
def test_points_of_one_image_equal_the_batchs(index, predictor_of_two, distance):
    coords = np.array([[3.0, 4], [20, 30], [36, 1]])
    labels = np.ones((3, 1), dtype=np.int32)
    prompts = [Prompts(**boxes(1)), Prompts(**boxes(1))]
    prompts[index] = Prompts(coords[:, None], labels)

    low_res_logits, predicted_iou = predictor_of_two.predict_points(index, coords)

    wanted = predictor_of_two.predict_batch(prompts, return_logits=True)[index]
    logits = predictor_of_two.upscale(low_res_logits, [(37, 53), (301, 200)][index])
    for output, expected in zip((logits, predicted_iou, low_res_logits), wanted, strict=True):
        assert distance(output, torch.as_tensor(expected)) < 1e-5


@pytest.mark.parametrize(
    "ask",
    [
        lambda predictor: predictor.predict(**POINTS),
        lambda predictor: predictor.predict_torch(None, None),
    ],
    ids=["predict", "predict_torch"],
)
def test_asking_for_one_of_several_images_tells_of_predict_batch(ask, predictor_of_two):
    with pytest.raises(RuntimeError, match="2 images are set: ask with predict_batch"):
        ask(predictor_of_two)


def test_a_batch_before_its_images_is_refused(empty_predictor):
    with pytest.raises(RuntimeError, match="No image is set"):
        empty_predictor.predict_batch([Prompts(**boxes(1))])


def test_fewer_prompts_than_images_are_refused(predictor_of_two):
    with pytest.raises(ValueError, match="prompts for each of the 2 images, got 1"):
        predictor_of_two.predict_batch([Prompts(**boxes(1))])


def test_no_images_are_refused(empty_predictor):
    with pytest.raises(ValueError, match="at least one image, got none"):
        empty_predictor.set_images([])


def test_a_bad_image_among_good_ones_is_refused_and_the_set_ones_stay(predictor_of_two):
    with pytest.raises(ValueError, match=r"must be an array of shape.*float64"):
        predictor_of_two.set_images([noise_image(37, 53), np.zeros((4, 5, 3))])

    assert len(predictor_of_two.get_image_embedding()) == 2


def test_the_sizes_of_one_image_have_upstreams_names():
    predictor = SamPredictor(build_sam_model("tiny", image_size=128))
    before = (predictor.original_size, predictor.input_size)
    predictor.set_image(np.zeros((30, 60, 3), np.uint8))

    assert before == (None, None)
    assert (predictor.original_size, predictor.input_size) == ((30, 60), (64, 128))


def test_a_resized_image_s_own_size_scales_its_masks_up(empty_predictor):
    """Also in a batch; it need not be the size that ResizeLongestSide would give."""
    side = empty_predictor.transform.target_length
    empty_predictor.set_torch_image(torch.full((1, 3, side, side // 2), 100.0), (30, 30))
    logits, _, low_res = empty_predictor.predict(box=np.array([2, 2, 9, 9]), return_logits=True)
    (answer,) = empty_predictor.predict_batch(
        [Prompts(boxes=np.array([[2, 2, 9, 9]]))], return_logits=True
    )

    assert np.allclose(answer[2][0], low_res, atol=1e-4)
    assert np.allclose(answer[0][0], logits, atol=1e-4)
