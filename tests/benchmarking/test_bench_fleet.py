"""make bench-fleet: the real driver over made-up GPUs whose time jumps, and a large store."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarking.fleet import driver
from benchmarking.fleet.jobs import Slot
from benchmarking.sweeping.runner import SweepContext, SweepOptions
from results.records.case import TimingPlan
from results.records.store import Store
from tests.benches import fleet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def simulated(tmp_path, make_record):
    """A sweep of 300 cases over two GPUs of each kind."""
    plan, template = TimingPlan(), make_record()
    slots = [Slot(kind, f"{kind} {number}") for kind in fleet.KINDS for number in range(2)]
    gpus = fleet.SimulatedFleet(slots, plan, template)
    setting = SweepContext(template.environment, Store(tmp_path), None, fleet.Silent(), "bench")
    driver.run_on_fleet(fleet.make_cases(300), plan, setting, gpus, SweepOptions())
    return gpus


def test_no_gpu_does_two_jobs_at_once(simulated):
    spans = defaultdict(list)
    for slot, begin, end in simulated.busy:
        spans[slot].append((begin, end))

    assert len(spans) == 8
    for own in spans.values():
        assert all(end <= begin for (_, end), (begin, _) in pairwise(own))


def test_the_clock_ends_with_the_last_job(simulated):
    assert simulated.now_s == max(end for _, _, end in simulated.busy)


@pytest.mark.parametrize("kind", fleet.KINDS)
def test_gpus_are_busy_for_what_the_spans_say(simulated, kind):
    busy, in_cases, hours, best = fleet.utilisation(simulated, kind)
    spans = [(begin, end) for slot, begin, end in simulated.busy if slot.gpu == kind]
    work_s = sum(end - begin for begin, end in spans)

    assert 0 < busy <= 1 + 1e-9
    assert 0 < in_cases < 1
    assert hours == pytest.approx(max(end for _, end in spans) / 3600)
    assert best == pytest.approx(work_s / 2 / 3600)


def test_idle_gpus_are_told_as_idle(make_record):
    """Of two GPUs one works: half of what there is."""
    slots = [Slot("L4", f"L4 {number}") for number in range(2)]
    gpus = fleet.SimulatedFleet(slots, TimingPlan(), make_record())
    gpus.busy = [(slots[0], 0.0, 100.0), (slots[0], 100.0, 200.0)]

    assert fleet.utilisation(gpus, "L4")[0] == pytest.approx(0.5)


def test_so_many_cases_of_all_kinds_are_made_once(make_record):
    cases = fleet.make_cases(500)

    assert len(set(cases)) == 500
    assert {case.gpu for case in cases} == {*fleet.KINDS, "any"}
    assert np.unique([case.batch_size for case in cases]).tolist() == [1, 2, 4, 8, 16, 32, 64]


def test_the_command_tells_of_gpus_driver_writer_and_readers():
    small = ["--cases", "60", "--gpus", "4", "--records", "40"]
    command = [sys.executable, "-m", "tests.benches.fleet", *small]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)

    assert said.returncode == 0, said.stderr
    for told in ("1 x H200", r"60 cases \(", "of one core", "One writer: ", "index, again"):
        assert re.search(told, said.stdout)
