"""Allocating a model, and filling any module with seeded random weights."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from .configs import IMAGE_SIZE, PATCH_SIZE, PROMPT_EMBED_DIM, ModelConfig
from .image_encoder import ImageEncoderViT
from .mask_decoder import MaskDecoder
from .model import Sam
from .prompt_encoder import PromptEncoder

SEEDS = 65_536  # of random weights


def allocate_sam(
    config: ModelConfig,
    image_size: int = IMAGE_SIZE,
    attention: str = "reference",
    device: torch.device | str = "cpu",
) -> Sam:
    """A model in evaluation mode whose weights are allocated but hold no values yet.

    On the device "meta" nothing is allocated: for counting FLOPs and parameters.
    """
    grid_side = image_size // PATCH_SIZE
    with torch.device("meta"):  # skips the default initialisation: seconds, for ViT-H
        image_encoder = ImageEncoderViT(config, image_size, attention)
        prompt_encoder = PromptEncoder(PROMPT_EMBED_DIM, grid_side, image_size)
        mask_decoder = MaskDecoder(PROMPT_EMBED_DIM)
    model = Sam(
        image_encoder.to_empty(device=device),
        prompt_encoder.to_empty(device=device),
        mask_decoder.to_empty(device=device),
    )
    return model.to(device).eval()


def fill_random(model: nn.Module, seed: int) -> None:
    """Give every parameter and saved buffer a seeded normal value, the same on every machine.

    The scales keep activations near one through all blocks. Relative positions, their biases and
    the qkv bias are not small, so that an error in them shows.

    Args:
        model: Any module; its state_dict's order decides which value goes where.
        seed: From 0 to 65535.
    """
    if not 0 <= seed < SEEDS:  # beyond, seeds would repeat each other's weights
        raise ValueError(f"seed must be from 0 to {SEEDS - 1}, got {seed}.")

    def fill(index: int, name: str, tensor: torch.Tensor) -> None:
        # A generator each, so that the order of the threads does not matter. Torch's CPU
        # generator reads the low 32 bits of a seed alone.
        generator = torch.Generator("cpu").manual_seed(seed * (2**32 // SEEDS) + index)
        values = torch.empty(tensor.shape).normal_(generator=generator)
        is_gain = name.endswith("weight") and tensor.ndim == 1  # of a normalisation layer
        tensor.copy_(1 + 0.1 * values if is_gain else values * scale(name, tensor))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        state = model.state_dict().items()
        for done in [pool.submit(fill, index, *item) for index, item in enumerate(state)]:
            done.result()


def scale(name: str, tensor: torch.Tensor) -> float:
    """Standard deviation of a random weight."""
    if name.endswith("bias"):
        return 0.1
    if tensor.ndim == 4 and name.endswith("weight"):
        # What one output sums over. A transposed convolution (its stride equals its kernel)
        # sums over input channels alone, and keeps those first.
        return float(tensor[0].numel() if "upscaling" not in name else len(tensor)) ** -0.5
    is_linear = tensor.ndim == 2 and name.endswith("weight") and tensor.shape[0] > 4
    return float(tensor.shape[1]) ** -0.5 if is_linear else 0.5
