"""Each choice of a page stands in the address and changes its picture."""

from __future__ import annotations

import pytest

from dashboards.pages import PAGES
from dashboards.view import OPTIONS

# Of pages with choices: where all of these are of use.
CHOOSING = ("/components", "/layers?model=vit_h", "/roofline", "/cost", "/compare")
TYPED = {"prices": ("NVIDIA H200=1", "NVIDIA H200=2")}


@pytest.mark.parametrize("address", CHOOSING)
def test_each_choice_of_a_page_changes_the_address_and_the_picture(look, address):
    look.open(address)
    for name in PAGES[address.partition("?")[0]].options:
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


def test_a_zoom_stays_when_a_filter_changes_and_goes_when_the_axis_means_something_else(look):
    look.open("/components")
    look.zoom("components")
    zoomed = look.range_of("components")
    look.choose("filter", "device", 1)
    assert look.range_of("components") == zoomed

    look.choose("option", "scale", 1)
    assert look.range_of("components") != zoomed
