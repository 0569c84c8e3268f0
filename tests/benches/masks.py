"""Our mask generator beside upstream's (segment-anything 1.0): seconds, memory, and equal output.

Both have the same random weights. With these a predicted IoU means nothing, so its threshold is one
that a share of the masks passes. Nothing falls to stability or NMS: all that pass are compared.
Each generator runs in a process of its own, so that neither hides the other's memory.
"""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import segment_anything
import torch
from rich.console import Console
from torch import nn

from benchmarking.choices.inputs import SAMPLE_IMAGES, read_image
from benchmarking.views.printing import TextTable, markdown
from hooks import Clock, ForwardTimer, clock_for, meter_for
from sam.attention.variants import ATTENTION
from sam.files.masks import coco_mask, decode_rle
from sam.sam1.mask_generator import SamAutomaticMaskGenerator
from sam.sam1.predictor import SamPredictor
from sam.sam1.registry import build_sam_model
from sam.sam1.transforms import ResizeLongestSide

FIRST_PASS_POINTS = 8  # along a side
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Measured:
    """What a generator took for one image, and what it found."""

    part_s: dict[str, float]
    stage_s: dict[str, float]
    peak_bytes: int
    records: list[dict[str, Any]]


class StageTimer:
    """Told the name of each stage as it begins, adds up their seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.marks: list[tuple[str, Any]] = []

    def __call__(self, stage: str) -> None:
        self.marks.append((stage, self.clock.mark()))

    def total_s(self) -> dict[str, float]:
        """Of each stage; the last mark ends the last one."""
        self.clock.synchronize()
        seconds: dict[str, float] = defaultdict(float)
        for (stage, start), (_, end) in zip(self.marks, self.marks[1:], strict=False):
            seconds[stage] += self.clock.seconds(start, end)
        return dict(seconds)


@click.command()
@click.option("--model", default="vit_b", show_default=True)
@click.option("--attention", type=click.Choice(list(ATTENTION)), default="sdpa", show_default=True)
@click.option("--points-per-side", default=32, show_default=True)
@click.option("--photograph", default="astronaut", show_default=True, help="A sample, or a file.")
@click.option("--scale", type=int, help="Pixels of its longest side.  [default: its own]")
@click.option("--share", default=0.1, show_default=True, help="Masks that pass, of all.")
@click.option("--output-mode", default="binary_mask", show_default=True)
def main(
    model: str,
    attention: str,
    points_per_side: int,
    photograph: str,
    scale: int | None,
    share: float,
    output_mode: str,
) -> None:
    image = read(photograph, scale)
    settings = {
        "points_per_side": points_per_side,
        "pred_iou_thresh": passed_by(share, build_ours(model, attention), image),
        "stability_score_thresh": 0.0,
        "box_nms_thresh": 1.0,
        "output_mode": output_mode,
    }
    upstream, ours = (
        in_own_process(is_ours, model, attention, image, settings) for is_ours in (False, True)
    )
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in ours.stage_s.items())
    view = TextTable(
        f"{model}, {photograph}, {image.shape[1]} x {image.shape[0]} pixels, {DEVICE}, fp32, "
        f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}, one run each",
        ["", "upstream", "ours", "speed-up"],
        rows(upstream, ours),
        f"Both with {settings}.\nOurs with {attention}, seconds by stage: {stages}.\n"
        f"Output: {compare(ours.records, upstream.records)}",
    )
    Console(width=200).print(markdown(view), markup=False, highlight=False, soft_wrap=True)


def read(photograph: str, longest_side: int | None) -> np.ndarray:
    sample = SAMPLE_IMAGES / f"{photograph}.jpg"
    image = read_image(sample if sample.is_file() else Path(photograph))
    if longest_side is None:
        return image
    return ResizeLongestSide(longest_side).apply_image(image)


def build_ours(model: str, attention: str) -> nn.Module:
    sam = build_sam_model(model, attention=attention)
    with torch.no_grad():
        # Random kernels make each pixel unlike the next: 50,000 runs a mask, and upstream would
        # spend a third of its time on copies of their lists. Even ones make some 2,000.
        for layer in sam.mask_decoder.output_upscaling:
            if isinstance(layer, nn.ConvTranspose2d):
                layer.weight[:] = layer.weight.mean(dim=(2, 3), keepdim=True)
    return sam.to(DEVICE)


def passed_by(share: float, sam: nn.Module, image: np.ndarray) -> float:
    """The predicted IoU that this share of the masks passes, as a coarse grid finds it."""
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    along = (np.arange(FIRST_PASS_POINTS) + 0.5) / FIRST_PASS_POINTS
    points = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    _, predicted_iou = predictor.predict_points(0, points * image.shape[1::-1])
    return round(predicted_iou.quantile(1 - share).item(), 3)


def in_own_process(*args: Any) -> Measured:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def measure(
    is_ours: bool, model: str, attention: str, image: np.ndarray, settings: dict[str, Any]
) -> Measured:
    torch.backends.cudnn.allow_tf32 = False  # torch's default would make fp32 inexact
    clock, meter = clock_for(DEVICE), meter_for(DEVICE)
    sam, stages = build_ours(model, attention), StageTimer(clock)
    extra: dict[str, Any] = {"on_stage": stages}
    make: Any = SamAutomaticMaskGenerator
    if not is_ours:
        weights = sam.state_dict()
        sam, extra = segment_anything.sam_model_registry[model]().to(DEVICE), {}
        sam.load_state_dict(weights)
        make = segment_anything.SamAutomaticMaskGenerator
    make(sam, **settings | {"points_per_side": 2}).generate(image)  # warms up
    generator = make(sam, **settings, **extra)
    modules = {part: getattr(sam, part) for part in ("image_encoder", "mask_decoder")}
    meter.settle()
    meter.reset_peak()
    held_bytes = meter.held_bytes()
    with ForwardTimer(modules, clock) as timer:
        stages("begin")
        records = generator.generate(image)
        stages("end")
    peak_bytes = meter.peak_bytes() - held_bytes
    clock.synchronize()
    total_s = clock.seconds(stages.marks[0][1], stages.marks[-1][1])
    module_s = {name: sum(seconds) for name, seconds in timer.total_s().items()}
    stage_s = stages.total_s()
    # Ours skips parts of the decoder, so does not call it as a module.
    decoder_s = stage_s.get("grid_prediction", module_s.get("mask_decoder", 0.0))
    rest_s = total_s - module_s["image_encoder"]
    part_s = {
        "seconds an image": total_s,
        "- image encoder": module_s["image_encoder"],
        "- the rest": rest_s,
        "-- mask decoder": decoder_s,
        "-- before and after it": rest_s - decoder_s,
    }
    return Measured(part_s, stage_s, peak_bytes, records)


def rows(upstream: Measured, ours: Measured) -> list[list[str]]:
    table = [
        [part, f"{theirs:.2f}", f"{own:.2f}", f"{theirs / own:.2f}x"]
        for (part, theirs), own in zip(upstream.part_s.items(), ours.part_s.values(), strict=True)
    ]
    peaks = [run.peak_bytes / 2**20 for run in (upstream, ours)]
    cells = [*(f"{peak:.0f}" for peak in peaks), f"{peaks[0] / peaks[1]:.2f}x"]
    table.append(["peak memory above the weights [MiB]", *cells])
    return [*table, ["masks", *(str(len(run.records)) for run in (upstream, ours)), ""]]


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """How far records in the order of two generators are the same."""
    pairs = list(zip(ours, theirs, strict=False))
    same = {
        field: sum(np.array_equal(own[field], other[field]) for own, other in pairs)
        for field in ("point_coords", "bbox", "segmentation")
    }
    differing = sum(int((pixels(own) != pixels(other)).sum()) for own, other in pairs)
    worst = {
        score: f"{max((abs(own[score] - other[score]) for own, other in pairs), default=0.0):.1e}"
        for score in ("predicted_iou", "stability_score")
    }
    is_equal = len(ours) == len(theirs) and all(count == len(pairs) for count in same.values())
    return (
        f"{'equal' if is_equal else 'not equal bit for bit'}; of {len(pairs)} pairs in order the "
        f"same: {same}; pixels that differ: {differing}; largest differences: {worst}."
    )


def pixels(record: dict[str, Any]) -> np.ndarray:
    """A record's (H, W) mask, in whatever form it is."""
    form = record["segmentation"]
    if isinstance(form, np.ndarray):
        return form
    return decode_rle(form) if isinstance(form["counts"], list) else coco_mask().decode(form)


if __name__ == "__main__":
    main()
