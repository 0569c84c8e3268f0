"""The mask generator on a batch of images, by its stages."""

from __future__ import annotations

from typing import Any

import numpy as np

from results.records.case import Case
from results.records.measurement import Pipeline
from results.records.plan import TimingPlan
from sam.sam1.configs import MODELS
from sam.sam1.work import encoder_work

from ...choices.inputs import Pixels
from .bench import Bench
from .pipelines import Stopwatch, batch_of, by_name, why_no_masks

# Random weights predict no quality: this share of all masks is let pass, about as many as trained
# ones find good on a photograph.
KEPT_SHARE = 0.1
PROMPT_FLOPS = 3.6e9  # of the mask decoder, at 1024 pixels


def run(bench: Bench) -> Pipeline:
    from sam import SamAutomaticMaskGenerator

    from ..timing import collected_garbage, limited

    rig, plan = bench.rig, bench.plan
    images = [image.pixels for image in batch_of(bench)]
    settings = generator_settings(bench, images[0])
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
    bench.notes["mask_generator"] = f"{', '.join(used)}: {found[0]} masks"
    return Pipeline(stages_s=by_name(runs))


def generator_settings(bench: Bench, pixels: Pixels) -> dict[str, Any]:
    """The generator's arguments; with random weights, thresholds that a few masks pass."""
    from sam import SamAutomaticMaskGenerator

    settings: dict[str, Any] = {
        "points_per_side": bench.plan.points_per_side,
        "images_per_batch": bench.case.batch_size,
    }
    if bench.case.weights != "random":
        return settings
    few = SamAutomaticMaskGenerator(bench.rig.model, points_per_side=4)
    few.predictor.set_images([pixels])
    points = few.point_grids[0] * np.array(pixels.shape[1::-1])
    _, quality = few.predictor.predict_points(0, points)
    least = float(quality.float().quantile(1 - KEPT_SHARE))
    return settings | {
        "pred_iou_thresh": max(least, 1e-6),  # at zero the generator would filter nothing
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 1.0,  # their masks are all alike: none would be left for what follows
    }


def why_not(case: Case) -> str | None:
    if case.execution != "eager":
        return why_no_masks(case) or "the mask generator runs the image encoder eagerly"
    return why_no_masks(case)


def seconds(case: Case, plan: TimingPlan, forward_s: float) -> float:
    prompts = plan.points_per_side**2 * case.batch_size
    prompt_flops = PROMPT_FLOPS * (case.image_size / 1024) ** 2
    image_flops = encoder_work(MODELS[case.model], case.image_size, case.attention)[""].flops
    generate_s = forward_s * (1 + prompts * prompt_flops / (image_flops * case.batch_size))
    return max(generate_s, min(plan.module_forwards * generate_s, plan.max_timed_s))
