"""Fetching an official checkpoint: resumable, checked, and only then given its name."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..family import OfficialCheckpoint
from .errors import FileError

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0  # without a byte


class DownloadError(FileError):
    """A download did not end with a verified file."""


def download(
    official: OfficialCheckpoint,
    folder: str | Path,
    base_url: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done_bytes, total_bytes: None,
) -> Path:
    """Fetch a checkpoint into a folder and verify it.

    The bytes go to NAME.part, which a later call continues; the file gets its name when size and
    SHA-256 are right. A file that is there already is verified and kept.

    Args:
        official: Which file.
        folder: Made if needed.
        base_url: Address of the folder on a mirror; None for the official one.
        on_progress: Called with the bytes so far and the bytes in all.

    Returns:
        The verified file.

    Raises:
        DownloadError: Where it fails; what came so far is kept for the next call.
    """
    target = Path(folder) / official.filename
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if target.exists():
            return check_existing(target, official)
        with open(target.with_name(target.name + ".part"), "ab") as part:
            lock(part, target)
            check_space(Path(folder), official.size_bytes - part.tell())
            fetch_into(part, official, base_url or official.base_url, on_progress)
            verify(part, official)
            os.replace(part.name, target)
    except OSError as error:
        raise DownloadError(
            f"'{folder}' can't take the file ({error.strerror or error}): name a folder that you "
            "can write to with --output."
        ) from error
    return target


def check_existing(target: Path, official: OfficialCheckpoint) -> Path:
    with target.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == official.sha256:
            return target
    raise DownloadError(
        f"'{target}' exists but is not the official file (its SHA-256 differs): move it away first."
    )


def lock(part: BinaryIO, target: Path) -> None:
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DownloadError(f"Another process is downloading '{target}': wait for it.") from error


def check_space(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise DownloadError(
            f"The download needs {needed_bytes / 2**20:.0f} MiB more, but '{folder}' has "
            f"{free / 2**20:.0f} MiB free: make room or choose another folder with --output."
        )


def fetch_into(
    part: BinaryIO,
    official: OfficialCheckpoint,
    base_url: str,
    on_progress: Callable[[int, int], None],
) -> None:
    """Append what is missing; start over where the server can't continue."""
    total = official.size_bytes
    if part.tell() > total:
        part.truncate(0)
        part.seek(0)
    if part.tell() == total:
        return
    url = base_url.rstrip("/") + "/" + official.filename
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={part.tell()}-"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            check_announced(url, response, total)
            if response.status != http.client.PARTIAL_CONTENT:
                part.truncate(0)
                part.seek(0)
            copy(response, part, total, on_progress)
    except urllib.error.HTTPError as error:
        error.close()
        raise DownloadError(
            f"{url} can't be fetched: the server answered {error.code} ({error.reason}). Check the "
            "address, or try again later."
        ) from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ValueError,
        TimeoutError,
        ConnectionError,
        ssl.SSLError,
    ) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"{url} can't be fetched ({reason}); {part.tell()} of {total} bytes are kept: "
            "type the same command to continue."
        ) from error
    if part.tell() < total:
        raise DownloadError(
            f"The connection ended after {part.tell()} of {total} bytes, which are kept: "
            "type the same command to continue."
        )


def check_announced(url: str, response: http.client.HTTPResponse, total: int) -> None:
    """Refuse another file (an error page, say) before its bytes join those that are kept."""
    if response.status == http.client.PARTIAL_CONTENT:
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        size = response.headers.get("Content-Length", "")
    if size.isdecimal() and int(size) != total:  # or the server does not state it
        raise DownloadError(
            f"{url} has {int(size)} bytes instead of {total}: it is not the official file. "
            "Check the address."
        )


def copy(
    response: http.client.HTTPResponse,
    part: BinaryIO,
    total: int,
    on_progress: Callable[[int, int], None],
) -> None:
    """Copy until the response ends, or one byte past the size that the file should have."""
    while part.tell() <= total and (chunk := response.read(CHUNK_BYTES)):
        part.write(chunk)
        on_progress(min(part.tell(), total), total)
    part.flush()
    os.fsync(part.fileno())


def verify(part: BinaryIO, official: OfficialCheckpoint) -> None:
    """Check size and SHA-256; a file that fails is of no use and goes."""
    with open(part.name, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != official.sha256:
        size = os.path.getsize(part.name)
        os.remove(part.name)
        raise DownloadError(
            f"What came is not {official.filename}: {size} bytes with SHA-256 {digest[:16]}... "
            f"instead of {official.size_bytes} bytes with {official.sha256[:16]}.... It was "
            "removed; try again, or check the address."
        )
