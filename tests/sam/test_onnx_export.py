"""Exported models run under onnxruntime and give what torch gives; torch gives what upstream does.

An export takes seconds: each is made once, for all that is asked of it.
"""

from __future__ import annotations

import io
import itertools
import logging
import sys
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from segment_anything.utils.onnx import SamOnnxModel
from torch import nn

from sam.families import MODELS
from sam.files.masks import MissingExtraError
from sam.sam1.build import fill_random
from sam.sam1.image_encoder import ImageEncoderViT
from sam.sam1.onnx_export import (
    OnnxMaskPredictor,
    approximate_gelu,
    export_encoder,
    export_mask_predictor,
    quantize,
)
from sam.sam1.registry import build_sam_model

ort = pytest.importorskip("onnxruntime")

# One block of each kind.
CONFIG = replace(MODELS["tiny"].config, depth=2, global_blocks=(1,))
PROMPTS = {  # labels: 1 and 0 a point, 2 and 3 a box's corners, -1 padding
    "point": [1.0, -1.0],
    "points": [1.0, 0.0, 1.0],
    "box": [2.0, 3.0],
    "box and points": [1.0, 0.0, 2.0, 3.0, -1.0],
}
PIXELS = 2  # that lie at a threshold, and so fall to either side of it in float32
SIZES = {"wide": (61.0, 90.0), "tall": (200.0, 3.0), "square": (128.0, 128.0)}

pytestmark = pytest.mark.usefixtures("one_thread")


def prompt_inputs(predictor, labels, size=(61.0, 90.0), has_mask=1.0):
    """Inputs by name, seeded."""
    torch.manual_seed(0)
    return predictor.example_inputs() | {
        "point_coords": torch.rand(1, len(labels), 2) * 128,
        "point_labels": torch.tensor([labels]),
        "has_mask_input": torch.tensor([has_mask]),
        "orig_im_size": torch.tensor(size),
    }


def run(path, inputs):
    session = ort.InferenceSession(path)
    return session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})


@pytest.fixture(scope="module")
def model():
    return build_sam_model("tiny", image_size=128)


# As upstream


@pytest.fixture(
    params=list(itertools.product([False, True], repeat=3)),
    ids=lambda chosen: ",".join(
        name for name, on in zip(("single", "stability", "extra"), chosen, strict=True) if on
    ),
)
def both_predictors(request, build_pair):
    """Ours and upstream's with the same weights, for each combination of the options."""
    pair = build_pair()
    return OnnxMaskPredictor(pair.ours, *request.param), SamOnnxModel(pair.upstream, *request.param)


@pytest.fixture
def check_outputs(both_predictors, distance):
    """Hold all outputs against upstream's; counts of pixels as far as float32 can tell them."""
    ours, theirs = both_predictors

    def fewest_pixels(masks):
        """Of a mask at its lowest threshold, which a score of stability is divided by."""
        return int((masks > ours.model.mask_threshold - 1).sum(dim=(-1, -2)).min())

    def check(inputs):
        with torch.no_grad():
            found, expected = ours(**inputs), theirs(**inputs)
        names = ours.output_names()
        told = dict(zip(names, zip(found, expected, strict=True), strict=True))
        tolerance = {"areas": PIXELS}
        if ours.use_stability_score:
            tolerance["iou_predictions"] = PIXELS / fewest_pixels(told["low_res_masks"][1])
        if ours.return_extra_metrics:
            tolerance["stability_scores"] = PIXELS / fewest_pixels(told["masks"][1])

        for name, (own, other) in told.items():
            if name in tolerance:
                assert (own - other).abs().max() <= tolerance[name], name
            else:
                assert distance(own, other) < 1e-5, name

    return check


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("labels", PROMPTS.values(), ids=PROMPTS)
def test_masks_are_upstream_s(both_predictors, labels, size, check_outputs):
    check_outputs(prompt_inputs(both_predictors[0], labels, size))


@pytest.mark.parametrize("has_mask", [0.0, 1.0])
def test_masks_are_upstream_s_with_and_without_a_mask(both_predictors, has_mask, check_outputs):
    check_outputs(prompt_inputs(both_predictors[0], PROMPTS["box"], has_mask=has_mask))


# The encoder


@pytest.fixture(scope="module", params=["reference", "sdpa", "fold+flex"])
def exported_encoder(request, tmp_path_factory):
    encoder = ImageEncoderViT(CONFIG, 128, request.param)
    fill_random(encoder, seed=1)
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    export_encoder(encoder, path)
    return SimpleNamespace(encoder=encoder, session=ort.InferenceSession(path))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_encoder_gives_what_torch_gives_for_any_batch(exported_encoder, batch_size):
    images = torch.randn(batch_size, 3, 128, 128)
    with torch.no_grad():
        expected = exported_encoder.encoder(images).numpy()
    (found,) = exported_encoder.session.run(["image_embeddings"], {"images": images.numpy()})

    assert np.abs(found - expected).max() < 1e-4


# The masks

OPTIONS = {
    "all masks": ((False, False, True), False),
    "the most stable mask, GELU by tanh": ((True, True, False), True),
}


@pytest.fixture(scope="module", params=OPTIONS.values(), ids=OPTIONS)
def exported(request, model, tmp_path_factory):
    """A predictor and its file, and all that was printed."""
    options, gelu_approximate = request.param
    predictor = OnnxMaskPredictor(model, *options).eval()
    path = tmp_path_factory.mktemp("onnx") / "masks.onnx"
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(printed):
        export_mask_predictor(predictor, path, gelu_approximate=gelu_approximate)
    form = approximate_gelu if gelu_approximate else nullcontext
    return SimpleNamespace(predictor=predictor, path=path, printed=printed.getvalue(), form=form)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("labels", PROMPTS.values(), ids=PROMPTS)
def test_masks_are_torch_s_for_any_number_of_points_and_image_size(exported, labels, size):
    inputs = prompt_inputs(exported.predictor, labels, size)
    with torch.no_grad(), exported.form(exported.predictor):
        expected = exported.predictor(**inputs)
    found = run(exported.path, inputs)

    assert found[0].shape[2:] == tuple(map(int, size))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs.numpy()).max() <= 1e-3


def test_the_outputs_are_named(exported):
    outputs = ort.InferenceSession(exported.path).get_outputs()

    assert tuple(output.name for output in outputs) == exported.predictor.output_names()


def test_an_export_prints_nothing(exported):
    assert exported.printed == ""


def test_an_export_leaves_the_model_as_it_was(exported):
    gelus = [each for each in exported.predictor.modules() if isinstance(each, nn.GELU)]

    assert len(gelus) > 2
    assert {gelu.approximate for gelu in gelus} == {"none"}


def test_gelu_is_exact_again_after_an_error():
    module = nn.Sequential(nn.GELU(), nn.GELU("tanh"))
    during = []

    def fail():
        during.extend(gelu.approximate for gelu in module)
        raise RuntimeError

    with pytest.raises(RuntimeError), approximate_gelu(module):
        fail()

    assert during == ["tanh", "tanh"]
    assert [gelu.approximate for gelu in module] == ["none", "tanh"]


# 8-bit integers


@pytest.fixture(scope="module")
def quantized(exported):
    path = exported.path.with_name("small.onnx")
    quantize(exported.path, path)
    return path


def test_a_quantised_copy_gives_nearly_the_same(exported, quantized):
    inputs = prompt_inputs(exported.predictor, PROMPTS["box"])
    found, expected = (run(path, inputs)[0].ravel() for path in (quantized, exported.path))

    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_a_quantised_copy_is_one_file(quantized):
    assert sorted(path.name for path in quantized.parent.iterdir()) == [
        "masks.onnx", "masks.onnx.data", "small.onnx",
    ]  # fmt: skip


# What goes wrong


def write_half(program, f, **options):
    Path(f).write_text("half")
    Path(f"{f}.data").write_text("half")
    raise RuntimeError("no space left")


@pytest.mark.parametrize("existing", [{}, {"encoder.onnx": "old", "encoder.onnx.data": "old"}])
def test_a_failed_export_leaves_everything_as_it_was(model, tmp_path, existing, monkeypatch):
    for name, text in existing.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(torch.export, "export", lambda *args, **options: None)
    monkeypatch.setattr(torch.onnx, "export", write_half)
    with pytest.raises(RuntimeError, match="no space left"):
        export_encoder(model.image_encoder, tmp_path / "encoder.onnx")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == existing


def test_an_invalid_model_takes_no_place(model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.export, "export", lambda *args, **options: None)
    monkeypatch.setattr(torch.onnx, "export", lambda program, f, **options: Path(f).touch())
    with pytest.raises(Exception, match=r"[Mm]odel|ModelProto"):
        export_encoder(model.image_encoder, tmp_path / "encoder.onnx")

    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny_onnx(tmp_path):
    """The smallest model that there is."""
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "relu", [value], [result])
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    return path


def test_a_failed_quantisation_leaves_nothing(tiny_onnx, monkeypatch):
    def write_half(model, output, **options):
        Path(output).write_text("half")
        raise RuntimeError("no space left")

    monkeypatch.setattr("onnxruntime.quantization.quantize_dynamic", write_half)
    with pytest.raises(RuntimeError, match="no space left"):
        quantize(tiny_onnx, tiny_onnx.with_name("small.onnx"))

    assert list(tiny_onnx.parent.iterdir()) == [tiny_onnx]


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG, logging.CRITICAL])
def test_quantising_leaves_logging_as_it_was(tiny_onnx, level):
    logging.disable(level)
    try:
        quantize(tiny_onnx, tiny_onnx.with_name("small.onnx"))

        assert logging.root.manager.disable == level
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("opset", [-1, 0, 17, 24, 10**20])
def test_an_opset_that_can_t_be_written_is_refused(model, tmp_path, opset):
    with pytest.raises(ValueError, match=f"opset must be from 18 to 23, got {opset}."):
        export_encoder(model.image_encoder, tmp_path / "encoder.onnx", opset)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_how_to_get_it(model, tmp_path, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sam-encoder-bench\[onnx\]'"):
        export_encoder(model.image_encoder, tmp_path / "encoder.onnx")


def test_quantising_without_onnxruntime_says_how_to_get_it(tiny_onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sam-encoder-bench\[onnx\]'"):
        quantize(tiny_onnx, tiny_onnx.with_name("small.onnx"))
