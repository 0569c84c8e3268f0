"""Sizes that all models of SAM 1 share, and the form of those in which they differ.

Nothing here imports torch, so that a command can list the models at once.
"""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_SIZE = 1024  # pixels along an edge; the size that the official weights were trained at
PATCH_SIZE = 16  # pixels along a patch's edge
WINDOW_SIDE = 14  # tokens along an attention window's edge
PROMPT_EMBED_DIM = 256  # channels of the image embedding and of every prompt embedding
MLP_RATIO = 4

OFFICIAL_URL = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class ModelConfig:
    """The size of the image encoder, in which SAM's models differ.

    Source: Segment Anything (Kirillov et al. 2023), appendix A, and ViTDet (Li et al. 2022).
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads


def check_image_size(image_size: int) -> int:
    """Return image_size, or raise ValueError where the encoder can't take it."""
    if image_size < PATCH_SIZE or image_size % PATCH_SIZE:
        raise ValueError(
            f"image_size must be a positive multiple of the patch size {PATCH_SIZE}, "
            f"got {image_size}."
        )
    return image_size
