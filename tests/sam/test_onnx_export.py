"""Exported models run under onnxruntime and give what torch gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam.build import build_sam_model
from sam.onnx_export import OnnxMaskPredictor, export_encoder, export_mask_predictor

ort = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model():
    return build_sam_model("tiny", image_size=128)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_encoder_takes_any_batch(model, encoder_session, batch_size):
    images = torch.randn(batch_size, 3, 128, 128)
    with torch.no_grad():
        expected = model.image_encoder(images).numpy()
    (found,) = encoder_session.run(None, {"images": images.numpy()})

    assert np.abs(found - expected).max() < 1e-4


@pytest.fixture(scope="module")
def encoder_session(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    export_encoder(model, path)
    return ort.InferenceSession(path)


@pytest.mark.parametrize("is_single", [False, True])
def test_masks_are_torch_s_for_any_number_of_points_and_image_size(model, tmp_path, is_single):
    predictor = OnnxMaskPredictor(model, is_single, return_extra_metrics=True).eval()
    export_mask_predictor(predictor, tmp_path / "masks.onnx")
    session = ort.InferenceSession(tmp_path / "masks.onnx")
    inputs = predictor.example_inputs() | {
        "point_coords": torch.rand(1, 2, 2) * 128,
        "point_labels": torch.tensor([[2.0, 3.0]]),
        "orig_im_size": torch.tensor([61.0, 90.0]),
    }
    with torch.no_grad():
        expected = predictor(**inputs)
    found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})

    assert found[0].shape == (1, 1 if is_single else 4, 61, 90)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs.numpy()).max() <= 1e-3
