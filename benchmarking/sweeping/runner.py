"""Running a sweep: which cases are left, one after another, each stored as soon as it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from results.answers.limits import with_roofs
from results.hardware.specs import store_specs
from results.records.case import Case, TimingPlan
from results.records.environment import Environment, Telemetry
from results.records.quantities import Samples
from results.records.schema import RETRIED, Check, Record, Status, SweepEnd, SweepFile
from results.records.store import Store

from ..choices.sweep import unsupported_reason
from ..machine.telemetry import TelemetryWatch, slowdowns
from .case_runner import CaseRunner, OnStage
from .checks import Evidence, judge, judge_accounting, judge_drift
from .planning import new_sweep, resumed_sweep, utc_now
from .protocol import Outcome

ATTEMPTS = 3  # at a case whose GPU is throttled
RECOVERY_S = 30.0  # between two
FEWEST_FOR_DRIFT = 3  # cases; in a shorter sweep a drift shows in the repeated command


class Watcher(Protocol):
    """Is told what a sweep does; shows it to a person."""

    def begin(self, sweep: SweepFile, left: list[Case], lanes: int = 1) -> None:
        """`lanes`: how many cases run at once, at most."""

    def case_begins(self, case: Case) -> None: ...
    def stage(self, name: str) -> None: ...
    def case_ends(self, record: Record) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class SweepContext:
    """Where a sweep runs, and who takes part.

    environment: Of this machine.
    store: Where every case becomes a record.
    case_runner: Measures; closed at the end. None where a fleet does.
    watcher: Is told of each case.
    command: That repeats the sweep.
    """

    environment: Environment
    store: Store
    case_runner: CaseRunner | None
    watcher: Watcher
    command: str

    def new_sweep(self, cases: Sequence[Case], plan: TimingPlan) -> SweepFile:
        return new_sweep(cases, plan, self.environment, self.store, self.command)

    def sweep_for(
        self, cases: Sequence[Case], plan: TimingPlan, is_fresh: bool = False
    ) -> SweepFile:
        """The sweep of these cases that the store holds, or a new one."""
        sweep = self.new_sweep(cases, plan)
        return sweep if is_fresh else resumed_sweep(self.store, sweep) or sweep

    @contextmanager
    def holding(self, sweep: SweepFile, close: Callable[[], None] | None = None) -> Iterator[None]:
        """Keep others from a sweep; whatever happens, nothing of it runs on afterwards."""
        if close is None:
            assert self.case_runner is not None
            close = self.case_runner.close
        with ExitStack() as stack:
            stack.enter_context(self.store.lock(sweep.sweep_id))
            self.store.write_sweep(sweep)
            stack.callback(close)
            # The watcher first: a second Ctrl-C may come while the worker closes.
            stack.callback(self.watcher.end)
            yield


@dataclass(frozen=True)
class SweepOptions:
    """How to treat what is there, and what can't be.

    is_fresh: Begin a new sweep, also where an equal one can be resumed.
    prunes: Skip batch sizes above one that did not fit.
    probes_drift: Measure the first case again last, to see whether the machine has changed.
    """

    is_fresh: bool = False
    prunes: bool = True
    probes_drift: bool = True


def run_sweep(
    cases: list[Case],
    plan: TimingPlan,
    setting: SweepContext,
    options: SweepOptions = SweepOptions(),
) -> str:
    """Measure the cases that are not measured yet; return the sweep's id.

    Raises:
        KeyboardInterrupt: After storing what was interrupted.
        SweepError: Where a person's file or setting can't be used.
        StoreError: Where the store can't be written.
    """
    sweep = setting.sweep_for(cases, plan, options.is_fresh)
    with setting.holding(sweep):
        SweepExecution(sweep, setting, options).measure_all(cases)
    return sweep.sweep_id


class SweepExecution:
    """One run of a sweep: the cases that are left, and what is known of those that are done.

    Args:
        sweep: Its environment is that of the machine that measures.
        done: Records of earlier runs; all that the store has where None.
    """

    def __init__(
        self,
        sweep: SweepFile,
        setting: SweepContext,
        options: SweepOptions,
        done: Iterable[Record] | None = None,
    ) -> None:
        assert setting.case_runner is not None
        self.sweep, self.options = sweep, options
        self.store, self.case_runner = setting.store, setting.case_runner
        self.watcher, self.stage = setting.watcher, StageKeeper(setting.watcher)
        self.peaks = store_specs(self.store.path)
        self.roofs = self.store.read_roofs()
        if done is None:
            done = self.store.known(sweep.sweep_id)
        again = retried(options)
        self.records = {each.case_id: each for each in done if each.status not in again}
        told = (record for record in self.records.values() if self.tells_of_here(record))
        self.too_large = smallest_oom(told) if options.prunes else {}

    def tells_of_here(self, record: Record) -> bool:
        """Whether what does not fit there does not fit here: a smaller GPU does not tell."""
        own = self.sweep.environment.find_gpu(record.case.device)
        return own is None or record.gpu is None or record.gpu.memory_bytes >= own.memory_bytes

    def measure_all(self, cases: list[Case]) -> None:
        began = time.monotonic()
        left = [case for case in cases if case.case_id not in self.records]
        self.watcher.begin(self.sweep, left)
        if left:
            self.store.remove_end(self.sweep.sweep_id)  # what an earlier run said holds no more
        self.measure_each(left)
        if left or self.store.read_end(self.sweep.sweep_id) is None:
            self.close(left, began)

    def measure_each(self, cases: Iterable[Case]) -> None:
        for case in cases:
            self.watcher.case_begins(case)
            self.keep(self.measure(case))

    def measure(self, case: Case) -> Record:
        """Measure a case, unless it is known that it can't be; again while the GPU is throttled."""
        started_at, began = utc_now(), time.monotonic()
        try:
            known = self.known_outcome(case)
            if known is not None:
                return make_record(self.sweep, case, Attempt(known), started_at)
            attempt = self.attempt(case, self.sweep.plan, self.stage)
        except KeyboardInterrupt:
            stopped = Outcome(
                status="interrupted",
                stage=self.stage.name,
                message="stopped by Ctrl-C or SIGTERM",
                wall_s=time.monotonic() - began,
            )
            self.store.write_record(make_record(self.sweep, case, Attempt(stopped), started_at))
            raise
        record = make_record(self.sweep, case, attempt, started_at)
        if attempt.outcome.trace is not None:
            self.store.write_trace(record, attempt.outcome.trace)
        if record.measurement is None:
            return record
        (record,) = with_roofs([record], self.roofs)
        return judged(record, judge(Evidence(record, self.smaller(case), self.peaks)))

    def known_outcome(self, case: Case) -> Outcome | None:
        """What becomes of a case that need not be tried."""
        reason = unsupported_reason(case, self.sweep.environment)
        if reason is not None:
            return not_measured("unsupported", reason)
        limit = self.too_large.get(case.series_key)
        if limit is not None and case.batch_size >= limit:
            return not_measured("skipped", f"oom at batch size {limit}")
        return None

    def attempt(self, case: Case, plan: TimingPlan, on_stage: OnStage) -> Attempt:
        """Measure a case, and again while its GPU is throttled."""
        gpu = self.sweep.environment.find_gpu(case.device)
        if gpu is None:
            return Attempt(self.case_runner.measure(case, plan, on_stage))
        for count in range(1, ATTEMPTS + 1):
            with TelemetryWatch(gpu.uuid) as watch:
                outcome = self.case_runner.measure(case, plan, on_stage)
            attempt = Attempt(outcome, watch.telemetry(), count)
            slow = slowdowns(watch.telemetry())
            if outcome.status != "ok" or not slow:
                break
            if count < ATTEMPTS:
                on_stage(f"waiting for the GPU to recover: {', '.join(slow)}")
                time.sleep(RECOVERY_S)
        return attempt

    def smaller(self, case: Case) -> list[Record]:
        """Good records of the same case at smaller batch sizes, on the same device, ascending."""
        device = self.sweep.environment.device_name(case.device)
        same = (
            record
            for record in self.records.values()
            if record.status == "ok"
            and record.case.series_key == case.series_key
            and record.case.batch_size < case.batch_size
            and record.environment.device_name(record.case.device) == device
        )
        return sorted(same, key=lambda record: record.case.batch_size)

    def keep(self, record: Record) -> None:
        if self.options.prunes and does_not_fit(record):
            self.too_large.setdefault(record.case.series_key, record.case.batch_size)
        self.store.write_record(record)  # at once, so a crash in a later case loses nothing
        self.records[record.case_id] = record
        self.watcher.case_ends(record)

    def close(self, done: list[Case], began: float) -> None:
        """Look once more at the first case, and say what this run of the sweep cost."""
        records = [self.records[case.case_id] for case in done]
        first = next((record for record in records if has_good_latency(record)), None)
        probe: Attempt | None = None
        checks: dict[str, Check] = {}
        if first is not None and self.options.probes_drift and len(done) >= FEWEST_FOR_DRIFT:
            latency_only = self.sweep.plan.model_copy(update={"passes": ("latency",)})
            probe = self.attempt(first.case, latency_only, lambda _: self.stage("drift probe"))
            if probe.forward_s is not None:
                checks["drift"] = judge_drift(first, probe.forward_s, probe.telemetry)
                first = judged(first, checks)
                self.store.write_record(first)
                self.records[first.case_id] = first
        has_probe = probe is not None and probe.forward_s is not None
        end = end_of(
            self.sweep,
            {case_id: record.status for case_id, record in self.records.items()},
            wall_s=time.monotonic() - began,
            measured_s=sum(map(measured_s, records)),
            checks=checks,
            drift_case_id=first.case_id if first is not None and has_probe else None,
            drift_forward_s=probe.forward_s if probe is not None else None,
            drift_telemetry=probe.telemetry if probe is not None else None,
        )
        self.store.write_end(end)


@dataclass(frozen=True)
class Attempt:
    """What became of measuring a case.

    telemetry: None on a CPU, and where the case was not tried.
    count: How often it was tried.
    """

    outcome: Outcome
    telemetry: Telemetry | None = None
    count: int = 1

    @property
    def forward_s(self) -> Samples | None:
        measurement = self.outcome.measurement
        if measurement is None or measurement.latency is None:
            return None
        return measurement.latency.forward_s


def judged(record: Record, checks: dict[str, Check]) -> Record:
    """A record with checks; invalid where one of them is."""
    record = record.model_copy(update={"checks": record.checks | checks})
    failed = [
        f"{name}: {each.reason}" for name, each in checks.items() if each.verdict == "invalid"
    ]
    if not failed or record.status not in ("ok", "invalid"):
        return record
    invalid = {"status": "invalid", "stage": "self-checks", "message": "; ".join(failed)}
    return record.model_copy(update=invalid)


def measured_s(record: Record) -> float:
    """Seconds of timed and warm-up work that a record holds."""
    passes = record.measurement.passes if record.measurement is not None else {}
    return sum(result.timed_s() for result in passes.values())


def has_good_latency(record: Record) -> bool:
    measurement = record.measurement
    return record.status == "ok" and measurement is not None and measurement.latency is not None


class StageKeeper:
    """Passes stages on to a watcher and keeps the last one."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.name = "start"

    def __call__(self, name: str) -> None:
        self.name = name
        self.watcher.stage(name)


def does_not_fit(outcome: Outcome | Record) -> bool:
    """Whether the encoder itself ran out of memory, and not a later pass that needs more."""
    measurement = outcome.measurement
    return outcome.status == "oom" and (measurement is None or measurement.latency is None)


def not_measured(status: Status, message: str) -> Outcome:
    return Outcome(status=status, stage="plan", message=message, wall_s=0.0)


def smallest_oom(records: Iterable[Record]) -> dict[tuple[Hashable, ...], int]:
    """The smallest batch size of each group that did not fit."""
    too_large = [record.case for record in records if does_not_fit(record)]
    too_large.sort(key=lambda case: case.batch_size, reverse=True)
    return {case.series_key: case.batch_size for case in too_large}  # the smallest wins, as last


def retried(options: SweepOptions) -> tuple[Status, ...]:
    """Statuses of cases that a resumed sweep offers again."""
    return RETRIED if options.prunes else (*RETRIED, "skipped")


def end_of(
    sweep: SweepFile,
    statuses: Mapping[str, Status],
    *,
    checks: Mapping[str, Check] = {},
    **more: Any,
) -> SweepEnd:
    """What a sweep says at its end.

    Args:
        statuses: Of its records, by case id.
        checks: That were made so far.
        more: Fields of SweepEnd.
    """
    planned = {case.case_id for case in sweep.cases}
    counts = Counter[str](status for case_id, status in statuses.items() if case_id in planned)
    return SweepEnd(
        sweep_id=sweep.sweep_id,
        ended_at=utc_now(),
        planned=len(sweep.cases),
        statuses=dict(counts),
        checks={**checks, "accounting": judge_accounting(len(sweep.cases), counts)},
        **more,
    )


def make_record(sweep: SweepFile, case: Case, attempt: Attempt, started_at: str) -> Record:
    outcome = attempt.outcome
    return sweep.record(
        case,
        started_at=started_at,
        status=outcome.status,
        stage=outcome.stage,
        message=outcome.message,
        stderr_tail=outcome.stderr_tail,
        measurement=outcome.measurement,
        telemetry=attempt.telemetry,
        co_tenants=outcome.co_tenants,
        attempts=attempt.count,
        wall_s=outcome.wall_s,
    )
