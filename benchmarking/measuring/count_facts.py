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
from sam.attention.variants import ATTENTION, split_attention
from sam.sam1.build import allocate_sam, fill_random
from sam.sam1.configs import MODELS

from ..choices.precision import apply_precision, chosen_attention
from .encoders import first_tensor, load_encoder
from .work import count_work, sam_work, without_weights

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
    encoder, dtype = meta_encoder(case)
    images = torch.empty(1, 3, case.image_size, case.image_size, device="meta", dtype=dtype)
    with torch.inference_mode(), CountedOperations() as counted:
        shape = first_tensor(encoder(images)).shape
    if case.model in MODELS:
        work = sam_work(case)[ENCODER]
    else:
        work = count_work({ENCODER: encoder}, images)[ENCODER]
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


def meta_encoder(case: Case) -> tuple[nn.Module, torch.dtype]:
    """Of a case, on the meta device, where nothing is computed; and the type of its images."""
    if case.model in MODELS:
        model = allocate_sam(MODELS[case.model], case.image_size, chosen_attention(case), "meta")
        return model.image_encoder, apply_precision(model, case.precision)
    encoder = without_weights(load_encoder(case.model, case.image_size, SEED))
    return encoder, apply_precision(encoder, case.precision)


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
    if model in MODELS and any(
        ATTENTION[name].why_unsupported("cpu", "float64") for name in split_attention(attention)
    ):
        return ()
    if model in MODELS:
        size = min(image_size, LARGEST_RUN)
        sam = allocate_sam(MODELS[model], size, attention)
        fill_random(sam, SEED)
        encoder: nn.Module = sam.image_encoder
    else:
        size = image_size  # which it may be made for
        encoder = load_encoder(model, size, SEED)
    random = torch.Generator().manual_seed(SEED)
    image = torch.randn(1, 3, size, size, generator=random, dtype=torch.float64)
    with torch.inference_mode():
        output = first_tensor(encoder.double()(image)).flatten()
    weights = torch.randn(SUMS, output.numel(), generator=random, dtype=torch.float64)
    return tuple(float(each) for each in weights @ output / output.numel() ** 0.5)


def main() -> None:
    """Facts of the cases that the argument holds as JSON, one for each variant."""
    found = count_facts(Case.model_validate(each) for each in json.loads(sys.argv[1]))
    told = {
        model: {variant: facts.model_dump(mode="json") for variant, facts in variants.items()}
        for model, variants in found.items()
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
