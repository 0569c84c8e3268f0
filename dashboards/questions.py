"""Which questions are the pages' own; others that are sent to their callbacks are refused."""

from __future__ import annotations

import json
from typing import Any

from dash import Dash

from .figures import FIGURES
from .tables import TABLES
from .view import OPTIONS

# Of the values that our callbacks are asked with, by property, and of parts of pages by kind.
VALUES = {
    "search": (str, type(None)), "pathname": (str, type(None)), "data": (str, type(None)),
    "n_clicks": (int, type(None)), "checked": (bool, type(None)),
}  # fmt: skip
SAVED = (*FIGURES, *(f"{name}-table" for name in TABLES))
NAMES = {
    "place": ("above", "below"), "graph": tuple(FIGURES), "show": tuple(FIGURES),
    "table": tuple(FIGURES), "option": tuple(OPTIONS), "rows": tuple(TABLES),
    "csv": SAVED, "md": SAVED, "file": SAVED,
}  # fmt: skip


def is_callback(app: Dash, body: str) -> bool:
    """Whether a body asks for outputs that our callbacks have, in the form that they are asked."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return False
    output = asked.get("output") if isinstance(asked, dict) else None
    callback = app.callback_map.get(output) if isinstance(output, str) else None
    if callback is None or "callback" not in callback:  # or it is the browser's own
        return False
    outputs = callback["output"] if isinstance(callback["output"], list) else [callback["output"]]
    own = [{"id": each.component_id_str(), "property": each.component_property} for each in outputs]
    given = asked.get("outputs")
    lists = [asked.get("inputs"), asked.get("state", []), given if len(own) > 1 else [given]]
    changed = asked.get("changedPropIds", [])
    if not all(isinstance(each, list) for each in (*lists, changed)):
        return False
    wanted = [*callback["inputs"], *callback["state"], *own]
    parts = [part for each in lists for part in each]
    if len(parts) != len(wanted) or not all(map(is_part, parts, wanted)):
        return False
    inputs = {f"{written(each['id'])}.{each['property']}" for each in asked["inputs"]}
    return all(isinstance(each, str) and each in inputs for each in changed)


def is_part(asked: Any, wanted: dict[str, Any]) -> bool:
    """Whether it is a part of a page, with a value of the form that it has there."""
    if not isinstance(asked, dict) or asked.get("property") != wanted["property"]:
        return False
    value = asked.get("value")
    if wanted["property"] == "id":
        is_value = is_id(value, wanted["id"])
    else:
        is_value = isinstance(value, VALUES.get(wanted["property"], object))
    return is_value and is_id(asked.get("id"), wanted["id"])


def is_id(asked: Any, wanted: str) -> bool:
    """Whether it is an id of ours; where one stands for many, of a part that there is."""
    if not wanted.startswith("{"):
        return bool(asked == wanted)
    part = json.loads(wanted)["part"]
    if not isinstance(asked, dict) or asked.keys() != {"name", "part"} or asked["part"] != part:
        return False
    return asked["name"] in NAMES[part]


def written(own: str | dict[str, str]) -> str:
    """An id as Dash writes it: its keys in order."""
    return own if isinstance(own, str) else json.dumps(own, separators=(",", ":"), sort_keys=True)
