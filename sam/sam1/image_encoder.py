"""The image encoder: a plain vision transformer with window and global attention, and a neck.

Shapes: B images, H x W tokens (64 x 64 for 1024 pixels), L = H * W, C channels, N heads,
D = C / N channels a head. Source: Segment Anything (Kirillov et al. 2023) and ViTDet (Li et al.
2022); parameter names equal upstream's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.attend import AttentionInputs
from ..attention.variants import ATTENTION, split_attention
from ..attention.windows import pad_grid
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


class ImageEncoderViT(nn.Module):
    """Turns images into image embeddings.

    Args:
        config: Width, depth and heads.
        image_size: Pixels along an edge, a multiple of 16.
        attention: A key of sam.attention.ATTENTION, or two joined by "+": of window blocks and of
            global blocks.
    """

    def __init__(
        self, config: ModelConfig, image_size: int = IMAGE_SIZE, attention: str = "reference"
    ) -> None:
        super().__init__()
        self.image_size = check_image_size(image_size)
        grid_side = image_size // PATCH_SIZE
        of_windows, of_globals = split_attention(attention)
        self.patch_embed = PatchEmbed(config.embed_dim, as_linear=attention != "reference")
        self.pos_embed = nn.Parameter(torch.zeros(1, grid_side, grid_side, config.embed_dim))
        self.blocks = nn.ModuleList(
            Block(
                config.embed_dim,
                config.num_heads,
                window_size=0 if index in config.global_blocks else WINDOW_SIDE,
                grid_side=grid_side,
                attention=of_globals if index in config.global_blocks else of_windows,
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
    """A linear map of each 16 x 16 patch of pixels to a token.

    Args:
        embed_dim: Channels of a token.
        as_linear: Whether patches are laid out for a matrix product. It computes what upstream's
            convolution does, for which cuDNN picks a kernel thirty times slower in bf16.
    """

    def __init__(self, embed_dim: int, as_linear: bool) -> None:
        super().__init__()
        self.as_linear = as_linear
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=PATCH_SIZE, stride=PATCH_SIZE)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 16 H, 16 W) to (B, H, W, C)."""
        images = images.to(self.proj.weight.dtype)
        if not self.as_linear:
            return self.proj(images).permute(0, 2, 3, 1)
        batch, channels, height, width = images.shape
        rows, columns = height // PATCH_SIZE, width // PATCH_SIZE
        grid = images.reshape(batch, channels, rows, PATCH_SIZE, columns, PATCH_SIZE)
        patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows, columns, -1)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


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
        self.variant = ATTENTION[attention]
        self.variant.load()
        self.heads = heads
        self.window_side = window_side
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * window_side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * window_side - 1, width // heads))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        _, height, width, _ = tokens.shape
        tokens = tokens.to(self.qkv.bias.dtype)
        if self.variant.padding == "tokens":
            tokens = pad_grid(tokens, self.window_side, fill=None)
        queried = AttentionInputs(
            self.qkv(tokens), self.qkv.bias, self.rel_pos_h, self.rel_pos_w,
            self.heads, self.window_side,
        )  # fmt: skip
        return self.proj(self.variant.attend(queried).contiguous())[:, :height, :width]
