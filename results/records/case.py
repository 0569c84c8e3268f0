"""One thing to measure: a value for each axis of a sweep."""

from __future__ import annotations

import hashlib
import json

from pydantic import Field

from .quantities import Strict

# A case's kind of GPU, where every kind will do.
ANY = "any"
# Attention and weights of an encoder that is none of SAM's: as it brings them.
OWN = "own"


class Case(Strict):
    """One thing to measure; its fields are the identity of a result."""

    model: str = Field(description="Model type, or package.module:function of an encoder.")
    batch_size: int = Field(ge=1, le=1_000_000, description="Images in a forward.")
    image_size: int = Field(ge=16, le=65_536, description="Pixels along an edge.")
    precision: str = Field(description="Number format of weights and activations.")
    attention: str = Field(description="How the image encoder's attention is computed.")
    execution: str = Field(description="How the forward is run.")
    device: str = Field(description="What it runs on, as torch names it.")
    gpu: str | None = Field(
        default=None,
        description="Kind of GPU that it needs, or 'any'; None where `device` says which.",
    )
    input: str = Field(description="What the images are.")
    weights: str = Field(
        description="'random', a file or folder of official checkpoints, or an encoder's 'own'."
    )

    @property
    def case_id(self) -> str:
        """A short name that follows from the fields alone; a kind of GPU counts where one is asked
        for, so that ids made before there were kinds still hold."""
        fields = self.model_dump(exclude={"gpu"} if self.gpu is None else None)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The fields for a person, in one line."""
        return (
            f"{self.model} b{self.batch_size} {self.image_size}px {self.precision} "
            f"{self.attention} {self.execution} {self.place} {self.input}"
            + ("" if self.weights in ("random", OWN) else f" {self.weights}")
        )

    @property
    def place(self) -> str:
        """Where it runs, for a person: a device, or a kind of GPU."""
        if self.gpu is None:
            return self.device
        return "any GPU" if self.gpu == ANY else self.gpu

    def family(self) -> tuple[str, ...]:
        """What cases share that run in one worker with one model: all but batch size and input."""
        return tuple(
            f"{name}={value}"
            for name, value in self.model_dump().items()
            if name not in ("batch_size", "input")
        )


AXES: tuple[str, ...] = tuple(Case.model_fields)
