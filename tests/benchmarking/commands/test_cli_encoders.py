"""Sweeps of an encoder that is not ours, run for true."""

from __future__ import annotations

import pytest

from results.records.case import OWN
from results.records.store import Store

# An encoder of two layers, as a person writes one.
OWN_FILE = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.Conv2d(8, 4, 1))
"""


@pytest.fixture
def write(tmp_path):
    """Write a module of this text in tmp_path; give the path of its function `make`."""

    def module(text):
        (tmp_path / "own_encoder.py").write_text(text)
        return "own_encoder:make"

    return module


def test_an_encoder_is_measured_from_the_command_line(run_process, tmp_path, write):
    path = write(OWN_FILE)
    done = run_process(
        "sweep", "--encoder", path, "-b", "1", "-s", "50", "--input", "noise", "--quick",
        "--passes", "latency,flops", "--store", "own_runs", cwd=tmp_path, OMP_NUM_THREADS="1",
    )  # fmt: skip
    (record,) = Store(tmp_path / "own_runs").read().records

    assert done.returncode == 0, done.stderr
    assert (record.status, record.case.model, record.case.weights) == ("ok", path, OWN)


def test_a_bad_encoder_ends_a_sweep_with_one_line(run_process, tmp_path, write):
    path = write("def other(): ...")
    done = run_process("sweep", "--encoder", path, "-b", "1", "--input", "noise", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr == (
        f"Error: --encoder {path}: {path.removesuffix(':make')} has no function 'make'; it has: "
        "other.\n"
    )
