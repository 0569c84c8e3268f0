"""Locks, in a folder and as objects: held by one alone, and free once that is gone."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from results.records import addresses
from results.records.addresses import STALE_S, exists, holding, is_held, open_address, owner_of

US = f"{platform.node()}, process {os.getpid()}"
UNREADABLE = {"empty": b"", "half": b'{"token": ', "a list": b"[1]", "no text": b"\xff"}


@pytest.fixture(params=["folder", "memory"])
def lock(request, tmp_path, memory):
    """A lock that nobody holds, of either kind."""
    return (tmp_path if request.param == "folder" else open_address(memory)) / ".lock"


@pytest.fixture
def lock_object(memory, monkeypatch):
    """A lock that is an object and that nobody holds."""
    monkeypatch.setattr(addresses, "SETTLE_S", 0.01)
    monkeypatch.setattr(addresses, "WATCH_S", 0.05)
    return open_address(memory) / ".lock"


@pytest.fixture
def fast(monkeypatch):
    """Locks are renewed at once."""
    monkeypatch.setattr(addresses, "RENEW_S", 0.01)


def put_lock(path, age_s=0.0, **changes):
    """As another machine would hold it."""
    owner = {"token": "another", "host": "elsewhere", "pid": 7, "at": time.time() - age_s}
    path.write_bytes(json.dumps(owner | changes).encode())


def wait_until(holds, limit_s=10.0):
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


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
        pytest.raises(BlockingIOError, match=rf"^{US}$"),
        holding(lock_object),
    ):
        pass


def test_who_loses_an_object_to_another_knows_it(lock_object, fast):
    """As a machine that slept for longer than a lock holds."""
    with holding(lock_object) as held:
        put_lock(lock_object)
        wait_until(lambda: held.is_lost)

    assert owner_of(lock_object)["token"] == "another"


def test_who_holds_a_lock_has_not_lost_it(lock, fast):
    with holding(lock) as held:
        time.sleep(0.05)

        assert not held.is_lost


def test_a_lock_that_its_owner_is_just_writing_is_held(lock_object, monkeypatch):
    lock_object.write_bytes(b'{"token": ')
    monkeypatch.setattr(addresses.time, "sleep", lambda seconds: put_lock(lock_object))
    with pytest.raises(BlockingIOError, match=r"^elsewhere, process 7$"), holding(lock_object):
        pass


def test_another_machine_s_lock_is_refused_with_its_name_and_left(lock_object):
    put_lock(lock_object, age_s=STALE_S - 60)
    before = lock_object.read_bytes()
    with pytest.raises(BlockingIOError, match=r"^elsewhere, process 7$"), holding(lock_object):
        pass

    assert lock_object.read_bytes() == before
    assert is_held(lock_object)


def test_a_lock_that_is_an_object_is_gone_afterwards(lock_object):
    with holding(lock_object):
        assert exists(lock_object)

    assert not exists(lock_object)


def test_a_stale_lock_is_taken_over_and_is_free_afterwards(lock_object):
    put_lock(lock_object, age_s=STALE_S + 1)
    was_held = is_held(lock_object)
    with holding(lock_object):
        owner = owner_of(lock_object)

    assert not was_held
    assert (owner["host"], owner["pid"]) == (platform.node(), os.getpid())
    assert not exists(lock_object)


def test_how_old_a_stale_lock_is_can_be_set(lock_object, monkeypatch):
    put_lock(lock_object, age_s=5)
    monkeypatch.setattr(addresses, "STALE_S", 4.0)

    assert not is_held(lock_object)
    with holding(lock_object):
        assert is_held(lock_object)


def test_of_two_that_take_over_a_stale_lock_the_later_one_holds_it(lock_object, monkeypatch):
    put_lock(lock_object, age_s=STALE_S + 1)
    # While the first waits for the object to settle, another puts its own.
    monkeypatch.setattr(time, "sleep", lambda seconds: put_lock(lock_object))
    with pytest.raises(BlockingIOError, match=r"^elsewhere, process 7$"), holding(lock_object):
        pass

    assert owner_of(lock_object)["token"] == "another"


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_an_object_that_no_holder_can_have_put_holds_nothing(lock_object, content):
    lock_object.write_bytes(content)

    assert owner_of(lock_object) == {}
    assert not is_held(lock_object)
    with holding(lock_object):
        assert is_held(lock_object)


@pytest.mark.parametrize("at", [None, "x", [1], True])
def test_an_object_without_a_time_holds_nothing(lock_object, at):
    put_lock(lock_object, at=at)

    assert not is_held(lock_object)
    with holding(lock_object):
        assert is_held(lock_object)


def test_a_lock_that_can_not_be_read_is_not_taken_over(lock_object, monkeypatch):
    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    with holding(lock_object):
        monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
        with pytest.raises(PermissionError), holding(lock_object):
            pass
        monkeypatch.undo()

        assert owner_of(lock_object)["pid"] == os.getpid()


def test_a_lock_that_is_released_while_it_is_asked_for_is_put_only_where_there_is_none(
    lock_object, monkeypatch
):
    """A third may have put its own meanwhile: it is not overwritten."""
    put_lock(lock_object)
    look = addresses.owner_of
    looks = iter([None, look])

    def gone_at_first(path):
        answer = next(looks, look)
        return answer if answer is None else answer(path)

    monkeypatch.setattr(addresses, "owner_of", gone_at_first)
    with pytest.raises(BlockingIOError, match="elsewhere, process 7"), holding(lock_object):
        pass


def test_an_owner_whose_clock_is_late_keeps_its_lock(lock_object, fast, monkeypatch):
    late = addresses.statement

    def an_hour_late(token):
        return json.dumps(json.loads(late(token)) | {"at": time.time() - 3600}).encode()

    monkeypatch.setattr(addresses, "statement", an_hour_late)
    with holding(lock_object), pytest.raises(BlockingIOError), holding(lock_object):
        pass


def test_a_lock_that_is_an_object_is_renewed_while_it_is_held(lock_object, fast):
    with holding(lock_object):
        first = owner_of(lock_object)
        wait_until(lambda: owner_of(lock_object)["at"] > first["at"])
        later = owner_of(lock_object)

    assert later["token"] == first["token"]


def test_a_lock_that_is_held_for_longer_than_it_takes_to_grow_stale_is_held(
    lock_object, fast, monkeypatch
):
    monkeypatch.setattr(addresses, "STALE_S", 0.5)
    with holding(lock_object):
        time.sleep(0.8)
        with pytest.raises(BlockingIOError, match=US), holding(lock_object):
            pass


def test_a_lock_is_not_renewed_any_more_once_it_is_free(lock_object, fast):
    with holding(lock_object):
        pass
    time.sleep(0.05)

    assert not exists(lock_object)


def test_a_lock_whose_renewal_fails_is_renewed_the_next_time(lock_object, fast, monkeypatch):
    failed, put = [], MemoryFileSystem.pipe_file

    def fail_twice(*arguments, **options):
        if len(failed) < 2:
            failed.append(True)
            raise OSError("the service is busy")
        put(*arguments, **options)

    with holding(lock_object):
        first = owner_of(lock_object)
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail_twice)
        wait_until(lambda: owner_of(lock_object)["at"] > first["at"])

    assert failed == [True, True]


def test_a_lock_that_was_removed_by_hand_is_put_again(lock_object, fast):
    with holding(lock_object):
        lock_object.unlink()
        wait_until(lambda: exists(lock_object))

    assert not exists(lock_object)


def test_a_lock_that_another_has_taken_over_is_left_to_it(lock_object, fast):
    with holding(lock_object):
        put_lock(lock_object)
        others = lock_object.read_bytes()
        time.sleep(0.05)

    assert lock_object.read_bytes() == others
