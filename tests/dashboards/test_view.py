"""Addresses: what a view says there, and what becomes of those that nobody of ours wrote."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from dashboards.view import FILTERS, LONGEST_VALUE, MOST_FIELDS, OPTIONS, ViewState, parse_view

HOSTILE = (
    "<img src=x onerror=alert(1)>", "</script>", "javascript:alert(1)", "../../etc/passwd",
    "%00", "a\x00b", "\x1b[31m", "\u202eabc", "\ud800", "\U0001f600", "a=b&c;d", "%ZZ", "null",
    "__class__", "'; drop table cases; --",
)  # fmt: skip
CHOSEN = {name: each for name, each in OPTIONS.items() if each.choices}
NUMBERS = {name: each for name, each in OPTIONS.items() if each.is_number}


def address(**values):
    return "?" + urlencode(values, doseq=True, errors="surrogatepass")


@pytest.mark.parametrize("name", FILTERS)
def test_values_of_a_filter_are_those_of_the_address(name):
    view = parse_view(address(**{name: ["one", "a value & two = more"]}))

    assert view == ViewState(filters={name: ("one", "a value & two = more")})


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_that_of_the_address(name):
    choices = OPTIONS[name].choices or ("32",)
    for choice in choices:
        view = parse_view(address(**{name: choice}))

        assert view.option(name) == choice
        assert view.notes == ()


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_is_not_in_the_address_is_the_first_choice(name):
    assert parse_view("").option(name) == next(iter(OPTIONS[name].choices), None)


def test_no_name_is_both_a_filter_and_an_option():
    assert not FILTERS.keys() & OPTIONS.keys()


@pytest.mark.parametrize("search", [None, "", "?", "?&&&", "?=", "?=x", "?device", "?device="])
def test_an_address_that_says_nothing_shows_all(search):
    view = parse_view(search)

    assert view.filters == {}
    assert view.options == {}


def test_of_an_option_that_stands_twice_the_last_one_counts():
    assert parse_view("?scale=share&scale=absolute").option("scale") == "absolute"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_name_that_nobody_knows_is_noted_and_left_out(value):
    view = parse_view(address(**{value: "x"}))

    assert (view.filters, view.options) == ({}, {})
    assert view.notes
    assert all(note.isascii() and note.isprintable() for note in view.notes)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", CHOSEN)
def test_what_is_no_choice_is_noted_and_not_used(name, value):
    view = parse_view(address(**{name: value}))
    (note,) = view.notes

    assert view.option(name) == OPTIONS[name].choices[0]
    assert note.startswith(f"{OPTIONS[name].title} must be {OPTIONS[name].choices[0]} or ")
    assert note.isascii()
    assert note.isprintable()


@pytest.mark.parametrize("value", [*HOSTILE, "1e3", "-1", "nan", "1.0", "²", "٣", "9" * 300])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_whole_number_is_noted_and_not_used(name, value):
    view = parse_view(address(**{name: value}))
    (note,) = view.notes

    assert view.option(name) is None
    assert note.startswith(f"{OPTIONS[name].title} must be a whole number, got ")


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", [*FILTERS, *OPTIONS])
def test_any_value_makes_a_view_with_a_key(name, value):
    assert parse_view(address(**{name: value})).key


@pytest.mark.parametrize("value", HOSTILE)
def test_an_address_that_is_not_quoted_makes_a_view_with_a_key(value):
    assert isinstance(parse_view(f"?device={value}&{value}={value}&{value}").key, str)


@pytest.mark.parametrize("search", ["?" + "x" * 2 * 2**20, "?device=" + "%00" * 700_000])
def test_nothing_of_an_address_that_is_too_long_is_used(search):
    view = parse_view(search)

    assert (view.filters, view.options) == ({}, {})
    assert view.notes == (
        "This address is too long to be one of these pages: nothing of it is used.",
    )


def test_nothing_of_an_address_of_too_many_parts_is_used():
    view = parse_view("?" + "a=1&" * (MOST_FIELDS + 1))

    assert (view.filters, view.options) == ({}, {})
    assert str(MOST_FIELDS) in view.notes[0]


def test_a_long_value_is_left_out_alone():
    view = parse_view(address(device=["x" * (LONGEST_VALUE + 1), "NVIDIA L4"]))

    assert view.filters == {"device": ("NVIDIA L4",)}
    assert view.notes == (f"A value of {LONGEST_VALUE + 1} characters was left out.",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("?device=a&model=b", "?model=b&device=a"),
        ("?device=a&device=b", "?device=b&device=a"),
        ("?device=a&scale=share", "?scale=share&device=a"),
        ("?device=a&nonsense=1", "?device=a"),
        ("?device=a%20b", "?device=a+b"),
        ("?", ""),
    ],
)
def test_views_that_show_the_same_have_the_same_key(one, other):
    assert parse_view(one).key == parse_view(other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("?device=a", ""),
        ("?device=a", "?device=b"),
        ("?device=a", "?model=a"),
        ("?device=a&device=b", "?device=a"),
        ("?device=a%26model%3Db", "?device=a&model=b"),
        ("?scale=share", "?scale=absolute"),
        ("?before=a", "?after=a"),
    ],
)
def test_views_that_show_something_else_have_another_key(one, other):
    assert parse_view(one).key != parse_view(other).key
