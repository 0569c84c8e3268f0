"""Views of records: each number in its place, whatever the records lack."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from benchmarking.choices.sweep import VOCABULARY
from benchmarking.commands import sweeping
from benchmarking.views.printing import markdown, print_table
from benchmarking.views.views import IN_PARENTHESES, VIEWS, choices_views, plan_view
from results.records.measurement import (
    EmbeddingError,
    Kernels,
    KernelTime,
    Modules,
    ModuleTiming,
    Pipeline,
)
from results.records.schema import Check

OF_CASES = ("cases", "components", "modules", "checks")  # whose tables name every case
COMPUTES = {"kind": "window", "flops": 4e9, "image_bytes": 1e8}
WAITS = {"kind": "norm", "flops": 1e8, "image_bytes": 1e9, "weights_bytes": 2e9}


def views(by, records):
    show = VIEWS[by]
    return show.views(show.frame(records, {}))


def shown(view, width=200):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(view, console)
    return console.file.getvalue()


def with_changes(record, **changes):
    """The record with other results of passes."""
    return record.model_copy(update={"measurement": record.measurement.with_passes(**changes)})


ONE = {"spread": Check(value=0.5, limit="<= 0.05", verdict="warn", reason="far apart")}
WARNED = {
    "spread": Check(value=0.0625, limit="<= 0.05", verdict="warn", reason="samples lie far apart"),
    "output": Check(value=0.0, limit="0 faults", verdict="pass"),
    "clocks": Check(value=None, limit="none", verdict="unknown", reason="Not Supported"),
}
KERNELS = Kernels(
    forwards=2,
    times=(
        KernelTime(module="blocks.0", kind="window", name="gemm", calls=4, total_s=4e-3),
        KernelTime(module="blocks.1", kind="norm", name="layer_norm", calls=2, total_s=2e-3),
        KernelTime(module="blocks.0", kind="window", name="copy", calls=2, total_s=1e-3),
    ),
)


@pytest.fixture
def full(measured):
    """Records of which every view has something to show."""
    components = Pipeline(stages_s={"preprocess": (0.25,), "image_encoder": (0.75,)})
    return [
        with_changes(record, kernels=KERNELS, components=components)
        for record in measured([COMPUTES, WAITS], (1, 4), checks=WARNED)
    ]


# All views


def test_what_is_shown_after_a_sweep_are_views():
    assert set(sweeping.SHOWN_AFTER_A_SWEEP) <= set(VIEWS)


@pytest.mark.parametrize("by", VIEWS)
def test_a_view_says_what_it_is(by):
    assert VIEWS[by].summary


@pytest.mark.parametrize("by", VIEWS)
def test_rows_are_as_long_as_their_heads(full, by):
    found = views(by, full)

    assert found
    for view in found:
        assert view.rows
        assert {len(row) for row in view.rows} == {len(view.headings)}


@pytest.mark.parametrize("by", VIEWS)
def test_markdown_holds_every_cell_and_sentence(full, by):
    for view in views(by, full):
        text = markdown(view)
        cells = [cell.replace("\n", " ") for row in view.rows for cell in row]

        assert [part for part in (*cells, *view.sentences) if part not in text] == []


@pytest.mark.parametrize("by", VIEWS)
def test_a_terminal_shows_every_sentence_in_one_line(full, by):
    for view in views(by, full):
        lines = shown(view, width=40).splitlines()

        assert [sentence for sentence in view.sentences if sentence not in lines] == []


@pytest.mark.parametrize("by", VIEWS)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_terminal_is_too_narrow_for_a_number(full, make_record, by, width):
    records = [*full, make_record(sweep_id="20250101-1", batch_size=1, checks=WARNED)]

    assert all("\u2026" not in shown(view, width) for view in views(by, records))  # three dots


@pytest.mark.parametrize("by", VIEWS)
@pytest.mark.parametrize("statuses", [(), ("oom", "crashed")])
def test_records_without_a_measurement_can_be_shown(make_record, by, statuses):
    records = [make_record(status, batch_size=index + 1) for index, status in enumerate(statuses)]
    rows = [row for view in views(by, records) for row in view.rows]

    assert len(rows) == (len(records) if by == "cases" else 0)


PASSES = {
    "latency": {"latency": None},
    "modules": {"modules": None},
    "flops": {"flops": None},
    "all but a component": {
        "latency": None, "modules": None, "flops": None,
        "components": Pipeline(stages_s={"preprocess": (0.5,)}),
    },
    "all": {"latency": None, "modules": None, "components": None, "flops": None},
}  # fmt: skip


@pytest.mark.parametrize("by", VIEWS)
@pytest.mark.parametrize("lacking", PASSES.values(), ids=PASSES)
def test_records_of_which_some_lack_a_pass_can_be_shown(full, by, lacking):
    records = [full[0], with_changes(full[1], **lacking)]
    found = views(by, records)

    assert [view for view in found if not shown(view)] == []
    assert "nan" not in "".join(map(shown, found))


@pytest.mark.parametrize("by", OF_CASES)
def test_a_table_counts_the_self_checks_of_its_cases(make_record, by):
    broken = Check(value=1.0, limit="0 faults", verdict="invalid", reason="NaN")
    records = [
        make_record(batch_size=1, checks=WARNED),
        make_record(batch_size=2, checks=WARNED | {"output": broken}),
    ]
    captions = [view.caption for view in views(by, records)]

    assert captions
    assert [
        each for each in captions if not each.endswith("; self-checks: 6 made, 2 warn, 1 invalid")
    ] == []


@pytest.mark.parametrize("by", OF_CASES)
def test_a_case_measured_in_two_sweeps_stands_in_both(make_record, by):
    records = [make_record(sweep_id=name, checks=ONE) for name in ("20250101-1", "20250102-2")]
    found = views(by, records)

    assert sum(shown(view).count("20250101-1") for view in found) == 1
    assert sum(shown(view).count("20250102-2") for view in found) == 1


# Cases, components, modules, checks


def test_a_case_is_a_row_with_its_numbers_in_the_shown_units(make_record):
    (view,) = views("cases", [make_record(batch_size=1), make_record(batch_size=2)])

    assert [row[:3] for row in view.rows] == [["1", "ok", "250"], ["2", "ok", "250"]]
    assert view.rows[1][3:6] == ["250 .. 250", "125", "8"]


def test_what_is_missing_is_a_dash(make_record):
    (view,) = views("cases", [make_record("oom")])

    assert view.rows == [["2", "oom", *["-"] * 7]]


def test_a_component_is_a_column(make_record):
    (view,) = views("components", [make_record()])

    assert view.title == "From files to the masks of all prompts, median time of a batch [ms]"
    assert view.headings == [
        "batch_size",
        "preprocess",
        "image encoder",
        "image encoder\nshare [%]",
    ]
    assert view.rows == [["2", "250", "750", "75"]]


def test_two_pipelines_are_two_tables_each_with_the_share_of_the_image_encoder(make_record):
    stages = {"image_encoder": (0.25,), "grid_prediction": (1.0,), "nms": (0.75,)}
    records = [make_record(batch_size=1), make_record(batch_size=2)]
    prompts, generator = views(
        "components",
        [records[0], with_changes(records[1], mask_generator=Pipeline(stages_s=stages))],
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
    (view,) = views("cases", [records[0], with_changes(records[1], embedding_error=error)])
    column = view.headings.index("embedding error")

    assert [row[column] for row in view.rows] == ["-", "0.012"]


def test_the_embedding_error_has_no_column_where_no_case_has_one(make_record):
    (view,) = views("cases", [make_record(), make_record("oom", batch_size=4)])

    assert "embedding error" not in view.headings


def test_a_module_is_a_row_and_what_none_accounts_for_is_the_last(make_record):
    (view,) = views("modules", [make_record(batch_size=1), make_record(batch_size=2)])

    assert view.headings[2:] == ["batch 1\n[ms/image]", "batch 2\n[ms/image]", "share at 2\n[%]"]
    assert view.rows == [
        ["blocks.0", "window", "875", "437.5", "87.5"],
        ["unattributed", "unattributed", "125", "62.50", "12.5"],
    ]


def test_modules_of_other_cases_have_tables_of_their_own(make_record):
    found = views("modules", [make_record(precision=name) for name in ("fp32", "bf16")])

    assert [view.title for view in found] == [
        f"Time by module: precision {name}" for name in ("fp32", "bf16")
    ]


def test_what_is_the_same_in_all_rows_is_said_once(make_record):
    (view,) = views("cases", [make_record(batch_size=1), make_record(batch_size=2)])

    assert view.headings[0] == "batch_size"
    assert view.caption.startswith("in all rows: model tiny, image_size 64, precision fp32")


def test_a_check_that_did_not_pass_is_a_row_with_its_limit_and_reason(make_record):
    (view,) = views("checks", [make_record(checks=WARNED)])

    assert view.headings == ["batch_size", "check", "value", "limit", "verdict", "reason"]
    assert view.rows == [
        ["2", "spread", "0.0625", "<= 0.05", "warn", "samples lie far apart"],
        ["2", "clocks", "-", "none", "unknown", "Not Supported"],
    ]


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


# What is too short to tell


def module_table(record, **seconds):
    """The table of a record whose modules take so long."""
    modules = {
        name: ModuleTiming(
            total_s=(each,) * 6, self_s=(each,) * 6, kind="norm", parent="image_encoder"
        )
        for name, each in seconds.items()
    }
    (view,) = views("modules", [with_changes(record, modules=Modules(timings=modules))])
    return view


def test_a_time_that_the_timer_can_not_tell_is_in_parentheses_and_faint(make_record):
    view = module_table(make_record(batch_size=1), long=1e-3, short=1e-6)

    assert [row[2] for row in view.rows] == ["1", "(0.0010)"]
    assert view.faint == {(1, 2)}


def test_what_parentheses_mean_is_told_below(make_record):
    assert module_table(make_record(), short=1e-6).caption.endswith(f"; {IN_PARENTHESES}")


def test_nothing_is_told_of_parentheses_where_there_are_none(make_record):
    view = module_table(make_record(), long=1e-3)

    assert IN_PARENTHESES not in view.caption
    assert view.faint == set()


def test_what_no_module_accounts_for_is_never_in_parentheses(make_record):
    """It is a difference, which no timer measured."""
    view = module_table(make_record(), image_encoder=1e-6, neck=1e-3)

    assert view.rows[-1][0] == "unattributed"
    assert not any("(" in cell for cell in view.rows[-1])


def test_a_faint_cell_is_dim_on_a_terminal_that_can(make_record):
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    print_table(module_table(make_record(batch_size=1), short=1e-6), console)

    assert re.search(r"\x1b\[2m\(0\.0010\)", console.file.getvalue())


# Kernels


def test_kernels_of_a_kind_of_module_are_a_row_the_longest_first(full):
    first, second = views("kernels", full)

    assert [row[:4] for row in first.rows] == [
        ["window", "gemm", "2", "2"],
        ["norm", "layer_norm", "1", "1"],
        ["window", "copy", "1", "0.5000"],
    ]
    assert second.rows == first.rows
