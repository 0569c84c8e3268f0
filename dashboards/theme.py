"""What looks the same in all figures: a colour a GPU, a marker a precision, a line an attention.

Colours are those of Okabe and Ito, which colour-blind people can tell apart; none of them is ever
the only difference.
"""

from __future__ import annotations

import zlib
from html import escape
from typing import Literal

import plotly.graph_objects as go

Theme = Literal["light", "dark"]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999933", "#882255")
GPU_COLORS = {
    "NVIDIA L4": PALETTE[0],
    "NVIDIA L40S": PALETTE[1],
    "NVIDIA H200": PALETTE[2],
    "NVIDIA H100 80GB HBM3": PALETTE[3],
    "NVIDIA A100-SXM4-80GB": PALETTE[4],
}
MARKERS = {
    "fp32": "circle", "tf32": "square", "bf16": "diamond", "fp16": "triangle-up", "fp8": "cross",
    "int8": "star",
}  # fmt: skip
LINES = ("solid", "dash", "dot", "dashdot", "longdash")  # where models share a panel
DASHES = {
    "reference": "solid", "sdpa": "dash", "own": "dot", "fold": "dashdot", "triton": "longdashdot",
    "auto": "12px,3px", "flex": "2px,6px", "tiled": "6px,6px",
}  # fmt: skip
PART_COLORS = {
    "decode": "#bbbbbb",
    "preprocess": "#999933",
    "host_to_device_copy": "#cc79a7",
    "image_encoder": "#0072b2",
    "prompt_encoder": "#56b4e9",
    "mask_decoder": "#e69f00",
    "postprocess": "#009e73",
}
KIND_COLORS = {"window": "#56b4e9", "global": "#d55e00", "unattributed": "#bbbbbb"}
# Of a case, in the matrix of what was measured: a mark, and a colour.
STATUS_MARKS = {
    "ok": ("circle", "#009e73"),
    "oom": ("triangle-up", "#e69f00"),
    "failed": ("x", "#d55e00"),
    "not run": ("circle-open", "#8a8a8a"),
}
TEMPLATES: dict[Theme, str] = {"light": "plotly_white", "dark": "plotly_dark"}
# The page's, so that a figure has no box of another shade around it.
PAPER: dict[Theme, str] = {"light": "#ffffff", "dark": "#242424"}


def color_of(device: str) -> str:
    """The same on every page and in every run, for devices that are not listed too."""
    return GPU_COLORS.get(device, PALETTE[zlib.crc32(device.encode()) % len(PALETTE)])


def marker_of(precision: str) -> str:
    return MARKERS.get(precision, "x")


def dash_of(attention: str) -> str:
    """Of a way to compute attention; of two that are joined, a pattern of both."""
    names = list(DASHES)
    parts = attention.split("+")
    if len(parts) == 2 and set(parts) <= set(names):
        window, of_global = map(names.index, parts)
        return f"{3 + 2 * window}px,3px,{1 + 2 * of_global}px,3px"
    return DASHES.get(attention, "longdash")


def part_color(part: str, position: int) -> str:
    return PART_COLORS.get(part, PALETTE[position % len(PALETTE)])


def kind_color(kind: str) -> str:
    """Of a module: window and global blocks differ most, so they stand out."""
    return KIND_COLORS.get(kind.split(" ")[0], PALETTE[0])


def safe(text: object) -> str:
    """Plotly shows a subset of HTML, and typesets what stands between dollars; a label is text."""
    plain = escape(str(text), quote=False).replace("%{", "% {")  # which would be filled in
    return plain.replace("$", "&#36;")


def finish(
    figure: go.Figure, title: str, is_synthetic: bool, height: int = 460, note: str = ""
) -> go.Figure:
    """The title and sizes; a watermark where something in it was made up. `themed` follows.

    Args:
        title: What it shows, and the unit in brackets.
        note: What is not shown, in a line of its own.
    """
    figure.update_layout(
        title={
            "text": title, "subtitle": {"text": note}, "x": 0.01, "xref": "container",
            "font": {"size": 15},
        },
        font={"family": FONT, "size": 13},
        height=height,
        margin={"l": 70, "r": 20, "t": 80, "b": 60},
        legend={"font": {"size": 11}},
        hoverlabel={"align": "left"},
    )  # fmt: skip
    if is_synthetic:
        figure.add_annotation(
            text="synthetic", xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False,
            font={"size": 64, "color": "rgba(128, 128, 128, 0.25)"}, textangle=-20,
        )  # fmt: skip
    return figure


def themed(figure: go.Figure, theme: Theme) -> go.Figure:
    """The same figure for a light or a dark page."""
    return figure.update_layout(
        template=TEMPLATES[theme], paper_bgcolor=PAPER[theme], plot_bgcolor=PAPER[theme]
    )
