"""Where a store can lie, and how a file is put there whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath.implementations.memory import MemoryPath
from upath.registry import register_implementation

from results.records.addresses import (
    PUT_WHOLE,
    TEMPORARY,
    AddressError,
    exists,
    file_system,
    holding,
    is_held,
    is_remote,
    key,
    open_address,
    read_many,
    sync_folder,
    write_file,
)
from results.records.errors import one_line

PROTOCOL = "inhalves"


class InHalves(MemoryFileSystem):
    """Of a kind whose files can be met half written, and that has true folders, such as sftp.

    Tells under which names it puts and moves.
    """

    protocol = PROTOCOL
    store: ClassVar[dict[str, Any]] = {}  # of all instances, but not of memory://
    pseudo_dirs: ClassVar[list[str]] = [""]
    told: ClassVar[list[tuple[str, ...]]] = []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix(f"{PROTOCOL}://"))

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self.told.append(("put", path))
        if self.protocol == PROTOCOL and not self.isdir(self._parent(path)):
            raise FileNotFoundError(path)
        super().pipe_file(path, value, mode, **kwargs)

    def mv(self, path1, path2, **kwargs):
        self.told.append(("move", path1, path2))
        super().mv(path1, path2, **kwargs)


fsspec.register_implementation(PROTOCOL, InHalves, clobber=True)
register_implementation(PROTOCOL, MemoryPath, clobber=True)


@pytest.fixture
def in_halves():
    """An address at which files can be met half written."""
    for kept in (InHalves.store, InHalves.told):
        kept.clear()
    InHalves.pseudo_dirs[:] = [""]
    return open_address(f"{PROTOCOL}://a/runs")


@pytest.fixture(params=["folder", "memory", PROTOCOL])
def place(request, tmp_path, memory, in_halves):
    """Where a store may lie."""
    return {"folder": tmp_path, "memory": open_address(memory), PROTOCOL: in_halves}[request.param]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Which places there are


@pytest.mark.parametrize("text", ["runs", "/data/runs", "../runs", "a:b", "s3:/bucket", ".", "~"])
def test_what_names_no_protocol_is_a_folder(text):
    path = open_address(text)

    assert path == Path(text)
    assert not is_remote(path)


def test_a_lock_comes_with_its_folder(in_halves):
    with holding(in_halves / "sweep" / ".lock"):
        assert is_held(in_halves / "sweep" / ".lock")


@pytest.mark.parametrize("protocol", ["file", "local"])
@pytest.mark.parametrize("rest", ["/data/runs", "runs"])
def test_an_address_of_this_machine_s_own_files_is_a_folder(protocol, rest):
    path = open_address(f"{protocol}://{rest}")

    assert path == Path(rest)
    assert not is_remote(path)


@pytest.mark.parametrize("text", ["memory://a/runs", "s3://bucket/runs"])
def test_an_address_is_no_path_of_this_machine_and_is_told_as_it_was_typed(text):
    path = open_address(text)

    assert is_remote(path)
    assert str(path) == text
    assert str(path / "sweep" / "end.json") == f"{text}/sweep/end.json"


def test_an_address_has_the_listings_of_its_service_and_none_of_before():
    assert file_system(open_address("s3://bucket/runs")).dircache.use_listings_cache is False


@pytest.mark.parametrize("text", ["nonsense://bucket/runs", "S3://bucket", "a\nb://c", "x" * 300])
def test_an_unknown_protocol_is_refused_in_one_line(text):
    with pytest.raises(AddressError) as refusal:
        open_address(text if "://" in text else f"{text}://bucket")

    assert str(refusal.value).startswith(
        "A store must be a folder or an address such as s3://bucket/runs, got '"
    )
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_protocol_whose_package_is_not_installed_is_refused_with_its_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(AddressError) as refusal:
        open_address("gs://bucket/runs")

    assert str(refusal.value).startswith("A store at gs:// needs another package: ")
    assert "gcsfs" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("two\n  lines."), "two lines"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("x" * 500), "x" * 200),
    ],
)
def test_an_error_is_told_in_one_short_line(error, told):
    assert one_line(error) == told


# Files


def test_what_is_written_is_there_and_nothing_else_is(place):
    write_file(place / "a" / "file.json", b"content")

    assert (place / "a" / "file.json").read_bytes() == b"content"
    assert names(place / "a") == ["file.json"]


@pytest.mark.parametrize("content", [b"new", b"", b"longer than the first"])
def test_what_is_written_again_is_replaced_whole(place, content):
    for each in (b"the first", content):
        write_file(place / "a" / "file.json", each)

    assert (place / "a" / "file.json").read_bytes() == content
    assert names(place / "a") == ["file.json"]


def test_what_is_there_exists_and_what_is_not_does_not(place):
    write_file(place / "file.json", b"content")

    assert exists(place / "file.json")
    assert not exists(place / "other.json")


def test_a_link_that_leads_nowhere_exists(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")

    assert exists(tmp_path / "link")


def test_a_folder_can_be_synced_wherever_it_is(place):
    write_file(place / "file.json", b"content")

    assert sync_folder(place) is None


def test_where_a_file_can_be_met_in_halves_it_is_put_under_another_name_and_moved(in_halves):
    path = in_halves / "file.json"
    write_file(path, b"content")
    (_, put), (_, moved, target) = InHalves.told

    assert (moved, target) == (put, key(path))
    assert put.rpartition("/")[0] == key(in_halves)
    assert put.rpartition("/")[2].startswith(".")
    assert put.endswith(TEMPORARY)


def test_two_writers_of_one_file_take_two_temporary_names(in_halves):
    for content in (b"1", b"2"):
        write_file(in_halves / "file.json", content)

    assert len({name for kind, name, *_ in InHalves.told if kind == "put"}) == 2


def test_where_a_file_is_put_whole_it_is_put_under_its_own_name(memory, monkeypatch):
    told, put = [], MemoryFileSystem.pipe_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "pipe_file",
        lambda self, path, value, *rest: (told.append(path), put(self, path, value, *rest)),
    )
    path = open_address(memory) / "file.json"
    write_file(path, b"content")

    assert told == [key(path)]


@pytest.mark.parametrize("protocol", PUT_WHOLE)
def test_where_files_are_put_whole_all_names_of_the_service_count(in_halves, monkeypatch, protocol):
    monkeypatch.setattr(InHalves, "protocol", (PROTOCOL, protocol))
    write_file(in_halves / "file.json", b"content")

    assert InHalves.told == [("put", key(in_halves / "file.json"))]


@pytest.mark.parametrize("step", ["pipe_file", "mv"])
def test_where_a_put_fails_the_old_file_stays_and_nothing_temporary_is_left(
    in_halves, monkeypatch, step
):
    write_file(in_halves / "file.json", b"old")

    def fail(files, path, *_):
        if step == "pipe_file":
            MemoryFileSystem.pipe_file(files, path, b"ha")
        raise OSError("the service is gone")

    monkeypatch.setattr(InHalves, step, fail)
    with pytest.raises(OSError, match="the service is gone"):
        write_file(in_halves / "file.json", b"new")

    assert list(InHalves.store) == [key(in_halves / "file.json")]
    assert (in_halves / "file.json").read_bytes() == b"old"


def test_many_files_are_read_in_their_order_and_what_is_not_there_is_an_error(place):
    for name in "abc":
        write_file(place / name, name.encode())
    first, missing, *others = read_many([place / name for name in "cdab"])

    assert (first, others) == (b"c", [b"a", b"b"])
    assert isinstance(missing, FileNotFoundError)


def test_a_folder_is_no_file_that_can_be_read(place):
    write_file(place / "folder" / "file.json", b"content")
    content, error = read_many([place / "folder" / "file.json", place / "folder"])

    assert content == b"content"
    assert isinstance(error, OSError)


def test_of_no_files_none_are_read():
    assert read_many([]) == []
