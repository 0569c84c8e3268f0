"""A true gate whose launches never end is stopped: a script stands for their Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

SAM_BENCH = Path(sys.executable).with_name("sam-bench")
ENDLESS = """#!/bin/sh
[ "$1" = -c ] && exit 0
echo $$ > "{began}.new"
mv "{began}.new" "{began}"
exec sleep 600
"""


def by_terminal(process):
    os.killpg(process.pid, signal.SIGINT)


def by_runner(process):
    process.terminate()


@pytest.fixture(scope="module", params=[by_terminal, by_runner])
def stopped(request, tmp_path_factory, make_repository, wait_until):
    """A gate of two revisions that was stopped in its first launch."""
    folder = tmp_path_factory.mktemp("ctrl c")
    repository = make_repository(folder / "repository", {"a.py": "1"}, {"a.py": "2"})
    python, began = folder / "python", folder / "began"
    python.write_text(ENDLESS.format(began=began))
    python.chmod(0o755)
    command = [
        SAM_BENCH, "compare", "--ab", "main~1", "main", "--store", folder / "runs",
        "--base-python", python, "--head-python", python,
    ]  # fmt: skip
    # A group of its own, which is what a terminal's Ctrl-C goes to.
    with subprocess.Popen(
        command, cwd=repository.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_until(began.exists)
            during = repository.worktrees()
            request.param(process)
            out, err = process.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):  # where it hangs, this test is not to
                os.killpg(process.pid, signal.SIGKILL)
    return SimpleNamespace(
        code=process.returncode, out=out, err=err, during=during, repository=repository,
        folder=folder, launch=int(began.read_text()),
    )  # fmt: skip


def test_a_stopped_gate_says_so_in_one_line(stopped):
    assert stopped.code == 130
    assert stopped.err == "Interrupted. No pair was measured.\n"


def test_a_stopped_gate_leaves_no_worktree(stopped):
    assert len(stopped.during) == 3
    assert len(stopped.repository.worktrees()) == 1
    assert list(stopped.folder.glob("sam-bench-*")) == []


def test_a_stopped_gate_leaves_no_launch_behind(stopped, is_gone):
    assert is_gone(stopped.launch)
