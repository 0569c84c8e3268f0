import contextlib
import hashlib
import io
import itertools
import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import save_file

from sam.families import MODELS
from sam.family import OfficialCheckpoint
from sam.files.checkpoints import CheckpointError, read_weights
from sam.sam1.build import allocate_sam
from sam.sam1.registry import build_sam_model
from sam.sam1.weights import fit_state_dict

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([0.5, -1])}


class Trap:
    """Touches a file when it is unpickled: what a hostile checkpoint would do, made harmless."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


class Claim:
    """Unpickles as a tensor of `count` values in a storage of four."""

    def __init__(self, count):
        self.count = count

    def __reduce__(self):
        storage = torch.storage.TypedStorage(
            wrap_storage=torch.zeros(4).untyped_storage(), dtype=torch.float32, _internal=True
        )
        return torch._utils._rebuild_tensor_v2, (storage, 0, (self.count,), (1,), False, {})


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def legacy(content):
    return saved(content, _use_new_zipfile_serialization=False)


def rezipped(data, compression=zipfile.ZIP_STORED, change=lambda name, content: content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def safetensors(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def floats(shape, dtype="F32", held=8):
    return safetensors(
        {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, held]}}, bytes(held)
    )


ZIP, LEGACY = saved(STATE), legacy(STATE)
DAMAGED = "damaged or no checkpoint .*: download it again"
BAD_HEADER = "not readable as safetensors .*: download it again"

# File content that is refused, and what the one line says about it.
REFUSED = {
    "empty": (b"", "is empty: download it again"),
    "blank": (b" \n\n", "is empty: download it again"),
    "text": (b"hello\n" * 99, DAMAGED),
    "json": (b'{"error": "not found"}', DAMAGED),
    "html": (b"\n<!DOCTYPE html><title>404</title>", "web page.*: fetch it again"),
    "xml": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "web page.*: fetch it again"),
    "git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 375042383\n",
        "Git LFS pointer.*: run git lfs pull",
    ),
    "zip cut at its first byte": (ZIP[:1], DAMAGED),
    "zip cut at half": (ZIP[: len(ZIP) // 2], DAMAGED),
    "zip cut at its last byte": (ZIP[:-1], DAMAGED),
    "legacy cut early": (LEGACY[:50], DAMAGED),
    "legacy cut at its last byte": (LEGACY[:-1], DAMAGED),
    "short storage": (
        rezipped(ZIP, change=lambda name, data: data[:4] if name.endswith("data/0") else data),
        DAMAGED,
    ),
    "shape beyond its storage": (saved({"a": Claim(1000)}), DAMAGED),
    "one value repeated": (
        saved({"a": torch.zeros(1).half().expand(10**12)}),
        "must hold all values of each tensor, but 'a' has 2 of 2000000000000 bytes: save",
    ),
    "tensor without values": (
        saved({"a": torch.zeros(4, device="meta")}),
        "must hold all values of each tensor, but 'a' has 0 of 16 bytes: save",
    ),
    "zip bomb": (
        rezipped(saved({"a": torch.zeros(10**6)}), zipfile.ZIP_DEFLATED),
        "unpacks to 40.* bytes, but a checkpoint must not be compressed: save it",
    ),
    "list": (saved([STATE]), "must hold a dict of tensors, got list: save model.state_dict"),
    "tensor": (saved(STATE["a.bias"]), "must hold a dict of tensors, got Tensor: save"),
    "empty dict": (saved({}), "must hold a dict of tensors, got an empty dict: save"),
    "empty wrapper": (saved({"model": {}}), "must hold a dict of tensors, got an empty dict: save"),
    "number among tensors": (saved(STATE | {"epoch": 3}), "'epoch' is of type int: save"),
    "integers": (saved({"a": torch.arange(3)}), "'a' is a tensor of int64 .*: save"),
    "complex numbers": (saved({"a": torch.ones(3) * 1j}), "'a' is a tensor of complex64 .*: save"),
    "8-bit floats": (
        saved({"a": torch.ones(3).to(torch.float8_e4m3fn)}),
        "16-bit floats or wider, but 'a' is a tensor of float8_e4m3fn .*: save",
    ),
    "sparse": (saved({"a": torch.eye(3).to_sparse()}), "layout sparse_coo: save"),
    "keys that are no names": (saved({1: torch.ones(3)}), "must map names .*: save"),
    "nan": (saved(STATE | {"b": torch.tensor([1, torch.nan])}), "finite, .* infinity in b"),
    "infinity": (saved(STATE | {"b": torch.tensor([-torch.inf])}), "finite, .* infinity in b"),
    "name of two lines with escapes": (
        saved({"a\n\x1b[31mred": torch.tensor([torch.nan])}),
        r"infinity in a\?\?\[31mred",
    ),
    "very long name": (saved({"a" * 10**5: torch.tensor([torch.nan])}), "infinity in a{160}:"),
    "safetensors: header longer than any file": (safetensors(b"{}", length=2**63), BAD_HEADER),
    "safetensors: header longer than the file": (safetensors(b"{}", length=10**6), BAD_HEADER),
    "safetensors: no JSON": (safetensors(b"{a"), BAD_HEADER),
    "safetensors: deep JSON": (safetensors(b'{"a":' * 200_000), BAD_HEADER),
    "safetensors: shape beyond all memory": (floats([2**40, 2**40]), BAD_HEADER),
    "safetensors: shape beyond its bytes": (floats([3]), BAD_HEADER),
    "safetensors: negative shape": (floats([-2]), BAD_HEADER),
    "safetensors: unknown type": (floats([8], "F17"), BAD_HEADER),
    "safetensors: 4-bit floats": (floats([16], "F4"), "16-bit floats or wider"),
    "safetensors: cut": (floats([2])[:-1], BAD_HEADER),
}


def refusal_of(path, official=MappingProxyType({})):
    with pytest.raises(CheckpointError) as caught:
        read_weights(path, official)
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def same_tensors(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(kind, path):
    content, wanted = REFUSED[kind]
    path.write_bytes(content)

    message = refusal_of(path)

    assert re.search(wanted, message)
    assert str(path) in message
    assert message.isprintable()  # so it is one line


TRAPPED = {
    "zip": lambda trap: saved({"model": STATE, "args": trap}),
    "zip, as a tensor": lambda trap: saved({"a.weight": trap}),
    "legacy": lambda trap: legacy({"model": STATE, "args": trap}),
    "pickle": lambda trap: pickle.dumps({"model": trap}, protocol=2),
    "new pickle": lambda trap: pickle.dumps({"model": trap}),
}


@pytest.mark.parametrize("kind", TRAPPED)
def test_code_in_a_file_is_not_run(kind, path, tmp_path):
    marker = tmp_path / "code was run"
    path.write_bytes(TRAPPED[kind](Trap(marker)))

    message = refusal_of(path)

    assert not marker.exists()
    assert re.search("could run code: save the|damaged or no checkpoint", message)
    assert str(path) in message
    assert message.isprintable()


@pytest.mark.parametrize("kind", TRAPPED)
def test_the_trap_of_the_test_above_does_spring(kind, path, tmp_path):
    marker = tmp_path / "code was run"
    path.write_bytes(TRAPPED[kind](Trap(marker)))

    with contextlib.suppress(RuntimeError):  # a bare pickle is no checkpoint
        torch.load(path, weights_only=False)

    assert marker.exists()


def test_a_missing_file_is_refused_with_the_way_to_fetch_one(path):
    assert re.search(f"No checkpoint at '{path}'.*sam-bench download", refusal_of(path))


def test_a_folder_is_refused(tmp_path):
    assert re.search(
        f"regular file, but '{tmp_path}' is not one: name the file", refusal_of(tmp_path)
    )


def test_a_pipe_is_refused_without_waiting_for_a_writer(path):
    os.mkfifo(path)

    assert re.search(f"regular file, but '{path}' is not one: name the file", refusal_of(path))


def test_a_name_longer_than_the_file_system_takes_is_refused():
    assert re.search(r"can't be read \(File name too long\): name a file", refusal_of("x" * 5000))


def test_a_name_of_two_lines_is_told_on_one(tmp_path):
    assert "one?two" in refusal_of(tmp_path / "one\ntwo")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(path):
    path.write_bytes(ZIP)
    path.chmod(0)

    assert re.search(f"'{path}' can't be read .*: name a file that you may read", refusal_of(path))


@pytest.mark.parametrize("content", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_a_plain_state_dict_is_read_without_a_note(content, path):
    path.write_bytes(content)

    weights = read_weights(path)

    assert same_tensors(weights.state_dict, STATE)
    assert weights.notes == ()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_safetensors_are_read_whatever_the_file_is_called(name, tmp_path):
    save_file(STATE, tmp_path / name)

    assert same_tensors(read_weights(tmp_path / name).state_dict, STATE)


def test_parameters_are_read_as_the_tensors_they_are(path):
    torch.save(torch.nn.Linear(3, 2).requires_grad_(True).state_dict(keep_vars=True), path)

    assert read_weights(path).state_dict["weight"].shape == (2, 3)


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_weights_under_a_trainers_key_are_accepted_with_a_note(wrapper, path):
    torch.save({wrapper: STATE, "epoch": 3, "optimizer": {"lr": 0.1}}, path)

    weights = read_weights(path)

    assert same_tensors(weights.state_dict, STATE)
    assert weights.notes == (f"the weights lay under the key '{wrapper}'",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_other_floats_are_converted_with_a_note(save, dtype, path):
    save({name: tensor.to(dtype) for name, tensor in STATE.items()}, path)

    weights = read_weights(path)

    assert same_tensors(weights.state_dict, STATE)
    assert weights.notes == (f"converted from {str(dtype).removeprefix('torch.')} to float32",)


def test_the_hash_is_that_of_the_file(path):
    path.write_bytes(ZIP)

    assert read_weights(path).sha256 == hashlib.sha256(ZIP).hexdigest()


@pytest.fixture
def official():
    """A small file that, for these tests, is published for tiny."""
    return OfficialCheckpoint("sam_tiny.pth", len(ZIP), hashlib.sha256(ZIP).hexdigest(), "")


def test_an_official_file_is_read(official, tmp_path):
    (tmp_path / official.filename).write_bytes(ZIP)

    assert same_tensors(
        read_weights(tmp_path / official.filename, {"tiny": official}).state_dict, STATE
    )


@pytest.mark.parametrize("position", [0, len(ZIP) // 3, len(ZIP) // 2, len(ZIP) - 1])
def test_one_flipped_bit_in_an_official_file_is_found(position, official, tmp_path):
    path = tmp_path / official.filename
    content = bytearray(ZIP)
    content[position] ^= 1
    path.write_bytes(content)

    message = refusal_of(path, {"tiny": official})

    assert f"'{path}' must have SHA-256 {official.sha256[:16]}" in message
    assert "sam-bench download tiny" in message
    assert message.isprintable()


def test_a_file_of_ones_own_may_have_any_content(official, path):
    torch.save({"a": torch.ones(1)}, path)

    assert read_weights(path).state_dict["a"] == 1


def tensors_of(name, image_size=1024):
    """All tensors of a model, with shapes but no values."""
    return allocate_sam(MODELS[name].config, image_size, device="meta").state_dict()


def misfit_of(path, state_dict, name="tiny", image_size=1024):
    model = allocate_sam(MODELS[name].config, image_size, device="meta")
    with pytest.raises(CheckpointError) as caught:
        fit_state_dict(path, state_dict, model, name, MODELS)
    return str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_the_right_weights_fit(name):
    weights = tensors_of(name)

    model = allocate_sam(MODELS[name].config, device="meta")
    assert fit_state_dict("w.pth", weights, model, name, MODELS) == weights


@pytest.mark.parametrize("image_size", [1024, 256], ids=["same size", "other size"])
@pytest.mark.parametrize(("given", "wanted"), list(itertools.permutations(MODELS, 2)))
def test_weights_of_another_model_are_told_by_its_name(given, wanted, image_size):
    message = misfit_of("w.pth", tensors_of(given, image_size), wanted)

    assert message.startswith(f"'w.pth' does not fit {wanted}: tensors ")
    assert message.endswith(f". It looks like {given}: choose that model.")
    assert message.isprintable()


def without(weights, *parts):
    return {
        key: tensor for key, tensor in weights.items() if not any(part in key for part in parts)
    }


TINY = tensors_of("tiny")
NORM, QKV = "image_encoder.blocks.0.norm1.bias", "image_encoder.blocks.0.attn.qkv.weight"
POS_EMBED = "image_encoder.pos_embed"
MISFITS = {
    "a tensor missing": (without(TINY, NORM), rf"1 missing \({NORM}\)"),
    "the decoder missing": (without(TINY, "mask_decoder"), r"\d+ missing \(.* and \d+ more\)"),
    "the encoder missing": (without(TINY, "image_encoder"), r"\d+ missing \(.* and \d+ more\)"),
    "a tensor too many": (TINY | {"extra": TINY[NORM]}, r"1 unknown \(extra\)"),
    "an unprintable name": (TINY | {"a\nb": TINY[NORM]}, r"1 unknown \(a\?b\)"),
    "a tensor transposed": (
        TINY | {QKV: TINY[QKV].T},
        rf"1 of wrong shape \({QKV} \(64, 192\) instead of \(192, 64\)\)",
    ),
    "a scalar for positions": (
        TINY | {POS_EMBED: torch.ones(())},
        r"1 of wrong shape .* \(\) inst",
    ),
    "no positions at all": (
        TINY | {POS_EMBED: torch.ones(1, 0, 0, 64)},
        r"1 of wrong shape .* \(1, 0, 0, 64\) instead",
    ),
    "positions that are no square": (
        TINY | {POS_EMBED: torch.ones(1, 32, 16, 64)},
        r"1 of wrong shape .* \(1, 32, 16, 64\) instead",
    ),
    "a scalar among tensors to interpolate": (
        tensors_of("tiny", 256) | {"image_encoder.blocks.1.attn.rel_pos_h": torch.ones(())},
        r"1 of wrong shape .* \(\) instead of \(127, 32\)",
    ),
    "nothing of SAM's": (STATE, r"\d+ missing \(.*\); 2 unknown \(a\.weight, a\.bias\)"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_weights_that_do_not_fit_are_refused_in_one_line(kind):
    weights, wanted = MISFITS[kind]

    message = misfit_of("w.pth", weights)

    assert re.search(rf"^'w\.pth' does not fit tiny: tensors .*{wanted}", message)
    assert message.endswith("Check that it is a SAM checkpoint.")
    assert message.isprintable()


def test_fitting_leaves_the_weights_that_were_read_as_they_are():
    weights = tensors_of("tiny", 256)
    shapes = {key: tensor.shape for key, tensor in weights.items()}

    fit_state_dict(
        "w.pth", weights, allocate_sam(MODELS["tiny"].config, device="meta"), "tiny", MODELS
    )

    assert {key: tensor.shape for key, tensor in weights.items()} == shapes


def test_building_from_a_file_that_does_not_fit_names_the_file(path):
    torch.save(STATE, path)

    with pytest.raises(CheckpointError, match=f"'{path}' does not fit tiny"):
        build_sam_model("tiny", image_size=128, checkpoint=path)
