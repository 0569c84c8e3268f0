"""The GPUs of a Ray cluster: a task a job, in a process of its own, that tells as it goes.

Ray's names are plain strings here: not every kind is a constant in every version.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from results.records.environment import Environment
from results.records.errors import one_line

from ..choices.sweep import CPU
from ..errors import SweepError, import_extra, quoted
from .jobs import Event, JobEnded, JobPlaced, JobRefused, Slot, Stoppable, Task, run_to_end

KIND = "ray.io/accelerator-type"
NODE = "ray.io/node-id"
NODES_S = 2.0  # for which what is known of the cluster holds
SILENT_S = 10.0  # between two looks at whether a task has ended that says nothing
LISTEN_S = 0.2  # of a task, between two looks at whether it was cancelled
ANSWER_S = 5.0  # of the cluster, to the first word
CLOSE_S = 15.0  # for tasks to end that were cancelled

Adapt = Callable[[Task], Task]


class RayFleet:
    """GPUs of a Ray cluster.

    Args:
        address: "host:port", or "auto" for that of this machine; what RAY_ADDRESS says where None.
        adapt: Changes a task on its node, before it is run.

    Raises:
        SweepError: Where Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str | None = None, adapt: Adapt | None = None) -> None:
        self.ray, self.adapt = import_extra("ray", "ray", "Ray"), adapt
        self.address = address or os.environ.get("RAY_ADDRESS") or "auto"
        self.connect()
        self.where = f"in the Ray cluster at {self.ray.get_runtime_context().gcs_address}"
        self._streams: dict[Any, int] = {}  # job by what Ray gives its events as
        self._slots: dict[int, Slot] = {}  # of running jobs, by id
        self._arrived: set[int] = set()  # jobs that Ray has placed
        self._unsent: list[tuple[int, Event]] = []  # what became of jobs that could not be sent
        self._over: set[Any] = set()  # streams whose tasks had ended when they were looked at last
        self._looked_s = 0.0
        self._nodes: tuple[float, list[dict[str, Any]]] = (0.0, [])
        self._machines: dict[str, Environment] = {}  # by Ray's node and the GPU that a task saw
        self._remote = self.ray.remote(max_calls=1, max_retries=0)(stream)

    def connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Else it puts a print of its own in the place of Python's.
        os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")
        if "://" in self.address:
            raise SweepError(
                f"A Ray cluster must be named by its head's HOST:PORT, such as 10.0.0.1:6379, got "
                f"{quoted(self.address)}: Ray's client can't follow a sweep."
            )
        try:
            host, separator, port = self.address.rpartition(":")
            if separator and port.isdecimal():  # asked first, since Ray itself asks for minutes
                socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
            before = signal.getsignal(signal.SIGTERM)  # Ray ends the process in its own way
            try:
                self.ray.init(
                    address=self.address, log_to_driver=False, logging_level="ERROR",
                    ignore_reinit_error=True,
                )  # fmt: skip
            finally:
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, before)
        except (OSError, ValueError, RuntimeError, OverflowError) as error:
            raise SweepError(
                f"There is no Ray cluster at {self.address} ({one_line(error)}): start one with: "
                "ray start --head, or name it with --ray-address."
            ) from error

    def nodes(self) -> list[dict[str, Any]]:
        """Living nodes, as they were a moment ago."""
        asked_s, nodes = self._nodes
        if time.monotonic() - asked_s > NODES_S:
            nodes = [node for node in self.ray.nodes() if node["Alive"]]
            self._nodes = time.monotonic(), nodes
        return nodes

    def lanes(self) -> int:
        return len(self.slots())

    def slots(self) -> list[Slot]:
        """A slot a GPU; where there is none on a node, one for its CPU."""
        return [slot for node in self.nodes() for slot in slots_of(node)]

    def free(self) -> list[Slot]:
        """Ray gives a task any GPU of its kind: so many are free of each as are not taken."""
        return list((Counter(self.slots()) - Counter(self._slots.values())).elements())

    def start(self, task: Task, slot: Slot) -> None:
        # No CPU, which a node may have set none aside of: such a job would be waited for.
        options: dict[str, Any] = {"num_cpus": 0, "num_gpus": 1}
        if slot.gpu is None:  # a whole node, so that nothing else disturbs
            node = next((node for node in self.nodes() if place_of(node) == slot.place), None)
            if node is None:
                lost = JobEnded(lost=f"{slot.place} has left the cluster")
                self._unsent.append((task.job_id, lost))
                return
            options = {"num_cpus": node["Resources"].get("CPU", 1), "num_gpus": 0}
            options["label_selector"] = {NODE: node["NodeID"]}
        elif slot.gpu != UNLABELLED:
            options["label_selector"] = {KIND: slot.gpu}
        events = self._remote.options(**options).remote(task, self._machines, self.adapt)
        self._streams[events] = task.job_id
        self._slots[task.job_id] = slot

    def events(self, timeout_s: float) -> list[tuple[int, Event]]:
        unsent, self._unsent = self._unsent, []
        if unsent or not self._streams:
            time.sleep(0 if unsent else timeout_s)
            return unsent
        streams = list(self._streams)
        # One is waited for; then all that are ready by now are asked.
        for count, wait_s in ((1, timeout_s), (len(streams), 0)):
            ready, _ = self.ray.wait(streams, num_returns=count, timeout=wait_s, fetch_local=False)
            if not ready:
                break
        told = [self._next_of(events) for events in ready]
        if time.monotonic() - self._looked_s > SILENT_S:
            self._looked_s = time.monotonic()
            told += self._without_last_words() + self._without_a_node()
        return told

    def _without_a_node(self) -> list[tuple[int, Event]]:
        """Tasks whose kind of GPU has left the cluster before they got one: Ray waits on."""
        kinds = {slot.gpu for slot in self.slots()}
        stuck: list[tuple[int, Event]] = []
        for events, job_id in list(self._streams.items()):
            kind = self._slots[job_id].gpu
            if job_id not in self._arrived and kind not in kinds:
                self.ray.cancel(events)
                lost = JobEnded(lost=f"no node with {kind or CPU} is left")
                stuck.append((self._forget(events), lost))
        return stuck

    def _without_last_words(self) -> list[tuple[int, Event]]:
        """Tasks that have ended and say nothing more: Ray can lose the rest of a stream.

        What they have stored is found there.
        """
        if not self._streams:
            return []
        ends = {events.completed(): events for events in self._streams}
        over, _ = self.ray.wait(list(ends), num_returns=len(ends), timeout=0, fetch_local=False)
        before, self._over = self._over, {ends[end] for end in over}
        lost = JobEnded(lost="its task ended, and Ray has lost its last words")
        return [(self._forget(events), lost) for events in before & self._over]

    def _forget(self, events: Any) -> int:
        """A task that runs no more; its job's id."""
        job_id = self._streams.pop(events)
        self._slots.pop(job_id, None)
        self._arrived.discard(job_id)
        return job_id

    def _next_of(self, events: Any) -> tuple[int, Event]:
        """The next event of a task; its end, where there is none."""
        job_id = self._streams[events]
        try:
            machine, event = self.ray.get(next(events))
        except StopIteration:
            event = JobEnded(lost="its task ended before its cases did")
        except self.ray.exceptions.RayError as error:
            if isinstance(getattr(error, "cause", None), ImportError):
                raise SweepError(
                    f"A node of the Ray cluster lacks sam-bench or a package of it "
                    f"({one_line(error.cause)}): install the same on all nodes."
                ) from error
            event = JobEnded(lost=f"{type(error).__name__}: {one_line(error)}")
        else:
            if isinstance(event, JobPlaced):
                self._machines[machine] = event.environment
                self._arrived.add(job_id)
        self._over.discard(events)
        if isinstance(event, JobEnded):
            self._forget(events)
        return job_id, event

    def close(self) -> None:
        """Cancel what still runs: to a task that looks like Ctrl-C. The cluster stays."""
        streams = list(self._streams)
        for events in streams:
            with suppress(Exception):
                self.ray.cancel(events)
        with suppress(Exception):
            ends = [events.completed() for events in streams]
            self.ray.wait(ends, num_returns=len(ends), timeout=CLOSE_S)
        self.ray.shutdown()  # which ends those that did not listen


UNLABELLED = "GPU"  # of a node that does not say which kind it has


def slots_of(node: dict[str, Any]) -> list[Slot]:
    place, resources = place_of(node), node["Resources"]
    gpus = int(resources.get("GPU", 0))
    kind = node.get("Labels", {}).get(KIND) or UNLABELLED
    if gpus:
        return [Slot(kind, place)] * gpus
    return [Slot(None, place)] if resources.get("CPU", 0) >= 1 else []


def place_of(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"


def stream(
    task: Task, machines: dict[str, Environment], adapt: Adapt | None
) -> Iterator[tuple[str, Event]]:
    """Runs on a node: gives each event with the machine's name.

    To cancel it, Ray raises KeyboardInterrupt in this thread, which a lock that is waited for
    without end would not let through; the job runs in another.
    """
    import ray

    context = ray.get_runtime_context()
    machine = f"{context.get_node_id()} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
    task = replace(task, environment=machines.get(machine))
    task = adapt(task) if adapt is not None else task
    os.environ.pop("OMP_NUM_THREADS", None)  # Ray sets it to 1; elsewhere all cores are used
    case_runner = Stoppable(task.case_runner())
    told: queue.Queue[Event] = queue.Queue()
    thread = threading.Thread(target=run_to_end, args=(task, told.put, case_runner), daemon=True)
    thread.start()
    try:
        event: Event | None = None
        while not isinstance(event, JobEnded | JobRefused):
            try:
                event = told.get(timeout=LISTEN_S)
            except queue.Empty:
                continue
            yield machine, event
    except BaseException:
        case_runner.stop()
        thread.join(CLOSE_S)  # it stores what was stopped
        raise
