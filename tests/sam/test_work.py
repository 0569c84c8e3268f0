"""The encoder's work by its shapes: what torch counts in the true modules, and what papers say."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import sam
from sam.attention.variants import ATTENTION
from sam.families import MODELS
from sam.quantise import EIGHT_BITS, quantise_linears
from sam.sam1.family import EIGHT_BIT_LAYERS
from sam.sam1.image_encoder import ImageEncoderViT
from sam.sam1.work import encoder_work
from sam.work import Formats

LARGE = ("vit_b", "vit_l", "vit_h")
# Grids of 1 and 4 (within a window), 14 and 28 (whole windows), 15, 20 and 64 (padded ones).
TINY_SIZES = (16, 64, 224, 240, 320, 448, 1024)
ENCODERS = [*((model, 1024) for model in LARGE), *(("tiny", size) for size in TINY_SIZES)]
PARTS = ("norm1", "attn", "norm2", "mlp")
MAC = 2e9  # FLOPs of a GMAC


@functools.cache
def work_of(model, image_size=1024, attention="reference"):
    return encoder_work(MODELS[model].config, image_size, attention)


def build_on_meta(model, image_size, attention):
    with torch.device("meta"):
        return ImageEncoderViT(MODELS[model].config, image_size, attention)


@functools.cache
def counted_flops(model, image_size, attention):
    """FLOPs of one image by torch's counter, by module; one that has none is left out."""
    encoder = build_on_meta(model, image_size, attention)
    with FlopCounterMode(display=False) as counter:
        encoder(torch.empty(1, 3, image_size, image_size, device="meta"))
    counts = counter.get_flop_counts()
    root = type(encoder).__name__
    return {
        name.removeprefix(root).removeprefix("."): sum(by_operation.values())
        for name, by_operation in counts.items()
        if name != "Global"
    }


# FLOPs


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(("model", "image_size"), ENCODERS)
def test_flops_of_every_module_are_those_that_torch_counts(model, image_size, attention):
    counted = counted_flops(model, image_size, attention)
    works = work_of(model, image_size, attention)

    assert {name: work.flops for name, work in works.items()} == {
        name: counted.get(name, 0) for name in works
    }


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(("model", "image_size"), ENCODERS)
def test_nothing_that_torch_counts_lies_outside_the_parts(model, image_size, attention):
    works = work_of(model, image_size, attention)
    outer = [name for name in works if name.startswith(("patch_embed", "neck")) or "." in name]
    innermost = [name for name in outer if f"{name}.mlp" not in works]

    assert (
        sum(works[name].flops for name in innermost)
        == (counted_flops(model, image_size, attention)[""])
    )


@pytest.mark.parametrize("model", MODELS)
def test_every_module_of_the_encoder_has_its_work(model):
    blocks = [f"blocks.{index}" for index in range(MODELS[model].config.depth)]
    parts = [f"{block}.{part}" for block in blocks for part in PARTS]

    assert sorted(work_of(model)) == sorted(["", "patch_embed", *blocks, *parts, "neck"])


@pytest.mark.parametrize("model", MODELS)
def test_every_module_that_has_work_is_one_of_the_encoder(model):
    encoder = build_on_meta(model, 1024, "reference")

    assert set(work_of(model)) <= {name for name, _ in encoder.named_modules()}


@pytest.mark.parametrize(
    ("model", "attention", "gmac"),
    [
        ("vit_b", "reference", 486.04),
        ("vit_l", "reference", 1492.84),
        ("vit_h", "reference", 2980.54),
        ("vit_b", "sdpa", 470.86),
        ("vit_l", "sdpa", 1425.40),
        ("vit_h", "sdpa", 2833.01),
    ],
)
def test_an_image_costs_the_published_number_of_products(model, attention, gmac):
    assert round(work_of(model, attention=attention)[""].flops / MAC, 2) == gmac


@pytest.mark.parametrize(("model", "percent"), [("vit_b", 48), ("vit_l", 55), ("vit_h", 58)])
def test_the_mlps_have_about_half_of_the_flops(model, percent):
    works = work_of(model)
    mlps = sum(work.flops for name, work in works.items() if name.endswith(".mlp"))

    assert round(100 * mlps / works[""].flops) == percent


@pytest.mark.parametrize(("model", "percent"), [("vit_b", 21), ("vit_l", 9), ("vit_h", 6)])
def test_products_of_global_attention_are_a_smaller_share_of_a_larger_model(model, percent):
    works, config = work_of(model), MODELS[model].config
    tokens, width, side = 64**2, config.embed_dim, 64
    linear, bias = 8 * tokens * width**2, 4 * tokens * side * width
    products = sum(
        works[f"blocks.{index}.attn"].flops - linear - bias for index in config.global_blocks
    )

    assert round(100 * products / works[""].flops) == percent


# Padding


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(("model", "image_size"), ENCODERS)
def test_the_least_flops_are_those_of_the_attention_that_pads_with_the_bias(
    model, image_size, attention
):
    works = work_of(model, image_size, attention)
    counted = counted_flops(model, image_size, "sdpa")

    assert {name: work.least_flops for name, work in works.items()} == {
        name: counted.get(name, 0) for name in works
    }


@pytest.mark.parametrize("image_size", TINY_SIZES)
def test_flops_are_wasted_only_where_windows_are_padded(image_size):
    works = work_of("tiny", image_size)
    wasting = [name for name, work in works.items() if work.flops > work.least_flops]
    is_padded = (image_size // 16) % 14 > 0

    assert wasting == is_padded * ["", "blocks.0", "blocks.0.attn", "blocks.2", "blocks.2.attn"]


# Bytes


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("vit_b", 89_670_912), ("vit_l", 308_278_272), ("vit_h", 637_026_048)],
)
def test_the_weights_are_all_parameters_of_the_encoder(model, parameters):
    assert work_of(model)[""].weight_bytes == 4 * parameters


@pytest.mark.parametrize(("model", "image_size"), ENCODERS)
def test_the_weights_of_every_module_are_its_parameters(model, image_size):
    encoder = build_on_meta(model, image_size, "reference")

    assert {name: work.weight_bytes for name, work in work_of(model, image_size).items()} == {
        name: sum(weight.nbytes for weight in encoder.get_submodule(name).parameters())
        for name in work_of(model, image_size)
    }


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("model", MODELS)
def test_weights_are_read_once_for_all_images_of_a_batch(model, batch_size):
    one, two, batch = (
        {name: work.least_bytes(size) for name, work in work_of(model).items()}
        for size in (1, 2, batch_size)
    )

    assert batch == {name: one[name] + (batch_size - 1) * (two[name] - one[name]) for name in one}
    assert all(two[name] < 2 * one[name] for name in one)


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_least_bytes_are_those_of_any_attention(attention):
    works, reference = work_of("vit_b", attention=attention), work_of("vit_b")

    assert [work.least_bytes(2) for work in works.values()] == [
        work.least_bytes(2) for work in reference.values()
    ]


@pytest.mark.parametrize("model", MODELS)
def test_numbers_of_half_the_bytes_are_half_the_bytes(model):
    halves = encoder_work(MODELS[model].config, 1024, "reference", Formats(weight=2, residual=2))
    whole = work_of(model)

    assert {name: 2 * work.least_bytes(3) for name, work in halves.items()} == {
        name: work.least_bytes(3) for name, work in whole.items()
    }


@pytest.mark.parametrize("attention", ATTENTION)
def test_formats_change_no_flops(attention):
    mixed, plain = (
        encoder_work(MODELS["tiny"].config, 1024, attention, formats)
        for formats in (Formats(weight=2, residual=4), Formats())
    )

    assert [work.flops for work in mixed.values()] == [work.flops for work in plain.values()]


@pytest.mark.parametrize("bits", EIGHT_BITS)
@pytest.mark.parametrize(("model", "image_size"), [("tiny", 64), ("tiny", 240), ("vit_b", 1024)])
def test_weights_of_eight_bits_are_the_bytes_of_the_true_modules(model, image_size, bits):
    encoder = build_on_meta(model, image_size, "reference")
    quantise_linears(encoder, bits, EIGHT_BIT_LAYERS[bits])
    for name, weight in (*encoder.named_parameters(), *encoder.named_buffers()):
        if weight.element_size() > 1 and not name.endswith("weight_scale"):
            weight.data = weight.data.bfloat16()
    formats = Formats(weight=2, residual=2, eight_bits=EIGHT_BIT_LAYERS[bits])
    works = encoder_work(MODELS[model].config, image_size, "reference", formats)

    def true_bytes(module):
        return sum(weight.nbytes for weight in (*module.parameters(), *module.buffers()))

    assert {name: work.weight_bytes for name, work in works.items()} == {
        name: true_bytes(encoder.get_submodule(name)) for name in works
    }


@pytest.mark.parametrize("bits", EIGHT_BITS)
@pytest.mark.parametrize("model", MODELS)
def test_eight_bits_change_neither_flops_nor_what_an_image_moves(model, bits):
    layers = EIGHT_BIT_LAYERS[bits]
    eight, half = (
        encoder_work(MODELS[model].config, 1024, "reference", formats)
        for formats in (Formats(2, 2, layers), Formats(2, 2))
    )

    for name, work in half.items():
        assert replace(eight[name], weight_bytes=work.weight_bytes) == work


@pytest.mark.parametrize("layer", ["attn.qkv", "mlp.lin1", "mlp.lin2"])
def test_a_layer_in_eight_bits_has_a_byte_a_weight_a_scale_and_a_bias_a_row(layer):
    formats = Formats(weight=2, residual=2, eight_bits=(layer,))

    assert formats.linear(layer, 100, 10) == 100 * 10 + 4 * 10 + 2 * 10
    assert formats.linear("attn.proj", 100, 10) == 2 * (100 * 10 + 10)


def test_a_limit_can_be_told_without_torch():
    code = (
        "import sys; from sam.families import MODELS; from sam.sam1.work import encoder_work; "
        "encoder_work(MODELS['vit_b'].config, 1024, 'reference'); sys.exit('torch' in sys.modules)"
    )
    folder = Path(sam.__file__).parents[1]

    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0
