"""The whole way from an image's file to masks, with the time of each component.

Shapes: B images, P prompts over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from results.records.case import Case
from results.records.measurement import ENCODER, Pipeline
from results.records.plan import TimingPlan

from ...choices.inputs import Photograph, Prompts, decode_image
from .bench import Bench, in_turn_s
from .pipelines import Stopwatch, batch_of, by_name, why_no_masks

if TYPE_CHECKING:
    from torch import Tensor

    from sam.sam1.transforms import ResizeLongestSide

    from ..rig import Rig

PROMPTS_IN_A_PASS = 64  # in the mask decoder, as upstream's mask generator has it
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
    import torch

    from sam.sam1.transforms import ResizeLongestSide

    transform = ResizeLongestSide(rig.model.image_encoder.image_size)
    scaled = np.concatenate([scale(transform, image) for image in images])
    prompts = torch.tensor(scaled, dtype=torch.float32, device=rig.device)
    return prompts, torch.tensor(owners_of(images), device=rig.device)


def embed_prompts(rig: Rig, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Sparse embeddings of all prompts (P, tokens, 256), and the dense one that they share."""
    import torch

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


def why_not(case: Case) -> str | None:
    return why_no_masks(case)


def seconds(case: Case, plan: TimingPlan, forward_s: float) -> float:
    return OVERHEAD * in_turn_s(plan, forward_s)
