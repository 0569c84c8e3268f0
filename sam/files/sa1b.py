"""Masks of an image as a file, in the form in which the SA-1B dataset comes: one JSON an image.

Torch is imported inside a method, so that a folder of such files can be checked at once.

Shapes: H x W pixels of the image. Boxes are (x, y, width, height) and points (x, y), in pixels.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import secrets
import stat
import warnings
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    model_validator,
)

from .errors import FileError

MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
MAX_ANNOTATIONS = 100_000
MAX_POINTS = 1_000  # of one mask; SA-1B has one
MAX_COUNTS = 2**24  # characters of one mask; noise of 20 megapixels still fits
# A run is a number in groups of 5 bits, each but the last marked as going on. Six groups hold any
# run of MAX_PIXELS; pycocotools shifts out of range from the seventh on, and reads past the end of
# a string whose last group is marked.
COUNTS = r"^(?:[P-o]{0,5}[0-O])+$"
GET_ANOTHER = "Get the file again, or write it with `sam-bench masks --convert-to-rle`."


class Sa1bError(FileError):
    """Masks can't be read from a file of this form, or can't be stored in one."""


def to_whole(number: Any) -> Any:
    return int(number) if isinstance(number, float) and number.is_integer() else number


Identity = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Edge = Annotated[int, Field(strict=True, ge=1, le=MAX_PIXELS)]
Area = Annotated[int, BeforeValidator(to_whole), Field(strict=True, ge=0, le=MAX_PIXELS)]
Score = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=MAX_PIXELS)]
Point = tuple[Coordinate, Coordinate]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class Sa1bModel(BaseModel):
    """Plain data that can't be changed; fields that other tools add are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class CocoRle(Sa1bModel):
    """A mask in COCO's compressed run lengths."""

    size: tuple[Edge, Edge]  # (H, W)
    counts: str = Field(max_length=MAX_COUNTS, pattern=COUNTS)

    @model_validator(mode="after")
    def _is_no_bomb(self) -> Self:
        check_pixels(*self.size)
        return self

    def runs(self) -> np.ndarray:
        """Lengths of the runs in column order, background first, (N,) int64; not yet checked.

        Source: pycocotools, common/maskApi.c, rleFrString.
        """
        groups = np.frombuffer(self.counts.encode("ascii"), np.uint8).astype(np.int64) - 48
        ends = np.flatnonzero(groups < 32)
        starts = np.concatenate([[0], ends[:-1] + 1])
        shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, ends - starts + 1))
        runs = np.add.reduceat((groups & 31) << shifts, starts)
        runs -= (groups[ends] >> 4) << (shifts[ends] + 5)  # the last group's highest bit is a sign
        for first in (1, 2):  # from the fourth on, a run is told by how it differs from the last
            runs[first::2] = np.cumsum(runs[first::2])  # but one
        return runs


class Annotation(Sa1bModel):
    """One mask, how good it is, and the prompt that it was found with."""

    id: Identity
    segmentation: CocoRle
    bbox: Box
    area: Area  # pixels
    predicted_iou: Score
    stability_score: Score
    crop_box: Box  # where in the image the model looked
    point_coords: Annotated[tuple[Point, ...], Field(max_length=MAX_POINTS), FailFast()]

    def mask(self) -> np.ndarray:
        """The mask's pixels, (H, W) bool; needs pycocotools.

        Raises:
            Sa1bError: Where the runs are not those of an image of this size.
            MissingExtraError: Where pycocotools is not installed.
        """
        from .masks import coco_mask

        decode = coco_mask().decode
        height, width = self.segmentation.size
        runs = self.segmentation.runs()
        total = runs.sum(dtype=float)  # of hostile runs, an int64 could wrap round to any number
        # For too few pixels pycocotools returns what lay in its memory.
        if runs.min() < 0 or total != height * width:
            raise Sa1bError(
                f"The runs of annotation {self.id} must be of 0 pixels or more and add up to "
                f"{height} x {width}; the shortest has {runs.min()}, together they have "
                f"{total:.0f}. {GET_ANOTHER}"
            )
        # numpy 2 deprecates how pycocotools hands over its array.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return decode(self.segmentation.model_dump()).astype(bool)


class ImageInfo(Sa1bModel):
    """The image that was annotated."""

    image_id: Identity
    width: Edge
    height: Edge
    # A name alone, since readers look for it in a folder of theirs.
    file_name: str = Field(min_length=1, max_length=255, pattern=r"^[^/\x00]+$")

    @model_validator(mode="after")
    def _is_no_bomb(self) -> Self:
        check_pixels(self.height, self.width)
        return self


class AnnotatedImage(Sa1bModel):
    """What one file holds."""

    image: ImageInfo
    annotations: Annotated[tuple[Annotation, ...], Field(max_length=MAX_ANNOTATIONS), FailFast()]

    @model_validator(mode="after")
    def _is_of_one_image(self) -> Self:
        size = (self.image.height, self.image.width)
        for index, annotation in enumerate(self.annotations):
            if annotation.segmentation.size != size:
                raise ValueError(
                    f"annotations.{index}.segmentation.size must be the image's {list(size)}, "
                    f"got {list(annotation.segmentation.size)}"
                )
        return self


def check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"an image must have at most {MAX_PIXELS} pixels, got {height} x {width}")


def read_sa1b(path: str | Path) -> AnnotatedImage:
    """Read the masks of one image.

    Raises:
        Sa1bError: Where the file is not of this form, or beyond a limit above.
    """
    try:
        return AnnotatedImage.model_validate(parse_json(read_text(Path(path))))
    except (OSError, ValueError, RecursionError) as error:
        raise Sa1bError(
            f"'{path}' must be SA-1B's JSON of one image, but {reason(error)}. {GET_ANOTHER}"
        ) from error


def read_text(path: Path) -> str:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"it has {status.st_size} bytes, more than {MAX_FILE_BYTES}")
    text = path.read_text(encoding="utf-8")
    if not text.strip():
        raise ValueError("it is empty")
    return text


def parse_json(text: str) -> Any:
    """JSON without NaN, duplicate keys, deep nesting or endless numbers; no list at the top."""

    def refuse_constant(name: str) -> Any:
        raise ValueError(f"{name} is not a number that JSON knows")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) != len(pairs):
            raise ValueError("a key stands twice")
        return keys

    content = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=unique)
    if isinstance(content, list):
        raise ValueError("it is a bare list, as upstream's amg.py writes, without the image")
    return content


def reason(error: Exception) -> str:
    """Why a file can't be read, as the end of a sentence."""
    match error:
        case OSError():
            return f"it can't be read: {error.strerror}"
        case RecursionError():
            return "its brackets are nested too deep"
        case UnicodeDecodeError():
            return "it is not UTF-8 text"
        case ValidationError():
            return finding(error)
        case json.JSONDecodeError():
            return f"it is not JSON ({error})"
        case _:
            return str(error)


def finding(error: ValidationError) -> str:
    """The first of pydantic's findings, in one line."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "it must")
    own = first["type"] in ("missing", "too_long", "value_error")  # these say what came, if any
    came = "" if own else f", got {reprlib.repr(first['input']):.80}"
    return f"{place}{': ' if place else ''}{message[0].lower()}{message[1:]}{came}"


def annotate(
    file_name: str,
    image_id: int,
    image_size: tuple[int, int],
    records: Iterable[Mapping[str, Any]],
) -> AnnotatedImage:
    """What SamAutomaticMaskGenerator returns for one image, with what a file says of the image.

    Args:
        file_name: The image's, without a folder.
        image_id: See sa1b_image_id.
        image_size: (H, W).
        records: Of output_mode="coco_rle"; ids count from 0 in their order.

    Raises:
        Sa1bError: Where a file can't hold them.
    """
    height, width = image_size
    image = {"image_id": image_id, "width": width, "height": height, "file_name": file_name}
    annotations = [{**record, "id": index} for index, record in enumerate(records)]
    try:
        return AnnotatedImage.model_validate({"image": image, "annotations": annotations})
    except ValidationError as error:
        raise Sa1bError(
            f"SA-1B's JSON can't hold the masks of '{file_name}': {finding(error)}. Generate them "
            "with output_mode='coco_rle' and a stability_score_thresh above 0."
        ) from error


def write_sa1b(path: str | Path, annotated: AnnotatedImage) -> None:
    """Write so that a reader, or a crash at any moment, meets the old file or the new, never half.

    Raises:
        OSError: Where the disk does not take it; the old file stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(annotated.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sa1b_image_id(file_name: str) -> int:
    """The number in a name such as 'sa_123.jpg', as SA-1B has it; of another name, a digest."""
    found = re.fullmatch(r"sa_([0-9]{1,18})\.[a-z]+", file_name)  # 18 digits fit into 64 bits
    # 52 bits, which every reader of JSON can hold, and far above SA-1B's own numbers.
    return int(found[1]) if found else int(sha256(os.fsencode(file_name)).hexdigest()[:13], 16)


def annotation_path(image: Path) -> Path:
    """The file beside an image: 'a.json' for 'a.jpg', or 'a.jpg.json' where that is there."""
    full = image.with_name(f"{image.name}.json")
    return full if os.path.exists(full) else image.with_suffix(".json")
