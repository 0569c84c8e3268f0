"""What the command line is tested with: calls of it in this process, and in its own for true."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarking.cli import main
from benchmarking.machine import doctor
from benchmarking.machine import environment as environment_file
from benchmarking.sweeping import case_runner
from results.records.store import Store

SAM_BENCH = Path(sys.executable).with_name("sam-bench")
# Long enough for Ctrl-C to come between the first case's end and the second's.
UNHURRIED = (
    "sweep -m tiny -s 64 -b 1,2,4 --input noise --warmup-s 0 --warmup-cap-s 0.5 --min-timed-s 1 "
    "--max-timed-s 1.5 --min-forwards 6 --module-forwards 3"
)


@pytest.fixture
def invoke(tmp_path, monkeypatch, here):
    """Call the command in tmp_path, without looking at the machine again."""
    monkeypatch.chdir(tmp_path)
    for module in (environment_file, doctor):
        monkeypatch.setattr(module, "probe_environment", lambda: here)
    answer = {"own_s": 0.001, "referee_s": 0.001, "ratio": 1.0, "limit": 0.1, "rounds": 10}
    monkeypatch.setattr(doctor, "ask_referee", lambda device: answer)

    on_ctrl_c = signal.getsignal(signal.SIGINT)

    def call(line, *more):
        result = CliRunner().invoke(main, [*shlex.split(line), *map(str, more)])
        signal.signal(signal.SIGINT, on_ctrl_c)  # which a command that ends ignores
        return result

    return call


@pytest.fixture
def launcher(monkeypatch, scripted_launcher, make_record):
    """Let sweeps be run by a scripted launcher; its `script` can be changed."""
    scripted = scripted_launcher(measurement=make_record().measurement)
    monkeypatch.setattr(case_runner, "LocalCaseRunner", lambda: scripted)
    return scripted


@pytest.fixture
def counted(monkeypatch):
    """What the counting process would say of tiny, which takes it seconds; a test may change it."""
    facts = {
        "parameters": 1, "weights_bytes": 4, "flops": 2, "least_flops": 2, "output_shape": [1, 2],
        "operations": {"aten.linear.default": 1}, "graph_breaks": 0, "output": [0.5],
    }  # fmt: skip
    told = {"tiny": {"reference 128px fp32": facts}}
    monkeypatch.setattr(environment_file, "ask", lambda *words, **options: json.dumps(told))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return facts


@pytest.fixture
def expected(invoke, counted):
    """What was counted is what is expected."""
    assert invoke("check -m tiny -s 128 -b 1 --update-expected").exit_code == 0


@pytest.fixture(scope="session")
def mistake():
    """Check that a call ended with exit code 2 and one line; give that line."""

    def line(result):
        code = result.exit_code if hasattr(result, "exit_code") else result.returncode
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert code == 2, (result.stdout, result.stderr)
        assert len(errors) == 1
        assert result.stderr.splitlines()[-1] == errors[0]
        assert "Traceback" not in result.stderr
        assert result.stdout == ""
        return errors[0]

    return line


@pytest.fixture(scope="session")
def run_process():
    """Run `sam-bench` for true."""

    def run(*arguments, cwd=None, **changes):
        return subprocess.run(
            [SAM_BENCH, *arguments],
            cwd=cwd, env={**os.environ, **changes}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def true_sweep(tmp_path_factory, secret):
    """A sweep of three cases for true: stopped by Ctrl-C after the first, then run again."""
    folder = tmp_path_factory.mktemp("sweep")
    command = [SAM_BENCH, *UNHURRIED.split()]
    options = {
        "cwd": folder, "env": {**os.environ, "OMP_NUM_THREADS": "1", "SECRET_TOKEN": secret},
        "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
    }  # fmt: skip
    with subprocess.Popen(command, **options) as process:
        next(line for line in process.stdout if line.startswith("[1/3]"))
        process.send_signal(signal.SIGINT)
        stopped = subprocess.CompletedProcess(command, 0, *process.communicate())
    stopped.returncode = process.returncode
    after = {each.case.batch_size: each.status for each in Store(folder / "runs").read().records}
    finished = subprocess.run(command, check=False, **options)
    return SimpleNamespace(
        command=UNHURRIED, folder=folder, store=folder / "runs", stopped=stopped, after=after,
        finished=finished,
    )  # fmt: skip
