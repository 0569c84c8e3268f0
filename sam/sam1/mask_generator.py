"""Masks of everything in an image: a grid of points, and what survives filtering.

The order of the steps is upstream's, kept for equal output; two are done earlier or once: masks are
filtered by predicted IoU before they are computed, and a batch's run lengths are found in one go.

Shapes: P points, M masks, H x W pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..files.masks import (
    Rle,
    area_of_rle,
    coco_mask,
    compress_rle,
    decode_rle,
    encode_rle,
    mask_boxes,
    opencv,
    remove_small_regions,
    stability_scores,
)
from .crops import Crop, list_crops, point_grids
from .model import Sam
from .predictor import SamPredictor, check_image

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
FORMS: dict[OutputMode, Callable[[Rle], Any]] = {
    "binary_mask": decode_rle,
    "uncompressed_rle": lambda rle: rle,
    "coco_rle": compress_rle,
}
EDGE_TOLERANCE = 20.0  # pixels within which a box touches its crop's edge
# Bytes of logits scaled up at a time. On a CPU they stay in the caches, and below the 32 MB from
# which on glibc takes memory anew for each use: 1.3 ms a mask instead of 5.2 at 512 x 512.
UPSAMPLED_BYTES_CPU, UPSAMPLED_BYTES_GPU = 2**24, 2**29

STAGES = (
    "preprocess", "image_encoder", "grid_prediction", "filtering", "upsampling", "rle", "nms",
    "records",
)  # fmt: skip


@dataclass
class MaskSet:
    """Masks and what is known of each; all fields have the same length M.

    rles: Run lengths over the whole image.
    boxes: (M, 4) int64, (x0, y0, x1, y1) in the image.
    predicted_iou, stability: (M,).
    points: (M, 2) float64, the prompt as (x, y) in the image.
    crop_boxes: (M, 4) int64.
    """

    rles: list[Rle]
    boxes: Tensor
    predicted_iou: Tensor
    stability: Tensor
    points: Tensor
    crop_boxes: Tensor

    def __len__(self) -> int:
        return len(self.rles)

    def select(self, indices: Tensor) -> Self:
        """The masks of these (K,) indices, in their order."""
        tensors = {  # some stay on the host, where an index from a device is refused
            field.name: (values := getattr(self, field.name))[indices.to(values.device)]
            for field in fields(self)
            if field.name != "rles"
        }
        return type(self)(rles=[self.rles[index] for index in indices.tolist()], **tensors)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All masks of the parts, one part after the other."""
        tensors = {
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name != "rles"
        }
        return cls(rles=[rle for part in parts for rle in part.rles], **tensors)


class SamAutomaticMaskGenerator:
    """Generates masks for whole images.

    Args:
        model: Runs where it lies.
        points_per_side: Points along each side of the image; None with point_grids.
        points_per_batch: Points in one pass of the mask decoder.
        pred_iou_thresh: Least predicted quality, 0 to 1.
        stability_score_thresh: Least stability, 0 to 1.
        stability_score_offset: How far the threshold is moved to judge stability, in logits.
        box_nms_thresh: IoU of boxes above which one of two masks goes, within a crop.
        crop_n_layers: Layers of crops that are looked at too.
        crop_nms_thresh: As box_nms_thresh, between crops.
        crop_overlap_ratio: Overlap of the first layer's crops, of the image's shorter side.
        crop_n_points_downscale_factor: Each layer's grid is coarser by this factor.
        point_grids: Own grids instead, one a layer, (P, 2) as (x, y) in the unit square.
        min_mask_region_area: Smaller holes and islands are removed, in pixels; needs OpenCV.
        output_mode: "binary_mask", "uncompressed_rle" or "coco_rle" (needs pycocotools).
        images_per_batch: Images or crops in one pass of the image encoder.
        on_stage: Told the name of each stage (STAGES) as it begins, for timing.

    Raises:
        ValueError: Where an argument is out of range.
        MissingExtraError: Where a package that an option needs is not installed.
    """

    def __init__(
        self,
        model: Sam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: OutputMode = "binary_mask",
        *,
        images_per_batch: int = 4,
        on_stage: Callable[[str], None] = lambda name: None,
    ) -> None:
        if output_mode not in FORMS:
            raise ValueError(f"Unknown output_mode '{output_mode}'. Known: {', '.join(FORMS)}.")
        if not 0 <= crop_overlap_ratio <= 1:  # beyond, crops would start left of the image
            raise ValueError(f"crop_overlap_ratio must be from 0 to 1, got {crop_overlap_ratio}.")
        check_least(0, crop_n_layers=crop_n_layers)
        check_least(1, points_per_batch=points_per_batch, images_per_batch=images_per_batch)
        if output_mode == "coco_rle":
            coco_mask()
        if min_mask_region_area > 0:
            opencv()
        self.point_grids = choose_grids(
            points_per_side, crop_n_layers, crop_n_points_downscale_factor, point_grids
        )
        self.model = model
        self.predictor = SamPredictor(model)
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.images_per_batch = images_per_batch
        self.on_stage = on_stage

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Generate the masks of one image, (H, W, 3) uint8.

        Returns:
            A dict a mask: "segmentation" (an (H, W) bool array or run lengths), "area" in pixels,
            "bbox" (x, y, width, height), "predicted_iou", "point_coords" [[x, y]],
            "stability_score", "crop_box" (x, y, width, height).
        """
        return self.generate_batch([image])[0]

    @torch.no_grad()
    def generate_batch(self, images: Sequence[np.ndarray]) -> list[list[dict[str, Any]]]:
        """Generate the masks of several images, of any sizes; as generate does for each.

        The image encoder runs on batches over all images and crops.
        """
        for image in images:
            check_image(image)
        views = [
            (index, crop)
            for index, image in enumerate(images)
            for crop in list_crops(image.shape[:2], self.crop_n_layers, self.crop_overlap_ratio)
        ]
        found: list[list[MaskSet]] = [[] for _ in images]
        for start in range(0, len(views), self.images_per_batch):
            group = views[start : start + self.images_per_batch]
            self.on_stage("preprocess")
            boxes = [(images[index], *crop.box) for index, crop in group]
            prepared = self.predictor.prepare(
                [image[y0:y1, x0:x1] for image, x0, y0, x1, y1 in boxes]
            )
            self.on_stage("image_encoder")
            self.predictor.encode(prepared)
            for position, (index, crop) in enumerate(group):
                found[index].append(self._search_crop(position, crop, images[index].shape[:2]))
        self.predictor.reset_image()
        return [self._records(self._merge_crops(masks)) for masks in found]

    def _search_crop(self, position: int, crop: Crop, image_size: tuple[int, int]) -> MaskSet:
        """The masks of one crop, whose embedding is the predictor's at this position."""
        points = self.point_grids[crop.layer] * np.array(crop.size[::-1])
        parts: list[MaskSet] = []
        for start in range(0, len(points), self.points_per_batch):
            batch = points[start : start + self.points_per_batch]
            parts += self._search_points(position, batch, crop, image_size)
        masks = MaskSet.join(parts)
        self.on_stage("nms")
        masks = masks.select(suppress(masks.boxes, masks.predicted_iou, self.box_nms_thresh))
        x0, y0, _, _ = crop.box
        masks.boxes += torch.tensor([x0, y0, x0, y0], device=masks.boxes.device)
        masks.points += torch.tensor([x0, y0], device=masks.points.device)
        return masks

    def _search_points(
        self, position: int, points: np.ndarray, crop: Crop, image_size: tuple[int, int]
    ) -> list[MaskSet]:
        """The masks at (P, 2) points of a crop that pass all filters; boxes still in the crop."""
        self.on_stage("grid_prediction")
        least_iou = self.pred_iou_thresh if self.pred_iou_thresh > 0.0 else -math.inf
        low_res, iou, of_mask = self.predictor.predict_points_above(position, points, least_iou)
        of_point = torch.as_tensor(points, device="cpu")[of_mask.cpu()]
        at_a_time = self._upsampled_at_a_time(crop)
        chunks = zip(*(values.split(at_a_time) for values in (low_res, iou, of_point)), strict=True)
        return [
            self._finish(low_res, iou, points, crop, image_size) for low_res, iou, points in chunks
        ]

    def _upsampled_at_a_time(self, crop: Crop) -> int:
        """How many masks to scale up at a time."""
        is_cpu = self.model.device.type == "cpu"
        # The larger of the input square and the crop, in float32.
        mask_bytes = 4 * max(self.model.image_encoder.image_size**2, math.prod(crop.size))
        return max(1, (UPSAMPLED_BYTES_CPU if is_cpu else UPSAMPLED_BYTES_GPU) // mask_bytes)

    def _finish(
        self, low_res: Tensor, iou: Tensor, points: Tensor, crop: Crop, image_size: tuple[int, int]
    ) -> MaskSet:
        """Scale mask logits (M, 4 G, 4 G) up, filter them once more, and find boxes and runs."""
        self.on_stage("upsampling")
        threshold = self.model.mask_threshold
        logits = self.predictor.upscale(low_res[:, None], crop.size)[:, 0]
        self.on_stage("filtering")
        stability = stability_scores(logits, threshold, self.stability_score_offset)
        masks = logits > threshold
        if self.stability_score_thresh > 0.0:
            stable = (stability >= self.stability_score_thresh).nonzero().flatten()
            masks, iou, stability = masks[stable], iou[stable], stability[stable]
            points = points[stable.cpu()]
        boxes = mask_boxes(masks)
        inside = (~touches_crop_edge(boxes, crop, image_size)).nonzero().flatten()
        self.on_stage("rle")
        x0, y0, x1, y1 = crop.box
        height, width = image_size
        rles = encode_rle(F.pad(masks[inside], (x0, width - x1, y0, height - y1)))
        return MaskSet(
            rles=rles,
            boxes=boxes[inside],
            predicted_iou=iou[inside],
            stability=stability[inside],
            points=points[inside.cpu()],
            crop_boxes=torch.tensor([crop.box]).expand(len(rles), 4),
        )

    def _merge_crops(self, parts: list[MaskSet]) -> MaskSet:
        """All masks of an image, without those that two crops found; small crops win."""
        self.on_stage("nms")
        masks = MaskSet.join(parts)
        if len(parts) > 1:
            from torchvision.ops import box_area  # as in `suppress`

            scores = (1 / box_area(masks.crop_boxes)).to(masks.boxes.device)
            masks = masks.select(suppress(masks.boxes, scores, self.crop_nms_thresh))
        if self.min_mask_region_area > 0:
            least = max(self.box_nms_thresh, self.crop_nms_thresh)
            masks = self.postprocess_small_regions(masks, self.min_mask_region_area, least)
        return masks

    @staticmethod
    def postprocess_small_regions(mask_data: MaskSet, min_area: int, nms_thresh: float) -> MaskSet:
        """Remove small holes and islands, then masks that became duplicates; needs OpenCV.

        Args:
            mask_data: Masks of one image.
            min_area: Regions below it go, in pixels.
            nms_thresh: IoU of boxes above which one of two masks goes; an unchanged one stays.
        """
        if not len(mask_data):
            return mask_data
        cleaned = [clean(decode_rle(rle), min_area) for rle in mask_data.rles]
        masks = torch.from_numpy(np.stack([mask for mask, _ in cleaned]))
        changed = torch.tensor([is_changed for _, is_changed in cleaned])
        boxes = mask_boxes(masks)
        keep = suppress(boxes, (~changed).float(), nms_thresh)
        kept = mask_data.select(keep.to(mask_data.boxes.device))
        redone = changed[keep].nonzero().flatten()
        for index, rle in zip(redone.tolist(), encode_rle(masks[keep[redone]]), strict=True):
            kept.rles[index] = rle
        kept.boxes[redone] = boxes[keep[redone]].to(kept.boxes)
        return kept

    def _records(self, masks: MaskSet) -> list[dict[str, Any]]:
        """A dict a mask, in upstream's form."""
        self.on_stage("records")
        # Each to the host at once: a value at a time would wait for the device as often.
        boxes, crops = (
            torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1).tolist()
            for corners in (masks.boxes, masks.crop_boxes)
        )
        predicted_iou, stability = masks.predicted_iou.tolist(), masks.stability.tolist()
        points = masks.points.tolist()
        form = FORMS[self.output_mode]
        return [
            {
                "segmentation": form(rle),
                "area": area_of_rle(rle),
                "bbox": boxes[index],
                "predicted_iou": predicted_iou[index],
                "point_coords": [points[index]],
                "stability_score": stability[index],
                "crop_box": crops[index],
            }
            for index, rle in enumerate(masks.rles)
        ]


def choose_grids(
    side: int | None, layers: int, downscale: int, grids: list[np.ndarray] | None
) -> list[np.ndarray]:
    """The grid of each layer; ValueError where not exactly one way to name them is used."""
    if (side is None) == (grids is None):
        raise ValueError("Exactly one of points_per_side and point_grids must be given.")
    if side is not None:
        check_least(1, crop_n_points_downscale_factor=downscale)
        check_least(downscale**layers, points_per_side=side)  # a point for the last layer
        return point_grids(side, layers, downscale)
    if grids is None or len(grids) <= layers or not all(map(len, grids)):
        sizes = [len(grid) for grid in grids or []]
        raise ValueError(
            f"point_grids must hold a grid of points for each of the {layers + 1} layers, got "
            f"grids of {sizes} points."
        )
    return grids


def check_least(least: int, **values: float) -> None:
    """ValueError that names the first argument below the least it may be."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")


def suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices of the masks that stay, best score first, where boxes overlap by more."""
    from torchvision.ops import batched_nms  # here: it takes as long to load as torch itself

    categories = torch.zeros(len(boxes), device=boxes.device)
    return batched_nms(boxes.float(), scores.float(), categories, iou_threshold=threshold)


def touches_crop_edge(boxes: Tensor, crop: Crop, image_size: tuple[int, int]) -> Tensor:
    """Which (M, 4) boxes of a crop touch its edge where the image goes on: (M,) bool."""
    height, width = image_size
    x0, y0, _, _ = crop.box
    offset, crop_box, image_box = (
        torch.tensor(values, dtype=torch.float32, device=boxes.device)
        for values in ((x0, y0, x0, y0), crop.box, (0, 0, width, height))
    )
    in_image = boxes + offset
    at_crop_edge = (in_image - crop_box).abs() <= EDGE_TOLERANCE
    at_image_edge = (in_image - image_box).abs() <= EDGE_TOLERANCE
    return (at_crop_edge & ~at_image_edge).any(dim=1)


def clean(mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    """Fill a mask's small holes, then drop its small islands; and whether anything changed."""
    mask, filled = remove_small_regions(mask, min_area, "holes")
    mask, dropped = remove_small_regions(mask, min_area, "islands")
    return mask, filled or dropped
