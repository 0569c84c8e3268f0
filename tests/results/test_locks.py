"""Locks, in a folder and as objects: held by one alone, and free once that is gone."""

from __future__ import annotations

import fcntl
import os
import platform
import re

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from results.records.addresses import exists, holding, is_held, open_address

US = f"{platform.node()}, process {os.getpid()}"
THEIRS = b"elsewhere, process 7, since 2026-01-01T00:00:00.000+00:00"


@pytest.fixture(params=["folder", "memory"])
def lock(request, tmp_path, memory):
    """A lock that nobody holds, of either kind."""
    return (tmp_path if request.param == "folder" else open_address(memory)) / ".lock"


@pytest.fixture
def lock_object(memory):
    """A lock that is an object and that nobody holds."""
    return open_address(memory) / ".lock"


def test_a_lock_is_held_by_one_alone(lock):
    with holding(lock), pytest.raises(BlockingIOError), holding(lock):
        pass


def test_a_lock_is_free_afterwards(lock):
    for _ in range(2):
        with holding(lock):
            pass

    assert not is_held(lock)


def test_a_lock_is_free_again_after_an_error(lock):
    with pytest.raises(ZeroDivisionError), holding(lock):
        _ = 1 / 0
    with holding(lock):
        assert is_held(lock)


def test_whether_a_lock_is_held_is_told(lock):
    before = is_held(lock)
    with holding(lock):
        during = is_held(lock)

    assert (before, during, is_held(lock)) == (False, True, False)


def test_to_ask_for_a_lock_changes_nothing(lock):
    is_held(lock)

    assert not exists(lock)


def test_what_is_no_file_is_no_lock_that_is_held(tmp_path):
    (tmp_path / ".lock").mkdir()

    assert not is_held(tmp_path / ".lock")


def test_where_nothing_can_be_locked_nothing_is_held(tmp_path, monkeypatch):
    (tmp_path / ".lock").touch()

    def fail(*_):
        raise OSError("locks are not supported")

    monkeypatch.setattr(fcntl, "flock", fail)

    assert not is_held(tmp_path / ".lock")


def test_a_second_holder_of_an_object_is_told_who_holds_it(lock_object):
    with (
        holding(lock_object),
        pytest.raises(BlockingIOError, match=rf"^{US}, since 2"),
        holding(lock_object),
    ):
        pass


def test_another_machines_lock_is_refused_and_left(lock_object):
    lock_object.write_bytes(THEIRS)
    with (
        pytest.raises(BlockingIOError, match=f"^{re.escape(THEIRS.decode())}$"),
        holding(lock_object),
    ):
        pass

    assert lock_object.read_bytes() == THEIRS
    assert is_held(lock_object)


def test_a_dead_drivers_lock_can_be_taken_over_and_is_free_afterwards(lock_object):
    lock_object.write_bytes(THEIRS)
    with holding(lock_object, takes_over=True):
        owner = lock_object.read_text()

    assert owner.startswith(US)
    assert not exists(lock_object)


def test_taking_over_needs_no_lock_to_be_there(lock):
    with holding(lock, takes_over=True):
        assert is_held(lock)


def test_a_file_that_a_process_holds_can_not_be_taken_over(tmp_path):
    path = tmp_path / ".lock"
    with holding(path), pytest.raises(BlockingIOError), holding(path, takes_over=True):
        pass


def test_a_lock_that_another_has_taken_over_is_left_to_it(lock_object):
    with holding(lock_object):
        lock_object.write_bytes(THEIRS)

    assert lock_object.read_bytes() == THEIRS


def test_a_lock_that_was_removed_by_hand_stays_removed(lock_object):
    with holding(lock_object):
        lock_object.unlink()

    assert not exists(lock_object)


def test_a_lock_that_is_released_while_it_is_asked_for_is_named_so(lock_object, monkeypatch):
    def put(*arguments, **options):
        raise FileExistsError

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", put)
    with pytest.raises(BlockingIOError, match=r"^which has just ended$"), holding(lock_object):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff", b"x" * 10_000], ids=["empty", "binary", "long"])
def test_a_lock_of_any_content_is_held(lock_object, content):
    lock_object.write_bytes(content)
    with pytest.raises(BlockingIOError) as caught, holding(lock_object):
        pass

    assert is_held(lock_object)
    assert len(str(caught.value)) <= 200


def test_a_lock_that_can_not_be_read_is_not_taken_over(lock_object, monkeypatch):
    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    lock_object.write_bytes(THEIRS)
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "cat_file", fail)
        with pytest.raises(PermissionError), holding(lock_object):
            pass

    assert lock_object.read_bytes() == THEIRS
