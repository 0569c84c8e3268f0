"""A sweep's process killed at 200 moments: nothing that was finished is lost, nothing is broken."""

from __future__ import annotations

import json
import subprocess
import sys

from results.records.store import to_json

KILLS = 200
CASES = 12

# In a process of its own, so that pytest's threads are not forked. Each run is killed after a time
# from the whole length of a run, and goes on in the next; a plan that is complete is looked over,
# and another store begins. What a run says it has stored goes through a pipe, which outlives it.
KILLER = """
import collections, json, os, random, signal, sys, time
from pathlib import Path
from benchmarking.sweeping.protocol import Outcome
from benchmarking.sweeping.runner import SweepContext, run_sweep
from results.records.repair import look_over
from results.records.environment import Environment
from results.records.case import Case
from results.records.measurement import Measurement
from results.records.case import TimingPlan
from results.records.store import Store

cases, environment, folder, kills_wanted = json.load(sys.stdin)
cases = [Case(**case) for case in cases]
environment = Environment.model_validate(environment)
measurement = Measurement(weights="random", input_source="noise")
chance = random.Random(20250102)
os.fsync = lambda descriptor: None  # the death of a process needs no waiting for the disk

class Launcher:
    def measure(self, case, plan, on_stage):
        time.sleep(0.0002)
        return Outcome(status="ok", measurement=measurement, wall_s=0.0)
    def close(self): pass

class Watcher:
    def __init__(self, pipe):
        self.pipe = pipe
    def case_ends(self, record):
        os.write(self.pipe, (record.case_id + "\\n").encode())
    def __getattr__(self, name):
        return lambda *arguments: None

def run(store, pipe):
    setting = SweepContext(environment, store, Launcher(), Watcher(pipe), "")
    run_sweep(cases, TimingPlan(), setting)

def start(store, delay_s):
    \"\"\"Run the sweep in a child; give its status, and the ids that it said were stored.\"\"\"
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        run(store, write)
        os._exit(0)
    os.close(write)
    if delay_s is not None:
        time.sleep(delay_s)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    said = b""
    while more := os.read(read, 65536):
        said += more
    os.close(read)
    return status, said.decode().split()

def count_faults(store, said):
    \"\"\"Compare what is in the store with what was said to be.\"\"\"
    told["said twice"] += len(said) - len(set(said))
    stored = set()
    for look in look_over(store):
        stored |= {record.case_id for record in look.records.values()}
        told["broken"] += len(look.unusable) + len(look.misnamed)
        told["plan broken"] += os.path.lexists(look.folder / "sweep.json") and look.sweep is None
    told["lost"] += len(set(said) - stored)

def count_end(store):
    contents = store.read()
    ids = sorted(record.case_id for record in contents.records)
    told["incomplete"] += ids != sorted(case.case_id for case in cases)
    told["other sweeps"] += len(contents.sweeps) - 1
    told["not fine"] += sum(not look.is_fine for look in look_over(store))
    told["left over"] += len(list(store.path.rglob("*.tmp")))
    told["stores"] += 1

told = collections.Counter()
first = Store(Path(folder, "first"))
began = time.monotonic()
start(first, None)
run_s = time.monotonic() - began
count_end(first)
progress = set()
while told["kills"] < kills_wanted:
    store, said, status = Store(Path(folder, str(told["stores"]))), [], 1
    while status and told["kills"] < kills_wanted:
        status, more = start(store, chance.uniform(0, run_s))
        told["kills"] += status == signal.SIGKILL
        told["errors"] += status not in (0, signal.SIGKILL)
        said += more
        progress.add(len(said))
        count_faults(store, said)
    if status:
        status, more = start(store, None)
        told["errors"] += status != 0
        said += more
    count_faults(store, said)
    count_end(store)
told["progress"] = len(progress)
print(json.dumps(told))
"""


def test_a_sweep_killed_at_200_moments_loses_no_record_and_is_finished_later(
    tmp_path, make_case, environment
):
    cases = [make_case(batch_size=size).model_dump() for size in range(1, CASES + 1)]
    done = subprocess.run(
        [sys.executable, "-P", "-c", KILLER],
        input=json.dumps([cases, json.loads(to_json(environment)), str(tmp_path), KILLS]),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert told.pop("kills") == KILLS
    assert told.pop("stores") > 3  # each of them finished in the end
    assert told.pop("progress") > CASES // 2  # numbers of records that runs had come to
    assert set(told.values()) == {0}, told
