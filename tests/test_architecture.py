"""Which packages and folders may import which, read from the imports themselves."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each package may import of ours, besides itself.
PACKAGES = {
    "sam": set(),
    "hooks": set(),
    "results": set(),
    "benchmarking": {"sam", "hooks", "results"},
    "dashboards": {"results"},
}
NEVER_TORCH = ("results", "dashboards")
MEASURING = Path("benchmarking", "measuring")  # the worker's side
PASSES = MEASURING / "passes"  # whose table the supervising process asks too
COMMANDS = Path("benchmarking", "commands")
# The one file outside sam/ that tells kinds of models apart, and what no other may ask.
FAMILIES = Path("benchmarking", "choices", "families.py")
WHICH_MODEL = re.compile(
    r"\b(if|not|and|or) [^\n]*\bin MODELS\b|MODELS\.get"
    r"|isinstance\([^()]*, \(?(sam\.)?(Sam|ImageEncoderViT)\b"
    r"|\b(only_sam|NEEDS_SAM|is_sam|SAM1|EXTERNAL|PATCH_SIZE|PROMPT_EMBED_DIM)\b|[\"']sam1[\"']"
)

FILES = sorted(path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
# The process that plans and supervises: it must start at once, and hold no memory of the GPU's.
SUPERVISING = [
    path
    for path in FILES
    if path.parts[0] == "benchmarking" and (MEASURING not in path.parents or PASSES in path.parents)
]
IMPORT_ALL = """
import importlib, json, sys

brings_torch = []
for name in sys.argv[1:]:
    was_there = "torch" in sys.modules
    importlib.import_module(name)
    if "torch" in sys.modules and not was_there:
        brings_torch.append(name)
print(json.dumps(brings_torch))
"""


def imported(source: str, path: Path, *, anywhere: bool = True) -> Iterator[str]:
    """Full names of the modules that a file imports.

    Args:
        source: The file's text.
        path: Where it lies below the root, which relative imports start from.
        anywhere: Whether imports inside functions count too.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.parts[: len(path.parts) - node.level] if node.level else ()
            yield ".".join([*above, *filter(None, [node.module])])


def packages(path: Path, *, anywhere: bool = True) -> set[str]:
    """Names of the packages that a file imports."""
    names = imported((ROOT / path).read_text(), path, anywhere=anywhere)
    return {name.partition(".")[0] for name in names}


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def test_every_package_has_files_to_check():
    assert [name for name in PACKAGES if Path(name, "__init__.py") not in FILES] == []


def test_a_package_imports_only_the_packages_it_may():
    wrong = [
        (str(path), sorted(others))
        for path in FILES
        if (others := packages(path) & set(PACKAGES) - PACKAGES[path.parts[0]] - {path.parts[0]})
    ]

    assert wrong == []


def test_results_and_dashboards_never_import_torch():
    wrong = [
        str(path)
        for path in FILES
        if path.parts[0] in NEVER_TORCH and packages(path) & {"torch", "torchvision"}
    ]

    assert wrong == []


def test_only_measuring_imports_torch_or_the_hooks_at_module_level():
    wrong = [
        str(path)
        for path in SUPERVISING
        if packages(path, anywhere=False) & {"torch", "torchvision", "hooks"}
    ]

    assert wrong == []


def test_importing_any_supervising_module_leaves_torch_out():
    modules = [
        module_name(path)
        for path in (*SUPERVISING, *(path for path in FILES if path.parts[0] == "results"))
    ]

    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *modules], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip

    assert json.loads(done.stdout) == []


def test_no_command_imports_another_command():
    commands = {module_name(path) for path in FILES if COMMANDS in path.parents}
    wrong = [
        (str(path), name)
        for path in FILES
        if COMMANDS in path.parents
        for name in imported((ROOT / path).read_text(), path)
        if name in commands
    ]

    assert wrong == []


def test_no_code_outside_sam_asks_which_model_it_has():
    wrong = [
        (str(path), found.group())
        for path in FILES
        if path.parts[0] != "sam" and path != FAMILIES
        for found in WHICH_MODEL.finditer((ROOT / path).read_text())
    ]

    assert wrong == []


def test_no_code_outside_sam_imports_the_inside_of_a_family():
    folders = {path.parent.name for path in FILES if path.match("sam/*/family.py")}
    wrong = [
        (str(path), name)
        for path in FILES
        if path.parts[0] != "sam"
        for name in imported((ROOT / path).read_text(), path)
        if name.startswith(tuple(f"sam.{folder}" for folder in folders))
    ]

    assert folders
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "is_asking"),
    [
        ("if case.model in MODELS:", True),
        ("if case.model not in MODELS", True),
        ("for name in MODELS:", False),
        ("MODELS[name].checkpoint", False),
        ("isinstance(model, Sam)", True),
        ("isinstance(model, SamPredictor)", False),
        ("if family.name == 'sam1':", True),
    ],
)
def test_asking_which_model_it_is_is_recognised(line, is_asking):
    assert (WHICH_MODEL.search(line) is not None) == is_asking


def test_the_store_knows_neither_specs_nor_prices():
    names = list(
        imported((ROOT / "results/records/store.py").read_text(), Path("results/records/store.py"))
    )

    assert [name for name in names if name.startswith("results.hardware")] == []


def test_the_product_imports_neither_tests_nor_the_reference_implementations():
    references = {"tests", "pytest", "segment_anything", "transformers"}

    assert [str(path) for path in FILES if packages(path) & references] == []


def test_no_files_import_each_other_in_a_circle():
    ours = {module_name(path): path for path in FILES}
    imports = {
        name: [other for other in imported((ROOT / path).read_text(), path) if other in ours]
        for name, path in ours.items()
        if path.name != "__init__.py"
    }

    TopologicalSorter(imports).prepare()  # which raises CycleError, with the circle


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
