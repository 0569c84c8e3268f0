"""What `sam-bench masks` and `sam-bench onnx` refuse: in one line, before anything is written."""

from __future__ import annotations

import errno
import os
import re
import sys

import pytest
import torch

from benchmarking.measuring import mask_files

MASKS = (
    "masks -i photographs -o out -m tiny --checkpoint random --image-size 64 --points-per-side 4 "
    "--pred-iou-thresh 0 --stability-score-thresh 0.1"
)
ONNX = "onnx -m tiny --checkpoint random --image-size 64"


@pytest.fixture(autouse=True)
def images(photograph):
    return photograph


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


# Masks

MISTAKES = {
    "model": ("-m vit_x", "Unknown model 'vit_x'. Did you mean 'vit_b'?"),
    "checkpoint": ("--checkpoint gone.pth", "There are no weights at 'gone.pth'. Use --check"),
    "default model": ("-m default --checkpoint gone", "Fetch them with: sam-bench download vit_h"),
    "no official one": ("--checkpoint photographs", "There is no official checkpoint of tiny"),
    "no checkpoint": ("--checkpoint photographs/one.png", "'photographs/one.png' is damaged or no"),
    "checkpoint too long": (f"--checkpoint {'n' * 300}", "can't be read: File name too long"),
    "device": ("--device cuda:99", "There is no device 'cuda:99' here: try --device cpu."),
    "negative device": ("--device cuda:-1", "There is no device 'cuda:-1'"),
    "no true device": ("--device meta", "There is no device 'meta'"),
    "escape": ("--device '\x1b[31m'", r"There is no device '\\x1b\[31m'"),
    "precision": ("-p fp17", "Unknown precision 'fp17'. Did you mean 'fp16'?"),
    "precision of others": ("-p tf32 --device cpu", "tf32 needs a CUDA GPU.*: choose another"),
    "attention": ("--attention flash", "Unknown attention 'flash'. Known: reference, sdpa."),
    "image size": ("--image-size 100", "a positive multiple of the patch size 16, got 100"),
    "no image size": ("--image-size 0", "must be a whole number from 16 to 65,536, got '0'"),
    "huge image size": (f"--image-size {16 * 10**18}", "from 16 to 65,536, got '16000"),
    "no points": ("--points-per-side 0", "must be a whole number from 1 to 1,000, got '0'"),
    "huge points": ("--points-per-side 100000", "from 1 to 1,000, got '100000'"),
    "huge number": (f"--points-per-batch {'9' * 5000}", "from 1 to 1,000,000, got '9999"),
    "full-width digit": ("--points-per-side '\uff14'", r"got '\\uff14'"),
    "exponent": ("--points-per-side 1e1", "must be a whole number .*, got '1e1'"),
    "layers": ("--crop-n-layers 50", "from 0 to 8, got '50'"),
    "too few points": ("--crop-n-layers 3 --crop-n-points-downscale-factor 2", "at least 8, got 4"),
    "downscale": ("--crop-n-points-downscale-factor 0", "from 1 to 1,000, got '0'"),
    "area": ("--min-mask-region-area -1", "must be a whole number from 0 .*, got '-1'"),
    "percent": ("--pred-iou-thresh 88%", "must be a number from 0.0 to 1.0, got '88%'"),
    "NaN": ("--stability-score-thresh nan", "must be a number from 0.0 to 1.0, got 'nan'"),
    "infinite": ("--stability-score-offset inf", "must be a number .*, got 'inf'"),
    "above one": ("--box-nms-thresh 300", "must be a number from 0.0 to 1.0, got '300'"),
    "negative": ("--crop-nms-thresh -0.1", "must be a number from 0.0 to 1.0, got '-0.1'"),
    "overlap": ("--crop-overlap-ratio 2", "must be a number from 0.0 to 1.0, got '2'"),
    "no input": ("-i gone", "--input must be an image or a folder of images, and there is no 'g"),
    "long input": (f"-i {'n' * 300}", "--input must be an image .* there is no 'nnn"),
    "empty folder": ("-i .", "'.' has no image: put files in it that end in"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(invoke, output, words, line, mistake):
    assert re.search(line, mistake(invoke(f"{MASKS} {words}")))
    assert not output.exists()


@pytest.mark.parametrize(
    "make", [lambda path: path.touch(), os.mkfifo, lambda path: path.symlink_to(path)],
    ids=["file", "pipe", "link to itself"],
)  # fmt: skip
@pytest.mark.parametrize("below", ["", "/below"])
def test_an_output_that_can_be_no_folder_is_refused(invoke, output, make, below, mistake):
    make(output)

    assert "can't be written: " in mistake(invoke(f"{MASKS} -o out{below}"))


def test_an_output_whose_name_is_too_long_is_refused(invoke, mistake):
    assert "can't be written: File name too long." in mistake(invoke(MASKS, "-o", "n" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_output_that_is_read_only_is_refused(invoke, output, mistake):
    output.mkdir(mode=0o500)

    assert "'out' can't be written: Permission denied." in mistake(invoke(MASKS))


FAULTS = {
    "disk": (OSError(errno.ENOSPC, "No space left on device"), "'out' can't be written: No space"),
    "GPU memory": (torch.OutOfMemoryError("CUDA out of memory."), "The memory does not suffice"),
    "memory": (MemoryError(), "The memory does not suffice: choose a smaller model, --image-size"),
}


@pytest.mark.parametrize(("fault", "line"), FAULTS.values(), ids=FAULTS)
def test_what_runs_out_is_named_in_one_line(invoke, output, fault, line, mistake, monkeypatch):
    def fail(*args):
        raise fault

    monkeypatch.setattr(mask_files, "metadata_row", fail)

    assert line in mistake(invoke(MASKS))
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "package"),
    [("--convert-to-rle", "pycocotools"), ("--min-mask-region-area 9", "cv2")],
)
def test_a_missing_extra_is_one_line(invoke, output, words, package, mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)

    assert "pip install 'sam-encoder-bench[masks]'" in mistake(invoke(f"{MASKS} {words}"))
    assert not output.exists()


# ONNX

ONNX_MISTAKES = {
    "nothing": ("", "Nothing to export: name a new file with --output or --encoder-output."),
    "copy of nothing": ("--encoder-output e --quantize-out q", "--quantize-out makes a copy of"),
    "same": ("--output m --encoder-output m", "Each output must be a file of its own"),
    "same elsewhere": ("--output m --quantize-out photographs/../m", "must be a file of its own"),
    "same weights": ("--output m --encoder-output m.data", "must be a file of its own"),
    "root": ("--output /", "'/' exists: name another file"),
    "folder": ("--output photographs", "'photographs' exists: name another file"),
    "here": ("--encoder-output .", "'.' exists: name another file"),
    "below a file": ("--output photographs/one.png/m", "There is no folder 'photographs/one.png'"),
    "no folder": ("--output gone/m", "There is no folder 'gone' for 'm': make it first."),
    "too long": (f"--output {'n' * 300}", "can't be written: File name too long."),
    "no name left for weights": (f"--output {'n' * 252}", "can't be written: File name too long."),
    "opset": ("--output m --opset 17", "must be a whole number from 18 to 23, got '17'"),
    "huge opset": (f"--output m --opset {'9' * 30}", "must be a whole number from 18 to 23, got '"),
    "model": ("--output m -m vit_x", "Unknown model 'vit_x'. Did you mean 'vit_b'?"),
    "checkpoint": ("--output m --checkpoint gone", "There are no weights at 'gone'."),
    "image size": ("--output m --image-size 100", "multiple of the patch size 16, got 100"),
}


@pytest.mark.parametrize(("words", "line"), ONNX_MISTAKES.values(), ids=ONNX_MISTAKES)
def test_a_mistaken_export_is_one_line_and_writes_nothing(invoke, tmp_path, words, line, mistake):
    assert re.search(line, mistake(invoke(f"{ONNX} {words}")))
    assert os.listdir(tmp_path) == ["photographs"]


@pytest.mark.parametrize("existing", ["m", "m.data", "e", "e.data", "q"])
@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), os.mkfifo])
def test_an_output_that_exists_is_left_alone(invoke, tmp_path, existing, make, mistake):
    make(tmp_path / existing)
    line = mistake(invoke(f"{ONNX} --output m --encoder-output e --quantize-out q"))

    assert f"'{existing}' exists: name another file, or move it away." in line
    assert sorted(os.listdir(tmp_path)) == sorted([existing, "photographs"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_export_into_a_folder_that_is_read_only_is_refused(invoke, output, mistake):
    output.mkdir(mode=0o500)

    assert "can't be written: Permission denied." in mistake(invoke(f"{ONNX} --output out/m"))


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_line_before_any_export(
    invoke, tmp_path, package, mistake, monkeypatch
):
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    line = mistake(invoke(f"{ONNX} --output m --quantize-out q"))

    assert "pip install 'sam-encoder-bench[onnx]'" in line
    assert os.listdir(tmp_path) == ["photographs"]
