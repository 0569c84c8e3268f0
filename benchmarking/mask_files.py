"""Masks of whole images as files, one image after the other, as upstream's amg.py writes them."""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from sam.sa1b import Sa1bError, annotate, sa1b_image_id, write_sa1b

from .inputs import InputError, list_images, read_image

if TYPE_CHECKING:
    from sam import SamAutomaticMaskGenerator

METADATA = "metadata.csv"
COLUMNS = (
    "id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y",
    "predicted_iou", "stability_score", "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h",
)  # fmt: skip

MaskRecord = dict[str, Any]  # as SamAutomaticMaskGenerator returns it


@dataclass(frozen=True)
class MaskJob:
    """An image and where its masks go: a folder of PNG files, or one JSON file.

    number: Of the image among those asked for; its image_id where its name has none.
    """

    image: Path
    output: Path
    number: int


def plan_jobs(source: Path, folder: Path, *, as_json: bool) -> list[MaskJob]:
    """A job an image of a folder, or for one image.

    Outputs are named as the images are, without the suffix where that is clear.

    Raises:
        InputError: Where there is no image at `source`.
    """
    if not source.exists():
        raise InputError(
            f"--input must be an image or a folder of images, and there is no '{source}'."
        )
    images = list_images(source) if source.is_dir() else [source]
    stems = Counter(image.stem for image in images)
    names = [image.stem if stems[image.stem] == 1 else image.name for image in images]
    return [
        MaskJob(image, folder / (name + ".json" * as_json), number)
        for number, (image, name) in enumerate(zip(images, names, strict=True))
    ]


def make_masks(
    generator: SamAutomaticMaskGenerator, jobs: Sequence[MaskJob]
) -> Iterator[tuple[MaskJob, int | str]]:
    """Do one job after the other; yield each with its number of masks, or why there are none.

    Args:
        generator: With output_mode "coco_rle" where the outputs are JSON files.
        jobs: Whose output is replaced where it exists.
    """
    write = write_json if generator.output_mode == "coco_rle" else write_pngs
    for job in jobs:
        try:
            pixels = read_image(job.image)
            check_replaceable(job.output)
            masks = generator.generate(pixels)
            write(job, masks, pixels.shape[:2])
        except (InputError, Sa1bError) as error:
            yield job, str(error)
        else:
            yield job, len(masks)


def check_replaceable(output: Path) -> None:
    """Refuse to delete what holds anything but masks."""
    if not output.is_dir():
        return
    strangers = [path for path in output.iterdir() if not re.fullmatch(r"\d+\.png", path.name)]
    if [path.name for path in strangers] != [METADATA]:
        raise InputError(
            f"'{output}' holds more than masks and is left alone: move it away, or name another "
            "--output."
        )


def write_pngs(job: MaskJob, masks: Sequence[MaskRecord], size: tuple[int, int]) -> None:
    """A folder of 0.png, 1.png, ... (white on black) and metadata.csv; whole or not at all."""
    with TemporaryDirectory(dir=job.output.parent, prefix=".masks-") as temporary:
        folder = Path(temporary, "masks")
        folder.mkdir()
        for index, mask in enumerate(masks):
            Image.fromarray(mask["segmentation"]).save(folder / f"{index}.png")
        with (folder / METADATA).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(metadata_row(index, mask) for index, mask in enumerate(masks))
        replace_folder(folder, job.output)


def metadata_row(index: int, mask: MaskRecord) -> list[object]:
    return [
        index, mask["area"], *mask["bbox"], *mask["point_coords"][0], mask["predicted_iou"],
        mask["stability_score"], *mask["crop_box"],
    ]  # fmt: skip


def replace_folder(new: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    new.rename(target)


def write_json(job: MaskJob, masks: Sequence[MaskRecord], size: tuple[int, int]) -> None:
    """One file in SA-1B's form; whole or not at all."""
    image_id = sa1b_image_id(job.image.name, job.number)
    write_sa1b(job.output, annotate(job.image.name, image_id, size, masks))
