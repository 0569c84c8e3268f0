"""The contract of a model family: what anyone who measures a model needs from its architecture.

Whoever plans or measures asks the model's Family and never which model it is. Nothing here imports
torch, and a family's functions import it when they are called, so that a command can list models
at once.

Shapes: B images, S pixels along an edge of the encoder's input, (H, W) the size of a photograph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .attention.variants import BOTH, AttentionVariant
from .work import Formats, ModuleWork

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

OWN = "own"  # the attention of a model that brings its own
Begin = Callable[[str], None]  # called with the name of each stage as it begins
# From config, S, attention and formats.
WorkFunction = Callable[[Any, int, str, Formats], dict[str, ModuleWork]]


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A published file with a model's trained weights.

    base_url: The folder it is published in, with a slash at its end.
    """

    filename: str
    size_bytes: int
    sha256: str
    base_url: str

    @property
    def url(self) -> str:
        return self.base_url + self.filename


@dataclass(frozen=True)
class Model:
    """One model of a family.

    family: A key of sam.families.FAMILIES.
    config: Sizes, in the form that the family's functions take.
    """

    name: str
    family: str
    config: Any
    summary: str
    checkpoint: OfficialCheckpoint | None = None


def official_of(models: Mapping[str, Model]) -> dict[str, OfficialCheckpoint]:
    """The official checkpoints, by the names of the models that have one."""
    return {name: model.checkpoint for name, model in models.items() if model.checkpoint}


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build a model.

    image_size: S, a multiple of the family's image_multiple.
    attention: A name that the family knows, never one that stands for others by device.
    checkpoint: A file of weights; None for random ones, or for those that the model brings.
    seed: Of the random weights.
    is_meta: Whether to build on torch's device "meta", with shapes and without values.
    models: All models, so that an error can name the one that a checkpoint is of.
    """

    image_size: int
    attention: str = OWN
    checkpoint: Path | None = None
    seed: int = 0
    is_meta: bool = False
    models: Mapping[str, Model] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """A model on the CPU, in float32 and evaluation mode.

    model: The whole module; its image encoder is Family.encoder(model).
    weights: Where they come from, such as "random, seed 0" or "sha256:...".
    notes: What the reader of a measurement should know, by subject.
    """

    model: Any
    weights: str
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptedImage:
    """An image whose masks are wanted.

    size: (H, W) of the photograph.
    input_size: (H, W) after the resize, without padding.
    prompts: Points (P, 2) or boxes (P, 4), in pixels of the photograph.
    """

    size: tuple[int, int]
    input_size: tuple[int, int]
    prompts: np.ndarray


class PromptPipeline(Protocol):
    """From what the encoder returns for a batch to the masks of its prompts, stage by stage."""

    @property
    def stages(self) -> tuple[str, ...]: ...

    def prepare(self, model: Any, images: Sequence[PromptedImage], device: torch.device) -> Any:
        """Copy prompts to the device, beside the images, where no later stage waits for them."""

    def run(self, model: Any, features: Any, prepared: Any, begin: Begin) -> None:
        """Predict all masks from the encoder's whole output and from what `prepare` returned."""


class MaskGenerator(Protocol):
    """From images to the masks of everything in them, stage by stage."""

    @property
    def stages(self) -> tuple[str, ...]: ...

    def settings(
        self,
        model: Any,
        image: np.ndarray,
        *,
        points_per_side: int,
        images_per_batch: int,
        is_random: bool,
    ) -> dict[str, Any]:
        """Arguments of `run`, with thresholds that a few masks pass even if weights are random."""

    def warm_up(self, model: Any, images: Sequence[np.ndarray], settings: dict[str, Any]) -> None:
        """Run each stage once, on few points: the first call of each pays for loading it."""

    def run(
        self, model: Any, images: Sequence[np.ndarray], settings: dict[str, Any], begin: Begin
    ) -> int:
        """Generate masks; return how many."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture, as whoever measures it needs to see it.

    name: The key in FAMILIES.
    title: For messages, such as "SAM 1".
    preload: Imports what the other functions import when they are called.
    build: Makes a model with its weights.
    resize: (H, W, 3) uint8 and S to (3, H', W') uint8 that fits S, on the host.
    preprocessor: From S and a device, a function of resized pixels (3, H', W') on that device to
        the encoder's input (3, S, S) in float32: normalised with the family's mean and standard
        deviation, and padded.
    encoder: The image encoder of a built model.
    embedding: The output of the encoder that is compared; None if it returns one tensor.
    embedding_shape: Its shape, from config, B and S; None if it is not known beforehand.
    image_multiple: What S must be a multiple of; None if a model may be made for one size only.
    work: FLOPs and bytes of the encoder ("") and its modules by name, from config, S, attention
        and formats; None to count them on the meta device. Takes well under a millisecond.
    block_names: Pattern of the names of the encoder's blocks, if they are not named as usual.
        A block's whole-number `window_size` says whether it is a window block or (0) a global one.
    keep_float32: Patterns of the names of weights that are float32 in every precision.
    keep_float32_in_fp16: Patterns of those that are float32 in fp16 as well, to avoid overflow.
    eight_bit_layers: By key of sam.quantise.EIGHT_BITS, how the names of the linear layers end
        that may be computed in it; no such key if none may.
    attention: Variants by name; empty if the model brings its own.
    concrete_attention: A variant, a type of device and of number to what the variant is there.
    reference_attention: The variant with the published arithmetic.
    export: Writes an encoder to a path as ONNX, from "images" to one output; None if it can't.
    loads_weights: Whether weights are random ones by seed or from a file; False if `build` brings
        its own.
    prompts, mask_generator: Pipelines from images to masks.
    no_masks: Why a pipeline is missing.
    """

    name: str
    title: str
    preload: Callable[[], object] = lambda: None
    build: Callable[[Model, BuildOptions], Built]
    resize: Callable[[np.ndarray, int], Tensor]
    preprocessor: Callable[[int, torch.device], Callable[[Tensor], Tensor]]
    encoder: Callable[[Any], nn.Module] = lambda model: model
    embedding: Callable[[Any], Tensor] | None = None
    embedding_shape: Callable[[Any, int, int], tuple[int, ...]] | None = None
    image_multiple: int | None = None
    work: WorkFunction | None = None
    block_names: str | None = None
    keep_float32: tuple[str, ...] = ()
    keep_float32_in_fp16: tuple[str, ...] = ()
    eight_bit_layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attention: Mapping[str, AttentionVariant] = field(default_factory=dict)
    concrete_attention: Callable[[str, str, str], str] = lambda name, device_type, dtype: name
    reference_attention: str = OWN
    export: Callable[[Any, Path], None] | None = None
    loads_weights: bool = True
    prompts: PromptPipeline | None = None
    mask_generator: MaskGenerator | None = None
    no_masks: str = "this model has no masks"

    def embed(self, output: Any) -> Tensor:
        """The output of the encoder that is compared."""
        tensor: Tensor = output if self.embedding is None else self.embedding(output)
        return tensor

    def knows_attention(self, name: str) -> bool:
        """Whether this is a variant, or two joined: of window blocks and of global blocks."""
        if not self.attention:
            return name == OWN
        parts = name.split(BOTH)
        return len(parts) <= 2 and all(part in self.attention for part in parts)

    def why_no_attention(self, name: str, device_type: str, dtype: str) -> str | None:
        """Why a type of device can't compute an attention in a type of number, or None."""
        if not self.knows_attention(name):
            return (
                f"{self.title} has no attention '{name}'; it has: {', '.join(self.attention)}"
                if self.attention
                else f"{self.title} brings its own attention and has no '{name}'"
            )
        variants = [self.attention[part] for part in name.split(BOTH)] if self.attention else []
        reasons = (variant.why_unsupported(device_type, dtype) for variant in variants)
        return next(filter(None, reasons), None)
