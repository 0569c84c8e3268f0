"""How long cases will take, roughly: for the plan and for a progress bar's remaining time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from results.hardware.specs import find_spec
from results.records.case import WAY_AXES, Case
from results.records.plan import TimingPlan
from results.records.schema import Record
from sam.sam1.configs import MLP_RATIO, MODELS, PATCH_SIZE, WINDOW_SIDE

from ..measuring.passes.table import PASSES

# Guesses of FLOP/s for a device that no record tells of, low on purpose.
GUESSED_FLOPS_PER_S = {"cpu": 5e10, "cuda": 2e13}
GUESSED_SHARE = 0.3  # of a GPU's peak, where its kind is known
WORKER_START_S = 6.0  # loading torch and building a model
CASE_OVERHEAD_S = 2.0  # inputs, counting FLOPs, the output's digest


def encoder_flops(case: Case) -> float:
    """About what one image costs in the encoder: linear layers and attention products."""
    config = MODELS.get(case.model, MODELS["vit_b"])  # of other encoders nothing is known
    tokens = (case.image_size // PATCH_SIZE) ** 2
    linear = 2 * (4 + 2 * MLP_RATIO) * config.embed_dim**2 * tokens * config.depth
    keys = len(config.global_blocks) * tokens + (config.depth - len(config.global_blocks)) * min(
        tokens, WINDOW_SIDE**2
    )
    return linear + 4 * tokens * keys * config.embed_dim


def measured_rates(records: Iterable[Record]) -> dict[tuple[Hashable, ...], float]:
    """FLOP/s that cases reached, by what a rate depends on most; later records win."""
    rates = {}
    for record in records:
        latency = record.measurement.latency if record.measurement else None
        if latency is not None:
            forward_s = sorted(latency.forward_s)[len(latency.forward_s) // 2]
            flops = encoder_flops(record.case) * record.case.batch_size
            rates[rate_key(record.case)] = flops / max(forward_s, 1e-9)
    return rates


def rate_key(case: Case) -> tuple[Hashable, ...]:
    """What a rate depends on: where and how a model runs, since the rest is in its FLOPs."""
    return (case.place, case.model, *case.values(WAY_AXES))


def guessed_rate(case: Case) -> float:
    """FLOP/s of a case that no record tells of: a share of its GPU's peak, where that is known."""
    peak = find_spec(case.gpu) if case.gpu is not None else None
    if peak is None:
        return GUESSED_FLOPS_PER_S[case.device.partition(":")[0]]
    return GUESSED_SHARE * peak.flops_per_s.get(case.precision, peak.flops_per_s["fp32"])


def case_seconds(case: Case, plan: TimingPlan, rates: dict[tuple[Hashable, ...], float]) -> float:
    """Seconds that measuring a case will take."""
    rate = rates.get(rate_key(case)) or guessed_rate(case)
    forward_s = encoder_flops(case) * case.batch_size / rate
    rows = (PASSES[name] for name in plan.passes)
    passes_s = (row.seconds(case, plan, forward_s) for row in rows if row.why_not(case) is None)
    return CASE_OVERHEAD_S + forward_s + sum(passes_s)
