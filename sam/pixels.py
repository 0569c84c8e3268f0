"""Normalising and padding pixels on the device, with the statistics that most encoders share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Mean and standard deviation of ImageNet's pixels, red, green, blue, in 0..255.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def normalise_and_pad(pixels: Tensor, side: int, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise pixels (..., 3, H, W) in 0..255; pad right and bottom to (..., 3, side, side)."""
    height, width = pixels.shape[-2:]
    if max(height, width) > side:
        raise ValueError(
            f"An image must fit the model's {side} x {side} pixels, got {height} x {width}: "
            f"resize it with ResizeLongestSide({side})."
        )
    return F.pad((pixels - mean) / std, (0, side - width, 0, side - height))


def pixel_statistics(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of pixels, (3, 1, 1) each."""
    mean, std = (
        torch.tensor(each, device=device).view(-1, 1, 1) for each in (PIXEL_MEAN, PIXEL_STD)
    )
    return mean, std
