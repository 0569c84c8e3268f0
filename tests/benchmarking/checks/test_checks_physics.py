"""Nothing is faster than the hardware can be: neither in computing nor in moving bytes."""

from __future__ import annotations

import pytest

from benchmarking.choices.precision import PRECISIONS
from benchmarking.sweeping.checks import Evidence, judge
from results.hardware.specs import Spec
from results.records.measurement import Modules, Work

KNOWN_GPU = "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_has_its_peak(make_evidence, make_case, precision):
    evidence = make_evidence()
    case = make_case(device="cuda:0", precision=precision)
    record = evidence.record.model_copy(update={"case": case})

    assert judge(Evidence(record))["physics"].verdict == "pass"


NECK_WORKS = {
    "too much to compute": (10**12, 0, "neck was faster than the hardware can be"),
    "too much to move": (0, 10**10, "neck was faster than the hardware can be"),
    "what it can do": (10**9, 10**7, None),
}


@pytest.mark.parametrize(("flops", "least_bytes", "reason"), NECK_WORKS.values(), ids=NECK_WORKS)
def test_each_module_is_held_against_physics_and_named(make_evidence, flops, least_bytes, reason):
    evidence = make_evidence()
    measurement = evidence.measurement
    work = Work(flops=flops, least_flops=0, least_bytes=least_bytes)
    neck = measurement.modules["neck"].model_copy(update={"work": work})
    modules = Modules(timings=measurement.modules | {"neck": neck})
    changed = measurement.with_passes(modules=modules)
    record = evidence.record.model_copy(update={"measurement": changed})

    assert judge(Evidence(record))["physics"].reason == reason


CACHE = 50 * 2**20  # of KNOWN_GPU, which moves 33.5 MB in the 10 us of these forwards
QUICKLY = {"times_s": lambda index: 1e-5, "launch_s": 1e-6, "neck_s": 1e-6, "flops_per_image": 1}
MOVED = {
    "what fits the cache": (CACHE, "pass"),
    "what could be moved beside it": (CACHE + 33_000_000, "pass"),
    "what could not": (CACHE + 34_000_000, "invalid"),
}


@pytest.mark.parametrize(("least_bytes", "verdict"), MOVED.values(), ids=MOVED)
def test_bytes_that_do_not_fit_the_cache_take_time(make_evidence, least_bytes, verdict):
    assert judge(make_evidence(**QUICKLY, least_bytes=least_bytes))["physics"].verdict == verdict


def test_the_value_of_physics_is_the_floor_over_the_time(make_evidence):
    """2 images of 67 GFLOP, at 67 TFLOP/s in fp32, in 10 ms."""
    check = judge(make_evidence(flops_per_image=67 * 10**9))["physics"]

    assert check.value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("gpu", "tera", "verdict"),
    [(KNOWN_GPU, 0.1, "invalid"), (KNOWN_GPU, 1.0, "pass"), ("NVIDIA L40", 0.1, "invalid")],
)
def test_a_person_s_own_peaks_win(make_evidence, gpu, tera, verdict):
    """Of 2 GFLOP in 10 ms, which take 20 ms at 0.1 TFLOP/s."""
    evidence = make_evidence(gpu=gpu)
    own = {gpu: Spec({"fp32": tera * 1e12}, bytes_per_s=1e12, cache_bytes=0, source="mine")}

    assert judge(Evidence(evidence.record, peaks=own))["physics"].verdict == verdict


def test_a_precision_that_a_gpu_lacks_is_not_held_against_a_case(make_evidence, make_case):
    evidence = make_evidence(gpu="Tesla T4")
    case = make_case(device="cuda:0", precision="bf16")
    check = judge(Evidence(evidence.record.model_copy(update={"case": case})))["physics"]

    assert (check.verdict, check.value) == ("unknown", None)
    assert check.reason == "no peak of 'Tesla T4' in bf16 is known"


def test_what_was_calibrated_is_no_limit_that_nature_sets(make_evidence, made_up_gpu):
    slow = made_up_gpu.MadeUpGpu(flops_per_s=1.0)
    roofs = slow.roofs(products={"fp32": slow.roofs().products["bf16"]})
    record = make_evidence().record.model_copy(update={"roofs": roofs})

    assert judge(Evidence(record))["physics"].verdict == "pass"


def test_a_gpu_that_is_not_known_is_not_held_against_a_case(make_evidence):
    check = judge(make_evidence(gpu="NVIDIA L40"))["physics"]

    assert (check.verdict, check.value) == ("unknown", None)
    assert "no row for 'NVIDIA L40'" in check.reason
