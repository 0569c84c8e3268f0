"""Files that older versions wrote, as the present one would have written them.

A rise of SCHEMA_VERSION comes with an entry here, and its history in `schema.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .measurement import ENCODER
from .quantities import SCHEMA_VERSION

Content = dict[str, Any]


def upgraded(content: Content) -> Content:
    """A file's content in the present version; whether it is valid is for its model to say.

    Args:
        content: Of a version in UPGRADES, or of the present one.
    """
    while (version := content["schema_version"]) != SCHEMA_VERSION:
        content = UPGRADES[version](content) | {"schema_version": version + 1}
    return content


def from_2(old: Content) -> Content:
    """Results are kept by the name of their pass; modules name the one that contains them."""
    new = dict(old)
    if isinstance(old.get("measurement"), dict):
        new["measurement"] = passes_from_2(old["measurement"])
    if isinstance(old.get("roofs"), dict) and old["roofs"].get("schema_version") == 2:
        new["roofs"] = old["roofs"] | {"schema_version": 3}
    if isinstance(old.get("fingerprint"), dict):  # of a baseline: times do not depend on it
        new["fingerprint"] = {
            name: value for name, value in old["fingerprint"].items() if name != "schema"
        }
    return new


# Where schema 2 kept what passes found: pass, then field of its result by the name it had.
FIELDS_IN_2 = {
    "modules": {"modules": "timings", "plain_forward_s": "plain_forward_s"},
    "components": {"components_s": "stages_s", "prompts": "prompts"},
    "mask_generator": {"mask_generator_s": "stages_s"},
}
WHOLE_IN_2 = {
    "latency": "latency",
    "memory": "memory",
    "work": "flops",
    "embedding_error": "embedding_error",
    "energy": "energy",
    "kernels": "kernels",
}


def passes_from_2(measurement: Content) -> Content:
    """A measurement whose passes are under their names; what schema 2 lacked is left as it is."""
    rest = dict(measurement)
    passes: Content = {
        name: found
        for old, name in WHOLE_IN_2.items()
        if (found := rest.pop(old, None)) is not None
    }
    for name, fields in FIELDS_IN_2.items():
        told = {new: rest.pop(old, None) for old, new in fields.items()}
        result = {new: value for new, value in told.items() if value is not None}
        if result:
            passes[name] = {next(iter(told)): {}} | result
    timings = passes.get("modules", {}).get("timings")
    if isinstance(timings, dict):
        passes["modules"]["timings"] = {
            name: each | {"parent": parent_of(name, timings)} if isinstance(each, dict) else each
            for name, each in timings.items()
        }
    return {"passes": passes} | rest


def parent_of(name: str, timings: Content) -> str | None:
    """The module that contains another, as dotted names tell."""
    if name == ENCODER:
        return None
    outer = name.rpartition(".")[0]
    while outer and outer not in timings:
        outer = outer.rpartition(".")[0]
    return outer or ENCODER


UPGRADES: dict[int, Callable[[Content], Content]] = {2: from_2}
