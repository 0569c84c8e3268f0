"""Commands on what a machine measured before, which is kept in git: baseline save, list, accept."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import click

from results.records.errors import UserError, printable

from ..options.gate_options import Percent, baselines_option, check_name
from ..options.records import read_store
from ..options.terminal import store_option

name_argument = click.argument("name")


@click.group()
def baseline() -> None:
    """What a machine measured before, kept in git.

    \b
    Example:
      sam-bench baseline list
    """


@baseline.command()
@name_argument
@click.argument("sweep_ids", nargs=-1)
@baselines_option
@store_option
def save(name: str, sweep_ids: tuple[str, ...], folder: Path, store_path: Path) -> None:
    """Add sweeps to the baseline NAME; without SWEEP_IDS, the newest of the store.

    \b
    Example:
      sam-bench baseline save l4
    """
    from results.verdicts.baselines import Session, read_baseline, with_session, write_baseline

    check_name(name)
    known = read_baseline(folder, name) if (folder / f"{name}.json").exists() else None
    if "all" in sweep_ids:
        raise UserError(
            "SWEEP_IDS must be ids, since each sweep is a session of its own, got 'all'."
        )
    for sweep_id in sweep_ids or (None,):
        records = read_store(store_path, sweep_id).records
        if not records:
            raise UserError(f"'{store_path}' has no record of that sweep.")
        first = records[0]
        session = Session(
            sweep_id=first.sweep_id,
            started_at=min(record.started_at for record in records),
            commit=first.environment.git_commit,
        )
        known = with_session(known, name, session, records)
    assert known is not None
    path = write_baseline(folder, known)
    click.echo(f"{len(known.sessions)} sessions, {len(known.cases)} cases in {path}")


@baseline.command("list")
@baselines_option
def list_baselines(folder: Path) -> None:
    """Say which baselines there are, of which machine, and what may be slower.

    \b
    Example:
      sam-bench baseline list
    """
    from results.verdicts.baselines import ACCEPTED, read_accepted, read_baseline

    names = sorted(path.stem for path in folder.glob("*.json") if path.name != ACCEPTED)
    for name in names:
        each = read_baseline(folder, name)
        machine = each.fingerprint.get("gpu") or each.fingerprint.get("cpu", "an unknown machine")
        holds = f"{len(each.sessions)} sessions, {len(each.cases)} cases"
        torch = each.fingerprint.get("torch")
        click.echo(printable(f"{name}: {machine}, torch {torch}: {holds}"))
    accepted = read_accepted(folder / ACCEPTED)
    for word in accepted:
        what = f"{word.case} up to {word.up_to - 1:+.1%}"
        who = f"by {word.author} on {word.date}: {word.reason}"
        click.echo(printable(f"accepted: {what}, {who}"))
    if not names and not accepted:
        click.echo(f"'{folder}' has no baseline: save one with: sam-bench baseline save NAME")


@baseline.command("accept")
@click.argument("case")
@click.option("--up-to", type=Percent(), required=True, help="How much slower it may be.")
@click.option("--reason", required=True, help="Why that is right; a reviewer reads it.")
@click.option("--author", help="Who says so.  [default: git's user.name]")
@baselines_option
def accept_regression(
    case: str, up_to: float, reason: str, author: str | None, folder: Path
) -> None:
    """Say that CASE, by its name in the gate's table, may be slower, and why.

    It is a line of a file, to be committed with the change that makes it slower: the gate takes
    what the head has and the base has not.

    \b
    Example:
      sam-bench baseline accept "vit_b b8 1024px" --up-to 6% --reason "exact masks" --author Ada
    """
    from pydantic import ValidationError

    from results.verdicts.baselines import ACCEPTED, accept
    from results.verdicts.gates import Acceptance

    # Blank, or of bytes that are no text, which no JSON file may hold.
    if not case.strip() or re.search("[\ud800-\udfff]", case):
        raise UserError(f"CASE must be a cell's name in the gate's table, got {case[:60]!a}.")
    try:
        acceptance = Acceptance(
            case=case,
            up_to=1 + up_to,
            reason=reason.strip(),
            author=(author or git_user()).strip(),
            date=datetime.now(UTC).date().isoformat(),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{first['loc'][0]}: {first['msg'].lower()}.") from error
    accept(folder / ACCEPTED, acceptance)
    told = f"{case} may be {up_to:.1%} slower, says {folder / ACCEPTED}: commit it."
    click.echo(printable(told))


def git_user() -> str:
    from ..gate.gate import GateError
    from ..gate.revisions import git

    try:
        return git("config", "user.name", folder=Path.cwd())
    except GateError as error:
        raise UserError("--author must be given, since git knows no user.name here.") from error
