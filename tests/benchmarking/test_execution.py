"""Ways to run a forward: each computes the same, and a compiled one is compiled throughout."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
import tempfile
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from benchmarking.choices import execution
from benchmarking.choices.execution import (
    EXECUTIONS,
    compiled_regions,
    prepare_compiled,
    prepare_onnxruntime,
    prepare_regional,
)
from benchmarking.choices.precision import PRECISIONS
from benchmarking.choices.sweep import unsupported_reason
from sam.attention.variants import ATTENTION
from sam.families import MODELS
from sam.sam1.build import allocate_sam, fill_random
from sam.sam1.family import SAM1
from sam.sam1.registry import build_sam_model

# What each execution of the whole encoder asks of torch.compile, and those that replay graphs.
MODES = {"compile": None, "cudagraphs": "reduce-overhead", "max-autotune": "max-autotune"}
GRAPHED = ("cudagraphs", "max-autotune")
SMALL = replace(MODELS["tiny"].config, depth=2, global_blocks=(1,))  # one block of each kind


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


def distance(encoder, forward, batch_size=2):
    """How far a forward's embeddings are from the encoder's own."""
    images = torch.randn(batch_size, 3, 64, 64)
    with torch.inference_mode():
        expected, found = encoder(images), forward(images)
    return float((found - expected).norm() / expected.norm())


def build_encoder(attention="reference"):
    model = allocate_sam(SMALL, 64, attention)
    fill_random(model, seed=0)
    return model.image_encoder


@pytest.fixture(scope="module")
def encoder():
    return build_encoder()


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    """The encoder by onnxruntime, exported once: its forward, the module that was given, and what
    was seen meanwhile and afterwards.
    """
    folder, own, threads, during = tmp_path_factory.mktemp("exported"), deepcopy(encoder), [], []
    session = onnxruntime.InferenceSession

    def spying(path, options, **others):
        threads.append(options.intra_op_num_threads)
        during.append((list(folder.iterdir()), [path.parent]))
        return session(path, options, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", spying)
        patch.setattr(tempfile, "tempdir", str(folder))
        forward = EXECUTIONS["onnxruntime"].prepare(own, SAM1)
    return SimpleNamespace(
        forward=forward, own=own, threads=threads, during=during, left=list(folder.iterdir())
    )


@pytest.fixture
def prepare(encoder, exported):
    """Function of an execution's name: what it makes of an encoder, and the encoder."""

    def made(name):
        if name == "onnxruntime":
            return exported.forward, exported.own
        own = deepcopy(encoder)
        return EXECUTIONS[name].prepare(own, SAM1), own

    return made


@pytest.mark.parametrize("name", EXECUTIONS)
def test_an_execution_computes_what_eager_does(encoder, prepare, name):
    if name not in ("eager", "onnxruntime") and not can_build():
        pytest.skip("torch.compile on a CPU needs g++ and Python.h")

    assert distance(encoder, prepare(name)[0]) <= 1e-4


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_encoder_compiles_in_one_piece(captured_only, attention):
    encoder = build_encoder(attention)
    with torch.inference_mode():
        prepare_compiled(encoder, SAM1)(torch.randn(1, 3, 64, 64))

    assert counters["stats"]["unique_graphs"] == 1


def test_each_of_many_batch_sizes_is_compiled(captured_only):
    forward = prepare_compiled(nn.Linear(4, 4), SAM1)
    sizes = range(1, 21)  # torch gives up after 8, and runs the rest eagerly, unless told not to
    with torch.inference_mode():
        for size in sizes:
            forward(torch.randn(size, 4))

    assert counters["stats"]["unique_graphs"] == len(sizes)


@pytest.mark.parametrize("attention", ["reference", "fold+tiled", "triton"])
def test_each_kind_of_block_is_compiled_once(captured_only, attention):
    encoder = build_sam_model("tiny", image_size=64, attention=attention).image_encoder
    with torch.inference_mode():
        prepare_regional(encoder, SAM1)(torch.randn(1, 3, 64, 64))

    assert counters["stats"]["unique_graphs"] == 4  # patches, windows, the whole grid, the neck


def test_blocks_that_are_compiled_call_their_hooks(captured_only):
    encoder = build_sam_model("tiny", image_size=64).image_encoder
    forward = prepare_regional(encoder, SAM1)
    called = []
    for name, block in encoder.blocks.named_children():
        block.register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.inference_mode():
        forward(torch.randn(1, 3, 64, 64))

    assert called == ["0", "1", "2", "3"]


def test_an_encoder_without_known_modules_is_compiled_by_its_children(captured_only):
    encoder = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.inference_mode():
        prepare_regional(encoder, SAM1)(torch.ones(1, 4))

    assert list(compiled_regions(encoder, SAM1)) == ["0", "1"]
    assert counters["stats"]["unique_graphs"] >= 1


def test_what_can_not_be_compiled_whole_is_an_error(captured_only):
    class Printing(nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x + 1

    with pytest.raises(torch._dynamo.exc.Unsupported):
        prepare_compiled(Printing(), SAM1)(torch.ones(1))


@pytest.mark.parametrize("name", EXECUTIONS)
def test_a_module_that_runs_as_it_is_can_be_hooked(prepare, name):
    forward, own = prepare(name)

    assert (forward is own) == (EXECUTIONS[name].hides_modules is None)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "name", [name for name in EXECUTIONS if name not in ("onnxruntime", "cudagraphs")]
)
def test_what_torch_runs_it_runs_everywhere(name, device):
    assert EXECUTIONS[name].why_unsupported(device, "bf16") is None


# Modes of torch.compile


@pytest.fixture
def asked(monkeypatch):
    """What torch.compile was asked for; each call's output is the same memory, as in a graph."""
    found = []

    def compiled(module, **options):
        found.append(options)
        memory = torch.zeros(2, 3)

        def forward(images):
            found.append(memory)
            return memory.copy_(module(images))

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    return found


@pytest.mark.parametrize(("name", "mode"), MODES.items())
def test_each_mode_is_asked_of_torch_for_the_whole_encoder_at_one_shape(asked, name, mode):
    EXECUTIONS[name].prepare(nn.Identity(), SAM1)

    assert asked == [{"mode": mode, "fullgraph": True, "dynamic": False}]


@pytest.mark.parametrize("name", GRAPHED)
def test_an_output_is_kept_when_a_graph_writes_the_next_into_the_same_memory(asked, name):
    forward = EXECUTIONS[name].prepare(nn.Identity(), SAM1)
    first, second = (forward(torch.full((2, 3), value)) for value in (1.0, 2.0))
    memory = asked[-1]

    assert torch.equal(first, torch.ones(2, 3))
    assert memory.data_ptr() not in (first.data_ptr(), second.data_ptr())


@pytest.mark.parametrize("name", GRAPHED)
def test_a_copy_of_a_compiled_encoders_output_is_what_it_computes(captured_only, encoder, name):
    assert distance(encoder, EXECUTIONS[name].prepare(deepcopy(encoder), SAM1)) == 0


@pytest.mark.parametrize("name", GRAPHED)
def test_a_graphs_memory_is_not_told(name):
    assert EXECUTIONS[name].hides_memory("cpu") is None
    assert "CUDA graph's memory" in EXECUTIONS[name].hides_memory("cuda")


def test_cudagraphs_are_refused_on_a_cpu_with_the_reason(make_case, environment):
    reason = unsupported_reason(make_case(execution="cudagraphs"), environment)

    assert reason == "cudagraphs needs a CUDA GPU: a CPU has no launches to save"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_cudagraphs_are_run_on_a_gpu_in_every_precision(precision):
    assert EXECUTIONS["cudagraphs"].why_unsupported("cuda", precision) is None


# onnxruntime


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_onnxruntime_runs_any_batch(encoder, exported, batch_size):
    assert distance(encoder, exported.forward, batch_size) <= 1e-4


@pytest.mark.parametrize("attention", ["sdpa", "fold+tiled"])
def test_onnxruntime_runs_every_attention(attention):
    encoder = build_encoder(attention)

    assert distance(encoder, prepare_onnxruntime(encoder, SAM1)) <= 1e-4


def test_embeddings_by_onnxruntime_are_not_those_of_the_call_before(exported):
    first, second = (exported.forward(torch.full((1, 3, 64, 64), value)) for value in (0.0, 1.0))

    assert not torch.equal(first, second)


def test_onnxruntime_leaves_no_file_and_has_as_many_threads_as_torch(encoder, exported):
    ((found, expected),) = exported.during

    assert found == expected
    assert exported.left == []
    assert exported.threads == [torch.get_num_threads()]
    assert distance(encoder, exported.forward) <= 1e-4


def test_onnxruntime_is_run_on_a_cpu_in_fp32():
    assert EXECUTIONS["onnxruntime"].why_unsupported("cpu", "fp32") is None


@pytest.mark.parametrize(
    ("device", "precision"), [("cuda", "fp32"), ("cpu", "bf16"), ("cpu", "fp16"), ("cuda", "tf32")]
)
def test_onnxruntime_says_what_it_is_not_run_in(device, precision):
    assert EXECUTIONS["onnxruntime"].why_unsupported(device, precision) == (
        f"onnxruntime is run in fp32 on a CPU alone, not in {precision} on {device}"
    )


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_package_that_onnxruntime_lacks_comes_with_how_to_get_it(monkeypatch, missing):
    monkeypatch.setattr(
        execution,
        "find_spec",
        lambda name: None if name == missing else importlib.util.find_spec(name),
    )

    assert (
        EXECUTIONS["onnxruntime"]
        .why_unsupported("cpu", "fp32")
        .endswith("pip install 'sam-encoder-bench[onnx]'")
    )
