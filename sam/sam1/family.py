"""SAM 1 as a family: a plain ViT with window attention, a prompt encoder and a mask decoder.

Nothing here imports torch until a function is called.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..attention.variants import ATTENTION, concrete_attention
from ..family import BuildOptions, Built, Family, Model, official_of
from .configs import PATCH_SIZE, PROMPT_EMBED_DIM, ModelConfig
from .pipelines import EverythingPipeline, PromptsPipeline
from .work import encoder_work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Tensor, nn

# 1,024 pixels do not fit into 8 or 11 bits of a coordinate's frequency.
COORDINATES = r"positional_encoding_gaussian_matrix$"
PIXEL_STATISTICS = r"pixel_(mean|std)$"
# With float32 positions the sum of all blocks stays float32 too: fp16 overflows in it, and in
# the squares of the layer norms. The neck's first convolution reads that sum as it is (0.2 % of the
# FLOPs). Other linear layers and attention run in fp16.
RESIDUAL_AND_NORMS = r"image_encoder\.(pos_embed|blocks\.\d+\.norm\d\..*|neck\.[013]\..*)$"
MLP = ("mlp.lin1", "mlp.lin2")
# In fp8 the MLP alone: an error of qkv, which the softmax magnifies, makes the embedding's 1.7
# times as large where relative positions are (ViT-B, 512 pixels: 0.138, not 0.083; bf16: 0.027).
EIGHT_BIT_LAYERS = {"fp8": MLP, "int8": ("attn.qkv", *MLP)}


def preload() -> None:
    from . import build, mask_generator, transforms, weights  # noqa: F401


def build(model: Model, options: BuildOptions) -> Built:
    """A Sam with random weights or those of a checkpoint."""
    from ..files.checkpoints import read_weights
    from .build import allocate_sam, fill_random
    from .weights import fit_state_dict

    device = "meta" if options.is_meta else "cpu"
    sam = allocate_sam(model.config, options.image_size, options.attention, device)
    if options.is_meta:
        return Built(sam, "none")
    if options.checkpoint is None:
        fill_random(sam, options.seed)
        return Built(sam, f"random, seed {options.seed}")
    found = read_weights(options.checkpoint, official_of(options.models))
    path, state_dict = options.checkpoint, found.state_dict
    sam.load_state_dict(fit_state_dict(path, state_dict, sam, model.name, options.models))
    notes = {"weights": "; ".join(found.notes)} if found.notes else {}
    return Built(sam, f"sha256:{found.sha256}", notes)


def resize(pixels: np.ndarray, image_size: int) -> Tensor:
    """(H, W, 3) uint8 to (3, H', W') uint8 whose longest side is image_size."""
    import torch

    from .transforms import ResizeLongestSide

    resized = ResizeLongestSide(image_size).apply_image(pixels)
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()


def preprocessor(image_size: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """From resized pixels to (3, S, S): normalised, and padded at the right and the bottom."""
    from ..pixels import normalise_and_pad, pixel_statistics

    mean, std = pixel_statistics(device)
    return partial(normalise_and_pad, side=image_size, mean=mean, std=std)


def image_encoder(sam: Any) -> nn.Module:
    encoder: nn.Module = sam.image_encoder
    return encoder


def embedding_shape(config: ModelConfig, batch_size: int, image_size: int) -> tuple[int, ...]:
    side = image_size // PATCH_SIZE
    return batch_size, PROMPT_EMBED_DIM, side, side


def export(encoder: Any, path: Path) -> None:
    from .onnx_export import export_encoder

    export_encoder(encoder, path)


SAM1 = Family(
    name="sam1",
    title="SAM 1",
    preload=preload,
    build=build,
    resize=resize,
    preprocessor=preprocessor,
    encoder=image_encoder,
    embedding_shape=embedding_shape,
    image_multiple=PATCH_SIZE,
    work=encoder_work,
    keep_float32=(COORDINATES, PIXEL_STATISTICS),
    keep_float32_in_fp16=(RESIDUAL_AND_NORMS,),
    eight_bit_layers=EIGHT_BIT_LAYERS,
    attention=ATTENTION,
    concrete_attention=concrete_attention,
    reference_attention="reference",
    export=export,
    prompts=PromptsPipeline(),
    mask_generator=EverythingPipeline(),
)
