"""Precisions: what becomes of weights and flags, and which devices can do them."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from benchmarking.choices.precision import (
    PRECISIONS,
    apply_precision,
    why_unsupported,
    without_tf32,
)
from benchmarking.choices.sweep import unsupported_reason
from results.records.case import OWN
from sam.families import MODELS
from sam.quantise import EIGHT_BITS, EightBitLinear
from sam.sam1.build import allocate_sam
from sam.sam1.family import SAM1
from sam.sam1.registry import build_sam_model

ON_CPU = [name for name, precision in PRECISIONS.items() if precision.on_cpu]
LIMITED = [name for name, precision in PRECISIONS.items() if precision.cuda_capability]
EIGHT_BIT = [name for name, precision in PRECISIONS.items() if precision.eight_bits is not None]
# Relative L2 distance from float32: twice what was seen, 0.012 and 0.0014; of eight bits, as many
# times bfloat16's as their budget is.
TOLERANCE = {"float32": 0.0, "bfloat16": 0.024, "float16": 0.0028}


@pytest.fixture(autouse=True)
def flags():
    """Leave torch's flags as they were."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


@pytest.fixture
def model():
    return build_sam_model("tiny", image_size=64)


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_cpu_does_a_precision_or_says_why_not(name):
    reason = why_unsupported(name, "cpu", None)

    assert (reason is None) == PRECISIONS[name].on_cpu
    assert reason is None or name in reason


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_new_gpu_does_every_precision(name):
    assert why_unsupported(name, "cuda", (9, 0)) is None


@pytest.mark.parametrize("name", LIMITED)
def test_an_old_gpu_is_told_what_it_lacks(name):
    reason = why_unsupported(name, "cuda", (7, 5))

    assert f"{name} needs compute capability" in reason
    assert reason.endswith("this GPU has 7.5")


@pytest.mark.parametrize("name", ON_CPU)
def test_the_encoder_runs_and_returns_the_precisions_type(model, name):
    dtype = apply_precision(model, name, SAM1)
    with torch.inference_mode():
        output = model.image_encoder(torch.randn(2, 3, 64, 64, dtype=dtype))

    assert output.dtype == dtype == getattr(torch, PRECISIONS[name].dtype)
    assert output.isfinite().all()


@pytest.mark.parametrize("name", ON_CPU)
def test_a_precision_stays_near_float32(model, name):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model.image_encoder(images)
    dtype = apply_precision(model, name, SAM1)
    with torch.inference_mode():
        output = model.image_encoder(images.to(dtype)).float()

    tolerance = TOLERANCE[PRECISIONS[name].dtype] * (PRECISIONS[name].budget or 1)

    assert (output - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("name", PRECISIONS)
def test_coordinates_and_pixels_stay_in_float32(model, name):
    apply_precision(model, name, SAM1)

    assert model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.dtype == torch.float32
    assert model.pixel_mean.dtype == model.pixel_std.dtype == torch.float32


def test_fp16_keeps_the_residual_and_the_norms_of_the_encoder_in_float32(model):
    apply_precision(model, "fp16", SAM1)
    encoder = model.image_encoder
    kept = {name for name, weight in encoder.named_parameters() if weight.dtype == torch.float32}
    norms = {name for name, _ in encoder.named_parameters() if ".norm" in name}

    assert kept == norms | {
        "pos_embed",
        "neck.0.weight",
        "neck.1.weight",
        "neck.1.bias",
        "neck.3.weight",
        "neck.3.bias",
    }
    assert len(norms) == 4 * len(encoder.blocks)


def test_fp16_converts_what_lies_outside_the_encoder(model):
    apply_precision(model, "fp16", SAM1)

    assert {weight.dtype for weight in model.mask_decoder.parameters()} == {torch.float16}


def test_bf16_converts_the_whole_encoder(model):
    apply_precision(model, "bf16", SAM1)

    assert {weight.dtype for weight in model.image_encoder.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("name", PRECISIONS)
def test_both_tf32_flags_are_set_whatever_they_were(model, name, before):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = before
    apply_precision(model, name, SAM1)

    assert torch.backends.cuda.matmul.allow_tf32 is PRECISIONS[name].tf32
    assert torch.backends.cudnn.allow_tf32 is PRECISIONS[name].tf32


def test_tf32_is_never_hidden_in_fp32():
    assert [name for name, precision in PRECISIONS.items() if precision.tf32] == ["tf32"]


FLAGS = (torch.backends.cuda.matmul, torch.backends.cudnn)


@pytest.mark.parametrize("is_error", [False, True], ids=["at its end", "after an error"])
@pytest.mark.parametrize("before", [(True, True), (False, False), (False, True), (True, False)])
def test_tf32_is_off_for_a_while_and_then_as_it_was(before, is_error):
    for backend, is_allowed in zip(FLAGS, before, strict=True):
        backend.allow_tf32 = is_allowed
    with suppress(ZeroDivisionError), without_tf32():
        during = [backend.allow_tf32 for backend in FLAGS]
        if is_error:
            raise ZeroDivisionError

    assert during == [False, False]
    assert tuple(backend.allow_tf32 for backend in FLAGS) == before


# Eight bits


def eight_bit_layers(model):
    return {
        name: module for name, module in model.named_modules() if isinstance(module, EightBitLinear)
    }


def test_a_precision_is_approximate_exactly_where_products_are_in_eight_bits():
    budgets = {name: precision.budget for name, precision in PRECISIONS.items()}

    assert [name for name, budget in budgets.items() if budget is not None] == EIGHT_BIT
    assert all(budgets[name] > 1 for name in EIGHT_BIT)


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_precision_says_that_it_is_approximate_where_it_is(name):
    assert ("approximate" in PRECISIONS[name].summary) == (name in EIGHT_BIT)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("fp8", ("mlp.lin1", "mlp.lin2")), ("int8", ("attn.qkv", "mlp.lin1", "mlp.lin2"))],
)
def test_these_layers_of_every_block_are_in_eight_bits_and_no_other(model, name, parts):
    apply_precision(model, name, SAM1)
    blocks = range(len(model.image_encoder.blocks))

    assert set(eight_bit_layers(model)) == {
        f"image_encoder.blocks.{index}.{part}" for index in blocks for part in parts
    }


@pytest.mark.parametrize("name", [name for name in PRECISIONS if name not in EIGHT_BIT])
def test_a_precision_that_is_not_approximate_has_no_layer_in_eight_bits(model, name):
    apply_precision(model, name, SAM1)

    assert eight_bit_layers(model) == {}


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_a_bias_beside_weights_of_eight_bits_is_bfloat16_and_a_scale_is_float32(model, name):
    apply_precision(model, name, SAM1)
    layers = eight_bit_layers(model).values()

    assert {layer.weight.dtype for layer in layers} == {EIGHT_BITS[name].dtype}
    assert {layer.bias.dtype for layer in layers} == {torch.bfloat16}
    assert {layer.weight_scale.dtype for layer in layers} == {torch.float32}


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_all_but_eight_bits_and_their_scales_is_what_it_is_in_bf16(model, name):
    expected = build_sam_model("tiny", image_size=64)
    apply_precision(expected, "bf16", SAM1)
    apply_precision(model, name, SAM1)
    found = model.state_dict()
    large = {f"{layer}.weight" for layer in eight_bit_layers(model)}
    scales = {f"{layer}.weight_scale" for layer in eight_bit_layers(model)}

    assert set(found) == set(expected.state_dict()) | scales
    for key, weight in expected.state_dict().items():
        assert key in large or torch.equal(found[key], weight)
        assert key in large or found[key].dtype == weight.dtype


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_weights_are_rounded_once_from_float32(model, name):
    layer = model.image_encoder.blocks[0].mlp.lin1
    numbers, scale = EIGHT_BITS[name].quantise(layer.weight.detach())
    apply_precision(model, name, SAM1)
    quantised = model.image_encoder.blocks[0].mlp.lin1

    assert torch.equal(quantised.weight.float(), numbers.float())
    assert torch.equal(quantised.weight_scale, scale)


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_what_eight_bits_do_to_an_embedding_is_more_than_rounding_to_bf16(name):
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    errors = []
    for each in ("bf16", name):
        model = build_sam_model("tiny", image_size=64)
        with torch.inference_mode():
            expected = model.image_encoder(images)
            output = model.image_encoder(images.to(apply_precision(model, each, SAM1))).float()
        errors.append(float((output - expected).norm()))

    assert errors[0] < errors[1]


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("name", PRECISIONS)
def test_a_model_without_weights_takes_every_precision(name, model_name):
    model = allocate_sam(MODELS[model_name].config, 1024, "sdpa", "meta")
    dtype = apply_precision(model, name, SAM1)
    images = torch.empty(1, 3, 1024, 1024, device="meta", dtype=dtype)

    assert {weight.device.type for weight in model.image_encoder.parameters()} == {"meta"}
    assert model.image_encoder(images).dtype == dtype


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_an_encoder_that_is_not_sams_is_refused_eight_bits_with_the_reason(
    make_case, environment, name
):
    case = make_case(model="a.b:c", attention=OWN, weights=OWN, precision=name)

    assert unsupported_reason(case, environment) == (
        f"{name} needs to know the large linear layers, which an external encoder does not name"
    )


@pytest.mark.parametrize("name", ON_CPU)
def test_sams_encoder_is_refused_no_precision_that_a_cpu_has(make_case, environment, name):
    assert unsupported_reason(make_case(precision=name), environment) is None


@pytest.mark.parametrize(
    ("name", "capability", "is_able"),
    [
        ("fp8", (8, 0), False), ("fp8", (8, 6), False), ("fp8", (8, 9), True),
        ("int8", (7, 5), False), ("int8", (8, 0), True),
    ],
)  # fmt: skip
def test_a_gpu_has_fp8_from_ada_on_and_int8_from_ampere_on(name, capability, is_able):
    assert (why_unsupported(name, "cuda", capability) is None) == is_able
