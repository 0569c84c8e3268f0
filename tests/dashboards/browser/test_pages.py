"""Every page in a real browser: it is whole, everybody can use it, and it asks nobody else."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from dashboards.pages import PAGES

from .looking import part
from .stores import write_record

SHOWN = [path for path in PAGES if path != "/run"]  # in the navigation of any page


@pytest.fixture
def address_of(good_record):
    """Of a page; that of a run needs one."""
    return lambda path: f"{path}?run={good_record.record_id}" if path == "/run" else path


def assert_everybody_can_use(page):
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_whole_and_everybody_can_use_it_in_light_and_in_dark(look, address_of, path):
    spec = PAGES[path]
    look.open(address_of(path))

    expect(look.page.locator("h1")).to_have_text([spec.title])
    expect(look.page.locator("main")).to_have_count(1)
    assert set(look.figures()) == set(spec.figures)
    for name, figure in look.figures().items():
        assert figure["traces"], f"{name}: {figure['told']}"
    for name in spec.tables:
        assert look.page.locator(f"{part('rows', name)} :is([role=gridcell], td)").count() > 1

    assert_everybody_can_use(look.page)
    look.darken()
    assert_everybody_can_use(look.page)


def test_everybody_can_use_a_page_with_its_table_open_and_a_choice_made(look):
    look.open("/components?device=NVIDIA+H200")
    look.panel("components").get_by_role("button", name="Table").click()
    expect(look.page.get_by_role("gridcell").first).to_be_visible()

    assert_everybody_can_use(look.page)


def test_without_records_every_page_says_how_to_get_some(look, serve, own_store):
    with serve(own_store) as address:
        look.open(address)
        for path in SHOWN:
            look.follow(PAGES[path].title)
            expect(look.page.get_by_role("status")).to_contain_text("sam-bench quickstart")
            for figure in look.figures().values():
                assert "tells of" in figure["told"][0]
        assert_everybody_can_use(look.page)


def test_one_record_is_enough_for_every_page(look, serve, own_store, good_record):
    write_record(own_store, good_record, good_record.sweep_id, {})

    with serve(own_store) as address:
        look.open(address)
        expect(look.card("Cases")).to_contain_text("in 1 sweeps")
        for path in SHOWN:
            look.follow(PAGES[path].title)
            for figure in look.figures().values():
                assert figure["traces"] or "No case that is shown tells of" in figure["told"][0]
            assert look.controls().keys() <= set(PAGES[path].options)  # nothing to filter


def test_an_address_of_no_page_leads_to_the_overview(look):
    look.open("/nothing-here?model=vit_b")
    expect(look.heading()).to_have_text("There is no such page")

    look.page.get_by_role("link", name="To the overview").click()
    expect(look.heading()).to_have_text("Overview")
    look.wait()
    look.page.go_back()
    expect(look.heading()).to_have_text("There is no such page")
    look.wait()
