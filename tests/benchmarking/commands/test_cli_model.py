"""`sam-bench masks`, on real small input: what it writes, passes over, goes on with and refuses."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
from PIL import Image

import sam
from benchmarking.choices.precision import PRECISIONS, why_unsupported
from benchmarking.cli import main
from sam import SamAutomaticMaskGenerator
from sam.files.sa1b import read_sa1b
from sam.sam1.registry import build_sam_model

AMG_FLAGS = (  # of upstream's scripts/amg.py
    "--input", "--output", "--model-type", "--checkpoint", "--device", "--convert-to-rle",
    "--points-per-side", "--points-per-batch", "--pred-iou-thresh", "--stability-score-thresh",
    "--stability-score-offset", "--box-nms-thresh", "--crop-n-layers", "--crop-nms-thresh",
    "--crop-overlap-ratio", "--crop-n-points-downscale-factor", "--min-mask-region-area",
)  # fmt: skip
SETTINGS = AMG_FLAGS[6:]
LENIENT = "--points-per-side 4 --pred-iou-thresh 0 --stability-score-thresh 0.1"
MASKS = f"masks -i images -o out -m tiny --checkpoint random --image-size 64 {LENIENT}"
DEFAULTS = {
    name: each.default
    for name, each in inspect.signature(SamAutomaticMaskGenerator).parameters.items()
}


@pytest.fixture(autouse=True)
def images(tmp_path):
    """A folder with three images of noise."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, pixels in zip("abc", noise(), strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def noise():
    return np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)


def content(folder):
    """Each file below a folder, and what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def found(folder):
    """The names of the outputs."""
    return sorted(path.name for path in folder.iterdir())


# What is written


def test_each_image_gets_a_folder_of_masks(invoke, output):
    result = invoke(MASKS)

    assert result.exit_code == 0, result.stderr
    assert found(output) == ["a", "b", "c"]
    assert all((output / f"{name}/0.png").exists() for name in "abc")


def test_each_image_is_a_line_of_progress(invoke, output):
    result = invoke(MASKS)
    counts = [len(list(folder.glob("*.png"))) for folder in sorted(output.iterdir())]

    assert result.stderr.splitlines() == [
        f"out/{name}: {count} masks" for name, count in zip("abc", counts, strict=True)
    ]


def test_random_weights_are_said_to_mean_nothing(invoke):
    assert invoke(MASKS).stdout.splitlines() == [
        "3 images: masks in out", "Weights: random. These masks mean nothing.",
    ]  # fmt: skip


def test_each_image_gets_a_json_file_on_request(invoke, output):
    assert invoke(f"{MASKS} --convert-to-rle").exit_code == 0
    assert found(output) == ["a.json", "b.json", "c.json"]
    assert all(read_sa1b(path).annotations for path in output.iterdir())


def test_one_image_may_be_named(invoke, output):
    assert invoke(f"{MASKS} -i images/b.png").exit_code == 0
    assert found(output) == ["b"]


@pytest.mark.parametrize("attention", ["reference", "auto", "fold+tiled"])
@pytest.mark.parametrize(
    "precision", [name for name in PRECISIONS if not why_unsupported(name, "cpu", None)]
)
def test_masks_are_made_in_every_precision_and_attention(invoke, output, precision, attention):
    result = invoke(f"{MASKS} -p {precision} --attention {attention} --device cpu")

    assert result.exit_code == 0, result.stderr
    assert found(output) == ["a", "b", "c"]


def test_a_checkpoint_gives_the_masks_of_the_model_that_it_is_of(invoke, output, tmp_path):
    model = build_sam_model("tiny", image_size=64, attention="sdpa", seed=7)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    result = invoke(f"{MASKS} --checkpoint own.pth")
    generator = SamAutomaticMaskGenerator(
        model, points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.1
    )
    for name, pixels in zip("abc", noise(), strict=True):
        masks = [mask["segmentation"] for mask in generator.generate(pixels)]
        written = [np.asarray(Image.open(output / name / f"{i}.png")) for i in range(len(masks))]

        assert np.array_equal(written, masks)

    assert result.stdout == "3 images: masks in out\n"


# Going on


def test_a_second_run_passes_over_what_is_done(invoke, output):
    invoke(MASKS)
    (output / "b/0.png").write_text("kept")
    before = content(output)
    result = invoke(MASKS)

    assert result.exit_code == 0
    assert result.stdout == "3 of 3 images have masks (--overwrite makes them again).\n"
    assert content(output) == before


@pytest.mark.parametrize("kind", ["", "--convert-to-rle"])
def test_overwrite_makes_masks_again(invoke, output, kind):
    invoke(f"{MASKS} {kind}")
    before = content(output)
    changed = next(path for path in output.rglob("*") if path.name in ("0.png", "a.json"))
    # Still masks, of another image: what is not ours would be left alone.
    is_json = changed.suffix == ".json"
    changed.write_text(changed.read_text().replace(':"a.', ':"old.') if is_json else "old")

    assert content(output) != before
    assert invoke(f"{MASKS} {kind} --overwrite").exit_code == 0
    assert content(output) == before


@pytest.fixture
def stopped(invoke, monkeypatch):
    """A run that was interrupted at its second image."""
    generate, calls = SamAutomaticMaskGenerator.generate, []

    def interrupted(self, pixels):
        calls.append(pixels)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(SamAutomaticMaskGenerator, "generate", interrupted)
        return invoke(MASKS)


def test_an_interrupted_run_says_how_to_go_on(stopped):
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines()[-1] == (
        "Interrupted. The same command, without --overwrite, goes on where this one stopped."
    )


def test_an_interrupted_run_leaves_what_was_done_and_no_more(stopped, output):
    assert found(output) == ["a"]


def test_an_interrupted_run_goes_on(stopped, invoke, output):
    result = invoke(MASKS)

    assert result.stdout.startswith("1 of 3 images have masks (--overwrite makes them again).\n2 ")
    assert found(output) == ["a", "b", "c"]


# Files that can't be used


def test_a_bad_file_among_good_ones_is_named_and_passed_over(invoke, images, output):
    (images / "b.png").write_bytes(b"no image")
    result = invoke(MASKS)

    assert result.exit_code == 5
    assert result.stderr.splitlines()[1].startswith("passed over: 'images/b.png' can't be decoded")
    assert found(output) == ["a", "c"]


def test_a_bad_file_is_tried_again(invoke, images, output):
    good = (images / "b.png").read_bytes()
    (images / "b.png").write_bytes(b"no image")
    invoke(MASKS)
    (images / "b.png").write_bytes(good)

    assert invoke(MASKS).exit_code == 0
    assert found(output) == ["a", "b", "c"]


@pytest.mark.parametrize("words", ["", "--overwrite"])
def test_a_folder_of_something_else_is_left_alone(invoke, output, words):
    (output / "b").mkdir(parents=True)
    (output / "b/diary.txt").write_text("mine")
    result = invoke(f"{MASKS} {words}")

    assert result.exit_code == 5
    assert "'out/b' holds something other than masks and is left alone" in result.stderr
    assert (output / "b/diary.txt").read_text() == "mine"


# Upstream's options


@pytest.mark.parametrize("flag", AMG_FLAGS)
def test_every_flag_of_upstream_s_amg_is_there(flag):
    assert flag in [name for option in main.commands["masks"].params for name in option.opts]


def field(flag):
    return flag.removeprefix("--").replace("-", "_")


@pytest.mark.parametrize("flag", SETTINGS)
def test_a_setting_reaches_the_generator(invoke, flag, mistake, monkeypatch):
    def generator(model, **settings):
        raise ValueError(f"{field(flag)} is {settings[field(flag)]}.")

    monkeypatch.setattr(sam, "SamAutomaticMaskGenerator", generator)

    assert f"{field(flag)} is 1." in mistake(invoke(f"{MASKS} {flag} 1")).replace("1.0", "1")


@pytest.mark.parametrize("flag", SETTINGS)
def test_help_names_the_generator_s_default(flag):
    (option,) = (each for each in main.commands["masks"].params if flag in each.opts)
    (default,) = re.findall(r"\[default: (.*)\]$", option.help)

    assert float(default) == pytest.approx(DEFAULTS[field(flag)], rel=2e-3)
