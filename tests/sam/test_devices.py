"""Tensors meet on one device, and none of the device's is float64 (MPS has none).

Torch's fake tensors know their device and shape but hold no values: an operation that mixes
devices fails as it would on a GPU, without one.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sam import Prompts, SamPredictor
from sam.attention.variants import ATTENTION
from sam.families import MODELS
from sam.files.masks import mask_boxes, stability_scores
from sam.sam1 import predictor
from sam.sam1.crops import Crop
from sam.sam1.image_encoder import ImageEncoderViT
from sam.sam1.mask_decoder import MaskDecoder
from sam.sam1.mask_generator import MaskSet, touches_crop_edge
from sam.sam1.model import Sam
from sam.sam1.prompt_encoder import PromptEncoder

IMAGE = np.zeros((40, 60, 3), np.uint8)
POINTS = Prompts(np.zeros((2, 1, 2)), np.ones((2, 1)))
BOXES = Prompts(boxes=np.zeros((3, 4)))
MASKS = Prompts(boxes=np.zeros((1, 4)), mask_inputs=np.zeros((1, 1, 16, 16), np.float32))


class NoFloat64(TorchDispatchMode):
    """Fails where a tensor of a device is float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor) and output.device.type != "cpu":
                assert output.dtype != torch.float64, f"{function} made a float64 tensor"
        return outputs


@contextmanager
def a_device():
    with FakeTensorMode(allow_non_fake_inputs=True), NoFloat64(), torch.no_grad():
        yield


def build(attention="reference"):
    """A tiny model on a device that is not there."""
    with torch.device("cuda"):
        return Sam(
            ImageEncoderViT(MODELS["tiny"].config, 64, attention),
            PromptEncoder(256, 4, 64),
            MaskDecoder(256),
        )


def devices(tensors):
    return {tensor.device.type for tensor in tensors}


def test_a_fake_device_refuses_a_mix_as_a_true_one_does():
    with a_device(), pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device="cuda") + torch.ones(2)


def test_a_float64_tensor_of_a_device_is_noticed():
    with a_device(), pytest.raises(AssertionError, match="float64"):
        torch.as_tensor(np.ones(2), device="cuda")


# FlexAttention would be compiled for it.
@pytest.mark.parametrize("attention", sorted(set(ATTENTION) - {"flex"}))
def test_images_of_several_sizes_are_encoded_on_the_device(attention):
    with a_device():
        found = SamPredictor(build(attention))
        found.set_images([IMAGE, IMAGE[:20]])

        assert found.features.device.type == "cuda"
        assert found.features.shape == (2, 256, 4, 4)


@pytest.mark.parametrize("prompts", [POINTS, BOXES, MASKS], ids=["points", "boxes", "masks"])
def test_prompts_of_numpy_meet_the_image_on_the_device(monkeypatch, prompts):
    monkeypatch.setattr(predictor, "as_numpy", lambda tensor: tensor)
    with a_device():
        found = SamPredictor(build())
        found.set_images([IMAGE, IMAGE])
        answers = found.predict_batch([prompts, prompts])

        assert [answer[0].shape for answer in answers] == [(len(prompts), 3, 40, 60)] * 2
        assert all(devices(answer) == {"cuda"} for answer in answers)


def test_tensors_of_the_device_stay_there():
    with a_device():
        found = SamPredictor(build())
        found.set_image(IMAGE)
        coords = found.transform.apply_coords_torch(torch.zeros(2, 1, 2, device="cuda"), (40, 60))
        boxes = found.transform.apply_boxes_torch(torch.zeros(2, 4, device="cuda"), (40, 60))
        labels = torch.ones(2, 1, device="cuda")

        assert devices(found.predict_torch(coords, labels, boxes)) == {"cuda"}


def test_what_the_mask_generator_finds_out_of_logits_is_on_their_device():
    with a_device():
        logits = torch.zeros(5, 40, 60, device="cuda")
        boxes = mask_boxes(logits > 0)
        touches = touches_crop_edge(boxes, Crop((10, 10, 70, 50), 1), (80, 80))

        assert devices([boxes, touches, stability_scores(logits, 0.0, 1.0)]) == {"cuda"}


def test_masks_whose_fields_lie_on_two_devices_are_selected_with_one_index():
    with a_device():
        on_device = torch.zeros(3, 4, device="cuda")
        on_host = torch.zeros(3, 2)
        masks = MaskSet([{}] * 3, on_device, on_device[:, 0], on_device[:, 1], on_host, on_host)
        index = torch.zeros(0, dtype=torch.int64, device="cuda")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "tolist", lambda tensor: [])  # fake tensors hold no values
            chosen = masks.select(index)

        assert devices([chosen.boxes, chosen.predicted_iou]) == {"cuda"}
        assert devices([chosen.points, chosen.crop_boxes]) == {"cpu"}
