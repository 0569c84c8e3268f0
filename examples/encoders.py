"""Other people's image encoders, to hold SAM's against: each function makes one.

    sam-bench sweep -m vit_b --encoder examples.encoders:segment_anything_vit_b -b 1,2 -s 256

Any function of your own will do that returns a torch.nn.Module which takes (B, 3, H, W); one that
has a parameter `image_size` is given it. Weights are random here, which changes no time.
"""

from functools import partial

from torch import nn


def segment_anything_vit_b(image_size: int = 1024) -> nn.Module:
    """Upstream's own encoder, from the package segment-anything."""
    return segment_anything_encoder(768, 12, 12, (2, 5, 8, 11), image_size)


def segment_anything_vit_l(image_size: int = 1024) -> nn.Module:
    return segment_anything_encoder(1024, 24, 16, (5, 11, 17, 23), image_size)


def segment_anything_vit_h(image_size: int = 1024) -> nn.Module:
    return segment_anything_encoder(1280, 32, 16, (7, 15, 23, 31), image_size)


def segment_anything_encoder(
    width: int, depth: int, heads: int, global_blocks: tuple[int, ...], image_size: int
) -> nn.Module:
    from segment_anything.modeling import ImageEncoderViT

    return ImageEncoderViT(
        img_size=image_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        global_attn_indexes=global_blocks,
        window_size=14,
        use_rel_pos=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )


def torchvision_vit_b_16(image_size: int = 224) -> nn.Module:
    """A classifier of the same width and depth, whose attention is global in all blocks."""
    from torchvision.models import vit_b_16

    return vit_b_16(image_size=image_size)


def transformers_vit_b(image_size: int = 1024) -> nn.Module:
    """That of Hugging Face's SamModel, with torch's fused attention."""
    return transformers_encoder(768, 12, 12, (2, 5, 8, 11), image_size)


def transformers_vit_l(image_size: int = 1024) -> nn.Module:
    return transformers_encoder(1024, 24, 16, (5, 11, 17, 23), image_size)


def transformers_vit_h(image_size: int = 1024) -> nn.Module:
    return transformers_encoder(1280, 32, 16, (7, 15, 23, 31), image_size)


def transformers_encoder(
    width: int, depth: int, heads: int, global_blocks: tuple[int, ...], image_size: int
) -> nn.Module:
    from transformers import SamVisionConfig, SamVisionModel

    config = SamVisionConfig(
        image_size=image_size,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        global_attn_indexes=list(global_blocks),
        attn_implementation="sdpa",
    )
    return SamVisionModel(config).vision_encoder
