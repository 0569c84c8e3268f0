"""What a machine has measured of each case, session after session."""

from __future__ import annotations

import pytest

from results.records.case import AXES, TimingPlan
from results.records.environment import Telemetry
from results.verdicts.baselines import (
    Baseline,
    BaselineError,
    FingerprintError,
    Session,
    check_fingerprint,
    fingerprint,
    judge,
    label_of,
    medians,
    with_session,
)

OTHER_AXES = {
    "model": "vit_l", "batch_size": 8, "image_size": 512, "precision": "fp32",
    "attention": "sdpa", "execution": "compiled", "device": "cpu", "gpu": "H100",
    "input": "noise", "weights": "checkpoints",
}  # fmt: skip


@pytest.fixture
def make_timed(make_record, make_measurement, make_latency):
    """Maker of a record whose forwards take so many seconds."""

    def make(*forward_s, **changes):
        measurement = make_measurement(latency=make_latency(forward_s=forward_s))
        return make_record(measurement=measurement, **changes)

    return make


def session(number, started_at=None):
    at = started_at or f"2025-01-{number:02}T00:00:00Z"
    return Session(sweep_id=f"s{number}", started_at=at, commit=f"{number:040}")


def baseline_of(*seconds, label="a case"):
    """A baseline of one case that took so long in each session."""
    numbers = range(1, len(seconds) + 1)
    return Baseline(
        name="l4", fingerprint={}, sessions=tuple(session(number) for number in numbers),
        cases={label: {f"s{number}": each for number, each in zip(numbers, seconds, strict=True)}},
    )  # fmt: skip


# Labels and medians


@pytest.mark.parametrize("axis", AXES)
def test_cases_that_differ_in_an_axis_have_labels_that_differ(make_case, axis):
    assert label_of(make_case()) != label_of(make_case(**{axis: OTHER_AXES[axis]}))


def test_a_label_tells_every_axis_once(make_case):
    assert label_of(make_case()) == "vit_b b4 1024px bf16 reference eager cuda:0 images random"


def test_a_case_s_time_is_the_median_of_its_forwards_to_seven_digits(make_timed):
    record = make_timed(0.123456789, 0.1, 9.0)

    assert medians([record]) == {label_of(record.case): 0.1234568}


def test_a_case_without_a_time_has_no_median(
    make_record, make_measurement, make_failure, make_timed
):
    untimed = make_record(batch_size=2, measurement=make_measurement(latency=None))
    no_time = make_timed(0.0, 0.0, 0.5, batch_size=8)

    assert medians([make_failure(), untimed, no_time]) == {}


# Sessions


def test_the_first_session_makes_a_baseline(make_timed):
    records = [make_timed(0.1), make_timed(0.2, batch_size=8)]
    made = with_session(None, "l4", session(1), records)

    assert (made.name, made.sessions) == ("l4", (session(1),))
    assert made.fingerprint == fingerprint(records)
    assert made.cases == {
        label_of(records[0].case): {"s1": 0.1}, label_of(records[1].case): {"s1": 0.2},
    }  # fmt: skip


def test_a_session_more_keeps_those_before(make_timed):
    label = label_of(make_timed(0.1).case)
    first = with_session(None, "l4", session(1), [make_timed(0.1)])
    both = with_session(first, "l4", session(2), [make_timed(0.3)])

    assert both.cases == {label: {"s1": 0.1, "s2": 0.3}}
    assert first.cases == {label: {"s1": 0.1}}
    assert both.sessions == (session(1), session(2))


def test_the_same_session_again_changes_nothing(make_timed):
    first = with_session(None, "l4", session(1), [make_timed(0.1)])

    assert with_session(first, "l4", session(1), [make_timed(0.1)]) == first


def test_sessions_are_kept_in_time_s_order_whichever_is_saved_first(make_timed):
    late = with_session(None, "l4", session(9), [make_timed(0.1)])
    both = with_session(late, "l4", session(2), [make_timed(0.1)])

    assert [each.sweep_id for each in both.sessions] == ["s2", "s9"]


def test_a_session_may_bring_cases_that_no_other_had(make_timed):
    first = with_session(None, "l4", session(1), [make_timed(0.1)])
    both = with_session(first, "l4", session(2), [make_timed(0.2, model="vit_l")])

    assert [list(times) for times in both.cases.values()] == [["s1"], ["s2"]]
    assert {"weights of vit_b", "weights of vit_l"} < both.fingerprint.keys()


@pytest.mark.parametrize("records", ["failures", "none"])
def test_a_sweep_without_a_good_case_makes_no_baseline(make_failure, records):
    bad = [] if records == "none" else [make_failure(), make_failure("timeout", batch_size=8)]

    with pytest.raises(BaselineError, match="needs a good case, and this sweep has none"):
        with_session(None, "l4", session(1), bad)


def test_failures_among_good_cases_are_left_out(make_timed, make_failure):
    good = make_timed(0.1)
    made = with_session(None, "l4", session(1), [make_failure(batch_size=8), good])

    assert list(made.cases) == [label_of(good.case)]


@pytest.mark.parametrize(
    "name", ["", "../l4", "a/b", "a b", ".l4", "-l4", "l4.json", "l4\n", "é", "a" * 65]
)
def test_a_name_that_may_leave_the_folder_is_refused(make_timed, name):
    with pytest.raises(ValueError, match="name"):
        with_session(None, name, session(1), [make_timed(0.1)])


# Fingerprints


def on_another(environment, **changes):
    first, second = environment.gpus
    gpu = {name: changes.pop(name) for name in ("name", "memory_bytes") if name in changes}
    gpus = (first.model_copy(update=gpu), second)
    return {"environment": environment.model_copy(update={"gpus": gpus, **changes})}


OTHER_MACHINES = {  # what differs, and how that is told
    "gpu": ({"name": "NVIDIA H200"}, "gpu NVIDIA L4, and this is NVIDIA H200"),
    "gpu memory": ({"memory_bytes": 2**30}, f"gpu memory {24 * 2**30}, and this is {2**30}"),
    "torch": ({"torch": "2.16.0"}, "torch 2.15.0, and this is 2.16.0"),
    "major driver": ({"driver": "580.2"}, "driver 570, and this is 580"),
    "cuda": ({"cuda": "13.0"}, "cuda 12.8, and this is 13.0"),
    "cudnn": ({"cudnn": None}, "cudnn 91002, and this is None"),
}


@pytest.mark.parametrize(("changes", "told"), OTHER_MACHINES.values(), ids=OTHER_MACHINES)
def test_another_machine_is_refused_and_told_apart(make_timed, environment, changes, told):
    first = with_session(None, "l4", session(1), [make_timed(0.1)])
    other = make_timed(0.1, **on_another(environment, **changes))

    with pytest.raises(FingerprintError, match=f"'l4' is of {told}: times can't be compared"):
        with_session(first, "l4", session(2), [other])


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"cpu": "another CPU"}, "cpu a CPU, and this is another CPU"),
     ({"cores": 4}, "cores 8, and this is 4")],
)  # fmt: skip
def test_another_processor_is_refused_where_it_is_what_computes(
    make_timed, environment, changes, told
):
    first = with_session(None, "home", session(1), [make_timed(0.1, device="cpu")])
    elsewhere = on_another(environment, **changes)

    with pytest.raises(FingerprintError, match=told):
        with_session(first, "home", session(2), [make_timed(0.1, device="cpu", **elsewhere)])
    assert fingerprint([make_timed(0.1)]) == fingerprint([make_timed(0.1, **elsewhere)])


OTHER_MEASUREMENTS = {
    "weights": ({"weights": "random, seed 1"}, "weights of vit_b random, seed 0, and this is ra"),
    "input": ({"input_source": "noise"}, "input images b4 4 photographs, and this is noise"),
    "flags": ({"flags": {"threads": 1}}, "flags of bf16 float32_matmul_precision=high, .* and"),
}


@pytest.mark.parametrize(("changes", "told"), OTHER_MEASUREMENTS.values(), ids=OTHER_MEASUREMENTS)
def test_another_way_to_measure_is_refused(make_record, make_measurement, changes, told):
    first = with_session(None, "l4", session(1), [make_record()])
    other = make_record(measurement=make_measurement(**changes))

    with pytest.raises(FingerprintError, match=told):
        with_session(first, "l4", session(2), [other])


def test_a_sweep_whose_larger_batches_take_more_photographs_has_a_fingerprint(
    make_record, make_measurement
):
    records = [
        make_record(
            batch_size=size, measurement=make_measurement(input_source=f"{size + 1} of the photos")
        )
        for size in (1, 8)
    ]

    assert {"input images b1", "input images b8"} < fingerprint(records).keys()


def test_other_weights_of_a_file_are_refused(make_record, make_measurement):
    records = [
        make_record(measurement=make_measurement(weights=f"sha256:{digest * 32}"))
        for digest in ("ab", "cd")
    ]

    first = with_session(None, "l4", session(1), records[:1])

    with pytest.raises(FingerprintError, match="weights of vit_b sha256:abab"):
        with_session(first, "l4", session(2), records[1:])


@pytest.mark.parametrize(
    "other",
    [
        {"plan": TimingPlan(memory_limit_bytes=2**30)},
        {"telemetry": Telemetry(is_mig=True, power_limit_watts=300.0)},
        {"telemetry": Telemetry(is_mig=False, power_limit_watts=200.0)},
    ],
    ids=["memory limit", "mig", "power limit"],
)
def test_another_share_of_a_gpu_is_refused(make_record, other):
    usual = {"telemetry": Telemetry(is_mig=False, power_limit_watts=300.0)}
    first = with_session(None, "l4", session(1), [make_record(**usual)])
    name = "memory limit" if "plan" in other else "mig|power limit"

    with pytest.raises(FingerprintError, match=name):
        with_session(first, "l4", session(2), [make_record(**usual | other)])


@pytest.mark.parametrize(
    "changes", [{"driver": "570.999"}, {"hostname": "other"}, {"git_commit": "1" * 40}, {}], ids=str
)
def test_what_changes_no_time_is_not_looked_at(make_timed, environment, changes):
    first = with_session(None, "l4", session(1), [make_timed(0.1)])
    other = make_timed(0.1, **on_another(environment, **changes))
    both = with_session(first, "l4", session(2), [other])

    assert (len(both.sessions), both.fingerprint) == (2, first.fingerprint)


def test_a_sweep_of_two_gpus_has_no_fingerprint(make_timed):
    with pytest.raises(BaselineError, match="two values of gpu: NVIDIA L4 and NVIDIA L40S"):
        fingerprint([make_timed(0.1), make_timed(0.1, device="cuda:1")])


def test_what_only_one_side_knows_refuses_nothing(make_timed):
    known = with_session(None, "l4", session(1), [make_timed(0.1)])

    check_fingerprint(known, {})
    check_fingerprint(known, {"something new": "1"})


# Judging

QUIET = [1.0, 1.001, 0.999] * 5
JUDGED = {  # known times, the newest, the session before, and what is told
    "no session": ([], 1.0, None, "NOT_COMPARABLE", "not comparable yet: 0 of 10 sessions"),
    "nine sessions": ([1.0] * 9, 9.0, 9.0, "NOT_COMPARABLE", "not comparable yet: 9 of 10"),
    "as before": (QUIET, 1.0, None, "OK", "+0.0% of the median of 15 sessions"),
    "a little slower": (QUIET, 1.029, 1.029, "OK", "+2.9% of the median of 15 sessions"),
    "a little faster": (QUIET, 0.98, None, "OK", "-2.0% of the median of 15 sessions"),
    "slower, once": (QUIET, 1.1, None, "INCONCLUSIVE", "+10.0% of the median of 15 sessions; a"),
    "slower, and not before": (QUIET, 1.1, 1.0, "INCONCLUSIVE", "+10.0%"),
    "slower, twice": (QUIET, 1.1, 1.2, "REGRESSED", "+10.0% of the median of 15 sessions, in two"),
    "slower, after faster": (QUIET, 1.1, 0.5, "INCONCLUSIVE", "+10.0%"),
    "slower before, and no longer": (QUIET, 1.0, 1.5, "OK", "+0.0%"),
    "faster": (QUIET, 0.8, None, "IMPROVED", "-20.0% of the median of 15 sessions"),
    "within what is usual here": ([1.0, 1.2, 0.8] * 5, 1.1, 1.1, "OK", "+10.0%"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("known", "now", "before", "verdict", "reason"), JUDGED.values(), ids=JUDGED
)
def test_a_case_is_judged_beside_its_sessions(known, now, before, verdict, reason):
    others = None if before is None else {"a case": before}
    (judged,) = judge(baseline_of(*known), {"a case": now}, others, 0.03)

    assert (judged.label, judged.verdict, judged.now_s) == ("a case", verdict, now)
    assert judged.reason.startswith(reason)


def test_a_case_that_the_baseline_does_not_know_is_not_comparable_yet():
    (judged,) = judge(baseline_of(*QUIET), {"another case": 1.0}, None, 0.03)

    assert (judged.verdict, judged.band) == ("NOT_COMPARABLE", None)
    assert "sam-bench compare --ab" in judged.reason


def test_a_case_that_was_not_measured_now_is_not_judged():
    assert judge(baseline_of(*QUIET), {}, {"a case": 9.0}, 0.03) == []


@pytest.mark.parametrize(("smallest", "verdict"), [(0.05, "OK"), (0.03, "REGRESSED")])
def test_what_is_reported_is_at_least_what_was_asked_for(smallest, verdict):
    (judged,) = judge(baseline_of(*QUIET), {"a case": 1.04}, {"a case": 1.04}, smallest)

    assert judged.verdict == verdict
