"""Where a cell became slower or faster over days and commits, and stayed so."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from results.answers.history import (
    FEWEST_SESSIONS,
    IN_A_ROW,
    MOST_SESSIONS,
    Band,
    Step,
    find_steps,
    history_frame,
    predict,
)
from results.records.case import TimingPlan
from results.tables.frames import case_frame


def noise(seed, sessions, spread=0.005):
    """Sessions around 0.1 s."""
    return list(0.1 * np.random.default_rng(seed).lognormal(0, spread, sessions))


def times(factor, values):
    return [factor * value for value in values]


# What is predicted


@pytest.mark.parametrize("sessions", range(FEWEST_SESSIONS))
def test_fewer_than_ten_sessions_predict_nothing(sessions):
    assert predict([0.1] * sessions) is None


@pytest.mark.parametrize("sessions", [10, 20])
def test_a_band_is_of_the_median_the_mad_and_students_t(sessions):
    values = noise(sessions, sessions)
    mad = stats.median_abs_deviation(values, scale="normal")
    half = mad * stats.t.ppf(0.975, sessions - 1) * math.sqrt(1 + 1 / sessions)
    band = predict(values)

    assert band.middle == np.median(values)
    assert (band.low, band.high) == pytest.approx(
        (band.middle - half, band.middle + half), rel=1e-4
    )


@pytest.mark.parametrize("sessions", [10, 20])
def test_a_band_holds_about_nine_in_ten_of_the_sessions_that_follow(sessions):
    rows = np.random.default_rng(sessions).normal(1, 0.05, (2000, sessions + 1))
    bands = [predict(row[:-1]) for row in rows]
    held = np.mean(
        [band.low <= row[-1] <= band.high for band, row in zip(bands, rows, strict=True)]
    )

    # Its 95 % are those of a mean and a standard deviation, which a MAD of so few falls short of.
    assert 0.88 < held < 0.97


def test_bad_days_do_not_widen_a_band():
    values = noise(0, 18)
    calm, with_bad_days = predict(values), predict([*values, 0.5, 0.9])

    assert with_bad_days.high < 1.02 * calm.high


BAND = Band(low=0.9, middle=1.0, high=1.1)


@pytest.mark.parametrize(
    ("value", "sign", "expected"),
    [
        (1.2, 1, True), (1.1, 1, False), (1.0, 1, False), (0.8, 1, False), (0.8, -1, True),
        (0.9, -1, False), (1.2, -1, False), (0.0, -1, True), (0.0, 1, False), (1e300, 1, True),
    ],
)  # fmt: skip
def test_a_value_is_beyond_a_band_on_its_own_side(value, sign, expected):
    assert BAND.is_beyond(value, sign) is expected


@pytest.mark.parametrize(("sign", "least"), [(1, 1.03), (-1, 1 / 1.03)])
def test_what_is_beyond_a_narrow_band_must_differ_by_3_percent_too(sign, least):
    band = Band(1.0, 1.0, 1.0)

    assert not band.is_beyond(least * (1 - sign * 1e-6), sign)
    assert band.is_beyond(least * (1 + sign * 1e-6), sign)


def test_nothing_is_too_short_to_be_compared_with():
    assert Band(0.0, 0.0, 0.0).is_beyond(0.1, 1)


# Steps


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.1, 1.5, 10.0])
@pytest.mark.parametrize("before", [10, 15, 40])
def test_a_step_begins_at_the_first_session_of_the_new_level(before, factor):
    values = [*noise(1, before), *times(factor, noise(2, 5))]
    (step,) = find_steps(values)

    assert step.at == before
    assert step.ratio == pytest.approx(factor, rel=0.02)


@pytest.mark.parametrize("factor", [0.5, 1.04, 2.0])
def test_identical_sessions_have_a_step_where_another_value_begins(factor):
    values = [1.0] * 12 + [factor] * 8

    assert find_steps(values) == [Step(12, factor)]


@pytest.mark.parametrize("values", [[], [0.1], [0.1] * 60, [0.0] * 60], ids=len)
def test_sessions_that_are_all_alike_have_no_step(values):
    assert find_steps(values) == []


def test_noise_alone_is_hardly_ever_a_step():
    found = sum(len(find_steps(noise(seed, 100, spread=0.03))) for seed in range(40))

    assert found <= 2  # of nearly 4,000 sessions


@pytest.mark.parametrize("seed", range(10))
def test_little_noise_is_never_a_step(seed):
    assert find_steps(noise(seed, 100, spread=0.005)) == []


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_less_than_3_percent_is_no_step_however_clear(factor):
    assert find_steps([1.0] * 20 + [factor] * 20) == []


BAD = {
    "one bad session": [1.5],
    "two bad sessions": [1.5, 1.5],
    "two of three": [1.5, 1.0, 1.5],
    "two of three, again and again": [1.5, 1.5, 1.0] * 2,
    "once slower and once faster": [1.5, 0.6, 1.5],
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_fewer_than_three_bad_sessions_in_a_row_are_no_step(bad):
    assert find_steps([*noise(3, 20), *times(0.1, bad), *noise(4, 10)]) == []


def test_a_step_after_a_bad_session_begins_where_it_begins():
    values = [*noise(5, 20), 0.5, *noise(6, 5), *times(1.2, noise(7, 5))]

    assert [step.at for step in find_steps(values)] == [26]


def test_a_step_down_right_after_bad_sessions_is_found():
    values = [*noise(5, 20), 0.5, 0.5, *times(0.8, noise(7, 3))]

    assert [step.at for step in find_steps(values)] == [22]


@pytest.mark.parametrize("before", [3, 6, 9])
def test_where_fewer_than_ten_came_before_nothing_is_judged(before):
    values = noise(8, before) + [9.0] * 20

    assert find_steps(values[: FEWEST_SESSIONS + IN_A_ROW - 1]) == []
    assert all(step.at >= FEWEST_SESSIONS for step in find_steps(values))


def test_a_step_is_known_at_the_third_session_and_not_before():
    values = noise(9, 12) + [0.2] * IN_A_ROW

    assert find_steps(values[:-1]) == []
    assert [step.at for step in find_steps(values)] == [12]


def test_after_a_step_the_new_level_is_judged_by_itself():
    values = noise(1, 12) + times(2, noise(2, 12)) + times(3, noise(3, 12))
    steps = find_steps(values)

    assert [step.at for step in steps] == [12, 24]
    assert [step.ratio for step in steps] == pytest.approx([2, 1.5], rel=0.02)


def test_a_new_level_needs_ten_sessions_of_its_own_to_be_judged():
    values = noise(1, 12) + times(2, noise(2, 5)) + times(3, noise(3, 20))
    first, *later = (step.at for step in find_steps(values))

    assert first == 12
    assert all(at >= 12 + FEWEST_SESSIONS for at in later)


def test_what_returns_to_its_old_level_has_two_steps():
    values = noise(1, 12) + times(2, noise(2, 15)) + noise(3, 12)
    steps = find_steps(values)

    assert [step.at for step in steps] == [12, 27]
    assert steps[0].ratio * steps[1].ratio == pytest.approx(1, rel=0.02)


def test_no_more_than_the_twenty_sessions_before_tell_what_is_normal():
    creeping = list(0.1 * 1.002 ** np.arange(80))  # 17 % in all, 4 % in twenty sessions
    early, late = creeping[:MOST_SESSIONS], creeping[-MOST_SESSIONS:]

    assert find_steps(creeping + [1.06 * creeping[-1]] * 3)[-1].ratio == pytest.approx(
        1.06 * creeping[-1] / np.median(late)
    )
    assert predict(early).high < predict(late).low


@pytest.mark.parametrize("factor", [1e-6, 1000.0])
def test_the_unit_of_time_is_nothing_to_a_step(factor):
    values = [*noise(1, 15), *times(1.3, noise(2, 5))]
    plain, scaled = find_steps(values), find_steps(times(factor, values))

    assert [step.at for step in scaled] == [step.at for step in plain] == [15]
    assert scaled[0].ratio == pytest.approx(plain[0].ratio)


# As a table


@pytest.fixture
def make_sessions(make_record, make_measurement, make_latency):
    """Maker of a frame: a session a day, a case that takes so many seconds in each."""

    def make(seconds, day=0, **changes):
        records = []
        for number, each in enumerate(seconds, start=day):
            measurement = make_measurement(latency=make_latency(forward_s=(each,) * 7))
            when = {"sweep_id": f"s{number}", "started_at": f"2025-{1 + number // 28:02}-"
                    f"{1 + number % 28:02}T00:00:00Z"}  # fmt: skip
            records.append(make_record(measurement=measurement, **when, **changes))
        return case_frame(records)

    return make


def test_a_row_is_a_session_with_its_number_and_the_step_that_begins_there(make_sessions):
    rows = history_frame(make_sessions([0.4] * 12 + [0.8] * 4))

    assert list(rows["session"]) == list(range(1, 17))
    assert rows.set_index("session")["step"].dropna().to_dict() == {13: 2.0}


def test_rows_are_in_time_s_order_whatever_theirs_was(make_sessions):
    cases = make_sessions([0.4] * 12 + [0.8] * 4)
    rows = history_frame(cases)
    shuffled = history_frame(cases.sample(frac=1, random_state=0))

    assert shuffled["started_at"].is_monotonic_increasing
    assert list(shuffled["step"].fillna(0)) == list(rows["step"].fillna(0))


OTHERS = {
    "batch size": {"batch_size": 8},
    "attention": {"attention": "sdpa"},
    "weights": {"weights": "checkpoints"},
    "GPU": {"device": "cuda:1"},
    "memory limit": {"plan": TimingPlan(memory_limit_bytes=2**30)},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_is_no_equal_case_on_one_device_is_a_series_of_its_own(make_sessions, other):
    both = pd.concat([make_sessions([0.4] * 12), make_sessions([0.8] * 5, day=12, **other)])
    rows = history_frame(both)

    assert list(rows.groupby("series").size()) == [12, 5]
    assert rows["step"].isna().all()


def test_another_gpu_under_the_same_name_is_a_series_of_its_own(make_sessions, environment):
    first, second = environment.gpus
    exchanged = {"gpus": (first.model_copy(update={"uuid": "GPU-9"}), second)}
    other = environment.model_copy(update=exchanged)
    both = pd.concat([make_sessions([0.4] * 12), make_sessions([0.8] * 5, 12, environment=other)])

    assert list(history_frame(both).groupby("series").size()) == [12, 5]


@pytest.mark.parametrize("field", ["hostname", "git_commit", "torch", "source_sha256"])
def test_sessions_of_other_commits_and_installations_are_of_one_series(
    make_sessions, environment, field
):
    later = environment.model_copy(update={field: "another"})
    rows = history_frame(
        pd.concat([make_sessions([0.4] * 12), make_sessions([0.8] * 3, 12, environment=later)])
    )

    assert set(rows["series"]) == {0}
    assert rows.loc[rows["session"] == 13, "step"].tolist() == [2.0]


def test_rows_with_equal_indices_have_no_step_of_one_another(make_sessions):
    stepping, calm = make_sessions([0.4] * 12 + [0.8] * 3), make_sessions([0.4] * 15, batch_size=2)
    rows = history_frame(pd.concat([stepping, calm]))

    assert rows["step"].notna().sum() == 1
    assert rows.loc[rows["step"].notna(), "batch_size"].tolist() == [4]


def test_a_case_that_was_measured_once_has_no_history(make_sessions):
    assert history_frame(make_sessions([0.4])).empty


def test_cases_that_failed_are_no_sessions(make_sessions, make_failure):
    failed = case_frame([make_failure(sweep_id=f"f{number}") for number in range(3)])
    rows = history_frame(pd.concat([make_sessions([0.4] * 3), failed.astype(object)]))

    assert list(rows["status"]) == ["ok"] * 3


def test_a_session_that_took_no_time_is_none(make_sessions):
    rows = history_frame(make_sessions([0.0] * 12 + [0.4] * 5))

    assert list(rows["image_s"]) == [0.1] * 5
    assert rows["step"].isna().all()


@pytest.mark.parametrize("records", ["none", "failures"])
def test_without_good_cases_there_is_an_empty_table_of_the_same_columns(
    make_sessions, make_failure, records
):
    cases = case_frame([] if records == "none" else [make_failure(), make_failure(sweep_id="b")])
    rows = history_frame(cases)

    assert rows.empty
    assert list(rows.columns) == list(history_frame(make_sessions([0.4] * 3)).columns)
