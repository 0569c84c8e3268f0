"""The kernel's own limits, and that it compiles for the GPUs that nobody has at hand here.

Its values are tested beside the other variants', by Triton's interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sam.attention.attend import AttentionInputs
from sam.attention.triton_kernel import attend, split_channels

# Capability (80: A100, 89: L4 and L40S, 90: H100 and H200), channels of a head, and side: all on
# the one with the least shared memory. Side 14 is a window; 16, 32, 64 and 128 are the grids of
# images of 256, 512, 1024 and 2048 pixels.
KERNELS = (
    *((89, head_dim, side) for head_dim in (64, 80) for side in (14, 16, 32, 64, 128)),
    *((capability, *kernel) for capability in (80, 90) for kernel in ((64, 14), (80, 64))),
)
COMPILE = """
import json, sys
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sam.attention import triton_kernel as ours

names = ours.attention_kernel.arg_names
for capability, head_dim, side in json.loads(sys.argv[1]):
    main, rest = ours.split_channels(head_dim)
    chosen = ours.constants(side, 16, head_dim, torch.bfloat16)
    chosen |= {"MAIN": main, "REST": rest, "IS_PADDED": side == 14}
    signature = {name: "i32" for name in names} | dict.fromkeys(names[:5], "*bf16")
    signature |= dict.fromkeys(chosen, "constexpr")
    constants = {(names.index(name),): value for name, value in chosen.items()}
    compiled = triton.compile(
        ASTSource(ours.attention_kernel, signature, constexprs=constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": ours.TILE.warps, "num_stages": ours.TILE.stages},
    )
    print(capability, head_dim, side, len(compiled.asm["cubin"]), compiled.metadata.shared)
"""
SHARED_BYTES = 99 * 1024  # what a block may take of an L4, the least of these GPUs


@pytest.fixture(scope="module")
def compiled():
    """Bytes of the machine code, and of shared memory, by capability, head dim and side.

    In a process of its own, since in this one kernels are interpreted.
    """
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_DEFAULT_FP_FUSION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, json.dumps(KERNELS)],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    return {row[:3]: row[3:] for row in rows}


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_the_kernel_compiles_for_gpus_of_each_kind(compiled, kernel):
    code_bytes, shared_bytes = compiled[kernel]

    assert code_bytes > 0
    assert shared_bytes <= SHARED_BYTES


@pytest.mark.parametrize(
    ("head_dim", "parts"), [(16, (16, 0)), (64, (64, 0)), (80, (64, 16)), (96, (64, 32))]
)
def test_a_heads_channels_are_cut_into_powers_of_two(head_dim, parts):
    assert split_channels(head_dim) == parts


@pytest.mark.parametrize("head_dim", [1, 8, 24, 72, 88, 120])
def test_other_channels_are_refused_with_what_to_take_instead(head_dim):
    with pytest.raises(ValueError, match=rf"got {head_dim}\. Take 'fold' or 'sdpa'\.$"):
        split_channels(head_dim)


def test_the_operation_is_counted_on_the_meta_device():
    qkv = torch.empty(2, 16, 16, 3 * 128, device="meta")
    table = torch.empty(27, 64, device="meta")
    with FlopCounterMode(display=False) as counter:
        attended = attend(AttentionInputs(qkv, qkv[0, 0, 0], table, table, heads=2, side=14))

    assert attended.shape == (2, 16, 16, 128)
    assert counter.get_total_flops() == 4 * 2 * (4 * 196) * (196 + 14) * 128


def test_the_operation_is_what_torch_takes_for_one():
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(1, 5, 5, 3 * 32, generator=generator)
    table = torch.randn(7, 16, generator=generator)

    torch.library.opcheck(
        torch.ops.sam_bench.windowed_attention,
        (qkv, qkv[0, 0, 0].clone(), table, table.clone(), 2, 4),
    )


def test_a_gradient_is_refused_rather_than_lost():
    qkv = torch.randn(1, 4, 4, 3 * 16, requires_grad=True)
    table = torch.randn(7, 16)
    attended = attend(AttentionInputs(qkv, torch.zeros(48), table, table, heads=1, side=4))

    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        attended.sum().backward()


def test_on_a_cpu_the_kernel_is_refused(monkeypatch):
    import triton

    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    qkv, table = torch.zeros(1, 4, 4, 48), torch.zeros(7, 16)

    with pytest.raises(ValueError, match="'triton' needs a CUDA GPU"):
        attend(AttentionInputs(qkv, qkv[0, 0, 0], table, table, heads=1, side=4))
