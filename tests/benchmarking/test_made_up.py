"""A made-up GPU: larger work takes longer, and its parts add up, as with a real one."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarking.demo.demo import GPUS, MODELS_SHOWN, PRECISIONS_SHOWN, make_case
from benchmarking.demo.synthetic_gpu import (
    COMPUTE_SHARE,
    LOOKS,
    MEMORY_SHARE,
    fits,
    kind_of,
    leaves,
    measure,
    module_works,
    part_of,
    peak_bytes,
    watch,
)
from results.hardware.specs import find_spec
from results.records.measurement import ENCODER

GPU = GPUS[0]
SMALL = make_case("vit_b", "bf16", "reference", 4)


@pytest.fixture
def forward_s():
    """The median of a case's forwards, always with the same noise."""

    def ask(case, gpu=GPU, slowness=1.0, factor=1.0):
        random = np.random.default_rng(0)
        measurement = measure(case, gpu, gpu.clock_hz / slowness, factor, random)
        return float(np.median(measurement.latency.forward_s))

    return ask


@pytest.fixture(scope="module")
def measured():
    return measure(SMALL, GPU, GPU.clock_hz, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_what_a_gpus_maker_says_of_it_is_known(gpu):
    assert set(PRECISIONS_SHOWN) <= find_spec(gpu.name).flops_per_s.keys()


@pytest.mark.parametrize("precision", PRECISIONS_SHOWN)
def test_no_gpu_reaches_its_makers_peaks(precision):
    assert 0 < COMPUTE_SHARE[precision] < 1
    assert 0 < MEMORY_SHARE < 1


@pytest.mark.parametrize("model", MODELS_SHOWN)
def test_a_larger_batch_needs_more_memory(model):
    needs = [peak_bytes(make_case(model, "fp32", "reference", size)) for size in (1, 2, 4)]

    assert needs[2] - needs[1] == 2 * (needs[1] - needs[0]) > 0


def test_half_precision_needs_less_memory():
    assert peak_bytes(SMALL) < peak_bytes(make_case("vit_b", "fp32", "reference", 4))


def test_an_attention_that_keeps_no_scores_needs_less_memory():
    assert peak_bytes(make_case("vit_b", "bf16", "sdpa", 4)) < peak_bytes(SMALL)


def test_a_case_that_is_too_large_fits_a_larger_gpu():
    case = make_case("vit_h", "fp32", "reference", 16)

    assert not fits(case, GPUS[0])
    assert fits(case, GPUS[-1])


def test_a_larger_batch_takes_longer(forward_s):
    assert forward_s(make_case("vit_b", "bf16", "reference", 8)) > forward_s(SMALL)


@pytest.mark.parametrize("small", MODELS_SHOWN[:-1])
def test_a_larger_model_takes_longer(forward_s, small):
    large = MODELS_SHOWN[MODELS_SHOWN.index(small) + 1]

    assert forward_s(make_case(large, "bf16", "sdpa", 4)) > forward_s(
        make_case(small, "bf16", "sdpa", 4)
    )


def test_a_lower_clock_takes_longer(forward_s):
    assert forward_s(SMALL, slowness=2) > forward_s(SMALL)


def test_a_better_gpu_is_faster(forward_s):
    assert forward_s(SMALL, GPUS[0]) > forward_s(SMALL, GPUS[1]) > forward_s(SMALL, GPUS[2])


@pytest.mark.parametrize("model", MODELS_SHOWN)
@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_a_factor_makes_the_whole_case_as_many_times_as_long(forward_s, model, gpu):
    case = make_case(model, "bf16", "sdpa", 4)

    assert forward_s(case, gpu, factor=1.5) == pytest.approx(1.5 * forward_s(case, gpu))


def test_a_part_takes_no_less_than_launching_it():
    for name, work in leaves(SMALL).items():
        part = part_of(name, work, SMALL, GPU, 1.0)
        assert part.seconds >= part.launch_s > 0


def test_the_modules_own_times_add_up_to_the_encoders(measured):
    own_s = sum(np.asarray(timing.self_s) for timing in measured.modules.values())

    assert own_s == pytest.approx(np.asarray(measured.modules[ENCODER].total_s))


def test_the_modules_are_those_of_the_encoder(measured):
    assert measured.modules.keys() == {ENCODER, *filter(None, module_works(SMALL))}


def test_a_block_is_as_long_as_its_parts(measured):
    parts = [name for name in measured.modules if name.startswith("blocks.0.")]
    total_s = sum(np.asarray(measured.modules[name].total_s) for name in parts)

    assert len(parts) == 4
    assert total_s == pytest.approx(np.asarray(measured.modules["blocks.0"].total_s))


def test_the_encoder_does_what_its_leaves_do(measured):
    leaf_flops = sum(measured.modules[name].work.flops for name in leaves(SMALL))

    assert leaf_flops == pytest.approx(measured.work.flops, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("patch_embed", "patch_embed"),
        ("neck", "neck"),
        ("blocks.0", "window"),
        ("blocks.2", "global"),
        ("blocks.0.attn", "window attention"),
        ("blocks.2.attn", "global attention"),
        ("blocks.2.mlp", "mlp"),
        ("blocks.0.norm1", "norm"),
        ("blocks.0.norm2", "norm"),
    ],
)
def test_a_module_has_the_kind_that_a_real_one_has(name, kind):
    assert kind_of(name, SMALL) == kind


def test_the_pipelines_encoder_is_the_one_that_is_timed(measured):
    assert np.median(measured.components_s[ENCODER]) == pytest.approx(
        np.median(measured.latency.forward_s), rel=0.05
    )


def test_the_same_noise_measures_the_same(measured):
    assert measure(SMALL, GPU, GPU.clock_hz, 1.0, np.random.default_rng(0)) == measured


def test_a_gpu_under_its_power_cap_says_so():
    capped, free = (watch(GPU, GPU.clock_hz, is_capped, 0) for is_capped in (True, False))

    assert capped.event_reasons == (("power cap",),) * LOOKS
    assert free.event_reasons == ((),) * LOOKS


def test_every_look_has_a_clock():
    assert watch(GPU, 1e9, False, 0).sm_clock_hz == (10**9,) * LOOKS
