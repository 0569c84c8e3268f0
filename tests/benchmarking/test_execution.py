"""Ways to run a forward: each computes the same, and a compiled one is compiled throughout."""

from __future__ import annotations

import shutil
import sysconfig
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from benchmarking.execution import EXECUTIONS, prepare_compiled
from sam.attention import ATTENTION
from sam.build import build_sam_model


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Nothing compiled yet; torch's settings are restored."""
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=torch._dynamo.config.recompile_limit):
        yield
    torch._dynamo.reset()


@pytest.fixture
def captured_only(monkeypatch):
    """torch.compile without its code generation, which takes most of its time."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def can_build() -> bool:
    """Whether a C++ compiler and Python's header are there, which torch.compile needs on a CPU."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    return shutil.which("g++") is not None and header.exists()


@pytest.mark.skipif(not can_build(), reason="torch.compile on a CPU needs g++ and Python.h")
@pytest.mark.parametrize("name", EXECUTIONS)
def test_an_execution_computes_what_eager_does(name):
    encoder = build_sam_model("tiny", image_size=64).image_encoder
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected, output = encoder(images), EXECUTIONS[name].prepare(encoder)(images)

    assert (output - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_encoder_compiles_in_one_piece(captured_only, attention):
    encoder = build_sam_model("tiny", image_size=64, attention=attention).image_encoder
    with torch.inference_mode():
        prepare_compiled(encoder)(torch.randn(1, 3, 64, 64))

    assert counters["stats"]["unique_graphs"] == 1


def test_each_of_many_batch_sizes_is_compiled(captured_only):
    forward = prepare_compiled(nn.Linear(4, 4))
    sizes = range(1, 21)  # torch gives up after 8, and runs the rest eagerly, unless told not to
    with torch.inference_mode():
        for size in sizes:
            forward(torch.randn(size, 4))

    assert counters["stats"]["unique_graphs"] == len(sizes)


def test_what_can_not_be_compiled_whole_is_an_error(captured_only):
    class Printing(nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x + 1

    with pytest.raises(torch._dynamo.exc.Unsupported):
        prepare_compiled(Printing())(torch.ones(1))


@pytest.mark.parametrize("name", EXECUTIONS)
def test_a_module_that_runs_as_it_is_can_be_hooked(name):
    module = nn.Linear(4, 4)
    runs_as_it_is = EXECUTIONS[name].prepare(module) is module

    assert runs_as_it_is == (EXECUTIONS[name].hides_modules is None)
