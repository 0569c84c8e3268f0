"""The gate tried on a machine: selftest."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.records.errors import printable

from ..options.gate_options import Percent, checked_rule, rule_options
from ..options.gate_sides import measured, source, watcher
from ..options.sweep_options import SweepCommand, config_option, quick_option
from ..options.terminal import EXIT_INVALID, out, store_option, typed

if TYPE_CHECKING:
    from results.verdicts.decision import Rule
    from results.verdicts.selftest import SelfTest

    from ..gate.gate import Gate


@click.command(cls=SweepCommand)
@click.option(
    "--inject",
    type=Percent(),
    help="Slow one side by this percentage, to see if the gate detects it.",
)
@click.option(
    "--measure-pairs",
    type=click.IntRange(10, 1000),
    default=30,
    show_default=True,
    help="Number of pairs to measure.",
)
@rule_options
@config_option
@quick_option
@store_option
def selftest(
    inject: float | None,
    measure_pairs: int,
    smallest: float,
    margin: float,
    pairs: tuple[int, ...],
    order_seed: int,
    store_path: Path,
    **settings: Any,
) -> None:
    """Test the gate on this machine: how often does it raise a false alarm, and how small a change
    can it detect?

    Both sides measure the same code. The measured pairs are resampled into many suites; the result
    is stored and shown beside every later verdict of the gate. --inject slows one side of these
    suites by a percentage, as a change that slows everything would.

    \b
    Example:
      sam-bench selftest --inject 5% -m vit_b -b 1 -s 256 --quick
    """  # fmt: skip
    from results.records.store import Store, to_json, write_whole
    from results.verdicts.selftest import selftest_path

    from ..gate.gate import Gate, GateOptions
    from ..views.printing import print_table
    from ..views.selftest_views import selftest_view

    rule = checked_rule(margin, smallest, pairs)
    store = Store(store_path.absolute())
    # Judged once, at the end: what is asked for is the pairs themselves.
    options = GateOptions(rule.model_copy(update={"looks": (measure_pairs,)}), order_seed)
    with ExitStack() as worktrees:
        sides = [source(".", None, False, settings, worktrees) for _ in range(2)]
        gate = Gate(sides, options, store, watcher("table"), typed())
        measured(gate)
    test = judged(gate, rule, order_seed, inject)
    write_whole(selftest_path(store, test), to_json(test))
    print_table(selftest_view(test), out())


def judged(gate: Gate, rule: Rule, seed: int, inject: float | None) -> SelfTest:
    """How the rule judges suites drawn from the measured pairs; exit 4 without a valid pair."""
    import numpy as np

    from results.verdicts.gate_runs import log_ratios
    from results.verdicts.selftest import SelfTest, judge_gate

    from ..sweeping.planning import utc_now

    ratios, found = log_ratios(gate.cells, gate.launches), gate.gate
    if not np.isfinite(ratios).all(axis=0).any():
        reasons = "; ".join(f"{cell.label}: {cell.reason}" for cell in found.cells if cell.reason)
        click.echo(printable(f"No pair is valid for every case: {reasons}"), err=True)
        sys.exit(EXIT_INVALID)
    environment = found.environment
    assert environment is not None  # a pair was measured
    return SelfTest(
        device=environment.device_name(found.cells[0].head.device),
        torch=environment.torch,
        measured_at=utc_now(),
        **judge_gate(ratios, [cell.label for cell in gate.cells], rule, seed, inject),
    )
