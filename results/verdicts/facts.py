"""What is the same at every run of the same code: a gate for machines without a GPU.

A file a model, committed beside the code: baselines/facts/<model>.json, keys in order, so that a
change of it is a change that a reviewer reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..records.axes import MISSING
from ..records.case import AXES, OWN, WAY_AXES, Case, case_label
from ..records.quantities import SCHEMA_VERSION, Count, Strict
from ..records.reading import read_file
from ..records.store import write_whole

TOLERANCE = 1e-6  # of the output's numbers in float64: sums are added in another order elsewhere
Number = Annotated[float, Field(allow_inf_nan=False)]


class Facts(Strict):
    """Of one variant of a model, at batch size 1.

    operations: How often each operation of torch's runs in an eager forward.
    graph_breaks: Where torch.compile can't go on.
    output: Some weighted sums of a forward's output, computed in float64.
    """

    parameters: Count
    weights_bytes: Count
    flops: Count
    least_flops: Count
    output_shape: tuple[int, ...]
    operations: dict[str, Count]
    graph_breaks: Count | None  # None where torch can't tell
    output: tuple[Number, ...]


class FactsFile(Strict):
    """All variants of a model that were asked for.

    torch: That counted; operations and graph breaks are its own.
    planned_cases: Of the sweep that was asked for.
    variants: By attention, image size and precision.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    torch: str
    planned_cases: Count
    variants: dict[str, Facts]


def variant_name(case: Case) -> str:
    """What facts depend on, besides the model."""
    own = [] if case.attention == OWN else [case.attention]
    newer = [name for name in WAY_AXES if AXES[name].since is not MISSING]
    others = filter(None, [case_label(case.model_dump(), newer)])
    return " ".join([*own, f"{case.image_size}px", case.precision, *others])


OF_TORCH = ("operations", "graph_breaks")  # that another version of torch may count otherwise


@dataclass(frozen=True)
class Difference:
    """A fact that is not as expected."""

    model: str
    variant: str
    fact: str
    expected: str
    found: str

    @property
    def name(self) -> str:
        return " ".join(filter(None, [self.model, self.variant, self.fact]))


def differences(expected: FactsFile, found: FactsFile) -> Iterator[Difference]:
    """Every fact that differs, in either direction."""

    def differing(variant: str, fact: str, old: object, new: object) -> Difference:
        return Difference(found.model, variant, fact, str(old), str(new))

    if expected.planned_cases != found.planned_cases:
        yield differing("", "planned cases", expected.planned_cases, found.planned_cases)
    has_same_torch = minor(expected.torch) == minor(found.torch)
    for variant in dict.fromkeys([*expected.variants, *found.variants]):
        old, new = expected.variants.get(variant), found.variants.get(variant)
        if old is None or new is None:
            here, there = ("missing", "there") if old is None else ("there", "missing")
            yield differing(variant, "variant", here, there)
            continue
        for fact in Facts.model_fields:
            if fact in OF_TORCH and not has_same_torch:
                continue
            yield from (
                differing(variant, f"{fact}{part}", *values)
                for part, values in changed(getattr(old, fact), getattr(new, fact)).items()
            )


def changed(old: Any, new: Any) -> dict[str, tuple[object, object]]:
    """What differs between two values of a fact: by part, where it has parts."""
    if isinstance(old, dict):
        names = sorted(old.keys() | new.keys())
        pairs = {f" {name}": (old.get(name, 0), new.get(name, 0)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if isinstance(old, tuple) and any(isinstance(each, float) for each in (*old, *new)):
        is_close = partial(math.isclose, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        if len(old) == len(new) and all(map(is_close, old, new)):
            return {}
        short = [", ".join(f"{number:.7g}" for number in each) for each in (old, new)]
        return {"": (short[0], short[1])}
    return {} if old == new else {"": (old, new)}


def not_compared(expected: Mapping[str, FactsFile], found: Mapping[str, FactsFile]) -> list[str]:
    """What another version of torch counts otherwise, and so was not compared."""
    return [
        f"{model}: operations and graph breaks were not compared: expected of torch "
        f"{expected[model].torch}, and this is {each.torch}; --update-expected takes these"
        for model, each in found.items()
        if model in expected and minor(expected[model].torch) != minor(each.torch)
    ]


def minor(version: str) -> str:
    """'2.15' of '2.15.1+cu130'."""
    return ".".join(version.split("+")[0].split(".")[:2])


def facts_path(folder: Path, model: str) -> Path:
    """Encoders of others have names that no file may have."""
    return folder / "facts" / f"{model.replace(':', '.')}.json"


def read_facts(folder: Path, model: str) -> FactsFile | None:
    """What is expected of a model; None where nothing is.

    Raises:
        BrokenFileError: Where the file can't be used.
    """
    path = facts_path(folder, model)
    return read_file(path, FactsFile) if path.exists() else None


def write_facts(folder: Path, facts: FactsFile) -> Path:
    """Keys in order and one a line, so that a diff shows what changed."""
    path = facts_path(folder, facts.model)
    content = json.dumps(facts.model_dump(mode="json"), indent=1, sort_keys=True)
    write_whole(path, content + "\n")
    return path
