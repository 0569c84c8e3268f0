"""Self-checks of the device: its physical limits, its clocks, and who else used it."""

from __future__ import annotations

import numpy as np

from results.answers.limits import spec_roof
from results.hardware.specs import find_spec

from ..machine.telemetry import slowdowns
from .evidence import Evidence, Finding, found


def check_physics(evidence: Evidence) -> Finding | None:
    """The roofline's floor over the time, of the whole or of the module that comes nearest.

    By the maker's peaks: what was calibrated is no limit that nature sets.
    """
    gpu, measurement = evidence.record.gpu, evidence.measurement
    works = {"the forward": (measurement.work, evidence.forward_s)}
    works |= {name: (each.work, each.total_s) for name, each in (measurement.modules or {}).items()}
    timed = {
        name: (work, samples)
        for name, (work, samples) in works.items()
        if work is not None and len(samples) and np.median(samples) > 0
    }
    if gpu is None or not timed:
        return None
    if find_spec(gpu.name, evidence.peaks) is None:
        return Finding(None, "unknown", f"results/hardware/specs.py has no row for '{gpu.name}'")
    roof = spec_roof(evidence.record, evidence.peaks)
    if roof is None:
        precision = evidence.record.case.precision
        return Finding(None, "unknown", f"no peak of '{gpu.name}' in {precision} is known")
    shares = {
        name: roof.floor_s(work.flops, work.least_bytes) / float(np.median(samples))
        for name, (work, samples) in timed.items()
    }
    nearest = max(shares, key=lambda name: shares[name])
    is_possible = shares[nearest] <= 1
    reason = None if is_possible else f"{nearest} was faster than the hardware can be"
    return found(shares[nearest], reason, "invalid")


def check_clocks(evidence: Evidence) -> Finding | None:
    telemetry = evidence.record.telemetry
    if telemetry is None:
        return None
    if all(reasons is None for reasons in telemetry.event_reasons):
        return Finding(None, "unknown", telemetry.missing.get("event_reasons", "NVML was not read"))
    slow = slowdowns(telemetry)
    if slow:
        return Finding(float(len(slow)), "invalid", ", ".join(slow))
    seen = {reason for reasons in telemetry.event_reasons for reason in reasons or ()}
    # A power cap is the normal state of a small card: kept and labelled.
    return found(0.0, "power cap" if "power cap" in seen else None)


def check_company(evidence: Evidence) -> Finding | None:
    telemetry = evidence.record.telemetry
    if telemetry is None:
        return None
    others = telemetry.other_processes
    if others is not None:
        pids = ", ".join(str(process.pid) for process in others)
        reason = f"processes {pids} used the GPU too" if others else None
        return found(float(len(others)), reason)
    most = max((count for count in telemetry.process_count if count), default=0)
    if most == 0:  # not even ours was seen
        return Finding(None, "unknown", telemetry.missing.get("other_processes", "not read"))
    reason = f"{most} processes used the GPU at once, of which ours is one" if most > 1 else None
    return found(float(most - 1), reason)


def check_co_tenants(evidence: Evidence) -> Finding | None:
    tenants = evidence.record.co_tenants
    if tenants is None:
        return None
    beside = ", ".join(each.gpu or f"process {each.pid}" for each in tenants)
    reason = f"other cases ran on this machine at once: {beside}" if tenants else None
    return found(float(len(tenants)), reason)
