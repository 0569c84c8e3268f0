"""Asking the live pages what a browser would ask of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from dashboards.app import create_app
from dashboards.data import Data
from dashboards.server import CALLBACK, LOOPBACK, guard
from dashboards.view import parse_view
from results.records.store import Store

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<a href='javascript:alert(1)'>here</a>",
    "$\\href{javascript:alert(1)}{here}$",
    "%{y} \u202e \u0000 \x1b[31m \U0001f600",
)
BY_DEFAULT = {
    "search": "", "pathname": "/", "data": "", "n_clicks": 1, "checked": False,
}  # fmt: skip


def read(*stores: Path, **more: Any) -> Data:
    """Stores as they are now."""
    data = Data(stores, **more)
    data.refresh()
    return data


def cases_of(data: Data, search: str = "") -> pd.DataFrame:
    """Those that an address shows."""
    return data.frames(parse_view(search))["cases"]


def record_path(store: Store) -> Path:
    """Of one of its records."""
    return sorted((store.path / store.sweep_ids()[0] / "cases").iterdir())[0]


class Browser:
    """The pages of some stores, through Flask's test client.

    Args:
        stores: Paths.
        token: What everybody needs to know.
    """

    def __init__(self, *stores: Path, token: str | None = None) -> None:
        self.data = read(*stores, keep=False)
        self.app = create_app(self.data)
        guard(self.app, LOOPBACK, token)
        self.client = self.app.server.test_client()

    def get(self, path: str, **more: Any) -> Any:
        response = self.client.get(path, **more)
        response.get_data()
        response.close()  # of a file, where it is one
        return response

    def load(self) -> None:
        """A page, as when it is loaded anew: the stores are read again."""
        assert self.get("/_dash-layout").status_code == 200

    def post(self, body: Any, **more: Any) -> Any:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return self.client.post(CALLBACK, data=text, content_type="application/json", **more)

    def ask(self, part: str, name: str | None = None, **values: Any) -> dict[str, Any] | None:
        """What a callback answers, by property; None where it says that nothing changes."""
        response = self.post(self.body(part, name, **values))
        assert response.status_code in (200, 204), response.text
        if response.status_code == 204:
            return None
        return next(iter(response.json["response"].values()), None)

    def body(
        self, part: str, name: str | None = None, changed: str = "", **values: Any
    ) -> dict[str, Any]:
        """The question as a browser sends it.

        Args:
            part: Whose callback: an element's id, or a kind of parts.
            name: Of one part of that kind.
            changed: The input that changed, by its kind; the first without.
            values: By property, in place of those of a page that has just been opened.
        """
        key, callback = self.callback(part, name is not None)
        outputs = callback["output"]
        several = isinstance(outputs, list)
        asked = [
            {"id": filled(each.component_id_str(), name), "property": each.component_property}
            for each in (outputs if several else [outputs])
        ]
        inputs, state = (
            [
                {
                    "id": (own := filled(each["id"], name)),
                    "property": each["property"],
                    "value": own
                    if each["property"] == "id"
                    else values.get(each["property"], BY_DEFAULT.get(each["property"])),
                }
                for each in callback[kind]
            ]
            for kind in ("inputs", "state")
        )
        names = [f"{written(each['id'])}.{each['property']}" for each in inputs]
        return {
            "output": key,
            "outputs": asked if several else asked[0],
            "inputs": inputs,
            "changedPropIds": [each for each in names if changed in each][:1],
            "parsedChangedPropsIds": [],
            "state": state,
        }

    def callback(self, part: str, is_named: bool) -> tuple[str, dict[str, Any]]:
        """Its name and what it takes."""
        start = f'{{"name":["MATCH"],"part":"{part}"}}.' if is_named else f"{part}."
        found = [key for key in self.app.callback_map if key.removeprefix("..").startswith(start)]
        return found[0], self.app.callback_map[found[0]]


def filled(own: str, name: str | None) -> Any:
    """An id with a name in the place of all of its kind."""
    if not own.startswith("{"):
        return own
    return json.loads(own) | {"name": name}


def written(own: Any) -> str:
    """An id as Dash writes it: its keys in order."""
    return own if isinstance(own, str) else json.dumps(own, separators=(",", ":"), sort_keys=True)


def parts(tree: Any) -> Iterator[dict[str, Any]]:
    """All components of an answer, each as Dash sends it."""
    if isinstance(tree, list):
        for each in tree:
            yield from parts(each)
    elif isinstance(tree, dict):
        if "namespace" in tree:
            yield tree
        for each in tree.values():
            yield from parts(each)


def strings(tree: Any) -> Iterator[str]:
    """All texts of an answer, those of keys too."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, list):
        for each in tree:
            yield from strings(each)
    elif isinstance(tree, dict):
        for key, each in tree.items():
            yield key
            yield from strings(each)


def said(tree: Any) -> str:
    """What an answer says to a person."""
    texts = []
    for each in parts(tree):
        children = each["props"].get("children")
        for child in children if isinstance(children, list) else [children]:
            if isinstance(child, str):
                texts.append(child)
    return "\n".join(texts)


def ids(tree: Any) -> list[str]:
    return [written(each["props"]["id"]) for each in parts(tree) if "id" in each["props"]]
