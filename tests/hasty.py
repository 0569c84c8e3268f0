"""sam-bench in a hurry, for the README's commands: `python -P -m hasty WORDS`.

It looks at the machine once, measures for a moment, and has a smaller tiny model, small images and
a short demonstration. That a command works depends on none of these.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarking.choices import settings, sweep
from benchmarking.cli import main
from benchmarking.demo import demo
from benchmarking.machine import doctor, environment
from benchmarking.sweeping import case_runner
from results.records.environment import Environment

QUICK = {
    "warmup_s": 0.0, "warmup_forwards": 1, "warmup_cap_s": 0.1, "min_timed_s": 0.0,
    "max_timed_s": 0.1, "min_forwards": 2, "min_slow_forwards": 1, "module_forwards": 1,
    "prompts_per_image": 8,
}  # fmt: skip
SEEN = Path("machine.json")
ask, parse_sweep, probe = doctor.ask, settings.parse_sweep, environment.probe_environment


def calibrate(device: str) -> None:
    import torch

    from benchmarking.measuring import calibrate as file

    file.SPAN_S, file.COPY_BYTES, file.PRODUCT_S = 0.1, {"cpu": 2**20}, {"cpu": 0.0}
    print(file.calibrate(torch.device(device)).model_dump_json())


def work() -> None:
    from benchmarking.measuring import measure, rig, worker  # noqa: F401  loads torch

    shrink_tiny()
    rig.TIMER_TRIES = 1
    worker.main()


# Processes of a command that are in a hurry too.
PROCESSES = {"benchmarking.measuring.calibrate": calibrate, "benchmarking.measuring.worker": work}


def ask_hasty(module: str, *words: str, **more: str) -> str:
    start = ("hasty", module) if module in PROCESSES else (module,)
    return ask(*start, *words, **more)


def probe_once() -> Environment:
    if not SEEN.exists():
        SEEN.write_text(probe().model_dump_json())
    return Environment.model_validate_json(SEEN.read_text())


def parse_small(asked: Mapping[str, object], quick: bool = False) -> object:
    smaller = {"image_size": "64"} if asked.get("image_size") == "256" else {}
    return parse_sweep({**asked, **smaller}, quick)


def shrink_tiny() -> None:
    """To one block of each kind."""
    from sam.families import MODELS

    tiny = MODELS["tiny"]
    smaller = replace(tiny.config, depth=2, global_blocks=(1,))
    MODELS["tiny"] = replace(tiny, config=smaller)


def command() -> None:
    name = sys.argv[1]
    if name in ("masks", "onnx"):  # which have a model in this process
        shrink_tiny()
        size = next(each for each in main.commands[name].params if each.name == "image_size")
        size.default = 64
    if name != "doctor":
        environment.probe_environment = probe_once
    sweep.QUICK |= QUICK
    demo.MODELS_SHOWN, demo.BATCHES = ("vit_b",), (1, 32)
    doctor.ask, settings.parse_sweep = ask_hasty, parse_small
    start = (sys.executable, "-P", "-m", "hasty", "benchmarking.measuring.worker")
    case_runner.LocalCaseRunner = partial(case_runner.LocalCaseRunner, start)
    main()


if __name__ == "__main__":
    PROCESSES[sys.argv[1]](*sys.argv[2:]) if sys.argv[1] in PROCESSES else command()
