"""Which modules of an encoder are timed, and what a person groups each with.

Found by their names, which are alike in vision transformers: SAM's, timm's, torchvision's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.records.measurement import ENCODER

from ..errors import SweepError, quoted

if TYPE_CHECKING:
    from torch import nn

# Of what is in a module that is timed, only a block's parts are too, and only where asked for.
BLOCK = r"(.+\.)?(blocks|layers?|h|resblocks|encoder_layers)\.\w*\d+"
FIRST_AND_LAST = r"(.+\.)?(patch_embed(ding)?s?|conv_proj|embeddings|stem|neck|heads?|classifier)"
# The parts of a block by their names, which end otherwise in each library.
PART_KINDS = {
    r"(self_)?att(ention|n)\w*": "attention",
    r"mlp|ffn|feed_forward": "mlp",
    r"(layer)?_?norm\w*|ln\w*": "norm",
}


@dataclass(frozen=True)
class TimedModule:
    """A module that is timed, and what a person groups it with."""

    module: nn.Module
    kind: str


def find_modules(
    encoder: nn.Module,
    depth: int = 1,
    pattern: str | None = None,
    block_names: str | None = None,
) -> dict[str, TimedModule]:
    """The encoder and those of its modules that are timed, by name, in the order of the encoder.

    Args:
        encoder: Any module.
        depth: 2 adds the parts of each block.
        pattern: Of the names, instead of the known ones.
        block_names: Pattern of the blocks' names, instead of those that are usual.

    Raises:
        SweepError: Where nothing has such a name.
    """
    found = {ENCODER: TimedModule(encoder, "encoder")}
    block = block_names or BLOCK
    for name, module in outermost(encoder, pattern or f"{block}|{FIRST_AND_LAST}"):
        is_block = re.fullmatch(block, name) is not None
        own_kind = block_kind(module) if is_block else name.rpartition(".")[2]
        found[name] = TimedModule(module, own_kind)
        if is_block and depth > 1:
            for part_name, part in module.named_children():
                if any(True for _ in part.parameters()):  # a dropout does nothing here
                    kind = part_kind(part_name, own_kind)
                    found[f"{name}.{part_name}"] = TimedModule(part, kind)
    if pattern is None and not any(re.fullmatch(block, name) for name in found):
        children = {
            name: TimedModule(child, name)
            for name, child in encoder.named_children()
            if name != ENCODER  # which is the name of the whole
        }
        return {ENCODER: found[ENCODER]} | children
    if len(found) == 1:
        names = ", ".join(name for name, _ in encoder.named_children())
        raise SweepError(
            f"--module-pattern must match a module's name, and {quoted(pattern)} matches none of "
            f"{type(encoder).__name__}: its largest are {names or 'none'}."
        )
    return found


def outermost(encoder: nn.Module, pattern: str) -> Iterator[tuple[str, nn.Module]]:
    """Modules whose name matches, but for those within another such."""
    inside = None
    for name, module in encoder.named_modules():
        if inside is not None and name.startswith(inside):
            continue
        if name and name != ENCODER and re.fullmatch(pattern, name):
            inside = f"{name}."
            yield name, module


def block_kind(block: nn.Module) -> str:
    """By what upstream's blocks and timm's say of themselves: 0 is no window."""
    window = getattr(block, "window_size", None)
    if not isinstance(window, int):
        return "block"
    return "window" if window else "global"


def part_kind(name: str, kind_of_block: str) -> str:
    """The kind of a block's part; attention is told apart by the block."""
    kinds = (kind for pattern, kind in PART_KINDS.items() if re.fullmatch(pattern, name))
    kind = next(kinds, name)
    of_block = "" if kind_of_block == "block" else f"{kind_of_block} "
    return of_block + kind if kind == "attention" else kind
