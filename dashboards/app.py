"""The live pages: what happens when an address or a control changes."""

from __future__ import annotations

from typing import Any

import dash
from dash import ALL, MATCH, ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from .controls import choices, filter_controls, part
from .data import Data
from .details import plain_table
from .drawing import drawn, frame_or_none
from .figures import FIGURES
from .grid import grid
from .layout import frame_of_pages, navigation, notes_of, skeleton
from .offline import report
from .pages import PAGES
from .tables import TABLES, csv_text, markdown_text, shown_table
from .theme import Theme
from .view import OPTIONS, parse_view

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""

ADDRESS, STAMP, DARK = Input("url", "search"), Input("stamp", "data"), Input("dark", "checked")
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
    register_controls(app, data)
    register_page(app, data)
    register_figures(app, data)
    register_tables(app, data)
    register_page_files(app, data)
    register_in_browser(app)
    return app


def theme_of(is_dark: bool | None) -> Theme:
    return "dark" if is_dark else "light"


def register_controls(app: Dash, data: Data) -> None:
    """Answer what surrounds a page: links, filters and options."""

    @app.callback(Output("stamp", "data"), Input("reload", "n_clicks"), prevent_initial_call=True)
    def reload(clicks: int) -> str:
        return data.refresh().stamp

    @app.callback(Output("nav", "children"), Input("url", "pathname"), ADDRESS)
    def navigate(path: str, search: str) -> list[Component]:
        return navigation(path, search or "")

    @app.callback(Output("filters", "children"), STAMP, State("url", "search"))
    def offer_filters(stamp: str, search: str) -> list[Component]:
        return filter_controls(data.snapshot.frames.get("cases"), parse_view(search))

    @app.callback(
        Output(part("option", MATCH), "data"),
        ADDRESS,
        STAMP,
        State(part("option", MATCH), "id"),
        prevent_initial_call=True,
    )
    def offer_choices(search: str, stamp: str, control: Id) -> Any:
        name = control["name"]
        if OPTIONS[name].choices or name == "prices":
            return no_update
        return choices(name, data.frames(parse_view(search)))


def register_page(app: Dash, data: Data) -> None:
    """Answer a page's skeleton and its texts."""

    @app.callback(Output("page", "children"), Input("url", "pathname"), State("url", "search"))
    def open_page(path: str, search: str) -> list[Component]:
        page = PAGES.get(path)
        if page is None:
            link = dcc.Link("To the overview", href="/")
            return [html.H1("There is no such page"), html.P(link)]
        view = parse_view(search)
        return skeleton(page, view, data.frames(view))

    @app.callback(Output("notes", "children"), ADDRESS, STAMP)
    def tell(search: str, stamp: str) -> list[Component]:
        return notes_of(data, parse_view(search))

    @app.callback(
        Output(part("place", MATCH), "children"),
        ADDRESS,
        STAMP,
        State(part("place", MATCH), "id"),
        State("url", "pathname"),
    )
    def tell_more(search: str, stamp: str, place: Id, path: str) -> list[Component]:
        page, frames = PAGES.get(path), data.frames(parse_view(search))
        if page is None or frames.is_empty:
            return []
        return page.above(frames) if place["name"] == "above" else page.below(frames)


def register_figures(app: Dash, data: Data) -> None:
    """Answer figures, and the table that each can show."""

    @app.callback(
        Output(part("graph", MATCH), "figure"),
        Output(part("graph", MATCH), "style"),
        ADDRESS,
        STAMP,
        DARK,
        State(part("graph", MATCH), "id"),
    )
    def draw(search: str, stamp: str, is_dark: bool, graph: Id) -> Any:
        figure = drawn(graph["name"], data.frames(parse_view(search)), theme_of(is_dark))
        return figure, {"height": figure.layout.height}

    @app.callback(
        Output(part("table", MATCH), "children"),
        Input(part("show", MATCH), "n_clicks"),
        ADDRESS,
        STAMP,
        DARK,
        State(part("show", MATCH), "id"),
        prevent_initial_call=True,
    )
    def show_table(clicks: int, search: str, stamp: str, is_dark: bool, show: Id) -> Any:
        if not (clicks or 0) % 2:
            return []
        spec = FIGURES[show["name"]]
        view = parse_view(search)
        frame = frame_or_none(data.frames(view), spec.frame)
        if frame is None:
            return []
        return grid(frame, spec.columns, show["name"], view, theme_of(is_dark))


def register_tables(app: Dash, data: Data) -> None:
    """Answer tables without a figure, and all of them as CSV or Markdown."""

    @app.callback(
        Output(part("rows", MATCH), "children"),
        ADDRESS,
        STAMP,
        DARK,
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
        return grid(frame, spec.columns, rows["name"], view, theme_of(is_dark))

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


def register_page_files(app: Dash, data: Data) -> None:
    """Answer the whole view, or a case's trace, as a file."""

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
