"""Examining a machine: what it has, and whether a sweep's tools work on it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from pydantic import ValidationError

from results.answers.limits import reached_s
from results.records.addresses import is_remote
from results.records.case import TimingPlan
from results.records.environment import Environment
from results.records.errors import one_line
from results.records.measurement import MeasuredRoofs
from results.records.store import Store, StoreError, write_whole

from ..choices.inputs import InputError, read_input
from .environment import ProbeError, ask, probe_environment

LEAST_FREE_BYTES = 2**30
DELAYS_S = (0.02, 0.04, 0.08)  # the timer must tell 1 : 2 : 4
LINEAR = 0.05  # a busy machine wakes late; a wrong clock is off by far more


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at."""

    name: str
    is_fine: bool
    detail: str


def examine(store_path: Path, calibrates: bool = False) -> list[Diagnosis]:
    """Look at everything that a sweep needs.

    Args:
        store_path: Where records go.
        calibrates: Measure what the device can do at most, too, and keep it there.
    """
    findings: list[Diagnosis] = []
    try:
        environment = probe_environment()
        findings += describe(environment)
        devices = [f"cuda:{gpu.index}" for gpu in environment.gpus] or ["cpu"]
        findings.append(check_referee(devices[0]))
        if calibrates:
            findings += [found for device in devices for found in check_roofs(device, store_path)]
    except ProbeError as error:
        findings.append(Diagnosis("torch", False, str(error)))
    # Other work on the machine makes times longer.
    busy = f"{psutil.cpu_percent(interval=0.5):.0f} % of the CPU is in use by others just now"
    findings += [check_clock(), check_images_decode(), Diagnosis("load", True, busy)]
    findings.append(check_store(store_path))
    return findings


def describe(environment: Environment) -> Iterator[Diagnosis]:
    """What the machine is; a missing GPU is a fact, not a fault."""
    yield Diagnosis("sam-bench", True, f"{environment.sam_bench}, commit {environment.git_commit}")
    yield Diagnosis("system", True, f"{environment.os}, Python {environment.python}")
    gib = environment.memory_bytes / 2**30
    yield Diagnosis("cpu", True, f"{environment.cpu}, {environment.cores} cores, {gib:.0f} GiB")
    versions = f"{environment.torch}, CUDA {environment.cuda}, cuDNN {environment.cudnn}"
    yield Diagnosis("torch", True, versions)
    for gpu in environment.gpus:
        detail = f"{gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB, {gpu.uuid}"
        yield Diagnosis(f"cuda:{gpu.index}", True, f"{detail}, driver {environment.driver}")
    for note in environment.notes:
        yield Diagnosis("note", True, note)


def check_clock(sleep: Callable[[float], None] = time.sleep) -> Diagnosis:
    """The clock must tell known delays apart in proportion."""
    tries = partial(timeit.repeat, timer=time.perf_counter, repeat=3, number=1)
    measured = [min(tries(partial(sleep, delay))) for delay in DELAYS_S]
    slopes = [seconds / delay for seconds, delay in zip(measured, DELAYS_S, strict=True)]
    is_fine = max(abs(slope - 1) for slope in slopes) <= LINEAR
    shown = ", ".join(f"{seconds * 1e3:.1f}" for seconds in measured)
    return Diagnosis("clock", is_fine, f"delays of 20, 40, 80 ms were measured as {shown} ms")


def check_referee(device: str) -> Diagnosis:
    """Our time of a small forward must be that of torch.utils.benchmark.Timer."""
    try:
        answer = ask_referee(device)
    except ProbeError as error:
        return Diagnosis("referee", False, str(error))
    ratio, limit = answer["ratio"], answer["limit"]
    why = "" if device.startswith("cuda") else ", since other work shares a CPU"
    return Diagnosis(
        "referee",
        abs(ratio - 1) <= limit,
        f"a matrix product on {device} takes {answer['own_s'] * 1e3:.4g} ms by our clock, "
        f"{answer['referee_s'] * 1e3:.4g} ms by torch.utils.benchmark.Timer: ratio {ratio:.3f} of "
        f"the least of {answer['rounds']} rounds in turn; fine within {limit * 100:.0f} %{why}",
    )


def ask_referee(device: str) -> dict[str, float]:
    """Let another process, which may load torch, be refereed."""
    answer = ask(
        "benchmarking.measuring.reference_timer", device, task="No forward could be refereed"
    )
    try:
        found = json.loads(answer)
        return {name: found[name] for name in ("own_s", "referee_s", "ratio", "limit", "rounds")}
    except (KeyError, TypeError, ValueError) as error:
        raise ProbeError(
            "No forward could be refereed: see what this prints: "
            f"python -m benchmarking.measuring.reference_timer {device}"
        ) from error


def check_roofs(device: str, store_path: Path) -> Iterator[Diagnosis]:
    """Ask the most of a device and keep it in the store, for the sweeps that follow."""
    try:
        answer = ask(
            "benchmarking.measuring.calibrate", device, task=f"{device} could not be calibrated"
        )
        roofs = MeasuredRoofs.model_validate_json(answer)
        path = Store(store_path).write_roofs(roofs)
    except (ProbeError, StoreError, ValidationError) as error:
        yield Diagnosis("roofs", False, " ".join(str(error).split()))
        return
    for precision, products in roofs.products.items():
        rate = 2 * products.side**3 / reached_s(products.product_s)
        detail = f"{rate / 1e12:.4g} TFLOP/s in products of {products.side} x {products.side}"
        yield Diagnosis(f"roof of {device}, {precision}", True, detail)
    rate = 2 * roofs.copied_bytes / reached_s(roofs.copy_s)
    yield Diagnosis(
        f"roof of {device}, memory", True, f"{rate / 1e9:.4g} GB/s in copies; all kept in '{path}'"
    )


def check_images_decode() -> Diagnosis:
    try:
        photographs = read_input("images", TimingPlan.model_validate({}), 1024, limit=None)
    except InputError as error:
        return Diagnosis("photographs", False, f"{error} Install sam-encoder-bench again.")
    return Diagnosis("photographs", not photographs.unreadable, photographs.source)


def check_address(store_path: Path) -> Diagnosis:
    """A store elsewhere must take a file and give it back."""
    probe = store_path / f".doctor-{os.getpid()}.json"
    try:
        write_whole(probe, "{}\n")
        is_same = probe.read_bytes() == b"{}\n"
        probe.unlink()
    except Exception as error:  # each service has errors of its own
        return Diagnosis("store", False, f"'{store_path}' can't be written: {one_line(error)}")
    told = "" if is_same else ", but gives back something else than it was given"
    return Diagnosis("store", is_same, f"'{store_path}' can be written{told}")


def check_store(store_path: Path) -> Diagnosis:
    """The store's folder must take a file, and have room."""
    if is_remote(store_path):
        return check_address(store_path)
    try:
        # What is there of it; a sweep makes the rest.
        folder = next(filter(os.path.lexists, (store_path, *store_path.absolute().parents)))
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as scratch:
            write_whole(Path(scratch) / "probe.json", "{}\n")
        free = shutil.disk_usage(folder).free
    except (OSError, StoreError) as error:
        return Diagnosis("store", False, f"'{store_path}' can't be written: {one_line(error)}")
    detail = f"'{store_path}', {free / 2**30:.0f} GiB free"
    return Diagnosis("store", free >= LEAST_FREE_BYTES, detail)
