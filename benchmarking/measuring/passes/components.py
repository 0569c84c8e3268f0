"""The whole way from an image's file to masks, with the time of each component.

Shapes: B images, P prompts over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from results.records.case import Case
from results.records.measurement import ENCODER, Pipeline
from sam.family import PromptedImage

from ...choices.families import family_of
from ...choices.inputs import Photograph, decode_image
from .bench import Bench
from .pipelines import Stopwatch, batch_of, by_name

if TYPE_CHECKING:
    from ..rig import Rig

OVERHEAD = 1.2  # of the whole pipeline over the image encoder alone


def run(bench: Bench) -> Pipeline:
    """From the bytes of files to masks of all prompts, component by component."""
    from ..timing import collected_garbage, limited

    rig, plan, images = bench.rig, bench.plan, batch_of(bench)
    run_pipeline(rig, images)  # warms up what the latency pass did not run
    with collected_garbage():
        runs = [run_pipeline(rig, images) for _ in limited(plan.module_forwards, plan.max_timed_s)]
    prompts = sum(len(image.prompts) for image in images)
    return Pipeline(stages_s=by_name(runs), prompts=prompts)


def run_pipeline(rig: Rig, images: Sequence[Photograph]) -> dict[str, float]:
    """Seconds of each component for one batch with all its prompts."""
    from ..batches import copy_to_device, normalise, resize_images

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
    prompted = [
        PromptedImage(image.pixels.shape[:2], (each.shape[-2], each.shape[-1]), image.prompts)
        for image, each in zip(images, resized, strict=True)
    ]
    prepared = pipeline.prepare(rig.model, prompted, rig.device)
    watch.begin("preprocess")
    normalised = normalise(rig, copied).to(rig.dtype)
    watch.begin(ENCODER)
    features = rig.run_encoder(normalised)
    pipeline.run(rig.model, features, prepared, watch.begin)
    return watch.seconds()


def why_not(case: Case) -> str | None:
    family = family_of(case.model)
    return family.no_masks if family.prompts is None else None
