"""What a gate says: in a pull request and on a terminal."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarking.gate.gate import EXIT_CODES
from benchmarking.views.gate_report import HEADINGS, MEANING, comment, gate_view, headline

HERE = Path(__file__).parent
# Comments as they are to be: a change of one of these is for a reviewer to read.
GOLDEN = HERE / "golden"
made = SimpleNamespace(**runpy.run_path(str(HERE / "made_up_gates.py")))


# The comment


@pytest.mark.parametrize("name", made.GATES)
def test_a_comment_is_the_one_that_was_agreed_on(name):
    assert comment(made.GATES[name]()) == (GOLDEN / f"{name}.md").read_text()


HEADLINES = {
    "no cell": ((), "nothing was compared"),
    "all OK": ((made.make_cell(), made.make_cell()), "OK, 2 of 2 cells"),
    "the worst is told": (
        (made.make_cell(), made.make_cell("REGRESSED"), made.make_cell("IMPROVED")),
        "REGRESSED, 1 of 3 cells",
    ),
    "one is accepted": (
        (made.make_cell(), made.make_cell("REGRESSED", accepted=made.make_acceptance())),
        "OK, 1 of 2 cells, 1 slower as accepted",
    ),
    "all are accepted": (
        (made.make_cell("REGRESSED", accepted=made.make_acceptance()),),
        "OK, 1 slower as accepted",
    ),
    "one is not accepted": (
        (made.make_cell("REGRESSED"), made.make_cell("REGRESSED", accepted=made.make_acceptance())),
        "REGRESSED, 1 of 2 cells, 1 slower as accepted",
    ),
}


@pytest.mark.parametrize(("cells", "told"), HEADLINES.values(), ids=HEADLINES)
def test_the_headline_is_of_the_worst_that_nobody_has_accepted(cells, told):
    assert headline(made.make_gate(*cells)) == told


@pytest.mark.parametrize("verdict", MEANING)
def test_the_headline_names_every_verdict_and_the_legend_explains_it(verdict):
    text = comment(made.make_gate(made.make_cell(verdict)))

    assert text.startswith(f"### sam-bench: {verdict}, 1 of 1 cells\n")
    assert text.endswith(f"\n{verdict}: {MEANING[verdict]}\n")


def test_every_verdict_has_a_meaning_and_an_exit_code():
    assert set(MEANING) == set(EXIT_CODES)


def test_rows_of_a_comment_are_ordered_by_verdict_and_then_by_change():
    slow, slower = (made.make_cell("REGRESSED", 1 + by, label=f"{by}") for by in (0.05, 0.2))
    cells = [
        made.make_cell(),
        slow,
        made.make_cell("IMPROVED"),
        slower,
        made.unmeasured("NOT_COMPARABLE"),
    ]
    rows = made.rows_of(comment(made.make_gate(*cells)))

    assert [(row[0], row[1]) for row in rows[:2]] == [("REGRESSED", "0.2"), ("REGRESSED", "0.05")]
    assert [row[0] for row in rows[2:]] == ["NOT_COMPARABLE", "IMPROVED", "OK"]


def test_cells_that_are_ok_are_folded_away():
    before, _, folded = comment(made.regressed_gate()).partition("<details>")

    assert [row[0] for row in made.rows_of(folded)] == ["OK"]
    assert "OK" not in [row[0] for row in made.rows_of(before)]


# The table of a terminal


def test_rows_of_the_view_begin_with_what_needs_a_look():
    verdicts = [row[0] for row in gate_view(made.regressed_gate()).rows]

    assert verdicts == ["REGRESSED", "REGRESSED (accepted)", "FAILED", "IMPROVED", "OK"]


def test_a_row_tells_milliseconds_and_percentages():
    (row,) = gate_view(made.make_gate(made.make_cell("REGRESSED", 1.08, sees=0.015))).rows

    assert dict(zip(HEADINGS, row, strict=True)) == {
        "verdict": "REGRESSED", "case": "vit_b b1 1024px", "base\n[ms]": "20",
        "head\n[ms]": "21.60", "change\n[%]": "+8.00", "95 %\n[%]": "+7.00 .. +9.00",
        "pairs": "10", "sees": "1.5%",
    }  # fmt: skip


def test_a_row_of_what_was_not_measured_has_dashes():
    (row,) = gate_view(made.make_gate(made.unmeasured("NOT_COMPARABLE"))).rows

    assert row[2:] == ["-", "-", "-", "-", "0", "-"]


def test_the_view_says_what_to_know_of_each_cell_and_of_all():
    sentences = gate_view(made.regressed_gate()).sentences

    assert sentences == [
        "vit_b b4 1024px: the two compute different outputs",
        "vit_b b4 1024px: lost in blocks.2 (global) 2.100 ms +20.00 %, blocks.5 (global) 2.100 ms "
        "+10.00 %",
        "vit_b b8 1024px: accepted by Ada: exact masks",
        "vit_b b32 1024px: head is oom: out of memory",
        "67% of the cells became slower together: a machine-wide shift?",
    ]
