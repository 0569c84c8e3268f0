"""Building SAM 1's models by name, under upstream's names too."""

from __future__ import annotations

from pathlib import Path

from ..families import MODELS
from ..family import BuildOptions, Model
from .configs import IMAGE_SIZE
from .family import SAM1
from .model import Sam


def find_model(name: str) -> Model:
    """The row of MODELS with this name; ValueError that lists SAM 1's models if there is none."""
    known = {each: model for each, model in MODELS.items() if model.family == SAM1.name}
    if name not in known:
        raise ValueError(f"Unknown model '{name}'. Known: {', '.join(known)}.")
    return known[name]


def build_sam_model(
    name: str,
    *,
    image_size: int = IMAGE_SIZE,
    attention: str = "reference",
    checkpoint: str | Path | None = None,
    seed: int = 0,
) -> Sam:
    """Build a model of SAM 1 on the CPU, in float32 and evaluation mode.

    Args:
        name: A key of sam.families.MODELS.
        image_size: Pixels along the input's edge, a multiple of 16. At another size than the
            checkpoint's, positions are interpolated.
        attention: A key of sam.attention.ATTENTION.
        checkpoint: A file of weights; random weights without one.
        seed: Of the random weights.

    Raises:
        ValueError: If an argument is out of range or the file does not fit the model.
    """
    options = BuildOptions(
        image_size=image_size,
        attention=attention,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        seed=seed,
        models=MODELS,
    )
    sam: Sam = SAM1.build(find_model(name), options).model
    return sam


def build_sam_vit_h(checkpoint: str | Path | None = None) -> Sam:
    """SAM with ViT-H; random weights without a checkpoint."""
    return build_sam_model("vit_h", checkpoint=checkpoint)


def build_sam_vit_l(checkpoint: str | Path | None = None) -> Sam:
    """SAM with ViT-L; random weights without a checkpoint."""
    return build_sam_model("vit_l", checkpoint=checkpoint)


def build_sam_vit_b(checkpoint: str | Path | None = None) -> Sam:
    """SAM with ViT-B; random weights without a checkpoint."""
    return build_sam_model("vit_b", checkpoint=checkpoint)


build_sam = build_sam_vit_h

sam_model_registry = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
}
