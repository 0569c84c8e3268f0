"""How often the gate cries wolf, and what it finds: `make bench-gate`.

Simulated suites in each kind of noise, and suites drawn again from true pairs of launches of the
tiny model on this machine. Every seed is fixed.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarking.environment import probe_environment
from benchmarking.gate import Gate, Options, Source
from benchmarking.gate_progress import PlainGateWatcher
from benchmarking.launchers import LocalLauncher
from benchmarking.planning import new_sweep
from benchmarking.report import View, markdown
from benchmarking.runner import Attempt, make_record
from benchmarking.settings import parse_sweep
from results.decision import Looks, Rule, is_settled
from results.gates import Side, log_ratios
from results.selftest import SUITES, draw_suites, regressed_cells
from results.store import Store

CELLS = 20
EFFECT, TRUE_EFFECT = 0.05, 0.10
TRUE_SWEEP = {
    "model": "tiny", "batch_size": "1,2", "image_size": "256", "attention": "sdpa",
    "input": "noise", "passes": "latency", "warmup_s": "0.2", "warmup_cap_s": "1",
    "min_timed_s": "0.2", "max_timed_s": "0.4", "min_forwards": "6",
}  # fmt: skip

Array = NDArray[np.float64]
# Log times of (suites, launches in time's order, cells).
Noise = Callable[[np.random.Generator, tuple[int, int, int]], Array]


def quiet(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Each launch its own by 0.3 %."""
    return random.normal(0, 0.003, shape)


def outliers(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """One launch of twenty is about 10 % slower."""
    is_late = random.random(shape) < 0.05
    return quiet(random, shape) + is_late * random.normal(0.1, 0.05, shape)


def drift(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """5 % slower from the first launch to the last."""
    return quiet(random, shape) + np.linspace(0, 0.05, shape[1])[None, :, None]


def two_clock_states(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """5 % slower at times, for all cells; the state changes at one launch of ten."""
    switches = random.random((shape[0], shape[1], 1)) < 0.1
    return quiet(random, shape) + 0.05 * (np.cumsum(switches, axis=1) % 2)


def process_offset(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """What a process is dealt at its start: 1 %, for each cell."""
    return random.normal(0, 0.01, shape)


def all_together(random: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    kinds = (outliers, drift, two_clock_states, process_offset)
    return sum((kind(random, shape) for kind in kinds), np.zeros(shape))


NOISES: dict[str, Noise] = {
    "quiet": quiet,
    "outliers": outliers,
    "drift": drift,
    "two clock states": two_clock_states,
    "per-process offset": process_offset,
    "all together": all_together,
}


def simulate(noise: Noise, suites: int, rule: Rule, effect: float, seed: int) -> Array:
    """Log ratios, (suites, cells, pairs); the first cell of each suite is slower by the effect."""
    random = np.random.default_rng(seed)
    pairs = rule.looks[-1]
    launches = noise(random, (suites, 2 * pairs, CELLS)).reshape(suites, pairs, 2, CELLS)
    is_head_first = random.random((suites, pairs, 1)) < 0.5
    first, second = launches[:, :, 0], launches[:, :, 1]
    found: Array = np.where(is_head_first, first - second, second - first).swapaxes(1, 2)
    found[:, 0] += math.log1p(effect)
    return found


def judge(ratios: Array, rule: Rule) -> tuple[NDArray[np.bool_], Array]:
    """Whether each cell of each suite is REGRESSED, and how many pairs each suite took."""
    regressed = np.zeros(ratios.shape[:2], dtype=bool)
    taken = np.zeros(len(ratios))
    for number, suite in enumerate(ratios):
        looks = Looks(len(suite), rule)
        for pairs in rule.looks:
            looks.look(suite[:, :pairs])
            taken[number] = pairs
            if is_settled(looks.verdicts):
                break
        regressed[number] = [verdict == "REGRESSED" for verdict in looks.verdicts]
    return regressed, taken


def simulated_view(suites: int) -> View:
    view = View(
        f"{suites} simulated suites of {CELLS} cells",
        ["noise", "any false REGRESSED\n[%]", "pairs", f"+{EFFECT:.0%} found\n[%]", "seed"],
    )
    rule = Rule()
    for seed, (name, noise) in enumerate(NOISES.items()):
        alarms, taken = judge(simulate(noise, suites, rule, 0.0, seed), rule)
        found, _ = judge(simulate(noise, suites, rule, EFFECT, seed + 1000), rule)
        false = alarms.any(axis=1).mean()
        view.rows.append(
            [name, f"{false:.1%}"[:-1], f"{taken.mean():.1f}", f"{found[:, 0].mean():.1%}"[:-1],
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

    def launch(source: Source, path: Path) -> str:
        """As `sam-bench sweep` does, but without asking about the machine each time."""
        store, launcher = Store(path), LocalLauncher()
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
        same = [Source(Side(label=name), (), Path(folder)) for name in ("base", "head")]
        options = Options(Rule(looks=(pairs,)))
        watcher = PlainGateWatcher(Console(stderr=True))
        gate = Gate(same, options, Store(folder), watcher, "make bench-gate", launch)
        gate.run()
        return log_ratios(gate.cells, gate.launches), [cell.label for cell in gate.cells]


def true_view(pairs: int) -> View:
    ratios, labels = true_ratios(pairs)
    ratios = ratios[:, np.isfinite(ratios).all(axis=0)]
    rule = Rule()
    drawn = draw_suites(ratios, rule.looks[-1], SUITES, np.random.default_rng(0))
    alarms = regressed_cells(drawn, rule).any(axis=1).mean()
    found = regressed_cells(drawn + math.log1p(TRUE_EFFECT), rule).mean(axis=0)
    view = View(
        f"The tiny model on this machine: {SUITES} suites drawn from {ratios.shape[1]} pairs",
        ["cell", "a pair differs by\n[%]", f"+{TRUE_EFFECT:.0%} found\n[%]"],
    )
    for label, own, share in zip(labels, ratios, found, strict=True):
        spread = float(np.median(np.abs(own)))
        view.rows.append([label, f"{spread:.1%}"[:-1], f"{share:.1%}"[:-1]])
    view.caption = f"suites with any false REGRESSED: {alarms:.1%}, goal: at most 1 %"
    return view


@click.command()
@click.option("--suites", default=500, show_default=True, help="Simulated ones, of each noise.")
@click.option("--pairs", default=200, show_default=True, help="True ones; 0 leaves them out.")
def main(suites: int, pairs: int) -> None:
    """Print the gate's false alarms and finds beside their goals."""
    console = Console(width=200)
    views = [simulated_view(suites)] + ([true_view(pairs)] if pairs else [])
    for view in views:
        console.print(markdown(view), markup=False, highlight=False, soft_wrap=True)
        console.print()


if __name__ == "__main__":
    main()
