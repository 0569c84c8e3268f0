"""A launcher, a clock and workers that do what a script says, for tests that measure nothing.

Loaded by fixtures, since pytest's importlib mode lets tests import no neighbour.
"""

from __future__ import annotations

from benchmarking.sweeping.protocol import Outcome
from results.records.case import Case
from results.records.measurement import Measurement

NOTHING = Measurement(weights="random, seed 0", input_source="noise, seed 0")


class ScriptedLauncher:
    """Answers by batch size: a status, or an error to raise; 'ok' where nothing is said.

    Args:
        script: Answers by batch size.
        measurement: Of the cases that are ok.
        before: Called with each case before it is answered.
    """

    def __init__(self, script=None, measurement=NOTHING, before=lambda case: None):
        self.script, self.measurement, self.before = dict(script or {}), measurement, before
        self.measured: list[Case] = []
        self.is_closed = False

    @property
    def batch_sizes(self) -> list[int]:
        return [case.batch_size for case in self.measured]

    def measure(self, case, plan, on_stage):
        self.measured.append(case)
        self.before(case)
        on_stage("latency")
        answer = self.script.get(case.batch_size, "ok")
        if isinstance(answer, BaseException):
            raise answer
        measurement = self.measurement if answer == "ok" else None
        return Outcome(status=answer, message=answer, measurement=measurement, wall_s=0.5)

    def close(self):
        self.is_closed = True


class FakeClock:
    """Stands still but for `now_s`; knows what it was asked, and the marks that are still out.

    Args:
        wait_s: What the host spends in each synchronise.
    """

    def __init__(self, wait_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.wait_s = wait_s
        self.log: list[str] = []
        self.out = 0

    def mark(self) -> float:
        self.log.append("mark")
        self.out += 1
        return self.now_s

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def synchronize(self) -> None:
        self.log.append("wait")
        self.now_s += self.wait_s

    def release(self, *marks: float) -> None:
        self.out -= len(marks)

    def now(self) -> float:
        return self.now_s


# What scripted workers are written in.
WORDS = """
import json, os, signal, subprocess, sys, time

def say(**said):
    print(json.dumps({"said": said}), flush=True)

def stage(name):
    say(kind="stage", name=str(name))

def outcome(status="ok", **more):
    say(kind="outcome", status=status, wall_s=1.5, **more)

def cases():
    for line in sys.stdin:
        yield json.loads(line)["case"]

def grandchild(**options):
    stage(subprocess.Popen(["sleep", "600"], **options).pid)
"""
