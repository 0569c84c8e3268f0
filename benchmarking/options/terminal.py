"""What all commands share: mistakes in one line, the terminal, and the folder of records."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

EXIT_REGRESSED, EXIT_USAGE, EXIT_UNCLEAR = 1, 2, 3
EXIT_INVALID, EXIT_FAILED_CASES, EXIT_INTERRUPTED = 4, 5, 130
LONGEST_ERROR = 1000  # characters; a name from the command line can have 100,000


class Mistake(click.ClickException):
    """A person's mistake: one line, exit code 2."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str) -> None:
        line = "".join(char if char.isprintable() else "?" for char in " ".join(message.split()))
        if len(line) > LONGEST_ERROR:  # what to do stands at its end
            line = f"{line[: LONGEST_ERROR // 2]} ... {line[-LONGEST_ERROR // 2 :]}"
        super().__init__(line)


def out(stderr: bool = False) -> Console:
    """A console of the terminal's width; wide where there is none, so that no table is cut."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200)


def find_store(text: str) -> Path:
    """The folder or address that a person names."""
    from results.records.addresses import AddressError, is_remote, open_address

    try:
        path = open_address(text)
    except AddressError as error:
        raise Mistake(str(error)) from error
    if not is_remote(path) and os.path.realpath(path) == "/":
        raise Mistake("--store must be a folder of its own, got '/': name one, such as ./runs.")
    return path


store_option = click.option(
    "--store",
    "store_path",
    default="runs",
    metavar="STORE",
    show_default=True,
    callback=lambda ctx, parameter, value: find_store(value),
    help="Folder of the records, or an address such as s3://bucket/runs.",
)
