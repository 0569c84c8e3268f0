"""Meta's Segment Anything Model, numerically equal to the published implementation.

The names below are loaded on first use, so that importing this package stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sam1.build import (
        build_sam,
        build_sam_vit_b,
        build_sam_vit_h,
        build_sam_vit_l,
        sam_model_registry,
    )
    from .sam1.mask_generator import SamAutomaticMaskGenerator
    from .sam1.model import Sam
    from .sam1.predictor import SamPredictor
    from .sam1.prompts import Prompts
    from .sam1.transforms import ResizeLongestSide

__all__ = [
    "Prompts",
    "ResizeLongestSide",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "sam_model_registry",
]

_HOME = {
    "Prompts": "prompts",
    "ResizeLongestSide": "transforms",
    "Sam": "model",
    "SamAutomaticMaskGenerator": "mask_generator",
    "SamPredictor": "predictor",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'sam' has no attribute '{name}'")
    return getattr(import_module(f"sam.sam1.{_HOME.get(name, 'build')}"), name)
