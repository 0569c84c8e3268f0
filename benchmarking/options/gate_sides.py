"""The two sides of a gate, from what was typed to what is launched."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.records.errors import UserError

from .sweep_options import asked_sweep
from .terminal import out

if TYPE_CHECKING:
    from results.verdicts.gates import GateFile

    from ..gate.gate import Gate, GateWatcher, SideSource

PATHS = ("weights", "images", "config")  # settings that may name a file


def source(
    name: str, python: str | None, is_own: bool, settings: dict[str, Any], worktrees: ExitStack
) -> SideSource:
    """One side: a sweep file of this installation, or a revision in a worktree."""
    from results.verdicts.gates import Side

    from ..gate.gate import SideSource
    from ..gate.revisions import checked_out, install, python_of

    here = Path.cwd()
    if name.endswith(".toml"):
        if settings.get("config") is not None:
            raise UserError("--config would set what the two sweep files set: leave it out.")
        words = sweep_words(settings | {"config": name})
        return SideSource(Side(label=name, python=python), words, here, python_of(python))
    words = sweep_words(settings)
    tree = worktrees.enter_context(checked_out(name, here))
    chosen = install(tree.root) if is_own and tree.commit else python_of(python)
    side = Side(label=name, commit=tree.commit, python=chosen if chosen != sys.executable else None)
    return SideSource(side, words, tree.folder, chosen)


def sweep_words(settings: dict[str, Any]) -> tuple[str, ...]:
    """Arguments of the `sweep` command that measures a side.

    Files are named by absolute paths, since the command runs in another folder.

    Raises:
        SweepError: A setting can't be used; better said now than after a launch.
    """
    from ..choices.settings import flag, read_config
    from ..gate.gate import QUICK_SETTINGS, SETTINGS

    given = {name: value for name, value in settings.items() if value is not None}
    is_quick = given.pop("quick", False)
    in_file = read_config(Path(given["config"])) if "config" in given else {}
    defaults = QUICK_SETTINGS if is_quick else SETTINGS
    texts = {}
    for name, value in (defaults | given).items():
        if name not in in_file or name in given:
            is_path = name in PATHS and os.path.exists(value)
            texts[name] = os.path.abspath(value) if is_path else str(value)
    config = Path(texts["config"]) if "config" in texts else None
    asked_sweep(config, is_quick, {key: text for key, text in texts.items() if key != "config"})
    flags = [word for name, text in texts.items() for word in (flag(name), text)]
    # Cases side by side would share CPU, PCIe bus and power.
    parallel = ["--parallel", "1"] if "gpu" in in_file | given else []
    return tuple(["--quick"] * is_quick + flags + parallel)


def watcher(form: str) -> GateWatcher:
    """Beside the table; on the other stream, where that is for a program."""
    from ..views.gate_progress import make_gate_watcher

    return make_gate_watcher(out(stderr=form != "table"))


def measured(gate: Gate) -> GateFile:
    try:
        return gate.run()
    except KeyboardInterrupt as stop:
        if not gate.gate.pairs:
            raise KeyboardInterrupt("No pair was measured.") from stop
        kept = f"What was measured until then is kept in {gate.folder}"
        raise KeyboardInterrupt(f"{kept}; it was not judged.") from stop
