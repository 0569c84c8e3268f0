"""What to measure: axes to cross, and the list of cases that they make.

Names and limits stand beside the fields of Sweep; a field is a flag.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from results.records.case import AXES, OWN, Case
from results.records.environment import Environment
from results.records.quantities import Strict
from sam.families import FAMILIES, MODELS

from ..errors import SweepError, quoted
from .execution import EXECUTIONS, why_no_export
from .families import family_of
from .inputs import INPUTS
from .precision import PRECISIONS, why_no_eight_bits, why_unsupported

CPU = "cpu"  # among kinds of GPU: none
MAX_CASES = 20_000
MAX_VALUES = 1_000  # of one axis

VOCABULARY: dict[str, Mapping[str, object]] = {
    "model": MODELS,
    "precision": PRECISIONS,
    "attention": {
        name: variant for family in FAMILIES.values() for name, variant in family.attention.items()
    },
    "execution": EXECUTIONS,
    "input": INPUTS,
}
QUICK: dict[str, object] = {
    "warmup_s": 0.3,
    "warmup_forwards": 2,
    "warmup_cap_s": 2.0,
    "min_timed_s": 0.5,
    "max_timed_s": 3.0,
    "min_forwards": 6,
    "min_slow_forwards": 3,
    "module_forwards": 3,
}


class Sweep(Strict):
    """The axes to cross. Each is a tuple: every combination becomes a case."""

    model: tuple[str, ...] = Field(
        ("vit_b",), description="Model types, or package.module:function of other encoders."
    )
    batch_size: tuple[int, ...] = Field(
        (1, 2, 4, 8), description="Images in a forward; 1..64 doubles from the first."
    )
    image_size: tuple[int, ...] = Field((1024,), description="Pixels along an edge.")
    precision: tuple[str, ...] = Field(("fp32",), description="Number formats.")
    attention: tuple[str, ...] = Field(("reference",), description="Attention variants.")
    execution: tuple[str, ...] = Field(("eager",), description="Ways to run the forward.")
    device: tuple[str, ...] = Field(
        ("auto",), description="cpu, cuda:0, ...; auto is the first GPU, else the CPU."
    )
    gpu: tuple[str | None, ...] = Field(
        (None,),
        description="Kinds of GPU, each case on one of its kind wherever that is: L4,L40S,H200, "
        "any, or cpu; instead of --device.",
    )
    input: tuple[str, ...] = Field(("images",), description="What the images are.")
    weights: tuple[str, ...] = Field(
        ("random",), description="'random', a checkpoint, or a folder of official ones."
    )

    @field_validator("*")
    @classmethod
    def _holds_something(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if not values:
            raise ValueError("must name at least one value")
        if len(values) > MAX_VALUES:
            raise ValueError(f"must name at most {MAX_VALUES} values, got {len(values)}")
        return values

    def cases(self, environment: Environment) -> list[Case]:
        """Every combination, batch sizes ascending last, devices named as this machine has them.

        Raises:
            SweepError: Where there are too many, or a device or checkpoint is not there.
        """
        count = math.prod(len(getattr(self, axis)) for axis in AXES)
        if count > MAX_CASES:
            raise SweepError(
                f"A sweep may have at most {MAX_CASES} cases, and these axes make {count}: give "
                "fewer values, or run several sweeps."
            )
        places = self.places(environment)
        check_image_sizes(self.model, self.image_size)
        loading = [model for model in self.model if family_of(model).loads_weights]
        for weights in self.weights:
            check_weights(weights, loading)
        outer = [axis for axis in AXES if axis not in ("batch_size", "input", "device", "gpu")]
        cases = [
            Case(
                **dict(zip(outer, values, strict=True)), device=device, gpu=gpu, input=source,
                batch_size=batch_size,
            )
            for device, gpu in unique(places)
            for values in itertools.product(*(getattr(self, axis) for axis in outer))
            for source in self.input
            for batch_size in sorted(self.batch_size)
        ]  # fmt: skip
        cases = unique(of_its_own(case) for case in cases)
        check_some_supported(cases, environment)
        return cases

    def places(self, environment: Environment) -> list[tuple[str, str | None]]:
        """Device and kind of GPU of the cases.

        A case that needs a kind runs in a process that sees one GPU alone: its cuda:0.
        """
        if self.gpu == (None,):
            return [(resolve_device(device, environment), None) for device in self.device]
        if self.device != ("auto",):
            raise SweepError(
                f"--gpu names the kinds of GPU and --device those of this machine, got --gpu "
                f"{','.join(map(str, self.gpu))} and --device {','.join(self.device)}: give one."
            )
        return [("cpu", None) if kind == CPU else ("cuda:0", kind) for kind in self.gpu]


def of_its_own(case: Case) -> Case:
    """A case without the axes that its family does not have: attention, weights."""
    family = family_of(case.model)
    changes = {} if family.attention else {"attention": OWN}
    return case.model_copy(update=changes if family.loads_weights else {**changes, "weights": OWN})


def is_encoder_path(text: str) -> bool:
    """Whether a model is named as 'package.module:function'."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*", text) is not None


def check_image_sizes(models: Iterable[str], sizes: Iterable[int]) -> None:
    for model, size in itertools.product(models, sizes):
        multiple = family_of(model).image_multiple
        if multiple is not None and size % multiple:
            raise SweepError(
                f"--image-size must be a multiple of {multiple} for {model}, got {size}."
            )


def resolve_device(device: str, environment: Environment) -> str:
    """Give 'auto' and 'cuda' their index; SweepError where the machine lacks it."""
    gpus = environment.gpus
    if device == "auto":
        return f"cuda:{gpus[0].index}" if gpus else "cpu"
    if device == "cpu":
        return device
    index = int(device.partition(":")[2] or 0)
    if index not in [gpu.index for gpu in gpus]:
        have = ", ".join(f"cuda:{gpu.index} {gpu.name}" for gpu in gpus) or "none"
        raise SweepError(
            f"There is no device {device}: the GPUs that torch sees here are: {have}. "
            "Use --device cpu, or see sam-bench doctor."
        )
    return f"cuda:{index}"


def check_weights(weights: str, models: Iterable[str]) -> None:
    """A checkpoint must be there before the first case runs; a file serves one model."""
    if weights == "random":
        return
    try:
        for model in models:
            checkpoint_path(weights, model)
    except OSError as error:
        raise SweepError(f"--weights {quoted(weights)} can't be read: {error.strerror}.") from error
    if Path(weights).is_file() and len(set(models)) > 1:
        raise SweepError(
            f"'{weights}' is one checkpoint, but the sweep has {len(set(models))} models: name a "
            "folder of official checkpoints, or one model."
        )


def checkpoint_path(weights: str, model: str, option: str = "--weights") -> Path:
    """The file that holds a model's weights, in a folder by its official name.

    Args:
        weights: What a person gave `option`.
        model: A key of MODELS.
        option: Named in errors.
    """
    path = Path(weights)
    if path.is_dir():
        official = MODELS[model].checkpoint
        if official is None:
            raise SweepError(f"There is no official checkpoint of {model}: use {option} random.")
        path = path / official.filename
    if not path.exists():
        is_official = MODELS[model].checkpoint is not None
        fetch = f"Fetch them with: sam-bench download {model}, or use" if is_official else "Use"
        raise SweepError(f"There are no weights at '{path}'. {fetch} {option} random.")
    return path


def check_some_supported(cases: list[Case], environment: Environment) -> None:
    """Refuse a sweep of which nothing can run; single unsupported cases become records."""
    reasons = [foreseen_reason(case, environment) for case in cases]
    if all(reasons):
        raise SweepError(f"Nothing of this sweep can run: {reasons[0]}.")


def foreseen_reason(case: Case, environment: Environment) -> str | None:
    """Why a case can't be done, as far as it is known before it has a GPU of its kind."""
    return unsupported_reason(case, environment if case.gpu is None else None)


def unsupported_reason(case: Case, environment: Environment | None) -> str | None:
    """Why a machine can't do a case, or None where it can.

    Args:
        environment: Of the machine that is to run it; None where that is not known yet.
    """
    kind = case.device.partition(":")[0]
    gpu = environment.find_gpu(case.device) if environment is not None else None
    capability = None
    if gpu is not None:
        major, _, minor = gpu.compute_capability.partition(".")
        capability = (int(major), int(minor))
    family, dtype = family_of(case.model), PRECISIONS[case.precision].dtype
    return (
        why_no_export(case.execution, family)
        or why_no_eight_bits(case.precision, family)
        or why_unsupported(case.precision, kind, capability)
        or family.why_no_attention(case.attention, kind, dtype)
        or EXECUTIONS[case.execution].why_unsupported(kind, case.precision)
    )


def is_known(axis: str, value: object) -> bool:
    """Whether an axis with a vocabulary has a value; attention may be two, joined."""
    if axis != "attention" or not isinstance(value, str):
        return value in VOCABULARY[axis]
    return any(family.attention and family.knows_attention(value) for family in FAMILIES.values())


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))
