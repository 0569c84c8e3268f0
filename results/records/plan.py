"""How a case is measured: passes, warm-up and stopping rule."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .quantities import Strict

# Pipelines whose components are timed: chosen prompts, and a grid of them over the whole image.
PROMPTS, MASK_GENERATOR = "prompts", "mask_generator"


class TimingPlan(Strict):
    """How a case is measured: the passes, the warm-up and the stopping rule."""

    # Which passes there are, and which run if none is named, is for those who run them to say.
    passes: tuple[str, ...] = Field((), description="Passes to run, each on its own.")
    warmup_s: float = Field(2.0, ge=0, le=3600, description="Least warm-up, in seconds.")
    warmup_forwards: int = Field(3, ge=1, le=10_000, description="Least warm-up, in forwards.")
    warmup_cap_s: float = Field(20.0, gt=0, le=3600, description="Most warm-up, in seconds.")
    min_timed_s: float = Field(1.0, ge=0, le=3600, description="Least timed work, in seconds.")
    max_timed_s: float = Field(15.0, gt=0, le=36_000, description="Most timed work, in seconds.")
    min_forwards: int = Field(20, ge=1, le=100_000, description="Least timed forwards.")
    min_slow_forwards: int = Field(
        5, ge=1, le=100_000, description="The same, where a forward takes over a second."
    )
    max_forwards: int = Field(2_000, ge=1, le=100_000, description="Most timed forwards.")
    target_interval: float = Field(
        0.005, gt=0, lt=1, description="Half width of the median's 95 % interval that ends timing."
    )
    module_forwards: int = Field(32, ge=1, le=1_000, description="Forwards timed by module.")
    module_depth: int = Field(
        1, ge=1, le=2, description="1: blocks. 2: norm1, attn, norm2 and mlp of each block too."
    )
    module_pattern: str | None = Field(
        None, description="Regular expression of the modules' names, instead of the known ones."
    )
    memory_limit_bytes: int | None = Field(
        None,
        ge=2**20,
        lt=2**63,
        description="Most that a case may take of its device, in bytes: to see a smaller one.",
    )
    case_timeout_s: float = Field(
        900.0, gt=0, le=86_400, description="A case that takes longer ends as timeout, in seconds."
    )
    seed: int = Field(0, ge=0, lt=2**16, description="Of random weights and noise.")
    images: str | None = Field(None, description="Folder of images for input 'images' and 'sa1b'.")
    prompts: Literal["points", "boxes"] = Field(
        "points", description="What the mask decoder is asked with: points or boxes."
    )
    prompts_per_image: int = Field(
        64, ge=1, le=100_000, description="Most prompts of an image, of those that sa1b has."
    )
    points_per_side: int = Field(
        32, ge=1, le=1_000, description="The mask generator's points along an image's side."
    )
