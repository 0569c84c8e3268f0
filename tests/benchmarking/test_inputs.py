"""Folders of photographs, what is asked about each, and batches of them or of noise."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from benchmarking.choices.inputs import (
    BUFFERS,
    INPUTS,
    check_images,
    list_images,
    noise_batches,
    noise_photographs,
    photograph_batches,
    read_input,
)


@pytest.fixture
def read_folder(make_plan):
    """Read a folder's photographs; None for those of sam-bench."""

    def read(folder, limit=None, **changes):
        plan = make_plan(images=str(folder) if folder else None, **changes)
        return read_input("images", plan, 64, limit)

    return read


# Folders


def test_an_image_keeps_the_bytes_that_it_was_decoded_from(photograph, read_folder):
    (image,) = read_folder(photograph).images

    assert image.file == (photograph / "one.png").read_bytes()


def test_no_more_images_are_read_than_a_batch_can_show(photograph, read_folder):
    for name in ("two.png", "zzz-broken.jpg"):
        (photograph / name).write_bytes((photograph / "one.png").read_bytes()[: len(name) * 500])
    found = read_folder(photograph, limit=1)

    assert len(found.images) == 1
    assert found.unreadable == ()


def test_a_folder_of_unreadable_files_is_refused_with_the_first_reason(
    tmp_path, read_folder, refusal
):
    (tmp_path / "a.jpg").touch()
    line = refusal(read_folder, tmp_path)

    assert line.startswith(f"No image of '{tmp_path}' can be used. The first: ")


@pytest.mark.parametrize("name", [b"\xff.jpg", b"\x1b[31m\n.jpg"], ids=["no UTF-8", "escape"])
def test_a_file_is_named_in_text_that_a_record_can_hold(photograph, read_folder, name):
    with open(os.path.join(os.fsencode(photograph), name), "wb"):
        pass
    (reason,) = read_folder(photograph).unreadable

    assert reason.isprintable()
    assert reason.encode("utf-8")


def test_images_are_found_by_suffix_in_the_order_of_their_names(tmp_path):
    for name in ("b.JPG", "a.png", "c.txt", "d"):
        (tmp_path / name).touch()

    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG"]


def test_a_folder_without_images_is_refused_with_the_suffixes(tmp_path, refusal):
    line = refusal(check_images, str(tmp_path), ["images"])

    assert line.startswith(f"'{tmp_path}' has no image: put files in it that end in one of .jpg ")


NO_FOLDERS = {
    "missing": (lambda path: None, "can't be read: No such file or directory."),
    "file": (lambda path: path.touch(), "must be a folder of images, and is none."),
    "pipe": (os.mkfifo, "must be a folder of images, and is none."),
    "link to itself": (lambda path: path.symlink_to(path), "can't be read: Too many levels"),
}


@pytest.mark.parametrize(("make", "reason"), NO_FOLDERS.values(), ids=NO_FOLDERS)
def test_what_is_no_folder_is_refused(tmp_path, make, reason, refusal):
    path = tmp_path / "images"
    make(path)

    assert refusal(check_images, str(path), ["images"]).startswith(f"'{path}' {reason}")


def test_a_name_too_long_for_a_folder_is_refused(refusal):
    assert "File name too long" in refusal(check_images, "n" * 300, ["images"])


def test_a_folder_that_no_case_reads_is_refused(photograph, refusal):
    assert "--input asks for none" in refusal(check_images, str(photograph), ["noise"])


@pytest.mark.parametrize("name", [name for name in INPUTS if name != "sa1b"])
def test_no_folder_is_needed_where_none_is_annotated(name):
    assert check_images(None, [name]) is None


@pytest.mark.parametrize("name", [name for name in INPUTS if INPUTS[name].prompts_of])
def test_a_folder_is_read_by_some_case(photograph, name):
    (photograph / "one.json").touch()

    assert check_images(str(photograph), ["noise", name]) is None


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_says_what_it_is(name):
    assert INPUTS[name].summary


def test_the_photographs_that_come_with_sam_bench_are_read(read_folder):
    found = read_folder(None)

    assert found.unreadable == ()
    assert len(found.images) >= BUFFERS
    assert min(image.pixels.std() for image in found.images) > 10  # no image of one colour


# Prompts


@pytest.mark.parametrize(
    ("kind", "prompt"), [("points", [20.0, 15.0]), ("boxes", [10.0, 7.5, 30.0, 22.5])]
)
def test_a_photograph_is_asked_about_its_middle(photograph, read_folder, kind, prompt):
    found = read_folder(photograph, prompts=kind)

    assert [image.prompts.tolist() for image in found.images] == [[prompt]]
    assert found.source == f"1 of {photograph}, 1 {kind}"


@pytest.mark.parametrize(
    ("kind", "prompt"), [("points", [16.0, 16.0]), ("boxes", [8.0, 8.0, 24.0, 24.0])]
)
def test_noise_is_asked_about_its_middle_and_has_no_file(make_plan, kind, prompt):
    found = read_input("noise", make_plan(prompts=kind), 32, None)

    assert [image.prompts.tolist() for image in found.images] == [[prompt]] * BUFFERS
    assert {image.file for image in found.images} == {None}


# Batches


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_each_batch_begins_with_another_photograph_and_repeats_them_in_turn(make_plan, batch_size):
    photographs = noise_photographs(16, make_plan())
    number = {image.pixels.tobytes(): index for index, image in enumerate(photographs.images)}
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


def test_noise_in_place_of_photographs_is_seeded_and_says_so(make_plan):
    found = [noise_photographs(16, make_plan(seed=seed)) for seed in (3, 3, 4)]
    first, again, other = (np.stack([image.pixels for image in each.images]) for each in found)

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert found[0].source == "noise, seed 3"
