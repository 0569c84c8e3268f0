"""`sam-bench check --baseline`: times beside those that a baseline keeps; and files for a CI."""

from __future__ import annotations

import json

import pytest

CHECK = "check -m tiny -s 128 -b 1"
VARIANT = "reference 128px fp32"
NORMAL_S = [0.25 + 0.0005 * number for number in range(10)]  # whose median is 0.25225
SLOW_S = 0.3
ADVICE = "not comparable yet: 9 of 10 sessions; until then: sam-bench compare --ab"

pytestmark = pytest.mark.usefixtures("counted")


@pytest.fixture
def measure(make_store, make_record):
    """Store a session of each of these medians, a day after another; give the sweeps' ids."""
    made = []

    def store(*medians, **changes):
        ids = []
        for median_s in medians:
            day = f"{len(made) + 1:02}"
            record = make_record(
                sweep_id=f"202501{day}-030405-abcdef", started_at=f"2025-01-{day}T03:04:05Z",
                **changes,
            )  # fmt: skip
            latency = record.measurement.latency.model_copy(update={"forward_s": (median_s,) * 8})
            measurement = record.measurement.with_passes(latency=latency)
            make_store(record.model_copy(update={"measurement": measurement}))
            ids.append(record.sweep_id)
            made.append(record.sweep_id)
        return ids

    return store


@pytest.fixture
def baseline(expected, invoke, measure):
    """A baseline of ten normal sessions."""
    assert invoke("baseline save mine", *measure(*NORMAL_S)).exit_code == 0


@pytest.fixture
def judge(invoke, tmp_path):
    """Check beside the baseline; give the exit code, the first verdict and its reason."""

    def check(*flags):
        result = invoke(f"{CHECK} --baseline mine --json found.json", *flags)
        told, *_ = json.loads((tmp_path / "found.json").read_text())["findings"]
        return result.exit_code, told["verdict"], told["why"]

    return check


def test_with_nine_sessions_a_slow_one_fails_nothing(expected, invoke, measure, judge):
    invoke("baseline save mine", *measure(*NORMAL_S[:9]))
    measure(SLOW_S, SLOW_S)

    assert judge() == (0, "NOT_COMPARABLE", ADVICE)


SESSIONS = {
    "normal": ([0.253], 0, "OK", "+0.3%"),
    "slow": ([SLOW_S], 3, "INCONCLUSIVE", "a second session must confirm it"),
    "slow twice": ([SLOW_S, 0.31], 1, "REGRESSED", "+22.9% of the median of 10 sessions, in two"),
    "slow, then normal": ([SLOW_S, 0.253], 0, "OK", "+0.3%"),
    "normal, then slow": ([0.253, SLOW_S], 3, "INCONCLUSIVE", "measure the same again"),
    "slow, normal, slow": ([SLOW_S, 0.253, SLOW_S], 3, "INCONCLUSIVE", "+18.9%"),
    "fast": ([0.2], 0, "IMPROVED", "-20.7%"),
    "slower by less than what is reported": ([0.258], 0, "OK", "+2.3%"),
}


@pytest.mark.parametrize(("sessions", "code", "verdict", "reason"), SESSIONS.values(), ids=SESSIONS)
def test_new_sessions_are_judged_by_ten_known_ones(
    baseline, measure, judge, sessions, code, verdict, reason
):
    measure(*sessions)
    told = judge()

    assert told[:2] == (code, verdict)
    assert reason in told[2]


@pytest.mark.parametrize(("smallest", "code"), [("50%", 0), ("10%", 1)])
def test_what_is_reported_begins_at_smallest(baseline, measure, judge, smallest, code):
    measure(SLOW_S, SLOW_S)

    assert judge("--smallest", smallest)[0] == code


def test_a_case_that_the_baseline_lacks_fails_nothing(baseline, measure, judge):
    measure(SLOW_S, batch_size=4)

    assert judge() == (0, "NOT_COMPARABLE", ADVICE.replace("9 of", "0 of"))


def test_a_case_of_the_baseline_that_is_not_measured_now_is_told(
    baseline, measure, invoke, tmp_path
):
    measure(SLOW_S, batch_size=4)
    invoke(f"{CHECK} --baseline mine --json found.json")
    told = json.loads((tmp_path / "found.json").read_text())["findings"]

    assert [(each["what"], each["why"]) for each in told[1:]] == [
        ("tiny b2 64px fp32 reference eager cpu noise random", "it was not measured now")
    ]


def test_a_case_of_the_baseline_that_fails_now_fails_the_gate(
    baseline, judge, make_store, make_record
):
    make_store(
        make_record(
            "oom", sweep_id="20250111-030405-abcdef", started_at="2025-01-11T03:04:05Z",
            message="out of memory",
        ),
        make_record(
            batch_size=4, sweep_id="20250111-030405-abcdef", started_at="2025-01-11T03:04:05Z"
        ),
    )  # fmt: skip
    code, *_ = judge()

    assert code == 5


def test_the_verdict_is_shown_with_the_case(baseline, invoke, measure):
    measure(SLOW_S)
    result = invoke(f"{CHECK} --baseline mine")
    row = next(line for line in result.stdout.splitlines() if "INCONCLUSIVE" in line)

    assert "tiny b2 64px" in row


OTHERS = {
    "torch": ({"torch": "2.14.0"}, "torch 2.15.0, and this is 2.14.0"),
    "CPU": ({"cpu": "another CPU"}, "cpu a CPU, and this is another CPU"),
    "cores": ({"cores": 4}, "cores 8, and this is 4"),
}


@pytest.mark.parametrize(("changes", "named"), OTHERS.values(), ids=OTHERS)
def test_another_machine_is_not_compared_and_what_differs_is_named(
    baseline, invoke, measure, environment, changes, named
):
    measure(0.25, environment=environment.model_copy(update=changes))
    result = invoke(f"{CHECK} --baseline mine")

    assert result.exit_code == 4
    assert f"Baseline 'mine' is of {named}: times can't be compared." in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_facts_that_differ_fail_on_another_machine_too(
    baseline, invoke, measure, environment, counted
):
    measure(0.25, environment=environment.model_copy(update={"cores": 4}))
    counted["parameters"] = 2
    result = invoke(f"{CHECK} --baseline mine")

    assert result.exit_code == 1
    assert "1 facts differ" in result.stdout
    assert "times can't be compared" in result.stderr


def test_a_slow_session_of_another_machine_confirms_nothing(baseline, measure, judge, environment):
    measure(SLOW_S, environment=environment.model_copy(update={"cores": 4}))
    measure(SLOW_S)

    assert judge()[:2] == (3, "INCONCLUSIVE")


def test_where_there_is_no_new_sweep_it_is_one_line(baseline, invoke, mistake):
    line = mistake(invoke(f"{CHECK} --baseline mine"))

    assert "'runs' holds no sweep that baseline 'mine' does not keep" in line
    assert line.endswith("measure one with sam-bench sweep.")


def test_a_sweep_without_a_good_case_is_one_line(
    baseline, invoke, make_store, make_record, mistake
):
    make_store(make_record("oom", sweep_id="20250201-030405-abcdef"))

    assert "needs a good case" in mistake(invoke(f"{CHECK} --baseline mine"))


def test_a_baseline_that_is_not_there_is_one_line(expected, invoke, mistake):
    line = mistake(invoke(f"{CHECK} --baseline gone"))

    assert "'baselines/gone.json': there is no such file" in line
    assert "sam-bench baseline save" in line


@pytest.mark.parametrize("content", ["", "{}", "[" * 200_000, '{"schema_version": 999}'])
def test_a_baseline_that_can_not_be_used_is_one_line(baseline, invoke, tmp_path, mistake, content):
    (tmp_path / "baselines" / "mine.json").write_text(content)

    assert "'baselines/mine.json': " in mistake(invoke(f"{CHECK} --baseline mine"))


@pytest.mark.parametrize("name", ["../mine", "accepted", "", "a" * 300, "a\x1b[31m", "facts/tiny"])
def test_a_name_that_no_baseline_has_is_one_line(baseline, invoke, mistake, name):
    assert "A baseline's name must be" in mistake(invoke(f"{CHECK} --baseline", name))


@pytest.mark.parametrize("smallest", ["3", "0.03", "300%", "-3%", "NaN%", "٣%"])
def test_the_unit_of_smallest_is_never_guessed(invoke, mistake, smallest):
    assert "must be a percentage with its sign" in mistake(invoke(CHECK, "--smallest", smallest))
