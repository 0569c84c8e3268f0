"""SAM's image encoder as others have it and as we do: all in turn, in one run.

What is printed comes from records in a store, so that `sam-bench show` and the pages have them too.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections import defaultdict
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console

from benchmarking.choices.execution import EXECUTIONS
from benchmarking.choices.precision import PRECISIONS
from benchmarking.choices.sweep import QUICK, is_known, resolve_device, unsupported_reason
from benchmarking.machine.environment import describe_environment
from benchmarking.sweeping.checks import Evidence, judge
from benchmarking.sweeping.planning import new_sweep, utc_now
from benchmarking.sweeping.runner import Attempt, judged, make_record
from benchmarking.views.printing import TextTable, markdown
from results.answers.limits import with_roofs
from results.hardware.specs import store_specs
from results.records.case import OWN, Case, TimingPlan
from results.records.environment import Environment
from results.records.schema import Record
from results.records.store import Store
from results.tables.frames import case_frame
from results.tables.metrics import METRICS
from results.tables.stats import median_interval
from sam.families import MODELS

from .turns import LOOKS, OTHERS, Entry, in_turn, release

PACKAGES = {"upstream": "segment_anything", "transformers": "transformers"}
GPU = (
    "upstream,upstream compile,transformers,reference eager,sdpa eager,auto eager,auto regional,"
    "auto compile,triton compile,auto cudagraphs"
)
CPU = "upstream,transformers,reference eager,sdpa eager,auto eager"
ON_GPU = {
    "models": "vit_b,vit_l,vit_h", "precisions": "bf16,fp8", "batches": "1,2,4,8,16", "names": GPU,
}  # fmt: skip
ON_CPU = {"models": "vit_b", "precisions": "fp32,bf16", "batches": "1", "names": CPU}
SHOWN = (
    "image_s", "images_per_s", "mfu", "mfu_measured", "peak_bytes", "embedding_error",
    "first_forward_s",
)  # fmt: skip


@click.command()
@click.option("--model", "models", help="[default: vit_b,vit_l,vit_h on a GPU, vit_b on a CPU]")
@click.option("--batch-size", "batches", help="[default: 1,2,4,8,16 on a GPU, 1 on a CPU]")
@click.option("--image-size", default=1024, show_default=True)
@click.option("--precision", "precisions", help="[default: bf16,fp8 on a GPU, fp32,bf16 on a CPU]")
@click.option("--encoder", "names", help=f"[default: {GPU} on a GPU, {CPU} on a CPU]")
@click.option("--rounds", default=7, show_default=True, help="Turns that everyone gets.")
@click.option("--store", default="runs", show_default=True)
def main(image_size: int, rounds: int, store: str, **given: str | None) -> None:
    """Several are given with commas. An encoder is upstream, transformers or an attention of ours,
    and how it is run, as in 'auto compile'; see sam-bench choices.
    """
    # A compilation is measured cold: the seconds of a cache hit say nothing.
    torch.compiler.config.force_disable_caches = True
    environment = describe_environment()
    device = resolve_device("auto", environment)
    defaults = ON_CPU if device == "cpu" else ON_GPU
    axes = [(given[axis] or default).split(",") for axis, default in defaults.items()]
    check_axes(axes)
    entries = plan_entries(axes, image_size, device, environment)
    plan = TimingPlan(**{**QUICK, "passes": ("latency", *LOOKS)})
    kept = Store(Path(store))
    command = f"make bench-encoder ARGS={shlex.quote(shlex.join(sys.argv[1:]))}"
    sweep = new_sweep(list(entries), plan, environment, kept, command)
    groups: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case, entry in entries.items():
        groups[entry.model, exact(case.precision)].append(case)
    with kept.lock(sweep.sweep_id):
        kept.write_sweep(sweep)
        for (model, precision), cases in groups.items():
            click.echo(f"{utc_now()} {model} {precision}", err=True)
            for case, outcome in in_turn({case: entries[case] for case in cases}, plan, rounds):
                record = make_record(sweep, case, Attempt(outcome), utc_now())
                kept.write_record(checked(record, kept))
            release()
    records = kept.read(sweep.sweep_id).records
    view = table({record.case: record for record in records}, entries, rounds)
    Console(width=250).print(markdown(view), markup=False, highlight=False)


def plan_entries(
    axes: list[list[str]], image_size: int, device: str, environment: Environment
) -> dict[Case, Entry]:
    """What of the axes (models, precisions, batch sizes, names) can run here."""
    entries: dict[Case, Entry] = {}
    passed_over: dict[str, None] = {}
    for model, precision, batch_size, name in product(*axes):
        case = case_of(Entry(name, model), precision, int(batch_size), image_size, device)
        reason = why_absent(Entry(name, model)) or unsupported_reason(case, environment)
        if reason is None:
            entries[case] = Entry(name, model)
        else:
            passed_over[f"{name} in {case.precision} is left out: {reason}"] = None
    for line in passed_over:
        click.echo(line, err=True)
    if not entries:
        raise click.UsageError("Nothing of this can run here.")
    return entries


def exact(precision: str) -> str:
    """The precision of others' encoders that one of ours is held against."""
    return precision if PRECISIONS[precision].budget is None else "bf16"


def case_of(entry: Entry, precision: str, batch_size: int, image_size: int, device: str) -> Case:
    is_ours = entry.encoder not in OTHERS
    return Case(
        model=entry.model if is_ours else OTHERS[entry.encoder] + entry.model,
        batch_size=batch_size,
        image_size=image_size,
        precision=precision if is_ours else exact(precision),
        attention=entry.encoder if is_ours else OWN,
        execution=entry.execution,
        device=device,
        input="images",
        weights="random" if is_ours else OWN,
    )


def why_absent(entry: Entry) -> str | None:
    """Why an encoder can't be built here, or None where it can."""
    package = PACKAGES.get(entry.encoder)
    if package is not None and find_spec(package) is None:
        return f"the package {package} is not installed"
    return None


def check_axes(axes: list[list[str]]) -> None:
    """UsageError for what a person named that is not there."""
    models, precisions, batches, names = axes
    entries = [Entry(name, "") for name in names]
    known = {
        "--model": (models, lambda value: value in MODELS),
        "--precision": (precisions, lambda value: value in PRECISIONS),
        "--batch-size": (
            batches,
            lambda value: re.fullmatch(r"[1-9][0-9]{0,5}", value),
        ),
        "--encoder": (
            [entry.encoder for entry in entries],
            lambda value: value in OTHERS or is_known("attention", value),
        ),
        "--encoder, after the space,": (
            [entry.execution for entry in entries],
            lambda value: value in EXECUTIONS,
        ),
    }
    for option, (values, is_there) in known.items():
        for value in values:
            if not is_there(value):
                raise click.UsageError(f"{option} does not know {value[:60]!r}; see --help.")


def checked(record: Record, store: Store) -> Record:
    """With what its device can do at most, and the self-checks."""
    if record.measurement is None:
        return record
    (record,) = with_roofs([record], store.read_roofs())
    return judged(record, judge(Evidence(record, peaks=store_specs(store.path))))


def table(records: dict[Case, Record], entries: dict[Case, Entry], rounds: int) -> TextTable:
    """All contenders; the speed-up is over upstream in the same rounds."""
    frame = case_frame(records.values()).set_index("case_id")
    shown = [name for name in SHOWN if frame[name].notna().any()]
    first, record = next(iter(records.items()))
    gpu = record.environment.find_gpu(first.device)
    view = TextTable(
        f"{gpu.name if gpu is not None else record.environment.cpu}, {first.image_size} px, torch "
        f"{record.environment.torch}, {rounds} rounds in turn",
        [
            *("model", "precision", "batch", "encoder", "speed-up", "95 %"),
            *(METRICS[name].heading for name in shown),
        ],
        caption="Speed-ups are over upstream in the same rounds, those of approximate precisions "
        "over upstream in bf16. The embedding error is the relative L2 distance from upstream's "
        "arithmetic in float32.",
    )
    baselines = {
        (entry.model, case.precision, case.batch_size): records[case]
        for case, entry in entries.items()
        if entry.name == "upstream"
    }
    for case, entry in entries.items():
        baseline = baselines.get((entry.model, exact(case.precision), case.batch_size))
        figures = frame.loc[case.case_id]
        view.rows.append(
            [
                *(entry.model, case.precision, str(case.batch_size), entry.name),
                *speed_up(baseline, records[case]),
                *(METRICS[name].show(figures[name]) for name in shown),
            ]
        )
    return view


def speed_up(baseline: Record | None, record: Record) -> tuple[str, str]:
    """The median of the rounds' ratios, and its interval where there are rounds enough."""
    if record.status != "ok":
        return record.status, "-"
    if baseline is None or baseline.status != "ok":
        return "-", "-"
    ratios = rounds_s(baseline) / rounds_s(record)
    low, high = median_interval(ratios)
    between = f"{low:.2f} .. {high:.2f}" if np.isfinite(low) and np.isfinite(high) else "-"
    return f"{np.median(ratios):.2f}x", between


def rounds_s(record: Record) -> np.ndarray:
    """The median forward of each round."""
    assert record.measurement is not None
    latency = record.measurement.latency
    assert latency is not None
    chunks = np.split(np.array(latency.forward_s), np.cumsum(latency.chunk_forwards)[:-1])
    return np.array([np.median(chunk) for chunk in chunks])


if __name__ == "__main__":
    main()
