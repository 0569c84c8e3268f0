"""Photographs of every kind that a folder may hold, and noise; never zeros."""

from __future__ import annotations

import os
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarking.inputs import (
    BUFFERS,
    INPUTS,
    MAX_PIXELS,
    check_images,
    list_images,
    noise_batches,
    noise_photographs,
    photograph_batches,
    read_image,
    read_photographs,
)

RED = (255, 0, 0)


def png_header(width, height):
    """A PNG of this size, without the pixels."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def save(path, image, **options):
    image.save(path, **options)
    return read_image(path)


# Images that are read


@pytest.mark.parametrize(
    ("mode", "suffix", "colour", "pixel"),
    [
        ("1", "png", 1, (255, 255, 255)),
        ("L", "jpg", 100, (100, 100, 100)),
        ("LA", "png", (100, 255), (100, 100, 100)),
        ("RGB", "bmp", RED, RED),
        ("RGB", "webp", (0, 0, 0), (0, 0, 0)),
        ("RGBA", "png", (*RED, 255), RED),
        ("RGBA", "png", (*RED, 0), (0, 0, 0)),  # transparent: over black
        ("LA", "png", (100, 0), (0, 0, 0)),
        ("CMYK", "tif", (0, 255, 255, 0), RED),
    ],
)
def test_an_image_of_any_mode_is_read_as_rgb(tmp_path, mode, suffix, colour, pixel):
    pixels = save(tmp_path / f"image.{suffix}", Image.new(mode, (5, 4), colour))

    assert (pixels.shape, pixels.dtype) == ((4, 5, 3), np.uint8)
    assert (pixels == pixel).all()


@pytest.mark.parametrize(
    ("transparency", "pixel"),
    [(None, RED), (3, RED), (0, (0, 0, 0)), (bytes([0] * 256), (0, 0, 0))],
)
def test_a_palette_is_resolved_and_what_it_makes_transparent_is_black(
    tmp_path, transparency, pixel
):
    image = Image.new("P", (5, 4), 0)
    image.putpalette(RED * 256)
    options = {} if transparency is None else {"transparency": transparency}

    assert (save(tmp_path / "image.png", image, **options) == pixel).all()


@pytest.mark.parametrize(
    ("values", "suffix", "grey"),
    [
        (np.array([[0, 65535]], np.uint16), "png", [0, 255]),
        (np.array([[1000, 2000]], np.uint16), "png", [0, 255]),
        (np.array([[7, 7]], np.uint16), "png", [0, 0]),
        (np.array([[-5, 100_000]], np.int32), "tif", [0, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), "tif", [0, 127, 255]),
        (np.array([[np.nan, -0.0, 2.0]], np.float32), "tif", [0, 0, 255]),
        (np.array([[np.inf, -np.inf, 0.0, 2.0]], np.float32), "tif", [0, 0, 0, 255]),
    ],
)
def test_values_beyond_8_bits_are_stretched_to_them(tmp_path, values, suffix, grey):
    pixels = save(tmp_path / f"image.{suffix}", Image.fromarray(values))

    assert pixels[0].tolist() == [[value] * 3 for value in grey]


@pytest.mark.parametrize("size", [(1, 1), (1, 100_000), (100_000, 1)])
def test_an_image_of_one_pixels_width_is_read(tmp_path, size):
    assert save(tmp_path / "image.png", Image.new("RGB", size)).shape == (size[1], size[0], 3)


def test_a_rotation_in_exif_is_applied(tmp_path):
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is left is to be on top
    pixels = save(tmp_path / "image.png", image, exif=exif)

    assert pixels.shape == (4, 2, 3)
    assert tuple(pixels[0, 1]) == RED


def test_an_animation_is_read_as_its_first_frame(tmp_path):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255)))
    pixels = save(tmp_path / "image.gif", first, save_all=True, append_images=[second])

    assert (pixels == RED).all()


# Images that are refused


def jpeg_cut_in_half(path):
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


UNREADABLE = {
    "empty": ("x.png", lambda path: path.touch(), "cannot identify image file"),
    "text": ("x.jpg", lambda path: path.write_text("no image"), "cannot identify image file"),
    "truncated": ("x.jpg", jpeg_cut_in_half, "can't be decoded: .*[Tt]runcated"),
    "400 megapixels": (
        "x.png", lambda path: path.write_bytes(png_header(20_000, 20_000)), "400000000 pixels"
    ),
    "121 megapixels": (
        "x.png",
        lambda path: path.write_bytes(png_header(11_000, 11_000)),
        f"has 11000 x 11000 pixels, more than {MAX_PIXELS}: scale it down first",
    ),
    "pipe": ("x.jpg", os.mkfifo, "is not a regular file"),
    "folder": ("x.jpg", os.mkdir, "is not a regular file"),
    "link to itself": ("x.jpg", lambda path: path.symlink_to(path), "is not a regular file"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "make", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_image_is_refused_in_one_line(tmp_path, name, make, reason, refusal):
    make(tmp_path / name)
    line = refusal(read_image, tmp_path / name)

    assert line.startswith(f"'{tmp_path / name}' ")
    assert re.search(reason, line)


@pytest.mark.parametrize(("name", "make", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_file_among_others_is_passed_over_and_named(photograph, name, make, reason):
    make(photograph / name)
    found = read_photographs(photograph)

    assert [image.shape for image in found.images] == [(30, 40, 3)]
    assert found.source == f"1 of {photograph}"
    assert len(found.unreadable) == 1
    assert str(photograph / name) in found.unreadable[0]


def test_no_more_images_are_read_than_a_batch_can_show(photograph):
    for name in ("two.png", "zzz-broken.jpg"):
        (photograph / name).write_bytes((photograph / "one.png").read_bytes()[: len(name) * 500])
    found = read_photographs(photograph, limit=1)

    assert len(found.images) == 1
    assert found.unreadable == ()


def test_a_folder_of_unreadable_files_is_refused_with_the_first_reason(tmp_path, refusal):
    (tmp_path / "a.jpg").touch()
    line = refusal(read_photographs, tmp_path)

    assert line.startswith(f"No image of '{tmp_path}' can be read. The first: ")


@pytest.mark.parametrize("name", [b"\xff.jpg", b"\x1b[31m\n.jpg"], ids=["no UTF-8", "escape"])
def test_a_file_is_named_in_text_that_a_record_can_hold(photograph, name):
    with open(os.path.join(os.fsencode(photograph), name), "wb"):
        pass
    (reason,) = read_photographs(photograph).unreadable

    assert reason.isprintable()
    assert reason.encode("utf-8")


# Folders


def test_images_are_found_by_suffix_in_the_order_of_their_names(tmp_path):
    for name in ("b.JPG", "a.png", "c.txt", "d"):
        (tmp_path / name).touch()

    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG"]


def test_a_folder_without_images_is_refused_with_the_suffixes(tmp_path, refusal):
    line = refusal(check_images, str(tmp_path), ["images"])

    assert line.startswith(f"'{tmp_path}' has no image: put files in it that end in one of .jpg ")


@pytest.mark.parametrize("kind", ["missing", "file", "pipe"])
def test_what_is_no_folder_is_refused(tmp_path, kind, refusal):
    path = tmp_path / "images"
    {"missing": lambda: None, "file": path.touch, "pipe": lambda: os.mkfifo(path)}[kind]()

    assert "must name a folder of photographs" in refusal(check_images, str(path), ["images"])


def test_a_name_too_long_for_a_folder_is_refused(refusal):
    assert "File name too long" in refusal(check_images, "n" * 300, ["images"])


def test_a_folder_that_no_case_reads_is_refused(photograph, refusal):
    assert "--input asks for none" in refusal(check_images, str(photograph), ["noise"])


@pytest.mark.parametrize("inputs", [[name] for name in INPUTS])
def test_no_folder_is_needed(inputs):
    assert check_images(None, inputs) is None


def test_the_photographs_that_come_with_sam_bench_are_read():
    found = read_photographs(None)

    assert found.unreadable == ()
    assert len(found.images) >= BUFFERS
    assert min(image.std() for image in found.images) > 10  # no image of one colour


# Batches


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_each_batch_begins_with_another_photograph_and_repeats_them_in_turn(batch_size):
    photographs = noise_photographs(16, seed=0)
    number = {image.tobytes(): index for index, image in enumerate(photographs.images)}
    batches = photograph_batches(
        photographs, batch_size, lambda images: [number[image.tobytes()] for image in images]
    )

    assert batches == [
        [(start + index) % len(photographs.images) for index in range(batch_size)]
        for start in range(BUFFERS)
    ]


def make_noise(seed):
    return noise_batches(2, 32, seed, torch.device("cpu"), torch.float32)


def test_noise_is_normal_and_never_zeros():
    batches = torch.stack(make_noise(seed=0))

    assert batches.shape == (BUFFERS, 2, 3, 32, 32)
    assert abs(batches.mean()) < 0.05
    assert abs(batches.std() - 1) < 0.05


def test_noise_differs_between_batches_and_images():
    (first, second), (third, fourth) = make_noise(seed=0)

    assert len({image.numpy().tobytes() for image in (first, second, third, fourth)}) == 4


def test_noise_is_the_same_for_a_seed_and_another_for_another():
    first, again, other = (torch.stack(make_noise(seed)) for seed in (3, 3, 4))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_noise_has_the_encoders_type(dtype):
    batches = noise_batches(1, 16, 0, torch.device("cpu"), dtype)

    assert {batch.dtype for batch in batches} == {dtype}


def test_noise_in_place_of_photographs_is_seeded_and_says_so():
    first, again, other = (noise_photographs(16, seed) for seed in (3, 3, 4))

    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert first.source == "noise, seed 3"
