"""The mask decoder: an image embedding and prompt embeddings to masks with predicted quality.

Shapes: I images, P prompts over all of them, C = 256 channels, G tokens along an edge.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import MLP, LayerNorm2d
from .two_way_transformer import TwoWayTransformer, unchanged

# The mask for an unambiguous prompt, and three (whole, part, subpart) for an ambiguous one.
SINGLE_MASK, MULTI_MASKS, ALL_MASKS = range(1), range(1, 4), range(4)


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
        prompts, grid_side = sparse_prompt_embeddings.shape[0], image_embeddings.shape[-1]
        check_images_of_prompts(len(image_embeddings), prompts, image_of_prompt)
        own_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own_tokens.expand(prompts, -1, -1), sparse_prompt_embeddings], dim=1)

        def spread(images: Tensor) -> Tensor:
            """(I, ...) to (P, ...), without a copy where one image serves all prompts."""
            if image_of_prompt is not None:
                return images[image_of_prompt]
            return images.expand(prompts, *images.shape[1:])

        is_shared = dense_prompt_embeddings.shape[0] == 1
        images = image_embeddings if is_shared else spread(image_embeddings)
        tokens, image = self.transformer(
            (images + dense_prompt_embeddings).flatten(2).transpose(1, 2),
            image_pe.flatten(2).transpose(1, 2),
            tokens,
            spread if is_shared else unchanged,
        )

        weights = torch.stack(
            [self.output_hypernetworks_mlps[mask](tokens[:, 1 + mask]) for mask in chosen], dim=1
        )
        upscaled = self.output_upscaling(
            image.transpose(1, 2).unflatten(-1, (grid_side, grid_side))
        )
        masks = (weights @ upscaled.flatten(2)).unflatten(-1, upscaled.shape[-2:])
        predicted_iou = self.iou_prediction_head(tokens[:, 0])
        return masks, predicted_iou[:, chosen.start : chosen.stop]


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
