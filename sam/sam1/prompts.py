"""What a person asks of one image: points, boxes and masks, and what must hold of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prompts:
    """P prompts on one image, in pixels of that image; what is None is not given.

    point_coords: (P, K, 2) as (x, y), with point_labels (P, K): 1 foreground, 0 background.
    boxes: (P, 4) as (x0, y0, x1, y1).
    mask_inputs: (P, 1, 4 G, 4 G), logits of an earlier prediction.

    Raises:
        ValueError: Where a shape is another, or the numbers of prompts differ.
    """

    point_coords: np.ndarray | None = None
    point_labels: np.ndarray | None = None
    boxes: np.ndarray | None = None
    mask_inputs: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_together(self.point_coords, self.point_labels)
        check_shape("point_coords", self.point_coords, (None, None, 2))
        if self.point_coords is not None:
            check_shape("point_labels", self.point_labels, np.shape(self.point_coords)[:2])
        check_shape("boxes", self.boxes, (None, 4))
        check_shape("mask_inputs", self.mask_inputs, (None, 1, None, None))
        counts = {len(given) for given in self._given()}
        if len(counts) != 1:
            raise ValueError(
                "Prompts must hold points, boxes or masks, the same number of each, got "
                f"{sorted(counts) or 'nothing'}."
            )

    def _given(self) -> list[np.ndarray]:
        every = (self.point_coords, self.point_labels, self.boxes, self.mask_inputs)
        return [given for given in every if given is not None]

    def __len__(self) -> int:
        return len(self._given()[0])

    def form(self) -> tuple[object, ...]:
        """What prompts must share to be embedded in one tensor: the tokens of each."""
        points = None if self.point_coords is None else np.shape(self.point_coords)[1]
        return (points, self.boxes is None, self.mask_inputs is None)


def check_shape(name: str, values: np.ndarray | None, shape: tuple[int | None, ...]) -> None:
    """ValueError where an array has another shape; None stands for any length."""
    if values is None:
        return
    found = np.shape(values)
    lengths = zip(found, shape, strict=False)
    if len(found) != len(shape) or any(wanted not in (None, length) for length, wanted in lengths):
        wanted_shape = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({wanted_shape}), got {found}.")


def check_together(point_coords: object, point_labels: object) -> None:
    if (point_coords is None) != (point_labels is None):
        raise ValueError(
            "point_coords and point_labels must be given together, got only one of them: "
            "give each point a label, 1 for foreground or 0 for background."
        )
