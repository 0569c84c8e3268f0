import numpy as np
import pytest
from segment_anything.utils import amg

from sam.sam1.crops import list_crops, point_grids

LAYERS = (0, 1, 2, 3)
RATIOS = (0, 512 / 1500, 0.5, 1)
RANDOM_SIZES = np.random.default_rng(0).integers(64, 3000, (40, 2)).tolist()
SIZES = [(1024, 1024), (427, 640), (683, 1024), (64, 3000), *map(tuple, RANDOM_SIZES)]
TINY_SIZES = [(1, 1), (1, 5000), (5, 300), (9, 3), (10, 40)]


def upstream_crops(size, layers, ratio):
    boxes, layer_of = amg.generate_crop_boxes(size, layers, ratio)
    return [(tuple(box), layer) for box, layer in zip(boxes, layer_of, strict=True)]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("layers", LAYERS)
def test_crops_are_upstreams_in_box_layer_and_order(layers, ratio):
    for size in SIZES:
        crops = [(crop.box, crop.layer) for crop in list_crops(size, layers, ratio)]

        assert crops == upstream_crops(size, layers, ratio)


@pytest.mark.parametrize("size", TINY_SIZES)
def test_of_a_tiny_image_upstreams_crops_without_a_pixel_are_left_out(size):
    crops = [(crop.box, crop.layer) for crop in list_crops(size, 3, 512 / 1500)]

    wanted = upstream_crops(size, 3, 512 / 1500)
    assert crops == [((x0, y0, x1, y1), n) for (x0, y0, x1, y1), n in wanted if x0 < x1 and y0 < y1]
    assert len(crops) < len(wanted)


@pytest.mark.parametrize("size", [*SIZES, *TINY_SIZES])
def test_a_layers_crops_cover_the_image(size):
    crops = list_crops(size, 3, 512 / 1500)

    for layer in (0, 1, 2, 3):
        covered = np.zeros(size, dtype=bool)
        for x0, y0, x1, y1 in (crop.box for crop in crops if crop.layer == layer):
            covered[y0:y1, x0:x1] = True
        assert covered.all()


def test_a_crops_size_is_height_then_width():
    assert list_crops((30, 40), 0, 0.5)[0].size == (30, 40)


@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("side", [8, 9, 17, 32, 64])
def test_grids_of_points_are_upstreams(side, downscale):
    grids = point_grids(side, 2, downscale)

    for grid, wanted in zip(
        grids, amg.build_all_layer_point_grids(side, 2, downscale), strict=True
    ):
        np.testing.assert_array_equal(grid, wanted)
