"""Which sweep is meant: one that the store holds, the same in all that matters, or a new one."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.machinery import PathFinder
from pathlib import Path

from results.records.case import OWN, Case, TimingPlan
from results.records.environment import OF_ONE_MACHINE, Environment
from results.records.reading import BrokenFileError, read_file
from results.records.schema import SweepFile
from results.records.store import DEFINITION_DIGITS, Store

from ..choices.sweep import is_encoder_path


def resumed_sweep(store: Store, new: SweepFile) -> SweepFile | None:
    """The newest sweep of the store that is the same as a new one; None where there is none.

    Raises:
        UnreachableError: Where an address does not tell of a sweep, which may be it.
    """
    definition, cases = new.definition_sha256, new.cases
    for sweep in newest_first(store):
        # A plan that was rebuilt from its records knows the first digits alone, and not all cases.
        digits = sweep.definition_sha256
        if len(digits) >= DEFINITION_DIGITS and definition.startswith(digits):
            whole = {"definition_sha256": definition, "cases": cases}
            return sweep.model_copy(update=whole)
    return None


def why_not_resumed(store: Store, new: SweepFile) -> str | None:
    """Why an unfinished sweep of the same cases is not resumed, in one line; None if there is none.

    What was measured by other code or on another machine is not continued: half of its records
    would not be comparable with the other half.
    """
    from results.answers.compare import environment_changes, plan_changes  # which load pandas

    for sweep in newest_first(store):
        if set(sweep.cases) != set(new.cases) or store.read_end(sweep.sweep_id) is not None:
            continue
        if sweep.definition_sha256 == new.definition_sha256:
            return None
        changes = environment_changes(sweep.environment, new.environment)
        changes += plan_changes(sweep.plan, new.plan)
        names = [name for name, *_ in changes] or ["its weights, images or encoder"]
        return (
            f"Sweep {sweep.sweep_id} of the same cases is unfinished and not resumed, since these "
            f"have changed: {', '.join(names[:5])}. A new sweep begins."
        )
    return None


def newest_first(store: Store) -> Iterator[SweepFile]:
    """The sweeps of a store, without those whose plan can't be used."""
    for sweep_id in reversed(store.sweep_ids()):
        with suppress(BrokenFileError):
            yield read_file(store.path / sweep_id / "sweep.json", SweepFile)


def new_sweep(
    cases: Sequence[Case], plan: TimingPlan, environment: Environment, store: Store, command: str
) -> SweepFile:
    """A sweep that the store does not hold yet."""
    definition = definition_sha256(cases, plan, environment)
    return SweepFile(
        sweep_id=new_id(definition[:DEFINITION_DIGITS], store.sweep_ids()),
        definition_sha256=definition,
        command=command,
        created_at=utc_now(),
        plan=plan,
        cases=tuple(cases),
        environment=environment,
    )


def definition_sha256(cases: Sequence[Case], plan: TimingPlan, environment: Environment) -> str:
    """What makes two sweeps the same: cases, plan, machine, and the code that measures.

    Where a kind of GPU is named, the machine may be another one: it is in each record.
    """
    is_anywhere = any(case.gpu is not None for case in cases)
    left_out = OF_ONE_MACHINE if is_anywhere else {"notes", "os"}
    machine = environment.model_dump(exclude=set(left_out))
    paths = [
        *(case.weights for case in cases if case.weights not in ("random", OWN)),
        *(encoder_source(case.model) for case in cases if is_encoder_path(case.model)),
        plan.images,
    ]
    files = []
    for path in (Path(each) for each in dict.fromkeys(paths) if each is not None):
        # Folders in it are left out: the store may be one. So are links that lead nowhere.
        inside = filter(Path.is_file, sorted(path.iterdir()) if path.is_dir() else [path])
        stats = [(str(each.resolve()), each.stat()) for each in inside]
        files.append([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    content = [[case.model_dump() for case in cases], plan.model_dump(), machine, files]
    canonical = json.dumps(content, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def encoder_source(path: str) -> str | None:
    """The file of "package.module:function", without importing anything; None where it is none."""
    places: Sequence[str] | None = [*sys.path, os.getcwd()]
    found = None
    for name in path.partition(":")[0].split("."):
        found = PathFinder.find_spec(name, places)
        places = found.submodule_search_locations if found is not None else []
    return found.origin if found is not None and found.has_location else None


def new_id(ending: str, taken: Collection[str]) -> str:
    """The time, so that ids sort by age, and an ending; with a number if that is taken."""
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{ending}"
    candidates = (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3)))
    return next(candidate for candidate in candidates if candidate not in taken)


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
