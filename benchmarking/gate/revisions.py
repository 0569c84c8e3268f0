"""Revisions of a repository, each checked out in a folder of its own while it is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import quoted
from .gate import GateError, last_words

WORKING_TREE = "."


@dataclass(frozen=True)
class Worktree:
    """A revision's files.

    folder: That a command is to run in: the same below the repository as where it was typed.
    root: Of the files.
    commit: None for the working tree, which may hold more than its commit.
    """

    folder: Path
    root: Path
    commit: str | None


def git(*words: str, folder: Path) -> str:
    """What git answers.

    Raises:
        GateError: With git's own last words.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise GateError("Revisions need git, which is not installed here.") from error
    if done.returncode != 0:
        raise GateError(f"git {words[0]}: {last_words(done.stderr)}")
    return done.stdout.strip()


def find_commit(revision: str, folder: Path) -> str:
    """The commit that a revision names."""
    with suppress(GateError):
        if not revision.startswith("-"):  # which git would take for an option
            return git("rev-parse", "--verify", f"{revision}^{{commit}}", folder=folder)
    git("--version", folder=folder)  # says so where there is none
    raise GateError(
        f"{quoted(revision)} must be a revision of a git repository here, a sweep file (*.toml), "
        "or '.' for the working tree as it is."
    )


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Worktree]:
    """A revision's files, in a worktree that is removed afterwards; '.' is where they are.

    Args:
        revision: A commit, a tag or a branch.
        folder: In the repository.
    """
    if revision == WORKING_TREE:
        yield Worktree(folder, folder, None)
        return
    commit = find_commit(revision, folder)
    root = Path(git("rev-parse", "--show-toplevel", folder=folder))
    with tempfile.TemporaryDirectory(prefix="sam-bench-") as place:
        worktree = Path(place, commit[:12])
        git("worktree", "add", "--detach", str(worktree), commit, folder=root)
        try:
            own = worktree / folder.resolve().relative_to(root.resolve())
            yield Worktree(own if own.is_dir() else worktree, worktree, commit)
        finally:
            git("worktree", "remove", "--force", str(worktree), folder=root)


def install(root: Path) -> str:
    """Install a revision into an environment of its own; the path of its Python.

    Raises:
        GateError: Where it has no pyproject.toml, or pip fails.
    """
    if not (root / "pyproject.toml").is_file():
        raise GateError("--own-environments needs a pyproject.toml at the root of each revision.")
    place = root / ".sam-bench-venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--editable", str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise GateError(f"pip could not install {root.name}: {last_words(done.stderr)}")
    return str(python)


def python_of(path: str | None) -> str:
    """A Python that a person named, or this one; named from the root, since it runs elsewhere."""
    if path is None:
        return sys.executable
    try:
        subprocess.run([path, "-c", ""], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise GateError(f"{quoted(path)} must be a Python that runs.") from error
    return os.path.abspath(path) if os.sep in path else path
