"""The two sides of a gate, from what was typed to what is launched."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .places import FLEET_FLAGS
from .sweeping import asked_sweep, sweep
from .terminal import Mistake, out

if TYPE_CHECKING:
    from results.gates import GateFile

    from ..gate import Gate, GateWatcher, Source

PATHS = ("weights", "images", "config")  # settings that may name a file
# Of `sweep`, what is no setting of the sweep itself.
NOT_SETTINGS = ("config", "quick", "store_path", "fresh", "no_prune", "trace", *FLEET_FLAGS)


def source(
    name: str, python: str | None, is_own: bool, settings: dict[str, Any], worktrees: ExitStack
) -> Source:
    """One side: a sweep file of this installation, or a revision in a worktree."""
    from results.gates import Side

    from ..gate import Source
    from ..revisions import checked_out, install, python_of

    here = Path.cwd()
    if name.endswith(".toml"):
        if settings.get("config") is not None:
            raise Mistake("--config would set what the two sweep files set: leave it out.")
        words = sweep_words(settings | {"config": name})
        return Source(Side(label=name, python=python), words, here, python_of(python))
    words = sweep_words(settings)
    tree = worktrees.enter_context(checked_out(name, here))
    chosen = install(tree.root) if is_own and tree.commit else python_of(python)
    side = Side(label=name, commit=tree.commit, python=chosen if chosen != sys.executable else None)
    return Source(side, words, tree.folder, chosen)


def sweep_words(settings: dict[str, Any]) -> tuple[str, ...]:
    """What a launch is typed with; files are named from the root, since it runs elsewhere."""
    from ..gate import QUICK_SETTINGS, SETTINGS
    from ..settings import read_config

    given = {name: value for name, value in settings.items() if value is not None}
    is_quick = given.pop("quick", False)
    in_file = read_config(Path(given["config"])) if "config" in given else {}
    defaults = QUICK_SETTINGS if is_quick else SETTINGS
    words = ["--quick"] if is_quick else []
    for name, value in (defaults | given).items():
        if name in in_file and name not in given:
            continue
        is_path = name in PATHS and os.path.exists(value)
        text = os.path.abspath(value) if is_path else str(value)
        words += ["--" + name.replace("_", "-"), text]
    if "gpu" in in_file | given:
        words += ["--parallel", "1"]  # cases side by side share CPU, PCIe and power
    check_words(tuple(words))
    return tuple(words)


def check_words(words: tuple[str, ...]) -> None:
    """A mistake in a setting is told at once, not after a launch."""
    with sweep.make_context("sweep", list(words)) as context:
        given = dict(context.params)
        flags = {name: given[name] for name in given if name not in NOT_SETTINGS}
        asked_sweep(given["config"], given["quick"], flags)


def typed() -> str:
    return shlex.join(["sam-bench", *sys.argv[1:]])


def watcher(form: str) -> GateWatcher:
    """Beside the table; on the other stream, where that is for a program."""
    from ..gate_progress import make_gate_watcher

    return make_gate_watcher(out(stderr=form != "table"))


def measured(gate: Gate) -> GateFile:
    try:
        return gate.run()
    except KeyboardInterrupt as stop:
        if not gate.gate.pairs:
            raise KeyboardInterrupt("No pair was measured.") from stop
        kept = f"What was measured until then is kept in {gate.folder}"
        raise KeyboardInterrupt(f"{kept}; it was not judged.") from stop
