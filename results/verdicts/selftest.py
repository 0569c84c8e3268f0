"""How well the gate does on one machine, told from pairs of launches in which nothing differed.

Pairs of the same code on both sides are drawn with replacement, whole pairs at a time, so that
cells that move together still do; each is mirrored by chance, since neither side is the slower one.
What the gate then reports is a false alarm; with an effect added, it is a find.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ..records.quantities import SCHEMA_VERSION, Count, Strict
from ..records.reading import read_into
from ..records.store import Store
from .decision import Array, Rule, estimate, look_through

FOLDER = "selftest"  # beside those of the sweeps
SUITES = 500  # drawn
ALARMS = 0.01  # of suites, that may raise a false one
POWER = 0.9  # with which an effect is called visible
MARGINS = (0.01, 0.015, 0.02, 0.03, 0.05, 0.08)
EFFECTS = tuple(number / 200 for number in range(1, 61))  # 0.5 % to 30 %


class SelfTest(Strict):
    """What was found on a machine.

    pairs: Of equal launches, that it was told from.
    false_alarms: Share of suites with any false REGRESSED, at the margin that was asked for.
    margin: The least at which no more than 1 % of the suites raise one; None where none does.
    sees: The least change of each cell that is found 9 times in 10; None beyond 30 %.
    injected: Share that was added to one side; `found` is the share of suites that find it.
    """

    schema_version: int = SCHEMA_VERSION
    device: str
    torch: str
    measured_at: str
    pairs: Count
    suites: Count
    seed: Count
    rule: Rule
    false_alarms: float = Field(ge=0, le=1)
    margin: float | None
    sees: dict[str, float | None]
    injected: float | None = None
    found: dict[str, float] = Field(default_factory=dict)


def draw_suites(log_ratios: Array, pairs: int, suites: int, random: np.random.Generator) -> Array:
    """(C, R) to (suites, C, pairs): whole pairs, drawn again, each mirrored by chance."""
    chosen = random.integers(log_ratios.shape[1], size=(suites, pairs))
    signs = random.choice((-1.0, 1.0), size=(suites, pairs))
    drawn: Array = log_ratios[:, chosen] * signs
    return drawn.swapaxes(0, 1)


def regressed_cells(drawn: Array, rule: Rule) -> np.ndarray:
    """(suites, C, R) to (suites, C): whether the gate calls each REGRESSED, look after look."""
    told = [look_through(suite, rule).verdicts for suite in drawn]
    found = [[verdict == "REGRESSED" for verdict in verdicts] for verdicts in told]
    return np.array(found, dtype=bool).reshape(drawn.shape[:2])


def false_alarm_rate(drawn: Array, rule: Rule) -> float:
    return float(regressed_cells(drawn, rule).any(axis=1).mean())


def calibrated_margin(drawn: Array, rule: Rule) -> float | None:
    """The least margin at which false alarms are rare enough."""
    for margin in MARGINS:
        asked = rule.model_copy(
            update={"margin": margin, "smallest": max(rule.smallest, margin + 0.01)}
        )
        if false_alarm_rate(drawn, asked) <= ALARMS:
            return margin
    return None


def smallest_effects(drawn: Array, rule: Rule) -> list[float | None]:
    """Of each cell, the least effect that the last look reports often enough.

    At the threshold of the first of Holm's steps, as if no other cell had changed.
    """
    alpha = rule.alpha_at(-1) / drawn.shape[1]
    return [
        next((each for each in EFFECTS if power(values, each, rule, alpha)), None)
        for values in drawn[..., : rule.looks[-1]].swapaxes(0, 1)
    ]


def power(values: Array, effect: float, rule: Rule, alpha: float) -> bool:
    found = estimate(values + math.log1p(effect), rule.margin)
    is_reported = (found.p_slower <= alpha) & (found.change >= math.log1p(rule.smallest))
    return bool(np.mean(is_reported) >= POWER)


def judge_gate(
    log_ratios: Array, labels: list[str], rule: Rule, seed: int, effect: float | None = None
) -> dict[str, Any]:
    """The fields of SelfTest that follow from the pairs; ValueError where none is whole.

    Args:
        log_ratios: (C, R), of equal sides; a pair that is invalid for a cell is left out for all.
        labels: Of the cells.
        rule: When a change counts.
        seed: Of the drawing.
        effect: A share that is added to the head, to see whether it is found.
    """
    whole = log_ratios[:, np.isfinite(log_ratios).all(axis=0)]
    if not whole.shape[1]:
        raise ValueError("A self-test needs a pair that is valid for all cells, and there is none.")
    random = np.random.default_rng(seed)
    drawn = draw_suites(whole, rule.looks[-1], SUITES, random)
    told: dict[str, Any] = {
        "pairs": whole.shape[1],
        "suites": SUITES,
        "seed": seed,
        "rule": rule,
        "false_alarms": false_alarm_rate(drawn, rule),
        "margin": calibrated_margin(drawn, rule),
        "sees": dict(zip(labels, smallest_effects(drawn, rule), strict=True)),
    }
    if effect is not None:
        shares = regressed_cells(drawn + math.log1p(effect), rule).mean(axis=0)
        told |= {"injected": effect, "found": dict(zip(labels, map(float, shares), strict=True))}
    return told


def selftest_path(store: Store, test: SelfTest) -> Path:
    """One a device: a newer test replaces the one before."""
    name = hashlib.sha256(test.device.encode()).hexdigest()[:16]
    return store.path / FOLDER / f"{name}.json"


def read_sees(store: Store) -> dict[tuple[str, str], float | None]:
    """The least change that each device can see of each cell; files that can't be used are none."""
    tests: list[SelfTest] = []
    for path in sorted((store.path / FOLDER).glob("*.json")):
        read_into(tests, path, SelfTest, [])
    return {(test.device, label): least for test in tests for label, least in test.sees.items()}
