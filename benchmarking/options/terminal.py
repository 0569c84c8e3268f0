"""What all commands share: exit codes, the terminal, and the folder of records."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.records.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_REGRESSED, EXIT_USAGE, EXIT_UNCLEAR = 1, 2, 3
EXIT_INVALID, EXIT_FAILED_CASES, EXIT_INTERRUPTED = 4, 5, 130


def out(stderr: bool = False) -> Console:
    """A console of the terminal's width; wide where there is none, so that no table is cut."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200)


def with_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decorator that gives a command several options, in this order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


def typed() -> str:
    """The command line, to repeat it."""
    return shlex.join(["sam-bench", *sys.argv[1:]])


def find_store(text: str) -> Path:
    """The folder or address that you name."""
    from results.records.addresses import is_remote, open_address

    path = open_address(text)
    if not is_remote(path) and os.path.realpath(path) == "/":
        raise UserError("--store must be a folder of its own, got '/': name one, such as ./runs.")
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
