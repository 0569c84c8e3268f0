"""The commands that draw: dashboard and report.

They belong to the room of pictures, which this one does not know: all that is typed is handed over.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import click


class HandedOver(click.Command):
    """A command of another process, which parses its arguments and shows its own help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = tuple(args)
        return []


def handed_over(name: str, summary: str) -> click.Command:
    @click.command(name, cls=HandedOver, short_help=summary, add_help_option=False)
    def run(words: tuple[str, ...]) -> None:
        process = subprocess.Popen([sys.executable, "-P", "-m", "dashboards", name, *words])
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while True:
            try:
                sys.exit(process.wait())
            except KeyboardInterrupt:  # it had the signal too, and ends by itself
                continue

    return run


dashboard = handed_over("dashboard", "Show stores in a browser.")
report = handed_over("report", "Write figures and tables of stores to one file.")
