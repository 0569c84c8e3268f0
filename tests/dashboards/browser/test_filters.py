"""What is filtered stands in the address, and all of the page follows it."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from dashboards.pages import PAGES
from dashboards.view import FILTERS

DRAWN_OF_CASES = [page.title for path, page in PAGES.items() if path != "/run"]


def state(look):
    return look.controls(), look.pictures()


def pictures_of(look, title):
    """What the page of that title shows, to which the navigation leads."""
    look.follow(title)
    return look.pictures()


def test_each_filter_changes_the_address_and_the_picture(look):
    look.open("/")
    every = look.pictures()
    for name in FILTERS:
        value = look.choose("filter", name, 0)
        assert look.query() == {name: [value]}
        assert look.controls()[name] == value
        assert look.pictures() != every, name

        look.take_away(name)
        assert look.query() == {}
        assert look.pictures() == every


def test_a_filter_stays_on_the_way_to_every_page_and_changes_it(look):
    look.open("/")
    every = {title: pictures_of(look, title) for title in DRAWN_OF_CASES}
    value = look.choose("filter", "model", 0)
    for title, before in every.items():
        assert pictures_of(look, title) != before, title
        assert look.query() == {"model": [value]}
        assert look.controls()["model"] == value


def test_two_values_of_a_filter_are_shown_together_and_taken_away_one_by_one(look):
    look.open("/")
    every = state(look)
    look.choose("filter", "batch_size", 0)
    look.choose("filter", "batch_size", 1)
    assert look.query() == {"batch_size": ["1", "4"]}

    look.take_away("batch_size")
    assert look.query() == {"batch_size": ["1"]}
    look.take_away("batch_size")
    assert look.query() == {}
    assert state(look) == every


def test_the_table_button_shows_a_grid_that_follows_the_filters_and_hides_it(look):
    look.open("/components")
    panel = look.panel("components")
    rows = panel.get_by_role("row")
    panel.get_by_role("button", name="Table").click()
    expect(panel.get_by_text("NVIDIA H200").first).to_be_visible()

    look.choose("filter", "device", 1)
    expect(panel.get_by_text("NVIDIA H200")).to_have_count(0)
    expect(rows.nth(1)).to_contain_text(re.compile(r"vit_\w"))

    panel.get_by_role("button", name="Table").click()
    expect(panel.get_by_role("grid")).to_have_count(0)
