"""The command that finds which batch size is best: capacity."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from results.records.errors import UserError

from ..options.sweep_options import SweepCommand, asked_sweep, config_option, quick_option
from ..options.terminal import EXIT_FAILED_CASES, out, store_option, typed

if TYPE_CHECKING:
    from rich.console import Console

    from results.records.case import Case, TimingPlan
    from results.records.schema import Record

    from ..sweeping.runner import SweepContext

MOST = 1024


@click.command(cls=SweepCommand)
@config_option
@quick_option
@store_option
@click.option(
    "--most", type=click.IntRange(1, 1_000_000), default=MOST, show_default=True,
    help="The largest batch size that is tried.",
)  # fmt: skip
@click.option(
    "--latency-budget-ms", type=click.FloatRange(0, min_open=True),
    help="Also tell the best batch whose forwards take at most so long, in milliseconds.",
)  # fmt: skip
def capacity(
    config: Path | None,
    quick: bool,
    store_path: Path,
    most: int,
    latency_budget_ms: float | None,
    **flags: str | None,
) -> None:
    """Find the largest batch that fits, and from where on a larger one brings nothing.

    Batch sizes are doubled until one does not fit, then the gap is halved, each probe in a process
    of its own; the largest is then measured in full. What earlier probes of the store found is
    tried first. All other axes are those of a sweep.

    \b
    Example:
      sam-bench capacity -m tiny -s 128 --most 4 --quick
    """
    from results.records.store import Store

    from ..choices.inputs import check_images
    from ..machine.environment import probe_environment
    from ..sweeping.case_runner import LocalCaseRunner
    from ..sweeping.runner import SweepContext
    from ..views.progress import PlainWatcher

    if flags["batch_size"] is not None:
        raise UserError(
            "capacity finds the batch sizes itself: leave --batch-size out, or set --most."
        )
    if latency_budget_ms is not None and not latency_budget_ms < float("inf"):
        raise UserError(f"--latency-budget-ms must be a number, got {latency_budget_ms}.")
    asked, plan = asked_sweep(config, quick, flags)
    if asked.gpu != (None,):
        raise UserError("capacity probes the GPUs of this machine: name one with --device.")
    check_images(plan.images, asked.input)
    environment, store, console = probe_environment(), Store(store_path), out()
    cases = asked.model_copy(update={"batch_size": (1,)}).cases(environment)
    budget_s = None if latency_budget_ms is None else latency_budget_ms * 1e-3
    is_complete = True
    for case in cases:
        watcher = PlainWatcher(console)
        setting = SweepContext(environment, store, LocalCaseRunner(), watcher, typed())
        records, failures = search(case, plan, setting, most)
        for line in failures:
            click.echo(line, err=True)
        is_complete = is_complete and not failures
        tell(case, records, budget_s, console)
    if not is_complete:
        sys.exit(EXIT_FAILED_CASES)


def search(
    case: Case, plan: TimingPlan, setting: SweepContext, most: int
) -> tuple[list[Record], list[str]]:
    """The records of a case's probes, and a line for each failure."""
    from results.records.schema import FAILED

    from ..sweeping.capacity import ProbeFailedError, find_capacity
    from ..views.printing import failure_lines

    failures = []
    try:
        sweep_ids = find_capacity(case, plan, setting, most)
    except ProbeFailedError as error:
        failures.append(f"{case.label}: the search ended at {error}")
        sweep_ids = [error.sweep_id]
    records = [record for each in sweep_ids for record in setting.store.read(each).records]
    failures += failure_lines([each for each in records if each.status in FAILED])
    return records, failures


def tell(case: Case, records: list[Record], budget_s: float | None, console: Console) -> None:
    from results.answers.capacity import capacity_frame

    from ..views.limit_views import capacity_views
    from ..views.printing import print_table

    views = capacity_views(capacity_frame(records, budget_s))
    for view in views:
        print_table(view, console)
    if not views:
        console.print(f"{case.label}: not even one image fits.", highlight=False)
