"""The gate for a CI without a GPU: check."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from results.records.errors import UserError, printable

from ..options.gate_options import (
    Percent,
    add_to_summary,
    baselines_option,
    check_name,
    output_options,
    write,
)
from ..options.records import read_store
from ..options.sweep_options import AxesCommand, asked_sweep, config_option
from ..options.terminal import (
    EXIT_FAILED_CASES,
    EXIT_INVALID,
    EXIT_REGRESSED,
    EXIT_UNCLEAR,
    out,
    store_option,
)

if TYPE_CHECKING:
    from results.verdicts.baselines import CaseVerdict
    from results.verdicts.facts import Difference, FactsFile

    from ..choices.sweep import Sweep
    from ..views.gate_report import Finding

LONGEST_COUNT_S = 1800.0  # of facts; a vit_h in float64 takes a slow machine minutes


@click.command(cls=AxesCommand)
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
    **flags: str | None,
) -> None:
    """Gate a change by what is the same at every run, on a machine without a GPU too: parameters,
    FLOPs, operations, graph breaks, the output, and how many cases are planned.

    The settings below say of which variants; what is expected of them lies in the folder of
    baselines, and is written there with --update-expected. With --baseline the newest sweep of the
    store is judged by those that the baseline keeps, where the machine is the same.

    \b
    Exit codes: 0 as expected, 1 it differs, 3 can't tell yet, 4 nothing to compare with, 5 a case
    of the baseline fails now.

    \b
    Example:
      sam-bench check -m vit_b --attention reference,sdpa
    """  # fmt: skip
    from results.verdicts.facts import write_facts

    if name is not None:
        check_name(name)
        if update_expected:
            raise UserError(
                "--update-expected writes facts, --baseline judges times: one at a time."
            )
    asked, _ = asked_sweep(config, False, flags)
    found = count(asked)
    if update_expected:
        for facts in found.values():
            click.echo(f"Expected from now on: {write_facts(folder, facts)}")
        return
    result = compare_facts(folder, found)
    if name is not None:
        judge_times(result, folder, name, store_path, smallest)
    tell(result)
    write_findings(result, junit_path, json_path, markdown_path)
    sys.exit(exit_code(result))


@dataclass
class CheckResult:
    """What `check` found.

    found: Facts by model.
    missing: Models of which nothing is expected yet.
    judged: Times by the baseline.
    is_comparable: Whether everything could be compared.
    """

    found: dict[str, FactsFile]
    missing: list[str]
    changes: list[Difference]
    notes: list[str]
    is_comparable: bool
    judged: list[CaseVerdict] = field(default_factory=list)

    @property
    def has_facts(self) -> bool:
        return len(self.missing) < len(self.found)


def compare_facts(folder: Path, found: dict[str, FactsFile]) -> CheckResult:
    from results.verdicts.facts import differences, not_compared

    expected = read_expected(folder, found)
    missing = [model for model in found if model not in expected]
    changes = [each for model in expected for each in differences(expected[model], found[model])]
    notes = not_compared(expected, found)
    notes += [f"nothing is expected of {model} yet: --update-expected" for model in missing]
    return CheckResult(found, missing, changes, notes, is_comparable=not missing)


def count(asked: Sweep) -> dict[str, FactsFile]:
    """Facts of all variants of a sweep, counted in another process, which loads torch."""
    from results.verdicts.facts import Facts, FactsFile, variant_name

    from ..machine.environment import ask, probe_environment

    environment = probe_environment()
    cases = asked.cases(environment)
    single = (case.model_copy(update={"batch_size": 1}) for case in cases)
    variants = {(case.model, variant_name(case)): case for case in single}
    told = json.loads(
        ask(
            "benchmarking.measuring.count_facts",
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
    from results.records.reading import BrokenFileError
    from results.verdicts.facts import read_facts

    expected = {}
    for model in found:
        try:
            facts = read_facts(folder, model)
        except BrokenFileError as error:
            raise UserError(
                f"What is expected of {model} can't be used: {error}. Write it again with "
                "--update-expected."
            ) from error
        if facts is not None:
            expected[model] = facts
    return expected


def judge_times(
    result: CheckResult, folder: Path, name: str, store_path: Path, smallest: float
) -> None:
    """The newest sweep of the store by a baseline; the one before may confirm it.

    On another machine only facts can be compared.
    """
    from results.records.store import Store
    from results.verdicts.baselines import (
        BaselineError,
        FingerprintError,
        check_fingerprint,
        fingerprint,
        judge,
        judge_missing,
        medians,
        read_baseline,
    )

    baseline = read_baseline(folder, name)
    kept = {each.sweep_id for each in baseline.sessions}
    new = [each for each in Store(store_path).sweep_ids() if each not in kept]
    if not new:
        raise UserError(
            f"'{store_path}' holds no sweep that baseline '{name}' does not keep: measure one with "
            "sam-bench sweep."
        )
    sessions = [read_store(store_path, each).records for each in new[-2:]]
    try:
        check_fingerprint(baseline, fingerprint(sessions[-1]))
    except FingerprintError as error:
        result.notes.append(str(error))
        result.is_comparable = False
        return
    before = None
    with suppress(BaselineError):  # a session of another machine confirms nothing
        check_fingerprint(baseline, fingerprint(sessions[0]))
        before = medians(sessions[0]) if len(sessions) == 2 else None
    times = judge(baseline, medians(sessions[-1]), before, smallest)
    result.judged = [*times, *judge_missing(baseline, sessions[-1])]


def tell(result: CheckResult) -> None:
    from ..views.printing import TextTable, print_table, text_headings

    if result.changes:
        names = ("model", "variant", "fact", "expected", "found")
        rows = [[getattr(each, name) for name in names] for each in result.changes]
        print_table(TextTable("What differs", text_headings(*names), rows), out())
    if result.judged:
        headings = text_headings("verdict", "case", "reason")
        rows = [[each.verdict, each.label, each.reason] for each in result.judged]
        print_table(TextTable("Times beside the baseline", headings, rows), out())
    variants = sum(len(each.variants) for each in result.found.values())
    verdict = f"{len(result.changes)} facts differ" if result.changes else "as expected"
    if not result.has_facts:
        verdict = "there is nothing to compare them with"
    for note in result.notes:
        click.echo(printable(f"note: {note}"), err=True)
    click.echo(f"{len(result.found)} models, {variants} variants: {verdict}")


def write_findings(
    result: CheckResult,
    junit_path: Path | None,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    from ..views.gate_report import junit

    findings: list[Finding] = [
        (each.name, "DIFFERS", f"expected {each.expected}, got {each.found}")
        for each in result.changes
    ]
    findings += [(each.label, each.verdict, each.reason) for each in result.judged]
    notes = result.notes
    told = findings_text(findings, notes, result.has_facts)
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
    from results.tables import markdown

    from ..views.gate_report import MOST_COMMENT_BYTES, cut

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


def exit_code(result: CheckResult) -> int:
    """Times that are not comparable yet don't gate: there, the facts alone do."""
    verdicts = {each.verdict for each in result.judged}
    if result.changes or "REGRESSED" in verdicts:
        return EXIT_REGRESSED
    if not result.is_comparable:
        return EXIT_INVALID
    if "FAILED" in verdicts:
        return EXIT_FAILED_CASES
    return EXIT_UNCLEAR if "INCONCLUSIVE" in verdicts else 0
