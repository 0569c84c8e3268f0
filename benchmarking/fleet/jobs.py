"""What is sent to a GPU, how it is run there, and what is told of it on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from results.records.addresses import AddressError, UnreachableError, exists
from results.records.case import Case, TimingPlan
from results.records.environment import Environment
from results.records.errors import one_line
from results.records.schema import Record, SweepFile
from results.records.store import Store

from ..choices.sweep import CPU
from ..errors import USER_ERRORS, SweepError
from ..machine.environment import probe_environment
from ..sweeping.case_runner import WORKER, CaseRunner, LocalCaseRunner, OnStage
from ..sweeping.protocol import Outcome
from ..sweeping.runner import SweepContext, SweepExecution, SweepOptions
from .scheduler import does, need_of


@dataclass(frozen=True)
class Task:
    """A job with all that the machine needs that runs it: plain data, since it is another one.

    sweep: Without the cases of other jobs.
    known_ids: Of records of the same worker group, from earlier runs.
    store: Its address; written to where it can be reached.
    environment: Of the machine, where it is known; else it is probed.
    gpu: The one that workers see, as CUDA_VISIBLE_DEVICES names it; all where None.
    worker: Starts a worker; ours where None, with the Python of the machine that runs it.
    """

    job_id: int
    sweep: SweepFile
    known_ids: tuple[str, ...]
    store: str
    options: SweepOptions
    environment: Environment | None = None
    gpu: str | None = None
    worker: tuple[str, ...] | None = None

    def case_runner(self) -> LocalCaseRunner:
        return LocalCaseRunner(self.worker or WORKER, self.gpu)


@dataclass(frozen=True)
class Slot:
    """Where one job at a time can run.

    gpu: Name of its GPU, or of its kind; None for a CPU.
    place: Where that is, for a person.
    """

    gpu: str | None
    place: str


@dataclass(frozen=True)
class JobPlaced:
    """A job has found its machine."""

    environment: Environment


@dataclass(frozen=True)
class CaseBegan:
    case: Case


@dataclass(frozen=True)
class CaseEnded:
    """A case became a record.

    is_stored: Whether it is in the store already.
    trace: Its Chrome trace, where it has one that is not stored.
    """

    record: Record
    is_stored: bool
    trace: bytes | None = None


@dataclass(frozen=True)
class JobEnded:
    """A job runs no more; `lost` says why, where its cases have not all ended."""

    lost: str | None = None


@dataclass(frozen=True)
class JobRefused:
    """The sweep must end: a person's file or setting can't be used, or the store."""

    message: str


Event = JobPlaced | CaseBegan | CaseEnded | JobEnded | JobRefused
Tell = Callable[[Event], None]


class Fleet(Protocol):
    """GPUs that jobs can be sent to; closed at the end.

    where: It is, for a person: "on this machine".
    """

    where: str

    def lanes(self) -> int:
        """How many jobs run at once, at most."""

    def slots(self) -> list[Slot]:
        """All that there are now, busy ones too. SweepError where the fleet can't be reached."""

    def free(self) -> list[Slot]:
        """Those that can take a job now."""

    def start(self, task: Task, slot: Slot) -> None:
        """Send a job; returns at once."""

    def events(self, timeout_s: float) -> list[tuple[int, Event]]:
        """What happened, with the job's id; waits so long where nothing has."""

    def close(self) -> None:
        """End whatever still runs."""


class EventForwarder:
    """Tells of cases what a watcher is told.

    Args:
        tell: Is told.
        unshared: A store that nobody else can read, whose content must be told.
    """

    def __init__(self, tell: Tell, unshared: Store | None) -> None:
        self.tell, self.unshared = tell, unshared

    def begin(self, sweep: SweepFile, left: list[Case], lanes: int = 1) -> None:
        """Whoever sent the job knows."""

    def case_begins(self, case: Case) -> None:
        self.tell(CaseBegan(case))

    def stage(self, name: str) -> None:
        """Too much to send."""

    def case_ends(self, record: Record) -> None:
        trace = None
        if self.unshared is not None:
            path = self.unshared.trace_path(record.sweep_id, record.case_id)
            trace = path.read_bytes() if path.exists() else None
        self.tell(CaseEnded(record, is_stored=self.unshared is None, trace=trace))

    def end(self) -> None:
        """Whoever runs the job tells so."""


class Stoppable:
    """A case_runner that another thread can stop: to its sweep it looks like Ctrl-C."""

    def __init__(self, case_runner: CaseRunner) -> None:
        self.case_runner = case_runner
        self._is_stopped = False

    def measure(self, case: Case, plan: TimingPlan, on_stage: OnStage) -> Outcome:
        if self._is_stopped:
            raise KeyboardInterrupt
        outcome = self.case_runner.measure(case, plan, on_stage)
        if self._is_stopped:  # it was killed: what it says is not what became of the case
            raise KeyboardInterrupt
        return outcome

    def stop(self) -> None:
        self._is_stopped = True
        self.case_runner.close()

    def close(self) -> None:
        if not self._is_stopped:
            self.case_runner.close()


def run_task(task: Task, tell: Tell, case_runner: CaseRunner) -> None:
    """Measure a job's cases on this machine.

    Each record is in the store before it is told, so that nothing is lost with whoever listens;
    where this machine does not reach the store, it is told alone. Cases that are done are left
    out: a scheduler may start a job again.
    """
    environment = task.environment or probe_environment()
    tell(JobPlaced(environment))
    check_machine(task, environment)
    sweep = task.sweep.model_copy(update={"environment": environment})
    with ExitStack() as stack:
        unshared = None
        try:
            store = Store(task.store)
            is_there = exists(store.path / sweep.sweep_id / "sweep.json")
        except (AddressError, UnreachableError):  # without the service's package, key, or network
            is_there = False
        if not is_there:
            store = unshared = Store(Path(stack.enter_context(TemporaryDirectory())))
        watcher = EventForwarder(tell, unshared)
        setting = SweepContext(environment, store, case_runner, watcher, sweep.command)
        own_ids = [case.case_id for case in sweep.cases]
        known = store.read_cases(sweep.sweep_id, (*task.known_ids, *own_ids))
        run = SweepExecution(sweep, setting, task.options, known)
        for record in [each for each in known if each.case_id in own_ids]:
            if record.case_id in run.records:
                tell(CaseEnded(record, is_stored=True))
        run.measure_each(case for case in sweep.cases if case.case_id not in run.records)


def check_machine(task: Task, there: Environment) -> None:
    """Figures of one sweep must be of one state of our code, and of the GPUs that were asked for.

    Raises:
        SweepError: Where this machine is another.
    """
    here = task.sweep.environment
    if there.source_sha256 != here.source_sha256:
        raise SweepError(
            f"{there.hostname} runs another state of sam-bench ({there.sam_bench}, commit "
            f"{there.git_commit}) than {here.hostname} ({here.sam_bench}, commit "
            f"{here.git_commit}): install the same on both."
        )
    case = task.sweep.cases[0]
    if case.device == CPU:
        return
    gpu = there.find_gpu(case.device)
    if gpu is None:
        notes = "; ".join(there.notes) or "its torch sees none"
        raise SweepError(f"{there.hostname} was to have a GPU, and has none: {notes}.")
    if not does(gpu.name, need_of(case)):
        raise SweepError(
            f"{there.hostname} was to have the GPU {case.gpu}, and has {gpu.name}: label it with "
            "its own kind, or name that with --gpu."
        )


def run_to_end(task: Task, tell: Tell, case_runner: CaseRunner | None = None) -> None:
    """Run a job, and tell how it ended; what a person must mend ends the sweep."""
    case_runner = case_runner or task.case_runner()
    last: Event = JobEnded()
    try:
        run_task(task, tell, case_runner)
    except KeyboardInterrupt:  # or the case_runner was stopped
        last = JobEnded(lost="it was told to end")
    except USER_ERRORS as error:
        last = JobRefused(str(error))
    except Exception as error:
        last = JobEnded(lost=f"{type(error).__name__}: {one_line(error)}")
    finally:
        case_runner.close()
    tell(last)  # whoever takes the GPU next finds it free
