"""GPUs behind Slurm, through submitit: a batch job a job of ours, and its records in the store."""

from __future__ import annotations

import getpass
import io
import subprocess
import time
from collections import Counter
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from results.records.case import ANY
from results.records.errors import one_line
from results.records.store import Store

from ..choices.sweep import CPU
from ..errors import SweepError, import_extra, quoted
from ..signals import terminable
from .jobs import CaseBegan, CaseEnded, Event, JobEnded, Slot, Task, run_to_end

LOOK_S = 5.0  # between two looks at Slurm and the store
LOGS = ".slurm"  # in the store: what submitit writes


@dataclass(frozen=True)
class SlurmOptions:
    """How jobs are asked for.

    gres, constraint: With {kind} for the kind of GPU in lower case.
    jobs: Of each kind in Slurm's queue at once, at most.
    minutes, cpus, memory_gb: That Slurm gives a job.

    Raises:
        SweepError: Where {kind} is not the only thing to be filled in.
    """

    partition: str | None = None
    gres: str = "gpu:{kind}:1"
    constraint: str | None = None
    jobs: int = 16
    minutes: int = 240
    cpus: int = 8
    memory_gb: int = 64

    def __post_init__(self) -> None:
        for name, text in (("gres", self.gres), ("constraint", self.constraint or "")):
            try:
                text.format(kind="")
            except (LookupError, ValueError, AttributeError) as error:
                raise SweepError(
                    f"--slurm-{name} must be text with {{kind}} in it or without, got "
                    f"{quoted(text)}."
                ) from error


@dataclass
class SlurmJob:
    """A job in Slurm's queue.

    old: When its cases' records were made that are there already, by case id.
    told: Ids of the cases that were told.
    """

    batch_job: Any
    task: Task
    slot: Slot
    old: dict[str, str]
    told: set[str] = field(default_factory=set)


class SlurmFleet:
    """GPUs that Slurm gives: it refuses a kind that it does not know.

    Args:
        needs: Kinds that the sweep needs.
        store: That the nodes can reach; a folder must be on a disk that they share.
        options: How jobs are asked for.
        cluster: "slurm", or "local" to run jobs on this machine.

    Raises:
        SweepError: Where submitit is not installed, or there is no Slurm.
    """

    def __init__(
        self, needs: list[str], store: Store, options: SlurmOptions, cluster: str = "slurm"
    ) -> None:
        self.needs, self.store, self.options = needs, store, options
        self.where = "in Slurm's queue"
        folder = store.path / LOGS if isinstance(store.path, Path) else Path(LOGS)
        submitit = import_extra("submitit", "slurm", "submitit")
        try:
            self.executor = submitit.AutoExecutor(folder=folder.absolute(), cluster=cluster)
        except (RuntimeError, OSError) as error:
            raise SweepError(
                f"There is no Slurm here ({one_line(error)}): type this on a machine that has "
                "sbatch."
            ) from error
        self._jobs: dict[int, SlurmJob] = {}
        self._names: set[str] = set()
        self._looked_s = 0.0

    def lanes(self) -> int:
        return len(self.slots())

    def slots(self) -> list[Slot]:
        """What may be asked for; whether it is there, Slurm knows."""
        return [slot_of(need) for need in self.needs for _ in range(self.options.jobs)]

    def free(self) -> list[Slot]:
        taken = Counter(job.slot for job in self._jobs.values())
        return list((Counter(self.slots()) - taken).elements())

    def start(self, task: Task, slot: Slot) -> None:
        ids = [case.case_id for case in task.sweep.cases]
        known = self.store.read_cases(task.sweep.sweep_id, ids)
        old = {record.case_id: record.started_at for record in known}
        name = f"sam-bench-{task.sweep.sweep_id}"
        if name not in self._names:
            self._names.add(name)
            self.cancel(name)
        self.executor.update_parameters(name=name, **self.parameters(slot))
        try:
            with redirect_stderr(io.StringIO()):  # where submitit prints what it raises
                batch_job = self.executor.submit(collect, task)
        except Exception as error:  # submitit has errors of its own, and sbatch's
            raise SweepError(
                f"Slurm takes no job for {slot.place}: {one_line(error)}. See the "
                "options --slurm-..., such as --slurm-gres and --slurm-partition."
            ) from error
        self._jobs[task.job_id] = SlurmJob(batch_job, task, slot, old)

    def cancel(self, name: str) -> None:
        """What a driver that was killed has left of the same sweep, which nobody else runs now."""
        if self.executor.cluster == "slurm":
            command = ["scancel", "-u", getpass.getuser(), "-n", name]
            subprocess.run(command, check=False, capture_output=True)

    def parameters(self, slot: Slot) -> dict[str, Any]:
        """As submitit names them."""
        options, kind = self.options, slot.place.lower().replace(" ", "_")
        gres: str | None = options.gres if slot.gpu is not None else None
        constraint = options.constraint
        if slot.gpu in (ANY, None):  # no kind that a name could be made of
            gres = "gpu:1" if "{kind}" in (gres or "") else gres
            constraint = None if "{kind}" in (constraint or "") else constraint
        more = {
            "partition": options.partition,
            "gres": gres.format(kind=kind) if gres else None,
            "constraint": constraint.format(kind=kind) if constraint else None,
            "exclusive": slot.gpu is None or None,  # a whole node, so that nothing else disturbs
        }
        return {
            "timeout_min": options.minutes,
            "cpus_per_task": options.cpus,
            "mem_gb": options.memory_gb,
            # As a whole, since the executor keeps what was asked before.
            "slurm_additional_parameters": {
                name: value for name, value in more.items() if value is not None
            },
        }

    def events(self, timeout_s: float) -> list[tuple[int, Event]]:
        wait_s = self._looked_s + LOOK_S - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return []
        self._looked_s = time.monotonic()
        return [
            (job_id, event) for job_id, job in list(self._jobs.items()) for event in self.look(job)
        ]

    def look(self, job: SlurmJob) -> list[Event]:
        """What is new of a job: its records in the store, and its end."""
        has_ended = job.batch_job.done()  # before, since the last record may come meanwhile
        told = self.new_records(job)
        if has_ended:
            del self._jobs[job.task.job_id]
            told += self.last_words(job)
        return told

    def new_records(self, job: SlurmJob) -> list[Event]:
        """Of the cases in their order, as far as they are done."""
        told: list[Event] = []
        sweep = job.task.sweep
        for case in sweep.cases:
            if case.case_id in job.told:
                continue
            found = self.store.read_cases(sweep.sweep_id, [case.case_id])
            # One that was interrupted is no end, since Slurm may start the job again.
            new = [
                each
                for each in found
                if each.status != "interrupted" and each.started_at != job.old.get(each.case_id)
            ]
            if not new:
                break
            job.told.add(case.case_id)
            told += [CaseBegan(case), CaseEnded(new[0], is_stored=True)]
        return told

    def last_words(self, job: SlurmJob) -> list[Event]:
        error = job.batch_job.exception()
        if error is None:
            # Without what the store told before; what it did not show may be there all the same.
            return [each for each in job.batch_job.result() if case_id_of(each) not in job.told]
        lost = JobEnded(lost=f"Slurm's job {job.batch_job.job_id}: {one_line(error)}")
        # Which case it was at it can't tell any more: the first that has no record, if it began.
        at = (case for case in job.task.sweep.cases if case.case_id not in job.told)
        return [*(CaseBegan(case) for case in islice(at, 1 if job.told else 0)), lost]

    def close(self) -> None:
        for job in self._jobs.values():
            with suppress(Exception):  # one that can't be cancelled must not save the others
                job.batch_job.cancel(check=False)
        self._jobs.clear()


def slot_of(need: str) -> Slot:
    return Slot(None if need == CPU else need, need)


def case_id_of(event: Event) -> str | None:
    """Of the case that began or ended."""
    if isinstance(event, CaseEnded):
        return event.record.case_id
    return event.case.case_id if isinstance(event, CaseBegan) else None


def collect(task: Task) -> list[Event]:
    """Runs on a node: what it told, in the order in which it happened."""
    told: list[Event] = []
    with terminable():
        run_to_end(task, told.append)
    ended = {event.record.case_id for event in told if isinstance(event, CaseEnded)}
    # The case that it was at, where it did not come to its end, is among them.
    return [
        event
        for event in told
        if not isinstance(event, CaseBegan) or event.case.case_id not in ended
    ]
