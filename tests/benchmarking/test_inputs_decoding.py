"""Images of every kind that a file may hold: read as a person sees them, or refused in one line."""

from __future__ import annotations

import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmarking.choices import inputs
from benchmarking.choices.inputs import MAX_PIXELS, read_image, read_input

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
    assert "BytesIO" not in line


@pytest.mark.parametrize(("name", "make", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_file_among_others_is_passed_over_and_named(
    photograph, make_plan, name, make, reason
):
    make(photograph / name)
    found = read_input("images", make_plan(images=str(photograph)), 64, None)

    assert [image.pixels.shape for image in found.images] == [(30, 40, 3)]
    assert found.source == f"1 of {photograph}, 1 points"
    assert len(found.unreadable) == 1
    assert str(photograph / name) in found.unreadable[0]


def test_a_file_of_more_bytes_than_can_be_held_is_refused_unread(photograph, monkeypatch, refusal):
    size = (photograph / "one.png").stat().st_size
    monkeypatch.setattr(inputs, "MAX_FILE_BYTES", size - 1)

    assert refusal(read_image, photograph / "one.png").endswith(
        f"one.png' has {size} bytes, more than {size - 1}."
    )


def test_a_file_of_as_many_bytes_as_can_be_held_is_read(photograph, monkeypatch):
    size = (photograph / "one.png").stat().st_size
    monkeypatch.setattr(inputs, "MAX_FILE_BYTES", size)

    assert read_image(photograph / "one.png").shape == (30, 40, 3)
