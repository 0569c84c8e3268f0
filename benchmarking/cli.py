"""The command line: its commands, and how your mistakes are shown."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any

import click

from results.records.errors import one_line, printable

from .commands import (
    baseline,
    capacity,
    checking,
    comparing,
    machine,
    model,
    pictures,
    recommending,
    selftest,
    showing,
    store,
    sweeping,
)
from .errors import USER_ERRORS
from .options.terminal import EXIT_INTERRUPTED, EXIT_USAGE
from .signals import terminable

LONGEST_ERROR = 1000  # characters; a name from the command line can have 100,000


class ShownError(click.ClickException):
    """A user's mistake on the terminal: one line, exit code 2."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str) -> None:
        line = printable(" ".join(message.split()))
        if len(line) > LONGEST_ERROR:  # what to do is at its end
            line = f"{line[: LONGEST_ERROR // 2]} ... {line[-LONGEST_ERROR // 2 :]}"
        super().__init__(line)


class Group(click.Group):
    """Shows a user's mistakes in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            # It ends already: another Ctrl-C would only cut off its last words.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            click.echo(f"Interrupted. {stop}".strip(), err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            from results.records.addresses import is_of_service

            if isinstance(error, USER_ERRORS):
                raise ShownError(str(error)) from error
            if is_of_service(error):
                raise ShownError(f"The store can't be reached: {one_line(error)}.") from error
            raise


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sam-encoder-bench", prog_name="sam-bench")
def main() -> None:
    """What one image costs in SAM's image encoder, and where the time goes.

    \b
    Example:
      sam-bench quickstart
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the locale can't show is no reason to end.
            stream.reconfigure(errors="backslashreplace")


for command in (
    sweeping.quickstart,
    sweeping.sweep,
    sweeping.plan,
    capacity.capacity,
    recommending.recommend,
    showing.show,
    showing.export,
    comparing.compare,
    checking.check,
    baseline.baseline,
    showing.history,
    selftest.selftest,
    pictures.dashboard,
    pictures.report,
    store.store,
    store.merge,
    store.demo,
    model.masks,
    model.onnx,
    model.download,
    machine.choices,
    machine.doctor,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
