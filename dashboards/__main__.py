"""What `sam-bench report` and `sam-bench dashboard` run: measuring knows nothing of pictures."""

from __future__ import annotations

import gc
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.records.errors import UserError

if TYPE_CHECKING:
    from .data import Data

EXIT_USAGE = 2
PORT = 8050


class PagesGroup(click.Group):
    """Shows a user's mistakes in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(EXIT_USAGE)


def find_stores(
    ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[Path, ...]:
    """The folders or addresses that you name."""
    from results.records.addresses import open_address

    return tuple(map(open_address, texts))


stores_argument = click.argument("stores", nargs=-1, callback=find_stores)


@click.group(cls=PagesGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Pictures of what stores of records hold."""


@main.command()
@stores_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="To listen at; 0 takes any that is free.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Serve other machines too; whoever asks needs the address with the token.",
)
def dashboard(stores: tuple[Path, ...], port: int, host: str, allow_remote: bool) -> None:
    """Show STORES in a browser: components, scaling, layers, memory, limits, cost, differences.

    Without STORES, those of the folder runs. It measures nothing and changes no record. Records
    that are written meanwhile are shown when a page is loaded again.

    \b
    Example:
      sam-bench dashboard runs
    """  # fmt: skip
    for name in [each for each in os.environ if each.upper().startswith("DASH_")]:
        del os.environ[name]  # Dash would obey them: another address, files from elsewhere
    from .app import create_app
    from .server import Pages, is_loopback

    if not is_loopback(host) and not allow_remote:
        raise UserError(
            f"--host {host} would show the records to other machines: add --allow-remote if you "
            "mean that, or leave --host out."
        )
    data = read(stores)
    pages = Pages(create_app(data), host, port)
    for note in data.snapshot.notes:
        click.echo(note, err=True)
    count = len(data.snapshot.frames["cases"]) if data.snapshot.frames else 0
    # Ctrl-C is how it ends, from the line on that says so.
    with closing(pages), suppress(KeyboardInterrupt):
        click.echo(f"{count} cases at {pages.address}  (Ctrl-C ends it)")
        gc.freeze()  # what was read stays; each look through it for garbage would take 0.2 s
        pages.serve()


@main.command()
@click.argument("output", type=click.Path(path_type=Path))
@stores_argument
@click.option("--title", default="SAM's image encoder", show_default=True, help="Of the page.")
@click.option("--force", is_flag=True, help="Replace OUTPUT where it is there.")
def report(output: Path, stores: tuple[Path, ...], title: str, force: bool) -> None:
    """Write all figures and tables of STORES to one file that opens without a network.

    Without STORES, those of the folder runs.

    \b
    Example:
      sam-bench report out.html runs
    """
    from results.records.store import write_whole

    from .offline import report as make_report
    from .view import ViewState

    if os.path.lexists(output) and not force:
        raise UserError(
            f"'{output}' is there already: name another file, or replace it with --force."
        )
    data = read(stores)
    frames = data.frames(ViewState())
    if frames.is_empty:
        named = ", ".join(f"'{store.path}'" for store in data.stores)
        raise UserError(f"{named} has no records: measure some with: sam-bench quickstart")
    write_whole(output, make_report(frames, title, data.snapshot.notes), "Name another file.")
    click.echo(f"{len(frames['cases'])} cases in {output}, {output.stat().st_size / 2**20:.1f} MiB")


def read(stores: tuple[Path, ...]) -> Data:
    """All records of some stores; each of them must be there, at least in the beginning."""
    from .data import Data

    data = Data(stores or (Path("runs"),), processes=os.cpu_count() or 1)
    data.refresh()
    if data.snapshot.errors:
        raise UserError(data.snapshot.errors[0])
    return data


if __name__ == "__main__":
    main(prog_name="sam-bench")
