"""Stored baselines: what a machine has measured of each case, session after session, kept in git.

FOLDER/<name>.json holds a line a case; FOLDER/accepted.json a line for each regression that
somebody has accepted; FOLDER/facts/ what needs no machine (see results.verdicts.facts).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import Field

from ..answers.history import FEWEST_SESSIONS, Band, predict
from ..records.case import AXES, Case
from ..records.errors import UserError
from ..records.quantities import SCHEMA_VERSION, Seconds, Strict
from ..records.reading import BrokenFileError, read_file
from ..records.schema import Record
from ..records.store import write_whole
from .decision import Verdict
from .gate_runs import short_label
from .gates import Acceptance

ACCEPTED = "accepted.json"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class BaselineError(UserError):
    """A baseline can't be used."""


class FingerprintError(BaselineError):
    """A baseline is of another machine or installation: its times can't be compared."""


class Session(Strict):
    """A sweep that a baseline keeps."""

    sweep_id: str
    started_at: str
    commit: str | None


class Baseline(Strict):
    """What one machine has measured.

    fingerprint: What must be the same for times to be comparable.
    cases: Median seconds of a forward, by the case's label, then by sweep.
    """

    schema_version: int = SCHEMA_VERSION
    name: str = Field(pattern=NAME)
    fingerprint: dict[str, str]
    sessions: tuple[Session, ...]
    cases: dict[str, dict[str, Annotated[Seconds, Field(gt=0)]]]


class AcceptedFile(Strict):
    """What may be slower."""

    schema_version: int = SCHEMA_VERSION
    accepted: tuple[Acceptance, ...] = ()


@dataclass(frozen=True)
class CaseVerdict:
    """A case of a new session beside a baseline."""

    label: str
    verdict: Verdict
    now_s: float | None  # None where it was not measured
    band: Band | None
    reason: str


def label_of(case: Case) -> str:
    """The same whatever other cases a sweep has."""
    return short_label(case, AXES)


def fingerprint(records: Sequence[Record]) -> dict[str, str]:
    """What must be the same for two sessions' times to be comparable.

    Raises:
        BaselineError: Where there is no good record, or they are of several machines.
    """
    good = [record for record in records if record.status == "ok"]
    if not good:
        raise BaselineError("A baseline needs a good case, and this sweep has none.")
    found = [fingerprint_of(record) for record in good]
    shared = dict(found[0])
    for each in found[1:]:
        for name, value in each.items():
            if shared.setdefault(name, value) != value:
                raise BaselineError(
                    f"A baseline must be of one machine; this sweep has two values of {name}: "
                    f"{shared[name]} and {value}."
                )
    return shared


def fingerprint_of(record: Record) -> dict[str, str]:
    environment, telemetry, gpu = record.environment, record.telemetry, record.gpu
    measurement = record.measurement
    assert measurement is not None  # the record is good
    told: dict[str, object] = {
        "torch": environment.torch,
        "memory limit": record.plan.memory_limit_bytes,
        f"weights of {record.case.model}": measurement.weights,
        # A larger batch takes more of the photographs.
        f"input {record.case.input} b{record.case.batch_size}": measurement.input_source,
    }
    flags = ", ".join(f"{name}={value}" for name, value in sorted(measurement.flags.items()))
    told[f"flags of {record.case.precision}"] = flags
    if gpu is None:
        told |= {"cpu": environment.cpu, "cores": environment.cores}
    else:
        told |= {
            "gpu": gpu.name,
            "gpu memory": gpu.memory_bytes,
            "driver": (environment.driver or "unknown").split(".")[0],
            "cuda": environment.cuda,
            "cudnn": environment.cudnn,
        }
        if telemetry is not None:
            told |= {"mig": telemetry.is_mig, "power limit": telemetry.power_limit_watts}
    return {name: str(value) for name, value in told.items()}


def medians(records: Iterable[Record]) -> dict[str, float]:
    """Of good cases, by label."""
    return {
        label_of(record.case): float(f"{median(record.measurement.latency.forward_s):.7g}")
        for record in records
        if record.status == "ok"
        and record.measurement is not None
        and record.measurement.latency is not None
        and median(record.measurement.latency.forward_s) > 0  # else no clock saw it
    }


def with_session(
    baseline: Baseline | None, name: str, session: Session, records: Sequence[Record]
) -> Baseline:
    """A baseline with one session more; the same where it has that one already.

    Raises:
        FingerprintError: Where the session is of another machine.
    """
    found = fingerprint(records)
    if baseline is None:
        baseline = Baseline(name=name, fingerprint=found, sessions=(), cases={})
    check_fingerprint(baseline, found)
    cases = {label: dict(times) for label, times in baseline.cases.items()}
    for label, seconds in medians(records).items():
        cases.setdefault(label, {})[session.sweep_id] = seconds
    others = [each for each in baseline.sessions if each.sweep_id != session.sweep_id]
    sessions = sorted((*others, session), key=lambda each: each.started_at)
    return baseline.model_copy(
        update={
            "cases": cases,
            "sessions": tuple(sessions),
            "fingerprint": baseline.fingerprint | found,
        }
    )


def check_fingerprint(baseline: Baseline, found: dict[str, str]) -> None:
    for name, value in found.items():
        known = baseline.fingerprint.get(name, value)
        if known != value:
            raise FingerprintError(
                f"Baseline '{baseline.name}' is of {name} {known}, and this is {value}: times "
                "can't be compared. Save a baseline of another name for this machine, or compare "
                "on one machine with: sam-bench compare --ab"
            )


def judge(
    baseline: Baseline, now: dict[str, float], before: dict[str, float] | None, smallest: float
) -> list[CaseVerdict]:
    """Each case of the newest session, beside those that the baseline keeps.

    Args:
        baseline: Of the same machine.
        now: Median seconds by label.
        before: The same of the session before, where it is not in the baseline: a regression
            must show in both.
        smallest: Least change that is reported.
    """
    known, before = baseline.cases, before or {}
    return [
        judge_case(label, seconds, known.get(label, {}), before.get(label), smallest)
        for label, seconds in now.items()
    ]


def judge_missing(baseline: Baseline, records: Iterable[Record]) -> list[CaseVerdict]:
    """Cases that the baseline keeps and that have no good time now: failed, or left out."""
    now = {label_of(record.case): record for record in records}
    told = []
    for label in baseline.cases:
        record = now.get(label)
        if record is None:
            told.append(CaseVerdict(label, "NOT_COMPARABLE", None, None, "it was not measured now"))
        elif label not in medians([record]):
            reason = f"{record.status}: {record.message or 'no reason was given'}"
            told.append(CaseVerdict(label, "FAILED", None, None, reason))
    return told


def judge_case(
    label: str, now_s: float, known_s: dict[str, float], before_s: float | None, smallest: float
) -> CaseVerdict:
    band = predict(list(known_s.values()))
    if band is None:
        reason = (
            f"not comparable yet: {len(known_s)} of {FEWEST_SESSIONS} sessions; until then: "
            "sam-bench compare --ab"
        )
        return CaseVerdict(label, "NOT_COMPARABLE", now_s, None, reason)
    change = f"{(now_s / band.middle - 1):+.1%} of the median of {len(known_s)} sessions"
    verdict: Verdict = "OK"
    if band.is_beyond(now_s, -1, smallest):
        verdict = "IMPROVED"
    elif band.is_beyond(now_s, 1, smallest):
        is_confirmed = before_s is not None and band.is_beyond(before_s, 1, smallest)
        verdict = "REGRESSED" if is_confirmed else "INCONCLUSIVE"
        unsure = "; a second session must confirm it: measure the same again"
        change += ", in two sessions" if is_confirmed else unsure
    return CaseVerdict(label, verdict, now_s, band, change)


def read_baseline(folder: Path, name: str) -> Baseline:
    """A baseline by its name.

    Raises:
        BaselineError: Where there is none, or the file can't be used.
    """
    path = folder / f"{name}.json"
    try:
        if not path.exists():
            raise BrokenFileError("there is no such file: save one with: sam-bench baseline save")
        return read_file(path, Baseline)
    except BrokenFileError as error:
        raise BaselineError(f"'{path}': {error}.") from error


def write_baseline(folder: Path, baseline: Baseline) -> Path:
    """Sorted, a line a case and a line a session: a diff tells what was added."""
    path = folder / f"{baseline.name}.json"
    content = baseline.model_dump(mode="json")
    lines = [
        "{",
        f' "cases": {{\n{lines_of(content["cases"])}\n }},',
        f' "fingerprint": {{\n{lines_of(content["fingerprint"])}\n }},',
        f' "name": {json.dumps(content["name"])},',
        f' "schema_version": {content["schema_version"]},',
        ' "sessions": [',
        ",\n".join(f"  {json.dumps(each, sort_keys=True)}" for each in content["sessions"]),
        " ]",
        "}",
    ]
    write_whole(path, "\n".join(lines) + "\n")
    return path


def lines_of(values: dict[str, object]) -> str:
    return ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(value, sort_keys=True)}"
        for name, value in sorted(values.items())
    )


def read_accepted(path: Path) -> tuple[Acceptance, ...]:
    """What may be slower; nothing where there is no such file.

    Raises:
        BaselineError: Where the file can't be used.
    """
    try:
        return read_file(path, AcceptedFile).accepted if path.exists() else ()
    except BrokenFileError as error:
        raise BaselineError(f"'{path}': {error}.") from error


def accept(path: Path, acceptance: Acceptance) -> None:
    """Add a line to the file of what may be slower."""
    every = [each.model_dump(mode="json") for each in (*read_accepted(path), acceptance)]
    rows = ",\n".join(f"  {json.dumps(each, sort_keys=True)}" for each in every)
    text = f'{{\n "accepted": [\n{rows}\n ],\n "schema_version": {SCHEMA_VERSION}\n}}\n'
    write_whole(path, text)
