"""Commands for a CI: check, baseline, history, selftest."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .comparing import (
    Percent,
    add_to_summary,
    checked_rule,
    measured,
    output_options,
    rule_options,
    source,
    typed,
    watcher,
    write,
)
from .showing import read_store
from .sweeping import SweepCommand, asked_sweep, config_option, quick_option
from .terminal import EXIT_INVALID, EXIT_REGRESSED, EXIT_UNCLEAR, Mistake, out, store_option

if TYPE_CHECKING:
    from results.baselines import Judged
    from results.facts import Difference, FactsFile
    from results.schema import Record

    from ..sweep import Sweep

LONGEST_COUNT_S = 1800.0  # of facts; a vit_h in float64 takes a slow machine minutes
baselines_option = click.option(
    "--baselines",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("baselines"),
    show_default=True,
    help="Folder of what is expected, to be kept in git.",
)
name_argument = click.argument("name")


@click.command(cls=SweepCommand)
@baselines_option
@click.option("--update-expected", is_flag=True, help="Write what is found as what is expected.")
@click.option("--baseline", "name", help="Judge the newest sweep of the store by it too.")
@click.option(
    "--smallest",
    type=Percent(),
    default="3%",
    show_default=True,
    help="Least change of a time that is reported.",
)
@output_options
@config_option
@quick_option
@store_option
def check(
    folder: Path,
    update_expected: bool,
    name: str | None,
    smallest: float,
    store_path: Path,
    junit_path: Path | None,
    json_path: Path | None,
    markdown_path: Path | None,
    config: Path | None,
    quick: bool,
    **flags: str | None,
) -> None:
    """Gate a change by what is the same at every run, on a machine without a GPU too: parameters,
    FLOPs, operations, graph breaks, the output, and how many cases are planned.

    The settings below say of which variants; what is expected of them lies in the folder of
    baselines, and is written there with --update-expected. With --baseline the newest sweep of the
    store is judged by those that the baseline keeps, where the machine is the same.

    \b
    Exit codes: 0 as expected, 1 it differs, 3 can't tell yet, 4 nothing to compare with.

    \b
    Example:
      sam-bench check -m vit_b --attention reference,sdpa
    """  # fmt: skip
    from results.baselines import NAME, FingerprintError
    from results.facts import differences, not_compared, write_facts

    if name is not None:
        check_name(name, NAME)
    asked, _ = asked_sweep(config, quick, flags)
    found = count(asked)
    if update_expected:
        for facts in found.values():
            click.echo(f"Expected from now on: {write_facts(folder, facts)}")
        return
    expected = read_expected(folder, found)
    missing = [model for model in found if model not in expected]
    changes = [each for model in expected for each in differences(expected[model], found[model])]
    notes = not_compared(expected, found)
    notes += [f"nothing is expected of {model} yet: --update-expected" for model in missing]
    judged: list[Judged] = []
    is_incomparable = bool(missing)
    if name is not None:
        try:
            judged = judge_times(folder, name, store_path, smallest)
        except FingerprintError as error:  # facts count on any machine
            notes.append(str(error))
            is_incomparable = True
    findings = [
        *(
            (each.name, "DIFFERS", f"expected {each.expected}, got {each.found}")
            for each in changes
        ),
        *((each.label, each.verdict, each.reason) for each in judged),
    ]
    tell(found, changes, judged, notes, missing)
    is_compared = len(missing) < len(found)
    write_findings(findings, notes, is_compared, junit_path, json_path, markdown_path)
    sys.exit(exit_code(changes, judged, is_incomparable))


def count(asked: Sweep) -> dict[str, FactsFile]:
    """Facts of all variants of a sweep, counted in another process, which loads torch."""
    from results.facts import Facts, FactsFile, variant_name

    from ..environment import ask, probe_environment

    environment = probe_environment()
    cases = asked.cases(environment)
    single = (case.model_copy(update={"batch_size": 1}) for case in cases)
    variants = {(case.model, variant_name(case)): case for case in single}
    told = json.loads(
        ask(
            "benchmarking.facts",
            json.dumps([case.model_dump() for case in variants.values()]),
            task="The facts of these models can't be counted",
            limit_s=LONGEST_COUNT_S,
        )
    )
    return {
        model: FactsFile(
            model=model,
            torch=environment.torch,
            planned_cases=sum(case.model == model for case in cases),
            variants={name: Facts.model_validate(facts) for name, facts in variants.items()},
        )
        for model, variants in told.items()
    }


def read_expected(folder: Path, found: dict[str, FactsFile]) -> dict[str, FactsFile]:
    from results.facts import read_facts
    from results.store import BrokenFileError

    expected = {}
    for model in found:
        try:
            facts = read_facts(folder, model)
        except BrokenFileError as error:
            raise Mistake(
                f"What is expected of {model} can't be used: {error}. Write it again with "
                "--update-expected."
            ) from error
        if facts is not None:
            expected[model] = facts
    return expected


def judge_times(folder: Path, name: str, store_path: Path, smallest: float) -> list[Judged]:
    """The newest sweep of the store by a baseline; the one before may confirm it."""
    from results.baselines import (
        BaselineError,
        check_fingerprint,
        fingerprint,
        judge,
        medians,
        read_baseline,
    )
    from results.store import Store

    baseline = read_baseline(folder, name)
    kept = {each.sweep_id for each in baseline.sessions}
    new = [each for each in Store(store_path).sweep_ids() if each not in kept]
    if not new:
        raise Mistake(
            f"'{store_path}' holds no sweep that baseline '{name}' does not keep: measure one with "
            "sam-bench sweep."
        )
    sessions = [read_store(store_path, each).records for each in new[-2:]]
    check_fingerprint(baseline, fingerprint(sessions[-1]))
    before = None
    with suppress(BaselineError):  # a session of another machine confirms nothing
        check_fingerprint(baseline, fingerprint(sessions[0]))
        before = medians(sessions[0]) if len(sessions) == 2 else None
    return judge(baseline, medians(sessions[-1]), before, smallest)


def tell(
    found: dict[str, FactsFile],
    changes: list[Difference],
    judged: list[Judged],
    notes: list[str],
    missing: list[str],
) -> None:
    from ..report import View, harmless, print_view

    if changes:
        rows = [
            [each.model, each.variant, each.fact, each.expected, each.found] for each in changes
        ]
        print_view(
            View("What differs", ["model", "variant", "fact", "expected", "found"], rows), out()
        )
    if judged:
        rows = [[each.verdict, each.label, each.reason] for each in judged]
        print_view(View("Times beside the baseline", ["verdict", "case", "reason"], rows), out())
    variants = sum(len(each.variants) for each in found.values())
    verdict = f"{len(changes)} facts differ" if changes else "as expected"
    if not any(each.model not in missing for each in found.values()):
        verdict = "there is nothing to compare them with"
    for note in notes:
        click.echo(harmless(f"note: {note}"), err=True)
    click.echo(f"{len(found)} models, {variants} variants: {verdict}")


Finding = tuple[str, str, str]


def write_findings(
    findings: Sequence[Finding],
    notes: list[str],
    is_compared: bool,
    junit_path: Path | None,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    from ..gate_report import junit

    told = findings_text(findings, notes, is_compared)
    if junit_path is not None:
        everything = findings or [("facts", "NOT_COMPARABLE" if notes else "OK", "; ".join(notes))]
        write(junit_path, junit("sam-bench check", everything))
    if json_path is not None:
        named = [dict(zip(("what", "verdict", "why"), each, strict=True)) for each in findings]
        write(json_path, json.dumps({"findings": named, "notes": notes}, indent=1) + "\n")
    if markdown_path is not None:
        write(markdown_path, told)
    add_to_summary(told)


def findings_text(findings: Sequence[Finding], notes: list[str], is_compared: bool) -> str:
    """Markdown, with as many findings as a pull request's comment takes, and how many those are."""
    from results import markdown

    from ..gate_report import MOST_COMMENT_BYTES, cut

    foot = "".join(f"\n- {markdown.cell(note)}" for note in notes)
    lines = markdown.table(["verdict", "what", "why"], []).splitlines()
    room = MOST_COMMENT_BYTES - len(foot.encode()) - 1000  # for what frames the table
    for what, verdict, why in findings:
        line = markdown.line((verdict, what, why))
        room -= len(line.encode()) + 1
        if room < 0:
            break
        lines.append(line)
    shown = len(lines) - 2  # without the headings and the rule
    body = "\n".join(lines) + "\n"
    if shown < len(findings):
        body += f"\n{shown} of {len(findings)} shown.\n"
    if not findings:
        is_good = "Nothing differs from what is expected.\n"
        body = is_good if is_compared else "There is nothing to compare with.\n"
    return cut(f"### sam-bench check\n\n{body}{foot}")


def exit_code(changes: list[Difference], judged: list[Judged], is_incomparable: bool) -> int:
    """Times that are not comparable yet don't gate: there, the facts alone do."""
    verdicts = {each.verdict for each in judged}
    if changes or "REGRESSED" in verdicts:
        return EXIT_REGRESSED
    if is_incomparable:
        return EXIT_INVALID
    return EXIT_UNCLEAR if "INCONCLUSIVE" in verdicts else 0


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
    from results.baselines import (
        NAME,
        Session,
        read_baseline,
        with_session,
        write_baseline,
    )

    check_name(name, NAME)
    known = read_baseline(folder, name) if (folder / f"{name}.json").exists() else None
    if "all" in sweep_ids:
        raise Mistake("SWEEP_IDS must be ids, since each sweep is a session of its own, got 'all'.")
    for sweep_id in sweep_ids or (None,):
        records = read_store(store_path, sweep_id).records
        if not records:
            raise Mistake(f"'{store_path}' has no record of that sweep.")
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


def check_name(name: str, pattern: str) -> None:
    if not re.fullmatch(pattern.strip("^$"), name) or name == "accepted":
        raise Mistake(
            "A baseline's name must be of letters, digits, - and _, and not 'accepted', got "
            f"{name[:60]!a}."
        )


@baseline.command("list")
@baselines_option
def list_baselines(folder: Path) -> None:
    """Say which baselines there are, of which machine, and what may be slower.

    \b
    Example:
      sam-bench baseline list
    """
    from results.baselines import ACCEPTED, read_accepted, read_baseline

    from ..report import harmless

    names = sorted(path.stem for path in folder.glob("*.json") if path.name != ACCEPTED)
    for name in names:
        each = read_baseline(folder, name)
        machine = each.fingerprint.get("gpu") or each.fingerprint.get("cpu", "an unknown machine")
        click.echo(
            harmless(
                f"{name}: {machine}, torch {each.fingerprint.get('torch')}: "
                f"{len(each.sessions)} sessions, {len(each.cases)} cases"
            )
        )
    accepted = read_accepted(folder / ACCEPTED)
    for word in accepted:
        click.echo(
            harmless(
                f"accepted: {word.case} up to {word.up_to - 1:+.1%}, by {word.author} on "
                f"{word.date}: {word.reason}"
            )
        )
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

    from results.baselines import ACCEPTED, accept
    from results.gates import Acceptance

    from ..report import harmless

    if not is_name(case):
        raise Mistake(f"CASE must be a cell's name in the gate's table, got {case[:60]!a}.")
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
        raise Mistake(f"--{first['loc'][0]}: {first['msg'].lower()}.") from error
    accept(folder / ACCEPTED, acceptance)
    told = f"{case} may be {up_to:.1%} slower, says {folder / ACCEPTED}: commit it."
    click.echo(harmless(told))


def is_name(text: str) -> bool:
    """Not blank, nor of bytes that are no text, which no JSON file may hold."""
    return bool(text.strip()) and not re.search("[\ud800-\udfff]", text)


def git_user() -> str:
    from ..gate import GateError
    from ..revisions import git

    try:
        return git("config", "user.name", folder=Path.cwd())
    except GateError as error:
        raise Mistake("--author must be given, since git knows no user.name here.") from error


@click.command()
@store_option
def history(store_path: Path) -> None:
    """Say where cases became slower or faster over days and commits, and stayed so.

    A step is three sessions in a row beyond what the twenty before predict, and by more than 3 %.

    \b
    Example:
      sam-bench history --store demo
    """
    from results.frames import case_frame
    from results.history import history_frame

    from ..history_views import history_view
    from ..report import print_view

    records: list[Record] = read_store(store_path, "all").records
    rows = history_frame(case_frame(records))
    if rows.empty:
        click.echo("No case was measured more than once.")
        return
    print_view(history_view(rows), out())


@click.command(cls=SweepCommand)
@click.option("--aa", "is_aa", is_flag=True, help="Measure the same on both sides: the default.")
@click.option(
    "--inject", type=Percent(), help="Add this to one side's times too, to see if it is found."
)
@click.option(
    "--measure-pairs",
    type=click.IntRange(10, 1000),
    default=30,
    show_default=True,
    help="Pairs of launches to measure.",
)
@rule_options
@config_option
@quick_option
@store_option
def selftest(
    is_aa: bool,
    inject: float | None,
    measure_pairs: int,
    smallest: float,
    margin: float,
    pairs: tuple[int, ...],
    order_seed: int,
    store_path: Path,
    **settings: Any,
) -> None:
    """Try the gate on this machine: how often would it cry wolf, and what can it see?

    Both sides are the same code. Suites are drawn again from the pairs that were measured; what is
    found is kept in the store, and stands beside each result of the gate from then on. --inject
    adds a share to the times of the drawn suites, which is what a change that slows everything
    would do.

    \b
    Example:
      sam-bench selftest --aa --inject 5% -m vit_b -b 1 -s 256 --quick
    """  # fmt: skip
    import numpy as np

    from results.decision import Rule
    from results.gates import log_ratios
    from results.selftest import SelfTest, judge_gate, selftest_path
    from results.store import Store, to_json, write_whole

    from ..gate import Gate, Options
    from ..planning import utc_now
    from ..report import harmless, print_view
    from ..selftest_views import selftest_view

    rule = checked_rule(margin, smallest, pairs)
    store = Store(store_path.absolute())
    # One look at the end: what is asked for is the pairs themselves.
    options = Options(Rule(margin=margin, smallest=smallest, looks=(measure_pairs,)), order_seed)
    with ExitStack() as worktrees:
        sides = [source(".", None, False, settings, worktrees) for _ in range(2)]
        gate = Gate(sides, options, store, watcher("table"), typed())
        found = measured(gate)
    ratios = log_ratios(gate.cells, gate.launches)
    if not np.isfinite(ratios).all(axis=0).any():
        reasons = "; ".join(f"{cell.label}: {cell.reason}" for cell in found.cells if cell.reason)
        click.echo(harmless(f"No pair is valid for every case: {reasons}"), err=True)
        sys.exit(EXIT_INVALID)
    labels = [cell.label for cell in gate.cells]
    environment = found.environment
    assert environment is not None  # a pair was measured
    test = SelfTest(
        device=environment.device_name(found.cells[0].head.device),
        torch=environment.torch,
        measured_at=utc_now(),
        **judge_gate(ratios, labels, rule, order_seed, inject),
    )
    write_whole(selftest_path(store, test), to_json(test))
    print_view(selftest_view(test), out())
