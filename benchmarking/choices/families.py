"""Which family a model is of. Encoders that you name as 'package.module:function' are one too.

This is the only place outside sam/ that tells one kind of model from another.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from results.records.case import Case
from sam.families import FAMILIES, MODELS
from sam.family import BuildOptions, Built, Family, Model, WorkFunction
from sam.work import FLOAT32

if TYPE_CHECKING:
    from torch import Tensor


def build_encoder(model: Model, options: BuildOptions) -> Built:
    """Call the function that the model's name gives; the weights are those it makes."""
    from ..measuring.encoders import load_encoder, without_weights

    encoder = load_encoder(model.name, options.image_size, options.seed)
    return Built(
        without_weights(encoder) if options.is_meta else encoder, f"as {model.name} makes them"
    )


def first_tensor(output: Any) -> Tensor:
    """The output of an encoder, or the first tensor of several."""
    from ..measuring import encoders

    return encoders.first_tensor(output)


# A guess for an encoder whose FLOPs are not known: about SAM's ViT-B, by area.
GUESSED_FLOPS, GUESSED_AT = 1e12, 1024
EXTERNAL = Family(
    name="external",
    title="an external encoder",
    build=build_encoder,
    resize=FAMILIES["sam1"].resize,  # it gets the same images as SAM 1
    preprocessor=FAMILIES["sam1"].preprocessor,
    embedding=first_tensor,
    keep_float32=FAMILIES["sam1"].keep_float32,
    loads_weights=False,
    no_masks="an external encoder has no mask decoder",
)


def find_model(name: str) -> Model:
    """The row of MODELS with this name; any other name is that of an external encoder."""
    return MODELS.get(name) or Model(name, EXTERNAL.name, None, "an encoder of your own")


def family_of(model_name: str) -> Family:
    """The family of a model, whatever its name."""
    return FAMILIES.get(find_model(model_name).family, EXTERNAL)


def encoder_flops(case: Case) -> float:
    """FLOPs of one image in the encoder, as its family knows them; else a guess by area."""
    family, size = family_of(case.model), case.image_size
    if family.work is None:
        return GUESSED_FLOPS * (size / GUESSED_AT) ** 2
    is_known = family.knows_attention(case.attention)
    attention = case.attention if is_known else family.reference_attention
    return known_flops(family.work, find_model(case.model).config, size, attention)


@lru_cache(maxsize=4096)  # a sweep may have thousands of cases that differ in batch size only
def known_flops(work: WorkFunction, config: object, image_size: int, attention: str) -> float:
    return work(config, image_size, attention, FLOAT32)[""].flops
