"""What an approximate precision may err, in terms of bf16's own error."""

from __future__ import annotations

import pytest

from benchmarking.choices.precision import PRECISIONS
from benchmarking.sweeping.checks import judge
from benchmarking.sweeping.runner import judged

BF16 = 0.01
BUDGETS = {name: each.budget for name, each in PRECISIONS.items() if each.budget is not None}
EXACT = [name for name in PRECISIONS if name not in BUDGETS]


@pytest.mark.parametrize(("share", "verdict"), [(0.5, "pass"), (0.99, "pass"), (1.01, "invalid")])
@pytest.mark.parametrize(("precision", "budget"), BUDGETS.items())
def test_an_error_up_to_the_budget_passes_and_one_above_is_invalid(
    make_evidence, precision, budget, share, verdict
):
    evidence = make_evidence(precision=precision, error=(share * budget * BF16, BF16))
    check = judge(evidence)["approximation"]

    assert check.verdict == verdict
    assert check.value == pytest.approx(share * budget)


@pytest.mark.parametrize("precision", EXACT)
def test_a_precision_that_is_not_approximate_has_no_budget(make_evidence, precision):
    assert "approximation" not in judge(make_evidence(precision=precision, error=(1.0, BF16)))


@pytest.mark.parametrize("bf16_error", [None, 0.0])
@pytest.mark.parametrize("precision", BUDGETS)
def test_without_an_error_of_bf16s_own_it_can_not_be_told(make_evidence, precision, bf16_error):
    check = judge(make_evidence(precision=precision, error=(1, bf16_error)))["approximation"]

    assert (check.verdict, check.value) == ("unknown", None)
    assert check.reason == "bf16's own error was not measured"


@pytest.mark.parametrize("precision", BUDGETS)
def test_a_case_whose_error_is_above_the_budget_is_invalid(make_evidence, precision):
    evidence = make_evidence(precision=precision, error=(1.0, BF16))
    checks = {"approximation": judge(evidence)["approximation"]}
    record = judged(evidence.record, checks)

    assert record.status == "invalid"
    assert f"its embeddings err 100.0 times as much as bf16's; {precision} may" in record.message


@pytest.mark.parametrize(("precision", "budget"), BUDGETS.items())
def test_an_embedding_may_depend_on_the_batch_as_many_times_more_than_in_bf16(
    make_evidence, precision, budget
):
    def verdict(precision, error):
        evidence = make_evidence(precision=precision, batch_error=error)
        return judge(evidence)["same_for_any_batch"].verdict

    assert [verdict("bf16", 0.029), verdict("bf16", 0.031)] == ["pass", "invalid"]
    assert [verdict(precision, each * budget) for each in (0.029, 0.031)] == ["pass", "invalid"]
