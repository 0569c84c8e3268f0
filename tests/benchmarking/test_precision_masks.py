"""Masks in fp16 and bf16 are those of float32, also where the residual leaves fp16's range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarking.choices.inputs import SAMPLE_IMAGES, read_image
from benchmarking.choices.precision import apply_precision
from sam import SamAutomaticMaskGenerator, SamPredictor
from sam.sam1.family import SAM1
from sam.sam1.registry import build_sam_model

LARGEST_FP16 = 65_504
# What a block adds is scaled by it: the sum then goes beyond fp16, and no summand does. Upstream's
# fp16 gives NaN there.
LARGE_RESIDUAL = 2e4
NARROW = ("bf16", "fp16")


@pytest.fixture(scope="module")
def photograph():
    return read_image(SAMPLE_IMAGES / "coffee.jpg")


def build(precision, residual=1.0):
    model = build_sam_model("tiny", image_size=256)
    with torch.no_grad():
        for block in model.image_encoder.blocks:
            block.mlp.lin2.weight *= residual
            block.mlp.lin2.bias *= residual
    apply_precision(model, precision, SAM1)
    return model


def predict(model, photograph):
    """Logits (3, H, W) and predicted IoU for two points and a box."""
    predictor = SamPredictor(model)
    predictor.set_image(photograph)
    logits, quality, _ = predictor.predict(
        np.array([[100, 100], [300, 50]]),
        np.array([1, 0]),
        box=np.array([20, 20, 300, 300]),
        return_logits=True,
    )
    return logits, quality


def residuals(model, photograph):
    """The largest value that each block leaves."""
    largest = []
    for block in model.image_encoder.blocks:
        block.register_forward_hook(
            lambda module, inputs, output: largest.append(float(output.abs().max()))
        )
    SamPredictor(model).set_image(photograph)
    return largest


def test_the_scaled_residual_is_beyond_fp16_though_no_block_adds_as_much(photograph):
    largest = residuals(build("fp32", LARGE_RESIDUAL), photograph)

    assert largest[0] < LARGEST_FP16 < largest[-1]


@pytest.mark.parametrize("residual", [1.0, LARGE_RESIDUAL])
@pytest.mark.parametrize("precision", NARROW)
def test_masks_are_those_of_float32(photograph, precision, residual):
    expected, expected_quality = predict(build("fp32", residual), photograph)
    found, quality = predict(build(precision, residual), photograph)
    is_clear = np.abs(expected) > np.median(np.abs(expected))

    assert np.isfinite(found).all()
    # What was seen: all clear pixels and 99.6 % of all, logits 0.012 away, qualities 0.08.
    assert ((found > 0) == (expected > 0))[is_clear].mean() > 0.999
    assert ((found > 0) == (expected > 0)).mean() > 0.99
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)
    assert np.abs(quality - expected_quality).max() < 0.2


@pytest.mark.parametrize("precision", NARROW)
def test_the_mask_generator_finds_the_masks_that_float32_finds(photograph, precision):
    def areas(precision):
        generator = SamAutomaticMaskGenerator(
            build(precision),
            points_per_side=2,
            pred_iou_thresh=-100.0,
            stability_score_thresh=0.0,
            box_nms_thresh=1.0,
        )
        return sorted(mask["area"] for mask in generator.generate(photograph))

    expected, found = np.array(areas("fp32")), np.array(areas(precision))

    assert len(found) == len(expected) == 12
    assert np.abs(found - expected).max() < 0.01 * photograph[..., 0].size


@pytest.mark.parametrize("precision", NARROW)
def test_a_pixel_is_told_from_its_neighbour(precision):
    model = build_sam_model("tiny")
    apply_precision(model, precision, SAM1)
    points = torch.tensor([[[1000.0, 1000.0]], [[1001.0, 1000.0]]])
    with torch.inference_mode():
        first, second = model.prompt_encoder.embed_points(points, torch.ones(2, 1), pad=False)

    assert not torch.equal(first, second)
