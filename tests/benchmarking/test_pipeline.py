"""From files to masks: what the mask decoder is asked, and which part the time is put down to."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarking.choices.inputs import Photograph
from benchmarking.measuring import batches
from benchmarking.measuring.passes import components
from benchmarking.measuring.passes.components import run_pipeline
from benchmarking.measuring.passes.pipelines import Stopwatch, batch_of, by_name
from benchmarking.measuring.rig import build_rig
from results.records.measurement import ENCODER
from sam import Prompts, SamPredictor
from sam.sam1 import pipelines
from sam.sam1.pipelines import PROMPTS_IN_A_PASS

COMPONENTS = (
    "decode", "preprocess", "host_to_device_copy", ENCODER, "prompt_encoder", "mask_decoder",
    "postprocess",
)  # fmt: skip
SIZES = [(48, 64), (90, 30), (20, 20)]
# Prompts of each image: all in one pass of the mask decoder, or an image's in several.
COUNTS = {
    "one each": (1, 1, 1),
    "a full pass": (60, 3, 1),
    "one more": (1, 63, 1),
    "several passes": (3, 2 * PROMPTS_IN_A_PASS, 5),
}


@pytest.fixture(scope="module")
def rig(make_case, make_plan):
    return build_rig(make_case(), make_plan())


@pytest.fixture(scope="module")
def make_photographs():
    """Maker of noise in several sizes, with this many random prompts on each."""

    def make(counts, kind="points"):
        generator = np.random.default_rng(0)
        photographs = []
        for (height, width), count in zip(SIZES, counts, strict=False):
            pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
            corners = np.sort(generator.uniform(0, (width, height), (count, 2, 2)), axis=1)
            prompts = corners[:, 0] if kind == "points" else corners.reshape(count, 4)
            photographs.append(Photograph(pixels, prompts))
        return photographs

    return make


@pytest.fixture
def answers(rig, monkeypatch):
    """Run the pipeline; give what the mask decoder and the scaling up returned, call by call."""

    def run(photographs):
        low_res, upscaled = [], []
        decode, postprocess = rig.model.mask_decoder.forward, rig.model.postprocess_masks

        def spy_decode(*arguments):
            low_res.append(decode(*arguments))
            return low_res[-1]

        def spy_postprocess(*arguments):
            upscaled.append(postprocess(*arguments))
            return upscaled[-1]

        with monkeypatch.context() as patch, torch.inference_mode():
            patch.setattr(rig.model.mask_decoder, "forward", spy_decode)
            patch.setattr(rig.model, "postprocess_masks", spy_postprocess)
            run_pipeline(rig, photographs)
        return [logits for logits, _ in low_res], upscaled

    return run


def predicted(model, photographs):
    """What SamPredictor finds for the same prompts: logits of each image, and small ones."""
    predictor = SamPredictor(model)
    predictor.set_images([photograph.pixels for photograph in photographs])
    prompts = []
    for photograph in photographs:
        given = photograph.prompts
        labels = np.ones((len(given), 1), int)
        is_points = given.shape[1] == 2
        prompts.append(Prompts(given[:, None], labels) if is_points else Prompts(boxes=given))
    logits, _, low_res = zip(*predictor.predict_batch(prompts, return_logits=True), strict=True)
    return logits, np.concatenate(low_res)


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


# Stopwatch


def test_a_stopwatch_sums_the_parts_of_one_name(fake_clock):
    clock = fake_clock()
    watch = Stopwatch(clock)
    for name, seconds in (("first", 0.5), ("second", 0.25), ("first", 1.0)):
        watch.begin(name)
        clock.now_s += seconds

    assert watch.seconds() == {"first": 1.5, "second": 0.25}


def test_a_stopwatch_waits_for_the_device_at_its_end_alone(fake_clock):
    clock = fake_clock()
    watch = Stopwatch(clock)
    for name in ("first", "second"):
        watch.begin(name)
    watch.seconds()

    assert clock.log == ["mark", "mark", "mark", "wait"]


@pytest.mark.parametrize("parts", [0, 1, 5])
def test_a_stopwatch_gives_its_marks_back(fake_clock, parts):
    clock = fake_clock()
    watch = Stopwatch(clock)
    for index in range(parts):
        watch.begin(f"part {index % 2}")
    watch.seconds()

    assert clock.out == 0


def test_a_part_that_a_run_lacks_took_it_no_time():
    runs = [{"first": 1.0}, {"first": 2.0, "second": 3.0}]

    assert by_name(runs) == {"first": (1.0, 2.0), "second": (0.0, 3.0)}


# Components


@pytest.mark.parametrize(("source", "parts"), [("images", COMPONENTS), ("noise", COMPONENTS[1:])])
def test_components_go_from_files_to_masks_and_noise_has_no_file(run_case, source, parts):
    measured = run_case(input=source, passes=("components",), max_timed_s=60.0, image_size=32)

    assert tuple(measured.components_s) == parts
    assert {len(samples) for samples in measured.components_s.values()} == {3}


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_an_image_of_any_shape_is_measured_from_files_to_masks(run_case, photograph, size):
    Image.new("RGB", size, "red").save(photograph / "one.png")
    measured = run_case(
        input="images", passes=("components",), images=str(photograph), image_size=32
    )

    assert tuple(measured.components_s) == COMPONENTS


def test_a_batch_repeats_the_images_in_turn(make_photographs):
    images = make_photographs((1, 1, 1))
    bench = SimpleNamespace(
        photographs=SimpleNamespace(images=images), case=SimpleNamespace(batch_size=5)
    )
    first, second, third = images

    assert batch_of(bench) == [first, second, third, first, second]


@pytest.mark.parametrize("kind", ["points", "boxes"])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_the_mask_decoder_is_asked_what_a_predictor_asks_it(
    rig, answers, make_photographs, counts, kind
):
    photographs = make_photographs(counts, kind)
    low_res = torch.cat(answers(photographs)[0]).numpy()

    assert low_res.shape == (sum(counts), 3, 16, 16)
    assert distance(low_res, predicted(rig.model, photographs)[1]) < 1e-5


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_masks_have_the_size_of_their_image(rig, answers, make_photographs, counts):
    photographs = make_photographs(counts)
    _, upscaled = answers(photographs)

    for photograph, expected in zip(photographs, predicted(rig.model, photographs)[0], strict=True):
        size = photograph.pixels.shape[:2]
        found = torch.cat([masks for masks in upscaled if masks.shape[-2:] == size]).numpy()

        assert found.shape == expected.shape == (len(photograph.prompts), 3, *size)
        assert distance(found, expected) < 1e-5


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_the_mask_decoder_takes_64_prompts_at_a_time(answers, make_photographs, counts):
    sizes = [len(low_res) for low_res in answers(make_photographs(counts))[0]]

    assert len(sizes) == math.ceil(sum(counts) / PROMPTS_IN_A_PASS)
    assert set(sizes[:-1]) <= {PROMPTS_IN_A_PASS}


# Calls of each part for two images with 1 and 64 prompts: these are decoded in two passes, and the
# masks of the second image are scaled up in both.
CALLS = {
    "decode": 2, "preprocess": 2, "host_to_device_copy": 1, ENCODER: 1, "prompt_encoder": 1,
    "mask_decoder": 2, "postprocess": 3,
}  # fmt: skip
HOMES = {
    "decode": (components, "decode_image"),
    "host_to_device_copy": (batches, "copy_to_device"),
    "prompt_encoder": (pipelines, "embed_prompts"),
}


@pytest.mark.parametrize("part", COMPONENTS)
def test_time_is_put_down_to_the_part_that_spent_it(
    rig, fake_clock, make_photographs, photograph, monkeypatch, part
):
    clock = fake_clock()
    rig = replace(rig, clock=clock)

    def let_spend(home, name):
        function = getattr(home, name)

        def spending(*arguments):
            clock.now_s += 1.0
            return function(*arguments)

        monkeypatch.setattr(home, name, spending)

    if part == "preprocess":
        let_spend(batches, "resize_images")
        let_spend(batches, "normalise")
    elif part == ENCODER:
        let_spend(rig, "run_encoder")
    elif part == "mask_decoder":
        let_spend(rig.model.mask_decoder, "forward")
    elif part == "postprocess":
        let_spend(rig.model, "postprocess_masks")
    else:
        let_spend(*HOMES[part])
    file = (photograph / "one.png").read_bytes()
    images = [replace(each, file=file) for each in make_photographs((1, 64))]
    with torch.inference_mode():
        spent = run_pipeline(rig, images)

    assert spent == dict.fromkeys(COMPONENTS, 0.0) | {part: float(CALLS[part])}


def test_a_run_waits_for_the_device_before_it_and_after_it_alone(rig, fake_clock, make_photographs):
    clock = fake_clock()
    with torch.inference_mode():
        run_pipeline(replace(rig, clock=clock), make_photographs((1, 64)))

    assert clock.log[0] == clock.log[-1] == "wait"
    assert clock.log.count("wait") == 2
    assert clock.out == 0
