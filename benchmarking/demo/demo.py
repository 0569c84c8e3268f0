"""A demonstration store, to look around in without a GPU. Nothing in it was measured.

Every record of it says so (`is_synthetic`), and so does every figure that is made of one.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from results.records.case import Case, TimingPlan
from results.records.environment import Environment, Gpu
from results.records.schema import Record, Status, SweepEnd, SweepFile
from results.records.store import Store

from ..measuring.passes.table import default_passes
from ..sweeping.checks import Evidence, judge
from ..sweeping.runner import judged
from .synthetic_gpu import SyntheticGpu, fits, measure, peak_bytes, watch

GIB = 2**30
GPUS = (
    SyntheticGpu("NVIDIA L4", 23 * GIB, "8.9", 72, 0.99, 2_040_000_000, 0.15),
    SyntheticGpu("NVIDIA L40S", 45 * GIB, "8.9", 350, 0.9, 2_520_000_000, 0.05),
    SyntheticGpu("NVIDIA H200", 140 * GIB, "9.0", 700, 0.85, 1_980_000_000, 0.0),
)
MODELS_SHOWN = ("vit_b", "vit_l", "vit_h")
PRECISIONS_SHOWN = ("fp32", "tf32", "bf16", "fp16")
BATCHES = (1, 2, 4, 8, 16, 32)
CRASHES = ("vit_h", "fp16", 4)  # on each GPU
BEGAN = datetime(2026, 1, 5, 9, tzinfo=UTC)
# One cell of a series over commits becomes slower at one of them.
CASE_S = 20.0  # that each case took
COMMITS, SLOWER_FROM, SLOWER_BY = 24, 16, 1.06


def write_demo(store: Store, seed: int) -> int:
    """Write all sweeps; how many records they hold."""
    random = np.random.default_rng(seed)
    count = 0
    for sweep, gpu, factors in plan_sweeps():
        records = measure_all(sweep, gpu, factors, random)
        store.write_sweep(sweep)
        for record in records:
            store.write_record(record)
        end = SweepEnd(
            sweep_id=sweep.sweep_id,
            ended_at=sweep.created_at,
            planned=len(sweep.cases),
            statuses=dict(Counter[str](record.status for record in records)),
            wall_s=CASE_S * len(records),
            measured_s=16.0 * len(records),
        )
        store.write_end(end)
        count += len(records)
    return count


Planned = tuple[SweepFile, SyntheticGpu, dict[str, float]]


def plan_sweeps() -> Iterator[Planned]:
    """A sweep of all axes for each GPU, then the same two cells at many commits of one.

    Each with its GPU, and how many times as long as it should a model takes.
    """
    cases = [
        make_case(model, precision, attention, batch_size)
        for model, precision in itertools.product(MODELS_SHOWN, PRECISIONS_SHOWN)
        for attention in (("reference", "sdpa") if precision == "bf16" else ("reference",))
        for batch_size in BATCHES
    ]
    for hours, gpu in enumerate(GPUS):
        yield make_sweep(cases, gpu, BEGAN + timedelta(hours=hours), commit=0), gpu, {}
    cells = [make_case(model, "bf16", "sdpa", 4) for model in ("vit_b", "vit_l")]
    for number in range(COMMITS):
        when = BEGAN + timedelta(days=number + 1)
        factors = {"vit_l": SLOWER_BY} if number >= SLOWER_FROM else {}
        yield make_sweep(cells, GPUS[-1], when, commit=number + 1), GPUS[-1], factors


def make_case(model: str, precision: str, attention: str, batch_size: int) -> Case:
    return Case(
        model=model,
        batch_size=batch_size,
        image_size=1024,
        precision=precision,
        attention=attention,
        execution="eager",
        device="cuda:0",
        input="noise",
        weights="random",
    )


def make_sweep(cases: Iterable[Case], gpu: SyntheticGpu, when: datetime, commit: int) -> SweepFile:
    word = gpu.name.removeprefix("NVIDIA ").lower()
    return SweepFile(
        sweep_id=f"{when:%Y%m%d-%H%M%S}-demo-{word}",
        definition_sha256="0" * 64,
        command="sam-bench demo",
        created_at=when.isoformat(timespec="seconds"),
        plan=TimingPlan.model_validate({"passes": default_passes(), "module_depth": 2}),
        cases=tuple(cases),
        environment=make_environment(gpu, commit),
    )


def make_environment(gpu: SyntheticGpu, commit: int) -> Environment:
    shown = Gpu(
        index=0,
        name=gpu.name,
        uuid=f"made-up-{gpu.name}",
        memory_bytes=gpu.memory_bytes,
        compute_capability=gpu.capability,
    )
    return Environment(
        **dict.fromkeys(("os", "cpu", "torch", "python", "sam_bench"), "made up"),
        hostname="demo",
        cores=16,
        memory_bytes=128 * GIB,
        gpus=(shown,),
        driver=None,
        cuda=None,
        cudnn=None,
        torchvision=None,
        git_commit=hashlib.sha1(str(commit).encode(), usedforsecurity=False).hexdigest(),
        git_dirty=False,
        source_sha256="0" * 64,
        notes=("synthetic: nothing here was measured",),
    )


def measure_all(
    sweep: SweepFile, gpu: SyntheticGpu, factors: dict[str, float], random: np.random.Generator
) -> list[Record]:
    """The records of a sweep, as a runner would have left them."""
    records: list[Record] = []
    for case in sweep.cases:
        smaller = [each for each in records if each.case.series_key == case.series_key]
        status, message = fate(case, gpu, smaller)
        if status != "ok":
            records.append(
                make_record(sweep, case, status=status, stage="latency", message=message)
            )
            continue
        clock_hz = gpu.clock_hz * (1 - gpu.clock_drop * case.batch_size / max(BATCHES))
        record = make_record(
            sweep,
            case,
            status="ok",
            measurement=measure(case, gpu, clock_hz, factors.get(case.model, 1.0), random),
            telemetry=watch(gpu, clock_hz, gpu.clock_drop > 0, peak_bytes(case)),
        )
        good = [each for each in smaller if each.status == "ok"]
        records.append(judged(record, judge(Evidence(record, good))))
    return records


def fate(case: Case, gpu: SyntheticGpu, smaller: list[Record]) -> tuple[Status, str | None]:
    """What becomes of a case, and why."""
    too_large = [record.case.batch_size for record in smaller if record.status == "oom"]
    if too_large:
        return "skipped", f"oom at batch size {too_large[0]}"
    if not fits(case, gpu):
        return "oom", "OutOfMemoryError: CUDA out of memory (made up)"
    if (case.model, case.precision, case.batch_size) == CRASHES:
        return "crashed", "the worker was killed by signal 11 (made up)"
    return "ok", None


def make_record(sweep: SweepFile, case: Case, **outcome: Any) -> Record:
    began = datetime.fromisoformat(sweep.created_at)
    started_at = began + sweep.cases.index(case) * timedelta(seconds=CASE_S)
    return sweep.record(
        case,
        started_at=started_at.isoformat(timespec="seconds"),
        wall_s=CASE_S,
        is_synthetic=True,
        **outcome,
    )
