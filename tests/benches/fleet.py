"""How a fleet is used, on paper, and how large a store may grow: `make bench-fleet`.

The scheduler, the driver and the store are the real ones; GPUs and their time are made up. A case
takes what is estimated for its kind, times a random factor that the scheduler does not know.
"""

from __future__ import annotations

import heapq
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarking.choices.precision import PRECISIONS
from benchmarking.demo import demo
from benchmarking.fleet import driver
from benchmarking.fleet.jobs import CaseBegan, CaseEnded, Event, JobEnded, Slot, Task
from benchmarking.fleet.scheduler import need_of
from benchmarking.measuring.passes.table import default_passes
from benchmarking.sweeping.estimate import WORKER_START_S, case_seconds
from benchmarking.sweeping.runner import SweepContext, SweepOptions
from results.records.case import ANY, Case, TimingPlan
from results.records.environment import Environment
from results.records.schema import Record, SweepFile
from results.records.store import Store
from tests.benches.dashboard import write_store

KINDS = ("L4", "L40S", "H100", "H200")
PROBE_S = 8.0  # of a job's machine, before its first case
SPREAD = 0.3  # of the logarithm of a case's true time over the estimated one
TAIL = 0.05  # of the work, at whose begin the utilisation is taken
WRITTEN = 1_000  # records, to see how fast a store takes them
READING = (
    "import sys, time, psutil; from results.records.store import Store; {imports}; began = "
    "time.perf_counter(); store = Store(sys.argv[1]); {work}; print(time.perf_counter() - began, "
    "psutil.Process().memory_info().rss)"
)
READERS = {
    "one after another, none kept": (
        "pass",
        "sum(1 for s in store.sweep_ids() for _ in store.iterate(s, []))",
    ),
    "index, first time": ("from results.tables.index import refresh", "refresh(store)"),
    "index, again": ("from results.tables.index import refresh", "refresh(store)"),
}  # fmt: skip


class SimulatedFleet:
    """GPUs whose time is made up: the next event comes at once, and the clock jumps to it.

    Args:
        slots: A GPU each.
        plan: Of the sweep.
        template: Of every record.
    """

    where = "in the simulation"

    def __init__(self, slots: list[Slot], plan: TimingPlan, template: Record) -> None:
        self._slots, self.plan, self.template = slots, plan, template
        self.random = np.random.default_rng(0)
        self.now_s = 0.0
        self.busy: list[tuple[Slot, float, float]] = []  # who, from, to
        self._free = list(slots)
        self._events: list[tuple[float, int, int, Event]] = []
        self._order = itertools.count()
        self._of_job: dict[int, Slot] = {}

    def lanes(self) -> int:
        return len(self._slots)

    def slots(self) -> list[Slot]:
        return self._slots

    def free(self) -> list[Slot]:
        return self._free

    def start(self, task: Task, slot: Slot) -> None:
        self._free.remove(slot)
        self._of_job[task.job_id] = slot
        at_s = self.now_s + WORKER_START_S + PROBE_S
        for case in task.sweep.cases:
            self._tell(at_s, task.job_id, CaseBegan(case))
            at_s += self.seconds_of(case, slot)
            self._tell(at_s, task.job_id, CaseEnded(self.record(task.sweep, case), is_stored=True))
        self._tell(at_s, task.job_id, JobEnded())
        self.busy.append((slot, self.now_s, at_s))

    def seconds_of(self, case: Case, slot: Slot) -> float:
        """True seconds: of a case that any GPU may do, on the one that does it."""
        on_it = case.model_copy(update={"gpu": slot.gpu})
        factor = float(self.random.lognormal(0, SPREAD))
        return case_seconds(on_it, self.plan) * factor

    def record(self, sweep: SweepFile, case: Case) -> Record:
        update = {"case": case, "case_id": case.case_id, "sweep_id": sweep.sweep_id}
        return self.template.model_copy(update=update)

    def _tell(self, at_s: float, job_id: int, event: Event) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), job_id, event))

    def events(self, timeout_s: float) -> list[tuple[int, Event]]:
        if not self._events:
            return []
        self.now_s, _, job_id, event = heapq.heappop(self._events)
        if isinstance(event, JobEnded):
            self._free.append(self._of_job.pop(job_id))
        return [(job_id, event)]

    def close(self) -> None:
        """Nothing runs."""


class Silent:
    """Sees nothing."""

    def begin(self, sweep: SweepFile, left: list[Case], lanes: int = 1) -> None: ...
    def case_begins(self, case: Case) -> None: ...
    def stage(self, name: str) -> None: ...
    def case_ends(self, record: Record) -> None: ...
    def end(self) -> None: ...


def make_cases(count: int) -> list[Case]:
    """Of all kinds alike, and a tenth for any GPU: what a sweep of everything holds."""
    axes = itertools.product(
        ("vit_h", "vit_l", "vit_b"),
        ("fp32", "tf32", "bf16", "fp16"),
        ("reference", "sdpa", "fold", "triton", "auto"),
        ("eager", "compile", "regional", "cudagraphs"),
        (1024, 768, 512, 256),
    )
    assert "tf32" in PRECISIONS
    places = itertools.cycle([*KINDS, *KINDS, ANY])
    families = (
        (gpu, *family) for family in axes for gpu in itertools.islice(places, len(KINDS) + 1)
    )
    cases = (
        Case(
            model=model, batch_size=2**power, image_size=size, precision=precision,
            attention=attention, execution=execution, device="cuda:0", gpu=gpu, input="images",
            weights="random",
        )
        for gpu, model, precision, attention, execution, size in families
        for power in range(7)
    )  # fmt: skip
    return list(itertools.islice(dict.fromkeys(cases), count))


def utilisation(fleet: SimulatedFleet, kind: str) -> tuple[float, float, float, float]:
    """Busy share of a kind's GPUs until the tail of its work, and how much of that is cases and
    no job's start; hours that it took, and hours at the best.
    """
    spans = [(begin, end) for slot, begin, end in fleet.busy if slot.gpu == kind]
    gpus = sum(slot.gpu == kind for slot in fleet.slots())
    work_s = sum(end - begin for begin, end in spans)
    ends = sorted({end for _, end in spans})
    tail_s = next(moment for moment in ends if done_s(spans, moment) >= (1 - TAIL) * work_s)
    in_cases = 1 - len(spans) * (WORKER_START_S + PROBE_S) / work_s
    busy = done_s(spans, tail_s) / (gpus * tail_s)
    return busy, in_cases, ends[-1] / 3600, work_s / gpus / 3600


def done_s(spans: list[tuple[float, float]], moment: float) -> float:
    return sum(max(0.0, min(end, moment) - begin) for begin, end in spans if begin < moment)


def simulate(cases: list[Case], gpus: int, environment: Environment, template: Record) -> None:
    """Run the sweep with the driver, and tell how well the GPUs were used."""
    plan = TimingPlan(passes=default_passes())
    each = gpus // len(KINDS)
    slots = [Slot(kind, f"{kind} {number}") for kind in KINDS for number in range(each)]
    fleet = SimulatedFleet(slots, plan, template)
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        setting = SweepContext(environment, Store(Path(folder)), None, Silent(), "make bench-fleet")
        before_s, before_bytes = sum(process.cpu_times()[:2]), process.memory_info().rss
        driver.run_on_fleet(cases, plan, setting, fleet, SweepOptions())
        cpu_s = sum(process.cpu_times()[:2]) - before_s
        grown = process.memory_info().rss - before_bytes
    headings = ("busy until the last 5 %", "of it in cases", "took [h]", "at best [h]")
    table = Table("GPUs", *headings)
    for kind in KINDS:
        share, in_cases, hours, best = utilisation(fleet, kind)
        told = (f"{share:.1%}", f"{in_cases:.1%}", f"{hours:.1f}", f"{best:.1f}")
        table.add_row(f"{each} x {kind}", *told)
    console = Console()
    console.print(table)
    needs = ", ".join(
        f"{sum(need_of(case) == need for case in cases)} {need}" for need in (*KINDS, ANY)
    )
    console.print(
        f"{len(cases)} cases ({needs}) in {fleet.now_s / 3600:.1f} simulated hours: "
        f"{len(cases) / fleet.now_s:.2f} records a second. The driver, the simulation in it: "
        f"{cpu_s:.1f} s of CPU, {cpu_s / fleet.now_s:.2%} of one core; {grown / 2**20:.0f} MiB "
        "more memory than before.",
        soft_wrap=True,
    )


def write_rate(template: Record, sweep: SweepFile) -> None:
    """How fast a store takes records, one writer, each synced to the disk."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store = Store(Path(folder))
        records = [
            template.model_copy(update={"case": case, "case_id": case.case_id})
            for case in make_cases(WRITTEN)
        ]
        began = time.perf_counter()
        for record in records:
            store.write_record(record)
        took_s = time.perf_counter() - began
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.json"))
    print(
        f"One writer: {len(records) / took_s:.0f} records a second, "
        f"{size / len(records) / 1024:.0f} KiB each, synced."
    )


def read(store: Path) -> Iterator[tuple[str, float, float]]:
    """How long each reader takes, and its memory, in a process of its own."""
    for name, (imports, work) in READERS.items():
        program = READING.format(imports=imports, work=work)
        done = subprocess.run(
            [sys.executable, "-c", program, str(store)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": "."},
        )  # fmt: skip
        seconds, rss = done.stdout.split()
        yield name, float(seconds), float(rss)


def read_large(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs"
        write_store(path, count)
        size = sum(each.stat().st_size for each in path.rglob("*.json"))
        table = Table("reading", "seconds", "records a second", "memory [MiB]")
        for name, seconds, rss in read(path):
            table.add_row(name, f"{seconds:.1f}", f"{count / seconds:.0f}", f"{rss / 2**20:.0f}")
    console = Console()
    console.print(f"A store of {count} records, {size / 2**30:.2f} GiB:")
    console.print(table)


def made_up() -> tuple[SweepFile, Record]:
    """A sweep and a record of the demonstration: as large as a true one."""
    sweep, gpu, _ = next(demo.plan_sweeps())
    records = demo.measure_all(sweep, gpu, {}, np.random.default_rng(0))
    return sweep, next(record for record in records if record.status == "ok")


@click.command()
@click.option("--cases", "case_count", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--gpus", type=click.IntRange(len(KINDS)), default=64, show_default=True)
@click.option("--records", type=click.IntRange(1), default=100_000, show_default=True)
def main(case_count: int, gpus: int, records: int) -> None:
    """Simulate a sweep over a fleet, and read a large store."""
    sweep, template = made_up()
    simulate(make_cases(case_count), gpus, sweep.environment, template)
    write_rate(template, sweep)
    read_large(records)


if __name__ == "__main__":
    main()
