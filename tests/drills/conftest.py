"""A copy of the packages, in which a test makes the edit that CONTRIBUTING names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sam", "hooks", "results", "benchmarking", "dashboards")


class EditedCopy:
    """The product's packages in another folder, where they can be edited and run.

    Args:
        folder: Where the copy goes; commands run in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text that a file has once."""
        text = (self.folder / path).read_text()
        assert text.count(old) == 1, (
            f"{path} must have {old!r} once, has it {text.count(old)} times"
        )
        (self.folder / path).write_text(text.replace(old, new))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python with the copy's packages."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "400"}
        return subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip

    def sam_bench(self, words: str) -> str:
        """What a command prints; it must succeed."""
        done = self.run("-m", "benchmarking.cli", *words.split())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, words: str) -> str:
        """What a command says that must be refused."""
        done = self.run("-m", "benchmarking.cli", *words.split())
        assert done.returncode == 2, done.stdout
        return done.stderr

    def evaluate(self, code: str) -> str:
        """What a program prints."""
        done = self.run("-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def make_copy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], EditedCopy]:
    return lambda: EditedCopy(tmp_path_factory.mktemp("copy"))
