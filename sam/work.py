"""What a module has to do at least: FLOPs and bytes, whatever the architecture.

A product of (m, k) and (k, n) is 2 m k n FLOPs. A module must read its weights and its input, and
write its output, at least once: its least bytes, whatever else an implementation moves.
Nothing here imports torch, so that a limit can be computed at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Formats:
    """Bytes per number.

    weight: Of linear layers, convolutions and what they return.
    residual: Of the sum of all blocks, the layer norms and what else stays as wide as that sum.
    eight_bits: How the names of the linear layers end whose weights take one byte.
    """

    weight: int = 4
    residual: int = 4
    eight_bits: tuple[str, ...] = ()

    def linear(self, layer: str, inputs: int, outputs: int) -> int:
        """Bytes of a linear layer's weights; those of eight bits have a float32 scale per row."""
        if layer in self.eight_bits:
            return inputs * outputs + (4 + self.weight) * outputs
        return (inputs * outputs + outputs) * self.weight


FLOAT32 = Formats()


@dataclass(frozen=True)
class ModuleWork:
    """What a module has to do.

    flops: Per image, by the encoder's own graph.
    least_flops: Per image, by an exact variant whose linear layers see no padding.
    weight_bytes: Read once per forward.
    image_bytes: Input and output of an image.
    """

    flops: int
    least_flops: int
    weight_bytes: int
    image_bytes: int

    def least_bytes(self, batch_size: int) -> int:
        return self.weight_bytes + batch_size * self.image_bytes


def together(parts: Iterable[ModuleWork], image_bytes: int, more_weights: int = 0) -> ModuleWork:
    """The work of modules that run one after another: what passes between them can stay in a cache.

    Args:
        parts: The work of each module.
        image_bytes: Input of the first and output of the last, per image.
        more_weights: Bytes of weights that belong to none of them.
    """
    works = list(parts)
    return ModuleWork(
        sum(work.flops for work in works),
        sum(work.least_flops for work in works),
        sum(work.weight_bytes for work in works) + more_weights,
        image_bytes,
    )
