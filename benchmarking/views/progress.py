"""What a person sees while a sweep runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from results.records.case import Case, TimingPlan
from results.records.errors import printable
from results.records.schema import Record, SweepFile
from results.tables.metrics import METRICS

from ..sweeping.estimate import Rates, case_seconds, measured_rates

if TYPE_CHECKING:
    from ..sweeping.runner import Watcher


ESTIMATING_SHARE = 0.01  # of the time, for adding up what is left


def duration(seconds: float) -> str:
    """Seconds for a person: 42 s, 3 min, 1 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Estimator:
    """Tells the seconds that are left, and learns from the cases that end.

    Args:
        lanes: How many cases run at once.
    """

    def __init__(self, plan: TimingPlan, lanes: int = 1) -> None:
        self.plan, self.lanes = plan, max(1, lanes)
        self.rates = Rates()
        self._case_s, self._again_s = 0.0, 0.0

    def learn(self, record: Record) -> None:
        self.rates |= measured_rates([record])

    def seconds(self, cases: Collection[Case]) -> float:
        """Of many cases seldom added up: in between, the mean of the last time holds."""
        now_s = time.monotonic()
        if now_s >= self._again_s:
            total_s = sum(case_seconds(case, self.plan, self.rates) for case in cases)
            self._case_s = total_s / max(1, len(cases))
            self._again_s = now_s + (time.monotonic() - now_s) / ESTIMATING_SHARE
        return self._case_s * len(cases) / self.lanes


class PlainWatcher:
    """A line a case, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.left: dict[Case, None] = {}

    def begin(self, sweep: SweepFile, left: list[Case], lanes: int = 1) -> None:
        self.estimator, self.planned = Estimator(sweep.plan, lanes), len(left)
        self.left = dict.fromkeys(left)
        self._say(begin_line(sweep, left))

    def case_begins(self, case: Case) -> None:
        """Its line comes when it ends."""
        if case not in self.left:  # planned just now
            self.left[case] = None
            self.planned += 1

    def stage(self, name: str) -> None:
        """Stages would be too many lines."""

    def case_ends(self, record: Record) -> None:
        del self.left[record.case]
        self.estimator.learn(record)
        done = self.planned - len(self.left)
        rest = f", about {duration(self.estimator.seconds(self.left))} left" if self.left else ""
        self._say(f"[{done}/{self.planned}] {case_line(record)}{rest}")

    def end(self) -> None:
        """The tables follow."""

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class BarWatcher(PlainWatcher):
    """A progress bar with the time that is left, and a line above it for each case that ended."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}"),
            console=console,
            transient=True,
        )

    def begin(self, sweep: SweepFile, left: list[Case], lanes: int = 1) -> None:
        self.lanes, self.running = lanes, 0
        super().begin(sweep, left, lanes)
        self.task = self.progress.add_task("starting", total=len(left), rest="")
        self.progress.start()

    def case_begins(self, case: Case) -> None:
        super().case_begins(case)
        rest = f"about {duration(self.estimator.seconds(self.left))} left"
        self.running += 1
        self.label = f"{case.model} batch {case.batch_size} {case.precision} {case.attention}"
        if self.lanes > 1:
            self.label = f"{self.running} cases at once, the last {self.label} on {case.place}"
        self.progress.update(self.task, description=escape(self.label), rest=rest)

    def stage(self, name: str) -> None:
        self.progress.update(self.task, description=escape(f"{self.label}: {name}"))

    def case_ends(self, record: Record) -> None:
        super().case_ends(record)
        self.running = max(0, self.running - 1)
        self.progress.advance(self.task)

    def end(self) -> None:
        self.progress.stop()


def make_watcher(console: Console) -> Watcher:
    return BarWatcher(console) if console.is_terminal else PlainWatcher(console)


def begin_line(sweep: SweepFile, left: list[Case]) -> str:
    total = len(sweep.cases)
    if not total:
        return f"Sweep {sweep.sweep_id}: probes, planned one after another."
    if not left:
        return f"All {total} cases of sweep {sweep.sweep_id} are measured (--fresh measures again)."
    if len(left) < total:
        return f"Sweep {sweep.sweep_id} goes on: {total - len(left)} of {total} cases are done."
    return f"Sweep {sweep.sweep_id}: {total} cases."


def case_line(record: Record) -> str:
    """What became of a case, in one line."""
    measurement = record.measurement
    if record.status != "ok" or measurement is None or measurement.latency is None:
        return printable(f"{record.case.label}: {record.status} {record.message or ''}".rstrip())
    from results.tables.frames import case_row

    row = case_row(record, None)
    shown = {name: METRICS[name].show(row[name]) for name in ("image_s", "images_per_s")}
    return f"{record.case.label}: {shown['image_s']} ms/image, {shown['images_per_s']} images/s"


@contextmanager
def byte_progress(
    name: str, total_bytes: int, console: Console
) -> Iterator[Callable[[int, int], None]]:
    """A bar for a download; gives the function to call with the bytes so far and in all."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(name), total=total_bytes)
        yield lambda done_bytes, total: progress.update(task, completed=done_bytes, total=total)


@contextmanager
def count_progress(total: int, console: Console) -> Iterator[Callable[[str], None]]:
    """A bar for so many things; gives the function to call with a line as each is done."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)

        def advance(line: str) -> None:
            progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
            progress.advance(task)

        yield advance
