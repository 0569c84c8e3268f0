"""The commands that draw: dashboard and report.

They belong to the room of pictures, which this one does not know: all that is typed is handed over.
"""

from __future__ import annotations

import subprocess
import sys

import click


def handed_over(name: str, summary: str) -> click.Command:
    """A command of another process, which parses its arguments and shows its own help."""

    @click.command(
        name,
        short_help=summary,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def run(words: tuple[str, ...]) -> None:
        command = [sys.executable, "-P", "-m", "dashboards", name, *words]
        try:
            sys.exit(subprocess.run(command, check=False).returncode)
        except KeyboardInterrupt:  # it had the signal too, and ends by itself
            sys.exit(0)

    return run


dashboard = handed_over("dashboard", "Show stores in a browser.")
report = handed_over("report", "Write figures and tables of stores to one file.")
