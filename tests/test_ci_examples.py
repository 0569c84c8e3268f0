"""The examples for CI: what they type can be typed, and they have no more rights than they need."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from benchmarking.cli import main

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "ci"
FILES = sorted(FOLDER.glob("*.yml"))
GITHUB = [path for path in FILES if path.name.startswith("github")]
PINNED = re.compile(r"actions/[a-z-]+@[0-9a-f]{40}  # v[0-9]+\.[0-9]+\.[0-9]+")


def jobs(path):
    return yaml.safe_load(path.read_text())["jobs"]


def steps(path):
    return [step for job in jobs(path).values() for step in job["steps"]]


def scripts(path):
    """The shell lines of a file."""
    if path in GITHUB:
        return [step["run"] for step in steps(path) if "run" in step]
    content = yaml.safe_load(path.read_text())
    return [line for job in content.values() if isinstance(job, dict) for line in job["script"]]


def typed(path):
    """The words of each sam-bench command in a file, or in blocks of a page."""
    if path.suffix == ".md":
        blocks = re.findall(r"```sh\n(.*?)```", path.read_text(), flags=re.DOTALL)
        texts = [block.strip() for block in blocks]
    else:
        texts = scripts(path)
    found = []
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            if 'sam-bench" ' in line or "sam-bench " in line:
                words = shlex.split(line.split(" || ")[0])
                start = next(i for i, word in enumerate(words) if word.endswith("sam-bench"))
                found.append(words[start + 1 :])
    return found


TYPED = [(path.name, words) for path in (*FILES, FOLDER / "ACCEPT.md") for words in typed(path)]


def test_there_is_a_gate_for_both_hosts_with_and_without_a_gpu():
    commands = {(name.split("-")[0].split(".")[0], words[0]) for name, words in TYPED}

    assert {(host, each) for host in ("github", "gitlab") for each in ("check", "compare")} <= (
        commands
    )


@pytest.mark.parametrize(("name", "words"), TYPED, ids=lambda each: str(each)[:40])
def test_what_is_typed_can_be_typed(name, words):
    command = main
    while words and words[0] in getattr(command, "commands", ()):
        command, words = command.commands[words[0]], words[1:]
    with command.make_context(name, list(words)) as context:
        assert context.params


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_whose_version_stands_beside(path):
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]

    assert lines
    assert [line for line in lines if not PINNED.search(line)] == []


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_a_workflow_says_what_it_may_do(path):
    content = yaml.safe_load(path.read_text())

    assert content["permissions"] in ({"contents": "read"}, {})
    assert "pull_request_target" not in path.read_text()


def test_what_runs_a_change_may_write_nothing():
    for path in GITHUB:
        runs_code = any("checkout" in step.get("uses", "") for step in steps(path))
        may_write = [job for job in jobs(path).values() if "write" in str(job.get("permissions"))]

        assert not (runs_code and may_write), path.name


def test_what_may_write_checks_out_nothing_and_runs_no_shell():
    (path,) = (path for path in GITHUB if "comment" in path.name)

    assert [step for step in steps(path) if "run" in step or "checkout" in step["uses"]] == []


def test_no_text_of_a_pull_request_stands_in_a_script():
    for path in GITHUB:
        assert [script for script in scripts(path) if "${{" in script] == [], path.name


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_every_job_ends_by_itself(path):
    assert all(0 < job["timeout-minutes"] <= 120 for job in jobs(path).values())
