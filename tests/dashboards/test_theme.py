"""Looks: which colour, marker and line each name gets, and that it stays so."""

from __future__ import annotations

import subprocess
import sys
from html import unescape

import plotly.graph_objects as go
import pytest

from benchmarking.choices.precision import PRECISIONS
from benchmarking.demo.synthetic_gpu import COMPUTE_SHARE
from dashboards.theme import (
    DASHES,
    GPU_COLORS,
    MARKERS,
    PALETTE,
    PAPER,
    STATUS_MARKS,
    TEMPLATES,
    color_of,
    dash_of,
    finish,
    kind_color,
    marker_of,
    part_color,
    safe,
    themed,
)
from sam.attention.variants import ATTENTION

UNKNOWN = "A GPU of next year"
JOINED = [f"{window}+{of_global}" for window in DASHES for of_global in DASHES]


@pytest.mark.parametrize("device", [*GPU_COLORS, UNKNOWN, ""])
def test_a_device_has_a_colour_of_the_palette(device):
    assert color_of(device) in PALETTE


def test_known_devices_have_different_colours():
    assert len({color_of(device) for device in GPU_COLORS}) == len(GPU_COLORS)


def test_an_unknown_device_has_the_same_colour_in_every_process():
    # Python's own hash of a text differs from process to process.
    code = "from dashboards.theme import color_of; print([color_of(str(i)) for i in range(20)])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True,
            text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip

    assert said == {f"{[color_of(str(i)) for i in range(20)]}\n"}


def test_unknown_devices_do_not_all_look_the_same():
    assert len({color_of(f"GPU {number}") for number in range(20)}) > 3


@pytest.mark.parametrize("precision", COMPUTE_SHARE)
def test_every_precision_has_its_own_marker(precision):
    assert [marker_of(each) for each in MARKERS].count(marker_of(precision)) == 1


def test_an_unknown_precision_has_a_marker_of_no_other():
    assert marker_of("int3") not in MARKERS.values()


@pytest.mark.parametrize("attention", ATTENTION)
def test_every_attention_has_its_own_line(attention):
    assert [dash_of(each) for each in DASHES].count(dash_of(attention)) == 1


def test_an_unknown_attention_has_a_line_of_no_other():
    assert dash_of("new") not in DASHES.values()


@pytest.mark.parametrize("attention", JOINED)
def test_two_attentions_that_are_joined_have_a_line_of_their_own(attention):
    others = {dash_of(each) for each in (*DASHES, *JOINED, "new") if each != attention}

    assert dash_of(attention) not in others


@pytest.mark.parametrize("attention", JOINED)
def test_a_line_of_two_attentions_is_one_that_plotly_draws(attention):
    assert go.Scatter(line={"dash": dash_of(attention)}).line.dash == dash_of(attention)


@pytest.mark.parametrize("name", ["new+sdpa", "sdpa+new", "sdpa+sdpa+sdpa", "+", "sdpa+", ""])
def test_a_joined_attention_of_which_one_is_unknown_has_the_line_of_an_unknown_one(name):
    assert dash_of(name) == dash_of("new")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_that_can_be_measured_has_its_own_marker(precision):
    assert [marker_of(each) for each in MARKERS].count(MARKERS[precision]) == 1


@pytest.mark.parametrize("position", [0, 7, 8, 100])
def test_an_unknown_part_has_a_colour_of_the_palette(position):
    assert part_color("a new part", position) in PALETTE


@pytest.mark.parametrize("is_synthetic", [True, False])
def test_a_watermark_stands_where_something_is_made_up_alone(is_synthetic):
    figure = finish(go.Figure(), "A title", is_synthetic)

    assert [each.text for each in figure.layout.annotations] == ["synthetic"] * is_synthetic


def test_no_figure_needs_a_font_from_the_network():
    assert finish(go.Figure(), "A title", False).layout.font.family.endswith("sans-serif")


def test_a_title_has_its_note_in_a_line_of_its_own():
    title = finish(go.Figure(), "A title [ms]", False, note="1 of 2 shown").layout.title

    assert (title.text, title.subtitle.text) == ("A title [ms]", "1 of 2 shown")


def test_a_title_without_a_note_has_an_empty_one():
    assert finish(go.Figure(), "A title", False).layout.title.subtitle.text == ""


def test_a_figure_is_as_high_as_it_is_asked_to_be():
    assert finish(go.Figure(), "A title", False, 321).layout.height == 321


# Light and dark


@pytest.mark.parametrize("theme", TEMPLATES)
def test_a_figure_has_the_page_s_own_background(theme):
    layout = themed(finish(go.Figure(), "A title", True), theme).layout

    assert (layout.paper_bgcolor, layout.plot_bgcolor) == (PAPER[theme],) * 2


def test_light_and_dark_differ_in_letters_and_background():
    light, dark = (themed(go.Figure(), theme).layout for theme in ("light", "dark"))

    assert light.template.layout.font.color != dark.template.layout.font.color
    assert light.paper_bgcolor != dark.paper_bgcolor


def test_a_theme_has_a_template_and_a_background():
    assert set(TEMPLATES) == set(PAPER) == {"light", "dark"}


@pytest.mark.parametrize("theme", TEMPLATES)
def test_another_theme_changes_neither_what_is_drawn_nor_its_title(theme):
    figure = finish(go.Figure(go.Scatter(x=[1], y=[2])), "A title", True, 321, "a note")
    before = figure.to_dict()
    after = themed(figure, theme).to_dict()

    assert after["data"] == before["data"]
    for name in ("title", "height", "annotations", "font", "margin"):
        assert after["layout"][name] == before["layout"][name]


def test_a_figure_can_go_from_dark_to_light_again():
    light = themed(finish(go.Figure(), "A title", False), "light").to_json()

    assert themed(themed(finish(go.Figure(), "A title", False), "dark"), "light").to_json() == light


# Marks and kinds


def test_marks_of_statuses_differ_in_symbol_and_in_colour():
    symbols, shades = zip(*STATUS_MARKS.values(), strict=True)

    assert len(set(symbols)) == len(set(shades)) == len(STATUS_MARKS)


@pytest.mark.parametrize(
    ("kind", "like"), [("window attention", "window"), ("global attention", "global")]
)
def test_a_part_of_a_block_has_its_block_s_colour(kind, like):
    assert kind_color(kind) == kind_color(like)


def test_kinds_that_differ_most_differ_in_colour():
    assert len({kind_color(kind) for kind in ("window", "global", "neck", "unattributed")}) == 4


# Labels


@pytest.mark.parametrize("text", ["NVIDIA L4", "vit_b bf16", "50 %", "a {b} c", "", "naïve 图"])
def test_a_plain_label_stays_as_it_is(text):
    assert safe(text) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("<b>", "&lt;b&gt;"), ("a & b", "a &amp; b"), ("&lt;", "&amp;lt;")]
)
def test_html_in_a_label_is_text(text, shown):
    assert safe(text) == shown


@pytest.mark.parametrize("text", [r"$\href{javascript:alert(1)}{x}$", "$x$", "a $ b $", "$$", "$"])
def test_nothing_of_a_label_stands_between_dollars(text):
    assert "$" not in safe(text)
    assert unescape(safe(text)) == text  # and is shown as it is


@pytest.mark.parametrize("text", ["%{y}", "%{customdata[0]}", "a%{x}b", "%%{y}"])
def test_nothing_of_a_label_is_filled_in(text):
    assert "%{" not in safe(text)


@pytest.mark.parametrize("value", [None, 4, 1.5, float("nan")], ids=str)
def test_a_label_may_be_no_text(value):
    assert safe(value) == str(value)
