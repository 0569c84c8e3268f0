import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import segment_anything
import torch
from PIL import Image

import benchmarking
from sam.files.masks import MissingExtraError, area_of_rle, encode_rle, mask_boxes
from sam.sam1.mask_generator import STAGES, MaskSet, SamAutomaticMaskGenerator

pytestmark = pytest.mark.usefixtures("one_thread")

UpstreamGenerator = segment_anything.SamAutomaticMaskGenerator
PHOTOGRAPHS = Path(benchmarking.__file__).with_name("sample_images")
SIZES = {"coffee": (331, 247), "rocket": (61, 97)}  # (height, width), larger and smaller
OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")

# With random weights masks are ragged and alike. Cut at a high threshold they are small and
# differ, and with these settings each filter drops some of them and keeps some (held below).
MASK_THRESHOLD = 1.5
SETTINGS = {
    "points_per_side": 6,
    "points_per_batch": 15,  # the last batch has 6 points
    "pred_iou_thresh": 1.5,
    "stability_score_thresh": 0.4,
    "stability_score_offset": 0.05,
    "box_nms_thresh": 0.8,
    "crop_nms_thresh": 0.5,
}
NO_FILTER = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
ONE_LAYER = {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
TWO_LAYERS = {"crop_n_layers": 2, "crop_n_points_downscale_factor": 2}
OWN_GRIDS = {
    "points_per_side": None,
    "point_grids": [np.random.default_rng(0).random((points, 2)) for points in (23, 10)],
}

CASES = {
    "the whole image": {},
    "few points a batch": {"points_per_batch": 3},
    "all points in a batch": {"points_per_batch": 1000},
    "crops": {"crop_n_layers": 1},
    "crops that overlap less": ONE_LAYER | {"crop_overlap_ratio": 0.1},
    "two layers of crops": TWO_LAYERS,
    "own grids": OWN_GRIDS,
    "own grids and crops": OWN_GRIDS | {"crop_n_layers": 1},
    "small regions": {"min_mask_region_area": 20},
    "small regions and crops": ONE_LAYER | {"min_mask_region_area": 20},
    "no filter": NO_FILTER,
    "no filter and two layers": NO_FILTER | TWO_LAYERS,
}


def photograph(name, size=None):
    height, width = size or SIZES[name]
    return np.array(Image.open(PHOTOGRAPHS / f"{name}.jpg").resize((width, height)))


@pytest.fixture(scope="module")
def pair(build_pair):
    """A pair in float64 whose masks are small and differ."""
    pair = copy.deepcopy(build_pair(dtype=torch.float64))
    for model in pair:
        model.mask_threshold = MASK_THRESHOLD
    return pair


@pytest.fixture
def make(pair):
    """A generator of ours, with these settings changed."""

    def make(**changed):
        return SamAutomaticMaskGenerator(pair.ours, **SETTINGS | changed)

    return make


@pytest.fixture
def make_both(make, pair, both_in_float64):
    def make_both(**changed):
        theirs = UpstreamGenerator(pair.upstream, **SETTINGS | changed)
        return make(**changed), theirs

    return make_both


def assert_same(found, wanted, least=5):
    """All equal and in the same order, but scores to the last digits; and not vacuously so."""
    assert len(found) == len(wanted) >= least
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-9)
        assert list(ours) == list(theirs)
        np.testing.assert_equal(ours | {"predicted_iou": 0}, theirs | {"predicted_iou": 0})


# All of the smaller photograph; of the larger, what a size can change.
@pytest.mark.parametrize(
    ("case", "name"),
    [
        *((case, "rocket") for case in CASES),
        *((case, "coffee") for case in CASES if "layers" in case or "crops" in case),
        ("the whole image", "coffee"),
        ("small regions", "coffee"),
    ],
)
def test_records_equal_upstreams(case, name, make_both):
    ours, theirs = make_both(**CASES[case])

    assert_same(ours.generate(photograph(name)), theirs.generate(photograph(name)))


@pytest.mark.parametrize("mode", OUTPUT_MODES)
def test_masks_come_in_upstreams_form(mode, make_both):
    ours, theirs = make_both(output_mode=mode, **ONE_LAYER)
    found, wanted = (generator.generate(photograph("rocket")) for generator in (ours, theirs))

    assert_same(found, wanted)
    for record, upstreams in zip(found, wanted, strict=True):
        segmentation, theirs = record["segmentation"], upstreams["segmentation"]
        assert type(segmentation) is type(theirs)
        if mode == "binary_mask":
            assert segmentation.dtype == theirs.dtype
        else:
            assert {key: type(value) for key, value in segmentation.items()} == {
                key: type(value) for key, value in theirs.items()
            }


def generate_large_masks(pair, name):
    """Records of ours and upstream's, where most logits are far from a threshold of nought."""
    pair = copy.deepcopy(pair)
    for model in pair:
        for mlp in model.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[2].weight.data *= 40
        model.mask_decoder.iou_prediction_head.layers[2].bias.data += 0.5
    settings = {"points_per_side": 8, "stability_score_thresh": 0.9, "box_nms_thresh": 0.99}
    generators = (SamAutomaticMaskGenerator, UpstreamGenerator)
    return [
        generator(model, **settings).generate(photograph(name, (100, 150)))
        for generator, model in zip(generators, pair, strict=True)
    ]


@pytest.mark.usefixtures("both_in_float64")
def test_large_masks_cut_at_nought_equal_upstreams(build_pair):
    found, wanted = generate_large_masks(build_pair(dtype=torch.float64), "chelsea")

    assert_same(found, wanted)
    assert np.mean([record["area"] for record in found]) > 0.1 * 100 * 150


@pytest.mark.parametrize("name", ["chelsea", "rocket"])
def test_in_float32_order_and_scores_equal_upstreams_and_nearly_all_pixels(name, build_pair):
    found, wanted = generate_large_masks(build_pair(), name)

    assert len(found) == len(wanted) >= 5
    masks = [np.stack([each["segmentation"] for each in records]) for records in (found, wanted)]
    assert np.mean(masks[0] != masks[1]) < 1e-4
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours["point_coords"] == theirs["point_coords"]
        assert ours["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-5)
        # A pixel more or less is 1e-4 of a mask.
        assert ours["stability_score"] == pytest.approx(theirs["stability_score"], abs=1e-3)


@pytest.mark.parametrize(
    "looser",
    [
        {"pred_iou_thresh": 0.0},
        {"stability_score_thresh": 0.0},
        {"box_nms_thresh": 1.0},
        ONE_LAYER | {"crop_nms_thresh": 1.0},
    ],
    ids=lambda looser: list(looser)[-1],
)
def test_each_filter_of_these_settings_drops_some_masks_and_keeps_some(looser, make):
    layers = looser.get("crop_n_layers", 0)
    images = [photograph(name) for name in SIZES]
    filtered, more = (
        sum(map(len, generator.generate_batch(images)))
        for generator in (make(**ONE_LAYER | {"crop_n_layers": layers}), make(**looser))
    )

    assert 15 <= filtered < more


def test_with_two_layers_masks_come_from_crops_of_every_layer(make):
    records = make(**TWO_LAYERS).generate(photograph("coffee"))

    widths = {record["crop_box"][2] for record in records}
    assert widths & {247}
    assert widths & {165, 166}
    assert widths & {91, 94}


def test_thresholds_of_nought_keep_three_masks_a_point(make):
    records = make(**NO_FILTER).generate(photograph("rocket"))

    assert len(records) == 3 * 6 * 6


def test_masks_that_touch_a_crops_edge_inside_the_image_are_left_out(make):
    unfiltered = NO_FILTER | ONE_LAYER | {"crop_nms_thresh": 1.0}
    records = make(**unfiltered).generate(photograph("coffee"))

    assert 3 * 6 * 6 < len(records) < 3 * (6 * 6 + 4 * 3 * 3)


NOTHING_SURVIVES = {"pred_iou_thresh": 100.0}


@pytest.mark.parametrize("nothing", [NOTHING_SURVIVES, {"stability_score_thresh": 1.1}])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_where_no_mask_survives_there_are_no_records(layers, nothing, make):
    generator = make(min_mask_region_area=9, **TWO_LAYERS | nothing | {"crop_n_layers": layers})

    assert generator.generate(photograph("rocket")) == []


@pytest.mark.parametrize("mode", OUTPUT_MODES)
def test_where_no_mask_survives_there_are_no_records_of_any_form(mode, make):
    generator = make(min_mask_region_area=9, output_mode=mode, **NOTHING_SURVIVES)

    assert generator.generate(photograph("rocket")) == []


def test_upstream_crashes_where_no_mask_of_any_crop_survives(make_both):
    _, theirs = make_both(**ONE_LAYER | NOTHING_SURVIVES)

    with pytest.raises(IndexError):  # its issue 614
        theirs.generate(photograph("rocket"))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (2, 3), (40, 3)])
def test_an_image_with_fewer_pixels_than_crops_is_searched(size, make):
    records = make(**TWO_LAYERS | NO_FILTER).generate(photograph("chelsea", size))

    assert records
    assert all(record["segmentation"].shape == size for record in records)


@pytest.mark.parametrize(
    ("changed", "images_per_batch"), [({}, 1), ({}, 100), (ONE_LAYER, 2), (ONE_LAYER, 100)]
)
def test_images_of_different_sizes_give_the_same_masks_together_and_alone(
    changed, images_per_batch, make
):
    images = [photograph(name) for name in SIZES]
    generator = make(images_per_batch=images_per_batch, **changed)

    found = generator.generate_batch(images)

    for records, image in zip(found, images, strict=True):
        assert_same(records, make(**changed).generate(image))


def test_of_no_images_there_are_no_lists_of_records(make):
    assert make().generate_batch([]) == []


def test_images_and_crops_are_encoded_as_many_at_a_time_as_asked(make):
    generator = make(images_per_batch=4, **ONE_LAYER)
    encoder, sizes = generator.model.image_encoder, []
    hook = encoder.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))

    with hook:
        generator.generate_batch([photograph("rocket"), photograph("coffee")])

    assert sizes == [4, 4, 2]


def test_an_image_that_is_none_is_refused_before_any_is_encoded(make):
    stages = []
    generator = make(images_per_batch=1, on_stage=stages.append)

    with pytest.raises(ValueError, match=r"must be an array of shape.*got Image"):
        generator.generate_batch([photograph("rocket"), Image.new("RGB", (40, 30))])
    assert stages == []


@pytest.mark.parametrize("changed", [{}, NOTHING_SURVIVES, ONE_LAYER], ids=str)
def test_the_stages_told_are_those_of_the_list_and_all_of_them(changed, make):
    stages = []

    make(on_stage=stages.append, **changed).generate(photograph("rocket"))

    assert set(stages) == set(STAGES)
    assert [stages[0], stages[-1]] == ["preprocess", "records"]


def mask_set(masks, predicted_iou):
    count = len(masks)
    return MaskSet(
        rles=encode_rle(masks),
        boxes=mask_boxes(masks),
        predicted_iou=torch.tensor(predicted_iou),
        stability=torch.ones(count),
        points=torch.arange(2.0 * count).view(count, 2),
        crop_boxes=torch.tensor([[0, 0, 20, 10]]).expand(count, 4),
    )


@pytest.fixture
def three_masks():
    """A square of 4 x 4 pixels, the same with a hole and a pixel far away, and another square."""
    masks = torch.zeros(3, 10, 20, dtype=torch.bool)
    masks[:2, :4, :4] = masks[2, 5:9, 5:9] = True
    masks[1, 1, 1], masks[1, 9, 19] = False, True
    return mask_set(masks, [0.5, 0.9, 0.7])


def test_without_small_regions_masks_stay_as_they_are(three_masks):
    cleaned = SamAutomaticMaskGenerator.postprocess_small_regions(three_masks, 1, 0.7)

    assert cleaned.rles == three_masks.rles
    assert torch.equal(cleaned.boxes, three_masks.boxes)
    assert torch.equal(cleaned.points, three_masks.points)


def test_a_mask_that_became_a_duplicate_goes_and_the_unchanged_one_stays(three_masks):
    cleaned = SamAutomaticMaskGenerator.postprocess_small_regions(three_masks, 2, 0.7)

    assert cleaned.boxes.tolist() == [[0, 0, 3, 3], [5, 5, 8, 8]]
    assert cleaned.predicted_iou.tolist() == pytest.approx([0.5, 0.7])


def test_a_cleaned_mask_gets_new_runs_and_a_new_box(three_masks):
    before = copy.deepcopy(three_masks)

    cleaned = SamAutomaticMaskGenerator.postprocess_small_regions(three_masks, 2, 1.0)

    assert cleaned.boxes.tolist() == [[0, 0, 3, 3], [5, 5, 8, 8], [0, 0, 3, 3]]
    assert [area_of_rle(rle) for rle in cleaned.rles] == [16, 16, 16]
    assert three_masks.rles == before.rles
    assert torch.equal(three_masks.boxes, before.boxes)


def test_holes_are_filled_before_islands_go():
    mask = torch.zeros(1, 10, 20, dtype=torch.bool)
    mask[0, :5, :5] = True
    mask[0, 1:4, 1:4] = False  # a hole of 9 pixels, or of 8 around an island
    mask[0, 2, 2] = True

    cleaned = SamAutomaticMaskGenerator.postprocess_small_regions(mask_set(mask, [0.5]), 9, 0.7)

    assert area_of_rle(cleaned.rles[0]) == 25


def test_of_no_masks_none_are_cleaned():
    nothing = mask_set(torch.zeros(0, 10, 20, dtype=torch.bool), [])

    assert len(SamAutomaticMaskGenerator.postprocess_small_regions(nothing, 5, 0.7)) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"output_mode": "png"}, "Unknown output_mode 'png'. Known: binary_mask, uncompressed_rle"),
        ({"points_per_side": None}, "Exactly one of points_per_side and point_grids"),
        ({"point_grids": [np.ones((1, 2))]}, "Exactly one of points_per_side and point_grids"),
        (OWN_GRIDS | {"crop_n_layers": 2}, "each of the 3 layers, got grids of [23, 10] points"),
        (OWN_GRIDS | {"point_grids": [np.ones((0, 2))]}, "1 layers, got grids of [0] points"),
        ({"points_per_side": 0}, "points_per_side must be at least 1, got 0"),
        (TWO_LAYERS | {"points_per_side": 3}, "points_per_side must be at least 4, got 3"),
        ({"crop_n_points_downscale_factor": 0}, "downscale_factor must be at least 1, got 0"),
        ({"points_per_batch": 0}, "points_per_batch must be at least 1, got 0"),
        ({"images_per_batch": -1}, "images_per_batch must be at least 1, got -1"),
        ({"crop_n_layers": -1}, "crop_n_layers must be at least 0, got -1"),
        ({"crop_overlap_ratio": 1.5}, "crop_overlap_ratio must be from 0 to 1, got 1.5"),
    ],
)
def test_an_argument_out_of_range_is_refused_in_one_line(changed, message, make):
    with pytest.raises(ValueError) as error:  # noqa: PT011  # its text is compared below
        make(**changed)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("package", "changed"),
    [("pycocotools", {"output_mode": "coco_rle"}), ("cv2", {"min_mask_region_area": 1})],
)
def test_a_missing_package_is_named_before_any_work(package, changed, make, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    make()

    with pytest.raises(MissingExtraError, match=r"pip install 'sam-encoder-bench\[masks\]'$"):
        make(**changed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_gives_the_same_masks_as_the_cpu(case, make, pair):
    wanted = make(**CASES[case]).generate(photograph("coffee"))
    on_gpu = copy.deepcopy(pair.ours).cuda()

    found = SamAutomaticMaskGenerator(on_gpu, **SETTINGS | CASES[case]).generate(
        photograph("coffee")
    )

    assert_same(found, wanted)
