"""The recipes for fleets: what they type can be typed, and each machine gets a shard of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarking.choices.settings import parse_sweep, read_config
from benchmarking.cli import main
from benchmarking.options.terminal import EXIT_FAILED_CASES

FOLDER = Path(__file__).parents[1] / "examples" / "fleet"
SHELL = sorted(FOLDER.glob("*.sh"))
SCHEMAS = {  # of the services themselves, as check-jsonschema brings them
    "fleet/github-matrix.yml": "vendor.github-workflows",
    "ci/github-comment.yml": "vendor.github-workflows",
    "ci/github-facts.yml": "vendor.github-workflows",
    "ci/github-gate.yml": "vendor.github-workflows",
    "ci/gitlab-ci.yml": "vendor.gitlab-ci",
}
# A shell that runs a script up to its sam-bench, of which it prints the words.
STAND_IN = 'sam-bench() { printf "%s\\n" "$(printf "%q " "$@")"; }\nexport -f sam-bench\n'


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def typed(script, *arguments, **variables):
    """The words of each sam-bench that a script types."""
    script = script.replace('"$RUNNER_TEMP/venv/bin/sam-bench"', "sam-bench")
    script = script.replace("exec sam-bench", "sam-bench")
    done = subprocess.run(
        ["bash", "-c", STAND_IN + script, "script", *arguments], capture_output=True, text=True,
        check=True, cwd=FOLDER.parents[1], env=os.environ | variables,
    )  # fmt: skip
    return [shlex.split(line) for line in done.stdout.splitlines()]


def parsed(words):
    """The command's parameters; a mistake in them is raised."""
    command = main.commands[words[0]]
    with command.make_context(words[0], list(words[1:])) as context:
        return context.params


def slurm(task):
    script = (FOLDER / "slurm-array.sh").read_text()
    variables = {"SLURM_ARRAY_TASK_ID": task, "SLURM_SUBMIT_DIR": "/somewhere"}
    assert "--array=1-8\n" in script
    return typed(script, "L4", **variables)


def kubernetes(index):
    (job,) = [each for each in documents("kubernetes-job.yaml") if each["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return typed(container["args"][0], JOB_COMPLETION_INDEX=index)


def skypilot(shard):
    (task,) = documents("skypilot.yaml")
    return typed(task["run"], **task["envs"] | {"SHARD": shard})


def github(gpu, shard):
    (workflow,) = documents("github-matrix.yml")
    scripts = [step["run"] for step in workflow["jobs"]["shard"]["steps"] if "run" in step]
    text = scripts[-1].replace("${{ matrix.gpu }}", gpu).replace("${{ matrix.shard }}", shard)
    return typed(text)


@pytest.mark.parametrize(
    ("found", "shard"),
    [
        (slurm("3"), "3/8"),
        (kubernetes("0"), "1/8"),
        (kubernetes("7"), "8/8"),
        (skypilot("2/2"), "2/2"),
        (github("L40S", "2"), "2/2"),
    ],
    ids=["slurm", "kubernetes, first", "kubernetes, last", "skypilot", "github"],
)
def test_a_machine_measures_its_shard_of_the_sweep_one_case_at_a_time(found, shard):
    (words,) = found
    told = parsed(words)

    assert words[0] == "sweep"
    assert (told["shard"], told["parallel"]) == (shard, "1")


def test_the_ray_recipe_plans_and_then_measures_on_all_kinds():
    found = typed((FOLDER / "ray-cluster.sh").read_text(), "10.0.0.1:6379", "/mnt/runs")

    assert [words[0] for words in found] == ["plan", "sweep"]
    assert {parsed(words)["gpu"] for words in found} == {"L4,L40S,H200"}
    assert {parsed(words)["ray_address"] for words in found} == {"10.0.0.1:6379"}


def test_the_github_recipe_merges_all_shards():
    (workflow,) = documents("github-matrix.yml")
    (script,) = [
        step["run"]
        for step in workflow["jobs"]["merge"]["steps"]
        if "sam-bench" in step.get("run", "")
    ]
    merge, report = typed(script)

    assert parsed(merge)["output"] == "runs"
    assert report == ["report", "scaling.html", "runs"]


def test_the_github_recipe_runs_only_pinned_actions_with_no_rights_to_write():
    (workflow,) = documents("github-matrix.yml")
    text = (FOLDER / "github-matrix.yml").read_text()

    assert workflow["permissions"] == {"contents": "read"}
    assert len(re.findall(r"uses: \S+@[0-9a-f]{40}  # v", text)) == text.count("uses:")


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items(), ids=SCHEMAS)
def test_a_recipe_for_a_ci_is_as_its_service_wants_it(name, schema):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*command, FOLDER.parent / name], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_every_recipe_for_a_ci_is_held_against_a_schema():
    found = {path.relative_to(FOLDER.parent).as_posix() for path in FOLDER.parent.rglob("*.yml")}

    assert found == set(SCHEMAS)


def test_the_sweep_of_all_recipes_can_be_read():
    sweep, _, notes = parse_sweep(read_config(FOLDER / "sweep.toml"))

    assert sweep.batch_size == (1, 2, 4, 8, 16, 32)
    assert notes == []


def test_kubernetes_measures_the_same_sweep_as_the_others():
    (settings,) = [each for each in documents("kubernetes-job.yaml") if each["kind"] == "ConfigMap"]
    own = settings["data"]["sweep.toml"].strip().splitlines()

    assert own == (FOLDER / "sweep.toml").read_text().strip().splitlines()[1:]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_script_without_its_argument_says_what_it_lacks(path):
    done = subprocess.run(["bash", str(path)], capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "name " in done.stderr


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_script_can_be_started(path):
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize(
    ("answer", "code"),
    [(0, 0), (5, 0), (2, 2), (130, 130), (1, 1)],
    ids=["well", "some cases failed", "refused", "stopped", "a defect"],
)
def test_skypilot_starts_no_shard_again_whose_cases_failed(answer, code):
    (task,) = documents("skypilot.yaml")
    done = subprocess.run(
        ["bash", "-c", f"sam-bench() {{ return {answer}; }}\n{task['run']}"],
        env=os.environ | task["envs"], check=False,
    )  # fmt: skip

    assert done.returncode == code


@pytest.mark.parametrize("name", ["kubernetes-job.yaml", "skypilot.yaml"])
def test_a_recipe_whose_machines_are_replaced_takes_over_their_locks(name):
    assert "--take-over" in (FOLDER / name).read_text().split("sam-bench sweep")[1]


def test_kubernetes_tries_a_shard_whose_cases_failed_no_second_time():
    (job,) = [each for each in documents("kubernetes-job.yaml") if each["kind"] == "Job"]
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]

    assert rule["action"] == "FailIndex"
    assert rule["onExitCodes"]["values"] == [EXIT_FAILED_CASES]


def test_what_kubernetes_starts_hears_of_its_end():
    """A shell that stays would be told in its place."""
    (job,) = [each for each in documents("kubernetes-job.yaml") if each["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]

    assert container["args"][0].startswith("exec sam-bench ")
