"""What the encoder is fed: photographs, annotated images, or normal noise. Never zeros, which draw
less power.

Torch is imported inside the functions, so that a folder can be checked at once.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from results.records.case import TimingPlan
from results.records.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAMPLE_IMAGES = Path(__file__).parents[1] / "sample_images"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_FILE_BYTES = 2**30  # what it is decoded from is held in memory, for timing the decoding
MAX_PIXELS = 100_000_000  # decoded; a larger file is more likely an attack than a photograph
BUFFERS = 2  # batches in rotation, so that no forward finds its input in a cache

Pixels = np.ndarray  # (H, W, 3) uint8
Prompts = np.ndarray  # (P, 2) foreground points as (x, y), or (P, 4) boxes as (x0, y0, x1, y1)


class InputError(UserError):
    """A folder or image can't be used."""


@dataclass(frozen=True)
class Photograph:
    """An image, and what the mask decoder is asked about it.

    prompts: In pixels of the image.
    file: What it was decoded from; None for noise.
    """

    pixels: Pixels
    prompts: Prompts
    file: bytes | None = None


@dataclass(frozen=True)
class Photographs:
    """Decoded images, and the files that could not be."""

    images: tuple[Photograph, ...]
    source: str
    unreadable: tuple[str, ...] = ()


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, in the order of their names."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except NotADirectoryError as error:
        raise InputError(f"'{folder}' must be a folder of images, and is none.") from error
    except OSError as error:
        raise InputError(f"'{folder}' can't be read: {error.strerror}.") from error
    if not found:
        raise InputError(
            f"'{folder}' has no image: put files in it that end in one of {' '.join(SUFFIXES)}."
        )
    return found


def read_image(path: Path) -> Pixels:
    """Decode a file to RGB, upright, first frame, over black where it is transparent.

    Raises:
        InputError: Where the file is no readable image of a sane size.
    """
    return decode_image(read_file(path), path)


def read_file(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"'{path}' is not a regular file.")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(f"'{path}' has {size} bytes, more than {MAX_FILE_BYTES}.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' can't be read: {error.strerror}.") from error


def decode_image(content: bytes, path: Path) -> Pixels:
    """As read_image, from the file's bytes; the path is for the error alone."""
    try:
        # Pillow warns from 89 megapixels on; here MAX_PIXELS decides.
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(content)) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"'{path}' has {image.width} x {image.height} pixels, more than {MAX_PIXELS}: "
                    "scale it down first."
                )
            return to_rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        what = re.sub(r" <_io\.BytesIO [^>]*>", "", str(error))  # Pillow was given no name
        reason = " ".join(what.split()).rstrip(".")
        raise InputError(f"'{path}' can't be decoded: {reason}.") from error


def to_rgb(image: Image.Image) -> Pixels:
    # Values beyond 8 bits would be cut off at 255: they are stretched to it.
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
        span = max(float(values.max() - values.min()), 1.0)
        grey = ((values - values.min()) * (255 / span)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), with_alpha)
    return np.array(image.convert("RGB"))


def read_photographs(
    folder: Path | None, limit: int | None, prompts_of: Callable[[Path, Pixels], Prompts]
) -> Photographs:
    """Decode a folder's images, or the photographs that come with sam-bench.

    A file that can't be read is named and passed over. No more than `limit` are decoded, so that
    a large folder does not fill the memory.
    """
    images: list[Photograph] = []
    unreadable = []
    for path in list_images(folder or SAMPLE_IMAGES):
        if len(images) == limit:
            break
        try:
            content = read_file(path)
            pixels = decode_image(content, path)
            images.append(Photograph(pixels, prompts_of(path, pixels), content))
        except InputError as error:
            unreadable.append(str(error))
    if not images:
        raise InputError(f"No image of '{folder}' can be used. The first: {unreadable[0]}")
    where = "the photographs of sam-bench" if folder is None else str(folder)
    prompts = sum(len(image.prompts) for image in images)
    kind = "boxes" if images[0].prompts.shape[1] == 4 else "points"
    source = f"{len(images)} of {where}, {prompts} {kind}"
    return Photographs(tuple(images), source, tuple(unreadable))


def middle(width: int, height: int, kind: str) -> Prompts:
    """One prompt: the middle of an image, or a box around it of half the image's edges."""
    x, y = width / 2, height / 2
    return np.array([[x, y]] if kind == "points" else [[x / 2, y / 2, x * 1.5, y * 1.5]])


def annotated_prompts(path: Path, pixels: Pixels, kind: str) -> Prompts:
    """The points or boxes of the SA-1B file beside an image."""
    from sam.files.sa1b import Sa1bError, annotation_path, read_sa1b

    try:
        annotated = read_sa1b(annotation_path(path))
    except Sa1bError as error:
        raise InputError(str(error)) from error
    size = (annotated.image.height, annotated.image.width)
    if size != pixels.shape[:2]:
        raise InputError(
            f"'{path}' has {pixels.shape[0]} x {pixels.shape[1]} pixels, but its annotations are "
            f"for {size[0]} x {size[1]}: put the image that they were made for beside them."
        )
    prompts: list[tuple[float, ...]]
    if kind == "points":
        prompts = [point for each in annotated.annotations for point in each.point_coords]
    else:
        boxes = (each.bbox for each in annotated.annotations)
        prompts = [(x, y, x + width, y + height) for x, y, width, height in boxes]
    if not prompts:
        raise InputError(f"'{path}' has no annotation with {kind}, and so nothing to ask for.")
    return np.array(prompts)


def read_input(name: str, plan: TimingPlan, image_size: int, limit: int | None) -> Photographs:
    """The images that a case asks for, at most `limit` of them.

    Args:
        name: A key of INPUTS.
        plan: Its images, prompts and seed.
        image_size: Of noise.
    """
    source = INPUTS[name]
    if source.prompts_of is None:
        return noise_photographs(image_size, plan)
    prompts_of = source.prompts_of

    def prompts(path: Path, pixels: Pixels) -> Prompts:
        return prompts_of(path, pixels, plan.prompts)[: plan.prompts_per_image]

    return read_photographs(Path(plan.images) if plan.images else None, limit, prompts)


def check_images(folder: str | None, inputs: Sequence[str]) -> None:
    """Refuse a folder without images before the first case runs, or one that nothing reads."""
    needs_annotations = "sa1b" in inputs
    if folder is None and needs_annotations:
        raise InputError(
            "--input sa1b needs --images: a folder of images, each with its SA-1B .json beside it."
        )
    if folder is None:
        return
    if all(INPUTS[name].prompts_of is None for name in inputs):
        raise InputError("--images names photographs, but --input asks for none: drop one of them.")
    from sam.files.sa1b import annotation_path

    images = list_images(Path(folder))
    # os.path's takes a name that is too long for one that is not there.
    has_annotations = any(os.path.exists(annotation_path(path)) for path in images)
    if needs_annotations and not has_annotations:
        raise InputError(
            f"--input sa1b needs an SA-1B file such as '{images[0].with_suffix('.json').name}' "
            f"beside each image of '{folder}', and there is none: write them with sam-bench masks "
            "--convert-to-rle."
        )


def noise_photographs(image_size: int, plan: TimingPlan) -> Photographs:
    """Uniform noise in place of photographs, for the pipeline around the encoder."""
    shape = (BUFFERS, image_size, image_size, 3)
    pixels = np.random.default_rng(plan.seed).integers(0, 256, shape, np.uint8)
    prompts = middle(image_size, image_size, plan.prompts)
    images = tuple(Photograph(image, prompts) for image in pixels)
    return Photographs(images, f"noise, seed {plan.seed}")


def photograph_batches(
    photographs: Photographs, batch_size: int, prepare: Callable[[Sequence[Pixels]], Tensor]
) -> list[Tensor]:
    """Batches for rotation, each beginning with another photograph.

    Args:
        photographs: Repeated where the batch holds more than there are.
        batch_size: Images in each.
        prepare: Makes a (B, 3, S, S) tensor on the device of some photographs.
    """
    images = photographs.images
    return [
        prepare([images[(start + index) % len(images)].pixels for index in range(batch_size)])
        for start in range(BUFFERS)
    ]


def noise_batches(
    batch_size: int, image_size: int, seed: int, device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """(B, 3, S, S) batches of normal noise, as normalised pixels are distributed."""
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    shape = (batch_size, 3, image_size, image_size)
    return [
        torch.randn(shape, generator=generator).to(device=device, dtype=dtype)
        for _ in range(BUFFERS)
    ]


@dataclass(frozen=True)
class InputSource:
    """What a case's images can be.

    prompts_of: The prompts of an image of a folder, from its path, its pixels and what kind is
        wanted (TimingPlan.prompts); None where no folder is read.
    """

    summary: str
    prompts_of: Callable[[Path, Pixels, str], Prompts] | None


INPUTS: dict[str, InputSource] = {
    "images": InputSource(
        "photographs: those that come with sam-bench, or those of --images; a prompt in the middle",
        lambda path, pixels, kind: middle(pixels.shape[1], pixels.shape[0], kind),
    ),
    "sa1b": InputSource("images of --images, with prompts of their SA-1B files", annotated_prompts),
    "noise": InputSource("normal noise, seeded", None),
}
