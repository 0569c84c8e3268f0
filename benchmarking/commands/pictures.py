"""The command that draws: report. It hands over to the room of pictures, which it knows by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click


@click.command()
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
    flags = [f"--title={title}", *(["--force"] if force else [])]
    paths = [str(path) for path in (output, *stores)]
    command = [sys.executable, "-P", "-m", "dashboards", "report", *flags, "--", *paths]
    sys.exit(subprocess.run(command, check=False).returncode)
