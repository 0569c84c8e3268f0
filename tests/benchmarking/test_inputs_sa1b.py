"""Annotated images: what their SA-1B files let the mask decoder be asked, and files that can't."""

from __future__ import annotations

import json
import os
import re

import pytest
from PIL import Image

from benchmarking.choices.inputs import check_images, read_input
from sam.files.masks import compress_rle
from sam.files.sa1b import annotate, write_sa1b

WIDTH, HEIGHT = 40, 30  # of the fixture `photograph`
BOXES = [(1.0, 2.0, 10.0, 20.0), (0.0, 0.0, 40.0, 30.0), (5.5, 6.25, 0.0, 1.0)]
CORNERS = [[1.0, 2.0, 11.0, 22.0], [0.0, 0.0, 40.0, 30.0], [5.5, 6.25, 5.5, 7.25]]
POINTS = [[6.0, 12.0], [20.0, 15.0], [5.5, 6.75]]  # the boxes' middles


def write_annotations(image, boxes=BOXES, size=(HEIGHT, WIDTH)):
    """Write an image's SA-1B file: an empty mask for each box, with the box's middle as point."""
    height, width = size
    records = [
        {
            "segmentation": compress_rle({"size": [height, width], "counts": [height * width]}),
            "bbox": box, "area": 0, "predicted_iou": 0.9, "stability_score": 0.9,
            "crop_box": (0, 0, width, height),
            "point_coords": [(box[0] + box[2] / 2, box[1] + box[3] / 2)],
        }
        for box in boxes
    ]  # fmt: skip
    write_sa1b(image.with_suffix(".json"), annotate(image.name, 0, size, records))


@pytest.fixture
def annotated(photograph):
    """A folder with one image and its annotations."""
    write_annotations(photograph / "one.png")
    return photograph


@pytest.fixture
def read_folder(make_plan):
    def read(folder, limit=None, **changes):
        return read_input("sa1b", make_plan(images=str(folder), **changes), 64, limit)

    return read


# What is asked


@pytest.mark.parametrize(("kind", "prompts"), [("points", POINTS), ("boxes", CORNERS)])
def test_prompts_are_the_points_or_the_corners_of_the_boxes(annotated, read_folder, kind, prompts):
    (image,) = read_folder(annotated, prompts=kind).images

    assert image.prompts.tolist() == prompts


def test_every_point_of_a_mask_is_a_prompt(annotated, read_folder):
    path = annotated / "one.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["point_coords"] = [[1.0, 2.0], [3.0, 4.0]]
    path.write_text(json.dumps(content))
    (image,) = read_folder(annotated).images

    assert image.prompts.tolist() == [[1.0, 2.0], [3.0, 4.0], *POINTS[1:]]


@pytest.mark.parametrize("kind", ["points", "boxes"])
@pytest.mark.parametrize(("most", "asked"), [(1, 1), (2, 2), (3, 3), (64, 3)])
def test_an_image_has_no_more_prompts_than_the_plan_lets_it(
    annotated, read_folder, kind, most, asked
):
    found = read_folder(annotated, prompts=kind, prompts_per_image=most)

    assert found.images[0].prompts.tolist() == {"points": POINTS, "boxes": CORNERS}[kind][:asked]
    assert found.source == f"1 of {annotated}, {asked} {kind}"


def test_images_may_have_different_numbers_of_prompts(annotated, read_folder):
    Image.new("RGB", (WIDTH, HEIGHT)).save(annotated / "two.png")
    write_annotations(annotated / "two.png", BOXES[:1])
    found = read_folder(annotated)

    assert [len(image.prompts) for image in found.images] == [3, 1]
    assert found.source == f"2 of {annotated}, 4 points"


@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_an_annotated_image_is_measured_from_its_file_to_its_masks(annotated, run_case, kind):
    measured = run_case(
        input="sa1b", images=str(annotated), prompts=kind, passes=("components",), image_size=32
    )

    assert measured.input_source == f"1 of {annotated}, 3 {kind}"
    assert next(iter(measured.components_s)) == "decode"


# Files that can't be used


def change_size(path):
    write_annotations(path.with_suffix(".png"), size=(WIDTH, HEIGHT))


def leave_out_points(path):
    path.write_text(re.sub(r'"point_coords":.*?\]\]', '"point_coords":[]', path.read_text()))


UNUSABLE = {
    "missing": (lambda path: path.unlink(), "one.json' must be SA-1B's JSON .* No such file"),
    "empty": (lambda path: path.write_text(""), "one.json' must be .* it is empty"),
    "truncated": (lambda path: path.write_text(path.read_text()[:99]), "it is not JSON"),
    "list": (lambda path: path.write_text("[]"), "it is a bare list"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "it is not a regular file"),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "it is not a regular file"),
    "of another size": (
        change_size, "one.png' has 30 x 40 pixels, but its annotations are for 40 x 30: put the"
    ),
    "without a mask": (
        lambda path: write_annotations(path.with_suffix(".png"), []),
        "one.png' has no annotation with points",
    ),
    "without a point": (leave_out_points, "one.png' has no annotation with points"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_image_without_usable_annotations_is_passed_over_and_named(
    annotated, read_folder, spoil, reason
):
    Image.new("RGB", (WIDTH, HEIGHT)).save(annotated / "two.png")
    write_annotations(annotated / "two.png")
    spoil(annotated / "one.json")
    found = read_folder(annotated)

    assert found.source == f"1 of {annotated}, 3 points"
    assert len(found.unreadable) == 1
    assert re.search(reason, found.unreadable[0])


@pytest.mark.parametrize(("spoil", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_folder_without_usable_annotations_is_refused_in_one_line(
    annotated, read_folder, refusal, spoil, reason
):
    spoil(annotated / "one.json")
    line = refusal(read_folder, annotated)

    assert line.startswith(f"No image of '{annotated}' can be used. The first: ")
    assert re.search(reason, line)


def test_boxes_are_asked_for_where_there_is_no_point(annotated, read_folder):
    leave_out_points(annotated / "one.json")

    assert read_folder(annotated, prompts="boxes").images[0].prompts.tolist() == CORNERS


def test_an_image_turned_by_exif_is_the_one_that_was_annotated(photograph, read_folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(photograph / "one.png", exif=exif)
    write_annotations(photograph / "one.png")

    assert read_folder(photograph).images[0].pixels.shape == (HEIGHT, WIDTH, 3)


# Before the first case


def test_annotated_images_need_a_folder(refusal):
    assert refusal(check_images, None, ["images", "sa1b"]).startswith(
        "--input sa1b needs --images: a folder of images"
    )


@pytest.mark.parametrize("name", ["one", "n" * 251], ids=["short", "too long with .json"])
def test_a_folder_without_annotations_is_refused_with_how_to_make_them(tmp_path, name, refusal):
    (tmp_path / f"{name}.png").touch()
    line = refusal(check_images, str(tmp_path), ["sa1b"])

    assert re.search("needs an SA-1B file such as '.*' beside each image of", line)
    assert line.endswith("write them with sam-bench masks --convert-to-rle.")


def test_one_annotated_image_is_enough(annotated):
    (annotated / "another.jpg").touch()

    assert check_images(str(annotated), ["sa1b"]) is None
