"""The user's mistakes: text that is safe to print, in one line."""

from __future__ import annotations

import pickle

import pytest

from results.records.addresses import AddressError
from results.records.errors import UserError, one_line, printable, quoted
from results.records.store import LockedError, StoreError


def test_what_could_drive_a_terminal_is_replaced():
    assert printable("a\x1b[31m\nb\ud800é") == "a?[31m?b?é"


def test_characters_to_keep_are_kept():
    assert printable("a\n\x1b", keep="\n") == "a\n?"


@pytest.mark.parametrize("kind", [UserError, StoreError, LockedError, AddressError])
def test_a_mistake_is_printable_and_can_be_sent_to_another_process(kind):
    error = kind("no file 'a\x1b\n\ud800'.")

    assert str(error) == "no file 'a???'."
    assert repr(pickle.loads(pickle.dumps(error))) == repr(error)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a\n", r"'a\n'"), ("é", r"'\xe9'"), ("x" * 100, "'" + "x" * 56 + "..."), (2.5, "2.5")],
)
def test_a_quoted_value_is_short_ascii(value, text):
    assert quoted(value) == text


def test_a_number_too_long_to_write_is_named_so():
    assert quoted(10**5000) == "a number too long to show"


def test_an_error_of_several_lines_becomes_one_line_without_a_full_stop():
    assert one_line(ValueError("one\n  two.")) == "one two"
