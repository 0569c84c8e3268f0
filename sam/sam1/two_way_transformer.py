"""The mask decoder's transformer: prompt tokens attend to the image, and the image to them.

An image has many tokens (4,096), a prompt few (7), so projections of image tokens are saved. In the
first layer they are computed once an image, however many prompts it has. In later layers, where
each prompt has an image of its own, the prompt's tokens take the weights on instead: "folded".

Shapes: I images, P prompts over all of them, T tokens a prompt, L image tokens, C channels,
N heads, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import MLPBlock

Spread = Callable[[Tensor], Tensor]


def unchanged(tensor: Tensor) -> Tensor:
    """Spreads nothing: each prompt has an image of its own."""
    return tensor


@dataclass(frozen=True)
class ProjectedImage:
    """Image tokens, and what the first layer's attentions read from them."""

    tokens: Tensor  # (I, L, C)
    k: Tensor  # (I, N, L, D), and so are v and q
    v: Tensor
    q: Tensor

    def of_prompts(self, spread: Spread) -> ProjectedImage:
        """(I, ...) to (P, ...)."""
        return ProjectedImage(*map(spread, (self.tokens, self.k, self.v, self.q)))


class TwoWayTransformer(nn.Module):
    """Layers of two-way attention, then a last look of the tokens at the image."""

    def __init__(self, depth: int, width: int, heads: int, mlp_hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(width, heads, mlp_hidden, is_first=index == 0)
            for index in range(depth)
        )
        self.final_attn_token_to_image = TokenToImageAttention(width, width // 2, heads)
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
        return self.attend(self.project(image, image_pe).of_prompts(spread), image_pe, tokens)

    def project(self, image: Tensor, image_pe: Tensor) -> ProjectedImage:
        """What depends on the image alone; arguments as in forward."""
        first = self.layers[0]
        assert isinstance(first, TwoWayAttentionBlock)
        return first.project(image, image + image_pe)

    def attend(
        self, projected: ProjectedImage, image_pe: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As forward, for an image that is projected and lined up with the prompts."""
        token_pe, image = tokens, projected.tokens
        for layer in self.layers:
            own = projected if layer.is_first else None
            tokens, image = layer(tokens, image, token_pe, image_pe, own)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + attended), image


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, an MLP, image to tokens."""

    def __init__(self, width: int, heads: int, mlp_hidden: int, is_first: bool) -> None:
        super().__init__()
        self.self_attn = ProjectedAttention(width, width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = TokenToImageAttention(width, width // 2, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLPBlock(width, mlp_hidden, activation=F.relu)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = ImageToTokenAttention(width, width // 2, heads)
        self.is_first = is_first

    def project(self, image: Tensor, image_placed: Tensor) -> ProjectedImage:
        """(I, L, C) without and with positions, for the first layer."""
        to_image, to_tokens = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        return ProjectedImage(
            image,
            to_image.split_heads(to_image.k_proj(image_placed)),
            to_image.split_heads(to_image.v_proj(image)),
            to_tokens.split_heads(to_tokens.q_proj(image_placed)),
        )

    def forward(
        self,
        tokens: Tensor,
        image: Tensor,
        token_pe: Tensor,
        image_pe: Tensor,
        projected: ProjectedImage | None,
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in TwoWayTransformer.forward; the first layer needs the projected image."""
        if self.is_first:  # the tokens still are their own encoding: nothing to add them to
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            placed = tokens + token_pe
            tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens))

        to_image, to_tokens = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        if projected is None:
            image_placed = image + image_pe
            attended = to_image(tokens + token_pe, image_placed, image)
        else:
            attended = to_image.attend(tokens + token_pe, projected.k, projected.v)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        if projected is None:
            attended = to_tokens(image_placed, tokens + token_pe, tokens)
        else:
            attended = to_tokens.attend(projected.q, tokens + token_pe, tokens)
        # In place, for more of it stays in the caches: 26 instead of 33 ms a prompt on one core.
        return tokens, self.norm4(attended.add_(image))


class ProjectedAttention(nn.Module):
    """Multi-head attention that may project to fewer channels than it reads."""

    def __init__(self, width: int, inner_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner_width)
        self.k_proj = nn.Linear(width, inner_width)
        self.v_proj = nn.Linear(width, inner_width)
        self.out_proj = nn.Linear(inner_width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(P, Q, C), (P, K, C), (P, K, C) to (P, Q, C)."""
        q = self.split_heads(self.q_proj(queries))
        k, v = self.split_heads(self.k_proj(keys)), self.split_heads(self.v_proj(values))
        return self._join(F.scaled_dot_product_attention(q, k, v))

    def split_heads(self, projected: Tensor) -> Tensor:
        """(P, Q, N D) to (P, N, Q, D)."""
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _join(self, attended: Tensor) -> Tensor:
        """(P, N, Q, D) to (P, Q, C)."""
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _weight(self, projection: nn.Linear) -> Tensor:
        """(N, D, C), the rows of each head."""
        return projection.weight.unflatten(0, (self.heads, -1))

    def _are_few(self, tokens: Tensor) -> bool:
        """Whether all heads' tokens together are fewer than the channels they would spare."""
        if torch.compiler.is_exporting():  # the graph serves any number of tokens
            return False
        return self.heads * tokens.shape[1] < self.q_proj.out_features


class TokenToImageAttention(ProjectedAttention):
    """The tokens of a prompt attend to the image."""

    def forward(self, tokens: Tensor, image_placed: Tensor, image: Tensor) -> Tensor:
        """(P, T, C), (P, L, C), (P, L, C) to (P, T, C); both first ones with their positions."""
        if not self._are_few(tokens):
            return super().forward(tokens, image_placed, image)
        # q (W x + b) = (q W) x + q b, and softmax ignores q b: it is the same for all x.
        q = self.split_heads(self.q_proj(tokens))
        folded = q @ self._weight(self.k_proj)  # (P, N, T, C)
        seen = F.scaled_dot_product_attention(  # all heads' queries, as if of a single head
            folded.flatten(1, 2).unsqueeze(1),
            image_placed.unsqueeze(1),
            image.unsqueeze(1),
            scale=q.shape[-1] ** -0.5,
        )
        # A mean of projected values is the mean, projected.
        values = seen.reshape(folded.shape) @ self._weight(self.v_proj).mT  # (P, N, T, D)
        return self._join(values + self.v_proj.bias.unflatten(0, (self.heads, 1, -1)))

    def attend(self, tokens: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(P, T, C) to (P, T, C), with the image's keys and values (P, N, L, D)."""
        q = self.split_heads(self.q_proj(tokens))
        return self._join(F.scaled_dot_product_attention(q, k, v))


class ImageToTokenAttention(ProjectedAttention):
    """The image attends to the tokens of a prompt."""

    def forward(self, image_placed: Tensor, tokens_placed: Tensor, tokens: Tensor) -> Tensor:
        """(P, L, C), (P, T, C), (P, T, C) to (P, L, C); both first ones with their positions."""
        if not self._are_few(tokens):
            return super().forward(image_placed, tokens_placed, tokens)
        k = self.split_heads(self.k_proj(tokens_placed))
        folded = (k @ self._weight(self.q_proj)).flatten(1, 2)  # k (W x + b) = (k W) x + k b
        of_bias = k @ self.q_proj.bias.unflatten(0, (self.heads, -1, 1))  # (P, N, T, 1)
        scores = (folded @ image_placed.mT).unflatten(1, k.shape[1:3]) + of_bias
        return self._mix(scores, tokens)

    def attend(self, q: Tensor, tokens_placed: Tensor, tokens: Tensor) -> Tensor:
        """As forward, with the image's queries (P, N, L, D)."""
        k = self.split_heads(self.k_proj(tokens_placed))
        if self._are_few(tokens):
            return self._mix(k @ q.mT, tokens)
        v = self.split_heads(self.v_proj(tokens))
        return self._join(F.scaled_dot_product_attention(q, k, v))

    def _mix(self, scores: Tensor, tokens: Tensor) -> Tensor:
        """(P, N, T, L) unscaled scores and (P, T, C) to (P, L, C).

        The values are projected to the full width before the image reads them, so that one product
        serves all heads. A head's weights sum to 1: its values carry its share of the bias.
        """
        v = self.split_heads(self.v_proj(tokens))
        weights = (scores * v.shape[-1] ** -0.5).softmax(dim=2)
        by_head = self.out_proj.weight.T.unflatten(0, (self.heads, -1))  # (N, D, C)
        values = v @ by_head + self.out_proj.bias / self.heads  # (P, N, T, C)
        return weights.flatten(1, 2).mT @ values.flatten(1, 2)
