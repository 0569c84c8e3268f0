"""A sweep over a fleet: jobs sent to free GPUs, each case a record as soon as it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Sequence

from results.records.case import Case, TimingPlan
from results.records.environment import Environment
from results.records.schema import Record, Status, SweepFile

from ..errors import SweepError
from ..sweeping.estimate import case_seconds
from ..sweeping.planning import utc_now
from ..sweeping.protocol import Outcome
from ..sweeping.runner import (
    Attempt,
    SweepContext,
    SweepOptions,
    end_of,
    make_record,
    measured_s,
    retried,
)
from .jobs import CaseBegan, CaseEnded, Event, Fleet, JobEnded, JobPlaced, JobRefused, Slot, Task
from .scheduler import Job, Scheduler, check_needs, counted, does, make_jobs, worker_groups

POLL_S = 0.5
MOST_LOSSES = 5  # of jobs before any case of theirs began: in a row, or of one worker group
PATIENCE_S = 60.0  # with jobs that no GPU there is can do, and none that runs


def run_on_fleet(
    cases: list[Case],
    plan: TimingPlan,
    setting: SweepContext,
    fleet: Fleet,
    options: SweepOptions,
) -> str:
    """Measure the cases that are not measured yet, wherever their GPUs are; the sweep's id.

    Raises:
        KeyboardInterrupt: After ending what still ran.
        SweepError: Where a person's file or setting can't be used, or a kind of GPU is not there.
        StoreError: Where the store can't be written.
    """
    check_needs(cases, [slot.gpu for slot in fleet.slots()], fleet.where)
    sweep = setting.sweep_for(cases, plan, options.is_fresh)
    with setting.holding(sweep, fleet.close):
        FleetRun(sweep, setting, options, fleet).measure_all(cases)
    return sweep.sweep_id


class FleetRun:
    """One run of a sweep over a fleet.

    It knows of each case its status alone: the records of a large sweep would fill the memory.
    """

    def __init__(
        self, sweep: SweepFile, setting: SweepContext, options: SweepOptions, fleet: Fleet
    ) -> None:
        self.sweep, self.setting, self.options, self.fleet = sweep, setting, options, fleet
        self.store, self.watcher = setting.store, setting.watcher
        again = retried(options)
        self.statuses: dict[str, Status] = {
            record.case_id: record.status
            for record in self.store.known(sweep.sweep_id)
            if record.status not in again
        }
        self.scheduler = Scheduler(())
        self.running: dict[int, RunningJob] = {}
        self.known_ids: dict[tuple[Hashable, ...], list[str]] = {}
        self.measured_s, self.next_id = 0.0, 0
        self.losses = Counter[str]()  # by place, of jobs that began no case
        self.losses_of_group = Counter[tuple[Hashable, ...]]()  # such jobs since its last record
        self.lost_in_a_row = 0

    def measure_all(self, cases: Sequence[Case]) -> None:
        began = time.monotonic()
        left = [case for case in cases if case.case_id not in self.statuses]
        self.watcher.begin(self.sweep, left, lanes=self.fleet.lanes())
        if left:
            self.store.remove_end(self.sweep.sweep_id)  # what an earlier run said holds no more
            self.plan(cases, left)
            self.work()
        elif self.store.read_end(self.sweep.sweep_id) is not None:
            return
        wall_s = time.monotonic() - began
        end = end_of(self.sweep, self.statuses, wall_s=wall_s, measured_s=self.measured_s)
        self.store.write_end(end)

    def plan(self, cases: Sequence[Case], left: Sequence[Case]) -> None:
        """A job per worker group, and what is known of it already."""
        for own in worker_groups(cases):
            known = [case.case_id for case in own if case.case_id in self.statuses]
            self.known_ids[own[0].worker_key] = known
        jobs = make_jobs(left, lambda case: case_seconds(case, self.sweep.plan))
        self.scheduler, self.next_id = Scheduler(jobs), len(jobs)

    def work(self) -> None:
        """Until every job has ended."""
        idle_since = time.monotonic()
        while self.scheduler or self.running:
            if self.scheduler:
                self.start_jobs()
            if self.can_go_on():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > PATIENCE_S:
                there = counted([slot.gpu for slot in self.fleet.slots()])
                raise SweepError(
                    f"No GPU takes the {len(self.scheduler) + len(self.running)} jobs that are "
                    f"left (they need {', '.join(self.needs())}; {self.fleet.where} there is now: "
                    f"{there}). What was measured is kept: the same command goes on with the rest."
                )
            for job_id, event in self.fleet.events(POLL_S):
                self.handle(job_id, event)

    def needs(self) -> list[str]:
        """What jobs need that have no machine yet."""
        sent = (job.job.need for job in self.running.values() if job.environment is None)
        return list(dict.fromkeys((*self.scheduler.needs(), *sent)))

    def can_go_on(self) -> bool:
        """Whether a job runs, or may get a GPU when others leave it."""
        if any(job.environment is not None for job in self.running.values()):
            return True
        return any(does(slot.gpu, need) for slot in self.fleet.slots() for need in self.needs())

    def start_jobs(self) -> None:
        """Each start may change what is free."""
        while True:
            free = sorted(self.fleet.free(), key=lambda slot: self.losses[slot.place])
            offers = ((slot, self.scheduler.take(slot.gpu)) for slot in free)
            slot, job = next((each for each in offers if each[1] is not None), (None, None))
            if slot is None or job is None:
                return
            self.running[job.job_id] = RunningJob(job, slot)
            task = Task(
                job_id=job.job_id,
                sweep=self.sweep.model_copy(update={"cases": job.cases}),
                known_ids=tuple(self.known_ids[job.cases[0].worker_key]),
                store=str(self.store.path.absolute()),  # a node's own folder is another
                options=self.options,
            )
            self.fleet.start(task, slot)

    def handle(self, job_id: int, event: Event) -> None:
        job = self.running.get(job_id)
        if job is None:  # a word that came after its job's last
            return
        if isinstance(event, JobRefused):
            raise SweepError(event.message)
        if isinstance(event, JobPlaced):
            job.environment = event.environment
        elif isinstance(event, CaseBegan):
            job.has_begun = True
            job.case, job.started_at, job.began = event.case, utc_now(), time.monotonic()
            self.watcher.case_begins(event.case)
        elif isinstance(event, CaseEnded):
            self.keep(job, event)
        else:
            self.end_job(job, event)

    def keep(self, job: RunningJob, ended: CaseEnded) -> None:
        record = ended.record
        if not ended.is_stored:
            if ended.trace is not None:
                self.store.write_trace(record, ended.trace)
            self.store.write_record(record)
        job.case = None
        if record.status != "crashed":
            self.lost_in_a_row = 0
        self.statuses[record.case_id] = record.status
        self.losses_of_group.pop(record.case.worker_key, None)
        self.known_ids[record.case.worker_key].append(record.case_id)
        self.measured_s += measured_s(record)
        self.watcher.case_ends(record)

    def end_job(self, job: RunningJob, ended: JobEnded) -> None:
        """What a lost job has not done is offered again, but for the case that it was lost at."""
        del self.running[job.job.job_id]
        why = ended.lost or "it ended before its cases did"
        self.keep_untold(job)
        if job.case is not None:
            self.keep(job, CaseEnded(self.crashed(job, job.case, why), is_stored=False))
        if not job.has_begun:
            self.count_loss(job, why)
        rest = job.job.rest(self.next_id, self.statuses)
        if rest is not None:
            self.next_id += 1
            self.scheduler.add(rest)

    def count_loss(self, job: RunningJob, why: str) -> None:
        """Of a job that began no case, or did not live to tell of it.

        If that goes on with all jobs, the sweep ends; if it does with those of one worker group,
        its first case is taken for the cause.
        """
        rest = job.job.rest(job.job.job_id, self.statuses)
        if rest is None:
            return
        self.losses[job.slot.place] += 1
        self.lost_in_a_row += 1
        if self.lost_in_a_row >= MOST_LOSSES:
            raise SweepError(
                f"{self.lost_in_a_row} jobs in a row were lost before they began a case, the last "
                f"on {job.place}: {why}. Mend that: the same command goes on."
            )
        first = rest.cases[0]
        self.losses_of_group[first.worker_key] += 1
        if self.losses_of_group[first.worker_key] >= MOST_LOSSES:
            often = f"lost {MOST_LOSSES} times before it told of a case, the last time: {why}"
            self.keep(job, CaseEnded(self.crashed(job, first, often), is_stored=False))

    def keep_untold(self, job: RunningJob) -> None:
        """What a job has stored that was not told before it was lost."""
        rest = job.job.rest(job.job.job_id, self.statuses)
        ids = [case.case_id for case in rest.cases] if rest is not None else []
        again = retried(self.options)
        for record in self.store.read_cases(self.sweep.sweep_id, ids):
            if record.status not in again:
                self.keep(job, CaseEnded(record, is_stored=True))

    def crashed(self, job: RunningJob, case: Case, why: str) -> Record:
        """The record of a case that its machine did not survive."""
        outcome = Outcome(
            status="crashed",
            stage="lost",
            message=f"{job.place}: {why}",
            wall_s=time.monotonic() - job.began,
        )
        environment = job.environment or unknown(self.sweep.environment, job.slot)
        sweep = self.sweep.model_copy(update={"environment": environment})
        return make_record(sweep, case, Attempt(outcome), job.started_at)


class RunningJob:
    """A job that was sent, and how far it is."""

    def __init__(self, job: Job, slot: Slot) -> None:
        self.job, self.slot = job, slot
        self.environment: Environment | None = None
        self.case: Case | None = None
        self.has_begun = False
        self.started_at, self.began = utc_now(), time.monotonic()

    @property
    def place(self) -> str:
        """Where it runs, as far as it has said so."""
        return self.environment.hostname if self.environment is not None else self.slot.place


def unknown(environment: Environment, slot: Slot) -> Environment:
    """A machine that never said what it is: of the driver's there is our code alone."""
    nothing = {
        "hostname": slot.place, "os": "unknown", "cpu": "unknown", "cores": 0, "memory_bytes": 0,
        "gpus": (), "driver": None, "cuda": None, "cudnn": None, "torch": "unknown",
        "torchvision": None, "notes": ("it was lost before it said what it is",),
    }  # fmt: skip
    return environment.model_copy(update=nothing)
