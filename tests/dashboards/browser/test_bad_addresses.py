"""An address that says what it should not is told so, and its page is whole."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from dashboards.pages import PAGES


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("/scaling?model=vit_x&device=<b>", ["No case passes all filters"]),
        ("/scaling?nonsense=1", ["Nothing here is called 'nonsense'"]),
        (
            "/components?scale=sideways&batch=many",
            [
                "Scale must be absolute or share, got 'sideways'",
                "Batch must be a whole number, got 'many'",
            ],
        ),
        (
            "/layers?series=none&against=none&depth=parts&layer_batch=many",
            ["Batch must be a whole number, got 'many'"],
        ),
        ("/compare?before=never&after=never&case=none", []),
        ("/cost?prices=cheap", ["A price must be a GPU's name and USD an hour"]),
        ("/run?run=../../etc/passwd", ["No store here has the record"]),
        ("/run", ["No record is chosen"]),
        (f"/memory?model={'x' * 400}", ["A value of 400 characters was left out"]),
        (f"/memory?model={'x' * 8_001}", ["This address is too long"]),
    ],
)
def test_what_an_address_should_not_say_is_told_and_the_page_is_whole(look, address, told):
    look.open(address)

    spec = PAGES[address.partition("?")[0]]
    expect(look.heading()).to_have_text(spec.title)
    assert set(look.figures()) == set(spec.figures)
    for words in told:
        expect(look.page.get_by_text(words)).to_be_visible()
