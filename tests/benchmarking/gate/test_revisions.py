"""Revisions of true git repositories: their files, the worktrees they lie in, and their Pythons."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from benchmarking.gate import revisions
from benchmarking.gate.gate import GateError
from benchmarking.gate.revisions import checked_out, find_commit, git, install, python_of

FIRST = {"encoder.py": "WIDTH = 1\n", "sub/deep.py": "DEPTH = 1\n"}
SECOND = {"encoder.py": "WIDTH = 2\n", "later/only.py": "NEW = 1\n"}


@pytest.fixture
def repository(tmp_path, make_repository):
    """Two commits; the first has a tag, the second is what main has."""
    made = make_repository(tmp_path / "a repository", FIRST, SECOND)
    made.git("tag", "v1", made.commits[0])
    made.git("tag", "--annotate", "--message", "a release", "v1-signed", made.commits[0])
    made.git("branch", "feature/one", made.commits[0])
    return made


# What is checked out


@pytest.mark.parametrize("name", ["v1", "v1-signed", "feature/one", "main~1", "HEAD^"])
def test_a_revision_gives_its_own_files(repository, name):
    with checked_out(name, repository.path) as tree:
        assert (tree.folder / "encoder.py").read_text() == FIRST["encoder.py"]
        assert not (tree.folder / "later").exists()


@pytest.mark.parametrize("length", [8, 40])
def test_a_commit_is_found_by_its_digits(repository, length):
    assert find_commit(repository.commits[0][:length], repository.path) == repository.commits[0]


def test_a_revision_tells_its_commit(repository):
    with checked_out("v1", repository.path) as tree:
        assert tree.commit == repository.commits[0]


def test_a_revisions_files_lie_elsewhere_than_the_working_tree(repository):
    (repository.path / "encoder.py").write_text("WIDTH = 3\n")
    with checked_out("main", repository.path) as tree:
        assert (tree.folder / "encoder.py").read_text() == SECOND["encoder.py"]


def test_a_revision_is_entered_at_the_folder_where_it_was_typed(repository):
    with checked_out("v1", repository.path / "sub") as tree:
        assert (tree.folder / "deep.py").read_text() == FIRST["sub/deep.py"]
        assert tree.folder == tree.root / "sub"


def test_a_revision_without_that_folder_is_entered_at_its_root(repository):
    with checked_out("v1", repository.path / "later") as tree:
        assert tree.folder == tree.root


def test_a_folder_behind_a_link_is_that_of_the_repository(repository, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(repository.path / "sub")
    with checked_out("v1", link) as tree:
        assert tree.folder == tree.root / "sub"


def test_the_working_tree_is_what_it_is_with_changes_that_nobody_committed(repository):
    (repository.path / "encoder.py").write_text("WIDTH = 3\n")
    with checked_out(".", repository.path / "sub") as tree:
        assert (tree.folder, tree.commit) == (repository.path / "sub", None)
        assert (tree.folder.parent / "encoder.py").read_text() == "WIDTH = 3\n"


def test_the_working_tree_needs_no_repository(tmp_path):
    with checked_out(".", tmp_path) as tree:
        assert tree.folder == tmp_path


def test_two_revisions_are_checked_out_side_by_side(repository):
    with checked_out("v1", repository.path) as one, checked_out("main", repository.path) as other:
        texts = [(tree.folder / "encoder.py").read_text() for tree in (one, other)]

    assert texts == [FIRST["encoder.py"], SECOND["encoder.py"]]


def test_one_revision_is_checked_out_twice(repository):
    with checked_out("v1", repository.path) as one, checked_out("v1", repository.path) as other:
        assert one.root != other.root


# What is left behind


def test_no_worktree_is_left_behind(repository):
    with checked_out("v1", repository.path) as tree:
        during = repository.worktrees()

    assert len(during) == 2
    assert len(repository.worktrees()) == 1
    assert not tree.root.parent.exists()


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt, SystemExit])
def test_no_worktree_is_left_behind_by_an_error(repository, end):
    with pytest.raises(end), checked_out("v1", repository.path) as tree:
        raise end

    assert len(repository.worktrees()) == 1
    assert not tree.root.exists()


def test_a_worktree_with_files_of_a_launch_is_removed(repository):
    with checked_out("v1", repository.path) as tree:
        (tree.folder / "__pycache__").mkdir()
        (tree.folder / "__pycache__" / "encoder.pyc").write_bytes(b"compiled")
        (tree.folder / "encoder.py").write_text("changed")

    assert len(repository.worktrees()) == 1
    assert not tree.root.exists()


def test_a_worktree_that_somebody_removed_meanwhile_is_forgotten(repository):
    with checked_out("v1", repository.path) as tree:
        shutil.rmtree(tree.root)

    assert len(repository.worktrees()) == 1


def test_checking_out_changes_nothing_of_the_working_tree(repository):
    before = (repository.git("rev-parse", "HEAD"), repository.git("branch"))
    with checked_out("v1", repository.path):
        pass

    assert (repository.git("rev-parse", "HEAD"), repository.git("branch")) == before
    assert repository.git("status", "--porcelain") == ""


# What is no revision


NO_REVISIONS = (
    "nowhere", "", " ", "--help", "-h", "--git-dir", "HEAD:encoder.py", "v1 v2", "main..v1",
    "encoder.py", "../..", "$(touch x)", "a\nb", "\x1b[31mred", "@{-1}", "x" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize("name", NO_REVISIONS, ids=range(len(NO_REVISIONS)))
def test_what_is_no_revision_is_refused_in_one_line(repository, refusal, name):
    line = refusal(find_commit, name, repository.path)

    assert "must be a revision of a git repository here" in line


def test_an_unknown_revision_leaves_no_worktree(repository):
    with pytest.raises(GateError), checked_out("nowhere", repository.path):
        pass

    assert len(repository.worktrees()) == 1


def test_a_folder_outside_of_any_repository_is_refused(tmp_path, refusal, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    line = refusal(find_commit, "main", tmp_path)

    assert line.startswith("'main' must be a revision of a git repository here, ")


def test_a_repository_without_a_commit_has_no_revision(tmp_path, make_repository, refusal):
    assert "'HEAD' must be a revision" in refusal(
        find_commit, "HEAD", make_repository(tmp_path / "empty").path
    )


def test_without_git_there_are_no_revisions(repository, refusal, monkeypatch):
    monkeypatch.setenv("PATH", str(repository.path))
    line = refusal(find_commit, "main", repository.path)

    assert line == "Revisions need git, which is not installed here."


def test_git_speaks_for_itself_where_it_fails(repository):
    with pytest.raises(GateError, match=r"^git worktree: fatal: "):
        git("worktree", "add", "sub", "v1", folder=repository.path)


# Pythons


def test_no_python_named_is_this_one():
    assert python_of(None) == sys.executable


def test_a_python_that_is_named_is_taken():
    assert python_of(sys.executable) == sys.executable


def test_a_python_named_from_here_is_found_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)

    assert python_of("bin/python") == str(tmp_path / "bin" / "python")


NO_PYTHONS = ("/nowhere/python", "", "false", "/", "a\nb", "x" * 10_000)


@pytest.mark.parametrize("path", NO_PYTHONS, ids=range(len(NO_PYTHONS)))
def test_what_is_no_python_is_refused(refusal, path):
    assert refusal(python_of, path).endswith(" must be a Python that runs.")


# Environments of their own


@pytest.fixture
def make_environment(monkeypatch):
    """Let a script stand for the Python of a new environment."""

    def make(script):
        def create(place, with_pip):
            python = Path(place, "bin", "python")
            python.parent.mkdir(parents=True)
            python.write_text(f"#!/bin/sh\n{script}\n")
            python.chmod(0o755)

        monkeypatch.setattr(revisions.venv, "create", create)

    return make


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\n")
    return folder


def test_a_revision_without_a_project_is_not_installed(tmp_path, refusal):
    line = refusal(install, tmp_path)

    assert line == "--own-environments needs a pyproject.toml at the root of each revision."


def test_a_revision_is_installed_into_an_environment_below_it(make_environment, package):
    make_environment('echo "$@" > "$0.told"')
    python = Path(install(package))

    assert python.is_relative_to(package)
    assert Path(f"{python}.told").read_text() == (f"-m pip install --quiet --editable {package}\n")


def test_what_pip_says_last_is_told(make_environment, package, refusal):
    make_environment('echo first >&2; echo "ERROR: no torch." >&2; exit 1')

    assert refusal(install, package) == "pip could not install package: ERROR: no torch."
