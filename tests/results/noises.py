"""Noise as machines have it: log times of launches, (suites, launches in time's order, cells)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Noise = Callable[[np.random.Generator, tuple[int, int, int]], np.ndarray]


def quiet(random, shape):
    """Each launch its own by 0.3 %."""
    return random.normal(0, 0.003, shape)


def outliers(random, shape):
    """One launch of twenty is about 10 % slower."""
    return quiet(random, shape) + (random.random(shape) < 0.05) * random.normal(0.1, 0.05, shape)


def drift(random, shape):
    """5 % slower from the first launch to the last."""
    return quiet(random, shape) + np.linspace(0, 0.05, shape[1])[None, :, None]


def clock_states(random, shape):
    """All cells are 5 % slower at times; the state changes at one launch of ten."""
    switches = random.random((shape[0], shape[1], 1)) < 0.1
    return quiet(random, shape) + 0.05 * (np.cumsum(switches, axis=1) % 2)


def process_offset(random, shape):
    """What a process is dealt at its start: 1 %, for each cell."""
    return random.normal(0, 0.01, shape)


def all_together(random, shape):
    kinds = (outliers, drift, clock_states, process_offset)
    return sum(kind(random, shape) for kind in kinds)


NOISES: dict[str, Noise] = {
    "quiet": quiet,
    "outliers": outliers,
    "drift": drift,
    "two clock states": clock_states,
    "per-process offset": process_offset,
    "all together": all_together,
}


def log_ratios(noise, suites, cells, pairs, seed):
    """Of equal sides in adjacent launches whose order is chance: (suites, cells, pairs)."""
    random = np.random.default_rng(seed)
    launches = noise(random, (suites, 2 * pairs, cells)).reshape(suites, pairs, 2, cells)
    signs = random.choice((-1.0, 1.0), (suites, pairs, 1))
    return (signs * (launches[:, :, 0] - launches[:, :, 1])).swapaxes(1, 2)
