"""Bytes and FLOPs counted on the meta device: of hand-made modules, SAM's encoder and others."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
import segment_anything.modeling as upstream
import torch
from torch import nn
from torchvision.models import resnet18, vit_b_16

from benchmarking.choices.execution import EXECUTIONS
from benchmarking.choices.modules import find_modules
from benchmarking.choices.precision import PRECISIONS, apply_precision, without_tf32
from benchmarking.measuring.work import (
    CountedBytes,
    case_work,
    count_work,
    known_work,
    without_weights,
)
from results.records.case import OWN
from results.records.measurement import ENCODER
from sam.attention.variants import ATTENTION
from sam.families import MODELS
from sam.sam1.build import allocate_sam
from sam.sam1.family import SAM1

ROW = 16  # bytes of four numbers, of which a matrix here has four rows
MATRIX = 4 * ROW


@pytest.fixture(autouse=True)
def tf32_as_it_was():
    """What apply_precision sets for the whole process."""
    with without_tf32():
        yield


class Runs(nn.Module):
    """Runs an operation."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, *inputs, **named):
        return self.operation(*inputs, **named)


def matrix(device="meta"):
    return torch.empty(4, 4, device=device)


def count(modules, *inputs, **named):
    """Run the first of these modules; give what was counted."""
    if isinstance(modules, nn.Module):
        modules = {"all": modules}
    with CountedBytes(modules) as counted:
        next(iter(modules.values()))(*inputs, **named)
    return counted


# What operations move

OPERATIONS = {
    "add a number": (lambda x: x + 1, 2 * MATRIX),
    "add two rows": (lambda x: x[0] + x[1], 3 * ROW),
    "add a number in place": (lambda x: x.add_(1), 2 * MATRIX),
    "add a row to another in place": (lambda x: x[0].add_(x[1]), 3 * ROW),
    "copy rows into a slice": (lambda x: x[2:].copy_(x[:2]), 4 * ROW),
    "set a row to another": (lambda x: x.__setitem__(3, x[0]), 2 * ROW),
    "set a row to a number": (lambda x: x.__setitem__(1, 0.0), ROW),
    "fill": (lambda x: x.fill_(1), MATRIX),
    "zero": (lambda x: x.zero_(), MATRIX),
    "softmax": (lambda x: x.softmax(-1), 2 * MATRIX),
    "sum": (lambda x: x.sum(), MATRIX + 4),
    "product": (lambda x: x[:2] @ x, 2 * ROW + MATRIX + 2 * ROW),
    "concatenate": (lambda x: torch.cat([x, x]), 4 * MATRIX),
    "clone": (lambda x: x.clone(), 2 * MATRIX),
    "half the bytes": (lambda x: x.to(torch.bfloat16), MATRIX + MATRIX // 2),
    "the type that it has": (lambda x: x.to(torch.float32), 0),
    "view": (lambda x: x.view(2, 8), 0),
    "transpose": (lambda x: x.t(), 0),
    "slice": (lambda x: x[1:3, ::2], 0),
    "split": (lambda x: x.split(2), 0),
    "unbind": (lambda x: x.unbind(), 0),
    "detach": (lambda x: x.detach(), 0),
    "expand": (lambda x: x.unsqueeze(0).expand(8, 4, 4), 0),
    "windows": (lambda x: x.unfold(0, 2, 1), 0),
    "read what is expanded": (lambda x: x.unsqueeze(0).expand(8, 4, 4) + 1, 9 * MATRIX),
    "reshape of neighbours": (lambda x: x.reshape(16), 0),
    "reshape that copies": (lambda x: x.t().reshape(16), 2 * MATRIX),
    "contiguous": (lambda x: x.contiguous(), 0),
    "contiguous that copies": (lambda x: x.t().contiguous(), 2 * MATRIX),
    "empty": (lambda x: torch.empty(9, 9, device=x.device), 0),
    "empty like": (lambda x: torch.empty_like(x), 0),
    "new empty": (lambda x: x.new_empty(9, 9), 0),
    "zeros": (lambda x: torch.zeros(4, 4, device=x.device), MATRIX),
    "nothing": (lambda x: x, 0),
}


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize(("operation", "moved"), OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_moves_what_it_reads_and_what_it_writes(operation, moved, device):
    with torch.inference_mode():
        counted = count(Runs(operation), matrix(device))

    assert counted.moved_bytes["all"] == moved


def test_a_linear_layer_moves_its_weights_its_inputs_and_its_outputs():
    layer = nn.Linear(3, 5, device="meta")
    counted = count(layer, torch.empty(2, 3, device="meta"))
    by_hand = 4 * ((3 * 5 + 5) + 2 * 3 + 2 * 5)

    assert counted.moved_bytes["all"] == by_hand
    assert counted.least_bytes["all"] == by_hand


def test_what_passes_between_operations_is_moved_but_not_least():
    counted = count(Runs(lambda x: (x + 1) * 2), matrix())

    assert counted.moved_bytes["all"] == 4 * MATRIX
    assert counted.least_bytes["all"] == 2 * MATRIX


# What modules are told


def nested():
    inner = nn.Linear(4, 4, bias=False, device="meta")
    return {"outer": Runs(lambda x: inner(x + 1)), "inner": inner}


def test_a_module_is_told_of_what_runs_in_those_within_it():
    counted = count(nested(), matrix())

    assert counted.moved_bytes == {"outer": 5 * MATRIX, "inner": 3 * MATRIX}


def test_an_operation_outside_of_all_modules_is_told_to_none():
    modules = nested()
    with CountedBytes({"inner": modules["inner"]}) as counted:
        modules["outer"](matrix())

    assert counted.moved_bytes == {"inner": 3 * MATRIX}


def test_a_module_that_runs_twice_moves_twice():
    layer = nn.Linear(4, 4, bias=False, device="meta")
    modules = {"outer": Runs(lambda x: layer(layer(x))), "layer": layer}
    counted = count(modules, matrix())

    assert counted.moved_bytes["layer"] == 2 * 3 * MATRIX


@pytest.mark.parametrize(
    "module",
    [Runs(lambda x: (x, x)), Runs(lambda x: {"a": x, "b": [x]}), Runs(lambda x: [x, 3, x, None])],
    ids=["tuple", "dict", "list"],
)
def test_all_outputs_of_a_module_are_written(module):
    assert count(module, matrix()).least_bytes["all"] == 3 * MATRIX


def test_inputs_by_name_are_read():
    counted = count(Runs(lambda first, second: first), matrix(), second=matrix())

    assert counted.least_bytes["all"] == 3 * MATRIX


def test_a_weight_that_two_layers_share_is_read_once():
    first, second = (nn.Linear(4, 4, bias=False, device="meta") for _ in range(2))
    second.weight = first.weight
    counted = count(nn.Sequential(first, second), matrix())

    assert counted.least_bytes["all"] == 3 * MATRIX


def hooks_of(module):
    return [each for each in module.modules() if each._forward_hooks or each._forward_pre_hooks]


def test_hooks_are_gone_afterwards():
    modules = nested()
    count(modules, matrix())

    assert [hooks_of(module) for module in modules.values()] == [[], []]


def test_hooks_are_gone_after_an_error():
    modules = {"outer": nn.Sequential(nn.Identity(), Runs(lambda x: x.fail()))}
    with pytest.raises(AttributeError, match="fail"):
        count(modules, matrix())

    assert hooks_of(modules["outer"]) == []


def test_a_module_whose_error_is_caught_is_told_of_nothing_more():
    broken = Runs(lambda x: x.fail())

    def catch(x):
        with suppress(AttributeError):
            broken(x)
        return x + 1

    counted = count({"outer": Runs(catch), "broken": broken}, matrix())

    assert counted.moved_bytes == {"outer": 2 * MATRIX}


def test_nothing_is_counted_before_or_after():
    modules = nested()
    counted = CountedBytes(modules)
    modules["outer"](matrix())
    with counted:
        pass
    modules["outer"](matrix())

    assert not any(counted.moved_bytes.values())
    assert not any(counted.least_bytes.values())


# Without weights


def test_a_copy_without_weights_leaves_the_weights_where_they_are():
    layer = nn.BatchNorm2d(4)
    copy = without_weights(layer)

    assert {weight.device.type for weight in layer.state_dict().values()} == {"cpu"}
    assert {weight.device.type for weight in copy.state_dict().values()} == {"meta"}
    assert [each.dtype for each in copy.buffers()] == [each.dtype for each in layer.buffers()]


def test_layers_that_share_a_weight_share_it_without_weights():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    copy = without_weights(nn.Sequential(first, second))

    assert copy[0].weight is copy[1].weight


# SAM's encoder


@pytest.fixture(scope="module")
def works(make_case):
    """Maker of the work of SAM's encoder by its shapes, and as it is counted."""

    def make(model, attention="reference", precision="fp32", image_size=1024, batch_size=1):
        case = make_case(
            model=model, attention=attention, precision=precision, image_size=image_size,
            batch_size=batch_size,
        )  # fmt: skip
        sam = allocate_sam(MODELS[model].config, image_size, attention, "meta")
        dtype = apply_precision(sam, precision, SAM1)
        found = find_modules(sam.image_encoder, depth=2)
        modules = {name: timed.module for name, timed in found.items()}
        images = torch.empty(batch_size, 3, image_size, image_size, device="meta", dtype=dtype)
        return case, modules, images

    return make


@pytest.fixture(scope="module")
def merged(make_plan):
    """The work of a case, its blocks' parts among it."""

    def make(case, modules, images):
        return case_work(case, make_plan(module_depth=2), modules[ENCODER], images.dtype)

    return make


@pytest.mark.parametrize(
    ("model", "image_size", "precision", "batch_size"),
    [
        *((model, 1024, *least) for model in MODELS for least in (("fp32", 1), ("int8", 3))),
        *(("tiny", 64, precision, size) for precision in PRECISIONS for size in (1, 3)),
        *(("tiny", size, "bf16", 3) for size in (16, 224, 240, 448)),
    ],
)
@pytest.mark.parametrize("attention", ["reference", "fold"])
def test_least_bytes_of_every_module_are_those_of_the_true_one(
    works, model, image_size, attention, precision, batch_size
):
    case, modules, images = works(model, attention, precision, image_size, batch_size)
    with torch.no_grad(), CountedBytes(modules) as counted:
        modules[ENCODER](images)
    known = known_work(case)

    assert {name: known[name].least_bytes for name in modules} == counted.least_bytes


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fused_attention_moves_less_than_attention_step_by_step(works, merged, precision):
    fused, steps = (
        merged(*works("tiny", attention, precision))["blocks.1.attn"]
        for attention in ("sdpa", "reference")
    )

    assert fused.moved_bytes < steps.moved_bytes


@pytest.mark.parametrize(
    ("precision", "image_size"),
    [*((name, 64) for name in PRECISIONS), ("bf16", 256), ("fp32", 1024)],
)
@pytest.mark.parametrize("attention", ATTENTION)
def test_no_module_moves_less_than_its_least(works, merged, attention, precision, image_size):
    case, modules, images = works("tiny", attention, precision, image_size, batch_size=2)
    work = merged(case, modules, images)

    assert [name for name, each in work.items() if each.moved_bytes < each.least_bytes] == []


@pytest.mark.parametrize("attention", ATTENTION)
def test_work_of_a_batch_is_that_of_its_images_but_for_the_weights(works, merged, attention):
    two, three, four = (
        merged(*works("tiny", attention, batch_size=size))[ENCODER] for size in (2, 3, 4)
    )

    assert 6 * two.flops == 4 * three.flops == 3 * four.flops
    assert 6 * two.least_flops == 4 * three.least_flops == 3 * four.least_flops
    assert four.least_bytes - three.least_bytes == three.least_bytes - two.least_bytes
    assert four.moved_bytes - three.moved_bytes == three.moved_bytes - two.moved_bytes


def test_only_our_encoder_tells_what_is_spent_on_padding(works, merged):
    case, modules, images = works("tiny", "reference", image_size=256)
    known = merged(case, modules, images)[ENCODER]
    counted = merged(other(case), modules, images)[ENCODER]

    assert known.least_flops < known.flops
    assert counted.least_flops == counted.flops == known.flops


@pytest.mark.parametrize("name", [name for name in EXECUTIONS if name != "eager"])
def test_what_an_execution_that_fuses_moves_is_not_told(works, merged, name):
    case, modules, images = works("tiny", image_size=64)
    work = merged(case.model_copy(update={"execution": name}), modules, images)

    assert {each.moved_bytes for each in work.values()} == {None}
    assert all(each.least_bytes > 0 for each in work.values())


# Other encoders


def other(case):
    """The case as of an encoder that is not ours."""
    return case.model_copy(update={"model": "a.b:c", "attention": OWN, "weights": OWN})


def upstream_encoder(image_size):
    config = MODELS["tiny"].config
    with torch.device("meta"):
        return upstream.ImageEncoderViT(
            img_size=image_size, embed_dim=config.embed_dim, depth=config.depth,
            num_heads=config.num_heads, norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True, window_size=14, global_attn_indexes=config.global_blocks,
        ).eval()  # fmt: skip


@pytest.mark.parametrize("image_size", [64, 224, 256])
def test_upstreams_encoder_has_the_flops_of_ours_in_every_module(works, image_size):
    case, _, images = works("tiny", "reference", image_size=image_size, batch_size=2)
    found = find_modules(upstream_encoder(image_size), depth=2)
    theirs = count_work({name: timed.module for name, timed in found.items()}, images)
    ours = known_work(case)

    assert {name: work.flops for name, work in theirs.items()} == {
        name: work.flops for name, work in ours.items()
    }


def test_upstreams_encoder_has_the_least_bytes_of_ours_where_nothing_is_padded(works):
    case, _, images = works("tiny", "reference", image_size=448, batch_size=2)
    found = find_modules(upstream_encoder(448), depth=2)
    theirs = count_work({name: timed.module for name, timed in found.items()}, images)
    ours = known_work(case)

    assert {name: work.least_bytes for name, work in theirs.items()} == {
        name: work.least_bytes for name, work in ours.items()
    }


@pytest.mark.parametrize(("make", "gmac"), [(vit_b_16, 17.56), (resnet18, 1.81)])
def test_torchvisions_models_have_the_flops_that_it_publishes(make, gmac):
    with torch.device("meta"):
        model = make().eval()
    images = torch.empty(1, 3, 224, 224, device="meta")

    assert round(count_work({ENCODER: model}, images)[ENCODER].flops / 2e9, 2) == gmac


def test_a_module_without_a_product_has_no_flops():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).to("meta")
    work = count_work({ENCODER: model, "1": model[1]}, matrix())

    assert (work["1"].flops, work[ENCODER].flops) == (0, 2 * 4 * 4 * 4)
    assert work["1"].moved_bytes == 2 * MATRIX
