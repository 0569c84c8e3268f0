import numpy as np
import pytest
import torch
from segment_anything.utils.transforms import ResizeLongestSide as UpstreamResizeLongestSide

from sam.sam1.transforms import ResizeLongestSide

SIZES = [(37, 53), (301, 200), (1, 1), (5, 400), (128, 128), (1024, 683)]  # (height, width)
COORDS = np.array([[[0, 0], [17, 31]], [[52.5, 3.25], [-4, 999]]])
BOXES = np.array([[0, 0, 52, 36], [1.5, 2.5, 10, 20]])


@pytest.fixture(params=[128, 1024])
def resizers(request):
    return ResizeLongestSide(request.param), UpstreamResizeLongestSide(request.param)


@pytest.mark.parametrize("size", SIZES)
def test_images_equal_upstreams_to_the_bit(size, resizers):
    ours, theirs = resizers
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)

    np.testing.assert_array_equal(ours.apply_image(image), theirs.apply_image(image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("integers", [False, True])
def test_coordinates_equal_upstreams_to_the_bit(integers, size, resizers):
    ours, theirs = resizers
    coords = COORDS.astype(int) if integers else COORDS

    scaled = ours.apply_coords(coords, size)

    np.testing.assert_array_equal(scaled, theirs.apply_coords(coords, size), strict=True)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_equal_upstreams_to_the_bit(size, resizers):
    ours, theirs = resizers

    scaled = ours.apply_boxes(BOXES, size)

    np.testing.assert_array_equal(scaled, theirs.apply_boxes(BOXES, size), strict=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_coordinates_as_tensors_equal_upstreams(dtype, size, resizers):
    ours, theirs = resizers
    coords = torch.as_tensor(COORDS).to(dtype)

    scaled = ours.apply_coords_torch(coords, size)

    torch.testing.assert_close(scaled, theirs.apply_coords_torch(coords, size), rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_as_tensors_equal_upstreams(size, resizers):
    ours, theirs = resizers
    boxes = torch.as_tensor(BOXES)

    scaled = ours.apply_boxes_torch(boxes, size)

    torch.testing.assert_close(scaled, theirs.apply_boxes_torch(boxes, size), rtol=1e-6, atol=0)


def test_scaling_leaves_the_coordinates_as_they_are(resizers):
    coords = COORDS.copy()

    resizers[0].apply_coords(coords, (37, 53))

    np.testing.assert_array_equal(coords, COORDS)


# Upstream reads the batch and the channels as height and width here: there is nothing to equal.
@pytest.mark.parametrize("size", SIZES)
def test_an_image_as_tensor_gets_the_shape_of_one_as_array(size, resizers):
    resizer = resizers[0]
    expected = resizer.apply_image(np.zeros((*size, 3), np.uint8)).shape[:2]

    assert resizer.apply_image_torch(torch.zeros(2, 3, *size)).shape == (2, 3, *expected)


def test_an_image_as_tensor_is_close_to_one_as_array():
    image = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    resizer = ResizeLongestSide(128)

    as_tensor = resizer.apply_image_torch(torch.as_tensor(image).permute(2, 0, 1)[None].float())

    as_array = torch.as_tensor(resizer.apply_image(image)).permute(2, 0, 1)[None].float()
    torch.testing.assert_close(as_tensor, as_array, rtol=0, atol=1.5)  # pillow rounds twice


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_a_thin_image_keeps_a_pixel_across(size):
    height, width = ResizeLongestSide.get_preprocess_shape(*size, 128)

    assert sorted((height, width)) == [1, 128]
