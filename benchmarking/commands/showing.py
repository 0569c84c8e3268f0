"""Commands that show records: show, export, history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .terminal import Mistake, out, store_option

if TYPE_CHECKING:
    from rich.console import Console

    from results.hardware import Peak
    from results.schema import Record
    from results.store import Contents

MOST_PROBLEMS = 20  # files passed over, that are named
FORMATS = ("table", "json", "csv", "md")
VIEW_NAMES = (
    "cases",
    "components",
    "modules",
    "checks",
    "kernels",
    "capacity",
    "limits",
    "batching",
)
view_argument = click.argument(
    "view", type=click.Choice(VIEW_NAMES), default="cases", metavar=f"[{'|'.join(VIEW_NAMES)}]"
)


@click.command()
@view_argument
@store_option
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--sweep", "sweep_id", help="A sweep's id, or 'all'.  [default: the newest]")
def show(view: str, store_path: Path, form: str, sweep_id: str | None) -> None:
    """Show records: by case, component of the pipeline, module of the encoder, or self-check;
    how far from the hardware's limits they are; or what a larger batch changed, and why.

    Tables show milliseconds; json and csv hold base units (seconds, bytes, FLOP).

    \b
    Example:
      sam-bench show limits
    """
    from results.store import Store

    from ..report import failure_lines, status_line

    if view == "capacity" and sweep_id is None:
        sweep_id = "all"  # a search leaves several
    contents = read_store(store_path, sweep_id)
    show_views(contents.records, Store(store_path).read_peaks(), (view,), form, out())
    if form == "table":
        for line in failure_lines(contents.records):
            click.echo(line)
        planned = {
            (sweep.sweep_id, case.case_id) for sweep in contents.sweeps for case in sweep.cases
        }
        # Those of a sweep whose plan can't be read too.
        planned |= {(record.sweep_id, record.case_id) for record in contents.records}
        click.echo(status_line(len(planned), contents.records))
        if any(record.is_synthetic for record in contents.records):
            click.echo("Synthetic: records of a demonstration, made up, not measured.")


@click.command()
@click.argument("form", type=click.Choice(("csv", "parquet")))
@view_argument
@store_option
@click.option("--sweep", "sweep_id", default="all", show_default=True, help="A sweep's id.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A new file.")
def export(form: str, view: str, store_path: Path, sweep_id: str, output: Path | None) -> None:
    """Write records as one tidy table in base units.

    \b
    Example:
      sam-bench export csv modules -o modules.csv
    """
    from results.store import Store

    from ..views import SHOWS

    records, peaks = read_store(store_path, sweep_id).records, Store(store_path).read_peaks()
    frame = SHOWS[view].frame(records, peaks)
    output = output or Path(f"{view}.{form}")
    try:
        if output.exists():
            raise Mistake(f"'{output}' exists: name another file with --output, or move it away.")
        if form == "csv":
            frame.to_csv(output, index=False)
        else:
            frame.to_parquet(output, index=False)
    except OSError as error:
        reason = error.strerror or error  # pandas gives a text alone
        raise Mistake(f"'{output}' can't be written: {reason}.") from error
    click.echo(f"{len(frame)} rows in {output}")


@click.command()
@store_option
def history(store_path: Path) -> None:
    """Say where cases became slower or faster over days and commits, and stayed so.

    A step is three sessions in a row beyond what the twenty before predict, and by more than 3 %.

    \b
    Example:
      sam-bench history --store demo
    """
    from results.frames import case_frame
    from results.history import history_frame

    from ..history_views import history_view
    from ..report import print_view

    records: list[Record] = read_store(store_path, "all").records
    rows = history_frame(case_frame(records))
    if rows.empty:
        click.echo("No case was measured more than once.")
        return
    print_view(history_view(rows), out())


def read_store(store_path: Path, sweep_id: str | None) -> Contents:
    """Records of one sweep (the newest where None) or all; files passed over are named."""
    from results.limits import with_roofs
    from results.store import Store

    from ..mistakes import quoted, suggestion
    from ..report import harmless

    store = Store(store_path)
    ids = store.sweep_ids()
    if not ids:
        raise Mistake(f"'{store_path}' has no records: measure some with: sam-bench quickstart")
    if sweep_id is not None and sweep_id not in ("all", *ids):
        raise Mistake(f"No sweep {quoted(sweep_id)} in '{store_path}'.{suggestion(sweep_id, ids)}")
    contents = store.read(None if sweep_id == "all" else sweep_id or ids[-1])
    contents.records = with_roofs(contents.records, store.read_roofs())
    for problem in contents.problems[:MOST_PROBLEMS]:
        click.echo(harmless(f"passed over {problem.path}: {problem.reason}"), err=True)
    left_out = len(contents.problems) - MOST_PROBLEMS
    if left_out > 0:
        click.echo(f"and {left_out} files more: sam-bench store verify tells of all", err=True)
    return contents


def show_views(
    records: list[Record],
    peaks: dict[str, Peak],
    names: tuple[str, ...],
    form: str,
    console: Console,
) -> None:
    from ..report import markdown, print_view
    from ..views import SHOWS

    for name in names:
        frame = SHOWS[name].frame(records, peaks)
        if form == "csv":
            click.echo(frame.to_csv(index=False), nl=False)
        elif form == "json":
            click.echo(
                json.dumps(
                    json.loads(frame.to_json(orient="records", double_precision=15)), indent=1
                )
            )
        elif form == "md":
            click.echo("\n\n".join(markdown(view) for view in SHOWS[name].views(frame)))
        elif len(frame):
            for view in SHOWS[name].views(frame):
                print_view(view, console)


def show_sentences(
    records: list[Record], peaks: dict[str, Peak], names: tuple[str, ...], console: Console
) -> None:
    """What views say in words, without their tables."""
    from ..report import harmless
    from ..views import SHOWS

    for name in names:
        for view in SHOWS[name].views(SHOWS[name].frame(records, peaks)):
            for sentence in view.sentences:
                console.print(harmless(sentence), markup=False, highlight=False, soft_wrap=True)
