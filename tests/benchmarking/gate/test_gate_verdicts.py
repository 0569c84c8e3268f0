"""What a gate notes, what somebody has accepted, the clock's part, and exit codes."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from benchmarking.gate.gate import EXIT_CODES, exit_code
from results.records.environment import Telemetry
from results.verdicts.decision import Verdict
from results.verdicts.gates import Acceptance

LABEL = "tiny b2 64px"
SLOWER = {2: 1.1}
GHZ = 10**9


def acceptance(up_to, case=LABEL, author="Ada"):
    return Acceptance(
        case=case, up_to=up_to, reason="exact masks", author=author, date="2026-01-02"
    )


# What somebody has accepted


def test_an_accepted_regression_does_not_fail(run_gate):
    gate = run_gate(head=SLOWER, accepted=[acceptance(1.2)])

    assert (gate.cells[0].verdict, gate.cells[0].accepted) == ("REGRESSED", acceptance(1.2))
    assert exit_code(gate) == 0


@pytest.mark.parametrize(
    "word", [acceptance(1.05), acceptance(1.2, case="tiny b4 64px")], ids=["less", "another case"]
)
def test_a_regression_that_no_word_covers_fails(run_gate, word):
    gate = run_gate(head=SLOWER, accepted=[word])

    assert gate.cells[0].accepted is None
    assert exit_code(gate) == 1


def test_the_newest_word_that_covers_a_regression_counts(run_gate):
    words = [acceptance(1.2, author="Ada"), acceptance(1.3, author="Bob"), acceptance(1.01)]

    assert run_gate(head=SLOWER, accepted=words).cells[0].accepted == words[1]


def test_an_accepted_regression_excuses_no_other(run_gate):
    both = {2: 1.0, 4: 1.0}
    gate = run_gate(both, {2: 1.1, 4: 1.1}, accepted=[acceptance(1.2)])

    assert [cell.accepted is not None for cell in gate.cells] == [True, False]
    assert exit_code(gate) == 1


def test_a_word_of_acceptance_is_none_for_a_case_that_fails(run_gate):
    gate = run_gate(head={2: "crashed"}, accepted=[acceptance(2.0)])

    assert gate.cells[0].accepted is None
    assert exit_code(gate) == 5


# Notes


def test_axes_that_are_compared_are_noted(run_gate):
    changes = {"base": {"attention": "reference"}, "head": {"attention": "sdpa"}}
    gate = run_gate(changes=changes)

    assert gate.notes == ("compared: attention reference, then sdpa",)
    assert (gate.cells[0].base.attention, gate.cells[0].head.attention) == ("reference", "sdpa")


ALONE = {
    "base": ({1: 1.0, 2: 1.0, 4: 1.0}, {2: 1.0}, "2 cases of base alone are not compared"),
    "head": ({2: 1.0}, {2: 1.0, 4: 1.0, 8: 1.0}, "2 cases of head alone are not compared"),
}


@pytest.mark.parametrize(("base", "head", "note"), ALONE.values(), ids=ALONE)
def test_cases_of_one_side_alone_are_counted(run_gate, base, head, note):
    gate = run_gate(base, head)

    assert gate.notes == (note,)
    assert [cell.base.batch_size for cell in gate.cells] == [2]


def test_equal_sides_need_no_note(run_gate):
    assert run_gate().notes == ()


# The clock


def telemetry(sm_clock_hz):
    looks = 5
    return Telemetry(
        at_s=tuple(map(float, range(looks))),
        sm_clock_hz=(sm_clock_hz,) * looks,
        event_reasons=((),) * looks,
    )


CLOCKS = {
    "as much slower": (2 * GHZ, int(2 * GHZ / 1.1), "CLOCK_DRIVEN", 3),
    "the same": (2 * GHZ, 2 * GHZ, "REGRESSED", 1),
    "of the head unknown": (2 * GHZ, None, "REGRESSED", 1),
    "of neither known": (None, None, "REGRESSED", 1),
}


@pytest.mark.parametrize(("base", "head", "verdict", "code"), CLOCKS.values(), ids=CLOCKS)
def test_a_regression_must_hold_in_cycles_of_the_clock(run_gate, base, head, verdict, code):
    changes = {
        "base": {"telemetry": telemetry(base)}, "head": {"telemetry": telemetry(head)},
    }  # fmt: skip
    gate = run_gate(head=SLOWER, changes=changes)

    assert gate.cells[0].verdict == verdict
    assert exit_code(gate) == code


# Exit codes


CODES = {
    "REGRESSED": 1, "FAILED": 5, "NOT_COMPARABLE": 4, "CLOCK_DRIVEN": 3, "INCONCLUSIVE": 3,
    "IMPROVED": 0, "OK": 0,
}  # fmt: skip


def test_every_verdict_has_an_exit_code():
    assert set(EXIT_CODES) == set(get_args(Verdict)) == set(CODES)


@pytest.mark.parametrize(("verdict", "code"), CODES.items())
def test_a_verdict_has_its_exit_code(make_gate_file, make_cell, verdict, code):
    assert exit_code(make_gate_file(make_cell(verdict), make_cell("OK"))) == code


@pytest.mark.parametrize(("worse", "better"), list(itertools.pairwise(CODES)))
def test_the_worst_verdict_decides_the_exit_code(make_gate_file, make_cell, worse, better):
    gates = [
        make_gate_file(make_cell(worse), make_cell(better)),
        make_gate_file(make_cell(better), make_cell(worse)),
    ]

    assert [exit_code(gate) for gate in gates] == [CODES[worse]] * 2


def test_a_gate_without_cells_ends_with_exit_code_0(make_gate_file):
    assert exit_code(make_gate_file()) == 0
