"""Describing the machine: what is found, what is missing with its reason, and no secret."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pynvml
import pytest
import torch

from benchmarking.machine import environment
from benchmarking.machine.environment import (
    ProbeError,
    ask,
    describe_gpus,
    git_state,
    nvml_driver,
    probe_environment,
    source_sha256,
)

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")


@pytest.fixture
def answer_with(monkeypatch):
    """Let the probe's process do something else."""
    monkeypatch.delenv("PYTHONSTARTUP", raising=False)
    true = subprocess.run

    def install(script):
        def run(command, **options):
            return true([sys.executable, "-I", "-c", script], **options)

        monkeypatch.setattr(environment.subprocess, "run", run)

    return install


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git repository in which this code would lie."""
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "environment.py"
    path.write_text("first\n")

    def git(*arguments):
        return subprocess.run(
            [*GIT, "-C", tmp_path, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "--quiet")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "__file__", str(path))
    return git


def test_the_probe_tells_the_versions_that_run_here(here):
    assert here.torch == torch.__version__
    assert here.python == ".".join(map(str, sys.version_info[:3]))
    assert here.sam_bench == importlib.metadata.version("sam-encoder-bench")


def test_the_probe_tells_the_machine(here):
    assert here.cores >= 1
    assert here.memory_bytes > 2**20
    assert here.cpu
    assert here.hostname


def test_the_probe_lists_the_gpus_or_says_that_there_are_none(here):
    assert len(here.gpus) == torch.cuda.device_count()
    assert bool(here.gpus) != ("torch sees no CUDA GPU" in here.notes)


def test_no_environment_variable_is_in_the_record_but_cudas(here, secret):
    text = here.model_dump_json()

    assert secret not in text
    assert "SECRET_TOKEN" not in text


def test_the_probe_tells_the_code_that_measures(here, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / "sam").mkdir()
    (tmp_path / "sam" / "model.py").write_text("first")
    first = source_sha256()
    (tmp_path / "sam" / "model.py").write_text("second")

    assert len({here.source_sha256, first, source_sha256()}) == 3


def test_the_commit_of_a_checkout_is_recorded(checkout):
    checkout("add", "environment.py")
    checkout("commit", "--quiet", "-m", "first")

    assert git_state() == (checkout("rev-parse", "HEAD"), False)


def test_uncommitted_changes_are_recorded(checkout, tmp_path):
    checkout("add", "environment.py")
    checkout("commit", "--quiet", "-m", "first")
    (tmp_path / "environment.py").write_text("second\n")

    assert git_state()[1] is True


def test_a_new_file_beside_the_code_is_no_change_of_it(checkout, tmp_path):
    checkout("add", "environment.py")
    checkout("commit", "--quiet", "-m", "first")
    (tmp_path / "notes.txt").write_text("mine\n")

    assert git_state()[1] is False


def test_a_checkout_without_a_commit_has_none(checkout):
    assert git_state() == (None, None)


def test_the_commit_of_a_checkout_that_is_not_ours_is_not_recorded(checkout, tmp_path):
    (tmp_path / "other.py").write_text("other\n")
    checkout("add", "other.py")
    checkout("commit", "--quiet", "-m", "other")

    assert git_state() == (None, None)


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    assert git_state() == (None, None)


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs, of which torch can compute on the second."""

    def ones(size, device):
        if device == "cuda:0":
            raise RuntimeError("CUDA error: no kernel image is available\nCompile with ...")
        return torch.Tensor(size)

    properties = SimpleNamespace(name="a GPU", total_memory=2**34, major=8, minor=9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch, "ones", ones)


def test_a_gpu_that_torch_can_not_compute_on_is_left_out_with_its_reason(two_gpus):
    gpus, notes = describe_gpus()

    assert [(gpu.index, gpu.compute_capability) for gpu in gpus] == [(1, "8.9")]
    assert notes == ["cuda:0 a GPU does not compute: CUDA error: no kernel image is available"]


def test_what_torch_warns_of_while_it_looks_for_gpus_is_a_note(monkeypatch):
    def warn():
        warnings.warn("The NVIDIA driver is\ntoo old.", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", warn)

    assert describe_gpus() == ([], ["The NVIDIA driver is too old.", "torch sees no CUDA GPU"])


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlSystemGetDriverVersion", "nvmlShutdown"])
def test_nvml_that_fails_in_any_call_is_a_note_and_no_error(monkeypatch, call):
    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    for name in ("nvmlInit", "nvmlSystemGetDriverVersion", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, fail if name == call else lambda: "580.1")

    assert nvml_driver() == (None, "NVML does not answer: Unknown Error")


@pytest.mark.parametrize("version", ["580.1", b"580.1"])
def test_the_drivers_version_is_nvmls(monkeypatch, version):
    for name in ("nvmlInit", "nvmlSystemGetDriverVersion", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: version)

    assert nvml_driver() == ("580.1", None)


def test_a_torch_that_can_not_be_loaded_is_told_in_one_line(answer_with):
    answer_with("raise ImportError('libcudart.so.13: cannot open shared object file')")
    with pytest.raises(
        ProbeError, match=r"^This machine can't be described \(ImportError: libcud[^\n]*$"
    ):
        probe_environment()


def test_a_probe_that_dies_without_a_word_is_told_in_one_line(answer_with):
    answer_with("import os; os._exit(1)")
    with pytest.raises(ProbeError, match=r"^This machine can't be described \(no message\)[^\n]*$"):
        probe_environment()


@pytest.mark.parametrize("script", ["", "print()", "print('{}'); raise SystemExit(1)"])
def test_a_probe_that_fails_or_says_nothing_is_told_what_to_type(answer_with, script):
    answer_with(script)
    with pytest.raises(ProbeError) as caught:
        probe_environment()

    assert str(caught.value) == (
        "This machine can't be described (no message): see what this prints: python -m "
        "benchmarking.machine.environment. If it is torch that can't be loaded, install it again "
        "with pip."
    )


@pytest.mark.parametrize("script", ["print('hello')", "print('{}')"])
def test_a_probe_that_answers_something_else_is_told_in_one_line(answer_with, script):
    answer_with(script)
    with pytest.raises(ProbeError, match=r"^The probe of this machine[^\n]*$"):
        probe_environment()


def test_a_probe_that_hangs_is_told_in_one_line(answer_with, monkeypatch):
    monkeypatch.setattr(environment, "PROBE_TIMEOUT_S", 0.2)
    answer_with("import time; time.sleep(600)")
    with pytest.raises(
        ProbeError, match=r"^This machine can't be described: it took more than 0 s\.$"
    ):
        probe_environment()


def test_what_a_library_prints_before_the_answer_is_passed_over(answer_with, here):
    answer_with(f"print('hello'); print({here.model_dump_json()!r})")

    assert probe_environment() == here


# Asking one of our modules


def test_a_module_is_asked_with_its_arguments_and_answers_in_its_last_line(answer_with):
    answer_with("print('first'); print('second')")

    assert ask("benchmarking.nothing", "cpu", task="Nothing") == "second"


def test_a_module_that_fails_is_told_as_a_person_would_type_it(answer_with):
    answer_with("raise SystemExit(1)")
    with pytest.raises(ProbeError, match=r": python -m benchmarking\.nothing 'two words'\. If"):
        ask("benchmarking.nothing", "two words", task="Nothing")


def test_a_module_that_is_not_there_is_told_in_one_line():
    with pytest.raises(
        ProbeError, match=r"^Nothing \([^\n]*No module named benchmarking\.nothing\)[^\n]*$"
    ):
        ask("benchmarking.nothing", task="Nothing")
