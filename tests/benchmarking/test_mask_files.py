"""Files of masks: what they hold, what they are called, and what is left alone."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarking.choices.inputs import InputError
from benchmarking.measuring import mask_files
from benchmarking.measuring.mask_files import (
    MaskJob,
    check_replaceable,
    make_masks,
    plan_jobs,
    write_json,
    write_pngs,
)
from sam import SamAutomaticMaskGenerator
from sam.files.masks import compress_rle, encode_rle
from sam.files.sa1b import read_sa1b
from sam.sam1.registry import build_sam_model

HEADER = (  # of upstream's scripts/amg.py
    "id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,point_input_x,point_input_y,predicted_iou,"
    "stability_score,crop_box_x0,crop_box_y0,crop_box_w,crop_box_h"
)
SIZE = (30, 40)
PNG, JSON = (
    pytest.mark.parametrize("as_json", [as_json], indirect=True, ids=[name])
    for name, as_json in (("png", False), ("json", True))
)


def record(segmentation, **changes):
    """As the mask generator makes them."""
    return {
        "segmentation": segmentation, "area": 7, "bbox": [1, 2, 3, 4],
        "predicted_iou": 1.0123456789012344, "point_coords": [[5.0, 3.75]],
        "stability_score": 0.96875, "crop_box": [0, 0, 40, 30],
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def arrays():
    """Three masks of noise, (3, H, W)."""
    return np.random.default_rng(0).random((3, *SIZE)) < 0.5


@pytest.fixture(params=[False, True], ids=["png", "json"])
def as_json(request):
    return request.param


@pytest.fixture
def records(arrays, as_json):
    """The masks in the form that the files of this kind are made of."""
    import torch

    rles = encode_rle(torch.from_numpy(arrays))
    forms = map(compress_rle, rles) if as_json else arrays
    return [record(form) for form in forms]


@pytest.fixture
def job(tmp_path, photograph, as_json):
    """For the photograph, to 'masks/one' or 'masks/one.json'."""
    (tmp_path / "masks").mkdir()
    (only,) = plan_jobs(photograph, tmp_path / "masks", as_json=as_json)
    return only


@pytest.fixture
def write(job, as_json):
    def write_masks(records):
        (write_json if as_json else write_pngs)(job, records, SIZE)

    return write_masks


def scripted(answer):
    """A generator that gives the same masks for each image, or raises."""

    def generate(pixels):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return SimpleNamespace(generate=generate)


def content(folder):
    """Each file below a folder, and what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


# Plans


def planned(folder, names, as_json=False):
    for name in names:
        (folder / name).touch()
    return plan_jobs(folder, folder / "masks", as_json=as_json)


@pytest.mark.parametrize(
    ("images", "outputs"),
    [
        (["b.png", "a.JPG", "notes.txt"], ["a", "b"]),
        (["a.b.png"], ["a.b"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["a.jpg", "a.png", "a.png.jpg"], ["a.jpg", "a.png", "a.png.jpg"]),
        (["a.png", "a.png.jpg"], ["a", "a.png.jpg"]),
        (["..png", "...png"], ["...png", "..png"]),
    ],
)
def test_outputs_are_named_as_images_are_and_never_the_same(tmp_path, images, outputs):
    jobs = planned(tmp_path, images)

    assert [job.output for job in jobs] == [tmp_path / "masks" / name for name in outputs]


def test_json_files_end_in_json(tmp_path):
    jobs = planned(tmp_path, ["a.jpg", "a.png", "b.png"], as_json=True)

    assert [job.output.name for job in jobs] == ["a.jpg.json", "a.png.json", "b.json"]


def test_one_image_is_one_job_whatever_it_is_called(photograph):
    (job,) = plan_jobs(
        (photograph / "one.png").rename(photograph / "one"), photograph, as_json=False
    )

    assert job == MaskJob(photograph / "one", photograph / "one", False)


@pytest.mark.parametrize("name", ["gone", "n" * 300])
def test_an_input_that_is_not_there_is_refused(tmp_path, name, refusal):
    line = refusal(lambda: plan_jobs(tmp_path / name, tmp_path, as_json=False))

    assert line.startswith("--input must be an image or a folder of images, and there is no '")


def test_a_job_is_done_when_its_masks_are_written(job, write, records):
    was_done = job.is_done()
    write(records)

    assert (was_done, job.is_done()) == (False, True)


@pytest.mark.parametrize("name", ["one", "one.json"])
def test_a_folder_without_metadata_is_not_done(job, name):
    (job.output.parent / name).mkdir()

    assert not job.is_done()


# Folders of PNG


@PNG
def test_each_mask_is_a_png_white_on_black(job, write, records, arrays):
    write(records)
    images = [Image.open(job.output / f"{index}.png").convert("L") for index in range(3)]

    assert [np.asarray(image).tolist() for image in images] == (arrays * 255).tolist()


@PNG
def test_metadata_is_upstream_s(job, write, records):
    write(records[:2])

    assert (job.output / "metadata.csv").read_text().splitlines() == [
        HEADER,
        "0,7,1,2,3,4,5.0,3.75,1.0123456789012344,0.96875,0,0,40,30",
        "1,7,1,2,3,4,5.0,3.75,1.0123456789012344,0.96875,0,0,40,30",
    ]


@PNG
def test_an_image_without_masks_has_the_header_alone(job, write):
    write([])

    assert content(job.output) == {"metadata.csv": f"{HEADER}\n".encode()}


@PNG
def test_others_may_read_a_folder_as_any_other(job, write, records, tmp_path):
    (tmp_path / "other").mkdir()
    write(records)

    ours, other = (path.stat().st_mode for path in (job.output, tmp_path / "other"))

    assert stat.S_IMODE(ours) == stat.S_IMODE(other)


@PNG
def test_masks_of_a_run_before_leave_nothing_behind(job, write, records):
    write(records)
    write(records[:1])

    assert sorted(content(job.output.parent)) == ["one", "one/0.png", "one/metadata.csv"]


@PNG
def test_a_folder_is_replaced_at_once(job, write, records, monkeypatch):
    def interrupted(path, *args, **kwargs):
        next(Path(path).rglob("*.png")).unlink()
        raise KeyboardInterrupt

    write(records)
    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(records[:1])

    assert sorted(content(job.output)) == ["0.png", "metadata.csv"]


# JSON files


@JSON
def test_a_json_file_names_its_image(job, write, records):
    write(records)
    image = read_sa1b(job.output).image

    assert (image.file_name, image.height, image.width) == ("one.png", *SIZE)


@JSON
def test_an_image_has_sa1b_s_number(tmp_path, records):
    job = MaskJob(tmp_path / "sa_123.png", tmp_path / "x.json", True)
    write_json(job, records, SIZE)

    assert read_sa1b(job.output).image.image_id == 123


@JSON
@pytest.mark.parametrize(
    ("name", "change"), [(b"\xff.png", {}), (b"a.png", {"stability_score": float("nan")})]
)
def test_masks_that_no_file_can_hold_are_named(photograph, records, name, change):
    path = photograph / os.fsdecode(name)
    (photograph / "one.png").rename(path)
    jobs = plan_jobs(path, photograph, as_json=True)
    ((_, reason),) = make_masks(scripted([records[0] | change]), jobs)

    assert reason.startswith("SA-1B's JSON can't hold the masks of '")
    assert sorted(photograph.iterdir()) == [path]


@pytest.fixture(scope="module")
def both_kinds(tmp_path_factory):
    """Folders of PNG and JSON files of the same images, by a true model."""
    folder = tmp_path_factory.mktemp("kinds")
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    for name, image in zip("ab", pixels, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    model = build_sam_model("tiny", image_size=64)
    for mode in ("binary_mask", "coco_rle"):
        generator = SamAutomaticMaskGenerator(
            model, points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.1,
            box_nms_thresh=1.0, output_mode=mode,
        )  # fmt: skip
        jobs = plan_jobs(folder, folder, as_json=mode == "coco_rle")
        list(make_masks(generator, jobs))
    return folder


@pytest.mark.parametrize("name", ["a", "b"])
def test_json_holds_the_masks_of_the_pngs(both_kinds, name):
    annotations = read_sa1b(both_kinds / f"{name}.json").annotations
    pngs = [np.asarray(Image.open(both_kinds / name / f"{each.id}.png")) for each in annotations]

    assert len(pngs) == len(list((both_kinds / name).glob("*.png"))) > 2
    assert all((png == each.mask()).all() for png, each in zip(pngs, annotations, strict=True))


@pytest.mark.parametrize("name", ["a", "b"])
def test_json_holds_the_numbers_of_the_metadata(both_kinds, name):
    annotations = read_sa1b(both_kinds / f"{name}.json").annotations
    _, *rows = (both_kinds / name / "metadata.csv").read_text().splitlines()

    assert [[float(value) for value in row.split(",")] for row in rows] == [
        [
            each.id, each.area, *each.bbox, *each.point_coords[0], each.predicted_iou,
            each.stability_score, *each.crop_box,
        ]
        for each in annotations
    ]  # fmt: skip


# What goes wrong


FOREIGN = {
    "notes": ["notes.txt"],
    "notes among masks": ["0.png", "metadata.csv", "notes.txt"],
    "numbered photographs": ["0.png", "1.png"],
    "a folder among masks": ["0.png", "metadata.csv", "more/"],
    "another number": ["٣.png", "metadata.csv"],
}


@pytest.mark.parametrize("names", FOREIGN.values(), ids=FOREIGN)
def test_a_folder_that_holds_more_than_masks_is_left_alone(job, records, names):
    job.output.mkdir()
    for name in names:
        path = job.output / name
        path.mkdir() if name.endswith("/") else path.write_text("mine")
    before = content(job.output)
    ((_, reason),) = make_masks(scripted(records), [job])

    assert "holds something other than masks and is left alone: move it away" in reason
    assert content(job.output.parent) == {job.output.name: None} | {
        f"{job.output.name}/{name}": text for name, text in before.items()
    }


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_is_no_file_of_masks_is_left_alone(job, records, make):
    make(job.output)
    ((_, reason),) = make_masks(scripted(records), [job])

    assert "is left alone" in reason
    assert not job.output.is_file()


@PNG
def test_an_image_is_not_replaced_by_its_masks(photograph, records):
    before = content(photograph)
    image = (photograph / "one.png").rename(photograph / "one")
    ((_, reason),) = make_masks(scripted(records), plan_jobs(image, photograph, as_json=False))

    assert "is left alone" in reason
    assert image.read_bytes() == before["one.png"]


@PNG
def test_an_empty_folder_is_filled(job, records):
    job.output.mkdir()
    ((_, masks),) = make_masks(scripted(records), [job])

    assert masks == 3
    assert job.is_done()


def test_one_bad_image_among_others_is_named_and_passed_over(job, photograph, records):
    (photograph / "bad.png").write_text("no image")
    jobs = plan_jobs(photograph, job.output.parent, as_json=job.as_json)
    outcomes = dict(make_masks(scripted(records), jobs))

    assert [outcomes[each] for each in jobs if each.image.stem == "one"] == [3]
    assert outcomes[jobs[0]].startswith(f"'{photograph / 'bad.png'}' can't be decoded")
    assert not jobs[0].output.exists()


@JSON
def test_an_output_whose_name_is_too_long_is_named_and_passed_over(photograph, records):
    image = (photograph / "one.png").rename(photograph / ("n" * 251 + ".png"))
    (job,) = plan_jobs(image, photograph, as_json=True)
    ((_, reason),) = make_masks(scripted(records), [job])

    assert not job.is_done()
    assert reason.endswith("can't be written: File name too long.")


FAULTS = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("place", ["generating", "writing"])
def test_a_fault_leaves_the_old_masks_and_nothing_half_written(
    job, write, records, fault, place, monkeypatch
):
    def fail(*args, **kwargs):
        raise fault

    write(records)
    before = content(job.output.parent)
    if place == "writing":
        monkeypatch.setattr(mask_files, "metadata_row", fail)
        monkeypatch.setattr(os, "fsync", fail)
    generator = scripted(fault if place == "generating" else records[:1])
    with pytest.raises(type(fault)):
        list(make_masks(generator, [job]))

    assert content(job.output.parent) == before


@JSON
def test_a_json_file_of_another_tool_is_no_mask_and_is_left_alone(job, photograph):
    job.output.write_text('{"shapes": []}')

    assert not job.is_done()
    with pytest.raises(InputError, match="something other than masks and is left alone"):
        check_replaceable(job)
    assert job.output.read_text() == '{"shapes": []}'
