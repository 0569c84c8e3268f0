"""The live pages: the frame around them, and what happens when an address or a control changes."""

from __future__ import annotations

from typing import Any

import dash
import dash_ag_grid as dag
import dash_mantine_components as dmc
import pandas as pd
from dash import ALL, MATCH, ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from results.metrics import METRICS

from .controls import button, choices, filter_controls, named, option_control, part
from .data import Data, Frames
from .details import plain_table
from .drawing import drawn, frame_or_none
from .figures import FIGURES
from .figures.series import has_synthetic
from .offline import report
from .pages import PAGES, Page
from .tables import TABLES, csv_text, heading, markdown_text, shown_columns, shown_table, text
from .theme import Theme
from .view import OPTIONS, View, parse_view

FROM_ADDRESS_ALONE = ("run",)  # options without a control
ROWS = 500  # of a table that is sent to a browser; its downloads have all
INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""

# Nothing of a figure is offered to anybody's cloud.
PLOT: Any = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
CHOICES = {name: option.choices for name, option in OPTIONS.items() if option.choices}

Id = dict[str, str]


def create_app(data: Data) -> Dash:
    """All pages on some stores; reads them again at each loading of a page and when asked to."""
    app = Dash(
        __name__,
        title="sam-bench",
        update_title="",
        index_string=INDEX,
        suppress_callback_exceptions=True,  # each page has its own figures and controls
        serve_locally=True,
        use_pages=False,
        add_log_handler=False,
        enable_mcp=False,
        hooks={"request_post": "window.dash_clientside.pages.keepZoom"},
    )
    app.layout = lambda: frame_of_pages(data)
    register(app, data)
    register_in_browser(app)
    return app


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
                        [
                            html.Div(id="notes", role="status"),
                            html.Div(id="page"),
                        ],
                        id="main",
                    ),
                ],
                id="shell",
            ),
        ],
    )  # fmt: skip


def skeleton(page: Page, view: View, frames: Frames) -> list[Component]:
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
            html.Div(
                [
                    button("Table", part("show", name)),
                    button("PNG", part("png", name)),
                    button("SVG", part("svg", name)),
                    button("CSV", part("csv", name)),
                    button("Markdown", part("md", name)),
                ],
                className="tools",
                role="group",
                **named(f"Save or show: {title}"),
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
            html.Div(
                [
                    button("CSV", part("csv", f"{name}-table")),
                    button("Markdown", part("md", f"{name}-table")),
                ],
                className="tools",
                role="group",
                **named(f"Save: {title}"),
            ),
            dcc.Download(id=part("file", f"{name}-table")),
        ],
        className="panel",
        style={"marginTop": 16},
        **named(title),
    )


def grid(
    frame: pd.DataFrame, columns: tuple[str, ...], name: str, view: View, is_dark: bool
) -> Component:
    """A table that can be sorted; a row of a record opens it, and has a link for the keyboard."""
    shown = frame.head(ROWS)
    rows: list[dict[str, Any]] = [{} for _ in range(len(shown))]
    definitions: list[dict[str, Any]] = []
    if "record_id" in frame:
        definitions.append({"field": "run", "headerName": "run", "cellRenderer": "markdown"})
        for row, record_id in zip(rows, shown["record_id"], strict=True):
            is_known = isinstance(record_id, str)  # a comparison has rows of one side alone
            row["run"] = f"[open]({view.link('/run', run=record_id)})" if is_known else ""
    for column in shown_columns(frame, columns):
        metric = METRICS.get(column)
        is_number = pd.api.types.is_numeric_dtype(frame[column])
        definitions.append(
            {
                "field": column,
                "headerName": heading(column),
                "type": "rightAligned" if is_number else None,
                "headerTooltip": heading(column),
            }
        )
        for row, value in zip(rows, shown[column], strict=True):
            if pd.isna(value):
                row[column] = None
            elif is_number:
                row[column] = rounded(value * metric.scale) if metric is not None else value
            else:
                row[column] = text(value)
    if "record_id" in frame:
        for number, record_id in enumerate(shown["record_id"]):
            # A record can have several rows, and a row of a comparison none.
            rows[number]["id"] = (
                f"{record_id} {number}" if isinstance(record_id, str) else f"{number}"
            )
    note = [html.P(f"{ROWS} of {len(frame)} rows shown.")] if len(frame) > ROWS else []
    return html.Div(
        [
            *note,
            dag.AgGrid(
                id=part("grid", name),
                rowData=rows,
                columnDefs=definitions,
                defaultColDef={"sortable": True, "resizable": True, "minWidth": 90},
                columnSize="autoSize",
                getRowId="params.data.id" if "record_id" in frame else None,
                dashGridOptions={
                    "domLayout": "autoHeight" if len(rows) < 15 else "normal",
                    "ensureDomOrder": True, "suppressColumnVirtualisation": True,
                },
                className="",
                style={"height": None if len(rows) < 15 else 480},
            ),
        ],
        **grid_theme(is_dark),
    )  # fmt: skip


def rounded(value: float) -> float:
    """As much as a table needs; whole numbers stay whole."""
    return value if float(value).is_integer() else float(f"{value:.5g}")


def register(app: Dash, data: Data) -> None:
    """What the server answers; each in a few lines."""
    address = Input("url", "search")
    stamp = Input("stamp", "data")

    @app.callback(Output("stamp", "data"), Input("reload", "n_clicks"), prevent_initial_call=True)
    def reload(clicks: int) -> str:
        return data.refresh().stamp

    @app.callback(Output("nav", "children"), Input("url", "pathname"), address)
    def navigate(path: str, search: str) -> list[Component]:
        return [
            dmc.NavLink(
                label=page.title,
                href=f"{where}{search or ''}",
                active=where == path,
                py=4,
                **current(where == path),
            )
            for where, page in PAGES.items()
            if where != "/run" or path == "/run"
        ]

    @app.callback(Output("filters", "children"), stamp, State("url", "search"))
    def offer_filters(stamp: str, search: str) -> list[Component]:
        return filter_controls(data.snapshot.frames.get("cases"), parse_view(search))

    @app.callback(Output("page", "children"), Input("url", "pathname"), State("url", "search"))
    def open_page(path: str, search: str) -> list[Component]:
        page = PAGES.get(path)
        if page is None:
            links = html.P(dcc.Link("To the overview", href="/"))
            return [html.H1("There is no such page"), links]
        view = parse_view(search)
        return skeleton(page, view, data.frames(view))

    @app.callback(Output("notes", "children"), address, stamp)
    def tell(search: str, stamp: str) -> list[Component]:
        view = parse_view(search)
        return notes_of(data, view)

    @app.callback(
        Output(part("place", MATCH), "children"),
        address,
        stamp,
        State(part("place", MATCH), "id"),
        State("url", "pathname"),
    )
    def tell_more(search: str, stamp: str, place: Id, path: str) -> list[Component]:
        page, frames = PAGES.get(path), data.frames(parse_view(search))
        if page is None or frames.is_empty:
            return []
        return page.above(frames) if place["name"] == "above" else page.below(frames)

    @app.callback(
        Output(part("graph", MATCH), "figure"),
        Output(part("graph", MATCH), "style"),
        address,
        stamp,
        Input("dark", "checked"),
        State(part("graph", MATCH), "id"),
    )
    def draw(search: str, stamp: str, is_dark: bool, graph: Id) -> Any:
        figure = drawn(graph["name"], data.frames(parse_view(search)), theme_of(is_dark))
        return figure, {"height": figure.layout.height}

    @app.callback(
        Output(part("option", MATCH), "data"),
        address,
        stamp,
        State(part("option", MATCH), "id"),
        prevent_initial_call=True,
    )
    def offer_choices(search: str, stamp: str, control: Id) -> Any:
        name = control["name"]
        if OPTIONS[name].choices or name == "prices":
            return no_update
        return choices(name, data.frames(parse_view(search)))

    @app.callback(
        Output(part("table", MATCH), "children"),
        Input(part("show", MATCH), "n_clicks"),
        address,
        stamp,
        Input("dark", "checked"),
        State(part("show", MATCH), "id"),
        prevent_initial_call=True,
    )
    def show_table(clicks: int, search: str, stamp: str, is_dark: bool, show: Id) -> Any:
        if not (clicks or 0) % 2:
            return []
        spec = FIGURES[show["name"]]
        view = parse_view(search)
        frame = frame_or_none(data.frames(view), spec.frame)
        return grid(frame, spec.columns, show["name"], view, is_dark) if frame is not None else []

    @app.callback(
        Output(part("rows", MATCH), "children"),
        address,
        stamp,
        Input("dark", "checked"),
        State(part("rows", MATCH), "id"),
    )
    def fill_table(search: str, stamp: str, is_dark: bool, rows: Id) -> Any:
        spec = TABLES[rows["name"]]
        view = parse_view(search)
        frame = frame_or_none(data.frames(view), spec.frame)
        if frame is None or frame.empty:
            return html.P("No case that is shown tells of this.")
        if spec.frame == "prices":
            shown = shown_table(frame, spec.columns)
            return plain_table(list(shown.columns), shown.itertuples(index=False))
        return grid(frame, spec.columns, rows["name"], view, is_dark)

    @app.callback(
        Output(part("file", MATCH), "data"),
        Input(part("csv", MATCH), "n_clicks"),
        Input(part("md", MATCH), "n_clicks"),
        State(part("file", MATCH), "id"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    def save(as_csv: int, as_markdown: int, file: Id, search: str) -> Any:
        pressed = dash.ctx.triggered_id
        if not (as_csv or as_markdown) or pressed is None:  # the buttons have just appeared
            return no_update
        name = file["name"]
        spec = TABLES[name.removesuffix("-table")] if name.endswith("-table") else FIGURES[name]
        frame = frame_or_none(data.frames(parse_view(search)), spec.frame)
        if frame is None:
            return no_update
        form = pressed["part"]
        make = csv_text if form == "csv" else markdown_text
        return {"content": make(frame, spec.columns), "filename": f"sam-bench-{name}.{form}"}

    @app.callback(
        Output("view-file", "data"),
        Input("save-view", "n_clicks"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    def save_view(clicks: int, search: str) -> Any:
        frames = data.frames(parse_view(search))
        if not clicks or frames.is_empty:
            return no_update
        page = report(frames, "SAM's image encoder", data.snapshot.notes)
        return {"content": page, "filename": "sam-bench.html", "type": "text/html"}

    @app.callback(
        Output("trace-file", "data"),
        Input("trace", "n_clicks"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    def save_trace(clicks: int, search: str) -> Any:
        path = data.frames(parse_view(search)).trace_path() if clicks else None
        return dcc.send_file(str(path)) if path is not None else no_update


def register_in_browser(app: Dash) -> None:
    """What needs no server; the functions stand in assets/pages.js."""

    def in_browser(function: str, *arguments: Any, initial: bool = False) -> None:
        app.clientside_callback(
            ClientsideFunction("pages", function), *arguments, prevent_initial_call=not initial
        )

    filters, options = part("filter", ALL), part("option", ALL)
    in_browser(
        "follow",
        Output("url", "search"),
        Output(filters, "value"),
        Output(options, "value"),
        Input("url", "search"),
        Input(filters, "value"),
        Input(options, "value"),
        State(filters, "id"),
        State(options, "id"),
        State("choices", "data"),
    )
    in_browser("open", Input(part("graph", ALL), "clickData"))
    in_browser("openRow", Input(part("grid", ALL), "cellClicked"))
    in_browser(
        "picture",
        Output(part("image", MATCH), "data"),
        Input(part("png", MATCH), "n_clicks"),
        Input(part("svg", MATCH), "n_clicks"),
        State(part("image", MATCH), "id"),
    )
    for name in ("markdown", "command"):
        in_browser(
            "copy",
            Output("copied", "data", allow_duplicate=True),
            Input(part("copy", name), "n_clicks"),
            State(name, "children"),
        )
    in_browser(
        "scheme", Output("provider", "forceColorScheme"), Input("dark", "checked"), initial=True
    )


def grid_theme(is_dark: bool) -> dict[str, Any]:
    return {"data-ag-theme-mode": theme_of(is_dark)}


def current(is_current: bool) -> dict[str, Any]:
    return {"aria-current": "page"} if is_current else {}


def theme_of(is_dark: bool | None) -> Theme:
    return "dark" if is_dark else "light"


def notes_of(data: Data, view: View) -> list[Component]:
    """What a person should know of what is shown here."""
    snapshot, frames = data.snapshot, data.frames(view)
    told: list[Component] = []
    notes = [*view.notes, *snapshot.notes]
    if frames.is_empty:
        notes.append("There are no records yet. Measure some with: sam-bench quickstart")
    elif frames["cases"].empty:
        notes.append("No case passes all filters: take one away.")
    elif has_synthetic(frames["cases"]):
        told.append(
            html.P(
                "Synthetic: some of these records were made up, not measured.",
                className="synthetic",
            )
        )
    if notes:
        told.append(html.Ul([html.Li(note) for note in notes], className="notes"))
    return told
