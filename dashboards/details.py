"""What pages show besides figures and tables: cards, prices, two environments, one record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd
from dash import dcc, html
from dash.development.base_component import Component

from results.answers.compare import environment_changes, geometric_mean, matched, plan_changes
from results.hardware.specs import fits
from results.records.case import AXES, PLACE_AXES, case_label
from results.records.schema import FAILED, Record
from results.tables.metrics import METRICS
from results.verdicts.gates import Cell

from .controls import button, named, part
from .data import Frames, UnknownRecordError, asked_prices
from .figures.history import measured_often
from .figures.series import newest, with_device
from .tables import TABLES, markdown_text, text
from .view import ViewState

Parts = list[Component]
CASE_AXES = tuple(axis for axis in AXES if axis not in PLACE_AXES)
MOST_ROWS, MOST_GATES = 100, 10
GATE_HEADINGS = ("verdict", "case", "change [%]", "95 % [%]", "pairs", "why")


def overview_cards(frames: Frames) -> Parts:
    """The best of what is shown, and what failed."""
    cases = newest(frames["cases"])
    good = cases[cases["status"] == "ok"]
    failed = int(cases["status"].isin(FAILED).sum())
    view, gates = frames.view, frames.snapshot.gates
    slower = int((last_steps(frames["history"])["step"] > 1).sum())
    told = "slower since a step"
    if gates:
        told += f"; newest gate: {sum(cell.fails for cell in gates[-1].cells)} cells"
    return [
        html.Div(
            [
                best_card("Most images a second", good, "images_per_s", view, most=True),
                best_card("Least time of a forward", good, "median_s", view),
                best_card("Cheapest million images", good, "million_usd", view),
                card(
                    "Cases",
                    str(len(cases)),
                    f"{len(good)} ok; {len(frames['cases'])} records in "
                    f"{frames['cases']['sweep_id'].nunique()} sweeps",
                ),
                card("Regressions", str(slower), dcc.Link(told, href=view.link("/regressions"))),
                card("Failed cases", str(failed), "crashed, timed out, or not to be trusted"),
                card("Out of memory", str(int((cases["status"] == "oom").sum())), "an answer too"),
                card(
                    "Measured again and again",
                    str(measured_often(frames["cases"])["series"].nunique()),
                    dcc.Link("whether they got worse", href=view.link("/regressions")),
                ),
            ],
            className="cards",
        )
    ]


def last_steps(history: pd.DataFrame) -> pd.DataFrame:
    """The newest step of each series that has one, the newest first."""
    steps = history[history["step"].notna()].drop_duplicates("series", keep="last")
    return steps.sort_values("started_at", ascending=False, kind="stable")


def regression_tables(frames: Frames) -> Parts:
    """Steps over time, what gates have judged, and what somebody has accepted."""
    steps = last_steps(with_device(frames["history"]))
    if steps.empty:
        told = "No case stays at another level than before: no step in three sessions."
        return [html.P(told), *gate_tables(frames)]
    rows = [
        [
            str(row["started_at"])[:16], str(row["git_commit"] or "-")[:12],
            f"{(row['step'] - 1) * 100:+.1f}", str(row["device_name"]), case_label(row, CASE_AXES),
        ]
        for row in steps.head(MOST_ROWS).to_dict("records")
    ]  # fmt: skip
    headings = ["since", "commit", "step [%]", "device", "case"]
    return [html.H2("Steps"), plain_table(headings, rows), *gate_tables(frames)]


def gate_tables(frames: Frames) -> Parts:
    """The newest gates: each cell that needs a look, and what of it was accepted."""
    gates = frames.snapshot.gates
    if not gates:
        told = "No gate was run yet: sam-bench compare --ab judges a change, and keeps it here."
        return [html.H2("Gates"), html.P(told)]
    parts: Parts = [html.H2("Gates")]
    for gate in reversed(gates[-MOST_GATES:]):
        fine = sum(cell.verdict == "OK" for cell in gate.cells)
        when = f"{gate.created_at[:16]}: {gate.base.label} against {gate.head.label}"
        told = f"{len(gate.pairs)} pairs of launches; {fine} of {len(gate.cells)} cells are OK"
        parts += [html.H3(when), html.P(told if gate.is_finished else f"{told}; not finished")]
        rows = [gate_row(cell) for cell in gate.cells if cell.verdict != "OK"][:MOST_ROWS]
        if rows:
            parts.append(plain_table(GATE_HEADINGS, rows))
    return parts


def gate_row(cell: Cell) -> list[str]:
    change, low, high = (
        "-" if each is None else f"{(each - 1) * 100:+.2f}"
        for each in (cell.ratio, cell.ratio_low, cell.ratio_high)
    )
    blamed = ", ".join(f"{each.module} ({each.kind})" for each in cell.modules)
    word = f"accepted by {cell.accepted.author}: {cell.accepted.reason}" if cell.accepted else ""
    why = "; ".join(filter(None, [word, cell.reason, blamed])) or "-"
    return [cell.verdict, cell.label, change, f"{low} .. {high}", str(cell.pairs), why]


def best_card(
    title: str, cases: pd.DataFrame, column: str, view: ViewState, most: bool = False
) -> Component:
    known = cases[cases[column].notna()].reset_index(drop=True)
    if known.empty:
        return card(title, "-", "no case tells")
    best = known.iloc[int(known[column].argmax() if most else known[column].argmin())]
    metric = METRICS[column]
    where = f"{best['device_name']}, {case_label(best.to_dict(), CASE_AXES)}"
    # As a new page: the figures of this one are not to be drawn again for that address.
    link = html.A(where, href=view.link("/run", run=best["record_id"]))
    return card(title, f"{metric.show(best[column])} {metric.unit}".strip(), link)


def card(title: str, value: str, told: str | Component) -> Component:
    return html.Div([html.Span(title), html.Strong(value), html.Small(told)], className="card")


def price_notes(frames: Frames) -> Parts:
    """What was wrong with prices that a person tries, and where the others come from."""
    asked, wrong = asked_prices(frames.view.option("prices"))
    gpus = frames.snapshot.frames["cases"]["gpu"].dropna().unique()
    unmet = [name for name in asked if not any(fits(name, gpu) for gpu in gpus)]
    if unmet:
        wrong = f"No GPU here is called {', '.join(map(ascii, unmet))}: that price changes nothing."
    told = (
        "Prices are those of one GPU that is never idle; each stands below with its source and "
        "date. Try others as L4=0.5, H200=3, or keep your own in prices.toml in the store."
    )
    return [html.P(told, className="lead"), *([html.P(wrong, role="alert")] if wrong else [])]


def comparison_details(frames: Frames) -> Parts:
    """How many cases both have, the mean ratio, what differs between the machines."""
    both = frames["comparison"]
    before, after = frames.runs()
    if before is None:
        told = "No other sweep here shares a case with it: measure a second one, or choose one."
        return [html.P(told, role="status")]
    mean = geometric_mean(both)
    alone = "cases without a partner"
    cards = html.Div(
        [
            card("Cases in both", str(len(matched(both))), f"{before or '-'}, then {after or '-'}"),
            card(
                "Geometric mean of the ratios",
                "-" if math.isnan(mean) else f"{mean:.4f}",
                "time after over time before: above 1 is slower",
            ),
            card("Only before", str(int(both["after_s"].isna().sum())), alone),
            card("Only after", str(int(both["before_s"].isna().sum())), alone),
        ],
        className="cards",
    )
    copied = html.Pre(markdown_text(both, TABLES["comparison"].columns), id="markdown", hidden=True)
    tools = html.Div(
        [button("Copy as Markdown", part("copy", "markdown")), copied], className="tools"
    )
    return [cards, tools, html.H2("What differs between the two"), environment_table(frames)]


def environment_table(frames: Frames) -> Component:
    before, after = (frames.sweep(each) if each is not None else None for each in frames.runs())
    if before is None or after is None:
        return html.P("The environments are not known: a sweep's file is missing.")
    changes = environment_changes(before.environment, after.environment)
    changes += plan_changes(before.plan, after.plan)
    if not changes:
        return html.P("Nothing that a record keeps: machine, torch, code and plan are the same.")
    return plain_table(("what", "before", "after"), changes)


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Component:
    return html.Div(
        html.Table(
            [
                html.Thead(html.Tr([html.Th(each, scope="col") for each in headings])),
                html.Tbody([html.Tr([html.Td(each) for each in row]) for row in rows]),
            ],
            className="plain",
        ),
        className="scroll",
        tabIndex="0",
        role="region",
        **named(f"Table of {headings[0]}"),
    )


def run_details(frames: Frames) -> Parts:
    """Which record it is, what became of it, and the command."""
    try:
        record = frames.record()
    except UnknownRecordError as error:
        return [html.P(str(error), role="status")]
    trace = frames.trace_path()
    return [
        html.H2(record.case.label),
        html.P(outcome_of(record)),
        html.H3("The command that repeats it"),
        html.Pre(record.command, id="command", className="command", tabIndex="0"),
        html.Div(
            [
                button("Copy the command", part("copy", "command")),
                *([button("Download the trace", "trace")] if trace is not None else []),
            ],
            className="tools",
        ),
    ]


def run_tables(frames: Frames) -> Parts:
    """Statistics, self-checks, and what was asked where."""
    try:
        record = frames.record()
    except UnknownRecordError:  # said above
        return []
    tables = {
        "Statistics": statistics_table(frames),
        "Self-checks": checks_table(record),
        "Case and plan": settings_table(record),
        "Environment": environment_of(record),
    }
    sections = [html.Section([html.H3(title), table]) for title, table in tables.items()]
    return [html.Div(sections, className="columns")]


def outcome_of(record: Record) -> str:
    """Its status in words; what was made up says so."""
    ended = f"{record.status}: {record.message}" if record.message else record.status
    made_up = " Synthetic: it was made up, not measured." if record.is_synthetic else ""
    return f"{ended}, in sweep {record.sweep_id}, begun at {record.started_at}.{made_up}"


def statistics_table(frames: Frames) -> Component:
    """Of the record's row among all cases."""
    every = frames.snapshot.frames["cases"]
    row = every[every["record_id"] == frames.view.option("run")].iloc[0]
    names = [name for name in METRICS if name in row.index and pd.notna(row[name])]
    rows = [(METRICS[name].heading, METRICS[name].show(row[name])) for name in names]
    return plain_table(("statistic", "value"), rows)


def checks_table(record: Record) -> Component:
    rows = [
        (
            name,
            check.verdict,
            METRICS["value"].show(math.nan if check.value is None else check.value),
            check.limit,
            check.reason or "",
        )
        for name, check in record.checks.items()
    ]
    return plain_table(("self-check", "verdict", "value", "limit", "reason"), rows)


def settings_table(record: Record) -> Component:
    values = record.case.model_dump() | record.plan.model_dump()
    if record.measurement is not None:
        values |= {"weights used": record.measurement.weights}
        values |= {"images": record.measurement.input_source}
        values |= {f"note on {name}": note for name, note in record.measurement.notes.items()}
    return values_table("setting", values)


def environment_of(record: Record) -> Component:
    values = record.environment.model_dump(exclude={"gpus"})
    for gpu in record.environment.gpus:
        values |= {f"gpu {gpu.index}": f"{gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB"}
    return values_table("environment", values)


def values_table(heading: str, values: dict[str, object]) -> Component:
    return plain_table((heading, "value"), [(name, shown(each)) for name, each in values.items()])


def shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "-"
    return text(value) if isinstance(value, str | float | int) or value is None else str(value)
