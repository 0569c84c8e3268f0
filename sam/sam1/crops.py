"""Where the mask generator looks: crops of an image, layer by layer, and grids of points.

Crop boxes are (x0, y0, x1, y1) in pixels, x1 and y1 outside.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Crop:
    """A part of an image; layer 0 is the whole."""

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


def list_crops(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """The whole image, then layers of 2 x 2, 4 x 4, ... overlapping crops.

    Args:
        size: (H, W) of the image.
        layers: How many beyond the whole image.
        overlap_ratio: Of the first layer's overlap to the image's shorter side.
    """
    height, width = size
    crops = [Crop((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        side = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / side))
        crop_width, crop_height = (
            math.ceil((overlap * (side - 1) + length) / side) for length in (width, height)
        )
        lefts = [(crop_width - overlap) * index for index in range(side)]
        tops = [(crop_height - overlap) * index for index in range(side)]
        for x0, y0 in itertools.product(lefts, tops):
            if x0 >= width or y0 >= height:
                continue  # an image of a few pixels has no room for so many crops
            box = (x0, y0, min(x0 + crop_width, width), min(y0 + crop_height, height))
            crops.append(Crop(box, layer))
    return crops


def point_grid(side: int) -> np.ndarray:
    """(side * side, 2) points as (x, y), evenly in the unit square, row by row."""
    offset = 1 / (2 * side)
    along = np.linspace(offset, 1 - offset, side)
    x, y = np.meshgrid(along, along)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def point_grids(side: int, layers: int, downscale: int) -> list[np.ndarray]:
    """A grid for the whole image and one for each layer of crops, each coarser by `downscale`."""
    return [point_grid(int(side / downscale**layer)) for layer in range(layers + 1)]
