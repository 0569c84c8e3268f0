"""What a person does on a page besides choosing: open a run, darken, read again, go by keys."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import expect

from .looking import part
from .stores import write_record

RUN = "Run detail"
# Where something of a figure's first trace stands, and where a click is sure to meet it.
POINTS = {
    "/memory": ("memory", ".scatterlayer .point"),
    "/cost": ("cost", ".barlayer .point path"),
    "/layers": ("layers", ".nsewdrag"),
    "/regressions": ("history", ".scatterlayer .point"),
}


def assert_shows_run(look, record_id, command):
    expect(look.heading()).to_have_text(RUN)
    assert look.query()["run"] == [record_id]
    expect(look.page.locator("#command")).to_have_text(command)
    look.wait()
    assert look.figures()["samples"]["traces"]


@pytest.mark.parametrize("path", POINTS)
def test_a_click_on_a_point_opens_its_run(look, shown_store, path):
    name, where = POINTS[path]
    look.open(path)
    record_id = look.click_point(name, where)

    commands = {each.record_id: each.command for each in shown_store.read().records}
    assert_shows_run(look, record_id, commands[record_id])


def test_a_click_on_a_row_opens_its_run_and_keeps_the_filters(look, shown_store):
    look.open("/?device=NVIDIA+H200")
    look.panel("latest").get_by_role("gridcell", name="vit_l").first.click()

    newest = max(
        (each for each in shown_store.read().records if each.case.model == "vit_l"),
        key=lambda each: each.started_at,
    )
    assert_shows_run(look, newest.record_id, newest.command)
    assert look.query()["device"] == ["NVIDIA H200"]


def test_a_click_on_a_row_opens_its_run_after_one_on_a_row_of_no_record(look, shown_store):
    look.open("/scaling")
    look.panel("capacity").get_by_role("gridcell", name="NVIDIA").first.click()
    look.panel("cases").get_by_role("gridcell", name="NVIDIA").first.click()

    expect(look.heading()).to_have_text(RUN)
    expect(look.page.locator("#command")).to_have_text("sam-bench demo")
    assert look.query()["run"][0] in {each.record_id for each in shown_store.read().records}


def test_a_card_of_the_overview_leads_to_the_best_run(look):
    look.open("/")
    look.card("Most images a second").get_by_role("link").click()

    expect(look.heading()).to_have_text(RUN)
    expect(look.page.locator("#command")).to_have_text("sam-bench demo")
    look.wait()


def test_nothing_is_offered_to_a_cloud(look):
    look.open("/memory")
    look.plot("memory").hover()

    assert look.page.locator(".modebar-btn").count() > 3
    expect(look.page.locator(".modebar-btn[data-title*='Share']")).to_have_count(0)


def test_dark_changes_the_page_and_its_figures_and_is_remembered(look):
    look.open("/memory")
    light = look.figures()["memory"]["paper"]
    assert look.scheme() == "light"
    look.darken()
    look.until(lambda: look.scheme() == "dark")
    dark = look.until(lambda: {look.figures()["memory"]["paper"]} - {light})

    look.page.reload()
    look.wait()
    assert look.scheme() == "dark"
    assert {look.figures()["memory"]["paper"]} == dark
    expect(look.page.get_by_role("switch", name="Dark")).to_be_checked()

    look.darken()
    look.until(lambda: look.scheme() == "light")


def test_the_stores_are_read_again_also_when_one_is_gone(look, serve, own_store, good_record):
    write_record(own_store, good_record, "20260101-000000-first", {})
    with serve(own_store) as address:
        look.open(f"{address}/memory")
        again = look.page.get_by_role("button", name="Read the stores again")
        before = look.figures()["memory"]["traces"]

        write_record(own_store, good_record, "20260102-000000-more", {"model": "vit_l"})
        again.click()
        look.until(lambda: len(look.figures()["memory"]["traces"]) > len(before))
        expect(look.field("filter", "model")).to_be_visible()
        look.wait()
        both = look.figures()

        shutil.rmtree(own_store.path)
        again.click()
        expect(look.page.get_by_role("status").get_by_text(str(own_store.path))).to_be_visible()
        look.wait()
        assert look.figures() == both


def test_everything_can_be_reached_with_the_tab_key(look):
    look.open("/components")
    reached = []
    while not reached or reached[-1] is not None:
        assert len(reached) < 100
        look.page.keyboard.press("Tab")
        reached.append(look.focused())

    wanted = look.page.evaluate(
        """() => [...document.querySelectorAll('a[href], button, input')]
          .filter((each) => each.tabIndex >= 0 && each.type !== 'hidden').length"""
    )
    assert reached[:3] == ["To the page", "Overview", "Components"]
    for name in ("device", "sweep", "Read the stores again", "dark", "scale", "batch"):
        assert name in reached, name
    for button in ("Table", "PNG", "SVG", "CSV", "Markdown"):
        assert button in reached
    assert len(reached) - 1 >= wanted


def test_the_skip_link_leads_to_the_page(look):
    look.open("/memory")
    look.page.keyboard.press("Tab")
    link = look.page.get_by_role("link", name="To the page")
    expect(link).to_be_in_viewport()
    look.page.keyboard.press("Enter")
    look.page.keyboard.press("Tab")

    assert look.page.evaluate("document.activeElement.closest('main') !== null")


def test_a_filter_can_be_chosen_with_the_keys_alone(look):
    look.open("/memory")
    look.field("filter", "device").focus()
    look.page.keyboard.press("ArrowDown")
    expect(look.page.get_by_role("listbox", name="Device")).to_be_visible()
    look.page.keyboard.press("ArrowDown")
    look.wait_for_view(lambda: look.page.keyboard.press("Enter"))

    assert look.controls()["device"].startswith("NVIDIA")


def test_the_page_fits_a_narrow_window(look):
    look.page.set_viewport_size({"width": 480, "height": 900})
    look.open("/scaling")

    assert look.page.evaluate("document.documentElement.scrollWidth") <= 480
    assert look.page.locator(f"{part('graph', 'throughput')}").bounding_box()["width"] > 300
