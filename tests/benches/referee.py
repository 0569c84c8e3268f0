"""Does our latency agree with other people's stopwatches? All of them in turn, in one run."""

from __future__ import annotations

from functools import partial

import click
import numpy as np
import torch
from rich.console import Console

from benchmarking.choices.precision import apply_precision
from benchmarking.measuring.reference_timer import GOAL, Agreement, agreement
from benchmarking.measuring.timing import collected_garbage
from benchmarking.views.printing import TextTable, markdown
from hooks import clock_for
from sam.sam1.family import SAM1
from sam.sam1.registry import build_sam_model

HEADINGS = [
    "precision", "referee", "ours, ms", "referee, ms", "ours / referee", "95 %", "launch share",
    f"within {GOAL * 100:.0f} %",
]  # fmt: skip


@click.command()
@click.option("--model", default="vit_b", show_default=True)
@click.option("--image-size", default=0, help="Pixels.  [default: 1024 on a GPU, 512 on a CPU]")
@click.option("--batch-size", default=1, show_default=True)
@click.option("--rounds", default=12, show_default=True, help="Turns that everyone gets.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(("fp32", "bf16")),
    multiple=True,
    default=("fp32",),
    show_default=True,
)
def main(
    model: str, image_size: int, batch_size: int, rounds: int, precisions: tuple[str, ...]
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    image_size = image_size or (1024 if device.type == "cuda" else 512)
    view = TextTable(
        f"{model}, {image_size} px, batch {batch_size}, {name}, {torch.get_num_threads()} CPU "
        f"threads, torch {torch.__version__}, median of {rounds} rounds in turn",
        HEADINGS,
        caption=f"Goal: ours within {GOAL * 100:.0f} % of the referee's; '~' where the interval "
        "crosses that. The sum of kernels leaves out the gaps between them, and isn't judged where "
        "launching is what takes the time.",
    )
    for precision in precisions:
        sam = build_sam_model(model, image_size=image_size)
        dtype = apply_precision(sam, precision, SAM1)
        images = torch.randn(
            batch_size, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)
        ).to(device, dtype)
        encode = partial(sam.image_encoder.to(device), images)
        with torch.inference_mode(), collected_garbage():
            met = agreement(encode, clock_for(device), rounds, device)
        view.rows += [row(precision, referee, each) for referee, each in met.items()]
    Console(width=200).print(markdown(view), markup=False, highlight=False)


def row(precision: str, referee: str, met: Agreement) -> list[str]:
    low, high = met.spread
    share = "-" if met.launch_share is None else f"{met.launch_share * 100:.0f} %"
    share += ", launch-bound" * met.is_launch_bound
    return [
        precision,
        referee,
        f"{np.median(met.own_s) * 1e3:.2f}",
        f"{np.median(met.referee_s) * 1e3:.2f}",
        f"{met.ratio:.4f}",
        f"{low:.4f} .. {high:.4f}",
        share,
        met.label,
    ]


if __name__ == "__main__":
    main()
