"""The mask decoder's transformer: prompt tokens attend to the image, and the image to them.

What depends on the image alone is computed once an image, however many prompts it has.

Shapes: I images, P prompts over all of them, T tokens a prompt, L image tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLPBlock

Spread = Callable[[Tensor], Tensor]


def unchanged(tensor: Tensor) -> Tensor:
    """Spreads nothing: each prompt has an image of its own."""
    return tensor


class TwoWayTransformer(nn.Module):
    """Layers of two-way attention, then a last look of the tokens at the image."""

    def __init__(self, depth: int, width: int, heads: int, mlp_hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(width, heads, mlp_hidden, is_first=index == 0)
            for index in range(depth)
        )
        self.final_attn_token_to_image = ProjectedAttention(width, width // 2, heads)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(
        self, image: Tensor, image_pe: Tensor, tokens: Tensor, spread: Spread = unchanged
    ) -> tuple[Tensor, Tensor]:
        """Let tokens and image inform each other.

        Args:
            image: (I, L, C); where prompts share an image, it stands once.
            image_pe: (1, L, C), the positional encoding of the image tokens.
            tokens: (P, T, C), which also serve as their own positional encoding.
            spread: Lines up (I, ...) with the prompts, (P, ...).

        Returns:
            Tokens (P, T, C) and image (P, L, C).
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe, spread)
            spread = unchanged  # the first layer has made the image each prompt's own
        attended = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + attended), image


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, an MLP, image to tokens."""

    def __init__(self, width: int, heads: int, mlp_hidden: int, is_first: bool) -> None:
        super().__init__()
        self.self_attn = ProjectedAttention(width, width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = ProjectedAttention(width, width // 2, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLPBlock(width, mlp_hidden, activation=F.relu)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = ProjectedAttention(width, width // 2, heads)
        self.is_first = is_first

    def forward(
        self,
        tokens: Tensor,
        image: Tensor,
        token_pe: Tensor,
        image_pe: Tensor,
        spread: Spread = unchanged,
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in TwoWayTransformer.forward."""
        if self.is_first:  # the tokens still are their own encoding: nothing to add them to
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            placed = tokens + token_pe
            tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens))

        image_placed = image + image_pe
        attended = self.cross_attn_token_to_image(
            tokens + token_pe, image_placed, image, spread_keys=spread
        )
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        attended = self.cross_attn_image_to_token(
            image_placed, tokens + token_pe, tokens, spread_queries=spread
        )
        return tokens, self.norm4(spread(image) + attended)


class ProjectedAttention(nn.Module):
    """Multi-head attention that may project to fewer channels than it reads."""

    def __init__(self, width: int, inner_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner_width)
        self.k_proj = nn.Linear(width, inner_width)
        self.v_proj = nn.Linear(width, inner_width)
        self.out_proj = nn.Linear(inner_width, width)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        spread_queries: Spread = unchanged,
        spread_keys: Spread = unchanged,
    ) -> Tensor:
        """(P, Q, C), (P, K, C), (P, K, C) to (P, Q, C).

        Either side may be (I, ..., C): it is projected once an image, then spread over prompts.
        """
        q, k, v = (
            projection(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, tokens in (
                (self.q_proj, queries),
                (self.k_proj, keys),
                (self.v_proj, values),
            )
        )
        attended = F.scaled_dot_product_attention(spread_queries(q), spread_keys(k), spread_keys(v))
        return self.out_proj(attended.transpose(1, 2).flatten(2))
