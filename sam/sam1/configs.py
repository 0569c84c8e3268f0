"""Which SAM models exist: their sizes, and the files that hold their official weights.

Torch is not imported here, so that a command can list the models at once.
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
class OfficialCheckpoint:
    """A file published by Meta with a model's trained weights."""

    filename: str
    size_bytes: int
    sha256: str

    @property
    def url(self) -> str:
        return OFFICIAL_URL + self.filename


@dataclass(frozen=True)
class ModelConfig:
    """What tells one SAM model from another: the size of its image encoder.

    Source: Segment Anything (Kirillov et al. 2023), appendix A, and ViTDet (Li et al. 2022).
    """

    name: str
    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    summary: str
    checkpoint: OfficialCheckpoint | None = None

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


MODELS: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        ModelConfig(
            "tiny",
            64,
            4,
            2,
            (1, 3),
            "SAM with a tiny encoder, 5 M parameters: for tests",
        ),
        ModelConfig(
            "vit_b",
            768,
            12,
            12,
            (2, 5, 8, 11),
            "SAM with ViT-B, 94 M parameters",
            OfficialCheckpoint(
                "sam_vit_b_01ec64.pth",
                375_042_383,
                "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            ),
        ),
        ModelConfig(
            "vit_l",
            1024,
            24,
            16,
            (5, 11, 17, 23),
            "SAM with ViT-L, 312 M parameters",
            OfficialCheckpoint(
                "sam_vit_l_0b3195.pth",
                1_249_524_607,
                "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            ),
        ),
        ModelConfig(
            "vit_h",
            1280,
            32,
            16,
            (7, 15, 23, 31),
            "SAM with ViT-H, 641 M parameters",
            OfficialCheckpoint(
                "sam_vit_h_4b8939.pth",
                2_564_550_879,
                "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            ),
        ),
    )
}
