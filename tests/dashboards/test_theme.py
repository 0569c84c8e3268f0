"""Looks: which colour, marker and line each name gets, and that it stays so."""

from __future__ import annotations

import subprocess
import sys

import plotly.graph_objects as go
import pytest

from benchmarking.made_up import COMPUTE_SHARE
from dashboards.theme import (
    DASHES,
    GPU_COLORS,
    MARKERS,
    PALETTE,
    color_of,
    dash_of,
    finish,
    marker_of,
    part_color,
)
from sam.attention import ATTENTION

UNKNOWN = "A GPU of next year"


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


@pytest.mark.parametrize("position", [0, 7, 8, 100])
def test_an_unknown_part_has_a_colour_of_the_palette(position):
    assert part_color("a new part", position) in PALETTE


@pytest.mark.parametrize("is_synthetic", [True, False])
def test_a_watermark_stands_where_something_is_made_up_alone(is_synthetic):
    figure = finish(go.Figure(), "A title", is_synthetic)

    assert [each.text for each in figure.layout.annotations] == ["synthetic"] * is_synthetic


def test_no_figure_needs_a_font_from_the_network():
    assert finish(go.Figure(), "A title", False).layout.font.family.endswith("sans-serif")
