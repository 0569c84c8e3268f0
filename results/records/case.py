"""What to measure and how: a case has a value for each axis of a sweep, a plan the settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from .axes import Axis, axes_of
from .quantities import Strict

# The GPU model of a case that may run on any GPU.
ANY = "any"
# Attention and weights of an encoder that brings its own.
OWN = "own"

# Pipelines whose components are timed: chosen prompts, and a grid of them over the whole image.
PROMPTS, MASK_GENERATOR = "prompts", "mask_generator"


class Case(Strict):
    """One thing to measure; its fields are the identity of a result.

    A new axis is one field here. Give it a default, the value that older records have: they stay
    readable, and their ids stay the same.
    """

    model: Annotated[str, Axis("Model", "Models to measure.", ("vit_b",), role="work", short="-m")]
    batch_size: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        Axis(
            "Batch size",
            "Images per forward pass. 1..64 doubles from the first number to the last.",
            (1, 2, 4, 8), role="work", short="-b", splits_worker=False, splits_series=False,
            shown="b{}".format,
        ),
    ]  # fmt: skip
    image_size: Annotated[
        int,
        Field(ge=16, le=65_536),
        Axis(
            "Image size", "Pixels along each edge of the input.", (1024,), role="work", short="-s",
            shown="{}px".format,
        ),
    ]  # fmt: skip
    precision: Annotated[
        str, Axis("Precision", "Number formats of weights and activations.", ("fp32",), short="-p")
    ]
    attention: Annotated[
        str, Axis("Attention", "Implementations of the encoder's attention.", ("reference",))
    ]
    execution: Annotated[str, Axis("Execution", "Ways to run the forward pass.", ("eager",))]
    device: Annotated[
        str,
        Axis(
            "Device", "cpu, cuda or cuda:N. auto is the first GPU, or the CPU if there is none.",
            ("auto",), role="place",
        ),
    ]  # fmt: skip
    gpu: Annotated[
        str | None,
        Axis(
            "GPU",
            "GPU models such as L4,L40S,H200, or any, or cpu. Each case runs on a GPU of this "
            "model, on any machine of the fleet. Use it instead of --device.",
            role="place",
            shown=lambda value: "any GPU" if value == ANY else value,
        ),
    ] = None
    input: Annotated[
        str,
        Axis(
            "Input", "Image source: images, sa1b or noise.", ("images",), role="work",
            splits_worker=False,
        ),
    ]  # fmt: skip
    weights: Annotated[
        str,
        Axis(
            "Weights", "random, a checkpoint file, or a folder of official checkpoints.",
            ("random",), role="work", shown=lambda value: "" if value in ("random", OWN) else value,
        ),
    ]  # fmt: skip

    @property
    def case_id(self) -> str:
        """A short name that follows from the fields alone.

        An axis whose value is that of records made before it does not count, so that their ids
        stay the same.
        """
        fields = {
            name: value
            for name, value in self.model_dump().items()
            if name not in AXES or value != AXES[name].since
        }
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The values of all axes in one line, without what goes without saying."""
        return case_label(self.model_dump())

    @property
    def place(self) -> str:
        """Where it runs: a device, or a GPU model."""
        return case_label(self.model_dump(), PLACE_AXES)

    @property
    def worker_key(self) -> tuple[Hashable, ...]:
        """Equal for cases that run in one worker with one built model."""
        return self.values(name for name, axis in AXES.items() if axis.splits_worker)

    @property
    def series_key(self) -> tuple[Hashable, ...]:
        """Equal for cases that differ in the batch size only."""
        return self.values(SERIES_AXES)

    def values(self, axes: Iterable[str]) -> tuple[Hashable, ...]:
        """Its values on some axes."""
        return tuple(getattr(self, axis) for axis in axes)


# Every axis of a sweep, in the order of labels and columns.
AXES: dict[str, Axis] = axes_of(Case)
SERIES_AXES = tuple(name for name, axis in AXES.items() if axis.splits_series)
# How a case is computed: what `recommend` chooses among.
WAY_AXES = tuple(name for name, axis in AXES.items() if axis.role == "way")
PLACE_AXES = tuple(name for name, axis in AXES.items() if axis.role == "place")


def case_label(row: Mapping[Any, Any], axes: Iterable[str] = tuple(AXES)) -> str:
    """The values of a case's axes in one line, without what goes without saying.

    Args:
        row: Of a case, by axis.
        axes: Which of them to name, in this order. A GPU model stands for the device it has there.
    """
    told = dict.fromkeys(axes)
    if isinstance(row.get("gpu"), str) and "gpu" in told:
        told.pop("device", None)
    texts = (AXES[name].label(row[name]) for name in told)
    return " ".join(text for text in texts if text)


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
