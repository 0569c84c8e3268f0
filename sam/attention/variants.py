"""Variants of attention by name (see sam.attention.attend), and which is best for a device.

A variant holds no parameters, so every variant loads the same weights. Nothing here loads torch, so
that a command can list the variants at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from .attend import (
    AttentionInputs,
    attend_flex,
    attend_folded,
    attend_reference,
    attend_sdpa,
    attend_tiled,
    grid_size,
    in_windows,
)

if TYPE_CHECKING:
    from torch import Tensor

BOTH = "+"  # between the variants of window blocks and of global blocks


@dataclass(frozen=True)
class AttentionVariant:
    """A way to compute the attention of the image encoder.

    attend: To (B, H, W, C).
    padding: What a window's padded tokens go through. "tokens": zero tokens are added before the
        qkv layer, as upstream does. "bias": qkv runs on the real tokens alone and the padded
        slots get what qkv makes of a zero token, its bias. Equal, with fewer FLOPs. (Masking the
        padding would be wrong: padded tokens take part in the softmax.)
    is_folded: Whether the bias is part of the product of queries and keys, which takes more FLOPs.
    why_unsupported: Why a type of device can't do it in a type of number, or None where it can.
    load: Called as an encoder is built; what it registers with torch, a counter must find there.
    """

    attend: Callable[[AttentionInputs], Tensor]
    summary: str
    padding: Literal["tokens", "bias"] = "bias"
    is_folded: bool = False
    why_unsupported: Callable[[str, str], str | None] = lambda device_type, dtype: None
    load: Callable[[], None] = lambda: None


def load_pieces() -> None:
    from . import pieces  # noqa: F401  it registers its operation


def load_triton() -> None:
    from . import triton_kernel as triton_attention  # noqa: F401  it registers its operation and its FLOPs


def attend_triton(queried: AttentionInputs) -> Tensor:
    from .triton_kernel import attend

    return attend(queried)


def why_no_triton(device_type: str, dtype: str) -> str | None:
    if device_type != "cuda":
        return "triton needs a CUDA GPU: its kernels are compiled for one"
    if dtype == "float64":
        return "triton's kernels compute in float32"
    return None if find_spec("triton") else "triton needs its package: pip install triton"


def split_attention(name: str) -> tuple[str, str]:
    """The variants of window blocks and of global blocks: 'fold+triton', or one for both.

    Raises:
        ValueError: Where one of them is not known.
    """
    window, is_two, of_global = name.partition(BOTH)
    both = (window, of_global if is_two else window)
    unknown = [each for each in both if each not in ATTENTION]
    if unknown:
        raise ValueError(f"Unknown attention '{unknown[0]}'. Known: {', '.join(ATTENTION)}.")
    return both


# By type of device and of number, the best known for window blocks and for global blocks.
BEST: dict[tuple[str, str], tuple[str, str]] = {
    ("cpu", "float32"): ("tiled", "sdpa"),
    ("cpu", "bfloat16"): ("fold", "tiled"),
    ("cuda", "bfloat16"): ("fold", "triton"),
    ("cuda", "float16"): ("fold", "triton"),
}
FALLBACK = "sdpa"


def best_attention(device_type: str, dtype: str) -> tuple[str, str]:
    """What `auto` stands for, in window blocks and in global blocks."""
    window, of_global = (
        name if ATTENTION[name].why_unsupported(device_type, dtype) is None else FALLBACK
        for name in BEST.get((device_type, dtype), (FALLBACK, FALLBACK))
    )
    return window, of_global


def concrete_attention(name: str, device_type: str, dtype: str) -> str:
    """A variant, or two joined, with what `auto` stands for in its place."""
    both = zip(split_attention(name), best_attention(device_type, dtype), strict=True)
    return BOTH.join(dict.fromkeys(best if part == "auto" else part for part, best in both))


def load_best() -> None:
    load_pieces()
    if find_spec("triton"):
        load_triton()


def attend_best(queried: AttentionInputs) -> Tensor:
    qkv = queried.qkv
    best = best_attention(qkv.device.type, str(qkv.dtype).removeprefix("torch."))
    is_global = max(grid_size(queried)) <= queried.side
    return ATTENTION[best[is_global]].attend(queried)


ATTENTION: dict[str, AttentionVariant] = {
    "reference": AttentionVariant(
        in_windows(attend_reference),
        "upstream's arithmetic and FLOPs, step by step",
        padding="tokens",
    ),
    "sdpa": AttentionVariant(
        in_windows(attend_sdpa),
        "fused attention with the bias as a mask; no FLOPs spent on padding",
        load=load_pieces,
    ),
    "tiled": AttentionVariant(
        in_windows(attend_tiled),
        "step by step, on tiles of scores that a CPU's cache holds",
        load=load_pieces,
    ),
    "fold": AttentionVariant(
        attend_folded,
        "the bias folded into queries and keys: fused attention without a mask",
        is_folded=True,
        load=load_pieces,
    ),
    "flex": AttentionVariant(
        in_windows(attend_flex), "FlexAttention, whose compiled kernel looks the bias up"
    ),
    "triton": AttentionVariant(
        attend_triton,
        "kernels of our own that read windows where they lie and make the bias themselves",
        why_unsupported=why_no_triton,
        load=load_triton,
    ),
    "auto": AttentionVariant(
        attend_best,
        "the best known for the device and precision, in windows and in global blocks",
        load=load_best,
    ),
}
