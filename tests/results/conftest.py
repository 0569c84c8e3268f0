"""Records as a sweep would make them: each fixture gives a maker that takes changes."""

from __future__ import annotations

import gc
import itertools
import os
import runpy
import secrets
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from results.records.case import AXES, Case, TimingPlan
from results.records.environment import Environment, Gpu
from results.records.measurement import (
    Latency,
    Measurement,
    Memory,
    Modules,
    ModuleTiming,
    Output,
    Pipeline,
    Work,
)
from results.records.schema import Record, SweepFile
from results.records.store import Store, to_json
from results.tables.frames import case_frame

SWEEP_ID = "20250102-030405-abcdef"
# An object store on this machine, whatever is set for others.
SERVICE = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_MAX_ATTEMPTS": "1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


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
    """Maker of measurements; names of passes change their results, the others the rest."""

    def make(**changes) -> Measurement:
        fields = {
            "latency": make_latency(),
            "components": Pipeline(
                stages_s={"preprocess": (0.1, 0.1, 0.3), "image_encoder": (0.3, 0.3, 0.3)}
            ),
            "modules": Modules(
                timings={
                    "image_encoder": ModuleTiming(
                        total_s=(1.0, 1.0), self_s=(0.125, 0.125), kind="encoder", parent=None
                    ),
                    "blocks.0": ModuleTiming(
                        total_s=(0.625, 0.625), self_s=(0.625, 0.625), kind="window",
                        parent="image_encoder",
                        work=Work(
                            flops=5_000_000_000, least_flops=4_000_000_000, least_bytes=10**7,
                            moved_bytes=10**8,
                        ),
                        peak_bytes=3000, rise_bytes=1000,
                    ),
                    "neck": ModuleTiming(
                        total_s=(0.25, 0.25), self_s=(0.25, 0.25), kind="neck",
                        parent="image_encoder",
                    ),
                }
            ),
            "memory": Memory(
                source="torch's CUDA allocator", weights_bytes=360, peak_bytes=5000,
                rise_bytes=4000, reserved_bytes=6000, device_used_bytes=9000, alloc_retries=0,
            ),
            "flops": Work(
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
        fields |= changes
        own = {name: fields.pop(name) for name in Measurement.model_fields if name in fields}
        return Measurement(**own).with_passes(**fields)

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


@pytest.fixture
def make_cases(make_record, make_measurement, make_latency, environment):
    """Maker of cases that take so many seconds, by batch size: one number, or all samples.

    Args:
        gpu: The name of what they ran on, as frames tell it.
    """

    def make(times, gpu=None, **changes):
        records = []
        if gpu is not None:
            gpus = tuple(each.model_copy(update={"name": gpu}) for each in environment.gpus)
            changes["environment"] = environment.model_copy(update={"gpus": gpus})
        for size, seconds in times.items():
            samples = seconds if isinstance(seconds, tuple) else (seconds,) * 7
            measurement = make_measurement(latency=make_latency(forward_s=samples))
            records.append(make_record(batch_size=size, measurement=measurement, **changes))
        return case_frame(records)

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
def new_store(tmp_path):
    """Maker of an empty store in a folder."""
    count = itertools.count()
    return lambda: Store(tmp_path / f"store-{next(count)}")


@pytest.fixture
def target(tmp_path):
    """A store that is not there yet."""
    return Store(tmp_path / "merged")


@pytest.fixture
def store_of(new_store, sweep):
    """Maker of a store of one sweep with these records."""

    def make(*records, store=None):
        store = store or new_store()
        store.write_sweep(sweep)
        for record in records:
            store.write_record(record)
        return store

    return make


@pytest.fixture
def made(make_record, make_failure):
    """Maker of a record with a status."""
    return lambda status, **changes: (
        make_record(**changes) if status == "ok" else make_failure(status, **changes)
    )


@pytest.fixture
def memory():
    """An address in this process's memory, of nobody else."""
    root = f"memory://{secrets.token_hex(8)}"
    yield root
    files = fsspec.filesystem("memory")
    if files.exists(root):
        files.rm(root, recursive=True)


@pytest.fixture(scope="session")
def forget_clients():
    """Function that closes the connections to object stores, and that lets new ones look again."""
    from s3fs import S3FileSystem

    def forget() -> None:
        S3FileSystem.clear_instance_cache()
        gc.collect()

    return forget


@pytest.fixture(scope="module")
def service(forget_clients):
    """The address of an object store on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    forget_clients()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SERVICE.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        yield
        forget_clients()
    server.stop()


@pytest.fixture
def bucket(service):
    name = f"b-{secrets.token_hex(8)}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


@pytest.fixture(params=["memory", "s3"])
def root(request, memory):
    """An address below which there is nothing."""
    return memory if request.param == "memory" else request.getfixturevalue("bucket")


@pytest.fixture
def text(make_record):
    """A full record as its file holds it, without the line's end."""
    return to_json(make_record()).strip()
