"""Where a store lies: a folder, or an address that fsspec knows (s3://, gs://, memory://, ...).

Both have a path's methods. What differs between them is here: writing whole, and locking.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import secrets
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from .errors import UserError, one_line

TEMPORARY = ".tmp"
# Of these a file appears whole or not at all when it is put; of others, once it is renamed.
PUT_WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "memory")
# Packages whose errors say that an address can't be reached, or that one may not.
SERVICES = ("aiohttp", "azure", "botocore", "gcsfs", "google")


class UnreachableError(OSError):
    """An address does not answer, or must not be read."""


class AddressError(UserError):
    """No store can be at this place."""


def open_address(text: str) -> Path:
    """A folder's path, or what has a path's methods for an address.

    Raises:
        AddressError: Where there is no such kind of address, or its package is not installed.
    """
    protocol, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if protocol in ("file", "local"):
        return Path(rest)
    from upath import UPath

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols that have no class of their own
            # Other machines write to the store too: what was listed before may be old.
            path = UPath(text, use_listings_cache=False)
        if not path.protocol:
            raise ValueError("it names no protocol")
        path.fs  # noqa: B018  imports what the protocol needs
    except ImportError as error:
        raise AddressError(
            f"A store at {protocol}:// needs another package: {one_line(error)}."
        ) from error
    except Exception as error:
        raise AddressError(
            f"A store must be a folder or an address such as s3://bucket/runs, got "
            f"{ascii(text)[:100]}: {one_line(error)}."
        ) from error
    return cast(Path, path)


def is_remote(path: Path) -> bool:
    """Whether it is an address, and not a path of this machine's own file system."""
    return not isinstance(path, Path)


def file_system(path: Path) -> Any:
    """Of an address, as fsspec has it."""
    return cast(Any, path).fs


def key(path: Path) -> str:
    """An address as its own file system names it."""
    return cast(str, cast(Any, path).path)


def exists(path: Path) -> bool:
    """Whether there is something, be it a link that leads nowhere.

    Raises:
        UnreachableError: Where an address does not tell.
    """
    if not is_remote(path):
        return os.path.lexists(path)
    try:
        return path.exists()
    except Exception as error:
        raise UnreachableError(errno.EIO, one_line(error)) from error


def failures(path: Path) -> tuple[type[Exception], ...]:
    """What reading or writing a place can raise; each service has errors of its own."""
    return (Exception,) if is_remote(path) else (OSError,)


def is_of_service(error: Exception) -> bool:
    """Whether it is of the packages that speak to a service, and so no defect of ours."""
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, UnreachableError) or package in SERVICES


def read_many(paths: Sequence[Path]) -> list[bytes | Exception]:
    """Files' content, or why each can't be read; those of an address many at a time."""
    if not paths:
        return []
    if is_remote(paths[0]):
        # Whole files: unlike `cat`, this takes no name for a pattern.
        keys = [key(path) for path in paths]
        return list(file_system(paths[0]).cat_ranges(keys, None, None, on_error="return"))
    found: list[bytes | Exception] = []
    for path in paths:
        try:
            found.append(path.read_bytes())
        except Exception as error:  # told by who asked, as a file that can't be used
            found.append(error)
    return found


def write_file(path: Path, data: bytes) -> None:
    """Write so that a reader, or a crash at any moment, meets the old file or the new, never half.

    Raises:
        OSError: Where it can't be; the old file stays. Other errors too, of an address.
    """
    if is_remote(path):
        put(path, data)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def put(path: Path, data: bytes) -> None:
    files = file_system(path)
    if puts_whole(files):
        files.pipe_file(key(path), data)
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    files.makedirs(key(path.parent), exist_ok=True)
    try:
        files.pipe_file(key(temporary), data)
        files.mv(key(temporary), key(path))
    finally:
        if files.exists(key(temporary)):
            files.rm_file(key(temporary))


def puts_whole(files: Any) -> bool:
    """Whether it is an object store, which has no folders either."""
    protocols = (files.protocol,) if isinstance(files.protocol, str) else files.protocol
    return bool(set(protocols) & set(PUT_WHOLE))


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    if is_remote(folder):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def holding(path: Path, takes_over: bool = False) -> Iterator[None]:
    """Hold a lock. The system releases a file's lock when its process ends, but an object stays.

    Args:
        takes_over: Replace an object that a dead process left behind.

    Raises:
        BlockingIOError: Another process holds it; for an object, the message says which one.
        OSError: There can be no lock. Other errors too, of an address.
    """
    if not is_remote(path):
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        return
    # An object is put only if there is none, and removed at the end.
    files = file_system(path)
    if not puts_whole(files):
        files.makedirs(key(path.parent), exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    owner = f"{platform.node()}, process {os.getpid()}, since {now}".encode()
    try:
        files.pipe_file(key(path), owner, **({} if takes_over else {"mode": "create"}))
    except FileExistsError as error:
        found = b"which has just ended"
        with suppress(FileNotFoundError):
            found = files.cat_file(key(path))
        raise BlockingIOError(found[:200].decode(errors="replace")) from error
    try:
        yield
    finally:
        with suppress(Exception):  # then it stays, as that of a dead process does
            if files.cat_file(key(path)) == owner:  # nobody has taken it over
                files.rm_file(key(path))


def is_held(path: Path) -> bool:
    """Whether a process holds a lock, or has left an object behind.

    A process that takes a file's lock at this very moment may be refused because of this look.
    """
    if is_remote(path):
        with suppress(UnreachableError):
            return exists(path)
        return False
    try:
        if not path.is_file():
            return False
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # where nothing can be locked, nothing is
        return False
    return False
