"""The command line: its commands, and what becomes of a person's mistake."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any

import click

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
from .options.terminal import EXIT_INTERRUPTED, Mistake
from .signals import terminable


class Group(click.Group):
    """Turns errors that a person can mend into one line."""

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
            from results.records.addresses import is_of_service, one_line

            if is_persons_mistake(error):
                raise Mistake(str(error)) from error
            if is_of_service(error):
                raise Mistake(f"The store can't be reached: {one_line(error)}.") from error
            raise


def is_persons_mistake(error: Exception) -> bool:
    from results.hardware.specs import HardwareError
    from results.records.store import StoreError
    from results.verdicts.baselines import BaselineError
    from sam.files.download import DownloadError

    from .choices.inputs import InputError
    from .errors import SweepError
    from .machine.environment import ProbeError

    mistakes = (
        StoreError
        | HardwareError
        | DownloadError
        | ProbeError
        | InputError
        | SweepError
        | BaselineError
    )
    return isinstance(error, mistakes)


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
