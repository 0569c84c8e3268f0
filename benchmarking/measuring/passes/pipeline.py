"""The whole way from an image's file to masks, with the time of each part.

Shapes: B images, P prompts over all of them, S pixels along an edge.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hooks import Clock
from results.records.case import Case
from results.records.measurement import ENCODER
from results.records.plan import TimingPlan
from sam import SamAutomaticMaskGenerator
from sam.sam1.transforms import ResizeLongestSide

from ...choices.inputs import Photograph, Photographs, Pixels, Prompts, decode_image
from ..rig import Rig
from ..timing import collected_garbage, limited

PROMPTS_IN_A_PASS = 64  # in the mask decoder, as upstream's mask generator has it
# Random weights predict no quality: this share of all masks is let pass, about as many as trained
# ones find good on a photograph.
KEPT_SHARE = 0.1


class Stopwatch:
    """Times named parts of work that follow one another, without waiting for the device."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.names: list[str] = []
        self.marks: list[Any] = []

    def begin(self, name: str) -> None:
        """End the part before, and begin one of this name."""
        self.names.append(name)
        self.marks.append(self.clock.mark())

    def seconds(self) -> dict[str, float]:
        """End the last part; seconds of each name's parts together."""
        self.marks.append(self.clock.mark())
        self.clock.synchronize()
        total: dict[str, float] = defaultdict(float)
        for name, pair in zip(self.names, itertools.pairwise(self.marks), strict=True):
            total[name] += self.clock.seconds(*pair)
        self.clock.release(*self.marks)
        return dict(total)


def components_pass(
    case: Case, plan: TimingPlan, rig: Rig, batches: list[Tensor], photographs: Photographs
) -> dict[str, Any]:
    """From the bytes of files to masks of all prompts, part by part."""
    images = batch_of(photographs, case.batch_size)
    run_pipeline(rig, images)  # warms up what the latency pass did not run
    with collected_garbage():
        runs = [run_pipeline(rig, images) for _ in limited(plan.module_forwards, plan.max_timed_s)]
    prompts = sum(len(image.prompts) for image in images)
    return {"components_s": by_name(runs), "prompts": prompts}


def batch_of(photographs: Photographs, batch_size: int) -> list[Photograph]:
    return list(itertools.islice(itertools.cycle(photographs.images), batch_size))


def by_name(runs: Sequence[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    """Seconds of each part in each run; zero where a run had no such part."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: tuple(run.get(name, 0.0) for run in runs) for name in names}


def run_pipeline(rig: Rig, images: Sequence[Photograph]) -> dict[str, float]:
    """Seconds of each component for one batch with all its prompts."""
    model = rig.model
    watch = Stopwatch(rig.clock)
    rig.clock.synchronize()
    pixels = [image.pixels for image in images]
    files = [image.file for image in images if image.file is not None]
    if files:
        watch.begin("decode")
        for file in files:
            decode_image(file, Path())
    watch.begin("preprocess")
    resized = resize_images(pixels, model.image_encoder.image_size)
    watch.begin("host_to_device_copy")
    copied = copy_to_device(rig, resized)
    # With the images: a copy between the later parts would wait for what the device still does.
    prompts, image_of_prompt = copy_prompts(rig, images)
    watch.begin("preprocess")
    normalised = normalise(rig, copied).to(rig.dtype)
    watch.begin(ENCODER)
    embeddings = rig.encode(normalised)
    watch.begin("prompt_encoder")
    sparse, dense = embed_prompts(rig, prompts)
    image_pe = model.prompt_encoder.get_dense_pe()
    owners = owners_of(images)
    for start in range(0, len(owners), PROMPTS_IN_A_PASS):
        chunk = slice(start, start + PROMPTS_IN_A_PASS)
        watch.begin("mask_decoder")
        logits, _ = model.mask_decoder(
            embeddings, image_pe, sparse[chunk], dense, True, image_of_prompt[chunk]
        )
        watch.begin("postprocess")
        chosen, counts = np.unique(owners[chunk], return_counts=True)
        for index, own in zip(chosen, logits.split(counts.tolist()), strict=True):
            sizes = resized[index].shape[-2:], pixels[index].shape[:2]
            _ = model.postprocess_masks(own, *sizes) > model.mask_threshold
    return watch.seconds()


def owners_of(images: Sequence[Photograph]) -> np.ndarray:
    """The image (P,) of each prompt, ascending."""
    return np.repeat(np.arange(len(images)), [len(image.prompts) for image in images])


def copy_prompts(rig: Rig, images: Sequence[Photograph]) -> tuple[Tensor, Tensor]:
    """All prompts (P, 2) or (P, 4) in pixels of the input, and the image (P,) of each."""
    transform = ResizeLongestSide(rig.model.image_encoder.image_size)
    scaled = np.concatenate([scale(transform, image) for image in images])
    prompts = torch.tensor(scaled, dtype=torch.float32, device=rig.device)
    return prompts, torch.tensor(owners_of(images), device=rig.device)


def embed_prompts(rig: Rig, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Sparse embeddings of all prompts (P, tokens, 256), and the dense one that they share."""
    if prompts.shape[1] == 4:
        sparse, dense = rig.model.prompt_encoder(None, prompts, None)
    else:
        labels = torch.ones(len(prompts), 1, dtype=torch.int, device=rig.device)
        sparse, dense = rig.model.prompt_encoder((prompts[:, None], labels), None, None)
    return sparse, dense[:1]


def scale(transform: ResizeLongestSide, image: Photograph) -> Prompts:
    size = image.pixels.shape[:2]
    apply = transform.apply_coords if image.prompts.shape[1] == 2 else transform.apply_boxes
    return apply(image.prompts, size)


def resize_images(images: Sequence[Pixels], image_size: int) -> list[Tensor]:
    """On the host: (H, W, 3) uint8 each, to (3, H', W') uint8 whose longest side fits."""
    transform = ResizeLongestSide(image_size)
    return [
        torch.from_numpy(transform.apply_image(image)).permute(2, 0, 1).contiguous()
        for image in images
    ]


def copy_to_device(rig: Rig, images: Sequence[Tensor]) -> list[Tensor]:
    return [image.to(rig.device) for image in images]


def normalise(rig: Rig, images: Sequence[Tensor]) -> Tensor:
    """On the device: normalise and pad, to (B, 3, S, S)."""
    return torch.stack([rig.preprocess(image) for image in images])


def mask_generator_pass(
    case: Case, plan: TimingPlan, rig: Rig, batches: list[Tensor], photographs: Photographs
) -> dict[str, Any]:
    """The mask generator on a batch of images, by its stages."""
    images = [image.pixels for image in batch_of(photographs, case.batch_size)]
    settings = generator_settings(case, plan, rig, images[0])
    found: list[int] = []

    # Each stage once, since the first call of each pays for loading it.
    SamAutomaticMaskGenerator(rig.model, **settings | {"points_per_side": 4}).generate_batch(images)

    def generate() -> dict[str, float]:
        watch = Stopwatch(rig.clock)
        generator = SamAutomaticMaskGenerator(rig.model, on_stage=watch.begin, **settings)
        masks = generator.generate_batch(images)
        found.append(sum(map(len, masks)))
        return watch.seconds()

    with collected_garbage():
        runs = [generate() for _ in limited(plan.module_forwards, plan.max_timed_s, fewest=1)]
    used = (
        f"{name} {f'{value:.3g}' if isinstance(value, float) else value}"
        for name, value in settings.items()
    )
    return {
        "mask_generator_s": by_name(runs),
        "notes": {"mask_generator": f"{', '.join(used)}: {found[0]} masks"},
    }


def generator_settings(case: Case, plan: TimingPlan, rig: Rig, pixels: Pixels) -> dict[str, Any]:
    """The generator's arguments; with random weights, thresholds that a few masks pass."""
    settings: dict[str, Any] = {
        "points_per_side": plan.points_per_side,
        "images_per_batch": case.batch_size,
    }
    if case.weights != "random":
        return settings
    few = SamAutomaticMaskGenerator(rig.model, points_per_side=4)
    few.predictor.set_images([pixels])
    points = few.point_grids[0] * np.array(pixels.shape[1::-1])
    _, quality = few.predictor.predict_points(0, points)
    least = float(quality.float().quantile(1 - KEPT_SHARE))
    return settings | {
        "pred_iou_thresh": max(least, 1e-6),  # at zero the generator would filter nothing
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 1.0,  # their masks are all alike: none would be left for what follows
    }
