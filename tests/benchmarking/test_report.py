"""Tables of records: each number in its place, and nothing that a record holds does harm."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarking.views.printing import (
    TextTable,
    end_lines,
    failure_lines,
    markdown,
    print_table,
    status_line,
    text_headings,
)
from results.records.schema import STATUSES, Check, SweepEnd


def shown(view, width=200):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(view, console)
    return console.file.getvalue()


WARNED = {
    "spread": Check(value=0.0625, limit="<= 0.05", verdict="warn", reason="samples lie far apart"),
    "output": Check(value=0.0, limit="0 faults", verdict="pass"),
    "clocks": Check(value=None, limit="none", verdict="unknown", reason="Not Supported"),
}


# On a terminal and as Markdown

NASTY = {
    "markup": ("[bold]x[/red]", "[bold]x[/red]"),
    "escape": ("\x1b[31mred", "?[31mred"),
    "newline": ("a\nb", "a?b"),
}


@pytest.mark.parametrize(("cell", "text"), NASTY.values(), ids=NASTY)
def test_a_cell_can_not_drive_a_terminal(cell, text):
    assert text in shown(TextTable("title", ["weights"], [[cell]]))


def test_text_is_aligned_to_the_left_and_numbers_to_the_right():
    view = TextTable("title", [*text_headings("reason"), "time"], [["x", "1"]])

    assert "│ x      │    1 │" in shown(view)


@pytest.mark.parametrize(
    ("cell", "text"), [("a|b", "a\\|b"), ("a\nb", "a b"), ("||", "\\|\\|"), ("a\\|b", "a\\\\\\|b")]
)
def test_a_cell_can_not_end_a_markdown_cell(cell, text):
    assert markdown(TextTable("title", ["weights"], [[cell]])).splitlines()[-1] == f"| {text} |"


def test_markdown_has_a_title_a_head_a_rule_rows_and_a_caption():
    view = TextTable("title", ["a", "b\n[ms]"], [["1", "2"]], caption="below")

    assert markdown(view).splitlines() == [
        "**title**", "", "| a | b [ms] |", "| --- | --- |", "| 1 | 2 |", "", "below"
    ]  # fmt: skip


# Lines


def test_a_case_without_a_number_has_a_line_with_its_reason(make_record):
    records = [make_record(batch_size=1), make_record("oom", batch_size=2)]

    assert failure_lines(records) == [f"oom: {records[1].case.label}: why it is oom"]


def test_a_reason_can_not_drive_a_terminal(make_record):
    (line,) = failure_lines([make_record("crashed", message="\x1b]0;title\x07")])

    assert line.isprintable()


@pytest.mark.parametrize(
    ("planned", "statuses", "line"),
    [
        (3, ["ok", "ok", "oom"], "3 cases planned: 2 ok, 1 oom"),
        (3, ["ok"], "3 cases planned: 1 ok, 2 not run"),
        (2, [], "2 cases planned: 2 not run"),
    ],
)
def test_the_parts_of_the_status_line_add_up(make_record, planned, statuses, line):
    records = [make_record(status, batch_size=index + 1) for index, status in enumerate(statuses)]

    assert status_line(planned, records) == line


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "not_run"])
def test_every_status_is_counted(make_record, status):
    assert status_line(1, [make_record(status)]) == f"1 cases planned: 1 {status}"


@pytest.fixture
def make_end():
    def make(**changes) -> SweepEnd:
        fields = {
            "sweep_id": "20250101-1", "ended_at": "2025-01-02T03:04:05Z", "planned": 3,
            "statuses": {"ok": 3}, "wall_s": 30.0, "measured_s": 24.0,
        }  # fmt: skip
        return SweepEnd(**fields | changes)

    return make


def test_the_end_of_a_sweep_tells_what_it_cost_beside_its_measuring(make_end):
    assert end_lines(make_end()) == ["It took 30 s, 1.25 times its timed and warm-up work."]


def test_a_sweep_that_measured_nothing_cost_nothing_beside_it(make_end):
    assert end_lines(make_end(measured_s=0.0)) == []


def test_a_sweep_that_came_to_no_end_has_no_lines():
    assert end_lines(None) == []


def test_checks_of_a_sweep_that_did_not_pass_have_a_line_each(make_end):
    *_, line = end_lines(make_end(checks=WARNED | {"clocks": WARNED["output"]}))

    assert line == "self-check spread: warn: samples lie far apart"


def test_a_reason_of_a_sweep_s_check_can_not_drive_a_terminal(make_end):
    nasty = Check(value=1.0, limit="", verdict="warn", reason="\x1b]0;title\x07")

    assert end_lines(make_end(checks={"drift": nasty}))[-1].isprintable()
