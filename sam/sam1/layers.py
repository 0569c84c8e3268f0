"""The small layers that several parts of SAM share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Layer normalisation that accepts a wider or narrower input than its weights."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens.to(self.weight.dtype))


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of a (B, C, H, W) tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, feature_map: Tensor) -> Tensor:
        channels_last = feature_map.to(self.weight.dtype).permute(0, 2, 3, 1)
        return super().forward(channels_last).permute(0, 3, 1, 2)


class MLPBlock(nn.Module):
    """Two linear layers with an activation between; the width of the input comes back."""

    def __init__(
        self, width: int, hidden: int, activation: Callable[[Tensor], Tensor] = F.gelu
    ) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.to(self.lin1.bias.dtype)
        return self.lin2(self.activation(self.lin1(tokens)))


class MLP(nn.Module):
    """Linear layers with ReLU between them; the decoder's prediction heads."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))

    def forward(self, tokens: Tensor) -> Tensor:
        *hidden_layers, last = self.layers
        for layer in hidden_layers:
            tokens = torch.relu(layer(tokens))
        return last(tokens)
