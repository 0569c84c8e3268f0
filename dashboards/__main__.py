"""What `sam-bench report` runs: a process of its own, as measuring knows nothing of pictures."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pandas as pd

from results.capacity import capacity_frame
from results.frames import case_frame, component_frame, limits_frame, module_frame
from results.hardware import HardwareError, Peak
from results.limits import with_roofs
from results.schema import Record
from results.store import Store, StoreError, write_whole

from .offline import report as make_report

EXIT_USAGE = 2


class Mistake(click.ClickException):
    """A person's mistake: one line."""

    exit_code = EXIT_USAGE


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Pictures of what stores of records hold."""


@main.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("stores", nargs=-1, type=click.Path(path_type=Path))
@click.option("--title", default="SAM's image encoder", show_default=True, help="Of the page.")
@click.option("--force", is_flag=True, help="Replace OUTPUT where it is there.")
def report(output: Path, stores: tuple[Path, ...], title: str, force: bool) -> None:
    """Write all figures and tables of STORES to one file that opens without a network.

    Without STORES, those of the folder runs.

    \b
    Example:
      sam-bench report out.html runs
    """
    if os.path.lexists(output) and not force:
        raise Mistake(
            f"'{output}' is there already: name another file, or replace it with --force."
        )
    frames, notes = frames_of(stores or (Path("runs"),))
    try:
        write_whole(output, make_report(frames, title, notes))
    except StoreError as error:
        raise Mistake(str(error).split(". Name")[0] + ". Name another file.") from error
    click.echo(f"{len(frames['cases'])} cases in {output}, {output.stat().st_size / 2**20:.1f} MiB")


def frames_of(paths: tuple[Path, ...]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """All frames of the records of some stores, and what was passed over."""
    records: list[Record] = []
    notes: list[str] = []
    peaks: dict[str, Peak] = {}
    for path in paths:
        try:
            store = Store(path)
            contents = store.read()
            records += with_roofs(contents.records, store.read_roofs())
            peaks |= store.read_peaks()
        except (StoreError, HardwareError) as error:
            raise Mistake(str(error)) from error
        notes += [f"passed over {each.path}: {each.reason}" for each in contents.problems]
    if not records:
        named = ", ".join(f"'{path}'" for path in paths)
        raise Mistake(f"{named} has no records: measure some with: sam-bench quickstart")
    return {
        "cases": case_frame(records, peaks),
        "components": component_frame(records),
        "modules": module_frame(records, peaks),
        "limits": limits_frame(records, peaks),
        "capacity": capacity_frame(records),
    }, notes


if __name__ == "__main__":
    main(prog_name="sam-bench")
