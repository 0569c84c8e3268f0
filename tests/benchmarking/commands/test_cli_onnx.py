"""`sam-bench onnx`: one run with all options, as a process, and what it left."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarking.cli import main
from sam.sam1.onnx_export import EXTRA_OUTPUTS, OPSETS, OnnxMaskPredictor, approximate_gelu
from sam.sam1.registry import build_sam_model

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

EXPORT_FLAGS = (  # of upstream's scripts/export_onnx_model.py
    "--checkpoint", "--output", "--model-type", "--return-single-mask", "--opset", "--quantize-out",
    "--gelu-approximate", "--use-stability-score", "--return-extra-metrics",
)  # fmt: skip
MODELS = ("encoder.onnx", "masks.onnx", "small.onnx")
COMMAND = (
    "onnx -m tiny --checkpoint own.pth --image-size 64 --encoder-output encoder.onnx "
    "--output masks.onnx --quantize-out small.onnx --opset 19 --gelu-approximate "
    "--return-single-mask --use-stability-score --return-extra-metrics"
)


@pytest.fixture(scope="module")
def model():
    return build_sam_model("tiny", image_size=64, seed=7)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory, run_process):
    """Inputs of the masks, what torch makes of them, and the run with the folder it was in."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.save(model.state_dict(), folder / "own.pth")
    run = run_process(*COMMAND.split(), cwd=folder)
    predictor = OnnxMaskPredictor(model, True, True, True).eval()
    torch.manual_seed(0)
    inputs = predictor.example_inputs() | {"orig_im_size": torch.tensor([30.0, 45.0])}
    with torch.no_grad(), approximate_gelu(predictor):
        outputs = [tensor.numpy() for tensor in predictor(**inputs)]
    inputs = {name: tensor.numpy() for name, tensor in inputs.items()}
    return SimpleNamespace(folder=folder, run=run, inputs=inputs, outputs=outputs)


def test_an_export_says_what_it_wrote_and_nothing_else(exported):
    assert exported.run.returncode == 0, exported.run.stderr
    assert exported.run.stderr == ""
    assert exported.run.stdout.splitlines() == [
        "encoder.onnx: the image encoder, for batches of any size",
        "masks.onnx: from embedding and prompt to masks",
        "small.onnx: the same in 8-bit integers",
    ]


def test_an_export_leaves_the_models_and_their_weights_alone(exported):
    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "encoder.onnx", "encoder.onnx.data", "masks.onnx", "masks.onnx.data", "own.pth",
        "small.onnx",
    ]  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_is_valid(exported, name):
    onnx.checker.check_model(exported.folder / name, full_check=name != "small.onnx")


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_is_of_the_opset_asked_for(exported, name):
    versions = {
        each.domain: each.version for each in onnx.load(exported.folder / name).opset_import
    }

    assert versions[""] == 19


def test_the_encoder_gives_what_torch_gives(exported, model):
    images = torch.randn(3, 3, 64, 64)
    session = ort.InferenceSession(exported.folder / "encoder.onnx")
    with torch.no_grad():
        expected = model.image_encoder(images).numpy()
    (found,) = session.run(["image_embeddings"], {"images": images.numpy()})

    assert np.abs(found - expected).max() < 1e-4


@pytest.fixture(scope="module")
def masks_found(exported):
    return ort.InferenceSession(exported.folder / "masks.onnx").run(EXTRA_OUTPUTS, exported.inputs)


@pytest.mark.parametrize("index", range(5), ids=EXTRA_OUTPUTS)
def test_all_options_together_give_what_torch_gives(exported, masks_found, index):
    found, expected = masks_found[index], exported.outputs[index]

    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-3


def test_gelu_by_tanh_needs_no_erf(exported):
    operators = {node.op_type for node in onnx.load(exported.folder / "masks.onnx").graph.node}

    assert "Erf" not in operators
    assert "Tanh" in operators


def test_a_quantised_copy_gives_nearly_the_same(exported, masks_found):
    session = ort.InferenceSession(exported.folder / "small.onnx")
    masks, *_ = session.run(EXTRA_OUTPUTS, exported.inputs)

    assert np.corrcoef(masks.ravel(), masks_found[0].ravel())[0, 1] > 0.95
    assert not np.array_equal(masks, masks_found[0])


def test_a_quantised_copy_is_less_than_half_as_large(exported):
    sizes = {path.name: path.stat().st_size for path in exported.folder.iterdir()}

    assert sizes["small.onnx"] < (sizes["masks.onnx"] + sizes["masks.onnx.data"]) / 2


def options():
    return {name: each for each in main.commands["onnx"].params for name in each.opts}


@pytest.mark.parametrize("flag", EXPORT_FLAGS)
def test_every_flag_of_upstream_s_export_is_there(flag):
    assert flag in options()


def test_the_opsets_are_those_that_can_be_written():
    opset = options()["--opset"]

    assert (opset.type.least, opset.type.most) == (OPSETS[0], OPSETS[-1])
    assert f"{OPSETS[0]} to {OPSETS[-1]}" in opset.help
