"""Records as a sweep would make them: each fixture gives a maker that takes changes."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from results.schema import (
    AXES,
    Case,
    Environment,
    Gpu,
    Latency,
    Measurement,
    Memory,
    ModuleTiming,
    Output,
    Record,
    SweepFile,
    TimingPlan,
    Work,
)
from results.store import Store, to_json

SWEEP_ID = "20250102-030405-abcdef"


@pytest.fixture
def make_case():
    def make(**changes) -> Case:
        fields = {
            "model": "vit_b",
            "batch_size": 4,
            "image_size": 1024,
            "precision": "bf16",
            "attention": "reference",
            "execution": "eager",
            "device": "cuda:0",
            "input": "images",
            "weights": "random",
        }
        return Case(**fields | changes)

    return make


@pytest.fixture
def make_latency():
    def make(**changes) -> Latency:
        fields = {
            "forward_s": (0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25),
            "chunk_forwards": (4, 3),
            "chunk_wall_s": (1.5, 0.75),
            "chunk_launch_s": (0.25, 0.25),
            "stop_reason": "converged",
            "first_forward_s": 3.5,
            "warmup_s": 2.25,
            "warmup_forwards": 8,
        }
        return Latency(**fields | changes)

    return make


@pytest.fixture
def make_measurement(make_latency):
    def make(**changes) -> Measurement:
        fields = {
            "latency": make_latency(),
            "components_s": {"preprocess": (0.1, 0.1, 0.3), "image_encoder": (0.3, 0.3, 0.3)},
            "modules": {
                "image_encoder": ModuleTiming(
                    total_s=(1.0, 1.0), self_s=(0.125, 0.125), kind="encoder"
                ),
                "blocks.0": ModuleTiming(
                    total_s=(0.625, 0.625), self_s=(0.625, 0.625), kind="window",
                    work=Work(
                        flops=5_000_000_000, least_flops=4_000_000_000, least_bytes=10**7,
                        moved_bytes=10**8,
                    ),
                    peak_bytes=3000, rise_bytes=1000,
                ),
                "neck": ModuleTiming(total_s=(0.25, 0.25), self_s=(0.25, 0.25), kind="neck"),
            },
            "memory": Memory(
                source="torch's CUDA allocator", weights_bytes=360, peak_bytes=5000,
                rise_bytes=4000, reserved_bytes=6000, device_used_bytes=9000, alloc_retries=0,
            ),
            "work": Work(
                flops=4 * 740_000_000_000, least_flops=4 * 700_000_000_000, least_bytes=10**9,
                moved_bytes=10**10,
            ),
            "parameters": 89_670_912,
            "output": Output(
                shape=(4, 256, 64, 64), dtype="bfloat16", finite=True, sha256="ab" * 32
            ),
            "weights": "random, seed 0",
            "input_source": "4 photographs",
            "notes": {"components": "naïve | <b>`note`</b>"},
            "flags": {"matmul_allow_tf32": False, "threads": 2, "float32_matmul_precision": "high"},
        }  # fmt: skip
        return Measurement(**fields | changes)

    return make


@pytest.fixture
def environment():
    gpus = tuple(
        Gpu(index=i, name=name, uuid=f"GPU-{i}", memory_bytes=24 * 2**30, compute_capability="8.9")
        for i, name in enumerate(("NVIDIA L4", "NVIDIA L40S"))
    )
    return Environment(
        hostname="host", os="Linux", cpu="a CPU", cores=8, memory_bytes=2**34, gpus=gpus,
        driver="570.1", cuda="12.8", cudnn="91002", torch="2.15.0", torchvision="0.29.2",
        python="3.11.9", sam_bench="0.1.0", git_commit="0" * 40, git_dirty=False,
        source_sha256="0" * 64,
        cuda_visible_devices="0,1", notes=("no NVML",),
    )  # fmt: skip


@pytest.fixture
def make_record(make_case, make_measurement, environment):
    """Maker of records; names of axes change the case, the others the record."""

    def make(**changes) -> Record:
        case = make_case(**{axis: changes.pop(axis) for axis in AXES if axis in changes})
        fields = {
            "sweep_id": SWEEP_ID,
            "case_id": case.case_id,
            "case": case,
            "plan": TimingPlan(),
            "status": "ok",
            "measurement": make_measurement(),
            "environment": environment,
            "command": "sam-bench run --batch-size 4",
            "started_at": "2025-01-02T03:04:05Z",
            "wall_s": 12.5,
        }
        return Record(**fields | changes)

    return make


@pytest.fixture
def timed(make_record, make_measurement, make_latency):
    """Maker of records of forwards that take so long.

    Args:
        image_ms: That an image takes.
        size: Of the batch.
        n: Forwards.
        forward_ms: Of each forward, in place of the three.
    """

    def make(image_ms=10.0, size=1, n=12, forward_ms=None, **changes):
        forward_s = [each * 1e-3 for each in forward_ms or [size * image_ms] * n]
        measurement = make_measurement(latency=make_latency(forward_s=forward_s))
        return make_record(batch_size=size, **{"measurement": measurement} | changes)

    return make


@pytest.fixture(scope="session")
def made_up_gpu():
    """The names of made_up_gpu.py."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_gpu.py"))))


@pytest.fixture
def make_failure(make_record):
    """Maker of a record of a case that was not measured."""

    def make(status="oom", **changes) -> Record:
        failure = {"measurement": None, "stage": "latency", "message": "CUDA out of memory"}
        return make_record(status=status, **failure | {"stderr_tail": "Traceback"} | changes)

    return make


@pytest.fixture
def sweep(make_case, environment):
    return SweepFile(
        sweep_id=SWEEP_ID, definition_sha256="cd" * 32, command="sam-bench run",
        created_at="2025-01-02T03:04:00Z", plan=TimingPlan(), cases=(make_case(),),
        environment=environment,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path, sweep):
    """A store of one sweep without records."""
    store = Store(tmp_path / "runs")
    store.write_sweep(sweep)
    return store


@pytest.fixture
def text(make_record):
    """A full record as its file holds it, without the line's end."""
    return to_json(make_record()).strip()
