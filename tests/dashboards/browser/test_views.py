"""What is shown follows from the address, and what is chosen stands there."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from dashboards.pages import PAGES
from dashboards.view import FILTERS, OPTIONS

# Of pages with choices: where all of these are of use.
CHOOSING = ("/components", "/layers?model=vit_h", "/roofline", "/cost", "/compare")
TYPED = {"prices": ("NVIDIA H200=1", "NVIDIA H200=2")}
DRAWN_OF_CASES = [path for path in PAGES if path != "/run"]
# A choice of each kind that a page has, none of them the usual one.
ADDRESSES = {
    "/": "device=NVIDIA+L40S&batch_size=1&batch_size=4",
    "/components": "scale=share&batch=4&model=vit_h",
    "/scaling": "precision=bf16&attention=sdpa",
    "/layers": "depth=parts&layer_batch=1&device=NVIDIA+H200",
    "/memory": "model=vit_b&weights=random",
    "/roofline": "level=modules&model=vit_b",
    "/cost": "prices=NVIDIA+H200%3D1.5&input=noise",
    "/compare": "before=20260106-090000-demo-h200&after=20260108-090000-demo-h200",
    "/regressions": "model=vit_l",
}


def state(look):
    return look.controls(), look.pictures()


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


@pytest.mark.parametrize("path", DRAWN_OF_CASES)
def test_a_filter_changes_every_page(look, path):
    look.open(path)
    before = look.pictures()
    value = look.choose("filter", "model", 0)

    assert look.query() == {"model": [value]}
    assert look.pictures() != before


@pytest.mark.parametrize("address", CHOOSING)
def test_each_choice_of_a_page_changes_the_address_and_the_picture(look, address):
    for name in PAGES[address.partition("?")[0]].options:
        look.open(address)
        pictures = []
        for at in (0, 1):
            if name in TYPED:
                look.type(name, TYPED[name][at])
            elif not (at == 0 and OPTIONS[name].choices):  # the first is chosen already
                value = look.choose("option", name, at)
                assert look.query()[name] == [value]
            pictures.append(look.pictures())
        assert pictures[0] != pictures[1], name


def test_all_pages_with_choices_are_tried():
    with_choices = {path for path, page in PAGES.items() if set(page.options) - {"run"}}

    assert {address.partition("?")[0] for address in CHOOSING} == with_choices


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_address_alone_restores_a_view(look, path):
    look.open(f"{path}?{ADDRESSES[path]}")
    shown = state(look)
    for name, values in look.query().items():
        assert shown[0][name] == ", ".join(values)

    look.page.reload()
    look.wait()
    assert state(look) == shown


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


def test_the_back_button_returns_to_the_former_views(look):
    look.open("/layers")
    views = [state(look)]
    look.choose("filter", "device", 1)
    views.append(state(look))
    look.choose("option", "depth", 1)
    look.follow("Memory")
    assert look.query() == {"device": ["NVIDIA L40S"], "depth": ["parts"]}

    look.wait_for_view(look.page.go_back)
    expect(look.heading()).to_have_text("Layers")
    assert look.controls()["depth"] == "parts"
    for former in reversed(views):
        look.wait_for_view(look.page.go_back)
        assert state(look) == former


def test_a_filter_stays_on_the_way_to_another_page(look):
    look.open("/memory")
    look.choose("filter", "device", 1)
    look.follow("Scaling")

    assert look.query() == {"device": ["NVIDIA L40S"]}
    assert look.controls()["device"] == "NVIDIA L40S"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("/scaling?model=vit_x&device=<b>", "No case passes all filters"),
        ("/scaling?nonsense=1", "Nothing here is called 'nonsense'"),
        ("/components?scale=sideways", "Scale must be absolute or share, got 'sideways'"),
        ("/layers?family=none&against=none&depth=parts", None),
        ("/components?batch=many", "Batch must be a whole number, got 'many'"),
        ("/layers?layer_batch=many", "Batch must be a whole number, got 'many'"),
        ("/compare?before=never&after=never&case=none", None),
        ("/cost?prices=cheap", "A price must be a GPU's name and USD an hour"),
        ("/run?run=../../etc/passwd", "No store here has the record"),
        ("/run", "No record is chosen"),
        (f"/memory?model={'x' * 400}", "A value of 400 characters was left out"),
        (f"/memory?model={'x' * 8_001}", "This address is too long"),
    ],
)
def test_what_an_address_should_not_say_is_told_and_the_page_is_whole(look, address, told):
    look.open(address)

    spec = PAGES[address.partition("?")[0]]
    expect(look.heading()).to_have_text(spec.title)
    assert set(look.figures()) == set(spec.figures)
    if told is not None:
        expect(look.page.get_by_text(told)).to_be_visible()


def test_a_zoom_stays_when_a_filter_changes_and_goes_when_the_axis_means_something_else(look):
    look.open("/components")
    look.zoom("components")
    zoomed = look.range_of("components")
    look.choose("filter", "device", 1)
    assert look.range_of("components") == zoomed

    look.choose("option", "scale", 1)
    assert look.range_of("components") != zoomed


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
