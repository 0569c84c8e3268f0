"""Masks of whole images as files, one image after the other, as upstream's amg.py writes them."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from sam.files.sa1b import Sa1bError, annotate, read_sa1b, sa1b_image_id, write_sa1b

from ..choices.inputs import InputError, list_images, read_image

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

    as_json: In SA-1B's form.
    """

    image: Path
    output: Path
    as_json: bool

    def is_done(self) -> bool:
        """Whether masks lie at the output."""
        if self.as_json:
            return is_mask_file(self.output)
        # Unlike pathlib's, this takes a name that is too long for one that is not there.
        return os.path.isfile(self.output / METADATA)


def plan_jobs(source: Path, folder: Path, *, as_json: bool) -> list[MaskJob]:
    """A job an image of a folder, or for one image.

    Outputs are named as the images are, without the suffix where that is clear.

    Raises:
        InputError: Where there is no image at `source`.
    """
    if not os.path.exists(source):
        raise InputError(
            f"--input must be an image or a folder of images, and there is no '{source}'."
        )
    images = list_images(source) if source.is_dir() else [source]
    stems = Counter(image.stem for image in images)
    # 'a.png.jpg' stays as it is beside 'a.png', and '..png', whose stem is a folder, in any case.
    unclear = {image.name for image in images} | {".", ".."}
    jobs = []
    for image in images:
        is_clear = stems[image.stem] == 1 and image.stem not in unclear
        name = image.stem if is_clear else image.name
        jobs.append(MaskJob(image, folder / (name + ".json" * as_json), as_json))
    return jobs


def make_masks(
    generator: SamAutomaticMaskGenerator, jobs: Sequence[MaskJob]
) -> Iterator[tuple[MaskJob, int | str]]:
    """Do one job after the other; yield each with its number of masks, or why there are none.

    Args:
        generator: With output_mode "coco_rle" where the outputs are JSON files.
        jobs: Whose output is replaced where it exists and holds masks.
    """
    for job in jobs:
        try:
            pixels = read_image(job.image)
            check_replaceable(job)
            masks = generator.generate(pixels)
            write = write_json if job.as_json else write_pngs
            write(job, masks, pixels.shape[:2])
        except (InputError, Sa1bError) as error:
            yield job, str(error)
        else:
            yield job, len(masks)


def check_replaceable(job: MaskJob) -> None:
    """Refuse to delete what holds anything but masks."""
    try:
        job.output.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"'{job.output}' can't be written: {error.strerror}.") from error
    if not (is_mask_file if job.as_json else is_mask_folder)(job.output):
        raise InputError(
            f"'{job.output}' holds something other than masks and is left alone: move it away, or "
            "name another --output."
        )


def is_mask_file(path: Path) -> bool:
    """Whether a file holds masks in SA-1B's form; other tools call their files .json too."""
    try:
        read_sa1b(path)
    except Sa1bError:
        return False
    return True


def is_mask_folder(path: Path) -> bool:
    """Whether a folder holds what write_pngs writes, and nothing else; or nothing at all."""
    if not path.is_dir():
        return False
    names = {each.name for each in path.iterdir()}
    others = {name for name in names if not re.fullmatch(r"[0-9]+\.png", name)}
    return not names or others == {METADATA}


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
        if job.output.exists():
            job.output.rename(folder.with_name("replaced"))  # at once, so that no half of it stays
        folder.rename(job.output)


def metadata_row(index: int, mask: MaskRecord) -> list[object]:
    return [
        index, mask["area"], *mask["bbox"], *mask["point_coords"][0], mask["predicted_iou"],
        mask["stability_score"], *mask["crop_box"],
    ]  # fmt: skip


def write_json(job: MaskJob, masks: Sequence[MaskRecord], size: tuple[int, int]) -> None:
    """One file in SA-1B's form; whole or not at all."""
    image_id = sa1b_image_id(job.image.name)
    write_sa1b(job.output, annotate(job.image.name, image_id, size, masks))
