"""What the image encoder has to do at least, from its shapes alone: FLOPs and bytes by module.

Shapes: B images, g tokens along the grid's edge, L = g * g, C channels, S tokens along a window.
Nothing here imports torch, so that a limit can be computed at once.
"""

from __future__ import annotations

from ..attention.attend import folded_columns
from ..attention.variants import ATTENTION, AttentionVariant, split_attention
from ..work import FLOAT32, Formats, ModuleWork, together
from .configs import MLP_RATIO, PATCH_SIZE, PROMPT_EMBED_DIM, WINDOW_SIDE, ModelConfig

PATCH_PIXELS = 3 * PATCH_SIZE**2  # numbers in a patch
LEAST = ATTENTION["sdpa"]  # an exact variant whose linear layers see no padding


def encoder_work(
    config: ModelConfig, image_size: int, attention: str, formats: Formats = FLOAT32
) -> dict[str, ModuleWork]:
    """The work of the encoder (""), its modules, and the parts of each block, by name.

    Args:
        config: Width, depth and heads.
        image_size: Pixels along an edge.
        attention: A key of ATTENTION, or two joined; `auto` counts as sdpa does.
        formats: Bytes of the numbers.
    """
    length, width = (image_size // PATCH_SIZE) ** 2, config.embed_dim
    weight, residual = formats.weight, formats.residual
    patch_flops = 2 * length * width * PATCH_PIXELS
    patch_bytes = (PATCH_PIXELS * width + width) * weight
    image_bytes = length * (PATCH_PIXELS + width) * weight
    works = {"patch_embed": ModuleWork(patch_flops, patch_flops, patch_bytes, image_bytes)}
    for index in range(config.depth):
        is_global = index in config.global_blocks
        variant = ATTENTION[split_attention(attention)[is_global]]
        parts = block_parts(config, is_global, image_size, variant, formats)
        works[f"blocks.{index}"] = together(parts.values(), 2 * length * width * residual)
        works |= {f"blocks.{index}.{name}": part for name, part in parts.items()}
    works["neck"] = neck_work(length, width, formats)
    outer = [work for name, work in works.items() if name.count(".") < 2]
    pixels_and_embeddings = (3 * image_size**2 + PROMPT_EMBED_DIM * length) * weight
    whole = together(outer, pixels_and_embeddings, more_weights=length * width * residual)
    return {"": whole} | works


def block_parts(
    config: ModelConfig,
    is_global: bool,
    image_size: int,
    variant: AttentionVariant,
    formats: Formats,
) -> dict[str, ModuleWork]:
    """norm1, attn, norm2 and mlp of one block."""
    grid, width = image_size // PATCH_SIZE, config.embed_dim
    length, hidden = grid**2, MLP_RATIO * width
    weight, residual = formats.weight, formats.residual
    norm = ModuleWork(0, 0, 2 * width * residual, 2 * length * width * residual)
    mlp_flops = 4 * length * width * hidden
    in_and_out = length * width * (residual + weight)
    side = grid if is_global else WINDOW_SIDE
    linear = formats.linear
    attention_bytes = linear("attn.qkv", width, 3 * width) + linear("attn.proj", width, width)
    attention_bytes += 2 * (2 * side - 1) * config.head_dim * weight
    mlp_bytes = linear("mlp.lin1", width, hidden) + linear("mlp.lin2", hidden, width)
    flops, least = (attention_flops(config, grid, side, each) for each in (variant, LEAST))
    return {
        "norm1": norm,
        "attn": ModuleWork(flops, least, attention_bytes, in_and_out),
        "norm2": norm,
        "mlp": ModuleWork(mlp_flops, mlp_flops, mlp_bytes, in_and_out),
    }


def attention_flops(config: ModelConfig, grid: int, side: int, variant: AttentionVariant) -> int:
    """Linear layers, the products of attention, and the bias by key row and column."""
    width = config.embed_dim
    windows = (-(-grid // side)) ** 2  # rounded up
    padded = windows * side**2
    columns = folded_columns(side) if variant.is_folded else side
    flops = 8 * width**2 * (padded if variant.padding == "tokens" else grid**2)
    flops += 4 * padded * side**2 * width + 4 * padded * columns * width
    if variant.is_folded:  # the bias's columns are part of queries and keys
        flops += 4 * padded * side**2 * columns * config.num_heads
    return flops


def neck_work(length: int, width: int, formats: Formats) -> ModuleWork:
    """Convolutions of 1 x 1 and 3 x 3, each with a layer norm."""
    outputs = PROMPT_EMBED_DIM
    flops = 2 * length * outputs * (width + 9 * outputs)
    weight_bytes = (width + 4) * outputs * formats.residual + 9 * outputs**2 * formats.weight
    image_bytes = length * (width * formats.residual + outputs * formats.weight)
    return ModuleWork(flops, flops, weight_bytes, image_bytes)
