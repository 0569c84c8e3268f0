"""Two sets of cases side by side: which are the same, and how their times differ."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from results.answers.compare import (
    COMPARISON_COLUMNS,
    compare_cases,
    environment_changes,
    geometric_mean,
    matched,
    module_changes,
    plan_changes,
)
from results.records.case import AXES, TimingPlan
from results.records.environment import Gpu
from results.records.schema import STATUSES
from results.tables.frames import case_frame, module_frame

LATER = "20260102-030405-later"
OTHER_AXES = {
    "model": "vit_l", "batch_size": 8, "image_size": 512, "precision": "fp32",
    "attention": "sdpa", "execution": "compiled", "device": "cuda:1", "gpu": "NVIDIA H100",
    "input": "noise", "weights": "checkpoints",
}  # fmt: skip
OTHER_SIDE = {
    "model": "vit_h", "image_size": 256, "precision": "tf32", "attention": "fold",
    "execution": "graph", "device": "cuda:2", "input": "sa1b", "weights": "others",
}  # fmt: skip


@pytest.fixture
def both(make_cases):
    """Batches 1 and 2 slower by a tenth, batch 4 twice as fast; 8 and 16 of one side alone."""
    before = make_cases({1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8})
    after = make_cases({1: 0.11, 2: 0.22, 4: 0.2, 16: 1.6}, sweep_id=LATER)
    return compare_cases(before, after)


def by_batch(comparison, column):
    return dict(zip(comparison["batch_size"], comparison[column], strict=True))


# Matching


def test_a_comparison_has_its_columns_and_a_row_a_case_of_either_side(both):
    assert tuple(both.columns) == COMPARISON_COLUMNS
    assert sorted(both["batch_size"]) == [1, 2, 4, 8, 16]


def test_a_row_has_both_times_and_both_records(make_cases):
    before, after = make_cases({4: 0.4}), make_cases({4: 0.5}, sweep_id=LATER)
    row = compare_cases(before, after).iloc[0]

    assert (row["before_s"], row["after_s"]) == (0.4, 0.5)
    assert row["record_id"] == before["record_id"].item()
    assert row["after_record_id"] == after["record_id"].item() != row["record_id"]


def test_a_case_of_one_side_alone_has_no_values_of_the_other(both):
    rows = both.set_index("batch_size")

    assert (
        rows.loc[8, ["after_s", "after_record_id", "ratio", "ratio_low", "ratio_high"]].isna().all()
    )
    assert rows.loc[16, ["before_s", "record_id", "ratio", "ratio_low", "ratio_high"]].isna().all()
    assert (rows.loc[8, "before_s"], rows.loc[16, "after_s"]) == (0.8, 1.6)


def test_cases_that_both_sides_have_are_matched(both):
    assert sorted(matched(both)["batch_size"]) == [1, 2, 4]


@pytest.mark.parametrize(("axis", "other"), OTHER_AXES.items())
def test_cases_that_differ_in_an_axis_are_not_the_same(make_cases, axis, other):
    changed = {1: 0.1} if axis != "batch_size" else {other: 0.1}
    changes = {axis: other} if axis != "batch_size" else {}
    # Where a side had one value alone, the axis would be what is compared.
    before = pd.concat([make_cases({1: 0.1}), make_cases({2: 0.1}, **OTHER_SIDE)])
    comparison = compare_cases(before, make_cases(changed, **changes))

    assert (len(comparison), len(matched(comparison))) == (3, 0)


def test_where_the_sides_differ_in_an_axis_every_row_says_so(make_cases):
    before = make_cases({1: 0.1, 2: 0.1}, attention="reference")
    comparison = compare_cases(before, make_cases({1: 0.2}, attention="sdpa"))

    assert len(matched(comparison)) == 1
    assert set(comparison["compared"]) == {"attention reference, then sdpa"}


def test_where_only_the_code_differs_no_axis_is_named(both):
    assert both["compared"].isna().all()


def test_every_axis_is_looked_at():
    assert set(OTHER_AXES) == set(AXES)


@pytest.mark.parametrize("is_reversed", [True, False])
def test_of_equal_cases_the_newest_counts_on_either_side(make_cases, is_reversed):
    old = make_cases({4: 0.4}, started_at="2025-01-01T00:00:00Z")
    new = make_cases({4: 0.8}, started_at="2025-01-02T00:00:00Z", sweep_id=LATER)
    several = pd.concat([new, old] if is_reversed else [old, new])
    reference = make_cases({4: 1.6})

    assert compare_cases(several, reference)["ratio"].tolist() == [2.0]
    assert compare_cases(reference, several)["ratio"].tolist() == [0.5]


@pytest.mark.parametrize("status", [each for each in STATUSES if each not in ("ok", "not_run")])
def test_a_case_that_is_not_good_is_not_compared(make_cases, status):
    comparison = compare_cases(make_cases({4: 0.4}), make_cases({4: 0.4}, status=status))

    assert len(comparison) == 1
    assert matched(comparison).empty


def test_a_case_without_a_time_is_not_compared(make_record, make_measurement, make_cases):
    untimed = case_frame([make_record(measurement=make_measurement(latency=None))])

    assert matched(compare_cases(make_cases({4: 0.4}), untimed)).empty
    assert compare_cases(untimed, untimed).empty


@pytest.mark.parametrize("empty", ["before", "after", "both"])
def test_a_side_without_cases_matches_nothing(make_cases, empty):
    cases = make_cases({1: 0.1, 2: 0.2})
    before, after = (
        cases.head(0) if empty in (side, "both") else cases for side in ("before", "after")
    )
    comparison = compare_cases(before, after)

    assert tuple(comparison.columns) == COMPARISON_COLUMNS
    assert len(comparison) == (0 if empty == "both" else 2)
    assert matched(comparison).empty


def test_a_run_beside_itself_changes_nothing(make_cases):
    cases = make_cases({1: 0.1, 2: 0.2, 4: 0.4})

    assert set(compare_cases(cases, cases)["ratio"]) == {1.0}


# Ratios


def test_a_ratio_is_the_time_after_over_the_time_before(both):
    assert by_batch(matched(both), "ratio") == pytest.approx({1: 1.1, 2: 1.1, 4: 0.5})


def test_the_interval_of_a_ratio_is_of_the_farthest_ends(make_cases):
    before = make_cases({4: (0.9, 0.95, 1.0, 1.0, 1.0, 1.05, 1.1)})
    after = make_cases({4: (1.8, 1.9, 2.0, 2.0, 2.0, 2.1, 2.2)})
    row = compare_cases(before, after).iloc[0]

    assert row["ratio"] == 2.0
    assert row["ratio_low"] == pytest.approx(after["low_s"].item() / before["high_s"].item())
    assert row["ratio_high"] == pytest.approx(after["high_s"].item() / before["low_s"].item())
    assert row["ratio_low"] < 2.0 < row["ratio_high"]


@pytest.mark.parametrize("seed", range(10))
def test_the_interval_of_a_ratio_holds_every_quotient_of_the_medians_intervals(make_cases, seed):
    random = np.random.default_rng(seed)
    sides = [make_cases({4: tuple(random.lognormal(0, 0.1, 20))}) for _ in range(2)]
    row = compare_cases(*sides).iloc[0]
    before, after = (
        [side["low_s"].item(), side["median_s"].item(), side["high_s"].item()] for side in sides
    )
    quotients = [new / old for new in after for old in before]

    assert row["ratio_low"] == pytest.approx(min(quotients))
    assert row["ratio_high"] == pytest.approx(max(quotients))


def test_without_intervals_a_ratio_has_none(make_cases):
    few = make_cases({4: (0.1, 0.1)})  # too few samples to tell
    row = compare_cases(few, few).iloc[0]

    assert row["ratio"] == 1
    assert row[["ratio_low", "ratio_high"]].isna().all()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((0.99, 1.0, 1.01), (1.06, 1.07, 1.08), "slower?"),
        ((1.06, 1.07, 1.08), (0.99, 1.0, 1.01), "faster?"),
        ((0.9, 1.0, 1.1), (1.0, 1.07, 1.2), "~"),
        ((1.0, 1.0, 1.0), (1.02, 1.02, 1.02), "~"),
    ],
)
def test_what_a_change_looks_like_is_no_more_than_a_question(make_cases, before, after, told):
    sides = [
        make_cases({1: median}).assign(low_s=low, high_s=high)
        for low, median, high in (before, after)
    ]

    assert list(compare_cases(*sides)["verdict"]) == [told]


def test_a_case_of_one_side_alone_has_no_verdict(make_cases):
    assert list(compare_cases(make_cases({1: 0.1}), make_cases({2: 0.1}))["verdict"]) == [None] * 2


@pytest.mark.parametrize("axis", [axis for axis in AXES if axis != "batch_size"])
def test_an_axis_of_which_each_side_has_one_value_is_what_is_compared(make_cases, axis):
    other = OTHER_AXES[axis]
    rows = compare_cases(
        make_cases({1: 0.1, 2: 0.2}), make_cases({1: 0.2, 2: 0.2}, **{axis: other})
    )

    assert list(rows.sort_values("batch_size")["ratio"]) == [2.0, 1.0]
    assert other not in set(rows[axis])


@pytest.mark.parametrize(
    ("before", "after", "is_synthetic"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_what_is_made_up_on_either_side_is_made_up(make_cases, before, after, is_synthetic):
    comparison = compare_cases(
        make_cases({4: 0.4}, is_synthetic=before), make_cases({4: 0.4}, is_synthetic=after)
    )

    assert comparison["is_synthetic"].tolist() == [is_synthetic]


def test_a_case_of_one_side_alone_is_made_up_where_that_side_is(make_cases):
    made_up = make_cases({1: 0.1}, is_synthetic=True)
    comparison = compare_cases(made_up, make_cases({2: 0.1}))

    assert by_batch(comparison, "is_synthetic") == {1: True, 2: False}


# The mean


def test_the_mean_of_ratios_is_geometric(both):
    assert geometric_mean(both) == pytest.approx(stats.gmean([1.1, 1.1, 0.5]))
    assert geometric_mean(both) == pytest.approx((1.1 * 1.1 * 0.5) ** (1 / 3))


def test_twice_as_slow_and_twice_as_fast_make_no_change(make_cases):
    comparison = compare_cases(make_cases({1: 0.1, 2: 0.4}), make_cases({1: 0.2, 2: 0.2}))

    assert geometric_mean(comparison) == pytest.approx(1)


def test_the_mean_of_nothing_is_missing(make_cases):
    assert math.isnan(geometric_mean(compare_cases(make_cases({1: 0.1}), make_cases({2: 0.1}))))


# Environments


def test_one_environment_does_not_differ_from_itself(environment):
    assert environment_changes(environment, environment) == []


def test_what_differs_is_told_with_both_values(environment):
    other = environment.model_copy(update={"torch": "2.16.0", "git_commit": None})

    assert environment_changes(environment, other) == [
        ("torch", "2.15.0", "2.16.0"), ("git_commit", "0" * 40, "None"),
    ]  # fmt: skip


def test_notes_differ_without_a_difference(environment):
    assert environment_changes(environment, environment.model_copy(update={"notes": ("a",)})) == []


def test_a_gpu_s_fields_are_told_by_its_number(environment):
    first, second = environment.gpus
    other = second.model_copy(update={"name": "NVIDIA H200", "uuid": "GPU-9"})
    changed = environment.model_copy(update={"gpus": (first, other)})

    assert environment_changes(environment, changed) == [
        ("gpu 1 name", "NVIDIA L40S", "NVIDIA H200"), ("gpu 1 uuid", "GPU-1", "GPU-9"),
    ]  # fmt: skip


@pytest.mark.parametrize("is_reversed", [True, False])
def test_a_gpu_of_one_side_alone_is_none_on_the_other(environment, is_reversed):
    fewer = environment.model_copy(update={"gpus": environment.gpus[:1]})
    sides = [fewer, environment] if is_reversed else [environment, fewer]
    changes = environment_changes(*sides)

    assert {name for name, _, _ in changes} == {f"gpu 1 {field}" for field in Gpu.model_fields}
    assert {sides_of[1 if is_reversed else 2] for sides_of in changes} == {"none"}


def test_a_plan_does_not_differ_from_itself():
    assert plan_changes(TimingPlan(), TimingPlan()) == []


def test_what_differs_in_how_two_sweeps_measured_is_told_with_both_values():
    changed = TimingPlan(warmup_s=5.0, images="photographs")

    assert plan_changes(TimingPlan(), changed) == [
        ("plan: warmup_s", "2.0", "5.0"), ("plan: images", "None", "photographs"),
    ]  # fmt: skip


# Modules


@pytest.fixture
def modules(make_record):
    return module_frame([make_record()])


def slower(modules, **factors):
    """The same, of which some take so many times as long in themselves."""
    names = modules["module"].str.replace(".", "_")
    return modules.assign(self_s=modules["self_s"] * names.map(factors).fillna(1.0))


def test_a_change_is_of_each_module_s_own_time(modules):
    changes = module_changes(modules, slower(modules, neck=2)).set_index("module")

    assert changes.loc["neck", ["before_s", "after_s", "change_s"]].tolist() == [0.25, 0.5, 0.25]
    assert changes.loc["blocks.0", ["before_s", "after_s", "change_s"]].tolist() == [
        0.625,
        0.625,
        0,
    ]
    assert changes["kind"].to_dict() == {
        "neck": "neck", "blocks.0": "window", "unattributed": "unattributed",
    }  # fmt: skip


def test_the_largest_change_comes_first_whichever_way(modules):
    after = slower(modules, neck=0.1, blocks_0=1.1, unattributed=2.0)
    changes = module_changes(modules, after)

    assert changes["module"].tolist() == ["neck", "unattributed", "blocks.0"]
    assert changes["change_s"].tolist() == pytest.approx([-0.225, 0.125, 0.0625])


def test_all_changes_add_up_to_that_of_the_encoder(modules):
    after = slower(modules, neck=0.1, blocks_0=3, unattributed=2)
    changes = module_changes(modules, after)

    assert changes["before_s"].sum() == pytest.approx(1.0)  # of the whole encoder
    assert changes["after_s"].sum() == pytest.approx(after["self_s"].sum())
    assert changes["change_s"].sum() == pytest.approx(after["self_s"].sum() - 1.0)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_module_of_one_side_alone_takes_no_time_on_the_other(modules, is_gone):
    fewer = modules[modules["module"] != "neck"]
    changes = module_changes(*([modules, fewer] if is_gone else [fewer, modules]))
    first = changes.iloc[0]

    assert (first["module"], first["kind"]) == ("neck", "neck")
    assert first["change_s"] == (-0.25 if is_gone else 0.25)
    assert changes["after_s"].sum() - changes["before_s"].sum() == pytest.approx(first["change_s"])


@pytest.mark.parametrize("empty", ["before", "after", "both"])
def test_where_a_side_has_no_modules_nothing_is_told(modules, empty):
    sides = (
        modules.head(0) if empty in (side, "both") else modules for side in ("before", "after")
    )

    assert module_changes(*sides).empty


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (False, False)])
def test_changes_of_what_is_made_up_are_made_up(modules, before, after):
    changes = module_changes(
        modules.assign(is_synthetic=before), modules.assign(is_synthetic=after)
    )

    assert set(changes["is_synthetic"]) == {before or after}
