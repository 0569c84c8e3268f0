"""The prompt encoder: points, boxes and masks to embeddings that the mask decoder reads.

Shapes: P prompts (one mask each), K points a prompt, C = 256 channels, G tokens along an edge.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import LayerNorm2d

MASK_HIDDEN_CHANNELS = 16
NOT_A_POINT, BACKGROUND, FOREGROUND = -1, 0, 1  # labels of a point


class PromptEncoder(nn.Module):
    """Embeds the prompts of one or several images.

    Args:
        embed_dim: Channels of every embedding.
        grid_side: Tokens along the image embedding's edge.
        image_size: Pixels along the model's input edge.
    """

    def __init__(self, embed_dim: int, grid_side: int, image_size: int) -> None:
        super().__init__()
        self.grid_side = grid_side
        self.image_size = image_size
        hidden = MASK_HIDDEN_CHANNELS
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, hidden // 4, kernel_size=2, stride=2),
            LayerNorm2d(hidden // 4),
            nn.GELU(),
            nn.Conv2d(hidden // 4, hidden, kernel_size=2, stride=2),
            LayerNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    @property
    def mask_input_size(self) -> tuple[int, int]:
        """(H, W) of a mask prompt: four times the grid."""
        return (4 * self.grid_side, 4 * self.grid_side)

    def get_dense_pe(self) -> Tensor:
        """The positional encoding of the grid's tokens, (1, C, G, G)."""
        return self.pe_layer(self.grid_side).unsqueeze(0).to(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        return self.no_mask_embed.weight.dtype

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts; those that are given must agree in P.

        Args:
            points: Coordinates (P, K, 2) as (x, y) in input pixels, and labels (P, K): 1
                foreground, 0 background, -1 padding.
            boxes: (P, 4) as (x0, y0, x1, y1) in input pixels.
            masks: (P, 1, 4 G, 4 G) logits of an earlier prediction.

        Returns:
            Sparse embeddings (P, tokens, C) and dense embeddings (P, C, G, G); without masks these
            are one shared embedding.
        """
        given = (points[0] if points else None, boxes, masks)
        prompts = next((len(each) for each in given if each is not None), 1)
        sparse = [self.no_mask_embed.weight.new_empty(prompts, 0, self.no_mask_embed.embedding_dim)]
        if points is not None:
            sparse.append(self.embed_points(*points, pad=boxes is None))
        if boxes is not None:
            sparse.append(self.embed_boxes(boxes))
        if masks is not None:
            dense = self.mask_downscaling(masks.to(self.dtype))
        else:
            no_mask = self.no_mask_embed.weight.reshape(1, -1, 1, 1)
            dense = no_mask.expand(prompts, -1, self.grid_side, self.grid_side)
        return torch.cat(sparse, dim=1), dense

    def embed_points(self, coords: Tensor, labels: Tensor, pad: bool) -> Tensor:
        """(P, K, 2) and (P, K) to (P, K, C); with `pad`, one more that is not a point."""
        if labels.shape != coords.shape[:-1]:
            raise ValueError(
                "Each point needs one label: for labels of shape (P, K), points must have shape "
                f"(P, K, 2), got {tuple(labels.shape)} and {tuple(coords.shape)}."
            )
        coords = coords + 0.5  # a pixel's coordinates name its corner; its centre is meant
        if pad:
            coords = F.pad(coords, (0, 0, 0, 1))
            labels = F.pad(labels, (0, 1), value=NOT_A_POINT)
        labels = labels.unsqueeze(-1)
        encoded = self.pe_layer.encode_pixels(coords, self.image_size).to(self.dtype)
        encoded = encoded.masked_fill(labels == NOT_A_POINT, 0.0)
        encoded = encoded + (labels == NOT_A_POINT) * self.not_a_point_embed.weight
        for label in (BACKGROUND, FOREGROUND):
            encoded = encoded + (labels == label) * self.corner_or_point(label)
        return encoded

    def embed_boxes(self, boxes: Tensor) -> Tensor:
        """(P, 4) to (P, 2, C): the two corners."""
        corners = (boxes + 0.5).reshape(-1, 2, 2)
        encoded = self.pe_layer.encode_pixels(corners, self.image_size).to(self.dtype)
        return encoded + torch.cat([self.corner_or_point(2), self.corner_or_point(3)])

    def corner_or_point(self, index: int) -> Tensor:
        """(1, C): background point, foreground point, top left corner, bottom right corner."""
        return self.point_embeddings[index].get_parameter("weight")


class PositionEmbeddingRandom(nn.Module):
    """Encodes positions by sines and cosines of random frequencies.

    Source: Tancik et al. 2020, Fourier features.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, frequencies))

    def forward(self, side: int) -> Tensor:
        """The encoding of a grid's cell centres, (2 frequencies, side, side)."""
        matrix = self.matrix()
        centres = (torch.arange(side, device=matrix.device, dtype=matrix.dtype) + 0.5) / side
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self.encode_unit(torch.stack([x, y], dim=-1)).permute(2, 0, 1)

    def encode_pixels(self, coords: Tensor, image_size: int) -> Tensor:
        """(..., 2) as (x, y) in pixels, to (..., 2 frequencies)."""
        return self.encode_unit(coords / image_size)

    def encode_unit(self, coords: Tensor) -> Tensor:
        """(..., 2) as (x, y) between 0 and 1, to (..., 2 frequencies)."""
        matrix = self.matrix()
        phase = 2 * math.pi * ((2 * coords.to(matrix.dtype) - 1) @ matrix)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)

    def matrix(self) -> Tensor:
        """The random frequencies, (2, frequencies), in at least float32.

        Coordinates are computed in their type, and 1,024 pixels do not fit into bf16's 8 bits.
        """
        matrix = self.positional_encoding_gaussian_matrix
        return matrix.to(torch.promote_types(matrix.dtype, torch.float32))
