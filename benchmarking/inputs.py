"""What the encoder is fed: photographs, or normal noise. Never zeros, which draw less power.

Torch is imported inside the functions, so that a folder can be checked at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAMPLE_IMAGES = Path(__file__).with_name("sample_images")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 100_000_000  # decoded; a larger file is more likely an attack than a photograph
BUFFERS = 2  # batches in rotation, so that no forward finds its input in a cache

Pixels = np.ndarray  # (H, W, 3) uint8


class InputError(ValueError):
    """A folder or image can't be used; the message says what to do."""

    def __init__(self, message: str) -> None:
        # One harmless line that UTF-8 can hold, whatever a file is called.
        super().__init__("".join(char if char.isprintable() else "?" for char in message))


@dataclass(frozen=True)
class Photographs:
    """Decoded images, and the files that could not be."""

    images: tuple[Pixels, ...]
    source: str
    unreadable: tuple[str, ...] = ()


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, in the order of their names."""
    try:
        if not folder.is_dir():
            raise InputError(f"--images must name a folder of photographs, and '{folder}' is none.")
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise InputError(f"--images '{folder}' can't be read: {error.strerror}.") from error
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
    if not path.is_file():
        raise InputError(f"'{path}' is not a regular file.")
    try:
        # Pillow warns from 89 megapixels on; here MAX_PIXELS decides.
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
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
        reason = " ".join(str(error).split()).rstrip(".")
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


def read_photographs(folder: Path | None, limit: int | None = None) -> Photographs:
    """Decode a folder's photographs, or the ones that come with sam-bench.

    A file that can't be read is named and passed over. No more than `limit` are decoded, so that
    a large folder does not fill the memory.
    """
    images: list[Pixels] = []
    unreadable = []
    for path in list_images(folder or SAMPLE_IMAGES):
        if len(images) == limit:
            break
        try:
            images.append(read_image(path))
        except InputError as error:
            unreadable.append(str(error))
    if not images:
        raise InputError(f"No image of '{folder}' can be read. The first: {unreadable[0]}")
    where = "the photographs of sam-bench" if folder is None else str(folder)
    return Photographs(tuple(images), f"{len(images)} of {where}", tuple(unreadable))


def check_images(folder: str | None, inputs: Sequence[str]) -> None:
    """Refuse a folder without images before the first case runs, or one that nothing reads."""
    if folder is None:
        return
    if "images" not in inputs:
        raise InputError("--images names photographs, but --input asks for none: drop one of them.")
    list_images(Path(folder))


def noise_photographs(image_size: int, seed: int) -> Photographs:
    """Uniform noise in place of photographs, for the pipeline around the encoder."""
    pixels = np.random.default_rng(seed).integers(0, 256, (2, image_size, image_size, 3), np.uint8)
    return Photographs(tuple(pixels), f"noise, seed {seed}")


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
        prepare([images[(start + index) % len(images)] for index in range(batch_size)])
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


INPUTS: dict[str, str] = {
    "images": "photographs: those that come with sam-bench, or those of --images",
    "noise": "normal noise, seeded",
}
