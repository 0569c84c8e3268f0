"""Which modules of an encoder are timed, ours and others, and what a person groups each with."""

from __future__ import annotations

from functools import partial

import pytest
import segment_anything.modeling as upstream
import torch
from torch import nn
from torchvision.models import alexnet, convnext_tiny, resnet18, swin_t, vit_b_16

from benchmarking.choices.modules import find_modules
from benchmarking.measuring.passes.modules import containing
from results.records.measurement import ENCODER
from sam.families import MODELS
from sam.sam1.build import allocate_sam

PARTS = ("norm1", "attn", "norm2", "mlp")


def ours(model="tiny", image_size=64):
    return allocate_sam(MODELS[model].config, image_size, device="meta").image_encoder


def upstreams(model="tiny", image_size=64):
    config = MODELS[model].config
    return upstream.ImageEncoderViT(
        img_size=image_size, embed_dim=config.embed_dim, depth=config.depth,
        num_heads=config.num_heads, norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True,
        window_size=14, global_attn_indexes=config.global_blocks,
    )  # fmt: skip


def plain_cnn():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))


ENCODERS = {
    "ours": ours,
    "upstream's": upstreams,
    "vit_b_16": vit_b_16,
    "swin_t": swin_t,
    "convnext_tiny": convnext_tiny,
    "resnet18": resnet18,
    "alexnet": alexnet,
    "plain": plain_cnn,
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    with torch.device("meta"):
        return ENCODERS[request.param]()


def kinds(encoder, *arguments):
    return {name: timed.kind for name, timed in find_modules(encoder, *arguments).items()}


# Any encoder


@pytest.mark.parametrize("depth", [1, 2])
def test_the_encoder_itself_comes_first(encoder, depth):
    name, timed = next(iter(find_modules(encoder, depth).items()))

    assert (name, timed.kind) == (ENCODER, "encoder")
    assert timed.module is encoder


@pytest.mark.parametrize("depth", [1, 2])
def test_a_name_is_that_of_the_module(encoder, depth):
    found = find_modules(encoder, depth)
    del found[ENCODER]

    assert found
    assert all(encoder.get_submodule(name) is timed.module for name, timed in found.items())


@pytest.mark.parametrize("depth", [1, 2])
def test_no_module_is_timed_twice(encoder, depth):
    modules = [timed.module for timed in find_modules(encoder, depth).values()]

    assert len({id(module) for module in modules}) == len(modules)


def test_no_module_lies_within_another_but_for_the_encoder(encoder):
    names = [name for name in find_modules(encoder) if name != ENCODER]

    assert [a for a in names for b in names if a.startswith(f"{b}.")] == []


def test_only_parts_of_blocks_lie_one_level_deeper(encoder):
    outer, all_modules = find_modules(encoder), find_modules(encoder, depth=2)
    deeper = [name for name in all_modules if name not in outer]

    assert {name: all_modules[name] for name in outer} == outer
    assert [name for name in deeper if name.rpartition(".")[0] not in outer] == []


def test_modules_are_in_the_order_of_the_encoder(encoder):
    order = [name for name, _ in encoder.named_modules()]
    places = [order.index(name) for name in find_modules(encoder, depth=2) if name != ENCODER]

    assert places == sorted(places)


def test_nearly_all_weights_lie_in_timed_modules(encoder):
    found = find_modules(encoder)
    whole = sum(weight.numel() for weight in found.pop(ENCODER).module.parameters())
    timed = [weight for each in found.values() for weight in each.module.parameters()]

    assert sum(weight.numel() for weight in timed) > 0.95 * whole


# SAM's


@pytest.mark.parametrize("make", [ours, upstreams])
@pytest.mark.parametrize("model", MODELS)
def test_sams_encoder_is_its_patch_embedding_blocks_and_neck(make, model):
    with torch.device("meta"):
        encoder = make(model)
    config = MODELS[model].config
    blocks = {
        f"blocks.{index}": "global" if index in config.global_blocks else "window"
        for index in range(config.depth)
    }

    assert kinds(encoder) == {
        ENCODER: "encoder", "patch_embed": "patch_embed", **blocks, "neck": "neck"
    }  # fmt: skip


@pytest.mark.parametrize("make", [ours, upstreams])
def test_attention_is_told_apart_by_its_block(make):
    with torch.device("meta"):
        found = kinds(make(), 2)

    assert [found[f"blocks.0.{part}"] for part in PARTS] == [
        "norm", "window attention", "norm", "mlp"
    ]  # fmt: skip
    assert [found[f"blocks.1.{part}"] for part in PARTS] == [
        "norm", "global attention", "norm", "mlp"
    ]  # fmt: skip


@pytest.mark.parametrize("make", [ours, upstreams])
def test_all_parts_of_sams_blocks_are_timed(make):
    with torch.device("meta"):
        found = find_modules(make(), depth=2)
    parts = [f"blocks.{index}.{part}" for index in range(4) for part in PARTS]

    assert [name for name in found if name.count(".") == 2] == parts


# Others


def test_a_vision_transformer_of_torchvision_is_its_blocks_and_what_is_around():
    with torch.device("meta"):
        found = kinds(vit_b_16())
    blocks = {f"encoder.layers.encoder_layer_{index}": "block" for index in range(12)}

    assert found == {
        ENCODER: "encoder", "conv_proj": "conv_proj", **blocks, "heads": "heads"
    }  # fmt: skip


def test_parts_of_torchvisions_blocks_are_of_the_kinds_of_ours():
    with torch.device("meta"):
        found = kinds(vit_b_16(), 2)
    block = "encoder.layers.encoder_layer_7"
    parts = {name: kind for name, kind in found.items() if name.startswith(f"{block}.")}

    assert parts == {
        f"{block}.ln_1": "norm", f"{block}.self_attention": "attention", f"{block}.ln_2": "norm",
        f"{block}.mlp": "mlp",
    }  # fmt: skip


def test_a_part_without_parameters_is_not_timed():
    block = nn.ModuleDict({"norm": nn.LayerNorm(4), "drop_path": nn.Dropout(), "act": nn.GELU()})
    encoder = nn.ModuleDict({"blocks": nn.ModuleList([block])})

    assert kinds(encoder, 2) == {ENCODER: "encoder", "blocks.0": "block", "blocks.0.norm": "norm"}


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("attn", "attention"),
        ("attention", "attention"),
        ("self_attn", "attention"),
        ("norm", "norm"),
        ("norm2", "norm"),
        ("layer_norm1", "norm"),
        ("layernorm_before", "norm"),
        ("ln_2", "norm"),
        ("mlp", "mlp"),
        ("ffn", "mlp"),
        ("ls1", "ls1"),
    ],
)
def test_a_part_is_of_the_kind_that_its_name_says(part, kind):
    encoder = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({part: nn.Linear(1, 1)})])})

    assert kinds(encoder, 2)[f"layers.0.{part}"] == kind


@pytest.mark.parametrize("path", ["blocks.0", "layer.0", "trunk.blocks.0", "encoder.layers.0"])
def test_a_block_is_found_by_the_names_that_libraries_give_it(path):
    outer, _, last = path.rpartition(".")
    encoder = nn.ModuleDict({last: nn.Linear(1, 1)})
    for name in reversed(outer.split(".")):
        encoder = nn.ModuleDict({name: encoder})

    assert kinds(encoder) == {ENCODER: "encoder", path: "block"}


@pytest.mark.parametrize(
    ("size", "kind"), [(14, "window"), (0, "global"), (None, "block"), ((7, 7), "block")]
)
def test_a_block_says_itself_whether_it_has_windows(size, kind):
    block = nn.Linear(1, 1)
    block.window_size = size

    assert kinds(nn.ModuleDict({"blocks": nn.ModuleList([block])}))["blocks.0"] == kind


def test_an_encoder_without_a_known_name_is_its_children():
    assert kinds(plain_cnn()) == {ENCODER: "encoder", "0": "0", "1": "1", "2": "2"}


def test_an_encoder_without_blocks_is_its_children_also_where_its_last_layer_has_a_known_name():
    encoder = nn.Sequential()
    for name in ("features", "pool", "head"):
        encoder.add_module(name, nn.Linear(1, 1))

    assert list(kinds(encoder)) == [ENCODER, "features", "pool", "head"]


def test_an_encoder_of_one_piece_is_timed_as_a_whole():
    assert kinds(nn.Linear(1, 1)) == {ENCODER: "encoder"}


# A pattern


def test_a_pattern_names_the_modules_instead():
    found = kinds(ours(), 1, r"blocks\.\d+\.(attn|mlp)|neck\.0")
    parts = [f"blocks.{index}.{part}" for index in range(4) for part in ("attn", "mlp")]

    assert list(found) == [ENCODER, *parts, "neck.0"]


@pytest.mark.parametrize("pattern", ["attn", "block", r"blocks\.\d+\.att"])
def test_a_pattern_must_match_a_whole_name(pattern, refusal):
    assert "matches none of ImageEncoderViT" in refusal(find_modules, ours(), 1, pattern)


def test_of_modules_that_match_within_each_other_the_outermost_are_timed():
    assert list(kinds(ours(), 1, r"blocks\..*")) == [ENCODER, *(f"blocks.{i}" for i in range(4))]


def test_names_that_begin_alike_are_not_within_each_other():
    encoder = nn.ModuleDict({"stage": nn.Linear(1, 1), "stage2": nn.Linear(1, 1)})

    assert list(kinds(encoder, 1, "stage2?")) == [ENCODER, "stage", "stage2"]


def test_a_pattern_that_matches_nothing_is_refused_with_the_largest_names(refusal):
    assert refusal(find_modules, ours(), 1, "layer") == (
        "--module-pattern must match a module's name, and 'layer' matches none of "
        "ImageEncoderViT: its largest are patch_embed, blocks, neck."
    )


def test_a_pattern_for_a_module_without_any_other_is_refused(refusal):
    assert refusal(find_modules, nn.Linear(1, 1), 1, "x").endswith("its largest are none.")


def test_a_pattern_finds_parts_of_blocks_that_match_at_depth_2():
    found = kinds(ours(), 2, r"blocks\.1")

    assert list(found) == [ENCODER, "blocks.1", *(f"blocks.1.{part}" for part in PARTS)]


# Which module contains which


def test_a_module_is_in_the_smallest_timed_one_that_contains_it():
    inner = nn.Linear(2, 2)
    block = nn.Sequential(nn.Sequential(inner), nn.GELU())
    encoder = nn.Sequential(nn.Linear(2, 2), block)
    modules = {ENCODER: encoder, "first": encoder[0], "block": block, "any name": inner}

    assert containing(modules) == {
        ENCODER: None, "first": ENCODER, "block": ENCODER, "any name": "block",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["image_encoder", "the encoder"])
def test_the_whole_is_in_none(name):
    assert containing({name: nn.Linear(2, 2)}) == {name: None}
