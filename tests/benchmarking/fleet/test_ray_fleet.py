"""A sweep over a true Ray cluster on this machine, whose nodes say that they have GPUs.

The workers there are scripted, since no GPU is: all else is what runs on a true cluster.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from benchmarking.errors import SweepError
from benchmarking.fleet import ray_fleet
from benchmarking.fleet.driver import run_on_fleet
from benchmarking.fleet.jobs import JobEnded, Slot, Task
from benchmarking.fleet.ray_fleet import UNLABELLED, RayFleet, slots_of
from benchmarking.sweeping.planning import new_sweep
from benchmarking.sweeping.runner import SweepContext, SweepOptions
from results.records.environment import Gpu
from results.records.store import LockedError, Store

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # of packages that it brings
    # Its streams to processes that end with the cluster are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

KIND = "ray.io/accelerator-type"
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
HEAD = {**NODE, "num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
# What a case does by its batch size: 4 hangs until somebody says "go on".
WORKER = """
import ctypes, json, os, sys, time
ctypes.CDLL(None).prctl(1, 9)  # it dies with its parent, as the true one
def say(**said):
    print(json.dumps({"said": said}), flush=True)
nothing = {"weights": "random", "input_source": "noise"}
say(kind="stage", name="ready")
for line in sys.stdin:
    case = json.loads(line)["case"]
    size = case["batch_size"]
    if size == 4 and not os.path.exists(FOLDER + "/go on"):
        open(f"{FOLDER}/hangs {NODE} {os.getpid()}", "w").close()
        time.sleep(600)
    say(kind="outcome", status="ok", wall_s=0.01, measurement=nothing)
"""


def node_with(cluster, kind, gpus=1, **changes):
    labels = {KIND: kind} if kind is not None else {}
    return cluster.add_node(**NODE | changes, num_gpus=gpus, labels=labels)


@pytest.fixture(scope="module")
def cluster():
    """An L4 on a node that sets no CPU aside, and two H200 on one node."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Of its tokens one process that joins and leaves a cluster again and again loses track.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        started = Cluster(initialize_head=True, head_node_args=HEAD)
        node_with(started, "L4", num_cpus=0)
        node_with(started, "H200", gpus=2)
        yield started
        started.shutdown()


@pytest.fixture
def adapt(tmp_path):
    """Let a task find a made-up GPU of its kind, and a scripted worker."""
    folder = str(tmp_path)

    def on_the_node(task):  # not by name: a node can't import what pytest has loaded
        node = ray.get_runtime_context().get_node_id()
        script = f"FOLDER, NODE = {folder!r}, {node!r}\n{WORKER}"
        kind = task.sweep.cases[0].gpu
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpu = Gpu(
            index=0, name=f"NVIDIA {kind}", uuid=f"GPU-{kind}-{seen}", memory_bytes=2**36,
            compute_capability="9.0",
        )  # fmt: skip
        told = {"gpus": (gpu,), "hostname": f"a node with {kind}", "cuda_visible_devices": seen}
        environment = task.environment or task.sweep.environment.model_copy(update=told)
        return replace(task, environment=environment, worker=(sys.executable, "-c", script))

    return on_the_node


@pytest.fixture
def fleet(cluster, adapt):
    connected = RayFleet(cluster.address, adapt)
    yield connected
    connected.close()


@pytest.fixture
def cases(make_case):
    """Two families of each kind."""
    return [
        make_case(model=model, gpu=gpu, device="cuda:0", batch_size=size)
        for gpu in ("L4", "H200")
        for model in ("tiny", "vit_b")
        for size in (1, 2)
    ]


class Watcher:
    def __init__(self):
        self.ended = []
        self.began = []

    def begin(self, sweep, left, lanes=1):
        self.left, self.lanes = left, lanes

    def case_begins(self, case):
        self.began.append(case)

    def case_ends(self, record):
        self.ended.append(record)

    def stage(self, name):
        pass

    def end(self):
        pass


@pytest.fixture
def watcher():
    return Watcher()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def sweep(environment, store, watcher, make_plan):
    """Run a sweep of cases over a fleet; give the sweep's id."""

    def run(cases, fleet, store=store):
        setting = SweepContext(environment, store, None, watcher, "sam-bench sweep")
        return run_on_fleet(cases, make_plan(), setting, fleet, SweepOptions())

    return run


def test_every_case_runs_on_a_gpu_of_its_kind_and_is_told_as_it_ends(
    fleet, sweep, cases, store, watcher
):
    sweep_id = sweep(cases, fleet)
    records = store.read(sweep_id).records

    assert {record.case for record in records} == set(cases)
    assert {record.status for record in records} == {"ok"}
    assert all(record.gpu.name == f"NVIDIA {record.case.gpu}" for record in records)
    assert watcher.lanes == 3
    assert len(watcher.began) == len(watcher.ended) == len(cases)
    assert store.read_end(sweep_id).statuses == {"ok": len(cases)}


def test_a_kind_that_no_node_has_is_refused_with_those_that_are_there(fleet, sweep, make_case):
    case = make_case(gpu="L40S", device="cuda:0")

    with pytest.raises(
        SweepError, match=r"^--gpu L40S: there is none in the Ray cluster at \S+, "
    ) as told:
        sweep([case], fleet)
    assert "1 x L4" in str(told.value)
    assert "2 x H200" in str(told.value)


def test_a_node_that_dies_costs_the_case_it_ran_alone(
    cluster, fleet, sweep, make_case, store, tmp_path, wait_until
):
    """Its other cases run on another node."""
    cases = [make_case(gpu="B200", device="cuda:0", batch_size=size) for size in (1, 2, 4, 8)]
    nodes = {}
    for _ in range(2):
        before = {node["NodeID"] for node in ray.nodes()}
        added = node_with(cluster, "B200")
        wait_until(lambda: {node["NodeID"] for node in ray.nodes()} - before)  # noqa: B023
        (node_id,) = {node["NodeID"] for node in ray.nodes()} - before
        nodes[node_id] = added

    def kill_its_node():
        wait_until(lambda: list(tmp_path.glob("hangs*")))
        (hanging,) = tmp_path.glob("hangs*")
        (tmp_path / "go on").touch()
        cluster.remove_node(nodes[hanging.name.split()[1]])

    fault = threading.Thread(target=kill_its_node)
    fault.start()
    sweep_id = sweep(cases, fleet)
    fault.join()
    told = {record.case.batch_size: record for record in store.read(sweep_id).records}

    assert {size: record.status for size, record in told.items()} == {
        1: "ok", 2: "ok", 4: "crashed", 8: "ok",
    }  # fmt: skip
    assert "NodeDiedError" in told[4].message
    assert told[4].environment.hostname == "a node with B200"


DRIVER = """
import json, sys
from dataclasses import replace
from benchmarking.fleet import driver, ray_fleet
from benchmarking.fleet.jobs import Task
from benchmarking.sweeping.runner import SweepContext, SweepOptions
from benchmarking.views.progress import PlainWatcher
from results.records.case import Case
from results.records.environment import Environment, Gpu
from results.records.case import TimingPlan
from results.records.store import Store
from rich.console import Console

told = json.load(sys.stdin)
environment = Environment.model_validate_json(told["environment"])
cases = [Case.model_validate(case) for case in told["cases"]]
plan = TimingPlan.model_validate_json(told["plan"])
script = told["script"]

def adapt(task):
    import os, sys
    kind = task.sweep.cases[0].gpu
    gpu = Gpu(index=0, name=f"NVIDIA {kind}", uuid=f"GPU-{kind}", memory_bytes=2**36,
              compute_capability="9.0")
    here = task.sweep.environment.model_copy(update={"gpus": (gpu,)})
    return replace(task, environment=here, worker=(sys.executable, "-I", "-c", script))

store, watcher = Store(told["store"]), PlainWatcher(Console())
setting = SweepContext(environment, store, None, watcher, "sam-bench")
try:
    fleet = ray_fleet.RayFleet(told["address"], adapt)
    driver.run_on_fleet(cases, plan, setting, fleet, SweepOptions())
except KeyboardInterrupt:
    print("stopped")
    sys.exit(130)
"""


@pytest.fixture
def start_driver(cluster, environment, make_plan, store, tmp_path):
    """Start the sweep's driver as a process of its own."""
    started = []

    def start(cases):
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        )  # fmt: skip
        process.stdin.write(
            json.dumps(
                {
                    "environment": environment.model_dump_json(),
                    "cases": [case.model_dump() for case in cases],
                    "plan": make_plan().model_dump_json(),
                    "script": f"FOLDER, NODE = {str(tmp_path)!r}, 0\n{WORKER}",
                    "store": str(store.path),
                    "address": cluster.address,
                }
            )
        )
        process.stdin.close()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def hanging(make_case, tmp_path, wait_until):
    """Cases of which one hangs, and a function that waits for it and gives its worker's pid."""
    cases = [make_case(gpu="H200", device="cuda:0", batch_size=size) for size in (1, 2, 4, 8)]

    def wait():
        wait_until(lambda: list(tmp_path.glob("hangs*")))
        return int(next(iter(tmp_path.glob("hangs*"))).name.split()[-1])

    return cases, wait


def test_a_killed_driver_loses_nothing_and_the_same_sweep_goes_on(
    start_driver, hanging, store, tmp_path, fleet, sweep, wait_until, is_gone
):
    cases, wait = hanging
    process = start_driver(cases)
    pid = wait()
    process.kill()
    process.wait()
    wait_until(lambda: is_gone(pid))
    (before,) = store.read().sweeps
    kept = {record.case.batch_size for record in store.read().records if record.status == "ok"}
    (tmp_path / "go on").touch()
    sweep_id = sweep(cases, fleet)

    assert kept == {1, 2}
    assert sweep_id == before.sweep_id
    assert {record.status for record in store.read().records} == {"ok"}


def test_ctrl_c_cancels_the_tasks_and_stores_what_was_interrupted(
    start_driver, hanging, store, is_gone, wait_until
):
    cases, wait = hanging
    process = start_driver(cases)
    pid = wait()
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert process.stdout.read().endswith("stopped\n")
    wait_until(lambda: is_gone(pid))
    told = {record.case.batch_size: record.status for record in store.read().records}
    assert told == {1: "ok", 2: "ok", 4: "interrupted"}


def test_a_second_driver_of_the_same_sweep_is_refused(start_driver, hanging, fleet, sweep):
    cases, wait = hanging
    start_driver(cases)
    wait()

    with pytest.raises(LockedError, match=r"^Another process is running sweep "):
        sweep(cases, fleet)


def test_nodes_that_do_not_reach_the_store_tell_their_records_all_the_same(
    cluster, adapt, sweep, cases, store
):
    """As where each machine has a disk of its own: they look in a folder that is not there."""

    def on_a_disk_of_its_own(task):
        return replace(adapt(task), store="/nowhere/that/is")

    fleet = RayFleet(cluster.address, on_a_disk_of_its_own)
    sweep_id = sweep(cases, fleet)

    assert {record.case for record in store.read(sweep_id).records} == set(cases)
    assert not Path("/nowhere").exists()


def test_where_ray_loses_what_a_task_told_the_store_tells_it(
    fleet, sweep, cases, store, monkeypatch
):
    true = fleet.ray.wait

    def deaf(waited, **options):
        if isinstance(waited[0], ray.ObjectRefGenerator):
            time.sleep(0.1)
            return [], waited
        return true(waited, **options)

    monkeypatch.setattr(ray_fleet, "SILENT_S", 0.5)
    monkeypatch.setattr(fleet.ray, "wait", deaf)
    sweep_id = sweep(cases, fleet)

    assert {record.case for record in store.read(sweep_id).records} == set(cases)
    assert {record.status for record in store.read(sweep_id).records} == {"ok"}


def test_a_job_whose_kind_has_left_the_cluster_before_it_began_is_lost(
    fleet, cases, environment, store, make_plan, monkeypatch
):
    """Ray would wait for ever for another node of that kind."""
    monkeypatch.setattr(ray_fleet, "SILENT_S", 0.5)
    sweep = new_sweep(cases[:1], make_plan(), environment, store, "sam-bench sweep")
    fleet.start(
        Task(7, sweep, (), str(store.path), SweepOptions()), Slot("T4", "a node that has left")
    )
    deadline = time.monotonic() + 30
    told = []
    while not told and time.monotonic() < deadline:
        told = fleet.events(0.2)

    assert told == [(7, JobEnded(lost="no node with T4 is left"))]
    assert len(fleet.free()) == len(fleet.slots())


def test_a_job_for_a_cpu_whose_node_has_left_is_lost(fleet, cases, environment, store, make_plan):
    sweep = new_sweep(cases[:1], make_plan(), environment, store, "sam-bench sweep")
    fleet.start(Task(7, sweep, (), str(store.path), SweepOptions()), Slot(None, "a node"))

    assert fleet.events(0.2) == [(7, JobEnded(lost="a node has left the cluster"))]


def test_ray_leaves_sigterm_what_it_does(cluster):
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        fleet = RayFleet(cluster.address)

        assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
        fleet.close()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ray_leaves_python_its_own_print(fleet):
    from ray.experimental import tqdm_ray

    tqdm_ray.instance()  # as a warning of the cluster's makes it

    assert isinstance(print, types.BuiltinFunctionType)


def test_there_must_be_a_cluster():
    with pytest.raises(SweepError, match=r"^There is no Ray cluster at 127\.0\.0\.1:1 ") as told:
        RayFleet("127.0.0.1:1")
    assert "ray start --head" in str(told.value)


# Slots


def node(resources, labels=(), node_id="0123456789abcdef"):
    return {
        "NodeID": node_id, "NodeManagerHostname": "host", "Resources": dict(resources),
        "Labels": dict(labels),
    }  # fmt: skip


def test_a_node_has_a_slot_a_gpu():
    assert (
        slots_of(node({"GPU": 2.0, "CPU": 8.0}, {KIND: "L4"}))
        == [Slot("L4", "host (01234567)")] * 2
    )


def test_a_gpu_without_a_label_is_any_gpu():
    assert slots_of(node({"GPU": 1.0})) == [Slot(UNLABELLED, "host (01234567)")]


def test_a_node_without_a_gpu_has_a_slot_for_its_cpu():
    assert slots_of(node({"CPU": 4.0})) == [Slot(None, "host (01234567)")]


def test_a_node_without_anything_has_no_slot():
    assert slots_of(node({})) == []
