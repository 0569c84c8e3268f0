"""Ways to run a forward.

Torch is imported inside the functions, so that a command can list the ways at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Execution:
    """A way to run a module.

    prepare: Makes a function of the images out of the image encoder.
    hides_modules: Why hooks on inner modules would not tell the truth, or None where they do.
    """

    prepare: Callable[[nn.Module], Forward]
    summary: str
    hides_modules: str | None = None


def prepare_eager(encoder: nn.Module) -> Forward:
    return encoder


def prepare_compiled(encoder: nn.Module) -> Forward:
    """Static shapes: a sweep measures each batch size on its own."""
    import torch

    # A compilation a batch size. Beyond its limit (8), or where it can't compile the whole, torch
    # would run eagerly without a word: fullgraph makes that an error.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit
    return torch.compile(encoder, dynamic=False, fullgraph=True)


EXECUTIONS: dict[str, Execution] = {
    "eager": Execution(prepare_eager, "operation by operation, as torch runs a module"),
    "compile": Execution(
        prepare_compiled,
        "torch.compile of the whole encoder; the first forward compiles",
        hides_modules="the compiler fuses across modules, so hooks would time something else",
    ),
}
