"""The mask generator on a batch of images, by its stages."""

from __future__ import annotations

from typing import Any

from results.records.case import Case, TimingPlan
from results.records.measurement import Pipeline

from ...choices.families import encoder_flops, family_of
from ...choices.inputs import Pixels
from .bench import Bench
from .pipelines import Stopwatch, batch_of, by_name

PROMPT_FLOPS = 3.6e9  # of the mask decoder, at 1024 pixels


def run(bench: Bench) -> Pipeline:
    from ..timing import collected_garbage, limited

    rig, plan, generator = bench.rig, bench.plan, bench.rig.family.mask_generator
    assert generator is not None  # cases without one are unsupported
    images = [image.pixels for image in batch_of(bench)]
    settings = generator_settings(bench, images[0])
    found: list[int] = []
    generator.warm_up(rig.model, images, settings)

    def generate() -> dict[str, float]:
        watch = Stopwatch(rig.clock)
        found.append(generator.run(rig.model, images, settings, watch.begin))
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
    generator = bench.rig.family.mask_generator
    assert generator is not None
    return generator.settings(
        bench.rig.model,
        pixels,
        points_per_side=bench.plan.points_per_side,
        images_per_batch=bench.case.batch_size,
        is_random=bench.case.weights == "random",
    )


def why_not(case: Case) -> str | None:
    family = family_of(case.model)
    if family.mask_generator is None:
        return family.no_masks
    if case.execution != "eager":
        return "the mask generator runs the image encoder eagerly"
    return None


def seconds(case: Case, plan: TimingPlan, forward_s: float) -> float:
    prompts = plan.points_per_side**2 * case.batch_size
    prompt_flops = PROMPT_FLOPS * (case.image_size / 1024) ** 2
    generate_s = forward_s * (1 + prompts * prompt_flops / (encoder_flops(case) * case.batch_size))
    return max(generate_s, min(plan.module_forwards * generate_s, plan.max_timed_s))
