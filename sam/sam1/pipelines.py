"""SAM 1's ways from images to masks, stage by stage, for whoever times the stages.

Shapes: B images, P prompts over all of them, S pixels along an edge of the input.
Nothing here imports torch until a method is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..family import Begin, PromptedImage

PROMPTS_IN_A_PASS = 64  # in the mask decoder, as upstream's mask generator has it
# Random weights predict no quality: this share of all masks is let pass, about as many as trained
# ones find good on a photograph.
KEPT_SHARE = 0.1
WARM_UP_POINTS = 4  # per side


@dataclass(frozen=True)
class PreparedPrompts:
    """All prompts of a batch, on the device.

    prompts: (P, 2) or (P, 4), in pixels of the input.
    image_of_prompt: (P,), ascending.
    owners: The same on the host.
    """

    images: Sequence[PromptedImage]
    prompts: Tensor
    image_of_prompt: Tensor
    owners: np.ndarray


class PromptsPipeline:
    """Prompt encoder, mask decoder, and masks scaled up to the size of their photograph."""

    stages = ("prompt_encoder", "mask_decoder", "postprocess")

    def prepare(
        self, model: Any, images: Sequence[PromptedImage], device: torch.device
    ) -> PreparedPrompts:
        import torch

        from .transforms import ResizeLongestSide

        transform = ResizeLongestSide(model.image_encoder.image_size)
        is_boxes = images[0].prompts.shape[1] == 4
        apply = transform.apply_boxes if is_boxes else transform.apply_coords
        scaled = np.concatenate([apply(image.prompts, image.size) for image in images])
        counts = [len(image.prompts) for image in images]
        owners = np.repeat(np.arange(len(images)), counts)  # ascending
        prompts = torch.tensor(scaled, dtype=torch.float32, device=device)
        return PreparedPrompts(images, prompts, torch.tensor(owners, device=device), owners)

    def run(self, model: Any, features: Tensor, prepared: PreparedPrompts, begin: Begin) -> None:
        begin("prompt_encoder")
        sparse, dense = embed_prompts(model, prepared.prompts)
        image_pe = model.prompt_encoder.get_dense_pe()
        owners = prepared.owners
        for start in range(0, len(owners), PROMPTS_IN_A_PASS):
            chunk = slice(start, start + PROMPTS_IN_A_PASS)
            begin("mask_decoder")
            logits, _ = model.mask_decoder(
                features, image_pe, sparse[chunk], dense, True, prepared.image_of_prompt[chunk]
            )
            begin("postprocess")
            chosen, counts = np.unique(owners[chunk], return_counts=True)
            for index, own in zip(chosen, logits.split(counts.tolist()), strict=True):
                image = prepared.images[index]
                full = model.postprocess_masks(own, image.input_size, image.size)
                _ = full > model.mask_threshold


def embed_prompts(model: Any, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Sparse embeddings of all prompts (P, tokens, 256), and the dense one that they share."""
    import torch

    if prompts.shape[1] == 4:
        sparse, dense = model.prompt_encoder(None, prompts, None)
    else:
        labels = torch.ones(len(prompts), 1, dtype=torch.int, device=prompts.device)
        sparse, dense = model.prompt_encoder((prompts[:, None], labels), None, None)
    return sparse, dense[:1]


class EverythingPipeline:
    """The mask generator, which prompts with a grid of points and filters the masks."""

    @property
    def stages(self) -> tuple[str, ...]:
        from .mask_generator import STAGES

        return STAGES

    def settings(
        self,
        model: Any,
        image: np.ndarray,
        *,
        points_per_side: int,
        images_per_batch: int,
        is_random: bool,
    ) -> dict[str, Any]:
        from .mask_generator import SamAutomaticMaskGenerator

        settings = {"points_per_side": points_per_side, "images_per_batch": images_per_batch}
        if not is_random:
            return settings
        few = SamAutomaticMaskGenerator(model, points_per_side=WARM_UP_POINTS)
        few.predictor.set_images([image])
        points = few.point_grids[0] * np.array(image.shape[1::-1])
        _, quality = few.predictor.predict_points(0, points)
        least = float(quality.float().quantile(1 - KEPT_SHARE))
        return settings | {
            "pred_iou_thresh": max(least, 1e-6),  # at zero the generator would filter nothing
            "stability_score_thresh": 0.0,
            "box_nms_thresh": 1.0,  # their masks are all alike: none would be left after it
        }

    def warm_up(self, model: Any, images: Sequence[np.ndarray], settings: dict[str, Any]) -> None:
        few = settings | {"points_per_side": WARM_UP_POINTS}
        self.run(model, images, few, lambda stage: None)

    def run(
        self, model: Any, images: Sequence[np.ndarray], settings: dict[str, Any], begin: Begin
    ) -> int:
        from .mask_generator import SamAutomaticMaskGenerator

        generator = SamAutomaticMaskGenerator(model, on_stage=begin, **settings)
        return sum(map(len, generator.generate_batch(images)))
