"""The whole model: image encoder, prompt encoder and mask decoder, from pixels to masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..pixels import PIXEL_MEAN, PIXEL_STD, normalise_and_pad
from .image_encoder import ImageEncoderViT
from .mask_decoder import MaskDecoder
from .prompt_encoder import PromptEncoder


class Sam(nn.Module):
    """Predicts masks of the objects that prompts point at."""

    mask_threshold: float = 0.0
    image_format: str = "RGB"
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        image_encoder: ImageEncoderViT,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        pixel_mean: Sequence[float] = PIXEL_MEAN,
        pixel_std: Sequence[float] = PIXEL_STD,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @torch.no_grad()
    def forward(
        self, batched_input: list[dict[str, Any]], multimask_output: bool
    ) -> list[dict[str, Tensor]]:
        """Predict masks for images whose prompts are known beforehand.

        Args:
            batched_input: A dict an image: "image" (3, H, W), resized as ResizeLongestSide does;
                "original_size" (H, W) before that; and any of "point_coords" (P, K, 2) with
                "point_labels" (P, K), "boxes" (P, 4), "mask_inputs" (P, 1, 4 G, 4 G), in pixels
                of the resized image.
            multimask_output: Three masks a prompt instead of one.

        Returns:
            A dict an image: "masks" (P, masks, H, W) bool at the original size,
            "iou_predictions" (P, masks), "low_res_logits" (P, masks, 4 G, 4 G).
        """
        images = torch.stack([self.preprocess(record["image"]) for record in batched_input])
        embeddings = self.image_encoder(images)
        return [
            self._predict_image(record, embedding.unsqueeze(0), multimask_output)
            for record, embedding in zip(batched_input, embeddings, strict=True)
        ]

    def _predict_image(
        self, record: dict[str, Any], embedding: Tensor, multimask_output: bool
    ) -> dict[str, Tensor]:
        points = (
            (record["point_coords"], record["point_labels"]) if "point_coords" in record else None
        )
        masks = record.get("mask_inputs")
        sparse, dense = self.prompt_encoder(points, record.get("boxes"), masks)
        if masks is None:
            dense = dense[:1]  # the same for all prompts
        low_res_logits, iou_predictions = self.mask_decoder(
            embedding, self.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output
        )
        input_size = record["image"].shape[-2:]
        logits = self.postprocess_masks(low_res_logits, input_size, record["original_size"])
        return {
            "masks": logits > self.mask_threshold,
            "iou_predictions": iou_predictions,
            "low_res_logits": low_res_logits,
        }

    def preprocess(self, x: Tensor) -> Tensor:
        """Normalise pixels (..., 3, H, W) in 0..255; pad right and bottom to the input square."""
        side = self.image_encoder.image_size
        return normalise_and_pad(x, side, self.pixel_mean, self.pixel_std)

    def postprocess_masks(
        self, masks: Tensor, input_size: Sequence[int], original_size: Sequence[int]
    ) -> Tensor:
        """Scale mask logits up to the original image.

        Args:
            masks: (P, masks, 4 G, 4 G) logits of the mask decoder.
            input_size: (H, W) of the resized image, without the padding.
            original_size: (H, W) of the image before the resize.

        Returns:
            (P, masks, H, W) logits at the original size.
        """
        side = self.image_encoder.image_size
        # At least float32: the sign of a logit near zero decides a pixel.
        masks = masks.to(torch.promote_types(masks.dtype, torch.float32))
        masks = F.interpolate(masks, (side, side), mode="bilinear", align_corners=False)
        masks = masks[..., : input_size[0], : input_size[1]]
        return F.interpolate(masks, tuple(original_size), mode="bilinear", align_corners=False)
