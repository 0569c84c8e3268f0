"""Tables of a report: units in the headings, dashes for what is missing, no empty columns."""

from __future__ import annotations

import csv
import re
from io import StringIO

import pandas as pd
import pytest

from dashboards.figures import FIGURES
from dashboards.tables import (
    KEPT,
    OF_OTHER_PASSES,
    TABLES,
    csv_text,
    heading,
    markdown_text,
    shown_table,
    text,
    with_passes,
)
from results.records.case import AXES

COLUMNS = ("gpu", "model", "batch_size", "median_s", "bound_by")
OF_NO_CASE = ("prices", "sweeps")  # a row a GPU, or a sweep
OF_ONE_GPU = ("comparison",)  # which the page names
WITHOUT_A_UNIT = ("after / before", "ratio at least", "ratio at most")
SPECS = {**TABLES, **FIGURES}


@pytest.fixture
def rows():
    """Of two models; the second case failed."""
    return pd.DataFrame(
        {
            "gpu": ["NVIDIA L4", "NVIDIA L4"],
            "model": ["vit_b", "vit_l"],
            "batch_size": [4, 4],
            "median_s": [0.0125, None],
            "bound_by": ["compute", None],
        }
    )


@pytest.fixture
def table_of(frames):
    return lambda name: shown_table(frames[TABLES[name].frame], TABLES[name].columns)


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_a_table_is_one_of_its_frame(frames, name):
    frame = frames[TABLES[name].frame]

    assert set(with_passes(frame, TABLES[name].columns)) <= set(frame.columns)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_a_row_for_each_of_its_frame(table_of, frames, name):
    assert len(table_of(name)) == len(frames[TABLES[name].frame]) > 0


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_no_records_is_empty(make_frames, name):
    assert shown_table(make_frames([])[TABLES[name].frame], TABLES[name].columns).empty


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_a_text_that_is_no_nan(table_of, name):
    cells = [cell for row in table_of(name).to_numpy().tolist() for cell in row]

    assert {type(cell) for cell in cells} == {str}
    assert not {"nan", "None", "NaN", "<NA>", ""} & set(cells)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_names_what_differs(table_of, frames, name):
    frame = frames[TABLES[name].frame]
    device = "gpu" if "gpu" in TABLES[name].columns else "device_name"  # which tells the GPU
    told = (device, *(axis for axis in AXES if axis != "gpu"))
    differing = {axis for axis in told if axis in frame and frame[axis].nunique() > 1}

    assert {heading(axis) for axis in differing} <= set(table_of(name).columns)
    assert {"model"} <= differing or name in OF_NO_CASE


@pytest.mark.parametrize(
    "name", [name for name in TABLES if name not in (*OF_NO_CASE, *OF_ONE_GPU)]
)
def test_a_table_of_the_demonstration_tells_gpu_model_precision_and_attention(table_of, name):
    device = "gpu" if "gpu" in TABLES[name].columns else "device name"

    assert {device, "model", "precision", "attention"} <= set(table_of(name).columns)


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_fractions_is_headed_with_its_unit(table_of, name):
    table = table_of(name)
    fractions = [each for each in table if table[each].str.fullmatch(r"\d+\.\d*[1-9]").any()]

    assert fractions or name == "sweeps"
    for each in fractions:
        assert each.endswith("]") or "images/s" in each or each in WITHOUT_A_UNIT


@pytest.mark.parametrize("name", TABLES)
def test_no_number_has_more_digits_than_a_person_reads(table_of, name):
    table = table_of(name)

    for column in table:
        assert not table[column].str.fullmatch(r"\d+\.\d{7,}").any(), column


@pytest.mark.parametrize("name", TABLES)
def test_a_batch_size_is_a_whole_number(table_of, name):
    table = table_of(name)

    for column in table.columns.intersection(["batch size", "smallest oom", "largest batch"]):
        assert table[column].str.fullmatch(r"-|\d+").all(), column


def test_a_time_is_in_milliseconds_and_says_so(rows):
    assert shown_table(rows, COLUMNS)["median [ms]"].iloc[0] == "12.50"


def test_a_missing_number_is_a_dash(rows):
    assert shown_table(rows, COLUMNS)["median [ms]"].iloc[1] == "-"


def test_a_missing_word_is_a_dash(rows):
    assert shown_table(rows, COLUMNS)["bound by"].iloc[1] == "-"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NaT], ids=str)
def test_nothing_is_a_dash_whatever_it_is(missing):
    assert text(missing) == "-"


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (False, "False"), (0.0, "0"), (32.0, "32")])
def test_zero_is_no_dash_and_a_whole_number_is_whole(value, shown):
    assert text(value) == shown


def test_a_column_without_values_is_left_out(rows):
    assert "bound by" not in shown_table(rows.assign(bound_by=None), COLUMNS)


@pytest.mark.parametrize("axis", [axis for axis in AXES if axis not in KEPT])
def test_an_axis_that_is_the_same_everywhere_is_left_out(rows, axis):
    columns = (*COLUMNS, axis)

    assert heading(axis) not in shown_table(rows.assign(**{axis: "a"}), columns)
    assert list(shown_table(rows.assign(**{axis: ["a", "b"]}), columns)[heading(axis)]) == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("axis", KEPT)
def test_what_every_table_names_stays_where_it_is_the_same_everywhere(rows, axis):
    shown = shown_table(rows.assign(**{axis: "a"}), COLUMNS)

    assert list(shown[heading(axis)]) == ["a", "a"]


def test_the_gpu_stays_where_it_is_the_same_everywhere(rows):
    assert list(shown_table(rows, COLUMNS)["gpu"]) == ["NVIDIA L4"] * 2


# For other programs


@pytest.mark.parametrize("name", SPECS)
def test_a_csv_has_all_columns_by_their_own_names(frames, name):
    spec = SPECS[name]
    read = pd.read_csv(StringIO(csv_text(frames[spec.frame], spec.columns)))

    assert list(read.columns) == [each for each in spec.columns if each != OF_OTHER_PASSES]
    assert len(read) == len(frames[spec.frame])


@pytest.mark.parametrize("name", SPECS)
def test_a_csv_is_in_base_units(frames, name):
    spec = SPECS[name]
    frame = frames[spec.frame]
    read = pd.read_csv(StringIO(csv_text(frame, spec.columns)))
    numbers = [each for each in read.columns if pd.api.types.is_numeric_dtype(frame[each])]

    assert numbers
    for column in numbers:
        own = frame[column].to_numpy(dtype=float)
        assert read[column].to_numpy(dtype=float) == pytest.approx(own, nan_ok=True)


def test_a_missing_value_is_empty_in_a_csv(rows):
    assert (
        csv_text(rows, ("median_s", "bound_by")) == "median_s,bound_by\r\n0.0125,compute\r\n,\r\n"
    )


@pytest.mark.parametrize("evil", ["a,b", 'a "b"', "a\nb", "a\rb", "a\r\n=1+1", "a\r=1+1", '"'])
def test_no_text_ends_a_cell_or_a_row_of_a_csv(rows, evil):
    written = csv_text(rows.assign(gpu=evil), ("gpu", "model"))
    read = list(csv.reader(StringIO(written, newline="")))

    assert read == [["gpu", "model"], [evil, "vit_b"], [evil, "vit_l"]]


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_text_is_a_formula_in_a_spreadsheet(rows, formula):
    read = pd.read_csv(StringIO(csv_text(rows.assign(gpu=formula), ("gpu", "median_s"))))

    assert list(read["gpu"]) == [f"'{formula}"] * 2
    assert read["median_s"].iloc[0] == 0.0125


def test_a_negative_number_is_a_number_in_a_csv(rows):
    assert csv_text(rows.assign(median_s=-0.5), ("median_s",)) == "median_s\r\n-0.5\r\n-0.5\r\n"


def test_a_column_that_a_frame_lacks_is_left_out_of_a_csv(rows):
    assert csv_text(rows, ("model", "no_such")).splitlines()[0] == "model"


# For an issue or a chat


def cells(markdown):
    """Of each row, as GitHub splits it: at bars that no backslash is before."""
    return [re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1] for line in markdown.splitlines()]


@pytest.mark.parametrize("name", SPECS)
def test_a_markdown_table_has_the_rows_and_columns_that_are_shown(frames, name):
    spec = SPECS[name]
    shown = shown_table(frames[spec.frame], spec.columns)
    head, rule, *body = cells(markdown_text(frames[spec.frame], spec.columns))

    assert len(body) == len(shown)
    assert {len(row) for row in (head, rule, *body)} == {len(shown.columns)}
    assert set(rule) == {" --- "}


def test_a_markdown_table_is_headed_with_units(rows):
    lines = markdown_text(rows, COLUMNS).splitlines()

    assert lines[0] == "| gpu | model | batch size | median [ms] | bound by |"
    assert lines[2] == "| NVIDIA L4 | vit_b | 4 | 12.50 | compute |"
    assert lines[3] == "| NVIDIA L4 | vit_l | 4 | - | - |"


@pytest.mark.parametrize(
    "evil", ["a|b", "a\nb", "a\r\n| c | d |", "\\", "\\|", "a\\\\|b", "|", "a\tb", "a\u2028b"]
)
def test_no_text_ends_a_cell_or_a_row(rows, evil):
    named = rows.assign(gpu=[evil, "L4"], model=["b", evil])
    table = cells(markdown_text(named, COLUMNS))

    assert [len(row) for row in table] == [5] * 4


@pytest.mark.parametrize(
    ("evil", "must_not"),
    [
        ("<script>", "<"),
        ("@org/team", "@org"),
        ("me@org", "@org"),
        ("#1", "#1"),
        ("owner/repo#1", "#1"),
        ("`code`", " `"),
        ("![x](https://example.org/x.png)", "x]("),
        ("[x](https://example.org)", "x]("),
    ],
)
def test_no_text_calls_anybody_or_is_anything_but_text(rows, evil, must_not):
    shown = markdown_text(rows.assign(gpu=evil), COLUMNS)

    assert must_not not in shown


@pytest.mark.parametrize("name", ["NVIDIA L4", "vit_b", "50 %", "a - b"])
def test_a_plain_name_stays_as_it_is(rows, name):
    assert f"| {name} |" in markdown_text(rows.assign(gpu=name), COLUMNS)
