"""The records that a command is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from results.records.errors import UserError, printable, quoted, suggestion

if TYPE_CHECKING:
    from results.records.store import Contents

MOST_PROBLEMS = 20  # files passed over, that are named


def no_records(store_path: Path) -> UserError:
    return UserError(f"'{store_path}' has no records: measure some with: sam-bench quickstart")


def read_store(store_path: Path, sweep_id: str | None) -> Contents:
    """Records of one sweep (the newest where None) or all; files passed over are named."""
    from results.answers.limits import with_roofs
    from results.records.store import Store

    store = Store(store_path)
    ids = store.sweep_ids()
    if not ids:
        raise no_records(store_path)
    if sweep_id is not None and sweep_id not in ("all", *ids):
        raise UserError(
            f"No sweep {quoted(sweep_id)} in '{store_path}'.{suggestion(sweep_id, ids)}"
        )
    contents = store.read(None if sweep_id == "all" else sweep_id or ids[-1])
    contents.records = with_roofs(contents.records, store.read_roofs())
    for problem in contents.problems[:MOST_PROBLEMS]:
        click.echo(printable(f"passed over {problem.path}: {problem.reason}"), err=True)
    left_out = len(contents.problems) - MOST_PROBLEMS
    if left_out > 0:
        click.echo(f"and {left_out} files more: sam-bench store verify tells of all", err=True)
    return contents
