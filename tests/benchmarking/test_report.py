"""Tables of records: each number in its place, and nothing that a record holds does harm."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarking.report import (
    VIEWS,
    View,
    choices_views,
    end_lines,
    failure_lines,
    markdown,
    plan_view,
    print_view,
    status_line,
)
from benchmarking.sweep import VOCABULARY
from results import frames
from results.schema import STATUSES, Check, EmbeddingError, SweepEnd

FRAMES = {
    "case": frames.case_frame,
    "component": frames.component_frame,
    "module": frames.module_frame,
    "check": frames.check_frame,
}


def views(by, records):
    return VIEWS[by](FRAMES[by](records))


def shown(view, width=200):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_view(view, console)
    return console.file.getvalue()


# Views


def test_every_frame_has_its_view():
    assert set(VIEWS) == set(FRAMES)


def test_a_case_is_a_row_with_its_numbers_in_the_shown_units(make_record):
    (view,) = views("case", [make_record(batch_size=1), make_record(batch_size=2)])

    assert [row[:3] for row in view.rows] == [["1", "ok", "250"], ["2", "ok", "250"]]
    assert view.rows[1][3:6] == ["250 .. 250", "125", "8"]


def test_what_is_missing_is_a_dash(make_record):
    (view,) = views("case", [make_record("oom")])

    assert view.rows == [["2", "oom", *["-"] * 7]]


def test_a_component_is_a_column(make_record):
    (view,) = views("component", [make_record()])

    assert view.title == "From files to the masks of all prompts, median time of a batch [ms]"
    assert view.headings == [
        "batch_size",
        "preprocess",
        "image encoder",
        "image encoder\nshare [%]",
    ]
    assert view.rows == [["2", "250", "750", "75"]]


def with_changes(record, **changes):
    """The record with another measurement."""
    return record.model_copy(update={"measurement": record.measurement.model_copy(update=changes)})


def test_two_pipelines_are_two_tables_each_with_the_share_of_the_image_encoder(make_record):
    stages = {"image_encoder": (0.25,), "grid_prediction": (1.0,), "nms": (0.75,)}
    records = [make_record(batch_size=1), make_record(batch_size=2)]
    prompts, generator = views(
        "component", [records[0], with_changes(records[1], mask_generator_s=stages)]
    )

    assert [row[0] for row in prompts.rows] == ["1", "2"]
    assert generator.title == "Mask generator, median time of a batch [ms]"
    assert generator.headings[1:] == [
        "image encoder",
        "grid prediction",
        "nms",
        "image encoder\nshare [%]",
    ]
    assert generator.rows == [["2", "250", "1000", "750", "12.5"]]


def test_the_embedding_error_has_a_column_where_a_case_has_one(make_record):
    error = EmbeddingError(relative_l2=0.0123, max_abs=1.5)
    records = [make_record(batch_size=1), make_record(batch_size=2)]
    (view,) = views("case", [records[0], with_changes(records[1], embedding_error=error)])
    column = view.headings.index("embedding error")

    assert [row[column] for row in view.rows] == ["-", "0.012"]


def test_the_embedding_error_has_no_column_where_no_case_has_one(make_record):
    (view,) = views("case", [make_record(), make_record("oom", batch_size=4)])

    assert "embedding error" not in view.headings


def test_a_module_is_a_row_and_what_none_accounts_for_is_the_last(make_record):
    (view,) = views("module", [make_record(batch_size=1), make_record(batch_size=2)])

    assert view.headings[2:] == ["batch 1\n[ms/image]", "batch 2\n[ms/image]", "share at 2\n[%]"]
    assert view.rows == [
        ["blocks.0", "window", "875", "437.5", "87.5"],
        ["unattributed", "unattributed", "125", "62.50", "12.5"],
    ]


def test_modules_of_other_cases_have_tables_of_their_own(make_record):
    found = views("module", [make_record(precision=name) for name in ("fp32", "bf16")])

    assert [view.title for view in found] == [
        f"Time by module: precision {name}" for name in ("fp32", "bf16")
    ]


def test_what_is_the_same_in_all_rows_is_said_once(make_record):
    (view,) = views("case", [make_record(batch_size=1), make_record(batch_size=2)])

    assert view.headings[0] == "batch_size"
    assert view.caption.startswith("in all rows: model tiny, image_size 64, precision fp32")


ONE = {"spread": Check(value=0.5, limit="<= 0.05", verdict="warn", reason="far apart")}
WARNED = {
    "spread": Check(value=0.0625, limit="<= 0.05", verdict="warn", reason="samples lie far apart"),
    "output": Check(value=0.0, limit="0 faults", verdict="pass"),
    "clocks": Check(value=None, limit="none", verdict="unknown", reason="Not Supported"),
}


def test_a_check_that_did_not_pass_is_a_row_with_its_limit_and_reason(make_record):
    (view,) = views("check", [make_record(checks=WARNED)])

    assert view.headings == ["batch_size", "check", "value", "limit", "verdict", "reason"]
    assert view.rows == [
        ["2", "spread", "0.0625", "<= 0.05", "warn", "samples lie far apart"],
        ["2", "clocks", "-", "none", "unknown", "Not Supported"],
    ]


@pytest.mark.parametrize("by", VIEWS)
def test_a_table_counts_the_self_checks_of_its_cases(make_record, by):
    broken = Check(value=1.0, limit="0 faults", verdict="invalid", reason="NaN")
    records = [
        make_record(batch_size=1, checks=WARNED),
        make_record(batch_size=2, checks=WARNED | {"output": broken}),
    ]

    for view in views(by, records):
        assert view.caption.endswith("; self-checks: 6 made, 2 warn, 1 invalid")


@pytest.mark.parametrize("by", VIEWS)
def test_a_case_measured_in_two_sweeps_stands_in_both(make_record, by):
    records = [make_record(sweep_id=name, checks=ONE) for name in ("20250101-1", "20250102-2")]
    found = views(by, records)

    assert sum(shown(view).count("20250101-1") for view in found) == 1
    assert sum(shown(view).count("20250102-2") for view in found) == 1


@pytest.mark.parametrize("by", VIEWS)
@pytest.mark.parametrize("statuses", [(), ("oom", "crashed")])
def test_records_without_a_measurement_can_be_shown(make_record, by, statuses):
    records = [make_record(status, batch_size=index + 1) for index, status in enumerate(statuses)]
    rows = [row for view in views(by, records) for row in view.rows]

    assert len(rows) == (len(records) if by == "case" else 0)


@pytest.mark.parametrize("by", VIEWS)
def test_records_of_which_some_lack_a_pass_can_be_shown(make_record, by):
    whole, part = make_record(batch_size=1), make_record(batch_size=2)
    measurement = part.measurement.model_copy(
        update={"latency": None, "modules": None, "components_s": {"preprocess": (0.5,)}}
    )
    records = [whole, part.model_copy(update={"measurement": measurement})]

    assert all(shown(view) for view in views(by, records))


# On a terminal and as Markdown

NASTY = {
    "markup": ("[bold]x[/red]", "[bold]x[/red]"),
    "escape": ("\x1b[31mred", "?[31mred"),
    "newline": ("a\nb", "a?b"),
}


@pytest.mark.parametrize(("cell", "text"), NASTY.values(), ids=NASTY)
def test_a_cell_can_not_drive_a_terminal(cell, text):
    assert text in shown(View("title", ["weights"], [[cell]]))


@pytest.mark.parametrize(
    ("cell", "text"), [("a|b", "a\\|b"), ("a\nb", "a b"), ("||", "\\|\\|"), ("a\\|b", "a\\\\\\|b")]
)
def test_a_cell_can_not_end_a_markdown_cell(cell, text):
    assert markdown(View("title", ["weights"], [[cell]])).splitlines()[-1] == f"| {text} |"


def test_markdown_has_a_title_a_head_a_rule_rows_and_a_caption():
    view = View("title", ["a", "b\n[ms]"], [["1", "2"]], caption="below")

    assert markdown(view).splitlines() == [
        "**title**", "", "| a | b [ms] |", "| --- | --- |", "| 1 | 2 |", "", "below"
    ]  # fmt: skip


@pytest.mark.parametrize("by", VIEWS)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_terminal_is_too_narrow_for_a_number(make_record, by, width):
    records = [
        make_record(sweep_id=name, batch_size=1, checks=WARNED)
        for name in ("20250101-1", "20250102-2")
    ]

    assert all("\u2026" not in shown(view, width) for view in views(by, records))  # three dots


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


# What could be measured


def test_a_plan_says_of_each_case_whether_it_can_be_measured(make_case, environment):
    view = plan_view([make_case(), make_case(precision="tf32")], environment)

    assert [row[-1] for row in view.rows] == [
        "planned", "tf32 needs a CUDA GPU; a CPU has none of it"
    ]  # fmt: skip


def test_choices_list_every_word_of_every_axis_with_what_it_is():
    listed = {view.title: dict(view.rows) for view in choices_views()}

    assert {title: set(rows) for title, rows in listed.items()} == {
        f"--{axis}": set(words) for axis, words in VOCABULARY.items()
    }
    assert all(summary for rows in listed.values() for summary in rows.values())
