"""An address alone says what is shown."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

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


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_address_alone_restores_a_view(look, path):
    look.open(f"{path}?{ADDRESSES[path]}")
    shown = state(look)
    for name, values in look.query().items():
        assert shown[0][name] == ", ".join(values)

    look.page.reload()
    look.wait()
    assert state(look) == shown


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
