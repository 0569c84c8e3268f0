"""What is told of a cell, look after look."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.records.quantities import Strict
from results.verdicts.decision import InterimLooks, Rule, estimate, in_cycles, is_settled, verdicts

RULE = Rule()
NAN = math.nan
SLOWER, FASTER, SAME = math.log(1.1), -math.log(1.1), 0.0
WIDE = [-0.1, 0.1] * 5  # that nobody can tell anything from
LEAST = math.log1p(0.03)  # that is reported

# One cell's log ratios, and what a look at them tells.
TABLE = {
    "10 % slower": ([SLOWER] * 10, "REGRESSED"),
    "3 % slower": ([LEAST] * 10, "REGRESSED"),
    "hardly less than 3 % slower": ([LEAST - 1e-9] * 10, "OK"),
    "2 % slower for sure": ([math.log(1.02)] * 10, "OK"),
    "the same": ([SAME] * 10, "OK"),
    "2 % faster for sure": ([-math.log(1.02)] * 10, "OK"),
    "hardly less than 3 % faster": ([-LEAST + 1e-9] * 10, "OK"),
    "3 % faster": ([-LEAST] * 10, "IMPROVED"),
    "10 % faster": ([FASTER] * 10, "IMPROVED"),
    "times as long": ([50.0] * 10, "REGRESSED"),
    "a tiny part of it": ([-50.0] * 10, "IMPROVED"),
    "either way": (WIDE, "INCONCLUSIVE"),
    "slower at most times": ([SLOWER] * 8 + [-0.2] * 2, "INCONCLUSIVE"),
    "slower but once, and that by little": ([SLOWER] * 9 + [0.0], "REGRESSED"),
    "slower once": ([SLOWER] + [SAME] * 9, "INCONCLUSIVE"),
    "slower once of twenty": ([SLOWER] + [SAME] * 19, "OK"),
    "no pair": ([], "NOT_COMPARABLE"),
    "no valid pair": ([NAN] * 10, "NOT_COMPARABLE"),
    "one pair": ([SLOWER], "INCONCLUSIVE"),
    "five pairs, which prove nothing": ([SLOWER] * 5, "INCONCLUSIVE"),
    "five equal pairs, which have no interval": ([SAME] * 5, "INCONCLUSIVE"),
    "seven pairs, which prove too little": ([SLOWER] * 7, "INCONCLUSIVE"),
    "eight pairs": ([SLOWER] * 8, "REGRESSED"),
    "six equal pairs": ([SAME] * 6, "OK"),
    "an interval up to 3 %": ([SAME] * 5 + [LEAST], "INCONCLUSIVE"),
    "an interval that ends before 3 %": ([SAME] * 5 + [LEAST - 1e-13], "OK"),
    "invalid pairs among slower ones": ([NAN, SLOWER, math.inf] * 10, "REGRESSED"),
    "too many invalid pairs": ([SLOWER] * 5 + [NAN] * 25, "INCONCLUSIVE"),
}  # fmt: skip


def told(*rows, rule=RULE):
    return verdicts(estimate(np.array(rows), rule.margin), rule)


@pytest.mark.parametrize(("log_ratios", "verdict"), TABLE.values(), ids=TABLE)
def test_a_cell_is_told_by_its_pairs(log_ratios, verdict):
    assert told(log_ratios) == [verdict]


def test_no_cells_have_no_verdicts():
    assert verdicts(estimate(np.zeros((0, 10)), 0.01), RULE) == []


@pytest.mark.parametrize(("cells", "verdict"), [(7, "REGRESSED"), (8, "INCONCLUSIVE")])
def test_among_more_cells_one_needs_more_pairs_to_be_found(cells, verdict):
    # Ten pairs prove 1 : 1024 at best; the last look has half of 1.5 %, enough for 7 cells, not 8.
    assert told([SLOWER] * 10, *[[SAME] * 10] * (cells - 1))[0] == verdict


@pytest.mark.parametrize("other", [[NAN] * 10, WIDE], ids=["unknown", "unclear"])
def test_cells_that_tell_nothing_count_among_the_cells(other):
    assert told([SLOWER] * 10, *[other] * 17)[0] == "INCONCLUSIVE"


def test_slower_cells_make_no_faster_one_harder_to_find():
    mixed = told(*[[FASTER] * 15] * 9, *[[SLOWER] * 15] * 8)

    assert mixed == ["IMPROVED"] * 9 + ["REGRESSED"] * 8


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [((8,), "REGRESSED"), ((8, 9, 12), "REGRESSED"), ((8, 9, 12, 15), "INCONCLUSIVE")],
)
def test_more_looks_ask_for_more_proof(looks, verdict):
    # Eight pairs prove 1 : 256 at best: 8 / 29 of 1.5 % allows it, 8 / 44 does not.
    found = estimate(np.array([[SLOWER] * 8]), RULE.margin)

    assert verdicts(found, Rule(looks=looks), 0) == [verdict]


def test_a_larger_margin_asks_for_more_proof():
    log_ratios = [0.04, 0.045, 0.05, 0.055, 0.06, 0.035, 0.012, 0.05, 0.05, 0.05]

    assert told(log_ratios) == ["REGRESSED"]
    assert told(log_ratios, rule=Rule(margin=0.04)) == ["INCONCLUSIVE"]


@pytest.mark.parametrize(
    "refused",
    [
        {"margin": -0.01}, {"margin": 1}, {"margin": NAN}, {"smallest": 0}, {"smallest": 10},
        {"alpha": 0}, {"alpha": 1}, {"looks": ("many",)}, {"unknown": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_rule_without_sense_is_refused(refused):
    with pytest.raises(ValueError, match=next(iter(refused))):
        Rule(**refused)


def test_all_looks_together_spend_alpha():
    spent = [RULE.alpha_at(look) for look in range(len(RULE.looks))]

    assert sum(spent) == pytest.approx(RULE.alpha)
    assert spent == sorted(spent)


def test_what_looks_faster_stays_open_until_it_is_proven_or_the_last_look():
    # Among 20 cells ten pairs prove nothing, and one that is OK is not looked at again.
    cells = [[FASTER] * 10, *[[SAME] * 10] * 19]
    _, found = looked(cells, [each * 2 for each in cells], cells=20)

    assert [told[0] for told in found] == ["INCONCLUSIVE", "IMPROVED"]


def test_what_looks_faster_and_is_not_proven_is_ok_in_the_end():
    noisy = [-0.2, 0.02, -0.2, 0.02, -0.2, 0.02]

    assert told(noisy) == ["OK"]
    assert verdicts(estimate(np.array([noisy]), RULE.margin), RULE, 0) == ["INCONCLUSIVE"]


def test_a_rule_is_plain_data():
    assert isinstance(RULE, Strict)
    assert Rule.model_validate_json(RULE.model_dump_json(), strict=True) == RULE


# Look after look


def looked(*looks, cells=1):
    """What each look tells; each is all of the cell's log ratios so far."""
    kept, verdicts_of_looks = InterimLooks(cells, RULE), []
    for log_ratios in looks:
        kept.look(np.array(log_ratios).reshape(cells, -1))
        verdicts_of_looks.append(list(kept.verdicts))
    return kept, verdicts_of_looks


def test_before_the_first_look_nothing_is_told():
    kept = InterimLooks(2, RULE)

    assert (kept.verdicts, kept.decided_at) == (["INCONCLUSIVE"] * 2, [None] * 2)


DECIDED = {"REGRESSED": SLOWER, "OK": SAME, "IMPROVED": FASTER}


@pytest.mark.parametrize("later", DECIDED.values(), ids=DECIDED)
@pytest.mark.parametrize("verdict", DECIDED)
def test_what_was_decided_stays_decided(verdict, later):
    first = [DECIDED[verdict]] * 10
    kept, _ = looked(first, first + [later] * 20)

    assert (kept.verdicts, kept.decided_at) == ([verdict], [10])


@pytest.mark.parametrize("verdict", DECIDED)
@pytest.mark.parametrize("first", [WIDE, [NAN] * 10], ids=["unclear", "unknown"])
def test_what_was_open_is_decided_by_more_pairs(first, verdict):
    kept, _ = looked(first, first + [DECIDED[verdict]] * 40)

    assert kept.verdicts == [verdict]
    assert kept.decided_at == [50 if first is WIDE else 40]


@pytest.mark.parametrize(("values", "verdict"), [(WIDE, "INCONCLUSIVE"), ([NAN], "NOT_COMPARABLE")])
def test_what_is_open_was_decided_nowhere(values, verdict):
    kept, _ = looked(values, values)

    assert (kept.verdicts, kept.decided_at) == ([verdict], [None])


def test_a_decision_tells_after_how_many_valid_pairs_it_was_made():
    kept, _ = looked([SLOWER] * 9 + [NAN])

    assert kept.decided_at == [9]


def test_cells_are_decided_each_at_its_own_look():
    kept, found = looked(
        [[SAME] * 10, WIDE], [[SLOWER] * 20, [*WIDE, *[SLOWER] * 10]],
        [[SLOWER] * 40, [*WIDE, *[SLOWER] * 30]], cells=2,
    )  # fmt: skip

    assert found == [["OK", "INCONCLUSIVE"], ["OK", "INCONCLUSIVE"], ["OK", "REGRESSED"]]
    assert kept.decided_at == [10, 40]


def test_a_look_gives_the_estimates_of_all_pairs_also_of_a_decided_cell():
    kept, _ = looked([SLOWER] * 10)
    found = kept.look(np.array([[SLOWER] * 10 + [SAME] * 20]))

    assert (kept.verdicts, found.pairs[0]) == (["REGRESSED"], 30)
    assert found.change[0] == pytest.approx(SLOWER / 2)


@pytest.mark.parametrize(
    ("open_or_not", "expected"),
    [
        ([], True), (["OK", "REGRESSED"], True), (["NOT_COMPARABLE", "IMPROVED"], True),
        (["CLOCK_DRIVEN"], True), (["OK", "INCONCLUSIVE"], False),
    ],
)  # fmt: skip
def test_only_what_is_inconclusive_needs_more_pairs(open_or_not, expected):
    assert is_settled(open_or_not) is expected


# Cycles of the clock

CYCLES = {
    "as many more": ([SLOWER] * 10, "REGRESSED"),
    "even more": ([2 * SLOWER] * 10, "REGRESSED"),
    "as many": ([SAME] * 10, "CLOCK_DRIVEN"),
    "fewer": ([FASTER] * 10, "CLOCK_DRIVEN"),
    "2 % more": ([math.log(1.02)] * 10, "CLOCK_DRIVEN"),
    "more or fewer": (WIDE, "CLOCK_DRIVEN"),
    "unknown": ([NAN] * 10, "REGRESSED"),
    "known of too few pairs": ([NAN] * 3 + [SAME] * 7, "REGRESSED"),
}  # fmt: skip


@pytest.mark.parametrize(("cycles", "verdict"), CYCLES.values(), ids=CYCLES)
def test_what_is_slower_must_take_more_cycles_where_they_are_known(cycles, verdict):
    kept = InterimLooks(1, RULE)
    kept.look(np.array([[SLOWER] * 10]), np.array([cycles]))

    assert kept.verdicts == [verdict]


def test_what_the_clock_did_stays_decided():
    kept = InterimLooks(1, RULE)
    kept.look(np.array([[SLOWER] * 10]), np.array([[SAME] * 10]))
    kept.look(np.array([[SLOWER] * 20]), np.array([[SLOWER] * 20]))

    assert (kept.verdicts, kept.decided_at) == (["CLOCK_DRIVEN"], [10])


@pytest.mark.parametrize("cycles", [SLOWER, SAME, FASTER, NAN])
@pytest.mark.parametrize("verdict", ["OK", "IMPROVED", "INCONCLUSIVE", "NOT_COMPARABLE"])
def test_cycles_change_nothing_but_a_regression(verdict, cycles):
    assert in_cycles([verdict], np.full((1, 10), cycles), RULE) == [verdict]
