"""Reading one JSON file of a store strictly, whoever has written it."""

from __future__ import annotations

import errno
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .addresses import UnreachableError, failures, is_remote
from .errors import one_line
from .quantities import SCHEMA_VERSION
from .upgrades import UPGRADES, upgraded

MAX_FILE_BYTES = 64 * 2**20

Form = TypeVar("Form", bound=BaseModel)


class BrokenFileError(Exception):
    """One file of a store can't be used; the message says why."""


class OtherVersionError(BrokenFileError):
    """A file is of another version, which may well be able to use it."""


@dataclass(frozen=True)
class Problem:
    """A file that was passed over."""

    path: Path
    reason: str
    is_unread: bool = False  # whether what is there may be fine


def read_into(
    target: list[Form],
    path: Path,
    form: type[Form],
    problems: list[Problem],
    content: bytes | Exception | None = None,
) -> None:
    """Add a file's content to a list, or the reason why it can't be.

    Args:
        content: What was read of it already.
    """
    try:
        target.append(read_file(path, form, content))
    except BrokenFileError as error:
        problems.append(Problem(path, str(error)))
    except UnreachableError as error:
        problems.append(Problem(path, f"it can't be read: {one_line(error)}", is_unread=True))


def read_file(path: Path, form: type[Form], content: bytes | Exception | None = None) -> Form:
    """Read one JSON file strictly.

    Raises:
        BrokenFileError: Says what is wrong with it.
        UnreachableError: Where an address does not give it, which may have it all the same.
    """
    try:
        if isinstance(content, Exception):
            raise content
        if content is None:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise BrokenFileError("it is not a regular file")
        size = status.st_size if content is None else len(content)
        if size > MAX_FILE_BYTES:
            raise BrokenFileError(f"it has {size} bytes, more than {MAX_FILE_BYTES}")
        text = (path.read_bytes() if content is None else content).decode()
    except BrokenFileError:
        raise
    except UnicodeDecodeError as error:
        raise BrokenFileError("it is not UTF-8 text") from error
    except failures(path) as error:
        if is_remote(path) and not isinstance(error, FileNotFoundError):
            raise UnreachableError(errno.EIO, one_line(error)) from error
        raise BrokenFileError(f"it can't be read: {one_line(error)}") from error
    return parse_file(text, form)


def parse_file(text: str, form: type[Form]) -> Form:
    """A file's text, strictly."""
    content = check_version(parse_json(text))
    if content["schema_version"] != SCHEMA_VERSION:
        try:
            text = json.dumps(upgraded(content))
        except RecursionError as error:
            raise BrokenFileError("its brackets are nested too deep") from error
    try:
        # Strictly, so that "1" and true are no numbers; from text, since lists would have to be
        # tuples.
        return form.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BrokenFileError(f"{place!r:.100}: {first['msg']}") from error


def check_version(content: Any) -> dict[str, Any]:
    """A file's content, if it is of a version that can be read."""
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is int and (version == SCHEMA_VERSION or version in UPGRADES):
        return dict(content)
    # A version that is no whole number is nobody's.
    kind = OtherVersionError if type(version) is int else BrokenFileError
    raise kind(
        f"its schema_version is {version!r:.100}, and this version of sam-bench reads "
        f"{min(UPGRADES)} to {SCHEMA_VERSION}"
    )


def parse_json(text: str) -> Any:
    """JSON without NaN, infinities, duplicate keys, deep nesting or endless numbers."""

    def refuse_constant(name: str) -> Any:
        raise BrokenFileError(f"{name} is not a number that JSON knows")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) != len(pairs):
            raise BrokenFileError("a key stands twice")
        return keys

    try:
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=unique)
    except RecursionError as error:
        raise BrokenFileError("its brackets are nested too deep") from error
    except ValueError as error:  # Python's own limit on a number's digits too
        raise BrokenFileError(f"it is not JSON ({error})") from error
