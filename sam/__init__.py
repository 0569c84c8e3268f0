"""Models of the SAM family; Segment Anything itself, numerically equal to the published code.

The names below are loaded on first use, so that importing this package stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .families import FAMILIES, MODELS
    from .family import Family, Model
    from .sam1 import onnx_export
    from .sam1.mask_generator import SamAutomaticMaskGenerator
    from .sam1.model import Sam
    from .sam1.predictor import SamPredictor
    from .sam1.prompts import Prompts
    from .sam1.registry import (
        build_sam,
        build_sam_model,
        build_sam_vit_b,
        build_sam_vit_h,
        build_sam_vit_l,
        sam_model_registry,
    )
    from .sam1.transforms import ResizeLongestSide

__all__ = [
    "FAMILIES",
    "MODELS",
    "Family",
    "Model",
    "Prompts",
    "ResizeLongestSide",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_model",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "onnx_export",
    "sam_model_registry",
]

# The modules that hold the names; the registry holds the others.
_HOME = {
    "FAMILIES": "families",
    "MODELS": "families",
    "Family": "family",
    "Model": "family",
    "Prompts": "sam1.prompts",
    "ResizeLongestSide": "sam1.transforms",
    "Sam": "sam1.model",
    "SamAutomaticMaskGenerator": "sam1.mask_generator",
    "SamPredictor": "sam1.predictor",
    "onnx_export": "sam1",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'sam' has no attribute '{name}'")
    home = import_module(f"sam.{_HOME.get(name, 'sam1.registry')}")
    return (
        import_module(f"{home.__name__}.{name}") if name == "onnx_export" else getattr(home, name)
    )
