"""Fitting the weights of a checkpoint to a SAM 1 model of any image size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..family import Model
from ..files.checkpoints import check_fits
from .configs import ModelConfig


def fit_state_dict(
    path: str | Path,
    state_dict: dict[str, Tensor],
    model: nn.Module,
    name: str,
    models: Mapping[str, Model],
) -> dict[str, Tensor]:
    """Check that weights are those of this model; resize positions to its image size.

    Args:
        path: The file that they come from, for the error.
        state_dict: Names and float tensors.
        model: A Sam of any image size.
        name: The model's name, for the error.
        models: All models, one of which the weights may be of.

    Raises:
        CheckpointError: If names or shapes differ in more than the image size.
    """
    expected = model.state_dict()
    resized = resize_positions(state_dict, expected)
    check_fits(path, resized, expected, name, model_like(resized, models))
    return resized


def model_like(state_dict: Mapping[str, Tensor], models: Mapping[str, Model]) -> str | None:
    """The model of SAM 1 that weights seem to be of, by their width and depth."""
    width = state_dict.get("image_encoder.pos_embed", torch.empty(0)).shape[-1:]
    blocks = {key.split(".")[2] for key in state_dict if key.startswith("image_encoder.blocks.")}
    for name, model in models.items():
        config = model.config
        is_ours = isinstance(config, ModelConfig)
        if is_ours and ((config.embed_dim,), config.depth) == (width, len(blocks)):
            return name
    return None


def resize_positions(
    state_dict: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Interpolate absolute and global relative positions to the expected image size.

    Absolute positions bilinearly; relative ones linearly, as upstream does in its forward. Any
    difference that another image size does not explain is left for the caller to refuse.
    """
    key = "image_encoder.pos_embed"
    old, new = state_dict.get(key), expected[key]
    if old is None or old.ndim != 4:
        return state_dict
    old_side, new_side, width = old.shape[1], new.shape[1], new.shape[3]
    if old_side in (0, new_side) or old.shape != (1, old_side, old_side, width):
        return state_dict
    size = (new_side, new_side)
    absolute = F.interpolate(old.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    resized = {key: absolute.permute(0, 2, 3, 1)}
    for name, tensor in expected.items():
        given = state_dict.get(name)
        if (
            ".rel_pos_" in name
            and given is not None
            and given.shape != tensor.shape
            and given.shape == (2 * old_side - 1, tensor.shape[1])
        ):
            resized[name] = F.interpolate(given.T[None], tensor.shape[0], mode="linear")[0].T
    return {**state_dict, **resized}
