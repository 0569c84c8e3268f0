"""From pictures to batches on the device.

Shapes: B images, S pixels along an edge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from results.records.case import Case, TimingPlan

from ..choices.inputs import Photographs, Pixels, noise_batches, photograph_batches
from .rig import Rig


def make_batches(case: Case, plan: TimingPlan, rig: Rig, photographs: Photographs) -> list[Tensor]:
    """Normalised (B, 3, S, S) inputs on the device, in the encoder's type, for rotation."""
    if case.input == "noise":
        size = case.image_size
        return noise_batches(case.batch_size, size, plan.seed, rig.device, rig.dtype)

    def prepare(images: Sequence[Pixels]) -> Tensor:
        # Allocated whole before the first image, so that a batch that can't fit fails at once.
        shape = (len(images), 3, case.image_size, case.image_size)
        batch = torch.empty(shape, device=rig.device, dtype=rig.dtype)
        for index, image in enumerate(images):
            resized = resize_images(rig, [image])
            batch[index] = normalise(rig, copy_to_device(rig, resized))[0]
        return batch

    return photograph_batches(photographs, case.batch_size, prepare)


def resize_images(rig: Rig, images: Sequence[Pixels]) -> list[Tensor]:
    """On the host: (H, W, 3) uint8 each, to (3, H', W') uint8 that fits the encoder's input."""
    return [rig.family.resize(image, rig.image_size) for image in images]


def copy_to_device(rig: Rig, images: Sequence[Tensor]) -> list[Tensor]:
    return [image.to(rig.device) for image in images]


def normalise(rig: Rig, images: Sequence[Tensor]) -> Tensor:
    """On the device: normalise and pad, to (B, 3, S, S)."""
    return torch.stack([rig.preprocess(image) for image in images])
