"""The GPUs of this machine: a worker on each, or on one at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace

from results.records.environment import Environment, Gpu

from ..choices.sweep import CPU
from ..sweeping.case_runner import CaseRunner, LocalCaseRunner
from .jobs import Event, JobEnded, Slot, Stoppable, Task, run_to_end

CLOSE_S = 10.0  # for jobs to end that were stopped

MakeCaseRunner = Callable[[str | None], CaseRunner]


class LocalFleet:
    """GPUs of this machine, each seen by its worker alone.

    The CPU takes a job while no GPU works: each would slow the other.

    Args:
        environment: Of this machine.
        lanes: How many jobs run at once, at most.
        make_case_runner: Makes what measures, for a GPU as CUDA_VISIBLE_DEVICES names it.
    """

    where = "on this machine"

    def __init__(
        self,
        environment: Environment,
        lanes: int | None = None,
        make_case_runner: MakeCaseRunner = lambda gpu: LocalCaseRunner(gpu=gpu),
    ) -> None:
        self.environment, self.make_case_runner = environment, make_case_runner
        self._lanes = lanes or max(1, len(environment.gpus))
        self.gpus = {f"cuda:{gpu.index}": gpu for gpu in environment.gpus}
        self._busy: dict[int, tuple[str, Stoppable, threading.Thread]] = {}
        self._told: queue.Queue[tuple[int, Event]] = queue.Queue()

    def lanes(self) -> int:
        return self._lanes

    def slots(self) -> list[Slot]:
        return [*(Slot(gpu.name, place) for place, gpu in self.gpus.items()), Slot(None, CPU)]

    def free(self) -> list[Slot]:
        busy = [place for place, _, _ in self._busy.values()]
        if not busy:
            return self.slots()
        if CPU in busy or len(busy) >= self._lanes:
            return []
        return [slot for slot in self.slots() if slot.place not in (*busy, CPU)]

    def start(self, task: Task, slot: Slot) -> None:
        gpu = self.gpus.get(slot.place)
        visible, environment = None, self.environment
        if gpu is not None:  # the machine as a process sees it that is bound to one GPU
            visible = visible_name(gpu)
            only = (gpu.model_copy(update={"index": 0}),)
            environment = environment.model_copy(
                update={"gpus": only, "cuda_visible_devices": visible}
            )
        case_runner = Stoppable(self.make_case_runner(visible))
        own = replace(task, environment=environment, gpu=visible)
        thread = threading.Thread(target=self._run, args=(own, case_runner), daemon=True)
        self._busy[task.job_id] = slot.place, case_runner, thread
        thread.start()

    def _run(self, task: Task, case_runner: Stoppable) -> None:
        run_to_end(task, lambda event: self._told.put((task.job_id, event)), case_runner)

    def events(self, timeout_s: float) -> list[tuple[int, Event]]:
        try:
            told = [self._told.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._told.empty():
            told.append(self._told.get())
        for job_id, event in told:
            if isinstance(event, JobEnded):
                self._busy.pop(job_id, None)
        return told

    def close(self) -> None:
        jobs = list(self._busy.values())
        for _, case_runner, _ in jobs:
            case_runner.stop()
        for _, _, thread in jobs:
            thread.join(CLOSE_S)
        self._busy.clear()


def visible_name(gpu: Gpu) -> str:
    """A GPU as CUDA_VISIBLE_DEVICES names it; torch's uuid lacks the prefix."""
    if gpu.uuid.startswith(("GPU-", "MIG-")):
        return gpu.uuid
    return f"{'MIG' if 'MIG' in gpu.name.split() else 'GPU'}-{gpu.uuid}"
