"""Commands that measure: sweep, plan, quickstart."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options.fleet_options import FleetChoice, fleet_options
from ..options.sweep_options import SweepCommand, asked_sweep, config_option, quick_option
from ..options.terminal import EXIT_FAILED_CASES, out, store_option, typed

SHOWN_AFTER_A_SWEEP = ("cases", "components", "modules", "checks")
MOST_SHOWN = 500  # cases, or lines on cases, after a sweep

if TYPE_CHECKING:
    from rich.console import Console

    from results.records.case import Case, TimingPlan
    from results.records.environment import Environment
    from results.records.store import Store

    from ..choices.sweep import Sweep
    from ..sweeping.estimate import Rates
    from ..sweeping.runner import SweepOptions


@click.command(cls=SweepCommand)
@config_option
@quick_option
@store_option
@click.option("--fresh", is_flag=True, help="Measure again what an equal sweep has measured.")
@click.option(
    "--take-over",
    is_flag=True,
    help="Replace the lock that a dead driver of this sweep left in an object store.",
)
@click.option("--no-prune", is_flag=True, help="Try larger batches after one that did not fit.")
@click.option(
    "--trace",
    is_flag=True,
    help="Store a Chrome trace of each case, and its kernels: see sam-bench show kernels.",
)
@fleet_options
def sweep(
    config: Path | None,
    quick: bool,
    store_path: Path,
    fresh: bool,
    take_over: bool,
    no_prune: bool,
    trace: bool,
    **flags: Any,
) -> None:
    """Measure every combination of the axes; a stopped sweep goes on where it was.

    VALUES are separated by commas; batch sizes may be a range of powers of two, 1..64.

    \b
    Example:
      sam-bench sweep -m vit_b -b 1,2,4 -s 256 --attention reference,sdpa --quick
    """
    from results.records.store import Store

    from ..sweeping.runner import SweepOptions

    places = FleetChoice.taken_from(flags)
    asked, plan = asked_sweep(config, quick, flags)
    if trace and "kernels" not in plan.passes:
        plan = plan.model_copy(update={"passes": (*plan.passes, "kernels")})
    options = SweepOptions(is_fresh=fresh, prunes=not no_prune, probes_drift=not quick)
    run(asked, plan, Store(store_path, take_over), options, places)


def run(
    asked: Sweep,
    plan: TimingPlan,
    store: Store,
    options: SweepOptions,
    places: FleetChoice,
    environment: Environment | None = None,
) -> None:
    """Run a sweep, show its tables and what to do next; exit 5 where a case failed."""
    from ..choices.inputs import check_images
    from ..fleet.driver import run_on_fleet
    from ..machine.environment import probe_environment
    from ..sweeping.case_runner import LocalCaseRunner
    from ..sweeping.planning import why_not_resumed
    from ..sweeping.runner import SweepContext, run_sweep
    from ..views.progress import make_watcher

    check_images(plan.images, asked.input)
    environment = environment or probe_environment()
    cases = places.cases(asked, plan, environment)
    if not cases:
        click.echo(f"Shard {places.shard} of this sweep has no cases: there are fewer than shards.")
        return
    console = out()
    fleet = places.find_fleet(cases, environment, store)
    case_runner = LocalCaseRunner() if fleet is None else None
    setting = SweepContext(environment, store, case_runner, make_watcher(console), typed())
    note = None if options.is_fresh else why_not_resumed(store, setting.new_sweep(cases, plan))
    if note is not None:
        click.echo(f"note: {note}", err=True)
    try:
        if fleet is None:
            sweep_id = run_sweep(cases, plan, setting, options)
        else:
            sweep_id = run_on_fleet(cases, plan, setting, fleet, options)
    except KeyboardInterrupt as stop:
        again = "The same command goes on where this one stopped"
        raise KeyboardInterrupt(f"{again}{', without --fresh' * options.is_fresh}.") from stop
    tell(store, sweep_id, len(cases), console)


def tell(store: Store, sweep_id: str, planned: int, console: Console) -> None:
    """What came of a sweep; exit 5 where a case failed."""
    from results.hardware.specs import store_specs
    from results.records.schema import FAILED

    from ..views.printing import end_lines, failure_lines, note_lines, status_line
    from ..views.views import show_sentences, show_views

    if planned > MOST_SHOWN:  # nobody reads so long tables, and so many records fill the memory
        every = store.iterate(sweep_id, [])
        records = [record.model_copy(update={"measurement": None}) for record in every]
    else:
        records = store.read(sweep_id).records
        peaks = store_specs(store.path)
        show_views(records, peaks, SHOWN_AFTER_A_SWEEP, "table", console)
        show_sentences(records, peaks, ("limits", "batching"), console)
    failures = failure_lines(records)
    lines = [*failures[:MOST_SHOWN], *note_lines(records)]
    if len(failures) > MOST_SHOWN:
        lines.append(f"and {len(failures) - MOST_SHOWN} more without a number: sam-bench show")
    for line in (*lines, status_line(planned, records), *end_lines(store.read_end(sweep_id))):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if any(record.case.weights == "random" for record in records):
        console.print(
            "Weights: random, seeded. They cost what trained ones cost; masks mean nothing."
        )
    console.print(f"Records: {store.path / sweep_id}", highlight=False, soft_wrap=True)
    program = shlex.quote(sys.argv[0])  # as it was typed, so that the line can be typed too
    following = f"Next: {program} show modules, {program} sweep --help, {program} doctor"
    console.print(following, highlight=False, soft_wrap=True)
    if any(record.status in FAILED for record in records):
        sys.exit(EXIT_FAILED_CASES)


@click.command(cls=SweepCommand)
@config_option
@quick_option
@store_option
@fleet_options
def plan(config: Path | None, quick: bool, store_path: Path, **flags: Any) -> None:
    """Show the cases that a sweep would measure, where each can run, and about how long it takes.

    \b
    Example:
      sam-bench plan -m vit_b,vit_l -b 1..8 -p fp32,bf16
    """
    from results.records.store import Store

    from ..choices.inputs import check_images
    from ..errors import SweepError
    from ..fleet.scheduler import check_needs, make_jobs, makespan
    from ..machine.environment import probe_environment
    from ..sweeping.estimate import case_seconds, rate_key
    from ..views.printing import print_table
    from ..views.progress import duration
    from ..views.views import plan_view

    places = FleetChoice.taken_from(flags)
    asked, timing = asked_sweep(config, quick, flags)
    check_images(timing.images, asked.input)
    environment, store = probe_environment(), Store(store_path)
    cases = places.cases(asked, timing, environment)
    fleet = places.find_fleet(cases, environment, store)
    there = None if fleet is None else [slot.gpu for slot in fleet.slots()]
    rates = earlier_rates(store, environment)  # before anything is printed: it may be refused
    print_table(plan_view(cases, environment, there), out())
    if fleet is not None:
        try:
            check_needs(cases, there or [], fleet.where)
        except SweepError as error:
            click.echo(f"note: {error}", err=True)
    possible = possible_cases(cases, environment, there)
    if not possible:
        click.echo("0 cases to measure: nothing of this can run there.")
        return
    is_known = all(rate_key(case) in rates.flops_per_s for case in possible)
    basis = "from earlier records" if is_known else "partly a guess: not all was measured here"
    jobs = make_jobs(possible, lambda case: case_seconds(case, timing, rates))
    whole_s = sum(job.seconds for job in jobs)
    seconds = whole_s if fleet is None else makespan(jobs, there or [], fleet.lanes())
    click.echo(f"{len(possible)} cases to measure, about {duration(seconds)} ({basis}).")


def possible_cases(
    cases: list[Case], environment: Environment, there: list[str | None] | None
) -> list[Case]:
    """The cases that can run on this machine or, if given, on one of these GPUs."""
    from ..choices.sweep import foreseen_reason
    from ..fleet.scheduler import does, need_of

    return [
        case
        for case in cases
        if foreseen_reason(case, environment) is None
        and (there is None or any(does(gpu, need_of(case)) for gpu in there))
    ]


def earlier_rates(store: Store, environment: Environment) -> Rates:
    """Rates from the store's records of this machine, and of named GPUs on any machine."""
    from ..sweeping.estimate import measured_rates

    every = (record for sweep_id in store.sweep_ids() for record in store.iterate(sweep_id, []))
    return measured_rates(
        record
        for record in every
        if record.case.gpu is not None or record.environment.hostname == environment.hostname
    )


@click.command()
@store_option
@click.option("--fresh", is_flag=True, help="Measure again what is measured already.")
def quickstart(store_path: Path, fresh: bool) -> None:
    """Measure SAM's encoder on what this machine has: the first thing to type.

    A GPU runs vit_b and vit_l at 1024 pixels; a CPU runs vit_b at 256 pixels, in about a minute.

    \b
    Example:
      sam-bench quickstart
    """
    from results.records.store import Store

    from ..choices.settings import parse_sweep
    from ..machine.environment import probe_environment
    from ..sweeping.runner import SweepOptions

    environment = probe_environment()
    has_gpu = bool(environment.gpus)
    settings = (
        {"model": "vit_b,vit_l", "batch_size": "1,2,4,8", "attention": "reference,sdpa"}
        if has_gpu
        else {"batch_size": "1,2", "image_size": "256", "attention": "reference,sdpa"}
    )
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    click.echo(f"This is short for: sam-bench sweep {flags} --quick")
    if not has_gpu:
        click.echo("No GPU: a true vit_b, on smaller images (256 pixels instead of 1024).")
        for note in environment.notes:
            click.echo(f"note: {note}")
    asked, timing, _ = parse_sweep(settings, quick=True)
    options = SweepOptions(is_fresh=fresh, probes_drift=False)
    run(asked, timing, Store(store_path), options, FleetChoice(), environment)
