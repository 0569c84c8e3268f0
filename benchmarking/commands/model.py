"""Commands that use the model: download, masks, onnx."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.records.errors import UserError, printable

from ..options.terminal import EXIT_FAILED_CASES, out, with_options

if TYPE_CHECKING:
    import torch

    from sam import Sam

new_file = click.Path(path_type=Path)
WHOLE_NUMBER = r"-?[0-9]{1,18}"
NUMBER = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?"


class Number(click.ParamType):
    """A number in plain digits, within bounds; a whole one where they are."""

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most
        self.is_whole = isinstance(least, int)
        self.name = "integer" if self.is_whole else "float"

    def convert(
        self, value: object, parameter: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text, pattern = str(value), WHOLE_NUMBER if self.is_whole else NUMBER
        number = float(text) if re.fullmatch(pattern, text) else math.nan
        if not self.least <= number <= self.most:  # no bounds hold for NaN
            from ..errors import quoted

            kind = "a whole number" if self.is_whole else "a number"
            bounds = f"from {self.least:,} to {self.most:,}"
            self.fail(f"must be {kind} {bounds}, got {quoted(text)}.", parameter, ctx)
        return int(number) if self.is_whole else number


FRACTION = Number(0.0, 1.0)


# The options that name a model and its weights; upstream's, where it has them.
model_options = with_options(
    click.option("-m", "--model-type", default="vit_h", show_default=True, help="Model to use."),
    click.option(
        "--checkpoint",
        default="checkpoints",
        show_default=True,
        help="A file of weights, a folder of official ones, or 'random'.",
    ),
    click.option(
        "--image-size",
        type=Number(16, 65_536),
        default=1024,
        show_default=True,
        help="Pixels along an edge of the model's input, a multiple of 16.",
    ),
)


@click.command()
@click.argument("model")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("checkpoints"),
    show_default=True,
    help="Folder for the file.",
)
@click.option("--base-url", help="Where the file lies, for a mirror.  [default: Meta's server]")
def download(model: str, folder: Path, base_url: str | None) -> None:
    """Fetch a model's official weights; a stopped download goes on where it was.

    \b
    Example:
      sam-bench download vit_b
    """
    from sam.families import MODELS
    from sam.family import official_of
    from sam.files.download import download as fetch

    from ..errors import quoted, suggestion
    from ..views.progress import byte_progress

    known = official_of(MODELS)
    official = known.get(model)
    if official is None:
        raise UserError(f"No official checkpoint of {quoted(model)}.{suggestion(model, known)}")
    with byte_progress(official.filename, official.size_bytes, out(stderr=True)) as on_progress:
        path = fetch(official, folder, base_url, on_progress)
    click.echo(f"{path}: verified. Use it with: sam-bench sweep -m {model} --weights {path}")


@click.command()
@click.option(
    "-i", "--input", "source", type=new_file, required=True, help="An image, or a folder of them."
)
@click.option(
    "-o", "--output", "folder", type=new_file, required=True, help="A folder, made if not there."
)
@model_options
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda:0, mps, ...")
@click.option("-p", "--precision", default="fp32", show_default=True, help="As sweep's.")
@click.option("--attention", default="sdpa", show_default=True, help="As sweep's.")
@click.option(
    "--convert-to-rle", is_flag=True, help="One JSON an image in SA-1B's form, not a folder of PNG."
)
@click.option("--overwrite", is_flag=True, help="Make masks again where their output exists.")
@click.option(
    "--points-per-side", type=Number(1, 1000), help="Points along each side.  [default: 32]"
)
@click.option(
    "--points-per-batch", type=Number(1, 1_000_000), help="Points at a time.  [default: 64]"
)
@click.option("--pred-iou-thresh", type=FRACTION, help="Least predicted IoU.  [default: 0.88]")
@click.option("--stability-score-thresh", type=FRACTION, help="Least stability.  [default: 0.95]")
@click.option(
    "--stability-score-offset",
    type=Number(0.0, 1000.0),
    help="Logits that stability is judged by. [default: 1]",
)
@click.option("--box-nms-thresh", type=FRACTION, help="Box IoU of duplicates.  [default: 0.7]")
@click.option(
    "--crop-n-layers", type=Number(0, 8), help="Layers of crops to look at too.  [default: 0]"
)
@click.option("--crop-nms-thresh", type=FRACTION, help="The same, between crops.  [default: 0.7]")
@click.option(
    "--crop-overlap-ratio", type=FRACTION, help="Overlap, of the shorter side.  [default: 0.341]"
)
@click.option(
    "--crop-n-points-downscale-factor",
    type=Number(1, 1000),
    help="Fewer points a layer.  [default: 1]",
)
@click.option(
    "--min-mask-region-area",
    type=Number(0, 1_000_000_000),
    help="Pixels of holes and islands to remove.  [default: 0]",
)
def masks(
    source: Path,
    folder: Path,
    model_type: str,
    checkpoint: str,
    image_size: int,
    device: str,
    precision: str,
    attention: str,
    convert_to_rle: bool,
    overwrite: bool,
    **settings: float | None,
) -> None:
    """Write the masks of everything in each image, with upstream's options (amg.py).

    A folder of PNG files and metadata.csv for each image, or one JSON. What a run before this one
    has written stays, and is passed over.

    \b
    Example:
      sam-bench masks --input photographs --output masks --model-type vit_b
    """
    from sam import SamAutomaticMaskGenerator

    from ..choices.families import family_of
    from ..choices.precision import apply_precision
    from ..measuring.mask_files import make_masks, plan_jobs
    from ..views.progress import count_progress

    jobs = plan_jobs(source, folder, as_json=convert_to_rle)
    left = jobs if overwrite else [job for job in jobs if not job.is_done()]
    if len(left) < len(jobs):
        done = len(jobs) - len(left)
        click.echo(f"{done} of {len(jobs)} images have masks (--overwrite makes them again).")
    if not left:
        return
    name = checked_model(model_type)
    place = check_place(name, device, precision, attention)  # first, for loading takes seconds
    model = load_model(name, checkpoint, image_size, attention)
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    with in_one_line():
        apply_precision(model, precision, family_of(name))
        generator = SamAutomaticMaskGenerator(
            model.to(place), output_mode="coco_rle" if convert_to_rle else "binary_mask", **given
        )
    failures = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with enough_memory(), count_progress(len(left), out(stderr=True)) as advance:
            for job, outcome in make_masks(generator, left):
                is_done = isinstance(outcome, int)
                said = f"{job.output}: {outcome} masks" if is_done else f"passed over: {outcome}"
                failures += not is_done
                advance(printable(said))
    except OSError as error:
        raise UserError(f"'{folder}' can't be written: {error.strerror}.") from error
    except KeyboardInterrupt as stop:
        again = "The same command, without --overwrite, goes on where this one stopped."
        raise KeyboardInterrupt(again) from stop
    done = len(left) - failures
    click.echo(f"{done} image{'s' * (done != 1)}: masks in {printable(str(folder))}")
    if checkpoint == "random":
        click.echo("Weights: random. These masks mean nothing.")
    if failures:
        sys.exit(EXIT_FAILED_CASES)


@click.command()
@model_options
@click.option("-o", "--output", type=new_file, help="A new file for what follows the encoder.")
@click.option("--encoder-output", type=new_file, help="A new file for the image encoder.")
@click.option(
    "--return-single-mask", is_flag=True, help="The best mask of a prompt alone, not all four."
)
@click.option(
    "--opset",
    type=Number(18, 23),
    default=18,
    show_default=True,
    help="ONNX's operator set, 18 to 23.",
)
@click.option("--quantize-out", type=new_file, help="A new file for a copy in 8-bit integers.")
@click.option("--gelu-approximate", is_flag=True, help="GELU by tanh, for runtimes without erf.")
@click.option(
    "--use-stability-score", is_flag=True, help="Masks' stability in place of predicted IoU."
)
@click.option("--return-extra-metrics", is_flag=True, help="Stability and area of each mask too.")
def onnx(
    model_type: str,
    checkpoint: str,
    image_size: int,
    output: Path | None,
    encoder_output: Path | None,
    return_single_mask: bool,
    opset: int,
    quantize_out: Path | None,
    gelu_approximate: bool,
    use_stability_score: bool,
    return_extra_metrics: bool,
) -> None:
    """Export the model as ONNX, with upstream's options: the image encoder, and what follows it.

    \b
    Example:
      sam-bench onnx -m vit_b --output masks.onnx --encoder-output encoder.onnx
    """
    if output is None and encoder_output is None:
        raise UserError("Nothing to export: name a new file with --output or --encoder-output.")
    if output is None and quantize_out is not None:
        raise UserError("--quantize-out makes a copy of --output: name that one too.")
    check_new([path for path in (output, encoder_output, quantize_out) if path is not None])
    with in_one_line():
        from sam import onnx_export

        onnx_export.import_onnx()
        if quantize_out is not None:
            onnx_export.import_quantization()
        model = load_model(checked_model(model_type), checkpoint, image_size)
        if encoder_output is not None:
            onnx_export.export_encoder(model.image_encoder, encoder_output, opset)
            click.echo(f"{encoder_output}: the image encoder, for batches of any size")
        if output is not None:
            predictor = onnx_export.OnnxMaskPredictor(
                model, return_single_mask, use_stability_score, return_extra_metrics
            )
            onnx_export.export_mask_predictor(predictor, output, opset, gelu_approximate)
            click.echo(f"{output}: from embedding and prompt to masks")
        if output is not None and quantize_out is not None:
            onnx_export.quantize(output, quantize_out)
            click.echo(f"{quantize_out}: the same in 8-bit integers")


def check_new(paths: Iterable[Path]) -> None:
    """Refuse what exists, and outputs of which one would replace another."""
    written = [Path(f"{path}{end}") for path in paths for end in ("", ".data")]  # with the weights
    for path in written:
        with in_one_line(), suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
            raise UserError(f"'{path}' exists: name another file, or move it away.")
        if not path.parent.is_dir():
            raise UserError(f"There is no folder '{path.parent}' for '{path.name}': make it first.")
    if len({os.path.realpath(path) for path in written}) < len(written):
        raise UserError("Each output must be a file of its own: two have the same name.")


def checked_model(model_type: str) -> str:
    """The name of a model that makes masks; 'default' is upstream's name for vit_h."""
    from ..choices.families import family_of

    name = "vit_h" if model_type == "default" else model_type
    check_known("model", name)
    family = family_of(name)
    if family.mask_generator is None:
        raise UserError(f"{name} can't be used here: {family.no_masks}.")
    return name


def load_model(name: str, checkpoint: str, image_size: int, attention: str = "sdpa") -> Sam:
    """A model with its weights, on the CPU."""
    from sam import build_sam_model

    from ..choices.sweep import checkpoint_path

    with in_one_line("read"):
        path = None if checkpoint == "random" else checkpoint_path(checkpoint, name, "--checkpoint")
        return build_sam_model(name, image_size=image_size, attention=attention, checkpoint=path)


def check_place(model: str, device: str, precision: str, attention: str) -> torch.device:
    """The device of this name, if the model can be run there as asked."""
    import torch

    from ..choices.families import family_of
    from ..choices.precision import PRECISIONS, why_no_eight_bits, why_unsupported

    check_known("precision", precision)
    check_known("attention", attention)
    place = find_device(device)
    capability = torch.cuda.get_device_capability(place) if place.type == "cuda" else None
    family = family_of(model)
    reason = why_unsupported(precision, place.type, capability)
    reason = reason or why_no_eight_bits(precision, family)
    if reason is not None:
        raise UserError(f"{reason}: choose another --precision or --device.")
    reason = family.why_no_attention(attention, place.type, PRECISIONS[precision].dtype)
    if reason is not None:
        raise UserError(f"{reason}: choose another --attention or --device.")
    return place


def check_known(axis: str, value: str) -> None:
    from ..choices.sweep import VOCABULARY, is_known
    from ..errors import quoted, suggestion

    if not is_known(axis, value):
        raise UserError(f"Unknown {axis} {quoted(value)}.{suggestion(value, VOCABULARY[axis])}")


def find_device(name: str) -> torch.device:
    """The device of this name; the best there is where it is 'auto'."""
    import torch

    from ..errors import quoted

    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        trial = torch.zeros(1, device=name)
        trial.cpu()  # which the device "meta" refuses
        return trial.device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"There is no device {quoted(name)} here: try --device cpu.") from error


@contextmanager
def in_one_line(done: str = "written") -> Iterator[None]:
    """Errors of the model's that a person can mend become one line; `done` with files."""
    try:
        with enough_memory():
            yield
    except OSError as error:
        name = f"'{error.filename}'" if error.filename else "A file"  # a full disk names none
        raise UserError(f"{name} can't be {done}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say in one line that the memory does not suffice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        from ..measuring.failures import classify

        status, reason = classify(error)
        if status != "oom":
            raise
        raise UserError(
            "The memory does not suffice: choose a smaller model, --image-size or "
            f"--points-per-batch ({reason})."
        ) from error
