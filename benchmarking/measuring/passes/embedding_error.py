"""How far a case's embeddings are from upstream's: the price of a precision or a variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from results.records.case import Case, TimingPlan
from results.records.measurement import EmbeddingError

from ...choices.families import family_of
from ...choices.inputs import noise_batches
from ...choices.precision import PRECISIONS, apply_precision, without_tf32
from .bench import Bench

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..rig import Reference


def run(bench: Bench) -> EmbeddingError | None:
    """How far the first image's embedding is from upstream's arithmetic in float32."""
    case = bench.case
    is_reference = case.attention == family_of(case.model).reference_attention
    if is_reference and (case.precision, case.execution) == ("fp32", "eager"):
        return None  # nothing else to compare with
    return compare_embedding(bench)


def compare_embedding(bench: Bench) -> EmbeddingError | None:
    """The same, whatever the case."""
    from ..failures import classify

    try:
        expected = find_reference(bench)
    except Exception as error:
        if classify(error)[0] != "oom":
            raise
        bench.notes["embedding_error"] = "a model in float32 does not fit beside this one"
        return None
    difference = bench.rig.encode(bench.batches[0])[:1].float() - expected.embedding
    if not difference.isfinite().all():
        bench.notes["embedding_error"] = "the output holds NaN or infinity"
        return None
    if not expected.embedding.norm() > 0:
        bench.notes["embedding_error"] = "in float32 the output is zero: nothing to compare"
        return None
    return EmbeddingError(
        relative_l2=float(difference.norm() / expected.embedding.norm()),
        max_abs=float(difference.abs().max()),
        bf16_relative_l2=expected.bf16_error,
    )


def find_reference(bench: Bench) -> Reference:
    """Of the first image, computed once for all batch sizes of a rig."""
    import torch

    from ..rig import Reference

    case, rig = bench.case, bench.rig
    if case.input not in rig.references:
        with torch.inference_mode(False):  # weights are filled by threads, which are not in it
            encoder = build_reference(case, bench.plan).to(rig.device)
        image = first_image(bench)
        with without_tf32():
            embedding = rig.family.embed(encoder(image)).float()
        bf16_error = None
        if PRECISIONS[case.precision].budget is not None:
            dtype = apply_precision(encoder, "bf16", rig.family)
            rounded = rig.family.embed(encoder(image.to(dtype))).float()
            bf16_error = float((rounded - embedding).norm() / embedding.norm())
        rig.references[case.input] = Reference(embedding, bf16_error)
    return rig.references[case.input]


def build_reference(case: Case, plan: TimingPlan) -> nn.Module:
    """The encoder in float32, with the published arithmetic."""
    from ..rig import build_model

    family = family_of(case.model)
    return family.encoder(build_model(case, plan, family.reference_attention).model)


def first_image(bench: Bench) -> Tensor:
    """The first of the first batch, not rounded to the case's precision, (1, 3, S, S)."""
    import torch

    from ..batches import copy_to_device, normalise, resize_images

    case, rig = bench.case, bench.rig
    if case.input == "noise":
        return noise_batches(1, case.image_size, bench.plan.seed, rig.device, torch.float32)[0]
    resized = resize_images(rig, [bench.photographs.images[0].pixels])
    return normalise(rig, copy_to_device(rig, resized))
