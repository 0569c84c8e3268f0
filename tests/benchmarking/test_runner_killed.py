"""A sweep's process killed at any moment: nothing that was finished is lost."""

from __future__ import annotations

import json
import subprocess
import sys

from results.store import Store, to_json

# In a process of its own, so that pytest's threads are not forked.
KILLER = """
import json, os, random, signal, sys, time
from benchmarking.protocol import Outcome
from benchmarking.runner import run_sweep
from results.schema import Environment, Case, Measurement, TimingPlan
from results.store import Store

cases, environment, folder = json.load(sys.stdin)
cases = [Case(**case) for case in cases]
environment = Environment.model_validate(environment)
measurement = Measurement(weights="random", input_source="noise")
store = Store(folder)
chance = random.Random(1)

class Launcher:
    def measure(self, case, plan, on_stage):
        time.sleep(0.001)
        return Outcome(status="ok", measurement=measurement, wall_s=0.0)
    def close(self): pass

class Watcher:
    def __getattr__(self, name):
        return lambda *arguments: None

def run():
    run_sweep(cases, TimingPlan(), environment, store, Launcher(), Watcher(), "")

kills = lost = problems = 0
before = set()
while kills < 40:
    pid = os.fork()
    if not pid:
        run()
        os._exit(0)
    time.sleep(chance.uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    kills += os.waitpid(pid, 0)[1] == signal.SIGKILL
    contents = store.read()
    now = {record.case_id for record in contents.records}
    lost += len(before - now)
    problems += len(contents.problems)
    before = now
    if len(now) == len(cases):
        break
run()
print(json.dumps([kills, lost, problems, len(store.read().records), len(store.sweep_ids())]))
"""


def test_a_sweep_killed_at_any_point_loses_no_record_and_is_finished_later(
    tmp_path, make_case, environment
):
    store = Store(tmp_path / "runs")
    cases = [make_case(batch_size=size).model_dump() for size in range(1, 101)]
    done = subprocess.run(
        [sys.executable, "-P", "-c", KILLER],
        input=json.dumps([cases, json.loads(to_json(environment)), str(store.path)]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    kills, lost, problems, records, sweeps = json.loads(done.stdout)

    assert kills > 5
    assert (lost, problems) == (0, 0)
    assert (records, sweeps) == (100, 1)
