"""How far an embedding is from upstream's in float32: none for the same, and shown for a wrong."""

from __future__ import annotations

import pytest
import torch

from benchmarking.choices.inputs import read_input
from benchmarking.choices.precision import PRECISIONS, apply_precision
from benchmarking.measuring.batches import make_batches
from benchmarking.measuring.measure import measure_case
from benchmarking.measuring.passes import embedding_error
from benchmarking.measuring.passes.bench import Bench
from benchmarking.measuring.passes.embedding_error import (
    build_reference,
    find_reference,
    first_image,
)
from benchmarking.measuring.rig import build_rig
from sam.attention.variants import ATTENTION
from sam.sam1.family import SAM1
from sam.sam1.registry import build_sam_model

FLAGS = (torch.backends.cuda.matmul, torch.backends.cudnn)
APPROXIMATE = [name for name, precision in PRECISIONS.items() if precision.budget is not None]
EXACT = [name for name in PRECISIONS if name not in APPROXIMATE]
VARIANTS = [name for name in ATTENTION if name != "reference"]
# Largest relative error by what differs from upstream's arithmetic in float32.
LARGEST = {
    **{("fp32", name, "eager"): 1e-5 for name in VARIANTS},
    ("fp32", "reference", "onnxruntime"): 1e-4,
    **{("fp16", name, "eager"): 0.1 for name in ATTENTION},
    # Triton's interpreter can't multiply bfloat16: see tests/sam/test_attention.py.
    **{("bf16", name, "eager"): 0.1 for name in ATTENTION if name != "triton"},
    **{
        (precision, name, "eager"): 0.1 * PRECISIONS[precision].budget
        for precision in APPROXIMATE
        for name in ("reference", "sdpa")
    },
}


@pytest.fixture(autouse=True)
def flags():
    """Leave torch's flags as they were."""
    before = [backend.allow_tf32 for backend in FLAGS]
    yield
    for backend, allowed in zip(FLAGS, before, strict=True):
        backend.allow_tf32 = allowed


@pytest.fixture
def measure_error(run_case):
    """Measure the error alone of a tiny case with these changes."""

    def measure(**changes):
        return run_case(**{"passes": ("embedding_error",)} | changes)

    return measure


@pytest.fixture
def built(monkeypatch):
    """Models that were built for comparison."""
    found = []

    def spying(case, plan):
        found.append((case.model, case.image_size))
        return build_reference(case, plan)

    monkeypatch.setattr(embedding_error, "build_reference", spying)
    return found


# How large


@pytest.mark.parametrize("source", ["images", "noise"])
def test_upstreams_arithmetic_in_float32_is_compared_with_nothing(measure_error, built, source):
    measured = measure_error(input=source)

    assert measured.embedding_error is None
    assert built == []


@pytest.mark.parametrize(("names", "largest"), LARGEST.items(), ids=map(str, LARGEST))
def test_an_error_is_as_small_as_its_arithmetic_allows(measure_error, names, largest):
    precision, attention, execution = names
    error = measure_error(
        precision=precision, attention=attention, execution=execution
    ).embedding_error

    assert 0 < error.relative_l2 < largest


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_error_on_photographs_is_as_small_as_its_arithmetic_allows(measure_error, precision):
    error = measure_error(precision=precision, attention="sdpa", input="images").embedding_error

    assert 0 < error.relative_l2 < LARGEST[precision, "sdpa", "eager"]


def test_a_format_with_fewer_digits_has_the_larger_error(measure_error):
    errors = [
        measure_error(precision=precision, attention="sdpa").embedding_error.relative_l2
        for precision in ("fp32", "fp16", "bf16")
    ]

    assert 100 * errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_a_wrong_variant_is_shown_as_wrong(make_case, make_plan, factor):
    case, plan = make_case(attention="sdpa"), make_plan(passes=("embedding_error",))
    rig = build_rig(case, plan)
    encode = rig.encode
    rig.encode = lambda images: factor * encode(images)
    error = measure_case(case, plan, rig, lambda stage: None).embedding_error

    assert error.relative_l2 == pytest.approx(0.1, rel=1e-3)


def test_the_largest_error_is_of_one_number_of_the_embedding(make_case, make_plan):
    case, plan = make_case(attention="sdpa"), make_plan(passes=("embedding_error",))
    rig = build_rig(case, plan)
    encode = rig.encode

    def wrong_in_one_place(images):
        embeddings = encode(images).clone()
        embeddings[0, 7, 1, 2] += 100.0
        return embeddings

    rig.encode = wrong_in_one_place
    error = measure_case(case, plan, rig, lambda stage: None).embedding_error

    assert error.max_abs == pytest.approx(100.0, rel=1e-3)


def test_trained_weights_are_compared_with_the_same_weights(measure_error, tmp_path):
    path = tmp_path / "tiny.pth"
    torch.save(build_sam_model("tiny", image_size=64, seed=9).state_dict(), path)
    error = measure_error(attention="sdpa", weights=str(path)).embedding_error

    assert error.relative_l2 < 1e-5


# What it is compared with


@pytest.mark.parametrize("allowed", [True, False])
def test_the_reference_is_exact_and_tf32_is_allowed_afterwards_as_before(
    make_case, make_plan, monkeypatch, allowed
):
    case, plan = make_case(precision="tf32" if allowed else "bf16"), make_plan()
    rig = build_rig(case, plan)
    photographs = read_input(case.input, plan, case.image_size, 1)
    during = []

    def spying(*arguments):
        encoder = build_reference(*arguments)
        encoder.register_forward_hook(
            lambda *_: during.extend(backend.allow_tf32 for backend in FLAGS)
        )
        return encoder

    monkeypatch.setattr(embedding_error, "build_reference", spying)
    with torch.inference_mode():
        expected = find_reference(Bench(case, plan, rig, [], photographs)).embedding

    assert expected.dtype == torch.float32
    assert during == [False, False]
    assert [backend.allow_tf32 for backend in FLAGS] == [allowed, allowed]


@pytest.mark.parametrize("attention", ["sdpa", "auto"])
def test_the_reference_has_the_reference_attention(measure_error, built, attention):
    measure_error(attention=attention)

    assert built == [("tiny", 64)]


def test_one_reference_serves_all_batch_sizes_of_an_input(make_case, run_case, make_plan, built):
    rig = build_rig(make_case(attention="sdpa"), make_plan())
    errors = [
        run_case(
            rig=rig, attention="sdpa", passes=("embedding_error",), batch_size=size, input=source
        ).embedding_error
        for source in ("noise", "images")
        for size in (1, 2, 4)
    ]

    assert len(built) == 2
    assert max(error.relative_l2 for error in errors) < 1e-5


@pytest.mark.parametrize("source", ["images", "noise"])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_image_that_is_compared_is_the_first_of_the_batch(
    make_case, make_plan, batch_size, source
):
    case, plan = make_case(batch_size=batch_size, input=source), make_plan(seed=3)
    rig = build_rig(case, plan)
    photographs = read_input(case.input, plan, case.image_size, batch_size)
    batch = make_batches(case, plan, rig, photographs)[0]

    assert torch.equal(first_image(Bench(case, plan, rig, [batch], photographs)), batch[:1])


def test_the_image_that_is_compared_is_not_rounded_to_the_cases_precision(make_case, make_plan):
    case, plan = make_case(precision="bf16"), make_plan()
    rig = build_rig(case, plan)
    photographs = read_input(case.input, plan, case.image_size, 1)
    image = first_image(Bench(case, plan, rig, [], photographs))

    assert image.dtype == torch.float32
    assert not torch.equal(image, image.bfloat16().float())


# What bfloat16's own error is


@pytest.mark.parametrize("precision", [name for name in EXACT if PRECISIONS[name].on_cpu])
def test_bf16s_own_error_is_not_told_beside_a_precision_that_is_not_approximate(
    measure_error, precision
):
    error = measure_error(precision=precision, attention="sdpa").embedding_error

    assert error.bf16_relative_l2 is None


@pytest.mark.parametrize("source", ["images", "noise"])
@pytest.mark.parametrize("precision", APPROXIMATE)
def test_bf16s_own_error_is_that_of_the_reference_attention_in_bf16(
    measure_error, precision, source
):
    error = measure_error(precision=precision, attention="sdpa", input=source).embedding_error
    bf16 = measure_error(precision="bf16", attention="reference", input=source).embedding_error

    assert error.bf16_relative_l2 == pytest.approx(bf16.relative_l2, rel=0.2)


@pytest.mark.parametrize("precision", APPROXIMATE)
def test_bf16s_own_error_is_exactly_that_of_the_same_weights_and_image(
    make_case, make_plan, precision
):
    case, plan = make_case(precision=precision), make_plan(seed=4)
    rig = build_rig(case, plan)
    photographs = read_input(case.input, plan, case.image_size, 1)
    encoder = build_sam_model("tiny", image_size=64, seed=4, attention="reference").image_encoder
    bench = Bench(case, plan, rig, [], photographs)
    image = first_image(bench)
    with torch.inference_mode():
        reference = find_reference(bench)
        expected = encoder(image)
        rounded = encoder(image.to(apply_precision(encoder, "bf16", SAM1))).float()

    assert torch.equal(reference.embedding, expected)
    assert reference.bf16_error == float((rounded - expected).norm() / expected.norm())


@pytest.mark.parametrize("precision", APPROXIMATE)
@pytest.mark.parametrize("attention", ["reference", "sdpa"])
def test_a_tiny_models_error_is_above_bf16s_and_within_the_budget(
    measure_error, precision, attention
):
    error = measure_error(precision=precision, attention=attention).embedding_error

    assert 1 < error.relative_l2 / error.bf16_relative_l2 <= PRECISIONS[precision].budget


@pytest.mark.parametrize("precision", APPROXIMATE)
def test_one_model_tells_both_the_reference_and_bf16s_own_error(measure_error, built, precision):
    measure_error(precision=precision)

    assert built == [("tiny", 64)]


@pytest.mark.parametrize("precision", APPROXIMATE)
def test_weights_of_eight_bits_stay_as_they_are_beside_a_reference_in_bf16(
    make_case, make_plan, precision
):
    case, plan = make_case(precision=precision), make_plan(passes=("embedding_error",))
    rig = build_rig(case, plan)
    before = {name: weight.clone() for name, weight in rig.encoder.state_dict().items()}
    measure_case(case, plan, rig, lambda stage: None)
    after = rig.encoder.state_dict()

    assert {name: weight.dtype for name, weight in before.items()} == {
        name: weight.dtype for name, weight in after.items()
    }
    assert all(torch.equal(before[name].float(), after[name].float()) for name in before)


# Where there is none


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_a_note_and_later_passes_are_run(
    make_case, make_plan, value
):
    case, plan = make_case(attention="sdpa"), make_plan(passes=("embedding_error", "flops"))
    rig = build_rig(case, plan)
    encode = rig.encode
    rig.encode = lambda images: torch.full_like(encode(images), value)
    measured = measure_case(case, plan, rig, lambda stage: None)

    assert measured.embedding_error is None
    assert measured.notes["embedding_error"] == "the output holds NaN or infinity"
    assert measured.work.flops > 0
    assert not measured.output.finite


def test_a_reference_that_does_not_fit_is_a_note_and_later_passes_are_run(
    measure_error, monkeypatch
):
    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(embedding_error, "build_reference", fail)
    measured = measure_error(attention="sdpa", passes=("embedding_error", "flops"))

    assert measured.embedding_error is None
    assert measured.notes["embedding_error"].startswith("a model in float32 does not fit")
    assert measured.work.flops > 0
