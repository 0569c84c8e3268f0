"""Stores for the browser: one where every filter has a choice, one of hostile names."""

from __future__ import annotations

import pytest

from benchmarking.demo import demo
from results.records.schema import Record, SweepFile
from results.records.store import Store

SCRIPT = "window.hacked=1;alert(1)"
IMAGE = f"<img src=x onerror={SCRIPT}>"
END = f"</script><script>{SCRIPT}</script>"
LINK = f'<a href="javascript:{SCRIPT}">x</a>'
FORMULA = rf"$\href{{javascript:{SCRIPT}}}{{x}}$"
# Where the demonstration's cases are all the same.
ODD = (
    {"execution": "compile"},
    {"image_size": 512},
    {"input": "images"},
    {"weights": "checkpoints"},
)


def write_demonstration(path) -> Store:
    """Two GPUs, two models; cases out of memory and crashed; every axis has two values or more."""
    store = Store(path)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "BATCHES": (1, 4, 32), "COMMITS": 3, "SLOWER_FROM": 2, "GPUS": demo.GPUS[1:],
            "MODELS_SHOWN": ("vit_b", "vit_h"), "PRECISIONS_SHOWN": ("bf16", "fp16"),
        }.items():  # fmt: skip
            patch.setattr(demo, name, value)
        demo.write_demo(store, seed=0)
    first = store.read().records[0]
    for number, odd in enumerate(ODD):
        write_record(store, first, f"20260101-00000{number}-odd", odd)
    return store


def write_record(store, record, sweep_id, case, **more) -> Record:
    """Write a record again, as the only one of a sweep, with another case.

    Args:
        case: What differs in it.
        more: What differs in the record besides; an environment also in the sweep's file.
    """
    changed = record.case.model_copy(update=case)
    sweep = SweepFile(
        sweep_id=sweep_id,
        definition_sha256="0" * 64,
        command=more.get("command", record.command),
        created_at=record.started_at,
        plan=record.plan,
        cases=(changed,),
        environment=more.get("environment", record.environment),
    )
    own = {"sweep_id": sweep_id, "case": changed, "case_id": changed.case_id}
    written = record.model_copy(update=own | more)
    store.write_sweep(sweep)
    store.write_record(written)
    return written


def write_hostile(path) -> Store:
    """Wherever a record has free text, it tries to be more than text."""
    store = Store(path)
    good = next(record for record in demonstration_of_one() if record.status == "ok")
    for number, name in enumerate((IMAGE, END, LINK, FORMULA)):
        for batch_size in (1, 4):
            write_record(
                store,
                good,
                f"2026010{batch_size}-00000{number}-hostile",
                {"model": name, "precision": name, "attention": name, "batch_size": batch_size},
                environment=hostile_environment(good, name),
                command=name,
                message=name,
                checks={name: next(iter(good.checks.values()))},
            )
    return store


def hostile_environment(record, name):
    gpus = tuple(gpu.model_copy(update={"name": name}) for gpu in record.environment.gpus)
    words = {"gpus": gpus, "hostname": name, "torch": name, "git_commit": name}
    return record.environment.model_copy(update=words)


def demonstration_of_one():
    """Records of the demonstration's first sweep, in memory."""
    sweep, gpu, factors = next(iter(demo.plan_sweeps()))
    few = sweep.model_copy(update={"cases": sweep.cases[:1]})
    return demo.measure_all(few, gpu, factors, demo.np.random.default_rng(0))
