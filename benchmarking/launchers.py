"""Where cases run: a launcher measures one case after another, each beyond this process.

The parent never loads torch, so a crash of the driver or the allocator can't take the sweep along.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

import psutil
from pydantic import ValidationError

from results.schema import Case, Status, TimingPlan

from .protocol import Answer, Outcome, Refusal, Request
from .sweep import SweepError, quoted, suggestion

WORKER = (sys.executable, "-P", "-m", "benchmarking.worker")
START_TIMEOUT_S = 180.0  # until torch is loaded; a cold disk is slow
POLL_S = 0.2
CLOSE_S = 2.0  # for the readers to come to the end of their pipes
STDERR_TAIL_CHARS = 4_000
MAX_ANSWER_CHARS = 2**26  # a line without an end must not fill the memory

OnStage = Callable[[str], None]


class Launcher(Protocol):
    """Measures cases somewhere."""

    def measure(self, case: Case, plan: TimingPlan, on_stage: OnStage) -> Outcome:
        """Measure one case; failures are outcomes. SweepError where the sweep must end."""

    def close(self) -> None:
        """End whatever still runs."""


class LocalLauncher:
    """One worker process on this machine, kept while cases share a model and end well.

    Args:
        command: Starts a worker.
    """

    def __init__(self, command: tuple[str, ...] = WORKER) -> None:
        self.command = command
        self._worker: Worker | None = None
        self._family: tuple[str, ...] | None = None

    def measure(self, case: Case, plan: TimingPlan, on_stage: OnStage) -> Outcome:
        if self._family != case.family():
            self.close()
        if self._worker is None:
            self._worker, self._family = Worker(self.command), case.family()
        worker = self._worker
        outcome = worker.measure(Request(case=case, plan=plan), on_stage)
        if outcome.status == "ok":
            return outcome
        self.close()  # what an error left behind must not touch the next case
        return outcome.model_copy(update={"stderr_tail": worker.stderr_tail()})

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = self._family = None


class Worker:
    """A worker process, watched: it may die, hang or print without end."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the sweep, which then ends the worker
        )
        self._lines: queue.Queue[str] = queue.Queue(maxsize=1000)
        self._stderr: deque[str] = deque(maxlen=STDERR_TAIL_CHARS)
        self._is_ready = False
        self._oom_kills = oom_kills()
        self._readers = [
            threading.Thread(target=target, args=(stream,), daemon=True)
            for target, stream in (
                (self._read_lines, self.process.stdout),
                (self._read_stderr, self.process.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self, stream: IO[str]) -> None:
        with stream:
            while line := stream.readline(MAX_ANSWER_CHARS):
                self._lines.put(line)

    def _read_stderr(self, stream: IO[str]) -> None:
        with stream:
            while text := stream.readline(1024):
                self._stderr.extend(text)

    def measure(self, request: Request, on_stage: OnStage) -> Outcome:
        """Send a request and wait for its outcome, its end, or the deadline."""
        began = time.monotonic()
        stage = "start"

        def failed(status: Status, message: str) -> Outcome:
            return Outcome(
                status=status,
                stage=stage,
                message=message,
                wall_s=time.monotonic() - began,
            )

        with suppress(OSError):  # a worker that is dead already is found out below
            assert self.process.stdin is not None
            self.process.stdin.write(request.model_dump_json() + "\n")
            self.process.stdin.flush()
        while True:
            limit_s = request.plan.case_timeout_s if self._is_ready else START_TIMEOUT_S
            if time.monotonic() - began > limit_s:
                return failed("timeout", f"no outcome within {limit_s:g} s")
            has_ended = self.process.poll() is not None  # before its last line is waited for
            line = self._next_line(POLL_S)
            if line is None:
                if not has_ended:
                    continue
                if self.process.returncode == -signal.SIGKILL and oom_kills() > self._oom_kills:
                    return failed("oom", "the kernel killed the worker: the host's memory was full")
                return failed("crashed", describe_exit(self.process.returncode))
            try:
                said = Answer.model_validate_json(line).said
            except ValidationError:
                return failed("crashed", "the worker's answer can't be understood")
            if isinstance(said, Refusal):
                raise SweepError(said.message)
            if isinstance(said, Outcome):
                return said
            stage = said.name
            if stage == "ready":
                self._is_ready = True
                began = time.monotonic()
            on_stage(stage)

    def stderr_tail(self) -> str | None:
        """The end of what the worker printed; all that it printed is read once it is closed."""
        return "".join(self._stderr) or None

    def _next_line(self, timeout_s: float) -> str | None:
        """The next line, or None where none came for a moment."""
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        """End the process and everything that it started."""
        children: list[psutil.Process] = []
        with suppress(psutil.Error):  # also what left the worker's process group
            children = psutil.Process(self.process.pid).children(recursive=True)
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        deadline = time.monotonic() + CLOSE_S
        while any(reader.is_alive() for reader in self._readers) and time.monotonic() < deadline:
            self._next_line(0.01)  # makes room for a reader that waits for it


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def describe_exit(code: int) -> str:
    """An exit code for a person."""
    if code < 0:
        return f"the worker was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"the worker ended with exit code {code} and without an outcome"


LAUNCHERS: dict[str, Callable[[], Launcher]] = {"local": LocalLauncher}


def find_launcher(name: str) -> Launcher:
    """A launcher by its name; SweepError that lists the names where there is none."""
    if name not in LAUNCHERS:
        raise SweepError(f"Unknown launcher {quoted(name)}.{suggestion(name, LAUNCHERS)}")
    return LAUNCHERS[name]()
