"""Tables of a report: units in the headings, dashes for what is missing, no empty columns."""

from __future__ import annotations

import pandas as pd
import pytest

from dashboards.tables import TABLES, TableSpec, shown_table, text

SPEC = TableSpec("cases", "Cases", ("gpu", "model", "batch_size", "median_s", "bound_by"))


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
    return lambda name: shown_table(frames[TABLES[name].frame], TABLES[name])


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_a_table_is_one_of_its_frame(frames, name):
    assert set(TABLES[name].columns) <= set(frames[TABLES[name].frame].columns)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_a_row_for_each_of_its_frame(table_of, frames, name):
    assert len(table_of(name)) == len(frames[TABLES[name].frame]) > 0


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_no_records_is_empty(make_frames, name):
    assert shown_table(make_frames([])[TABLES[name].frame], TABLES[name]).empty


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_a_text_that_is_no_nan(table_of, name):
    cells = [cell for row in table_of(name).to_numpy().tolist() for cell in row]

    assert {type(cell) for cell in cells} == {str}
    assert not {"nan", "None", "NaN", "<NA>", ""} & set(cells)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_names_what_differs(table_of, name):
    assert {"gpu", "model", "precision", "attention"} <= set(table_of(name).columns)


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_fractions_is_headed_with_its_unit(table_of, name):
    table = table_of(name)
    fractions = [each for each in table if table[each].str.fullmatch(r"\d+\.\d*[1-9]").any()]

    assert fractions
    for heading in fractions:
        assert heading.endswith("]") or "images/s" in heading or "images per s" in heading


@pytest.mark.parametrize("name", TABLES)
def test_no_number_has_more_digits_than_a_person_reads(table_of, name):
    table = table_of(name)

    for heading in table:
        assert not table[heading].str.fullmatch(r"\d+\.\d{7,}").any(), heading


@pytest.mark.parametrize("name", TABLES)
def test_a_batch_size_is_a_whole_number(table_of, name):
    table = table_of(name)

    for column in table.columns.intersection(["batch size", "smallest oom", "largest batch"]):
        assert table[column].str.fullmatch(r"-|\d+").all(), column


def test_a_time_is_in_milliseconds_and_says_so(rows):
    assert shown_table(rows, SPEC)["median [ms]"].iloc[0] == "12.50"


def test_a_missing_number_is_a_dash(rows):
    assert shown_table(rows, SPEC)["median [ms]"].iloc[1] == "-"


def test_a_missing_word_is_a_dash(rows):
    assert shown_table(rows, SPEC)["bound by"].iloc[1] == "-"


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NaT], ids=str)
def test_nothing_is_a_dash_whatever_it_is(missing):
    assert text(missing) == "-"


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (False, "False"), (0.0, "0"), (32.0, "32")])
def test_zero_is_no_dash_and_a_whole_number_is_whole(value, shown):
    assert text(value) == shown


def test_a_column_without_values_is_left_out(rows):
    assert "bound by" not in shown_table(rows.assign(bound_by=None), SPEC)


def test_an_axis_that_is_the_same_everywhere_is_left_out(rows):
    assert "model" not in shown_table(rows.assign(model="vit_b"), SPEC)


def test_the_batch_size_stays_where_it_is_the_same_everywhere(rows):
    assert list(shown_table(rows, SPEC)["batch size"]) == ["4", "4"]


def test_the_gpu_stays_where_it_is_the_same_everywhere(rows):
    assert list(shown_table(rows, SPEC)["gpu"]) == ["NVIDIA L4"] * 2
