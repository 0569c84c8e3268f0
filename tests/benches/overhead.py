"""What do the timer's hooks cost? Plain and hooked forwards of vit_b in turn, so drift cancels."""

from __future__ import annotations

import click
import numpy as np
import torch

from benchmarking.choices.modules import find_modules
from benchmarking.measuring.timing import collected_garbage, timed_chunk
from hooks import ForwardTimer, clock_for
from results.records.measurement import ENCODER
from results.tables.stats import median_interval
from sam.sam1.registry import build_sam_model


@click.command()
@click.option("--rounds", default=12, show_default=True, help="Pairs of a plain and a hooked run.")
@click.option("--image-size", default=0, help="Pixels.  [default: 1024 on a GPU, 512 on a CPU]")
@click.option("--model", default="vit_b", show_default=True)
def main(rounds: int, image_size: int, model: str) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    image_size = image_size or (1024 if device.type == "cuda" else 512)
    encoder = build_sam_model(model, image_size=image_size).to(device).image_encoder
    images = torch.randn(1, 3, image_size, image_size, device=device)
    clock = clock_for(device)
    modules = {name: timed.module for name, timed in find_modules(encoder).items()}
    plain, hooked, coverage = [], [], []

    def forward() -> torch.Tensor:
        return encoder(images)

    with torch.inference_mode(), collected_garbage():
        for _ in range(3):
            forward()
        for index in range(rounds):
            for is_hooked in (index % 2 == 0, index % 2 == 1):  # AB BA AB ...
                if is_hooked:
                    with ForwardTimer(modules, clock) as timer:
                        hooked.append(timed_chunk(forward, clock, 1).wall_s)
                        own, total = timer.self_s(), timer.total_s()[ENCODER][0]
                    inner = sum(own[name][0] for name in modules if name != ENCODER)
                    coverage.append(inner / total)
                else:
                    plain.append(timed_chunk(forward, clock, 1).wall_s)

    ratios = np.array(hooked) / np.array(plain)
    low, high = median_interval(ratios)
    print(f"{model}, {image_size} px, batch 1, fp32, {device}, {rounds} pairs in turn")
    print(f"plain forward     {np.median(plain) * 1e3:10.2f} ms")
    print(f"with the timer    {np.median(hooked) * 1e3:10.2f} ms")
    print(
        f"ratio             {np.median(ratios):10.4f}    95 % {low:.4f} .. {high:.4f}, goal <= 1.01"
    )
    print(f"coverage          {np.median(coverage):10.4f}    goal 0.97 .. 1.01")


if __name__ == "__main__":
    main()
