"""What a gate tells of a cell: how it changed, why it can't be compared, which modules did it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.verdicts.decision import Rule, estimate
from results.verdicts.gate_runs import (
    MOST_MODULES,
    CasePair,
    GateRun,
    judged_cell,
    log_ratios,
    module_changes,
)

from .gate_launches import FAILED, ok, pairs_of


@pytest.fixture
def cell(make_case):
    return CasePair("a cell", make_case(), make_case())


# Modules

KINDS = {"image_encoder": "encoder", "neck": "neck", "mlp": "mlp", "attn": "window attention"}


def with_modules(seed, **factors):
    """A launch whose modules take 10 ms each, with noise, some so many times as long."""
    random = np.random.default_rng(seed)
    own_s = {name: 0.01 * random.lognormal(0, 0.002) * factors.get(name, 1) for name in KINDS}
    return ok(sum(own_s.values()), modules_s=tuple(own_s.items()))


def module_pairs(cell, count=12, **factors):
    return pairs_of(
        cell, *((with_modules(n), with_modules(n + 1000, **factors)) for n in range(count))
    )


def test_the_module_that_became_slower_is_blamed_alone(cell):
    (change,) = module_changes(cell, module_pairs(cell, mlp=1.5), KINDS)

    assert (change.module, change.kind) == ("mlp", "mlp")
    assert change.ratio == pytest.approx(1.5, rel=0.01)
    assert change.lost_s == pytest.approx(0.005, rel=0.02)


def test_the_module_that_lost_most_comes_first(cell):
    changes = module_changes(cell, module_pairs(cell, neck=1.2, mlp=2, attn=1.5), KINDS)

    assert [change.module for change in changes] == ["mlp", "attn", "neck"]


def test_what_no_module_accounts_for_is_unattributed(cell):
    (change,) = module_changes(cell, module_pairs(cell, image_encoder=2), {})

    assert (change.module, change.kind) == ("unattributed", "unattributed")


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.01])
def test_a_module_that_is_not_slower_is_not_blamed(cell, factor):
    assert module_changes(cell, module_pairs(cell, mlp=factor), KINDS) == ()


@pytest.mark.parametrize("launches", [[], [(ok(0.1), ok(0.2))] * 12, [(FAILED, FAILED)] * 12])
def test_without_modules_none_is_blamed(cell, launches):
    assert module_changes(cell, pairs_of(cell, *launches), KINDS) == ()


@pytest.mark.parametrize(
    "bad", [(FAILED, None), (None, with_modules(0)), (with_modules(0), FAILED)]
)
def test_an_invalid_first_pair_hides_no_module(cell, bad):
    pairs = [*pairs_of(cell, bad), *module_pairs(cell, mlp=1.5)]

    assert [change.module for change in module_changes(cell, pairs, KINDS)] == ["mlp"]


def test_a_module_of_one_side_alone_is_not_blamed(cell):
    pairs = pairs_of(
        cell,
        *[(ok(1.0, modules_s=(("old", 0.1),)), ok(2.0, modules_s=(("new", 9.0),)))] * 12,
    )

    assert module_changes(cell, pairs, KINDS) == ()


def test_no_more_modules_are_named_than_a_person_reads(cell):
    names = [f"blocks.{number}" for number in range(MOST_MODULES + 5)]
    sides = (
        ok(1.0, modules_s=tuple((name, seconds) for name in names)) for seconds in (0.01, 0.02)
    )

    assert len(module_changes(cell, pairs_of(cell, *[tuple(sides)] * 12), {})) == MOST_MODULES


# Cells


def judged(cell, *launches, verdict="OK", decided_at=10):
    pairs = pairs_of(cell, *launches)
    found = estimate(log_ratios([cell], pairs), Rule().margin)
    return judged_cell(cell, verdict, decided_at, found, 0, pairs)


def test_a_cell_has_its_ratio_its_interval_and_both_times(cell):
    found = judged(cell, *[(ok(0.1), ok(0.2))] * 9, (ok(0.1), ok(0.4)), (FAILED, ok(0.2)))

    assert (found.pairs, found.decided_at, found.verdict) == (10, 10, "OK")
    assert (found.ratio, found.ratio_low) == (pytest.approx(2), pytest.approx(2))
    assert found.ratio_high == pytest.approx(math.sqrt(8))
    assert (found.base_s, found.head_s) == (0.1, 0.2)


def test_too_few_pairs_have_a_ratio_without_an_interval(cell):
    found = judged(cell, (ok(0.1), ok(0.2)), verdict="INCONCLUSIVE", decided_at=None)

    assert found.ratio == pytest.approx(2)
    assert (found.ratio_low, found.ratio_high) == (None, None)


NOT_COMPARED = {  # launches, the verdict, and why
    "the head never succeeds": ([(ok(0.1), FAILED)] * 3, "FAILED", "head is oom: CUDA out of"),
    "the head is never there": ([(ok(0.1), None)], "FAILED", "head is not_run: no reason"),
    "the head never succeeds, the base once not": (
        [(GateRun("timeout", "late"), FAILED), (ok(0.1), FAILED)], "FAILED", "head is oom: CUDA",
    ),
    "the base never succeeds": ([(FAILED, ok(0.1))], "NOT_COMPARABLE", "base is oom: CUDA out"),
    "the base never succeeds, the head once not": (
        [(FAILED, GateRun("timeout", "late")), (FAILED, ok(0.1))], "NOT_COMPARABLE", "base is oom",
    ),
    "neither succeeds": ([(FAILED, FAILED)], "NOT_COMPARABLE", "base is oom"),
    "never both": (
        [(FAILED, ok(0.1)), (ok(0.1), FAILED)], "NOT_COMPARABLE", "base is oom: CUDA out of memory",
    ),
    "no pair": ([], "NOT_COMPARABLE", "no pair was measured"),
}  # fmt: skip


@pytest.mark.parametrize(("launches", "verdict", "reason"), NOT_COMPARED.values(), ids=NOT_COMPARED)
def test_a_cell_without_a_valid_pair_says_which_side_failed_and_why(
    cell, launches, verdict, reason
):
    found = judged(cell, *launches, verdict="NOT_COMPARABLE", decided_at=None)

    assert found.verdict == verdict
    assert found.reason.startswith(reason)
    assert (found.pairs, found.ratio) == (0, None)


@pytest.mark.parametrize("verdict", ["REGRESSED", "OK", "INCONCLUSIVE", "CLOCK_DRIVEN"])
def test_a_cell_that_was_compared_needs_no_reason(cell, verdict):
    found = judged(cell, (ok(0.1), ok(0.1)), (FAILED, ok(0.1)), verdict=verdict)

    assert (found.verdict, found.reason) == (verdict, None)


@pytest.mark.parametrize(
    ("base", "head", "expected"),
    [
        (["a", "a"], ["a", "a"], True),
        (["a", "a"], ["b", "b"], False),
        (["a", "a"], ["a", None], True),
        (["a", "b"], ["a", "a"], None),  # the base is not even its own
        ([None, None], ["a", "a"], None),
        ([None, None], [None, None], None),
    ],
)
def test_outputs_are_the_same_where_each_side_has_one_and_they_agree(cell, base, head, expected):
    launches = [
        (ok(0.1, output_sha256=old), ok(0.1, output_sha256=new))
        for old, new in zip(base, head, strict=True)
    ]

    assert judged(cell, *launches).is_output_same is expected
