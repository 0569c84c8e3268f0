"""What to measure: axes to cross, and the list of cases that they make.

The axes are those of Case: a field there is a field here, a flag and a key of a sweep file.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import create_model, field_validator

from results.records.case import AXES, OWN, PLACE_AXES, Case
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

# Values that are rows of a table with more to say of each than its name.
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


# A field for each axis: the values to cross.
FIELDS: Any = {
    name: (tuple[Case.model_fields[name].annotation, ...], axis.default)  # type: ignore[misc]
    for name, axis in AXES.items()
}
SweepAxes: Any = create_model("SweepAxes", __base__=Strict, **FIELDS)
# Places vary slowest; cases of one worker follow one another, by batch size last.
OUTER = [name for name, axis in AXES.items() if axis.splits_worker and axis.role != "place"]
INNER = [name for name, axis in AXES.items() if not axis.splits_worker and name != "batch_size"]


class Sweep(SweepAxes):
    """The axes to cross. Each is a tuple of values: every combination becomes a case."""

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
        names = (*PLACE_AXES, *OUTER, *INNER, "batch_size")
        cases = [
            Case(**dict(zip(names, (*place, *outer, *inner, batch_size), strict=True)))
            for place in unique(places)
            for outer in itertools.product(*(getattr(self, axis) for axis in OUTER))
            for inner in itertools.product(*(getattr(self, axis) for axis in INNER))
            for batch_size in sorted(self.batch_size)
        ]
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


def vocabulary(axis: str) -> Collection[str]:
    """All values that an axis may have; empty if there is no list of them."""
    return VOCABULARY.get(axis) or (AXES[axis].choices if axis in AXES else ())


def is_known(axis: str, value: object) -> bool:
    """Whether an axis with a vocabulary has a value; attention may be two, joined."""
    if axis != "attention" or not isinstance(value, str):
        return value in vocabulary(axis)
    return any(family.attention and family.knows_attention(value) for family in FAMILIES.values())


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))
