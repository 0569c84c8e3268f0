"""What pages look like before their figures and tables are there."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from .controls import button, named, option_control, part
from .data import Data, Frames
from .figures import FIGURES
from .figures.series import has_synthetic
from .pages import PAGES, Page
from .tables import TABLES
from .view import OPTIONS, ViewState

FROM_ADDRESS_ALONE = ("run",)  # options without a control
# Nothing of a figure is offered to anybody's cloud.
PLOT: Any = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
CHOICES = {name: option.choices for name, option in OPTIONS.items() if option.choices}


def frame_of_pages(data: Data) -> Component:
    """What stays when pages change."""
    data.refresh()
    return dmc.MantineProvider(
        id="provider",
        children=[
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="stamp", data=data.snapshot.stamp),
            dcc.Store(id="choices", data=CHOICES),
            dcc.Download(id="trace-file"),
            dcc.Download(id="view-file"),
            dcc.Store(id="copied"),
            html.A("To the page", id="skip", href="#page"),
            html.Div(
                [
                    html.Aside(
                        [
                            html.Strong("sam-bench"),
                            html.Nav(id="nav", **named("Pages")),
                            html.H2("Show only"),
                            html.Div(id="filters"),
                            html.Div(
                                [
                                    button("Read the stores again", "reload", mt=12),
                                    button("All of this as one file", "save-view", mt=6),
                                ]
                            ),
                            dmc.Switch(
                                id="dark", label="Dark", mt=12, persistence=True,
                                persistence_type="local", size="sm", checked=False,
                            ),
                        ],
                        id="side",
                    ),
                    html.Main(
                        [html.Div(id="notes", role="status"), html.Div(id="page")], id="main"
                    ),
                ],
                id="shell",
            ),
        ],
    )  # fmt: skip


def skeleton(page: Page, view: ViewState, frames: Frames) -> list[Component]:
    """A page without its contents, which follow from the address."""
    options = [name for name in page.options if name not in FROM_ADDRESS_ALONE]
    return [
        html.H1(page.title),
        html.P(page.lead, className="lead"),
        html.Div([option_control(name, view, frames) for name in options], className="controls"),
        html.Div(id=part("place", "above")),
        html.Div(
            [panel(name) for name in page.figures],
            className="figures wide" if len(page.figures) > 2 else "figures",
        ),
        html.Div(id=part("place", "below")),
        *(table_panel(name) for name in page.tables),
    ]


def panel(name: str) -> Component:
    """A figure, and what can be done with it."""
    title = FIGURES[name].summary
    return html.Section(
        [
            html.H2(title[:1].upper() + title[1:]),
            dcc.Graph(id=part("graph", name), config=PLOT),
            tools(
                f"Save or show: {title}",
                button("Table", part("show", name)),
                button("PNG", part("png", name)),
                button("SVG", part("svg", name)),
                *file_buttons(name),
            ),
            html.Div(id=part("table", name)),
            dcc.Download(id=part("file", name)),
            dcc.Store(id=part("image", name)),
        ],
        className="panel",
        **named(title),
    )


def table_panel(name: str) -> Component:
    title = TABLES[name].title
    return html.Section(
        [
            html.H2(title),
            html.Div(id=part("rows", name)),
            tools(f"Save: {title}", *file_buttons(f"{name}-table")),
            dcc.Download(id=part("file", f"{name}-table")),
        ],
        className="panel",
        style={"marginTop": 16},
        **named(title),
    )


def tools(label: str, *buttons: Component) -> Component:
    return html.Div(list(buttons), className="tools", role="group", **named(label))


def file_buttons(name: str) -> list[Component]:
    return [button("CSV", part("csv", name)), button("Markdown", part("md", name))]


def notes_of(data: Data, view: ViewState) -> list[Component]:
    """What a person should know of what is shown here."""
    snapshot, frames = data.snapshot, data.frames(view)
    told: list[Component] = []
    notes = [*view.notes, *snapshot.notes]
    if frames.is_empty:
        notes.append("There are no records yet. Measure some with: sam-bench quickstart")
    elif frames["cases"].empty:
        notes.append("No case passes all filters: take one away.")
    elif has_synthetic(frames["cases"]):
        made_up = "Synthetic: some of these records were made up, not measured."
        told.append(html.P(made_up, className="synthetic"))
    if notes:
        told.append(html.Ul([html.Li(note) for note in notes], className="notes"))
    return told


def navigation(path: str, search: str) -> list[Component]:
    """Links to all pages that keep the view; a record's page has one where it is open."""
    return [
        dmc.NavLink(
            label=page.title,
            href=f"{where}{search}",
            active=where == path,
            py=4,
            **({"aria-current": "page"} if where == path else {}),
        )
        for where, page in PAGES.items()
        if where != "/run" or path == "/run"
    ]
