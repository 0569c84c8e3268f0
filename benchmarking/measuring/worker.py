"""The process that measures: reads requests from stdin, answers on what was stdout.

It is the only part of a sweep that loads torch. Whatever else prints to stdout lands in stderr.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..errors import USER_ERRORS
from ..sweeping.protocol import BEAT_S, Answer, Beat, Outcome, Refusal, Request, Stage
from .failures import classify

if TYPE_CHECKING:
    from .rig import Rig

PR_SET_PDEATHSIG = 1  # from Linux's prctl.h


def main() -> None:
    parent = os.getppid()
    # Linux is to end this process when the sweep's dies, however it dies.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        os._exit(1)
    with suppress(OSError):  # where memory runs out, this process is to go and no other
        Path("/proc/self/oom_score_adj").write_text("1000")
    # A compilation is measured cold: the seconds of a cache hit say nothing.
    os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    voice = AnswerWriter(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # everything else that prints to stdout is sent to stderr
    with voice.beating():
        serve(voice.say)


def serve(say: Callable[[Stage | Refusal | Outcome], None]) -> None:
    """Answer requests until there are no more, or one is refused."""
    from . import measure  # noqa: F401  loads libraries before a case may limit this one's memory
    from .rig import build_rig

    gc.freeze()  # else every pass looks first whether all that torch has loaded is garbage
    say(Stage(name="ready"))
    rig = None  # for one worker group: the supervisor starts another worker for the next
    for line in sys.stdin:
        request = Request.model_validate_json(line)
        try:
            if rig is None:
                say(Stage(name="build"))
                rig = build_rig(request.case, request.plan)
            said = attempt(request, rig, say)
        except Exception as error:
            said = failure(error, "build", 0.0)
        say(said)
        if isinstance(said, Refusal):
            return


class AnswerWriter:
    """What the worker says: one line at a time, from whichever thread.

    Args:
        answers: Where its lines go.
    """

    def __init__(self, answers: TextIO) -> None:
        self.answers = answers
        self._lock = threading.Lock()

    def say(self, said: Stage | Beat | Refusal | Outcome) -> None:
        line = Answer(said=said).model_dump_json() + "\n"
        with self._lock:
            self.answers.write(line)
            self.answers.flush()

    @contextmanager
    def beating(self, every_s: float = BEAT_S) -> Iterator[None]:
        """Say so often that this process lives; no beat comes after."""
        is_over = threading.Event()

        def beat() -> None:
            with suppress(OSError):  # nobody listens any more
                while not is_over.wait(every_s):
                    self.say(Beat())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def attempt(request: Request, rig: Rig, say: Callable[[Stage], None]) -> Refusal | Outcome:
    """Measure a case; what goes wrong becomes its outcome."""
    from .measure import PassError, measure_case

    stage = "start"

    def begin(name: str) -> None:
        nonlocal stage
        stage = name
        say(Stage(name=name))

    began = time.perf_counter()
    rig.trace = None
    try:
        measurement = measure_case(request.case, request.plan, rig, begin)
    except PassError as error:
        said = failure(error.error, stage, time.perf_counter() - began)
        if isinstance(said, Outcome):  # keeps the passes that were finished
            said = said.model_copy(update={"measurement": error.measurement})
        return said
    except Exception as error:
        return failure(error, stage, time.perf_counter() - began)
    is_finite = measurement.output is None or measurement.output.finite
    return Outcome(
        status="ok" if is_finite else "invalid",
        stage=None if is_finite else stage,
        message=None if is_finite else "the output holds NaN or infinity",
        measurement=measurement,
        trace=None if rig.trace is None else b64encode(rig.trace),
        wall_s=time.perf_counter() - began,
    )


def failure(error: Exception, stage: str, wall_s: float) -> Refusal | Outcome:
    """The user's mistake ends the sweep; anything else is the case's outcome."""
    if isinstance(error, USER_ERRORS):
        return Refusal(message=str(error))
    traceback.print_exception(error)
    status, message = classify(error)
    return Outcome(status=status, stage=stage, message=message, wall_s=wall_s)


if __name__ == "__main__":
    main()
