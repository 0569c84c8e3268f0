"""Precisions: what becomes of weights and flags, and which devices can do them."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from benchmarking.precision import PRECISIONS, apply_precision, why_unsupported, without_tf32
from sam.build import build_sam_model

ON_CPU = [name for name, precision in PRECISIONS.items() if precision.on_cpu]
LIMITED = [name for name, precision in PRECISIONS.items() if precision.cuda_capability]
# Relative L2 distance from float32: twice what was seen, 0.012 and 0.0014.
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
    dtype = apply_precision(model, name)
    with torch.inference_mode():
        output = model.image_encoder(torch.randn(2, 3, 64, 64, dtype=dtype))

    assert output.dtype == dtype == getattr(torch, PRECISIONS[name].dtype)
    assert output.isfinite().all()


@pytest.mark.parametrize("name", ON_CPU)
def test_a_precision_stays_near_float32(model, name):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model.image_encoder(images)
    dtype = apply_precision(model, name)
    with torch.inference_mode():
        output = model.image_encoder(images.to(dtype)).float()

    assert (output - expected).norm() <= TOLERANCE[PRECISIONS[name].dtype] * expected.norm()


@pytest.mark.parametrize("name", PRECISIONS)
def test_coordinates_and_pixels_stay_in_float32(model, name):
    apply_precision(model, name)

    assert model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.dtype == torch.float32
    assert model.pixel_mean.dtype == model.pixel_std.dtype == torch.float32


def test_fp16_keeps_the_residual_and_the_norms_of_the_encoder_in_float32(model):
    apply_precision(model, "fp16")
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
    apply_precision(model, "fp16")

    assert {weight.dtype for weight in model.mask_decoder.parameters()} == {torch.float16}


def test_bf16_converts_the_whole_encoder(model):
    apply_precision(model, "bf16")

    assert {weight.dtype for weight in model.image_encoder.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("name", PRECISIONS)
def test_both_tf32_flags_are_set_whatever_they_were(model, name, before):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = before
    apply_precision(model, name)

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
