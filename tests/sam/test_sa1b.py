import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from pydantic import ValidationError

import benchmarking
from sam.files import sa1b
from sam.files.masks import MissingExtraError, compress_rle, decode_rle, encode_rle
from sam.files.sa1b import (
    MAX_ANNOTATIONS,
    MAX_FILE_BYTES,
    AnnotatedImage,
    Annotation,
    CocoRle,
    Sa1bError,
    annotate,
    annotation_path,
    read_sa1b,
    sa1b_image_id,
    write_sa1b,
)
from sam.sam1.mask_generator import SamAutomaticMaskGenerator

PHOTOGRAPH = Path(benchmarking.__file__).with_name("sample_images") / "rocket.jpg"


def random_masks(count, height, width, density=0.5):
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(0)) < density


def ellipses(height, width):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    radii = torch.tensor([0.1, 0.5, 0.9])[:, None, None]
    return ((y / height - 0.5) ** 2 + (x / width - 0.4) ** 2).sqrt() < radii / 2


MASKS = {
    "noise": random_masks(5, 13, 17),
    "sparse": random_masks(9, 31, 8, density=0.01),
    "ellipses": ellipses(301, 200),
    "large": ellipses(1500, 2250),
    "runs of more than 2 ** 24": torch.arange(2)[:, None, None].bool().expand(2, 5000, 4000),
    "empty and full": torch.tensor([False, True])[:, None, None].expand(2, 4, 5),
    "one row": random_masks(6, 1, 9),
    "one column": random_masks(6, 9, 1),
    "an image of one pixel": torch.tensor([True, False])[:, None, None],
    "a checkerboard": (torch.arange(7)[:, None] + torch.arange(5)).bool()[None],
}


def record(segmentation, **changed):
    """As the mask generator makes them."""
    return {
        "segmentation": segmentation,
        "area": 4,
        "bbox": [0, 1, 2, 0],
        "predicted_iou": 1.0123456789012345,
        "point_coords": [[0.5, 1.25]],
        "stability_score": 0.96875,
        "crop_box": [0, 0, 3, 2],
    } | changed


def annotated_image(masks):
    records = [record(compress_rle(rle)) for rle in encode_rle(masks)]
    return annotate("sa_7.jpg", 7, tuple(masks.shape[1:]), records)


def mask_of(counts, size=(2, 3)):
    segmentation = CocoRle(size=size, counts=counts)
    return Annotation(**record(segmentation), id=5).mask()


@pytest.fixture(params=MASKS)
def masks(request):
    return MASKS[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sa_7.json"


@pytest.fixture
def content():
    """What a file in SA-1B's form holds, of an image of 2 x 3 pixels."""
    annotation = {
        "bbox": [0.0, 1.0, 2.0, 0.0],
        "area": 4,
        "segmentation": {"size": [2, 3], "counts": "132"},
        "predicted_iou": 0.97,
        "point_coords": [[0.5, 1.25]],
        "crop_box": [0.0, 0.0, 3.0, 2.0],
        "id": 666,
        "stability_score": 0.96875,
    }
    image = {"image_id": 7, "width": 3, "height": 2, "file_name": "sa_7.jpg"}
    return {"image": image, "annotations": [annotation, annotation | {"id": 667}]}


def change(content, place, value):
    """Replace what stands at a place such as 'annotations.0.area'; drop it for the value ..."""
    *parents, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    for key in parents:
        content = content[key]
    if value is ...:
        del content[last]
    else:
        content[last] = value


def assert_refused(path, *parts):
    with pytest.raises(Sa1bError) as error:
        read_sa1b(path)

    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
    for part in [f"{path.name}' must be SA-1B's JSON of one image, but ", "sam-bench", *parts]:
        assert part in str(error.value)


def test_what_was_written_is_read_back_the_same(masks, path):
    annotated = annotated_image(masks)

    write_sa1b(path, annotated)

    assert read_sa1b(path) == annotated


def test_masks_come_back_pixel_by_pixel(masks):
    annotations = annotated_image(masks).annotations

    assert len(annotations) == len(masks)
    for annotation, mask in zip(annotations, masks.numpy(), strict=True):
        decoded = annotation.mask()
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own, in numpy 2
def test_pycocotools_decodes_what_a_file_holds(masks, path):
    write_sa1b(path, annotated_image(masks))

    for annotation, mask in zip(json.loads(path.read_text())["annotations"], masks, strict=True):
        np.testing.assert_array_equal(coco.decode(annotation["segmentation"]), mask.numpy())


def test_runs_are_those_before_compression(masks):
    for rle in encode_rle(masks):
        assert CocoRle(**compress_rle(rle)).runs().tolist() == rle["counts"]


def test_a_file_has_sa1bs_keys_and_no_blanks(path):
    write_sa1b(path, annotated_image(MASKS["empty and full"]))

    text = path.read_text()
    content = json.loads(text)
    assert list(content) == ["image", "annotations"]
    assert content["image"] == {"image_id": 7, "width": 5, "height": 4, "file_name": "sa_7.jpg"}
    assert [annotation["id"] for annotation in content["annotations"]] == [0, 1]
    assert content["annotations"][1] == {
        "id": 1,
        "segmentation": {"size": [4, 5], "counts": "0d0"},
        "bbox": [0.0, 1.0, 2.0, 0.0],
        "area": 4,
        "predicted_iou": 1.0123456789012345,
        "stability_score": 0.96875,
        "crop_box": [0.0, 0.0, 3.0, 2.0],
        "point_coords": [[0.5, 1.25]],
    }
    assert text == "".join(text.split())


@pytest.mark.usefixtures("one_thread")
def test_masks_that_the_generator_finds_are_written_and_read_back(build_pair, path):
    image = np.array(Image.open(PHOTOGRAPH).resize((97, 61)))
    model = build_pair().ours
    settings = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 1e-3}
    settings |= {"box_nms_thresh": 1.0, "crop_n_layers": 1, "crop_nms_thresh": 1.0}
    modes = ("coco_rle", "binary_mask", "uncompressed_rle")
    found, wanted, uncompressed = (
        SamAutomaticMaskGenerator(model, **settings, output_mode=mode).generate(image)
        for mode in modes
    )

    write_sa1b(path, annotate("rocket.jpg", 0, image.shape[:2], found))

    annotations = read_sa1b(path).annotations
    assert len(annotations) == len(wanted) >= 3
    for annotation, mask in zip(annotations, wanted, strict=True):
        np.testing.assert_array_equal(annotation.mask(), mask["segmentation"])
        assert annotation.area == mask["area"] == annotation.mask().sum()
        for key in ("bbox", "crop_box", "predicted_iou", "stability_score"):
            np.testing.assert_array_equal(getattr(annotation, key), mask[key])
        np.testing.assert_array_equal(annotation.point_coords, mask["point_coords"])
    for other in (wanted, uncompressed):
        with pytest.raises(Sa1bError, match=r"segmentation.*Generate them with output_mode='coco_"):
            annotate("rocket.jpg", 0, image.shape[:2], other)


def test_of_no_masks_a_file_is_written_and_read_back(path):
    annotated = annotate("black.png", 3, (2, 3), [])

    write_sa1b(path, annotated)

    assert read_sa1b(path) == annotated
    assert annotated.annotations == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stability_score": float("nan")}, "stability_score: it must be a finite number, got nan"),
        ({"segmentation": {"size": [3, 2], "counts": "132"}}, "the image's [2, 3], got [3, 2]"),
        ({"segmentation": {"size": [2, 3], "counts": [1, 3, 2]}}, "counts: it must be a valid str"),
        ({"segmentation": np.zeros((2, 3), bool)}, "segmentation: it must be a valid dictionary"),
        ({"bbox": [0, 0, 1]}, "annotations.1.bbox.3: field required"),
    ],
)
def test_records_that_a_file_cannot_hold_are_refused_in_one_line(changed, message):
    good = record({"size": [2, 3], "counts": "132"})

    with pytest.raises(Sa1bError) as error:
        annotate("cat.jpg", 0, (2, 3), [good, good | changed])

    assert str(error.value).startswith("SA-1B's JSON can't hold the masks of 'cat.jpg': ")
    assert message in str(error.value)
    assert "stability_score_thresh above 0" in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("file_name", "image_size"),
    [("../cat.jpg", (2, 3)), ("", (2, 3)), ("\ud800", (2, 3)), ("a" * 256, (2, 3))]
    + [("cat.jpg", size) for size in [(0, 3), (2, -1), (10_001, 10_000), (2.0, 3)]],
)
def test_an_image_that_no_file_can_name_is_refused(file_name, image_size):
    with pytest.raises(Sa1bError) as error:
        annotate(file_name, 0, image_size, [])

    assert str(error.value).isprintable()


def test_keys_of_other_tools_are_passed_over(content, path):
    wanted = AnnotatedImage.model_validate(content)
    for part in (content, content["image"], *content["annotations"]):
        part["license"] = {"of": ["another", 10**400]}
    content["annotations"][0]["segmentation"]["license"] = None
    path.write_text(json.dumps(content))

    assert read_sa1b(path) == wanted


def test_an_area_may_be_a_float_that_is_whole(content, path):
    content["annotations"][0]["area"] = 4.0
    path.write_text(json.dumps(content))

    area = read_sa1b(path).annotations[0].area
    assert (area, type(area)) == (4, int)


def test_what_was_read_cannot_be_changed(content):
    annotated = AnnotatedImage.model_validate(content)

    for part in (annotated, annotated.image, annotated.annotations[0].segmentation):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, next(iter(type(part).model_fields)), None)
    assert len({annotated, AnnotatedImage.model_validate(content)}) == 1


FILES = {
    "empty": (b"", "it is empty"),
    "blank": (b" \n", "it is empty"),
    "text": (b"sa_7", "it is not JSON (Expecting value: line 1"),
    "an error page": (b"<!DOCTYPE html>", "it is not JSON"),
    "two objects": (b"{}{}", "it is not JSON (Extra data"),
    "UTF-16": ('{"image": 1}'.encode("utf-16"), "it is not UTF-8 text"),
    "UTF-16 without a mark": ('{"image": 1}'.encode("utf-16-le"), "it is not JSON"),
    "a byte-order mark": (b"\xef\xbb\xbf{}", "it is not JSON (Unexpected UTF-8 BOM"),
    "Latin-1": (b'{"\xe9": 1}', "it is not UTF-8 text"),
    "deep lists": (b"[" * 200_000, "its brackets are nested too deep"),
    "deep objects": (b'{"image":' * 200_000, "its brackets are nested too deep"),
    "5,000 digits": (b'{"image": ' + b"9" * 5000 + b"}", "4300 digits"),
    "NaN": (b'{"image": NaN}', "NaN is not a number that JSON knows"),
    "infinity": (b'{"image": [-Infinity]}', "-Infinity is not a number that JSON knows"),
    "a key twice": (b'{"image": {"id": 1, "id": 1}}', "a key stands twice"),
    "a bare list": (b"[]", "it is a bare list, as upstream's amg.py writes"),
    "upstream's list": (json.dumps([record({})]).encode(), "it is a bare list"),
    "a number": (b"7", "it must be a valid dictionary"),
    "null": (b"null", "it must be a valid dictionary"),
    "an empty object": (b"{}", "image: field required"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_form_is_refused_in_one_line(name, path):
    text, message = FILES[name]
    path.write_bytes(text)

    assert_refused(path, message)


def test_a_file_truncated_at_any_byte_is_refused(content, path):
    text = json.dumps(content).encode()
    for length in range(len(text)):
        path.write_bytes(text[:length])

        assert_refused(path)


SEGMENTATION = "annotations.0.segmentation"
FIELDS = [
    ("image", ..., "field required"),
    ("image", [], "must be a valid dictionary"),
    ("annotations", ..., "field required"),
    ("annotations", {}, "must be a valid tuple, got {}"),
    ("annotations", None, "must be a valid tuple, got None"),
    ("annotations.1", [], "must be a valid dictionary"),
    ("image.image_id", ..., "field required"),
    ("image.image_id", "7", "must be a valid integer, got '7'"),
    ("image.image_id", -1, "greater than or equal to 0, got -1"),
    ("image.image_id", 2**63, "must be less than 9223372036854775808, got 9223372036854775808"),
    ("image.width", 0, "greater than or equal to 1"),
    ("image.width", True, "must be a valid integer, got True"),
    ("image.width", 3.0, "must be a valid integer, got 3.0"),
    ("image.height", 10**4000, "less than or equal to 100000000"),
    ("image.height", "2", "must be a valid integer"),
    ("image.file_name", 7, "must be a valid string, got 7"),
    ("image.file_name", [["a" * 99] * 9] * 9, "must be a valid string, got [["),
    ("image.file_name", "", "at least 1 character"),
    ("image.file_name", "../../etc/passwd", "should match pattern"),
    ("image.file_name", "a\0", "should match pattern"),
    ("image.file_name", "\ud800", "must be a valid string"),
    ("image.file_name", "a" * 10**6, "at most 255 characters, got 'aaa"),
    ("annotations.1.id", -1, "greater than or equal to 0"),
    ("annotations.1.id", "1\x1b[31m", r"got '1\x1b[31m'"),
    ("annotations.0.segmentation", ..., "field required"),
    ("annotations.0.segmentation", [[0.0, 1.0, 1.0, 0.0]], "must be a valid dictionary"),  # polygon
    (f"{SEGMENTATION}.size", [3, 2], "must be the image's [2, 3], got [3, 2]"),
    (f"{SEGMENTATION}.size", [2], "field required"),
    (f"{SEGMENTATION}.size", [2, 3, 1], "at most 2 items"),
    (f"{SEGMENTATION}.size", [2.0, 3], "must be a valid integer"),
    (f"{SEGMENTATION}.counts", [1, 3, 2], "must be a valid string"),
    ("annotations.0.bbox", [0, 0, 1], "field required"),
    ("annotations.0.bbox", "0123", "must be a valid tuple"),
    ("annotations.0.bbox.0", -0.5, "greater than or equal to 0"),
    ("annotations.0.bbox.2", 1e9, "less than or equal to 100000000"),
    ("annotations.0.bbox.2", "1", "must be a valid number"),
    ("annotations.0.bbox.2", 10**400, "number"),
    ("annotations.0.crop_box.3", False, "must be a valid number"),
    ("annotations.0.crop_box.3", None, "must be a valid number"),
    ("annotations.0.area", 4.5, "must be a valid integer, got 4.5"),
    ("annotations.0.area", "4", "must be a valid integer"),
    ("annotations.0.area", True, "must be a valid integer"),
    ("annotations.0.area", -1, "greater than or equal to 0"),
    ("annotations.0.area", 1e300, "less than or equal to 100000000"),
    ("annotations.0.predicted_iou", "0.97", "must be a valid number"),
    ("annotations.0.stability_score", None, "must be a valid number"),
    ("annotations.0.point_coords", [1.0, 2.0], "must be a valid tuple"),
    ("annotations.0.point_coords", [[1.0]], "field required"),
    ("annotations.0.point_coords", [[1.0, 2.0]] * 1001, "at most 1000 items"),
    ("annotations.0.point_coords.0.1", -1, "greater than or equal to 0"),
]


@pytest.mark.parametrize(("place", "value", "message"), FIELDS)
def test_a_value_out_of_form_is_named_with_its_place(place, value, message, content, path):
    change(content, place, value)
    path.write_text(json.dumps(content))

    assert_refused(path, f"but {place}", message)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("image.height", 40_000_000, "but image: an image must"),
        (f"{SEGMENTATION}.size", [10_001, 10_000], f"but {SEGMENTATION}: an image must"),
    ],
)
def test_an_image_of_more_pixels_than_the_limit_is_refused(place, value, message, content, path):
    change(content, place, value)
    path.write_text(json.dumps(content))

    assert_refused(path, message, "have at most 100000000 pixels, got")


@pytest.mark.parametrize("field", Annotation.model_fields)
def test_an_annotation_needs_all_its_fields(field, content, path):
    del content["annotations"][1][field]
    path.write_text(json.dumps(content))

    assert_refused(path, f"annotations.1.{field}: field required. Get the file again")


@pytest.mark.parametrize(
    "place", ["annotations.0.predicted_iou", "annotations.0.bbox.1", "annotations.0.area"]
)
def test_a_number_beyond_all_floats_is_refused(place, content, path):
    change(content, place, "beyond")
    path.write_text(json.dumps(content).replace('"beyond"', "1e999"))

    assert_refused(path, place)


def test_more_annotations_than_the_limit_are_refused(content):
    content["annotations"] = content["annotations"][:1] * (MAX_ANNOTATIONS + 1)

    with pytest.raises(ValidationError, match=f"at most {MAX_ANNOTATIONS} items"):
        AnnotatedImage.model_validate(content)


def test_of_many_bad_annotations_the_first_ends_the_reading(content):
    content["annotations"] += [{}] * MAX_ANNOTATIONS
    with pytest.raises(ValidationError) as error:
        AnnotatedImage.model_validate(content)

    assert {each["loc"][:2] for each in error.value.errors()} == {("annotations", 2)}


def test_of_many_bad_points_the_first_ends_the_reading(content):
    change(content, "annotations.0.point_coords", [7] * 100_000)
    with pytest.raises(ValidationError) as error:
        AnnotatedImage.model_validate(content)

    assert error.value.error_count() == 1


def test_a_file_beyond_the_limit_is_refused_unread(path):
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # a hole, which takes no room

    assert_refused(path, f"it has {MAX_FILE_BYTES + 1} bytes, more than {MAX_FILE_BYTES}")


MADE = {
    "a folder": (Path.mkdir, "it is not a regular file"),
    "a FIFO": (os.mkfifo, "it is not a regular file"),
    "a loop of links": (lambda path: path.symlink_to(path), "it can't be read: Too many levels"),
    "nothing": (lambda path: None, "it can't be read: No such file or directory"),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_no_file_is_refused(name, path):
    make, message = MADE[name]
    make(path)

    assert_refused(path, message)


@pytest.mark.parametrize("name", ["a\nb\x1b[31m.json", "\udc80.json", "a\0b.json"])
def test_an_error_is_one_harmless_line_whatever_a_file_is_called(name, tmp_path):
    with pytest.raises(Sa1bError) as error:
        read_sa1b(tmp_path / name)

    assert str(error.value).isprintable()


COUNTS = {
    "none": "",
    "a run that goes on past the end": "13P",
    "only groups that go on": "o" * 40,
    "a run of seven groups": "1PPPPPP03",
    "a run of twenty groups": "1" + "o" * 19 + "03",
    "a character below": "1/3",
    "a character above": "1p3",
    "NUL": "13\x002",
    "a newline at the end": "132\n",
    "a newline at the start": "\n132",
    "not ASCII": "1é2",
    "digits of another script": "\N{FULLWIDTH DIGIT ONE}32",
    "half a surrogate pair": "1\ud8002",
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_that_are_no_run_lengths_never_reach_pycocotools(name, content, path):
    change(content, "annotations.0.segmentation.counts", COUNTS[name])
    path.write_text(json.dumps(content))

    assert_refused(path, "annotations.0.segmentation.counts")


def test_counts_longer_than_the_limit_are_refused(content):
    change(content, "annotations.0.segmentation.counts", "0" * (sa1b.MAX_COUNTS + 1))

    with pytest.raises(ValidationError, match="at most 16777216 characters"):
        AnnotatedImage.model_validate(content)


SUMS = {
    "one pixel too few": ("131", "add up to 2 x 3; the shortest has 1, together they have 5"),
    "one pixel too many": ("133", "together they have 7"),
    "no pixels": ("0", "together they have 0"),
    "a first run below zero": ("O7", "the shortest has -1, together they have 6"),
    "a later run below zero": ("124K3", "the shortest has -3"),
    "the longest run": ("ooooo?", "together they have 536870911"),
    "the shortest run": ("PPPPP@", "the shortest has -536870912"),
}


@pytest.mark.parametrize("name", SUMS)
def test_runs_that_are_not_the_images_are_refused(name):
    counts, message = SUMS[name]

    with pytest.raises(Sa1bError) as error:
        mask_of(counts)

    assert str(error.value).startswith("The runs of annotation 5 must be of 0 pixels or more")
    assert message in str(error.value)


def in_six_groups(number):
    groups = [number >> 5 * index & 31 for index in range(6)]
    return "".join(chr(48 + 32 * (index < 5) + group) for index, group in enumerate(groups))


def test_runs_whose_sum_wraps_round_to_the_images_are_refused():
    # Each second run is 0, and each other is longer than the last of its kind by a step. A step
    # counts once for each run that follows, so that steps can be found for any sum.
    count, rest, steps = 2**19, 2**64 + 6, []
    for following in range(count, 0, -1):
        steps.append(min(2**29 - 1, rest // following))
        rest -= steps[-1] * following
    counts = "".join("0" + in_six_groups(step) for step in steps)

    assert CocoRle(size=(2, 3), counts=counts).runs().sum() == 6
    with pytest.raises(Sa1bError, match="together they have 18446744073709551616"):
        mask_of(counts)


def test_a_mask_is_made_of_any_run_lengths_that_add_up_and_of_no_others():
    random, made = np.random.default_rng(0), 0
    for _ in range(1_000):
        runs = random.integers(0, 5, random.integers(1, 6)).tolist()
        rle = {"size": [2, 3], "counts": runs}
        counts = compress_rle(rle)["counts"]
        if sum(runs) == 6:
            np.testing.assert_array_equal(mask_of(counts), decode_rle(rle))
            made += 1
        else:
            with pytest.raises(Sa1bError):
                mask_of(counts)
    assert made > 50


def test_runs_of_no_pixels_within_a_mask_are_passed_over():
    np.testing.assert_array_equal(mask_of("3003"), mask_of("33"))


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)

    with pytest.raises(MissingExtraError, match=r"need.*pip install 'sam-encoder-bench\[masks\]'$"):
        mask_of("132")


def test_a_file_is_read_without_torch_and_pycocotools(content, path):
    path.write_text(json.dumps(content))
    code = (
        "import sys; from sam.files.sa1b import read_sa1b; read_sa1b(sys.argv[1]);"
        "sys.exit(not {'torch', 'pycocotools'}.isdisjoint(sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 0


def test_a_file_is_replaced_whole_and_nothing_else_is_left(path):
    write_sa1b(path, annotated_image(MASKS["noise"]))
    write_sa1b(str(path), annotated_image(MASKS["one row"]))

    assert read_sa1b(path) == annotated_image(MASKS["one row"])
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_stays_and_nothing_half_written(error, step, path, monkeypatch):
    old, new = annotated_image(MASKS["noise"]), annotated_image(MASKS["one row"])
    write_sa1b(path, old)

    def fail(*args):
        (temporary,) = set(path.parent.iterdir()) - {path}  # in the same folder
        assert temporary.name.startswith(".")
        assert read_sa1b(temporary) == new
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_sa1b(path, new)

    assert read_sa1b(path) == old
    assert list(path.parent.iterdir()) == [path]


def test_until_it_is_replaced_the_old_file_is_whole_and_then_the_new(path, monkeypatch):
    old, new = annotated_image(MASKS["noise"]), annotated_image(MASKS["one row"])
    write_sa1b(path, old)
    replace = os.replace

    def look_and_replace(temporary, target):
        assert read_sa1b(target) == old
        assert read_sa1b(temporary) == new
        replace(temporary, target)

    monkeypatch.setattr(os, "replace", look_and_replace)
    write_sa1b(path, new)

    assert read_sa1b(path) == new


@pytest.mark.parametrize(
    ("name", "error"), [("missing/sa_7.json", FileNotFoundError), ("folder", IsADirectoryError)]
)
def test_what_the_disk_does_not_take_is_an_os_error(name, error, tmp_path):
    (tmp_path / "folder").mkdir()

    with pytest.raises(error):
        write_sa1b(tmp_path / name, annotated_image(MASKS["one row"]))
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_file_may_have_the_longest_name_that_a_disk_takes(tmp_path):
    path = tmp_path / ("a" * 250 + ".json")

    write_sa1b(path, annotated_image(MASKS["one row"]))

    assert path.is_file()


@pytest.mark.parametrize(
    ("file_name", "number"),
    [
        ("sa_123.jpg", 123),
        ("sa_0.jpg", 0),
        ("sa_000123.png", 123),
        ("sa_999999999999999999.jpg", 999999999999999999),
    ],
)
def test_an_image_has_the_number_of_its_name_in_sa1b(file_name, number):
    assert sa1b_image_id(file_name) == number


OTHER_NAMES = (
    "sa_" + "9" * 5000 + ".jpg", "sa_1234567890123456789.jpg", "sa_-1.jpg", "sa_1_2.jpg",
    "sa_\N{FULLWIDTH DIGIT ONE}.jpg", "sa_.jpg", "sa_123", "sa_123.jpg\n", "xsa_123.jpg", "cat.jpg",
    "\udcff.jpg", "",
)  # fmt: skip


def test_images_of_other_names_have_numbers_of_their_own_that_stay():
    numbers = [sa1b_image_id(name) for name in OTHER_NAMES]

    assert numbers == [sa1b_image_id(name) for name in OTHER_NAMES]
    assert len(set(numbers)) == len(OTHER_NAMES)
    assert all(0 <= number < 2**53 for number in numbers)


def test_the_masks_of_an_image_lie_under_its_name_with_or_without_the_suffix(tmp_path):
    image = tmp_path / "a.jpg"

    assert annotation_path(image) == tmp_path / "a.json"

    (tmp_path / "a.jpg.json").touch()

    assert annotation_path(image) == tmp_path / "a.jpg.json"
