"""What to measure: axes to cross, from flags or a TOML file, to a list of cases.

Names and limits stand beside the fields of Sweep and TimingPlan; a field is a flag.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import Field, ValidationError, field_validator

from results.schema import AXES, OWN, PASSES, Case, Environment, Strict, TimingPlan
from sam.attention import ATTENTION
from sam.configs import MODELS, PATCH_SIZE

from .execution import EXECUTIONS
from .inputs import INPUTS
from .precision import PRECISIONS, why_unsupported

MAX_CASES = 20_000
MAX_VALUES = 1_000  # of one axis
MAX_CONFIG_BYTES = 2**20

VOCABULARY: dict[str, Mapping[str, object]] = {
    "model": MODELS,
    "precision": PRECISIONS,
    "attention": ATTENTION,
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


class SweepError(ValueError):
    """A sweep can't be run as asked; the message says what must hold, what came, what to do."""


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
        devices = [resolve_device(device, environment) for device in self.device]
        own_models = [model for model in self.model if model in MODELS]
        if own_models:
            check_image_sizes(self.image_size)
            for weights in self.weights:
                check_weights(weights, own_models)
        outer = [axis for axis in AXES if axis not in ("batch_size", "input", "device")]
        cases = [
            Case(
                **dict(zip(outer, values, strict=True)), device=device, input=source,
                batch_size=batch_size,
            )
            for device in unique(devices)
            for values in itertools.product(*(getattr(self, axis) for axis in outer))
            for source in self.input
            for batch_size in sorted(self.batch_size)
        ]  # fmt: skip
        cases = unique(of_its_own(case) for case in cases)
        check_some_supported(cases, environment)
        return cases


def of_its_own(case: Case) -> Case:
    """A case of another encoder, which has neither our variants of attention nor our weights."""
    if case.model in MODELS:
        return case
    return case.model_copy(update={"attention": OWN, "weights": OWN})


def is_encoder_path(text: str) -> bool:
    """Whether a model is named as 'package.module:function'."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*", text) is not None


def check_image_sizes(sizes: Iterable[int]) -> None:
    for size in sizes:
        if size % PATCH_SIZE:
            raise SweepError(
                f"--image-size must be a multiple of {PATCH_SIZE} for SAM's models, got {size}."
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
    reasons = [unsupported_reason(case, environment) for case in cases]
    if all(reasons):
        raise SweepError(f"Nothing of this sweep can run: {reasons[0]}.")


def unsupported_reason(case: Case, environment: Environment) -> str | None:
    """Why the machine can't do a case, or None where it can."""
    kind, _, index = case.device.partition(":")
    capability = None
    if kind == "cuda":
        gpu = next(gpu for gpu in environment.gpus if gpu.index == int(index))
        major, _, minor = gpu.compute_capability.partition(".")
        capability = (int(major), int(minor))
    execution = EXECUTIONS[case.execution]
    if execution.only_sam and case.model not in MODELS:
        return f"{case.execution} runs SAM's own encoder alone"
    reason = why_unsupported(case.precision, kind, capability)
    return reason or execution.why_unsupported(kind, case.precision)


def parse_sweep(
    settings: Mapping[str, object], quick: bool = False
) -> tuple[Sweep, TimingPlan, list[str]]:
    """Settings by field name, as text (flags) or TOML values, to a sweep and a plan.

    Returns:
        The sweep, the plan, and notes for a person about what was changed.

    Raises:
        SweepError: One line on the first setting that can't be used.
    """
    notes: list[str] = []
    axes: dict[str, object] = {}
    plan: dict[str, object] = dict(QUICK) if quick else {}
    for name, value in with_encoders(settings).items():
        if name in Sweep.model_fields:
            axes[name] = parse_axis(name, value, notes)
        elif name in TimingPlan.model_fields:
            plan[name] = parse_plan_value(name, value)
        else:
            known = [*Sweep.model_fields, "encoder", *TimingPlan.model_fields]
            raise SweepError(f"Unknown setting {quoted(name)}.{suggestion(name, known)}")
    try:
        return Sweep.model_validate(axes), TimingPlan.model_validate(plan), notes
    except ValidationError as error:
        raise SweepError(validation_line(error)) from error


def with_encoders(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings in which the values of 'encoder' stand among those of 'model'."""
    merged = dict(settings)
    if "encoder" not in merged:
        return merged
    encoders = listed("encoder", merged.pop("encoder"))
    if not encoders:
        raise SweepError("--encoder must name at least one value.")
    for encoder in encoders:
        if not isinstance(encoder, str) or not is_encoder_path(encoder):
            raise SweepError(
                f"--encoder must be package.module:function, got {quoted(encoder)}. The models of "
                "SAM are named with --model."
            )
    models = listed("model", merged["model"]) if "model" in merged else []
    return merged | {"model": [*models, *encoders]}


def parse_axis(name: str, value: object, notes: list[str]) -> tuple[object, ...]:
    """One axis, from '1,2,4', '1..64', or a TOML list or single value."""
    items = listed(name, value)
    if len(items) > MAX_VALUES:
        raise SweepError(f"{flag(name)} may have at most {MAX_VALUES} values, got {len(items)}.")
    parse = parse_whole_numbers if name in ("batch_size", "image_size") else parse_name
    values = [each for item in items for each in parse(name, item)]
    distinct = unique(values)
    if len(distinct) < len(values):
        notes.append(f"{flag(name)}: values that stand twice are measured once")
    return tuple(distinct)


def listed(name: str, value: object) -> list[object]:
    """The values of an axis, from '1,2,4' or a TOML list or single value."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, list | tuple) else [value]
    items: list[object] = [item.strip() for item in value.split(",")]
    if "" in items:
        raise SweepError(f"{flag(name)} has an empty value: {quoted(value)}.")
    return items


def parse_whole_numbers(name: str, item: object) -> list[int]:
    """A whole number, or 'a..b': from a, doubling, up to b; checked against Case's limits."""
    text = item if isinstance(item, str) else quoted(item)
    bounds = re.fullmatch(r"([0-9]{1,18})(?:\.\.([0-9]{1,18}))?", text)
    if bounds is None:
        raise SweepError(
            f"{flag(name)} must be whole numbers such as 1,2,4 or 1..64, got {quoted(item)}."
        )
    first, last = int(bounds[1]), int(bounds[2] or bounds[1])
    if last < first:
        raise SweepError(f"{flag(name)}: a range must ascend, got {quoted(item)}.")
    numbers = [first]
    while first > 0 and numbers[-1] * 2 <= last:
        numbers.append(numbers[-1] * 2)
    limits = {
        what: getattr(limit, what)
        for limit in Case.model_fields[name].metadata
        for what in ("ge", "le", "multiple_of")
        if hasattr(limit, what)
    }
    least, most, multiple = limits["ge"], limits["le"], limits.get("multiple_of", 1)
    for number in numbers:
        if not least <= number <= most or number % multiple:
            also = f" and a multiple of {multiple}" if multiple > 1 else ""
            raise SweepError(
                f"{flag(name)} must be between {least} and {most}{also}, got {number}."
            )
    return numbers


def parse_name(name: str, item: object) -> list[str]:
    """A word of the axis's vocabulary; devices and weights have a form instead."""
    if not isinstance(item, str) or not item.isprintable() or not item:
        raise SweepError(f"{flag(name)} must be words, got {quoted(item)}.")
    if name == "device" and not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", item):
        raise SweepError(f"--device must be auto, cpu, cuda or cuda:N, got {quoted(item)}.")
    known = VOCABULARY.get(name)
    if name == "model" and is_encoder_path(item):
        return [item]
    if known is not None and item not in known:
        raise SweepError(f"Unknown {name} {quoted(item)}.{suggestion(item, known)}")
    return [item]


def parse_plan_value(name: str, value: object) -> object:
    """A single setting of the plan; text is read by the field's type."""
    if name == "passes":
        return parse_passes(value)
    annotation = TimingPlan.model_fields[name].annotation
    words = get_args(annotation)
    if get_origin(annotation) is Literal:
        if value not in words:
            raise SweepError(
                f"{flag(name)} must be {' or '.join(words)}, got {quoted(value)}."
                f"{suggestion(value, words)}"
            )
        return value
    if name == "module_pattern":
        return parse_pattern(value)
    if str in words:
        return parse_name(name, value)[0]
    if isinstance(value, bool):  # which Python counts among its whole numbers
        raise SweepError(f"{flag(name)} must be a number, got {quoted(value)}.")
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?", value):
        raise SweepError(f"{flag(name)} must be a number, got {quoted(value)}.")
    if annotation is int or int in words:
        if not re.fullmatch(r"[0-9]{1,18}", value):
            raise SweepError(f"{flag(name)} must be a whole number, got {quoted(value)}.")
        return int(value)
    return float(value)


def parse_pattern(value: object) -> str:
    try:
        if isinstance(value, str) and value:
            re.compile(value)
            return value
        reason = "it is empty or no text"
    except re.error as error:
        reason = str(error)
    raise SweepError(
        f"--module-pattern must be a regular expression, got {quoted(value)}: {reason}."
    )


def parse_passes(value: object) -> tuple[str, ...]:
    items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
    if not isinstance(items, list) or not items:
        raise SweepError(f"--passes must be some of {','.join(PASSES)}, got {quoted(value)}.")
    for item in items:
        if item not in PASSES:
            raise SweepError(f"Unknown pass {quoted(item)}.{suggestion(item, PASSES)}")
    return tuple(item for item in PASSES if item in items)


def read_config(path: Path) -> dict[str, Any]:
    """Settings of a TOML file.

    Raises:
        SweepError: Where the file can't be read as a flat table of settings.
    """
    try:
        if not path.is_file():
            raise SweepError(f"--config must name a TOML file, and '{path}' is none.")
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise SweepError(
                f"A sweep file may have at most {MAX_CONFIG_BYTES} bytes; '{path}' has {size}."
            )
        # A byte-order mark, as some editors put in front of UTF-8, is let pass.
        settings = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SweepError(f"'{path}' can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SweepError(f"'{path}' must be UTF-8 text: save it as UTF-8.") from error
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, SweepError):
            raise
        raise SweepError(f"'{path}' is not valid TOML: {str(error)[:200]}.") from error
    if not settings:
        raise SweepError(f"'{path}' sets nothing: write, say, model = [\"vit_b\"] into it.")
    return settings


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def quoted(value: object) -> str:
    """A person's value, safe to print: escaped, and cut where it is long."""
    try:
        text = ascii(value)
    except ValueError:  # Python writes no whole number of over 4,300 digits
        text = "a number too long to show"
    return text if len(text) <= 60 else text[:57] + "..."


def suggestion(word: object, known: Iterable[str]) -> str:
    """' Did you mean x?' or ' Known: ...'."""
    known = list(known)
    text = word[:100] if isinstance(word, str) else ""
    likeness = [difflib.SequenceMatcher(None, text, name).ratio() for name in known]
    closest = known[likeness.index(max(likeness))]  # the first of equals
    return f" Did you mean '{closest}'?" if max(likeness) >= 0.5 else f" Known: {', '.join(known)}."


def validation_line(error: ValidationError) -> str:
    """The first of pydantic's findings, in one line."""
    first = error.errors()[0]
    place = flag(str(first["loc"][0]))
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{place}: {message.replace('input should', 'must')}, got {quoted(first['input'])}."
