"""The command that draws: report. It hands over to the room of pictures, which it knows by name."""

from __future__ import annotations

import subprocess
import sys

import click

FORWARDED = {"ignore_unknown_options": True, "help_option_names": []}


@click.command(
    context_settings=FORWARDED, add_help_option=False, short_help="Write figures to one HTML file."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def report(arguments: tuple[str, ...]) -> None:
    """Write all figures and tables of stores to one file that opens without a network.

    \b
    Example:
      sam-bench report out.html runs
    """
    done = subprocess.run([sys.executable, "-P", "-m", "dashboards", "report", *arguments])
    sys.exit(done.returncode)
