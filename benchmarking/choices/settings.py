"""What a person sets, as flags' text or in a TOML file, to a sweep and a plan.

Names and limits stand beside the fields of Sweep and TimingPlan; a field is a flag.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from results.hardware.specs import find_gpu_model
from results.records.case import ANY, Case, TimingPlan

from ..errors import SweepError, quoted, suggestion
from ..measuring.passes.table import PASSES, default_passes, in_order
from .sweep import CPU, MAX_VALUES, QUICK, Sweep, is_encoder_path, is_known, unique, vocabulary

MAX_CONFIG_BYTES = 2**20


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
    plan: dict[str, object] = {"passes": default_passes(), **(QUICK if quick else {})}
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
    parse = parse_whole_numbers if Case.model_fields[name].annotation is int else parse_name
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
    if name == "gpu":
        return [parse_gpu_model(item)]
    known = vocabulary(name)
    if name == "model" and is_encoder_path(item):
        return [item]
    if known and not is_known(name, item):
        raise SweepError(f"Unknown {name} {quoted(item)}.{suggestion(item, known)}")
    return [item]


def parse_gpu_model(text: str) -> str:
    """A kind of GPU as the table of peaks spells it; another only as far as it may be a name.

    Whether one that the table lacks is there at all, the fleet finds out.
    """
    if text.casefold() in (ANY, CPU):
        return text.casefold()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,59}", text):
        raise SweepError(
            f"--gpu must be kinds of GPU such as L4,L40S,H200, or any, or cpu, got {quoted(text)}."
        )
    return find_gpu_model(text) or text.upper()


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
    return in_order(items)


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
        raise SweepError(f"'{path}' is not valid TOML: {str(error)[:200]}.") from error
    if not settings:
        raise SweepError(f"'{path}' sets nothing: write, say, model = [\"vit_b\"] into it.")
    return settings


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def validation_line(error: ValidationError) -> str:
    """The first of pydantic's findings, in one line."""
    first = error.errors()[0]
    place = flag(str(first["loc"][0]))
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{place}: {message.replace('input should', 'must')}, got {quoted(first['input'])}."
