"""The house's rules on who may know whom, read from the imports themselves (DESIGN.md)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each room may import of ours, besides itself.
ROOMS = {
    "sam": set(),
    "hooks": set(),
    "results": set(),
    "benchmarking": {"sam", "hooks", "results"},
    "dashboards": {"results"},
}
WITHOUT_TORCH = ("results", "dashboards")
# The process that starts workers: it must start at once, and hold no memory of the GPU's.
PARENT_SIDE = {
    "cli.py", "runner.py", "planning.py", "launchers.py", "sweep.py", "settings.py", "report.py",
    "views.py", "limit_views.py", "capacity.py", "estimate.py", "progress.py", "protocol.py",
    "doctor.py", "gate.py", "gate_progress.py", "gate_report.py", "revisions.py",
    "history_views.py", "comparison_views.py", "selftest_views.py",
    "commands/terminal.py", "commands/sweeping.py", "commands/showing.py", "commands/capacity.py",
    "commands/store.py", "commands/machine.py", "commands/comparing.py", "commands/selftest.py",
    "commands/gate_options.py", "commands/sides.py", "commands/checking.py", "commands/baseline.py",
    "commands/recommending.py", "recommend_views.py", "commands/places.py", "fleet/jobs.py",
    "fleet/scheduler.py", "fleet/driver.py", "fleet/local.py", "fleet/ray_fleet.py",
    "fleet/slurm.py", "fleet/fleets.py", "mistakes.py", "ending.py",
}  # fmt: skip

FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
PARENT_FILES = [Path("benchmarking", name) for name in sorted(PARENT_SIDE)]
TORCH_FREE = [path for path in FILES if path.parts[0] in WITHOUT_TORCH or path in PARENT_FILES]
STARTS_AT_ONCE = [path for path in TORCH_FREE if path.parts[0] != "dashboards"]
IMPORT_ALL = """
import importlib, json, sys

brings_torch = {}
for name in sys.argv[1:]:
    was_there = "torch" in sys.modules
    importlib.import_module(name)
    brings_torch[name] = "torch" in sys.modules and not was_there
print(json.dumps(brings_torch))
"""


def imported(source: str, path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, also in functions.

    Args:
        source: The file's text.
        path: Where it lies below the root, which relative imports start from.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.parts[: len(path.parts) - node.level] if node.level else ()
            yield ".".join([*above, *filter(None, [node.module])])


def packages(path: Path) -> set[str]:
    """Names of the packages that a file imports."""
    return {name.partition(".")[0] for name in imported((ROOT / path).read_text(), path)}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_room_knows_only_the_rooms_it_may(path):
    room = path.parts[0]

    assert packages(path) & set(ROOMS) <= ROOMS[room] | {room}


@pytest.mark.parametrize("path", TORCH_FREE, ids=str)
def test_what_must_start_at_once_never_imports_torch(path):
    assert packages(path).isdisjoint({"torch", "torchvision", "hooks"})


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_room_imports_the_tests_or_the_reference_that_they_compare_with(path):
    assert packages(path).isdisjoint({"tests", "pytest", "segment_anything"})


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_files_to_hold_to_the_rules(room):
    assert Path(room, "__init__.py") in FILES


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def test_no_files_import_each_other_in_a_circle():
    ours = {module_name(path): path for path in FILES}
    imports = {
        name: [other for other in imported((ROOT / path).read_text(), path) if other in ours]
        for name, path in ours.items()
        if path.name != "__init__.py"
    }

    TopologicalSorter(imports).prepare()  # which raises CycleError, with the circle


@pytest.fixture(scope="module")
def brings_torch() -> dict[str, bool]:
    """Of each module by name, whether torch came with it, in an interpreter that imports them all.

    Only the first that brings torch shows: whatever comes after it finds torch there.
    """
    names = map(module_name, STARTS_AT_ONCE)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", STARTS_AT_ONCE, ids=str)
def test_importing_what_must_start_at_once_leaves_torch_out(path, brings_torch):
    assert brings_torch[module_name(path)] is False


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import sam.build, hooks", ["sam.build", "hooks"]),
        ("from sam import build", ["sam"]),
        ("from . import theme", ["dashboards.pages"]),
        ("from .theme import x", ["dashboards.pages.theme"]),
        ("from ..theme import x", ["dashboards.theme"]),
        ("def f():\n    if True:\n        import torch.nn as nn", ["torch.nn"]),
        ("x = 'import torch'", []),
    ],
)
def test_imports_are_found_wherever_they_stand(source, names):
    assert list(imported(source, Path("dashboards/pages/page.py"))) == names
