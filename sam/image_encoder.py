"""The image encoder: a plain vision transformer with window and global attention, and a neck.

Shapes: B images, H x W tokens (64 x 64 for 1024 pixels), L = H * W, C channels, N heads,
D = C / N channels a head. Source: Segment Anything (Kirillov et al. 2023) and ViTDet (Li et al.
2022); parameter names equal upstream's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import ATTENTION
from .configs import (
    IMAGE_SIZE,
    MLP_RATIO,
    PATCH_SIZE,
    PROMPT_EMBED_DIM,
    WINDOW_SIDE,
    ModelConfig,
    check_image_size,
)
from .layers import LayerNorm, LayerNorm2d, MLPBlock
from .windows import join_windows, partition_windows


class ImageEncoderViT(nn.Module):
    """Turns images into image embeddings.

    Args:
        config: Width, depth and heads.
        image_size: Pixels along an edge, a multiple of 16.
        attention: A key of sam.attention.ATTENTION.
    """

    def __init__(
        self, config: ModelConfig, image_size: int = IMAGE_SIZE, attention: str = "reference"
    ) -> None:
        super().__init__()
        self.image_size = check_image_size(image_size)
        grid_side = image_size // PATCH_SIZE
        self.patch_embed = PatchEmbed(config.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid_side, grid_side, config.embed_dim))
        self.blocks = nn.ModuleList(
            Block(
                config.embed_dim,
                config.num_heads,
                window_size=0 if index in config.global_blocks else WINDOW_SIDE,
                grid_side=grid_side,
                attention=attention,
            )
            for index in range(config.depth)
        )
        self.neck = Neck(config.embed_dim, PROMPT_EMBED_DIM)

    @property
    def img_size(self) -> int:
        """Upstream's name for image_size."""
        return self.image_size

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, image_size, image_size), normalised, to (B, 256, H, W)."""
        # Where pos_embed is kept in float32, so is the residual stream of all blocks: the fp16
        # sum of many blocks overflows.
        tokens = self.patch_embed(images) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.neck(tokens.permute(0, 3, 1, 2))


class PatchEmbed(nn.Module):
    """A linear map of each 16 x 16 patch of pixels to a token."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=PATCH_SIZE, stride=PATCH_SIZE)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 16 H, 16 W) to (B, H, W, C)."""
        return self.proj(images.to(self.proj.weight.dtype)).permute(0, 2, 3, 1)


class Neck(nn.Sequential):
    """Reduces the channels to those of the image embedding and mixes neighbouring tokens."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size=1, bias=False),
            LayerNorm2d(outputs),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 256, H, W), in its last convolution's type."""
        for layer in self:
            features = layer(features.to(layer.get_parameter("weight").dtype))
        return features.to(self[2].get_parameter("weight").dtype)


class Block(nn.Module):
    """Pre-norm transformer block over a (B, H, W, C) grid of tokens.

    Args:
        width: Channels of a token.
        heads: Of the attention.
        window_size: Tokens along a window's edge; 0 for attention over the whole grid.
        grid_side: Tokens along the grid's edge.
        attention: A key of sam.attention.ATTENTION.
    """

    def __init__(
        self, width: int, heads: int, window_size: int, grid_side: int, attention: str
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, window_size or grid_side, attention)
        self.norm2 = LayerNorm(width, eps=1e-6)
        self.mlp = MLPBlock(width, MLP_RATIO * width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Attention(nn.Module):
    """Multi-head attention within square windows, with decomposed relative position bias.

    Args:
        width: Channels of a token.
        heads: How many heads share them.
        window_side: Tokens along a window's edge; the whole grid's in a global block.
        attention: A key of sam.attention.ATTENTION.
    """

    def __init__(self, width: int, heads: int, window_side: int, attention: str) -> None:
        super().__init__()
        if attention not in ATTENTION:
            raise ValueError(f"Unknown attention '{attention}'. Known: {', '.join(ATTENTION)}.")
        self.variant = ATTENTION[attention]
        self.heads = heads
        self.window_side = window_side
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * window_side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * window_side - 1, width // heads))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        grid_size = (tokens.shape[1], tokens.shape[2])
        tokens = tokens.to(self.qkv.weight.dtype)
        if self.variant.padding == "tokens":
            windows = self.attend(self.qkv(partition_windows(tokens, self.window_side)))
            return join_windows(self.proj(windows), grid_size)
        qkv = partition_windows(self.qkv(tokens), self.window_side, fill=self.qkv.bias)
        return self.proj(join_windows(self.attend(qkv), grid_size))

    def attend(self, qkv: Tensor) -> Tensor:
        """(B', S, S, 3 C) of B' windows with S tokens an edge, to (B', S, S, C)."""
        windows, side = qkv.shape[0], self.window_side
        q, k, v = qkv.view(windows, side * side, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # Bias of each query for every key row and for every key column: (B', N, L, S) both.
        query_grid = q.unflatten(2, (side, side))
        rel_h = torch.einsum("bnhwc,hck->bnhwk", query_grid, relative_table(self.rel_pos_h, side))
        rel_w = torch.einsum("bnhwc,wck->bnhwk", query_grid, relative_table(self.rel_pos_w, side))
        attended = self.variant.attend(q, k, v, rel_h.flatten(2, 3), rel_w.flatten(2, 3))
        return attended.transpose(1, 2).reshape(windows, side, side, -1)


def relative_table(rel_pos: Tensor, side: int) -> Tensor:
    """Lay out relative positions for each pair of a query's and a key's coordinate.

    Args:
        rel_pos: (2 side - 1, D); the row of offset o (query minus key) is o + side - 1.
        side: Coordinates along an edge.

    Returns:
        (side, D, side): query coordinate, channel, key coordinate.
    """
    # Reversed, the keys of a query are neighbours: a sliding view, with no index to build on the
    # CPU in each forward.
    return rel_pos.flip(0).unfold(0, side, 1).flip(0)
