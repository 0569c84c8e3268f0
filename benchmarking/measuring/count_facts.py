"""Counting what is the same at every run: run as a process of its own, it prints one JSON line, so
that its caller need not load torch.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from results.records.case import Case
from results.records.measurement import ENCODER
from results.verdicts.facts import Facts, variant_name
from sam.family import BuildOptions

from ..choices.families import family_of, find_model
from ..choices.precision import apply_precision, chosen_attention
from .work import count_work, known_work

SEED = 0
LARGEST_RUN = 256  # pixels; the output of a larger image would take a CPU minutes
SUMS = 8  # of the output, that stand for it


def count_facts(cases: Iterable[Case]) -> dict[str, dict[str, Facts]]:
    """What the variants of each model do, by the model's name and the variant's."""
    found: dict[str, dict[str, Facts]] = {}
    for case in cases:
        found.setdefault(case.model, {}).setdefault(variant_name(case), facts_of(case))
    return found


def facts_of(case: Case) -> Facts:
    """Of a forward of one image, whatever the case's batch size."""
    case = case.model_copy(update={"batch_size": 1})
    family = family_of(case.model)
    options = BuildOptions(
        image_size=case.image_size, attention=chosen_attention(case), seed=SEED, is_meta=True
    )
    model = family.build(find_model(case.model), options).model
    encoder, dtype = family.encoder(model), apply_precision(model, case.precision, family)
    images = torch.empty(1, 3, case.image_size, case.image_size, device="meta", dtype=dtype)
    with torch.inference_mode(), CountedOperations() as counted:
        shape = family.embed(encoder(images)).shape
    work = known_work(case).get(ENCODER) or count_work({ENCODER: encoder}, images)[ENCODER]
    weights = list(encoder.parameters())
    return Facts(
        parameters=sum(each.numel() for each in weights),
        weights_bytes=sum(each.nbytes for each in weights),
        flops=work.flops,
        least_flops=work.least_flops,
        output_shape=tuple(shape),
        operations=dict(sorted(counted.operations.items())),
        graph_breaks=count_breaks(encoder, images),
        output=output_sums(case.model, case.image_size, case.attention),
    )


class CountedOperations(TorchDispatchMode):
    """How often each operation runs while it is entered, by its name and overload."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations[str(func)] += 1
        return func(*args, **(kwargs or {}))


def count_breaks(encoder: nn.Module, images: Tensor) -> int | None:
    """Where torch.compile would split the encoder; None where it can't look through it."""
    torch._dynamo.reset()
    try:
        with torch.no_grad():
            breaks = int(torch._dynamo.explain(encoder)(images).graph_break_count)
    except Exception:  # of an encoder that is not ours, anything may be raised
        return None
    return breaks if breaks >= 0 else None  # -1 where no graph was made at all, as of a loop


@lru_cache(maxsize=64)  # it is the same whatever the case's own precision
def output_sums(model: str, image_size: int, attention: str) -> tuple[float, ...]:
    """Weighted sums of the output of seeded weights for a seeded image, in float64.

    In float64, since float32 rounds otherwise on another CPU. Empty where a CPU can't compute it.
    """
    family = family_of(model)
    if family.why_no_attention(attention, "cpu", "float64") is not None:
        return ()
    multiple = family.image_multiple
    largest = image_size if multiple is None else LARGEST_RUN // multiple * multiple
    size = min(image_size, largest)
    options = BuildOptions(image_size=size, attention=attention, seed=SEED)
    encoder = family.encoder(family.build(find_model(model), options).model)
    random = torch.Generator().manual_seed(SEED)
    image = torch.randn(1, 3, size, size, generator=random, dtype=torch.float64)
    with torch.inference_mode():
        output = family.embed(encoder.double()(image)).flatten()
    weights = torch.randn(SUMS, output.numel(), generator=random, dtype=torch.float64)
    return tuple(float(each) for each in weights @ output / output.numel() ** 0.5)


def main() -> None:
    """Facts of the cases that the argument holds as JSON, one for each variant."""
    found = count_facts(Case.model_validate(each) for each in json.loads(sys.argv[1]))
    print(json.dumps(found, default=lambda facts: facts.model_dump(mode="json")))


if __name__ == "__main__":
    main()
