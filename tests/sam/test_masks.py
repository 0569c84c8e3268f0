import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from segment_anything.utils import amg

from sam.files.masks import (
    MissingExtraError,
    area_of_rle,
    compress_rle,
    decode_rle,
    encode_rle,
    mask_boxes,
    remove_small_regions,
    stability_scores,
)


def random_masks(count, height, width, density=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, height, width, generator=generator) < density


def one_pixel_masks(height, width):
    """Each pixel of an image alone: all corners are among them."""
    return torch.eye(height * width, dtype=torch.bool).view(-1, height, width)


MASKS = {
    "ragged": random_masks(5, 13, 17),
    "sparse": random_masks(9, 31, 8, density=0.01),
    "dense": random_masks(9, 8, 31, density=0.99),
    "empty": torch.zeros(3, 4, 5, dtype=torch.bool),
    "full": torch.ones(3, 4, 5, dtype=torch.bool),
    "full between empty": torch.tensor([0, 1, 0, 1, 1, 0, 0]).bool()[:, None, None].expand(7, 3, 2),
    "one pixel": one_pixel_masks(3, 4),
    "all but one pixel": ~one_pixel_masks(4, 3),
    "one row": random_masks(6, 1, 9),
    "one column": random_masks(6, 9, 1),
    "an image of one pixel": torch.tensor([True, False])[:, None, None],
    "no masks": torch.zeros(0, 4, 5, dtype=torch.bool),
    "large": random_masks(2, 301, 200, density=0.3),
    "a view": random_masks(4, 6, 10).transpose(1, 2)[::2, 1:],
}


@pytest.fixture(params=MASKS)
def masks(request):
    return MASKS[request.param]


def test_run_lengths_are_upstreams(masks):
    assert encode_rle(masks) == amg.mask_to_rle_pytorch(masks)


def test_run_lengths_are_plain_numbers_that_json_takes(masks):
    for rle in encode_rle(masks):
        assert {type(count) for count in rle["counts"]} == {int}


def test_decoding_gives_back_what_was_encoded(masks):
    for rle, mask in zip(encode_rle(masks), masks.numpy(), strict=True):
        decoded = decode_rle(rle)

        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)


def test_encoding_leaves_the_masks_as_they_are():
    masks = random_masks(2, 5, 6)
    before = masks.clone()

    encode_rle(masks)

    assert torch.equal(masks, before)


def test_the_area_is_the_number_of_set_pixels(masks):
    areas = [area_of_rle(rle) for rle in encode_rle(masks)]

    assert areas == masks.sum(dim=(1, 2)).tolist()


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own, in numpy 2
def test_pycocotools_decodes_compressed_run_lengths_to_the_same_mask(masks):
    for rle, mask in zip(encode_rle(masks), masks.numpy(), strict=True):
        np.testing.assert_array_equal(coco.decode(compress_rle(rle)), mask)


def test_compressed_run_lengths_are_upstreams(masks):
    for rle in encode_rle(masks):
        assert compress_rle(rle) == amg.coco_encode_rle(rle)


def test_boxes_are_upstreams_and_whole_numbers(masks):
    boxes = mask_boxes(masks)

    assert boxes.dtype == torch.int64
    assert torch.equal(boxes, amg.batched_mask_to_box(masks).long())


@pytest.mark.parametrize("offset", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_stability_is_upstreams(threshold, offset):
    logits = torch.randn(6, 23, 40, generator=torch.Generator().manual_seed(0))
    logits[0] -= 20  # below every threshold: 0 / 0
    logits[1] += 20

    found = stability_scores(logits, threshold, offset)

    wanted = amg.calculate_stability_score(logits, threshold, offset)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert found[0].isnan()
    assert found[1] == 1


def test_no_masks_have_no_stability():
    assert stability_scores(torch.zeros(0, 4, 5), 0.0, 1.0).shape == (0,)


@pytest.mark.parametrize("min_area", [0, 1, 2, 5, 20, 10_000])
@pytest.mark.parametrize("kind", ["holes", "islands"])
def test_small_regions_are_removed_as_upstream_does(kind, min_area, masks):
    for mask in masks.numpy():
        cleaned, is_changed = remove_small_regions(mask, min_area, kind)

        wanted, is_changed_there = amg.remove_small_regions(mask, min_area, kind)
        assert is_changed == is_changed_there
        np.testing.assert_array_equal(cleaned, wanted)


def picture(text):
    return np.array([[pixel == "#" for pixel in line] for line in text.split()])


BLOBS = picture("""
    ####.......
    #..#..##...
    #..#.......
    ####.....#.
""")


@pytest.mark.parametrize(
    ("kind", "min_area", "expected"),
    [
        ("holes", 4, BLOBS),
        ("holes", 5, picture("####....... ####..##... ####....... ####.....#.")),
        ("islands", 2, picture("####....... #..#..##... #..#....... ####.......")),
        ("islands", 3, picture("####....... #..#....... #..#....... ####.......")),
        ("islands", 99, picture("####....... #..#....... #..#....... ####.......")),
    ],
)
def test_regions_below_the_area_go_and_the_largest_island_stays(kind, min_area, expected):
    cleaned, is_changed = remove_small_regions(BLOBS, min_area, kind)

    np.testing.assert_array_equal(cleaned, expected)
    assert is_changed == (not np.array_equal(expected, BLOBS))


def test_removing_regions_leaves_the_mask_it_got_as_it_is():
    before = BLOBS.copy()

    remove_small_regions(BLOBS, 10, "islands")

    np.testing.assert_array_equal(BLOBS, before)


@pytest.mark.parametrize(
    ("package", "ask"),
    [
        ("pycocotools", lambda: compress_rle({"size": [1, 2], "counts": [1, 1]})),
        ("cv2", lambda: remove_small_regions(BLOBS, 3, "holes")),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(package, ask, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError, match=r"need.*pip install 'sam-encoder-bench\[masks\]'$"):
        ask()
