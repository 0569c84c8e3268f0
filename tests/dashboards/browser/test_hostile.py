"""Names in records and addresses are text, whatever they try to be."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from dashboards.pages import PAGES

from .stores import END, FORMULA, IMAGE, LINK, SCRIPT

NAMES = {"image": IMAGE, "script": END, "link": LINK, "formula": FORMULA}


def assert_nothing_ran(look):
    """Nor is there anything of it that could."""
    assert look.page.evaluate("window.hacked === undefined")
    for selector in ("img[src='x']", f"script:text-is('{SCRIPT}')"):
        expect(look.page.locator(selector)).to_have_count(0)
    links = look.page.evaluate(
        """() => [...document.querySelectorAll('a')].map(
          (link) => link.getAttribute('href') ?? link.getAttribute('xlink:href') ?? '')"""
    )
    assert not [each for each in links if "javascript:" in each]


def test_no_page_of_hostile_records_runs_a_script(look, hostile_url):
    look.open(hostile_url)
    for path, page in PAGES.items():
        if path != "/run":
            look.follow(page.title)
            for table in look.page.get_by_role("button", name="Table", exact=True).all():
                table.click()
            look.wait()
            assert_nothing_ran(look)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_run_of_a_hostile_name_shows_it_as_text(look, hostile_url, name):
    look.open(f"{hostile_url}/?model={quote(name)}")
    look.panel("latest").get_by_role("gridcell", name="1", exact=True).first.click()

    expect(look.page.locator("#command")).to_have_text(name)
    look.wait()
    assert_nothing_ran(look)


def test_hovering_over_a_hostile_point_shows_text(look, hostile_url):
    look.open(f"{hostile_url}/memory")
    look.hover_point("memory", ".scatterlayer .point")

    assert_nothing_ran(look)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_an_address_runs_no_script(look, name):
    each = quote(name)
    look.open(f"/compare?model={each}&before={each}&case={each}&{each}=1&run={each}#{each}")

    expect(look.page.get_by_text("No case passes all filters")).to_be_visible()
    assert_nothing_ran(look)
