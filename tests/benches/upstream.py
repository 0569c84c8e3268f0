"""Our image encoder beside upstream's (segment-anything 1.0), in turn, in one run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import click
import numpy as np
import torch
from rich.console import Console
from segment_anything.modeling import ImageEncoderViT as UpstreamEncoder
from torch import Tensor, nn

from benchmarking.execution import EXECUTIONS
from benchmarking.precision import PRECISIONS
from benchmarking.report import View, markdown
from benchmarking.timing import collected_garbage, timed_chunk
from hooks import clock_for
from sam.build import build_sam_model
from sam.configs import MODELS
from sam.image_encoder import ImageEncoderViT

HEADINGS = ["precision", "encoder", "ms/image", "speed-up", "relative L2 error to upstream fp32"]


@click.command()
@click.option("--model", default="vit_b", show_default=True)
@click.option("--image-size", default=1024, show_default=True)
@click.option("--batch-size", default=1, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--precision", "precisions", default="fp32,bf16", show_default=True)
@click.option("--attention", "attentions", default="reference,sdpa,auto", show_default=True)
@click.option("--execution", "executions", default="eager", show_default=True)
def main(
    model: str,
    image_size: int,
    batch_size: int,
    rounds: int,
    precisions: str,
    attentions: str,
    executions: str,
) -> None:
    """Each attention in each execution beside upstream; several are given with commas."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours = list(itertools.product(attentions.split(","), executions.split(",")))
    encoders = {name: it.to(device) for name, it in build_encoders(model, image_size, ours).items()}
    shape = (batch_size, 3, image_size, image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    view = View(
        f"{model}, {image_size} px, batch {batch_size}, {device}, {torch.get_num_threads()} CPU "
        f"threads, torch {torch.__version__}, median of {rounds} rounds in turn",
        HEADINGS,
    )
    torch.backends.cudnn.allow_tf32 = False  # torch's default would make fp32 inexact
    with torch.inference_mode(), collected_garbage():
        wanted = encoders["upstream"](images).float()
        forwards = {"upstream": encoders["upstream"]} | {
            name: EXECUTIONS[name.split()[1]].prepare(encoder)
            for name, encoder in encoders.items()
            if name != "upstream"
        }
        for precision in precisions.split(","):
            for encoder in encoders.values():
                encoder.to(getattr(torch, PRECISIONS[precision].dtype))
            view.rows += rows(forwards, images, wanted, precision, rounds)
    Console(width=200).print(markdown(view), markup=False, highlight=False)


def build_encoders(
    model: str, image_size: int, ours: list[tuple[str, str]]
) -> dict[str, nn.Module]:
    """Upstream's encoder and ours, for each attention and execution, with the same weights."""
    config = MODELS[model]
    encoders: dict[str, nn.Module] = {
        "upstream": UpstreamEncoder(
            depth=config.depth,
            embed_dim=config.embed_dim,
            img_size=image_size,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=config.num_heads,
            use_rel_pos=True,
            global_attn_indexes=config.global_blocks,
            window_size=14,
            out_chans=256,
        )
    }
    for attention, execution in ours:
        encoders[f"{attention} {execution}"] = ImageEncoderViT(config, image_size, attention)
    weights = build_sam_model(model, image_size=image_size).image_encoder.state_dict()
    for encoder in encoders.values():
        encoder.eval().load_state_dict(weights)
    return encoders


def rows(
    forwards: dict[str, Callable[[Tensor], Tensor]],
    images: Tensor,
    wanted: Tensor,
    precision: str,
    rounds: int,
) -> list[list[str]]:
    """Time all in turn in one precision; a row an encoder."""
    dtype = getattr(torch, PRECISIONS[precision].dtype)
    clock, images = clock_for(images.device), images.to(dtype)
    errors = {}
    for name, forward in forwards.items():  # warms up, too
        output = forward(images).float()
        errors[name] = float((output - wanted).norm() / wanted.norm())
    seconds = np.empty((rounds, len(forwards)))
    for index in range(rounds):
        order = list(enumerate(forwards.values()))
        for column, forward in order[:: 1 if index % 2 else -1]:
            seconds[index, column] = timed_chunk(partial(forward, images), clock, 1).wall_s
    median = np.median(seconds, axis=0) / len(images)
    speed_up = np.median(seconds[:, :1] / seconds, axis=0)
    return [
        [precision, name, f"{own * 1e3:.1f}", f"{ratio:.2f}x", f"{errors[name]:.1e}"]
        for name, own, ratio in zip(forwards, median, speed_up, strict=True)
    ]


if __name__ == "__main__":
    main()
