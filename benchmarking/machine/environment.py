"""Finding out where a measurement is made. Run as a process of its own, it prints one JSON line,
so that its caller need not load torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import ValidationError

from results.records.environment import Environment, Gpu
from results.records.errors import UserError

ROOT = Path(__file__).parents[2]
PROBE_TIMEOUT_S = 180.0


class ProbeError(UserError):
    """The machine can't be described, most likely because torch can't be loaded."""


def probe_environment() -> Environment:
    """Ask another process about this machine."""
    answer = ask("benchmarking.machine.environment", task="This machine can't be described")
    try:
        return Environment.model_validate_json(answer)
    except ValidationError as error:
        raise ProbeError(
            "The probe of this machine did not describe it: see what this prints: "
            "python -m benchmarking.machine.environment"
        ) from error


def ask(module: str, *arguments: str, task: str, limit_s: float | None = None) -> str:
    """The last line that one of our modules prints, run as a process, which may load torch.

    Args:
        module: Its full name.
        arguments: Of its command line.
        task: What did not succeed, for the error.
        limit_s: The most that it may take; as long as a probe of the machine where None.

    Raises:
        ProbeError: Where it takes too long, fails or prints nothing.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    limit_s = limit_s or PROBE_TIMEOUT_S
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"{task}: it took more than {limit_s:.0f} s.") from error
    if done.returncode != 0 or not done.stdout.strip():
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ProbeError(
            f"{task} ({last}): see what this prints: python -m {shlex.join(command[3:])}. If it is "
            "torch that can't be loaded, install it again with pip."
        )
    return done.stdout.splitlines()[-1]


def describe_environment() -> Environment:
    """Describe this machine, through torch and NVML."""
    import torch

    gpus, notes = describe_gpus()
    driver, driver_note = nvml_driver()
    commit, dirty = git_state()
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    return Environment(
        hostname=platform.node(),
        os=os_name(),
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        gpus=tuple(gpus),
        driver=driver,
        cuda=torch.version.cuda,
        cudnn=str(cudnn) if cudnn else None,
        torch=torch.__version__,
        torchvision=version_of("torchvision"),
        python=platform.python_version(),
        sam_bench=version_of("sam-encoder-bench") or "not installed",
        git_commit=commit,
        git_dirty=dirty,
        source_sha256=source_sha256(),
        cuda_visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        alloc_conf=os.environ.get("PYTORCH_ALLOC_CONF"),
        notes=tuple(note for note in (*notes, driver_note) if note),
    )


def describe_gpus() -> tuple[list[Gpu], list[str]]:
    """The GPUs that torch can compute on, in its order, and what is wrong with the others."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        is_available = torch.cuda.is_available()
    notes = [" ".join(str(warning.message).split()) for warning in caught]  # an old driver, say
    if not is_available:
        return [], [*notes, "torch sees no CUDA GPU"]
    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        try:
            torch.ones(8, device=f"cuda:{index}").sum().item()
        except RuntimeError as error:  # too old for this build of torch, or taken
            reason = str(error).strip().splitlines()[0]
            notes.append(f"cuda:{index} {properties.name} does not compute: {reason}")
            continue
        gpus.append(
            Gpu(
                index=index,
                name=properties.name,
                uuid=str(getattr(properties, "uuid", "unknown")),
                memory_bytes=properties.total_memory,
                compute_capability=f"{properties.major}.{properties.minor}",
            )
        )
    return gpus, notes


def nvml_driver() -> tuple[str | None, str | None]:
    """The driver's version from NVML, or why it can't be read."""
    import pynvml

    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return None, f"NVML does not answer: {error}"
    return version if isinstance(version, str) else version.decode(), None


def os_name() -> str:
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}"
    except (OSError, KeyError):
        return platform.platform()


def cpu_name() -> str:
    """The processor's marketing name, which Python's platform module does not tell on Linux."""
    with suppress(OSError):
        if found := re.search(r"^model name.*?:(.*)", Path("/proc/cpuinfo").read_text(), re.M):
            return found[1].strip()
    return platform.processor() or platform.machine()


def version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def source_sha256() -> str:
    """A digest of our packages' code: two uncommitted states of one commit are not the same."""
    digest = hashlib.sha256()
    for package in ("sam", "hooks", "results", "benchmarking"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this code runs from, and whether it has changes; None outside."""
    commit = git("rev-parse", "HEAD")
    if commit is None or git("ls-files", "--error-unmatch", __file__) is None:
        return None, None  # installed from a wheel, perhaps into some other project's checkout
    changes = git("status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


if __name__ == "__main__":
    print(describe_environment().model_dump_json())
