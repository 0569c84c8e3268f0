"""Commands that show records: show, export, history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.records.errors import UserError

from ..options.records import read_store
from ..options.terminal import out, store_option

if TYPE_CHECKING:
    from results.records.schema import Record

FORMATS = ("table", "json", "csv", "md")


class ViewName(click.ParamType):
    """A row of VIEWS; that table is loaded only when needed, since pandas loads slowly."""

    name = "view"

    def choice(self) -> click.Choice[str]:
        from ..views.views import VIEWS

        return click.Choice(tuple(VIEWS))

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.choice().choices)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return self.choice().convert(value, param, ctx)


view_argument = click.argument("view", type=ViewName(), default="cases")


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

    from results.hardware.specs import store_specs

    from ..views.printing import failure_lines, status_line
    from ..views.views import show_views

    if view == "capacity" and sweep_id is None:
        sweep_id = "all"  # a search leaves several
    contents = read_store(store_path, sweep_id)
    show_views(contents.records, store_specs(store_path), (view,), form, out())
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

    from results.hardware.specs import store_specs

    from ..views.views import VIEWS

    records, peaks = read_store(store_path, sweep_id).records, store_specs(store_path)
    frame = VIEWS[view].frame(records, peaks)
    output = output or Path(f"{view}.{form}")
    try:
        if output.exists():
            raise UserError(f"'{output}' exists: name another file with --output, or move it away.")
        if form == "csv":
            frame.to_csv(output, index=False)
        else:
            frame.to_parquet(output, index=False)
    except OSError as error:
        reason = error.strerror or error  # pandas gives a text alone
        raise UserError(f"'{output}' can't be written: {reason}.") from error
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
    from results.answers.history import history_frame
    from results.tables.frames import case_frame

    from ..views.history_views import history_view
    from ..views.printing import print_table

    records: list[Record] = read_store(store_path, "all").records
    rows = history_frame(case_frame(records))
    if rows.empty:
        click.echo("No case was measured more than once.")
        return
    print_table(history_view(rows), out())
