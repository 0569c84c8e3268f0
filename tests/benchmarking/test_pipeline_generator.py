"""The mask generator by its stages, with thresholds that let some masks of any weights pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarking.choices.execution import EXECUTIONS, prepare_eager
from benchmarking.measuring.passes import mask_generator as mask_generator_pass
from benchmarking.measuring.passes.bench import Bench
from benchmarking.measuring.passes.mask_generator import generator_settings
from benchmarking.measuring.rig import build_rig
from sam import SamAutomaticMaskGenerator
from sam.sam1 import mask_generator
from sam.sam1.mask_generator import STAGES
from sam.sam1.registry import build_sam_model


@pytest.fixture(scope="module")
def generated(run_case):
    return run_case(
        passes=("mask_generator",), points_per_side=4, module_forwards=2, max_timed_s=60.0
    )


def test_the_mask_generator_is_timed_by_its_stages(generated):
    assert set(generated.mask_generator_s) == set(STAGES)
    assert {len(samples) for samples in generated.mask_generator_s.values()} == {2}


@pytest.mark.parametrize("source", ["images", "noise"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_images_of_a_batch_are_searched_together(run_case, monkeypatch, source, batch_size):
    settings = []

    class Spying(SamAutomaticMaskGenerator):
        def generate_batch(self, images):
            settings.append((len(images), self.images_per_batch))
            return super().generate_batch(images)

    monkeypatch.setattr(mask_generator, "SamAutomaticMaskGenerator", Spying)
    run_case(
        input=source, batch_size=batch_size, passes=("mask_generator",), points_per_side=1,
        module_forwards=1, image_size=32,
    )  # fmt: skip

    assert settings == [(batch_size, batch_size)] * 2  # once to warm up


def test_a_slow_mask_generator_is_run_once(run_case):
    found = run_case(passes=("mask_generator",), points_per_side=2, max_timed_s=1e-9)

    assert {len(samples) for samples in found.mask_generator_s.values()} == {1}


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_let_some_masks_of_random_weights_pass_and_not_all(make_case, make_plan, seed):
    case, plan = make_case(), make_plan(seed=seed, points_per_side=8)
    rig = build_rig(case, plan)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    settings = generator_settings(Bench(case, plan, rig, [], None), pixels)
    generator = SamAutomaticMaskGenerator(rig.model, **settings)
    share = len(generator.generate(pixels)) / (3 * 8**2)

    assert 0.01 < share < 0.5


def test_trained_weights_keep_upstreams_thresholds(make_case, make_plan, tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save(build_sam_model("tiny", image_size=64).state_dict(), path)
    case, plan = make_case(weights=str(path)), make_plan(points_per_side=5)
    rig = build_rig(case, plan)
    pixels = np.zeros((48, 64, 3), np.uint8)

    assert generator_settings(Bench(case, plan, rig, [], None), pixels) == {
        "points_per_side": 5,
        "images_per_batch": case.batch_size,
    }


def test_a_note_says_how_masks_were_generated_and_how_many_there_were(
    generated, make_case, make_plan
):
    case, plan = make_case(), make_plan(points_per_side=4)
    rig = build_rig(case, plan)
    pixels = np.random.default_rng(plan.seed).integers(0, 256, (2, 64, 64, 3), np.uint8)
    settings = generator_settings(Bench(case, plan, rig, [], None), pixels[0])
    found = SamAutomaticMaskGenerator(rig.model, **settings).generate_batch(pixels)

    assert generated.notes["mask_generator"] == (
        f"points_per_side 4, images_per_batch 2, pred_iou_thresh {settings['pred_iou_thresh']:.3g},"
        f" stability_score_thresh 0, box_nms_thresh 1: {sum(map(len, found))} masks"
    )


def test_a_note_tells_a_large_number_in_full(run_case, monkeypatch):
    settings = {"points_per_side": 1, "images_per_batch": 1234, "pred_iou_thresh": 0.87654}
    monkeypatch.setattr(mask_generator_pass, "generator_settings", lambda *_: settings)
    note = run_case(passes=("mask_generator",), image_size=32).notes["mask_generator"]

    assert note.startswith("points_per_side 1, images_per_batch 1234, pred_iou_thresh 0.877: ")


def test_a_mask_generator_that_would_not_run_as_the_case_says_is_missing_with_a_note(
    run_case, monkeypatch
):
    entry = replace(EXECUTIONS["compile"], prepare=prepare_eager)
    monkeypatch.setitem(EXECUTIONS, "compile", entry)
    measured = run_case(execution="compile", passes=("mask_generator",), image_size=32)

    assert measured.mask_generator_s is None
    assert measured.notes["mask_generator"].startswith("unsupported: the mask generator runs ")
