"""What a person sees while the gate runs: lines, or a table on a terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from benchmarking.views.gate_progress import (
    MOST_ROWS,
    LiveGateWatcher,
    PlainGateWatcher,
    cells_table,
    make_gate_watcher,
)
from results.verdicts.decision import Rule
from results.verdicts.gates import Side

UNKNOWN = {"ratio": None, "ratio_low": None, "ratio_high": None}
HOSTILE = "[red]tiny[/red] \x1b[2J\nb2"
HARMLESS = "[red]tiny[/red] ?[2J?b2"


@pytest.fixture
def console():
    """Wide, and kept as text; no terminal."""
    return Console(file=StringIO(), width=120)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Console(file=StringIO(), width=120, force_terminal=True)


@pytest.fixture
def lines(console):
    """What a plain watcher writes of one call."""

    def write(told, *arguments):
        getattr(PlainGateWatcher(console), told)(*arguments)
        return console.file.getvalue().splitlines()

    return write


@pytest.fixture
def live(terminal):
    """A table on a terminal, closed in the end."""
    watcher = LiveGateWatcher(terminal)
    yield watcher
    watcher.end()


@pytest.fixture
def shown(live):
    """What a live watcher shows after one call."""

    def show(told, *arguments):
        getattr(live, told)(*arguments)
        console = Console(file=StringIO(), width=120)
        console.print(live.live.get_renderable())
        return console.file.getvalue()

    return show


# Plain lines


@pytest.mark.parametrize(("is_head_first", "order"), [(True, "head, base"), (False, "base, head")])
def test_a_pair_is_a_line_with_its_order_and_time(lines, make_gate_file, is_head_first, order):
    gate = make_gate_file()
    pair = gate.pairs[-1].model_copy(update={"is_head_first": is_head_first, "wall_s": 42.0})
    gate = gate.model_copy(update={"pairs": (*gate.pairs, pair)})

    assert lines("pair_ends", gate, 12) == [f"[7/12] {order} in 42 s"]


def test_a_launch_that_begins_is_no_line(lines, make_gate_file):
    assert lines("launch_begins", make_gate_file(), 1, Side(label="main")) == []


def test_the_end_is_no_line(lines):
    assert lines("end") == []


def test_a_look_has_a_line_for_each_cell(lines, make_gate_file, make_cell):
    gate = make_gate_file(make_cell("REGRESSED"), make_cell("OK", label="tiny b4 64px", **UNKNOWN))

    assert lines("look_ends", gate, None) == [
        "  REGRESSED tiny b2 64px: +5.00 % (+4.00 .. +6.00)",
        "  OK tiny b4 64px: - % (- .. -)",
    ]


def test_a_look_that_leaves_cells_open_says_what_another_costs(lines, make_gate_file, make_cell):
    gate = make_gate_file(*[make_cell("INCONCLUSIVE")] * 2, make_cell("OK"))

    assert lines("look_ends", gate, 12)[-1] == "2 cells are open: 6 more pairs, about 30 s"


def test_hostile_labels_can_not_drive_a_terminal(lines, make_gate_file, make_cell):
    (line,) = lines("look_ends", make_gate_file(make_cell(label=HOSTILE)), None)

    assert HARMLESS in line


def test_long_lines_are_not_broken(lines, make_gate_file, make_cell):
    long = "a" * 500

    assert len(lines("look_ends", make_gate_file(make_cell(label=long)), None)) == 1


# A table on a terminal


def test_the_table_has_a_row_a_cell(shown, make_gate_file, make_cell):
    text = shown("pair_ends", make_gate_file(make_cell("REGRESSED"), make_cell("OK")), 12)

    assert text.count("tiny b2 64px") == 2
    assert "+4.00 .. +6.00" in text
    assert "REGRESSED" in text


def test_an_open_cell_has_no_verdict_yet(shown, make_gate_file, make_cell):
    text = shown("pair_ends", make_gate_file(make_cell("INCONCLUSIVE")), 12)

    assert "INCONCLUSIVE" not in text
    assert "..." in text


def test_the_table_says_how_many_pairs_are_measured(shown, make_gate_file, make_cell):
    assert "6 of 12 pairs until it is judged" in shown("pair_ends", make_gate_file(make_cell()), 12)


def test_what_is_measured_now_is_shown(shown, make_gate_file):
    text = shown("launch_begins", make_gate_file(), 7, Side(label="main"))

    assert "pair 7: measuring main, 5 s for the pair before" in text


def test_the_first_pair_has_none_before_it(shown, make_gate_file):
    text = shown("launch_begins", make_gate_file(pairs=()), 1, Side(label="main"))

    assert text.strip() == "pair 1: measuring main"


def test_the_table_stays_while_the_next_launch_is_measured(live, shown, make_gate_file, make_cell):
    gate = make_gate_file(make_cell())
    live.pair_ends(gate, 12)

    assert "tiny b2 64px" in shown("launch_begins", gate, 7, Side(label="main"))


ENDS = {12: "1 cells are open: 6 more pairs, about 30 s", None: "decided"}


@pytest.mark.parametrize(("next_look", "text"), ENDS.items())
def test_a_look_says_what_follows(shown, make_gate_file, make_cell, next_look, text):
    assert text in shown("look_ends", make_gate_file(make_cell("INCONCLUSIVE")), next_look)


def test_hostile_labels_can_not_drive_a_table(shown, make_gate_file, make_cell):
    gate = make_gate_file(make_cell(label=HOSTILE))
    text = shown("pair_ends", gate, 12) + shown("launch_begins", gate, 7, Side(label=HOSTILE))

    assert text.count(HARMLESS) == 3  # the second call shows the table too


def test_a_table_is_no_longer_than_a_terminal(make_gate_file, make_cell):
    gate = make_gate_file(*[make_cell()] * (MOST_ROWS + 10), rule=Rule())

    assert cells_table(gate).row_count == MOST_ROWS


def test_the_table_leaves_the_terminal_as_it_was(live, terminal, make_gate_file, make_cell):
    live.pair_ends(make_gate_file(make_cell()), 12)
    live.end()
    written = terminal.file.getvalue()

    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor
    assert not live.live.is_started


def test_the_end_may_be_told_twice(live):
    live.end()
    live.end()

    assert not live.live.is_started


# Which of the two


def test_a_terminal_gets_a_table_and_anything_else_lines(console, terminal):
    watchers = [make_gate_watcher(each) for each in (terminal, console)]
    watchers[0].end()

    assert [type(watcher) for watcher in watchers] == [LiveGateWatcher, PlainGateWatcher]
