"""Cutting a token grid into attention windows, and joining it again.

Shapes: B images, H x W tokens, C channels.
"""

from __future__ import annotations

from torch import Tensor


def windows_along(length: int, side: int) -> int:
    """How many windows of `side` tokens cover `length` tokens."""
    return -(-length // side)


def pad_grid(tokens: Tensor, side: int, fill: Tensor | None) -> Tensor:
    """Pad a (B, H, W, C) grid right and bottom to whole windows with `fill` (C,), or zeros."""
    batch, height, width, channels = tokens.shape
    padded_height, padded_width = (windows_along(n, side) * side for n in (height, width))
    if (padded_height, padded_width) == (height, width):
        return tokens
    padded = tokens.new_empty(batch, padded_height, padded_width, channels)
    padded[:, :height, :width] = tokens
    padded[:, height:] = 0 if fill is None else fill
    padded[:, :height, width:] = 0 if fill is None else fill
    return padded


def partition_windows(tokens: Tensor, side: int, fill: Tensor | None = None) -> Tensor:
    """Cut a token grid into square windows, padding right and bottom.

    Args:
        tokens: (B, H, W, C).
        side: Tokens along a window's edge; 14 in all SAM models.
        fill: (C,), what a padded token holds; zeros if None.

    Returns:
        (B * windows, side, side, C), row by row within each image.

    Source: ViTDet (Li et al. 2022), section 3.
    """
    padded = pad_grid(tokens, side, fill)
    batch, height, width, channels = padded.shape
    grid = padded.view(batch, height // side, side, width // side, side, channels)
    return grid.transpose(2, 3).reshape(-1, side, side, channels)


def join_windows(windows: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Undo partition_windows and drop the padding.

    Args:
        windows: (B * windows, side, side, C).
        grid_size: (H, W) of the grid before it was cut.

    Returns:
        (B, H, W, C).
    """
    side, channels = windows.shape[1], windows.shape[3]
    rows, columns = (windows_along(length, side) for length in grid_size)
    grid = windows.view(-1, rows, columns, side, side, channels).transpose(2, 3)
    joined = grid.reshape(-1, rows * side, columns * side, channels)
    return joined[:, : grid_size[0], : grid_size[1]]
