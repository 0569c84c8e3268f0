"""The mask decoder: an image embedding and prompt embeddings to masks with predicted quality.

Shapes: I images, P prompts over all of them, C = 256 channels, G tokens along an edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLP, LayerNorm2d
from .two_way_transformer import TwoWayTransformer

# The mask for an unambiguous prompt, and three (whole, part, subpart) for an ambiguous one.
SINGLE_MASK, MULTI_MASKS, ALL_MASKS = range(1), range(1, 4), range(4)
# Prompts in one part. On a CPU what lies between the layers, 8 MB a prompt at 1024 pixels, stays
# below the 32 MB from which on glibc takes memory from the system for each use, with a page fault
# for every 4 KB. Elsewhere a part takes 1.3 to 2 GB in float32.
PART_ON_CPU, PART_ELSEWHERE = 3, 64


class MaskDecoder(nn.Module):
    """Predicts masks by letting prompt tokens and image attend to each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(depth=2, width=width, heads=8, mlp_hidden=2048)
        masks = len(ALL_MASKS)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(masks, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, kernel_size=2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(width, width, width // 8, depth=3) for _ in range(masks)
        )
        self.iou_prediction_head = MLP(width, width, masks, depth=3)

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        image_of_prompt: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict the masks of each prompt.

        Args:
            image_embeddings: (I, C, G, G).
            image_pe: (1, C, G, G).
            sparse_prompt_embeddings: (P, tokens, C).
            dense_prompt_embeddings: (P, C, G, G), or (1, C, G, G) where it is the same for all
                prompts: then what depends on the image alone is computed once an image.
            multimask_output: Three masks a prompt instead of one.
            image_of_prompt: (P,) int64, the image that each prompt belongs to. Without it, one
                image serves all prompts, or each prompt has an image of its own (I = P).

        Returns:
            Mask logits (P, masks, 4 G, 4 G) and predicted IoU (P, masks).
        """
        return self.predict_masks(
            image_embeddings,
            image_pe,
            sparse_prompt_embeddings,
            dense_prompt_embeddings,
            MULTI_MASKS if multimask_output else SINGLE_MASK,
            image_of_prompt,
        )

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        chosen: range = ALL_MASKS,
        image_of_prompt: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As forward, for the chosen ones of the decoder's four masks."""
        parts = [
            (self._draw(tokens, image, chosen), self._quality(tokens, chosen))
            for tokens, image in self._attend(
                image_embeddings,
                image_pe,
                sparse_prompt_embeddings,
                dense_prompt_embeddings,
                image_of_prompt,
            )
        ]
        masks, predicted_iou = (torch.cat(outputs) for outputs in zip(*parts, strict=True))
        return masks, predicted_iou

    def predict_masks_above(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        least_iou: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of three masks a prompt, those whose predicted IoU is above `least_iou`; one image alone.

        The masks of prompts without any are not computed: that is half of a prompt's work.

        Returns:
            Mask logits (M, 4 G, 4 G), predicted IoU (M,), and each one's prompt (M,), int64.
        """
        found = []
        first = 0
        for tokens, image in self._attend(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings
        ):
            predicted_iou = self._quality(tokens, MULTI_MASKS)
            prompts, masks = (predicted_iou > least_iou).nonzero(as_tuple=True)
            drawn, own = prompts.unique(return_inverse=True)
            logits = self._draw(tokens[drawn], image[drawn], MULTI_MASKS)
            found.append((logits[own, masks], predicted_iou[prompts, masks], first + prompts))
            first += len(tokens)
        logits, predicted_iou, prompts = (torch.cat(parts) for parts in zip(*found, strict=True))
        return logits, predicted_iou, prompts

    def _attend(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        image_of_prompt: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens (P, T, C) and image (P, L, C) of some prompts after others."""
        prompts = len(sparse_prompt_embeddings)
        check_images_of_prompts(len(image_embeddings), prompts, image_of_prompt)
        own_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own_tokens.expand(prompts, -1, -1), sparse_prompt_embeddings], dim=1)

        images = image_embeddings
        if len(dense_prompt_embeddings) != 1 and image_of_prompt is not None:
            images, image_of_prompt = images[image_of_prompt], None  # now each has its own
        image_pe = as_tokens(image_pe)
        projected = self.transformer.project(as_tokens(images + dense_prompt_embeddings), image_pe)
        at_least_one = max(1, prompts)  # of no prompts, there are no masks in one part
        step = PART_ON_CPU if tokens.device.type == "cpu" else PART_ELSEWHERE
        for start in range(0, at_least_one, step):
            some = range(prompts)[start : start + step]
            lined_up = partial(spread, prompts=some, image_of_prompt=image_of_prompt)
            yield self.transformer.attend(  # given on at once: what was lined up is let go
                projected.of_prompts(lined_up), image_pe, tokens[some.start : some.stop]
            )

    def _quality(self, tokens: Tensor, chosen: range) -> Tensor:
        """(P, T, C) to the predicted IoU, (P, masks)."""
        return self.iou_prediction_head(tokens[:, 0])[:, chosen.start : chosen.stop]

    def _draw(self, tokens: Tensor, image: Tensor, chosen: range) -> Tensor:
        """(P, T, C) and (P, L, C) to mask logits, (P, masks, 4 G, 4 G)."""
        weights = torch.stack(
            [self.output_hypernetworks_mlps[mask](tokens[:, 1 + mask]) for mask in chosen], dim=1
        )
        pixels = image
        for layer in self.output_upscaling:
            if isinstance(layer, nn.ConvTranspose2d):
                pixels = linear_upscaling(layer, pixels)
            elif isinstance(layer, LayerNorm2d):
                pixels = nn.LayerNorm.forward(layer, pixels)  # the channels already are last
            else:
                pixels = layer(pixels)
        # Pixels lie as (row, column, row in it, column in it, row in that, column in that): only
        # the masks are put in order, not what they are made of, which is ten times as much.
        side = math.isqrt(image.shape[1])
        masks = (weights @ pixels.mT).unflatten(-1, (side, side, 2, 2, 2, 2))
        return masks.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(*weights.shape[:2], 4 * side, 4 * side)


def as_tokens(feature_map: Tensor) -> Tensor:
    """(I, C, G, G) to (I, L, C)."""
    return feature_map.flatten(2).transpose(1, 2).contiguous()


def spread(images: Tensor, prompts: range, image_of_prompt: Tensor | None) -> Tensor:
    """(I, ...) to the images of these prompts, without a copy where they can do without."""
    if len(images) == 1:
        return images.expand(len(prompts), *images.shape[1:])
    if image_of_prompt is not None:
        return images[image_of_prompt[prompts.start : prompts.stop]]
    return images[prompts.start : prompts.stop]


def linear_upscaling(layer: nn.ConvTranspose2d, pixels: Tensor) -> Tensor:
    """Make four pixels of each by a layer of kernel and stride 2: (P, L, C) to (P, 4 L, C').

    No two pixels meet, so it is a linear layer, and their order does not matter.
    """
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * C', C)
    assert layer.bias is not None
    four = F.linear(pixels, weight, layer.bias.repeat(4))
    return four.unflatten(-1, (4, layer.out_channels)).flatten(1, 2)


def check_images_of_prompts(images: int, prompts: int, image_of_prompt: Tensor | None) -> None:
    """Refuse prompts of which it is not clear what image they belong to."""
    if image_of_prompt is not None and image_of_prompt.shape != (prompts,):
        raise ValueError(
            f"image_of_prompt must name an image for each of {prompts} prompts, "
            f"got shape {tuple(image_of_prompt.shape)}."
        )
    if image_of_prompt is None and images not in (1, prompts):
        raise ValueError(
            f"Without image_of_prompt there must be one image, or as many as prompts ({prompts}); "
            f"got {images} images."
        )
