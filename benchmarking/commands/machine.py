"""Commands about this machine and this version: choices, doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..options.terminal import EXIT_FAILED_CASES, out, store_option


@click.command()
def choices() -> None:
    """List what each axis can be.

    \b
    Example:
      sam-bench choices
    """
    from ..views.printing import print_table
    from ..views.views import choices_views

    for view in choices_views():
        print_table(view, out())


@click.command()
@store_option
@click.option(
    "--calibrate",
    is_flag=True,
    help="Measure what each GPU, or the CPU, can do at most (large matrix products, a large copy), "
    "and keep it in the store: tables then say how far a case is from it.",
)
def doctor(store_path: Path, calibrate: bool) -> None:
    """Say what this machine has, and whether everything that a sweep needs works.

    \b
    Example:
      sam-bench doctor
    """
    from ..machine.doctor import examine

    findings = examine(store_path, calibrate)
    for finding in findings:
        click.echo(f"{'ok ' if finding.is_fine else 'BAD'} {finding.name}: {finding.detail}")
    if not all(finding.is_fine for finding in findings):
        sys.exit(EXIT_FAILED_CASES)
