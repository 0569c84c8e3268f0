"""Where cases run: a case_runner measures one case after another, each beyond this process.

The parent never loads torch, so a crash of the driver or the allocator can't take the sweep along.
"""

from __future__ import annotations

import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

import psutil
from pydantic import ValidationError

from results.records.case import Case, TimingPlan
from results.records.environment import CoTenant
from results.records.schema import Status

from ..errors import SweepError
from .protocol import Answer, Outcome, Refusal, Request, Stage

WORKER = (sys.executable, "-P", "-m", "benchmarking.measuring.worker")
START_TIMEOUT_S = 180.0  # until torch is loaded; a cold disk is slow
SILENCE_LIMIT_S = 120.0  # many beats; a call that holds Python's lock delays them
POLL_S = 0.2
LOOK_S = 10.0  # between two looks at who else measures here
CLOSE_S = 2.0  # for what the worker started to end, and for the readers
STDERR_TAIL_CHARS = 4_000
MAX_ANSWER_CHARS = 2**26  # a line without an end must not fill the memory
VISIBLE = "CUDA_VISIBLE_DEVICES"
MARK = "SAM_BENCH_WORKER"  # an environment variable that everything a worker starts inherits

OnStage = Callable[[str], None]
Failure = tuple[Status, str]  # why a worker gives no outcome


class CaseRunner(Protocol):
    """Measures cases somewhere."""

    def measure(self, case: Case, plan: TimingPlan, on_stage: OnStage) -> Outcome:
        """Measure one case; failures are outcomes. SweepError where the sweep must end."""

    def close(self) -> None:
        """End whatever still runs."""


class LocalCaseRunner:
    """One worker process on this machine, kept while cases share a model and end well.

    Args:
        command: Starts a worker.
        gpu: The one GPU that workers see, as CUDA_VISIBLE_DEVICES names it; all where None.
    """

    def __init__(self, command: tuple[str, ...] = WORKER, gpu: str | None = None) -> None:
        self.command, self.gpu = command, gpu
        self._worker: Worker | None = None
        self._worker_key: tuple[Hashable, ...] | None = None

    def measure(self, case: Case, plan: TimingPlan, on_stage: OnStage) -> Outcome:
        if self._worker_key != case.worker_key:
            self.close()
        if self._worker is None:
            self._worker, self._worker_key = Worker(self.command, self.gpu), case.worker_key
        worker = self._worker
        outcome = worker.measure(Request(case=case, plan=plan), on_stage)
        if outcome.status == "ok":
            return outcome
        self.close()  # what an error left behind must not touch the next case
        return outcome.model_copy(update={"stderr_tail": worker.stderr_tail()})

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = self._worker_key = None


class Worker:
    """A worker process, watched: it may die, hang or print without end."""

    def __init__(self, command: tuple[str, ...], gpu: str | None = None) -> None:
        self._mark = secrets.token_hex(8)
        bound = {} if gpu is None else {VISIBLE: gpu}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, MARK: self._mark, **bound},
            start_new_session=True,  # Ctrl-C is for the sweep, which then ends the worker
        )
        self._lines: queue.Queue[str] = queue.Queue(maxsize=1000)
        self._stderr: deque[str] = deque(maxlen=STDERR_TAIL_CHARS)
        self._is_ready = False
        self._oom_kills = oom_kills()
        self._readers = [
            threading.Thread(target=self._read, args=arguments, daemon=True)
            for arguments in (
                (self.process.stdout, MAX_ANSWER_CHARS, self._lines.put),
                (self.process.stderr, 1024, self._stderr.extend),
            )
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], most: int, keep: Callable[[str], None]) -> None:
        with stream:
            while text := stream.readline(most):
                keep(text)

    def measure(self, request: Request, on_stage: OnStage) -> Outcome:
        """What becomes of a request, and who else measured on this machine meanwhile."""
        company = CoTenantWatch(self._mark)
        outcome = self._await_outcome(request, on_stage, company)
        company.look()
        return outcome.model_copy(update={"co_tenants": company.seen()})

    def _await_outcome(
        self, request: Request, on_stage: OnStage, company: CoTenantWatch
    ) -> Outcome:
        """Send a request and wait for its outcome, its end, or the deadline."""
        began = time.monotonic()
        stage = "start"
        patience = WaitClock()
        with suppress(OSError):  # a worker that is dead already is found out by its end
            assert self.process.stdin is not None
            self.process.stdin.write(request.model_dump_json() + "\n")
            self.process.stdin.flush()
        while True:
            has_ended = self.process.poll() is not None  # before its last line is waited for
            line = self._next_line(POLL_S)
            patience.wait(is_quiet=line is None)
            company.look_now_and_then()
            try:
                said = None if line is None else Answer.model_validate_json(line).said
            except ValidationError:
                garbled = "the worker's answer can't be understood"
                return failed(("crashed", garbled), stage, began)
            if isinstance(said, Refusal):
                raise SweepError(said.message)
            if isinstance(said, Outcome):
                return said
            if isinstance(said, Stage):
                stage = said.name
                if stage == "ready":
                    self._is_ready = True
                    began, patience = time.monotonic(), WaitClock()
                on_stage(stage)
            failure = self._end() if has_ended and line is None else None
            failure = failure or self._impatience(request.plan, patience)
            if failure is not None:
                return failed(failure, stage, began)

    def _impatience(self, plan: TimingPlan, patience: WaitClock) -> Failure | None:
        """Why a worker is not waited for any longer."""
        limit_s = plan.case_timeout_s if self._is_ready else START_TIMEOUT_S
        if patience.waited_s > limit_s:
            return "timeout", f"no outcome within {limit_s:g} s"
        if self._is_ready and patience.silence_s > SILENCE_LIMIT_S:
            limit = f"{SILENCE_LIMIT_S:g} s"
            return "timeout", f"the worker was not heard for {limit}: it hangs"
        return None

    def _end(self) -> Failure:
        """Why a worker ended that has."""
        if self.process.returncode == -signal.SIGKILL and oom_kills() > self._oom_kills:
            return "oom", "the kernel killed the worker: the host's memory was full"
        code = self.process.returncode
        if code < 0:
            ended = f"was killed by signal {-code} ({signal.strsignal(-code)})"
        else:
            ended = f"ended with exit code {code} and without an outcome"
        return "crashed", f"the worker {ended}"

    def stderr_tail(self) -> str | None:
        """The end of what the worker printed; all that it printed is read once it is closed."""
        return "".join(self._stderr) or None

    def _next_line(self, timeout_s: float) -> str | None:
        """The next line, or None where none came for a moment."""
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None
        except RuntimeError as error:  # two Ctrl-C at once leave the queue's lock half released
            if type(error) is not RuntimeError:  # what a scheduler's own handler raises
                raise
            raise KeyboardInterrupt from error

    def close(self) -> None:
        """End the process and everything that it started."""
        children: list[psutil.Process] = []
        try:
            with suppress(psutil.Error):  # also what left the worker's process group
                children = psutil.Process(self.process.pid).children(recursive=True)
        finally:  # also where a second Ctrl-C comes
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        kill(children)
        self.process.wait()
        deadline = time.monotonic() + CLOSE_S
        # What outlived a parent of its own; again, since it may have started more meanwhile.
        while (orphans := marked(self._mark)) and time.monotonic() < deadline:
            kill(orphans)
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        deadline = time.monotonic() + CLOSE_S
        while any(reader.is_alive() for reader in self._readers) and time.monotonic() < deadline:
            self._next_line(0.01)  # makes room for a reader that waits for it


class WaitClock:
    """How long a worker was waited for, and how long in silence, in seconds.

    By the monotonic clock, which nobody sets and which stands still while the machine sleeps. A
    step is never long: while this process itself is stopped, the worker's words wait in the pipe.
    """

    def __init__(self) -> None:
        self.waited_s = self.silence_s = 0.0
        self._last_s = time.monotonic()

    def wait(self, is_quiet: bool) -> None:
        """Count the time since the last call, at whose end there was a line or none."""
        now_s = time.monotonic()
        step_s = min(now_s - self._last_s, 2 * POLL_S)
        self._last_s = now_s
        self.waited_s += step_s
        self.silence_s = self.silence_s + step_s if is_quiet else 0.0


class CoTenantWatch:
    """Other workers of ours on this machine, of this sweep or another, while a case is measured.

    Args:
        mark: Of the worker that measures it.
    """

    def __init__(self, mark: str) -> None:
        self._own, self._seen = mark, dict[str, CoTenant]()
        self.look()

    def look(self) -> None:
        self._looked_s = time.monotonic()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                variables = process.environ()
                mark = variables.get(MARK, self._own)
                if mark != self._own:  # a worker's own children have its mark: it is seen once
                    tenant = CoTenant(pid=process.pid, gpu=variables.get(VISIBLE))
                    self._seen.setdefault(mark, tenant)

    def look_now_and_then(self) -> None:
        """Seldom, since looking takes time of the CPU that the case may need."""
        if time.monotonic() - self._looked_s > LOOK_S:
            self.look()

    def seen(self) -> tuple[CoTenant, ...]:
        return tuple(self._seen.values())


def failed(failure: Failure, stage: str, began: float) -> Outcome:
    status, message = failure
    return Outcome(status=status, stage=stage, message=message, wall_s=time.monotonic() - began)


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that a worker started, however they were cut loose from it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
