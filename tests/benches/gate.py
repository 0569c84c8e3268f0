"""How often the gate cries wolf, and what it finds: `make bench-gate`.

Simulated suites in each kind of noise, and suites drawn again from true pairs of launches of the
tiny model on this machine. Every seed is fixed.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarking.choices.settings import parse_sweep
from benchmarking.gate.gate import Gate, GateOptions, SideSource
from benchmarking.machine.environment import probe_environment
from benchmarking.sweeping.case_runner import LocalCaseRunner
from benchmarking.sweeping.planning import new_sweep
from benchmarking.sweeping.runner import Attempt, make_record
from benchmarking.views.gate_progress import PlainGateWatcher
from benchmarking.views.printing import TextTable, markdown
from results.records.store import Store
from results.verdicts.decision import InterimLooks, Rule, look_through
from results.verdicts.gate_runs import log_ratios
from results.verdicts.gates import Side
from results.verdicts.selftest import SUITES, draw_suites, regressed_cells

from ..results.noises import NOISES, Noise
from ..results.noises import log_ratios as noisy_ratios

CELLS = 20
EFFECT, TRUE_EFFECT = 0.05, 0.10
NOISY_LOOKS = (10, 30, 90)  # what a person would ask for on a machine like ours
TRUE_SWEEP = {
    "model": "tiny", "batch_size": "1,2", "image_size": "256", "attention": "sdpa",
    "input": "noise", "passes": "latency", "warmup_s": "0.2", "warmup_cap_s": "1",
    "min_timed_s": "1", "max_timed_s": "2",
}  # fmt: skip

Array = NDArray[np.float64]


def simulate(noise: Noise, suites: int, rule: Rule, effect: float, seed: int) -> list[InterimLooks]:
    """Each suite as it was judged; its first cell is slower by the effect."""
    found = noisy_ratios(noise, suites, CELLS, rule.looks[-1], seed)
    found[:, 0] += math.log1p(effect)
    return [look_through(suite, rule) for suite in found]


def simulated_view(suites: int) -> TextTable:
    view = TextTable(
        f"{suites} simulated suites of {CELLS} cells",
        ["noise", "any false REGRESSED\n[%]", "pairs", f"+{EFFECT:.0%} found\n[%]", "seed"],
    )
    rule = Rule()
    for seed, (name, noise) in enumerate(NOISES.items()):
        equal = simulate(noise, suites, rule, 0.0, seed)
        slower = simulate(noise, suites, rule, EFFECT, seed + 1000)
        false = np.mean(["REGRESSED" in looks.verdicts for looks in equal])
        found = np.mean([looks.verdicts[0] == "REGRESSED" for looks in slower])
        pairs = np.mean([rule.looks[looks.taken - 1] for looks in equal])
        view.rows.append(
            [name, f"{false:.1%}"[:-1], f"{pairs:.1f}", f"{found:.1%}"[:-1],
             f"{seed}, {seed + 1000}"]
        )  # fmt: skip
    view.caption = "goal: at most 1 % and at least 90 %"
    return view


def true_ratios(pairs: int) -> tuple[Array, list[str]]:
    """Log ratios of the tiny model against itself, (cells, pairs), and the cells' names."""
    # Threads that wait for one another would add noise of their own on two shared cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    environment = probe_environment()
    asked, plan, _ = parse_sweep(TRUE_SWEEP)
    cases = asked.cases(environment)

    def launch(source: SideSource, path: Path) -> str:
        """As `sam-bench sweep` does, but without asking about the machine each time."""
        store, launcher = Store(path), LocalCaseRunner()
        sweep = new_sweep(cases, plan, environment, store, "make bench-gate")
        store.write_sweep(sweep)
        try:
            for case in cases:
                attempt = Attempt(launcher.measure(case, plan, lambda stage: None))
                store.write_record(make_record(sweep, case, attempt, sweep.created_at))
        finally:
            launcher.close()
        return sweep.sweep_id

    with tempfile.TemporaryDirectory() as folder:
        same = [SideSource(Side(label=name), (), Path(folder)) for name in ("base", "head")]
        options = GateOptions(Rule(looks=(pairs,)))
        watcher = PlainGateWatcher(Console(stderr=True))
        gate = Gate(same, options, Store(folder), watcher, "make bench-gate", launch)
        gate.run()
        return log_ratios(gate.cells, gate.launches), [cell.label for cell in gate.cells]


def true_view(pairs: int) -> TextTable:
    ratios, labels = true_ratios(pairs)
    ratios = ratios[:, np.isfinite(ratios).all(axis=0)]
    shares, alarms = {}, []
    for looks in (Rule().looks, NOISY_LOOKS):
        rule = Rule(looks=looks)
        drawn = draw_suites(ratios, looks[-1], SUITES, np.random.default_rng(0))
        shares[looks] = regressed_cells(drawn + math.log1p(TRUE_EFFECT), rule).mean(axis=0)
        alarms.append(f"{regressed_cells(drawn, rule).any(axis=1).mean():.1%}")
    view = TextTable(
        f"The tiny model on this machine: {SUITES} suites drawn from {ratios.shape[1]} pairs",
        [
            "cell", "a pair differs by\n[%]",
            *(f"+{TRUE_EFFECT:.0%} found\nwithin {looks[-1]} pairs [%]" for looks in shares),
        ],
    )  # fmt: skip
    for index, (label, own) in enumerate(zip(labels, ratios, strict=True)):
        figures = (np.median(np.abs(own)), *(share[index] for share in shares.values()))
        view.rows.append([label, *(f"{figure:.1%}"[:-1] for figure in figures)])
    view.caption = f"suites with any false REGRESSED: {', '.join(alarms)}; goal: at most 1 %"
    return view


@click.command()
@click.option("--suites", default=500, show_default=True, help="Simulated ones, of each noise.")
@click.option("--pairs", default=200, show_default=True, help="True ones, 15 s each; 0: none.")
def main(suites: int, pairs: int) -> None:
    """Print the gate's false alarms and finds beside their goals."""
    console = Console(width=200)

    def show(view: TextTable) -> None:
        console.print(markdown(view), markup=False, highlight=False, soft_wrap=True)
        console.print()

    show(simulated_view(suites))  # at once, since true launches take minutes
    if pairs:
        show(true_view(pairs))


if __name__ == "__main__":
    main()
