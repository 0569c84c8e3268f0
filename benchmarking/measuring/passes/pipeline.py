"""The whole way from an image's file to masks, with the time of each part.

Shapes: B images, P prompts over all of them, S pixels along an edge.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hooks import Clock
from results.records.case import Case
from results.records.measurement import ENCODER
from results.records.plan import TimingPlan
from sam.family import MaskGenerator, PromptedImage

from ...choices.inputs import Photograph, Photographs, Pixels, decode_image
from ..rig import Rig
from ..timing import collected_garbage, limited


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
    pipeline, watch = rig.family.prompts, Stopwatch(rig.clock)
    assert pipeline is not None  # cases without one are unsupported
    rig.clock.synchronize()
    files = [image.file for image in images if image.file is not None]
    if files:
        watch.begin("decode")
        for file in files:
            decode_image(file, Path())
    watch.begin("preprocess")
    resized = resize_images(rig, [image.pixels for image in images])
    watch.begin("host_to_device_copy")
    copied = copy_to_device(rig, resized)
    # With the images: a copy between the later parts would wait for what the device still does.
    prepared = pipeline.prepare(rig.model, prompted(images, resized), rig.device)
    watch.begin("preprocess")
    normalised = normalise(rig, copied).to(rig.dtype)
    watch.begin(ENCODER)
    features = rig.run_encoder(normalised)
    pipeline.run(rig.model, features, prepared, watch.begin)
    return watch.seconds()


def prompted(images: Sequence[Photograph], resized: Sequence[Tensor]) -> list[PromptedImage]:
    """What the pipeline needs to know of each image."""
    found = []
    for image, each in zip(images, resized, strict=True):
        (height, width), (input_height, input_width) = image.pixels.shape[:2], each.shape[-2:]
        found.append(PromptedImage((height, width), (input_height, input_width), image.prompts))
    return found


def resize_images(rig: Rig, images: Sequence[Pixels]) -> list[Tensor]:
    """On the host: (H, W, 3) uint8 each, to (3, H', W') uint8 that fits the encoder's input."""
    return [rig.family.resize(image, rig.image_size) for image in images]


def copy_to_device(rig: Rig, images: Sequence[Tensor]) -> list[Tensor]:
    return [image.to(rig.device) for image in images]


def normalise(rig: Rig, images: Sequence[Tensor]) -> Tensor:
    """On the device: normalise and pad, to (B, 3, S, S)."""
    return torch.stack([rig.preprocess(image) for image in images])


def mask_generator_pass(
    case: Case, plan: TimingPlan, rig: Rig, batches: list[Tensor], photographs: Photographs
) -> dict[str, Any]:
    """The mask generator on a batch of images, by its stages."""
    pipeline = mask_generator_of(rig)
    images = [image.pixels for image in batch_of(photographs, case.batch_size)]
    settings = generator_settings(case, plan, rig, images[0])
    found: list[int] = []
    pipeline.warm_up(rig.model, images, settings)

    def generate() -> dict[str, float]:
        watch = Stopwatch(rig.clock)
        found.append(pipeline.run(rig.model, images, settings, watch.begin))
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


def mask_generator_of(rig: Rig) -> MaskGenerator:
    pipeline = rig.family.mask_generator
    assert pipeline is not None  # cases without one are unsupported
    return pipeline


def generator_settings(case: Case, plan: TimingPlan, rig: Rig, pixels: Pixels) -> dict[str, Any]:
    """The generator's arguments; with random weights, thresholds that a few masks pass."""
    return mask_generator_of(rig).settings(
        rig.model,
        pixels,
        points_per_side=plan.points_per_side,
        images_per_batch=case.batch_size,
        is_random=case.weights == "random",
    )
