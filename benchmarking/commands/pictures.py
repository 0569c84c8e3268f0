"""The commands that draw: dashboard and report.

They belong to the room of pictures, which this one does not know: all that is typed is handed over.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress

import click

GRACE_S = 3.0  # until who did not hear of a Ctrl-C is told of it


class ForwardedCommand(click.Command):
    """A command of another process, which parses its arguments and shows its own help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = tuple(args)
        return []


def handed_over(name: str, summary: str) -> click.Command:
    @click.command(name, cls=ForwardedCommand, short_help=summary, add_help_option=False)
    def run(words: tuple[str, ...]) -> None:
        process = subprocess.Popen([sys.executable, "-P", "-m", "dashboards", name, *words])
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:  # a terminal's goes to both, and it ends by itself
            with suppress(subprocess.TimeoutExpired):
                sys.exit(process.wait(GRACE_S))
            process.send_signal(signal.SIGINT)
            sys.exit(process.wait())

    return run


dashboard = handed_over("dashboard", "Show stores in a browser.")
report = handed_over("report", "Write figures and tables of stores to one file.")
