"""Meta's Segment Anything Model, numerically equal to the published implementation.

The names below are loaded on first use, so that `import sam.configs` stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .build import (
        build_sam,
        build_sam_vit_b,
        build_sam_vit_h,
        build_sam_vit_l,
        sam_model_registry,
    )
    from .mask_generator import SamAutomaticMaskGenerator
    from .model import Sam
    from .predictor import SamPredictor
    from .prompts import Prompts
    from .transforms import ResizeLongestSide

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
    return getattr(import_module(f"sam.{_HOME.get(name, 'build')}"), name)
