"""Reading weights from a file, safely, and saying plainly what is wrong with a file.

Only tensors are read: torch's restricted unpickler or safetensors, never plain pickle.
"""

from __future__ import annotations

import hashlib
import stat
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ..family import OfficialCheckpoint
from .errors import FileError

WRAPPERS = ("model", "state_dict")  # keys under which trainers store a model's weights
NAMES_SHOWN = 3  # of tensors, in an error
NAME_LENGTH_SHOWN = 160  # characters
# Narrower types mean nothing without scales that a state_dict does not name.
WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class CheckpointError(FileError):
    """A file can't serve as weights."""


@dataclass(frozen=True)
class Weights:
    """What a file held.

    notes: What was done to make it fit, for a person to read.
    """

    state_dict: dict[str, Tensor]
    sha256: str
    notes: tuple[str, ...]


def read_weights(
    path: str | Path, official: Mapping[str, OfficialCheckpoint] = MappingProxyType({})
) -> Weights:
    """Read a checkpoint on the CPU, in float32.

    Args:
        path: The file.
        official: Published checkpoints by model; a file that has the name of one must have its
            content too.

    Raises:
        CheckpointError: Where the file is not a readable, finite set of weights.
    """
    path = Path(path)
    check_is_weights_file(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    check_official(path, digest, official)
    content = load_safetensors(path) if is_safetensors(path) else load_torch(path)
    notes = []
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            notes.append(f"the weights lay under the key '{wrapper}'")
            break
    state_dict = as_state_dict(path, content)
    kinds = {tensor.dtype for tensor in state_dict.values()} - {torch.float32}
    if kinds:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        notes.append(f"converted from {names} to float32")
    state_dict = {name: tensor.to(torch.float32) for name, tensor in state_dict.items()}
    check_finite(path, state_dict)
    return Weights(state_dict, digest, tuple(notes))


def check_is_weights_file(path: Path) -> None:
    """Refuse what can't be weights, by its kind and its first bytes."""
    try:
        if not path.exists():
            raise CheckpointError(
                f"No checkpoint at '{path}'. Fetch an official one with: sam-bench download vit_b"
            )
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(
                f"A checkpoint must be a regular file, but '{path}' is not one: name the file."
            )
        with path.open("rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError as error:
        raise CheckpointError(
            f"'{path}' can't be read ({error.strerror}): name a file that you may read."
        ) from error
    if not head:
        raise CheckpointError(f"'{path}' is empty: download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"'{path}' is a Git LFS pointer, not the weights themselves: run git lfs pull."
        )
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"'{path}' is a web page, probably an error page saved by a download: fetch it again."
        )


def check_official(path: Path, digest: str, official: Mapping[str, OfficialCheckpoint]) -> None:
    """Where a file has an official name, its SHA-256 must be the official one."""
    for model, checkpoint in official.items():
        if checkpoint.filename == path.name and checkpoint.sha256 != digest:
            raise CheckpointError(
                f"'{path}' must have SHA-256 {checkpoint.sha256[:16]}... but has "
                f"{digest[:16]}...: it is damaged or not the official file. Fetch it again "
                f"(sam-bench download {model}), or rename it if it is your own."
            )


def is_safetensors(path: Path) -> bool:
    """Whether the file starts as safetensors does: a header's length, then the header's JSON."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def load_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # a damaged or hostile header can raise anything at all
        raise CheckpointError(
            f"'{path}' is not readable as safetensors ({first_line(error)}): download it again."
        ) from error


def load_torch(path: Path) -> object:
    try:
        check_unpacked_size(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about storage classes, of no use to a person
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or hostile pickle can raise anything at all
        if "Unsupported operand" in str(error):  # of the pickle: torch.save never writes it
            raise CheckpointError(
                f"'{path}' is damaged or no checkpoint (not what torch.save or safetensors "
                "writes): download it again."
            ) from error
        if "weights_only" in str(error):
            raise CheckpointError(
                f"'{path}' holds more than tensors and was not loaded, since that could run code: "
                "save the model's state_dict alone, best as safetensors."
            ) from error
        raise CheckpointError(
            f"'{path}' is damaged or no checkpoint ({first_line(error)}): download it again."
        ) from error


def check_unpacked_size(path: Path) -> None:
    """Refuse an archive that unpacks to more bytes than it has: torch.save does not compress."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked_bytes = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:  # a legacy file, or a damaged one that torch.load will refuse
        return
    if unpacked_bytes > path.stat().st_size:
        raise CheckpointError(
            f"'{path}' unpacks to {unpacked_bytes} bytes, but a checkpoint must not be compressed: "
            "save it with torch.save or as safetensors."
        )


def first_line(error: Exception) -> str:
    """The start of an error's message, short enough for one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120].rstrip(".")


def as_state_dict(path: Path, content: object) -> dict[str, Tensor]:
    """Check that the content maps names to dense floating-point tensors with all their values."""
    kind = type(content).__name__
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"'{path}' must hold a dict of tensors, got "
            f"{f'an empty {kind}' if isinstance(content, Mapping) else kind}: "
            "save model.state_dict()."
        )
    for name, tensor in content.items():
        if not (
            isinstance(name, str)
            and isinstance(tensor, Tensor)
            and tensor.dtype in WEIGHT_DTYPES
            and tensor.layout == torch.strided
        ):
            raise CheckpointError(
                f"'{path}' must map names to dense tensors of 16-bit floats or wider, but "
                f"'{shown([str(name)])}' is {describe(tensor)}: save model.state_dict()."
            )
        # A tensor that repeats its values by a stride of zero, or lies on the device "meta".
        held_bytes = tensor.untyped_storage().nbytes() if tensor.device.type == "cpu" else 0
        if held_bytes < tensor.nbytes:
            raise CheckpointError(
                f"'{path}' must hold all values of each tensor, but '{shown([name])}' has "
                f"{held_bytes} of {tensor.nbytes} bytes: save model.state_dict()."
            )
    return dict(content)


def describe(value: object) -> str:
    """A value's type, or a tensor's type and layout."""
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} with layout {value.layout}".replace("torch.", "")
    return f"of type {type(value).__name__}"


def check_finite(path: Path, state_dict: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in state_dict.items() if not tensor.isfinite().all()]
    if bad:
        raise CheckpointError(
            f"Weights must be finite, but '{path}' has NaN or infinity in {shown(bad)}: "
            "use another checkpoint."
        )


def check_fits(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    name: str,
    looks_like: str | None = None,
) -> None:
    """Check that weights are those of a model.

    Args:
        path: The file that they come from, for the error.
        state_dict: Names and float tensors.
        expected: Those of the model.
        name: The model's name, for the error.
        looks_like: The name of the model that the weights seem to be of.

    Raises:
        CheckpointError: If names or shapes differ.
    """
    missing = [key for key in expected if key not in state_dict]
    extra = [key for key in state_dict if key not in expected]
    wrong = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state_dict and state_dict[key].shape != tensor.shape
    ]
    if missing or extra or wrong:
        problems = [
            f"{len(items)} {what} ({shown(items)})"
            for what, items in (("missing", missing), ("unknown", extra), ("of wrong shape", wrong))
            if items
        ]
        advice = (
            f"It looks like {looks_like}: choose that model."
            if looks_like not in (None, name)
            else "Check that it is a SAM checkpoint."
        )
        raise CheckpointError(
            f"'{path}' does not fit {name}: tensors {'; '.join(problems)}. {advice}"
        )


def shown(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    first = (name[:NAME_LENGTH_SHOWN] for name in names[:NAMES_SHOWN])
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")
