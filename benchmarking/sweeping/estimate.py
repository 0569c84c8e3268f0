"""How long cases will take, roughly: for the plan and for a progress bar's remaining time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from results.hardware.specs import find_spec
from results.records.case import WAY_AXES, Case, TimingPlan
from results.records.schema import Record

from ..choices.families import encoder_flops
from ..measuring.passes.table import PASSES

# Guesses of FLOP/s for a device that no record tells of, low on purpose.
GUESSED_FLOPS_PER_S = {"cpu": 5e10, "cuda": 2e13}
GUESSED_SHARE = 0.3  # of a GPU's peak, where its kind is known
WORKER_START_S = 6.0  # loading torch and building a model
CASE_OVERHEAD_S = 2.0  # inputs, counting FLOPs, the output's digest


@dataclass(frozen=True)
class Rates:
    """What earlier records say about the time that a case will take; later records win.

    flops_per_s: Reached by cases, by what a rate depends on most: `rate_key`.
    image_flops: Counted in the encoder for one image, by model and image size.
    """

    flops_per_s: dict[tuple[Hashable, ...], float] = field(default_factory=dict)
    image_flops: dict[tuple[str, int], float] = field(default_factory=dict)

    def __or__(self, other: Rates) -> Rates:
        return Rates(self.flops_per_s | other.flops_per_s, self.image_flops | other.image_flops)

    def forward_s(self, case: Case) -> float:
        """Seconds of a forward: by a record of such a case if there is one, else a guess."""
        rate = self.flops_per_s.get(rate_key(case))
        if rate is not None:
            return encoder_flops(case) * case.batch_size / rate
        counted = self.image_flops.get((case.model, case.image_size))
        return (counted or encoder_flops(case)) * case.batch_size / guessed_rate(case)


NO_RATES = Rates()


def measured_rates(records: Iterable[Record]) -> Rates:
    """What records say of cases like theirs."""
    rates = Rates()
    for record in records:
        case, measurement = record.case, record.measurement
        latency = measurement.latency if measurement else None
        work = measurement.work if measurement else None
        if latency is not None:
            forward_s = sorted(latency.forward_s)[len(latency.forward_s) // 2]
            flops = encoder_flops(case) * case.batch_size
            rates.flops_per_s[rate_key(case)] = flops / max(forward_s, 1e-9)
        if work is not None:
            rates.image_flops[case.model, case.image_size] = work.flops / case.batch_size
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


def case_seconds(case: Case, plan: TimingPlan, rates: Rates = NO_RATES) -> float:
    """Seconds that measuring a case will take."""
    forward_s = rates.forward_s(case)
    rows = (PASSES[name] for name in plan.passes)
    passes_s = (row.seconds(case, plan, forward_s) for row in rows if row.why_not(case) is None)
    return CASE_OVERHEAD_S + forward_s + sum(passes_s)
