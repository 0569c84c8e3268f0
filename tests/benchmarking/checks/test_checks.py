"""Self-checks: each passes on a GPU that is fine, and says what is wrong with one that is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarking.choices.precision import PRECISIONS
from benchmarking.machine import telemetry
from benchmarking.sweeping.checks import (
    CHECKS,
    Evidence,
    SelfCheck,
    judge,
    judge_accounting,
    judge_drift,
)
from benchmarking.sweeping.runner import judged
from results.records.environment import CoTenant
from results.records.measurement import Modules
from results.records.schema import FAILED, Check, Record

THERMAL, POWER_CAP, IDLE = 0x20, 0x4, 0x1
STRANGER = type("Process", (), {"pid": 4242, "usedGpuMemory": None})


def drifting(index):
    return 0.01 * (1 + 0.005 * index)


def two_states(index):
    return 0.01 if index % 2 else 0.0104  # nearer than what makes a spread


def apart(index):
    return 0.01 * (1 + 0.02 * (index % 7))


# What makes a check fail: the verdict, words of its reason, and what the GPU does.
FAILURES = [
    ("output", "invalid", "NaN or infinity", {"finite": False}),
    ("output", "invalid", "its shape is", {"shape": (1, 256, 4, 4)}),
    ("output", "invalid", "its type is float16", {"dtype": "float16"}),
    ("same_for_any_batch", "invalid", "depends on the batch", {"batch_error": 0.01}),
    ("approximation", "invalid", "err 7.0 times as much as bf16's; fp8 may 6", {
        "precision": "fp8", "error": (0.07, 0.01),
    }),
    ("approximation", "invalid", "err 3.5 times as much as bf16's; int8 may 3", {
        "precision": "int8", "error": (0.035, 0.01),
    }),
    ("steady", "invalid", "became slower", {"times_s": drifting}),
    ("steady", "invalid", "became faster", {"times_s": lambda index: 0.02 - drifting(index)}),
    ("steady", "warn", "became slower", {"times_s": drifting, "forwards": 9}),
    ("spread", "warn", "two clock states", {"times_s": two_states, "forwards": 40}),
    ("spread", "warn", "far apart", {"times_s": apart}),
    ("events", "invalid", "more time than went by", {"pace": 1.02}),
    ("events", "warn", "outside the forwards", {"wait_s": 0.1}),
    ("host", "warn", "host-bound", {"launch_s": 0.0099}),
    ("coverage", "invalid", "longer than the forward", {"covered": 1.03}),
    ("coverage", "warn", "in no timed module", {"covered": 0.8}),
    ("hooks", "warn", "shares only", {"hooks_cost": 1.06}),
    ("physics", "invalid", "the forward was faster than the hardware can be", {
        "flops_per_image": 10**12,
    }),
    ("physics", "invalid", "the forward was faster than the hardware can be", {
        "least_bytes": 10**12,
    }),
    ("physics", "invalid", "the forward was faster than the hardware can be", {
        "times_s": lambda index: 1e-5, "launch_s": 1e-6, "neck_s": 1e-6,
    }),
    ("monotony", "warn", "took less time", {"smaller_s": 0.02}),
    ("monotony", "warn", "faster than the batch", {"smaller_s": 0.004}),
    ("clocks", "invalid", "thermal slowdown by the driver", {
        "GetCurrentClocksEventReasons": THERMAL,
    }),
    ("clocks", "warn", "power cap", {"GetCurrentClocksEventReasons": POWER_CAP}),
    ("company", "warn", "processes 4242", {"GetComputeRunningProcesses": [[STRANGER]]}),
    ("co_tenants", "warn", "other cases ran on this machine at once: GPU-1, process 4243", {
        "co_tenants": (CoTenant(pid=4242, gpu="GPU-1"), CoTenant(pid=4243)),
    }),
    ("timer", "invalid", "does not tell 1 : 2 : 4", {"timer_test_s": (0.01, 0.02, 0.05)}),
    ("resolution", "warn", "too short to tell: neck", {"neck_s": 1e-5}),
]  # fmt: skip
# A pass without which a check has nothing to look at.
PASSES = {
    "output": "output", "same_for_any_batch": "batch_error", "steady": "latency",
    "spread": "latency", "events": "latency", "host": "latency", "coverage": "modules",
    "hooks": "modules", "timer": "timer_test_s", "resolution": "modules",
    "monotony": "latency",
    "approximation": "embedding_error",
}  # fmt: skip
# What a check needs, to have something to look at.
APPLIES = {
    "approximation": {"precision": "int8", "error": (0.02, 0.01)},
    "co_tenants": {"co_tenants": ()},  # a launcher that looked and saw nobody
}


# Each check


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_passes_on_a_gpu_that_is_fine(make_evidence, name):
    check = judge(make_evidence(**APPLIES.get(name, {})))[name]

    assert (check.verdict, check.reason) == ("pass", None)
    assert check.limit == CHECKS[name].limit


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_says_in_words_what_must_hold(name):
    assert CHECKS[name].summary
    assert CHECKS[name].limit


@pytest.mark.parametrize(("name", "verdict", "reason", "changes"), FAILURES)
def test_a_check_says_what_is_wrong(make_evidence, name, verdict, reason, changes):
    check = judge(make_evidence(**changes))[name]

    assert check.verdict == verdict
    assert reason in check.reason


def test_every_check_can_fail():
    assert {name for name, *_ in FAILURES} == set(CHECKS)


@pytest.mark.parametrize("name", PASSES)
def test_a_check_whose_pass_was_not_run_is_absent(make_evidence, name):
    evidence = make_evidence(left_out=(PASSES[name],), **APPLIES.get(name, {}))

    assert name not in judge(Evidence(evidence.record))


@pytest.mark.parametrize("name", ["clocks", "company", "host", "physics"])
def test_what_only_a_gpu_has_is_not_checked_on_a_cpu(make_evidence, name):
    assert name not in judge(make_evidence(device="cpu"))


@pytest.mark.parametrize(
    ("pids", "verdict", "reason"),
    [
        ((4242,), "pass", None),
        ((4242, 4243), "warn", "2 processes used the GPU at once, of which ours is one"),
        ((), "unknown", "in a container NVML's pids can't be told from our own"),
    ],
)
def test_in_a_container_company_is_told_by_the_number(
    make_evidence, monkeypatch, pids, verdict, reason
):
    monkeypatch.setattr(telemetry, "sees_host_pids", lambda: False)
    seen = [type("Process", (), {"pid": pid, "usedGpuMemory": None}) for pid in pids]
    check = judge(make_evidence(GetComputeRunningProcesses=[seen]))["company"]

    assert (check.verdict, check.reason) == (verdict, reason)


def test_where_nobody_looked_for_other_cases_there_is_no_check_of_them(make_evidence):
    assert "co_tenants" not in judge(make_evidence(co_tenants=None))


def test_the_value_of_co_tenants_is_their_number(make_evidence):
    tenants = tuple(CoTenant(pid=pid) for pid in (1, 2, 3))

    assert judge(make_evidence(co_tenants=tenants))["co_tenants"].value == 3


def test_hooks_that_seem_dear_in_too_few_forwards_are_not_judged(make_evidence):
    evidence = make_evidence(hooks_cost=1.2)
    measurement = evidence.measurement
    few = {
        name: each.model_copy(update={"total_s": each.total_s[:5], "self_s": each.self_s[:5]})
        for name, each in measurement.modules.items()
    }
    plain_s = measurement.plain_forward_s[:5]
    quick = measurement.with_passes(modules=Modules(timings=few, plain_forward_s=plain_s))
    check = judge(Evidence(evidence.record.model_copy(update={"measurement": quick})))["hooks"]

    assert check.verdict == "unknown"
    assert check.reason == "5 forwards are too few to tell"


def test_a_drift_under_heat_is_not_judged(make_evidence):
    evidence = make_evidence()
    slow = [each * 1.2 for each in evidence.forward_s]
    hot = evidence.record.telemetry.model_copy(
        update={"event_reasons": ((), ("thermal slowdown by the driver",))}
    )
    check = judge_drift(evidence.record, slow, hot)

    assert check.verdict == "unknown"
    assert "throttled the second time: thermal slowdown by the driver" in check.reason


def test_a_case_with_no_measured_pass_has_no_check_of_one(make_evidence):
    nothing = (*PASSES.values(), "flops")
    evidence = make_evidence(device="cpu", left_out=nothing)

    assert judge(Evidence(evidence.record)) == {}


@pytest.mark.parametrize(
    ("name", "call"),
    [("clocks", "GetCurrentClocksEventReasons"), ("company", "GetComputeRunningProcesses")],
)
def test_what_nvml_does_not_tell_is_unknown_with_its_reason(make_evidence, nvml_error, name, call):
    check = judge(make_evidence(**{call: nvml_error}))[name]

    assert (check.verdict, check.value, check.reason) == ("unknown", None, "Not Supported")


def test_an_idle_gpu_is_fine(make_evidence):
    check = judge(make_evidence(GetCurrentClocksEventReasons=IDLE))["clocks"]

    assert check.verdict == "pass"


def test_a_slowdown_that_ended_before_the_case_began_is_fine(make_evidence):
    check = judge(make_evidence(GetCurrentClocksEventReasons=[THERMAL, 0]))["clocks"]

    assert check.verdict == "pass"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_has_its_tolerance_between_batches(make_evidence, make_case, precision):
    evidence = make_evidence(batch_error=0.5)
    case = make_case(device="cuda:0", precision=precision)
    record = evidence.record.model_copy(update={"case": case})

    assert judge(Evidence(record))["same_for_any_batch"].verdict == "invalid"


def test_a_module_that_is_never_called_is_no_fault(make_evidence):
    evidence = make_evidence()
    measurement = evidence.measurement
    idle = measurement.modules["neck"].model_copy(update={"total_s": (), "self_s": ()})
    modules = Modules(timings=measurement.modules | {"idle": idle})
    record = evidence.record.model_copy(
        update={"measurement": measurement.with_passes(modules=modules)}
    )
    verdicts = {name: check.verdict for name, check in judge(Evidence(record)).items()}

    assert set(verdicts.values()) == {"pass"}


# Noise and trends


@pytest.mark.parametrize("forwards", [3, 5, 10, 30, 100])
def test_noise_alone_makes_no_case_invalid(make_evidence, forwards):
    random = np.random.default_rng(seed=forwards)
    evidence = make_evidence()
    found = []
    for _ in range(300):
        sigma = random.choice([0.02, 0.1, 0.5])
        samples = tuple(0.01 * np.exp(random.normal(0, sigma, forwards)))
        latency = evidence.measurement.latency.model_copy(
            update={
                "forward_s": samples, "chunk_forwards": (forwards,),
                "chunk_wall_s": (sum(samples),), "chunk_launch_s": (1e-3,),
            }
        )  # fmt: skip
        measurement = evidence.measurement.with_passes(latency=latency)
        noisy = evidence.record.model_copy(update={"measurement": measurement})
        found += judge(Evidence(noisy, evidence.smaller)).values()

    assert [check for check in found if check.verdict == "invalid"] == []


@pytest.mark.parametrize(("device", "verdict"), [("cuda:0", "invalid"), ("cpu", "warn")])
@pytest.mark.parametrize(
    ("name", "changes"),
    [("steady", {"times_s": drifting}), ("timer", {"timer_test_s": (0.01, 0.02, 0.05)})],
)
def test_what_a_busy_host_may_do_is_grave_on_a_gpu_alone(
    make_evidence, name, changes, device, verdict
):
    assert judge(make_evidence(device=device, **changes))[name].verdict == verdict


def test_a_trend_within_noise_is_found_too(make_evidence):
    noise = np.random.default_rng(seed=0).normal(1, 0.01, 1000)
    check = judge(make_evidence(times_s=lambda index: drifting(index) * noise[index], forwards=50))[
        "steady"
    ]

    assert check.verdict == "invalid"
    assert check.value == pytest.approx(0.25, rel=0.2)


def test_one_outlier_is_no_trend(make_evidence):
    check = judge(make_evidence(times_s=lambda index: 0.5 if index == 19 else 0.01))["steady"]

    assert check.verdict == "pass"


# What follows for a case


def test_an_invalid_check_makes_the_case_invalid_with_its_reason(make_evidence):
    evidence = make_evidence(finite=False, pace=1.02)
    record = judged(evidence.record, judge(evidence))

    assert record.status == "invalid"
    assert record.status in FAILED
    assert record.stage == "self-checks"
    assert record.message == (
        "output: it holds NaN or infinity; events: the clock counts more time than went by"
    )


def test_an_invalid_case_keeps_its_measurement(make_evidence):
    evidence = make_evidence(finite=False)

    assert judged(evidence.record, judge(evidence)).measurement == evidence.measurement


def test_warnings_leave_a_case_as_it_is(make_evidence):
    evidence = make_evidence(covered=0.8, hooks_cost=1.06, wait_s=0.1)
    record = judged(evidence.record, judge(evidence))
    warned = {name for name, check in record.checks.items() if check.verdict == "warn"}

    assert (record.status, record.message) == ("ok", None)
    assert warned == {"coverage", "hooks", "events"}


def test_a_case_that_failed_stays_so_whatever_the_checks_find(make_evidence):
    evidence = make_evidence(finite=False)
    failed = evidence.record.model_copy(update={"status": "oom", "message": "no memory"})
    record = judged(failed, judge(evidence))

    assert (record.status, record.message) == ("oom", "no memory")
    assert record.checks["output"].verdict == "invalid"


def test_findings_come_back_from_json(make_evidence):
    evidence = make_evidence(covered=0.8)
    record = judged(evidence.record, judge(evidence))

    assert Record.model_validate_json(record.model_dump_json()).checks == record.checks


def test_a_value_that_is_no_number_is_left_out(make_evidence, monkeypatch):
    found = judge(make_evidence())["output"]
    nan = type("Found", (), {"value": math.nan, "verdict": "warn", "reason": None})
    monkeypatch.setitem(
        CHECKS, "output", type(CHECKS["output"])("", found.limit, lambda evidence: nan)
    )

    assert judge(make_evidence())["output"] == Check(
        value=None, limit=found.limit, verdict="warn", reason=None
    )


# A sweep's own checks

DRIFTS = {
    "none": (1.0, "cuda:0", "pass"),
    "below 2 %": (1.019, "cuda:0", "pass"),
    "above 2 %": (1.03, "cuda:0", "warn"),
    "above 2 %, faster": (0.97, "cuda:0", "warn"),
    "above 5 %": (1.06, "cuda:0", "invalid"),
    "above 5 %, faster": (0.94, "cuda:0", "invalid"),
    "above 5 % on a CPU": (1.5, "cpu", "warn"),
}


@pytest.mark.parametrize(("factor", "device", "verdict"), DRIFTS.values(), ids=DRIFTS)
def test_drift_is_judged_by_how_far_the_median_moved(make_evidence, factor, device, verdict):
    evidence = make_evidence(device=device)
    check = judge_drift(evidence.record, [each * factor for each in evidence.forward_s])

    assert check.verdict == verdict
    assert check.value == pytest.approx(factor - 1)


@pytest.mark.parametrize("last", [[0.012] * 5, [0.005, 0.012, 0.012, 0.012, 0.012, 0.012, 0.012]])
def test_a_drift_that_is_not_certain_only_warns(make_evidence, last):
    assert judge_drift(make_evidence().record, last).verdict == "warn"


def test_every_planned_case_must_have_a_record():
    good, bad = judge_accounting(3, {"ok": 2, "oom": 1}), judge_accounting(4, {"ok": 3})

    assert (good.verdict, good.value) == ("pass", 0)
    assert (bad.verdict, bad.value) == ("invalid", 1)
    assert bad.reason == "4 cases are planned, 3 have a record"


def test_a_defect_of_a_check_costs_neither_the_measurement_nor_the_other_checks(
    make_evidence, monkeypatch
):
    def fail(evidence):
        raise ZeroDivisionError("by a defect")

    monkeypatch.setitem(CHECKS, "spread", SelfCheck("", "", fail))
    found = judge(make_evidence())

    assert found["spread"].verdict == "unknown"
    assert found["spread"].reason == "the check itself failed: ZeroDivisionError('by a defect')"
    assert found["output"].verdict == "pass"


def test_the_value_of_monotony_is_the_one_that_failed(make_evidence):
    assert judge(make_evidence(smaller_s=0.004))["monotony"].value < 0
