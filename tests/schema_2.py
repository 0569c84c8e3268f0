"""What the present version writes, as schema 2 had it: files as older stores have them."""

from __future__ import annotations

import json
from pathlib import Path

from results.records.addresses import write_file

# Where schema 2 had what passes found: the field of a measurement, by pass and field of its result.
WHOLE = {
    "latency": "latency", "memory": "memory", "flops": "work", "energy": "energy",
    "embedding_error": "embedding_error", "kernels": "kernels",
}  # fmt: skip
FIELDS = {
    ("components", "stages_s"): "components_s", ("components", "prompts"): "prompts",
    ("mask_generator", "stages_s"): "mask_generator_s",
    ("modules", "timings"): "modules", ("modules", "plain_forward_s"): "plain_forward_s",
}  # fmt: skip


def in_schema_2(content: dict) -> dict:
    """A file's content; every field is there, as pydantic wrote it."""
    old = {**content, "schema_version": 2}
    if old.get("roofs"):
        old["roofs"] = {**old["roofs"], "schema_version": 2}
    measurement = dict(old.get("measurement") or {})
    if measurement:
        passes = measurement.pop("passes")
        found = {old: passes.get(name) for name, old in WHOLE.items()}
        found |= {old: (passes.get(name) or {}).get(field) for (name, field), old in FIELDS.items()}
        for timing in (found["modules"] or {}).values():
            del timing["parent"]
        old["measurement"] = found | measurement
    return old


def text_in_schema_2(text: str) -> str:
    return json.dumps(in_schema_2(json.loads(text)), separators=(",", ":")) + "\n"


def write_in_schema_2(folder: Path) -> list[Path]:
    """Write every JSON file of a folder anew; which they are."""
    paths = sorted(path for path in folder.rglob("*.json") if ".index" not in path.parts)
    for path in paths:
        write_file(path, text_in_schema_2(path.read_text()).encode())
    return paths
