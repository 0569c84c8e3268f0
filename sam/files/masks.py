"""Binary masks in their other forms: run lengths, boxes, stability, cleaned of small regions.

Shapes: M masks, H x W pixels. Boxes are (x0, y0, x1, y1) in pixels, both corners inside the mask.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .errors import FileError

# Run lengths in column order, background first: {"size": [H, W], "counts": [...]}.
Rle = dict[str, Any]


class MissingExtraError(FileError):
    """A package that only some files need is not installed."""


def encode_rle(masks: Tensor) -> list[Rle]:
    """(M, H, W) bool to run lengths, as COCO defines them.

    The changes along all columns are found on the device and copied to the host at once.
    """
    count, height, width = masks.shape
    pixels = masks.transpose(1, 2).flatten(1)
    changes = torch.empty_like(pixels)
    changes[:, :1] = pixels[:, :1]  # background comes first: a set first pixel is a change
    torch.logical_xor(pixels[:, 1:], pixels[:, :-1], out=changes[:, 1:])
    positions = changes.flatten().nonzero().flatten().cpu().numpy()
    mask_of, within = np.divmod(positions, height * width)
    ends = np.searchsorted(mask_of, np.arange(1, count))
    runs = [np.diff(own, prepend=0, append=height * width) for own in np.split(within, ends)]
    return [{"size": [height, width], "counts": each.tolist()} for each in runs[:count]]


def decode_rle(rle: Rle) -> np.ndarray:
    """Run lengths to an (H, W) bool array."""
    height, width = rle["size"]
    runs = np.asarray(rle["counts"])
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def area_of_rle(rle: Rle) -> int:
    """How many pixels are set."""
    return sum(rle["counts"][1::2])


def compress_rle(rle: Rle) -> Rle:
    """Run lengths to COCO's compressed form, whose counts are a string; needs pycocotools."""
    from_list = coco_mask().frPyObjects(rle, *rle["size"])
    return {"size": list(rle["size"]), "counts": from_list["counts"].decode("ascii")}


def coco_mask() -> Any:
    """The module pycocotools.mask; MissingExtraError says how to get it."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtraError(
            "COCO run lengths need pycocotools: pip install 'sam-encoder-bench[masks]'"
        ) from error
    return mask


def opencv() -> Any:
    """The module cv2; MissingExtraError says how to get it."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError(
            "Removing small regions needs OpenCV: pip install 'sam-encoder-bench[masks]'"
        ) from error
    return cv2


def mask_boxes(masks: Tensor) -> Tensor:
    """(M, H, W) bool to (M, 4) int64; all zeros for an empty mask."""
    rows, columns = masks.any(dim=2), masks.any(dim=1)
    (x0, x1), (y0, y1) = first_and_last(columns), first_and_last(rows)
    return torch.stack([x0, y0, x1, y1], dim=1) * rows.any(dim=1, keepdim=True)


def first_and_last(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """(M, L) bool to the first and last set index of each row, (M,) each."""
    as_numbers = occupied.to(torch.uint8)  # argmax takes no bool; of equals it takes the first
    last = occupied.shape[1] - 1 - as_numbers.flip(1).argmax(dim=1)
    return as_numbers.argmax(dim=1), last


def stability_scores(logits: Tensor, threshold: float, offset: float) -> Tensor:
    """How little a mask changes with its threshold: (M, H, W) to (M,), NaN where all is below.

    The IoU of the masks cut at threshold + offset and at threshold - offset, of which one
    contains the other.
    """
    inner, outer = (
        # int16 holds a row and int32 an image: half the traffic of int64
        (logits > level).sum(-1, dtype=torch.int16).sum(-1, dtype=torch.int32)
        for level in (threshold + offset, threshold - offset)
    )
    return inner / outer


def remove_small_regions(
    mask: np.ndarray, min_area: float, kind: Literal["holes", "islands"]
) -> tuple[np.ndarray, bool]:
    """Fill small holes of an (H, W) bool mask, or drop small islands; needs OpenCV.

    The largest island stays, however small it is.

    Returns:
        The mask, and whether it was changed.
    """
    is_holes = kind == "holes"
    regions = (is_holes ^ mask).astype(np.uint8)
    _, labels, stats, _ = opencv().connectedComponentsWithStats(regions, connectivity=8)
    areas = stats[1:, -1]  # without the background, label 0
    small = np.flatnonzero(areas < min_area) + 1
    if not len(small):
        return mask, False
    if is_holes:
        return np.isin(labels, [0, *small]), True
    kept = np.setdiff1d(np.arange(1, len(stats)), small)
    return np.isin(labels, kept if len(kept) else [int(np.argmax(areas)) + 1]), True
