"""The form of a record, from what was asked (Case) to what was measured (Measurement).

Every field carries its unit in its name and its meaning beside it. Times are raw samples in
seconds; medians and intervals are computed when a record is read, so that a new statistic works
on old records.

History of SCHEMA_VERSION:
    1: the first.
    2: `work` in place of FLOPs alone; other processes with their memory.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

SCHEMA_VERSION = 2

Status = Literal[
    "ok",
    "oom",
    "timeout",
    "crashed",
    "cuda_error",
    "invalid",
    "skipped",
    "unsupported",
    "interrupted",
    "not_run",
]
STATUSES: tuple[Status, ...] = get_args(Status)
# A resumed sweep offers these again; the others are answers, also where the answer is "does not
# fit". not_run is never stored: it is what a planned case without a record is.
RETRIED: tuple[Status, ...] = ("timeout", "crashed", "cuda_error", "interrupted", "not_run")
FAILED: tuple[Status, ...] = ("timeout", "crashed", "cuda_error", "invalid")

# The name of the whole image encoder among components and modules. As a module its self time is
# what no other timed module accounts for.
ENCODER = "image_encoder"
# Pipelines whose components are timed: chosen prompts, and a grid of them over the whole image.
PROMPTS, MASK_GENERATOR = "prompts", "mask_generator"
PASSES = (
    "latency", "modules", "memory", "flops", "embedding_error", "components", MASK_GENERATOR,
    "energy", "kernels",
)  # fmt: skip
# A case's kind of GPU, where every kind will do.
ANY = "any"
# Attention and weights of an encoder that is none of SAM's: as it brings them.
OWN = "own"
ON_REQUEST = (
    MASK_GENERATOR,  # takes as long as a thousand prompts an image
    "energy",  # keeps the GPU busy for five seconds more
    "kernels",  # a trace of some megabytes
)

Verdict = Literal["pass", "warn", "invalid", "unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
StopReason = Literal["converged", "plateau", "cap"]

FILE_NAME = r"^[0-9A-Za-z][0-9A-Za-z._-]{0,79}$"  # ids are names of files and folders


def seven_digits(seconds: float) -> float:
    """A clock resolves no more, and records stay small."""
    return float(f"{seconds:.7g}")


Seconds = Annotated[
    float, Field(ge=0, allow_inf_nan=False), PlainSerializer(seven_digits, when_used="json")
]
# A difference of two times, which noise can make negative.
SignedSeconds = Annotated[
    float, Field(allow_inf_nan=False), PlainSerializer(seven_digits, when_used="json")
]
Samples = tuple[Seconds, ...]
PositiveSamples = Annotated[tuple[Annotated[Seconds, Field(gt=0)], ...], Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# 64 bits, so that no record can hold a number that a table can't.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Bytes = Count


class Strict(BaseModel):
    """Plain data: unknown fields and changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Case(Strict):
    """One thing to measure; its fields are the identity of a result."""

    model: str = Field(description="Model type, or package.module:function of an encoder.")
    batch_size: int = Field(ge=1, le=1_000_000, description="Images in a forward.")
    image_size: int = Field(ge=16, le=65_536, description="Pixels along an edge.")
    precision: str = Field(description="Number format of weights and activations.")
    attention: str = Field(description="How the image encoder's attention is computed.")
    execution: str = Field(description="How the forward is run.")
    device: str = Field(description="What it runs on, as torch names it.")
    gpu: str | None = Field(
        default=None,
        description="Kind of GPU that it needs, or 'any'; None where `device` says which.",
    )
    input: str = Field(description="What the images are.")
    weights: str = Field(
        description="'random', a file or folder of official checkpoints, or an encoder's 'own'."
    )

    @property
    def case_id(self) -> str:
        """A short name that follows from the fields alone; a kind of GPU counts where one is asked
        for, so that ids made before there were kinds still hold."""
        fields = self.model_dump(exclude={"gpu"} if self.gpu is None else None)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The fields for a person, in one line."""
        return (
            f"{self.model} b{self.batch_size} {self.image_size}px {self.precision} "
            f"{self.attention} {self.execution} {self.place} {self.input}"
            + ("" if self.weights in ("random", OWN) else f" {self.weights}")
        )

    @property
    def place(self) -> str:
        """Where it runs, for a person: a device, or a kind of GPU."""
        if self.gpu is None:
            return self.device
        return "any GPU" if self.gpu == ANY else self.gpu

    def family(self) -> tuple[str, ...]:
        """What cases share that run in one worker with one model: all but batch size and input."""
        return tuple(
            f"{name}={value}"
            for name, value in self.model_dump().items()
            if name not in ("batch_size", "input")
        )


AXES: tuple[str, ...] = tuple(Case.model_fields)


class TimingPlan(Strict):
    """How a case is measured: the passes, the warm-up and the stopping rule."""

    passes: tuple[str, ...] = Field(
        tuple(name for name in PASSES if name not in ON_REQUEST),
        description=f"What is measured, each on its own; {', '.join(ON_REQUEST)} where named.",
    )
    warmup_s: float = Field(2.0, ge=0, le=3600, description="Least warm-up, in seconds.")
    warmup_forwards: int = Field(3, ge=1, le=10_000, description="Least warm-up, in forwards.")
    warmup_cap_s: float = Field(20.0, gt=0, le=3600, description="Most warm-up, in seconds.")
    min_timed_s: float = Field(1.0, ge=0, le=3600, description="Least timed work, in seconds.")
    max_timed_s: float = Field(15.0, gt=0, le=36_000, description="Most timed work, in seconds.")
    min_forwards: int = Field(20, ge=1, le=100_000, description="Least timed forwards.")
    min_slow_forwards: int = Field(
        5, ge=1, le=100_000, description="The same, where a forward takes over a second."
    )
    max_forwards: int = Field(2_000, ge=1, le=100_000, description="Most timed forwards.")
    target_interval: float = Field(
        0.005, gt=0, lt=1, description="Half width of the median's 95 % interval that ends timing."
    )
    module_forwards: int = Field(32, ge=1, le=1_000, description="Forwards timed by module.")
    module_depth: int = Field(
        1, ge=1, le=2, description="1: blocks. 2: norm1, attn, norm2 and mlp of each block too."
    )
    module_pattern: str | None = Field(
        None, description="Regular expression of the modules' names, instead of the known ones."
    )
    memory_limit_bytes: int | None = Field(
        None,
        ge=2**20,
        lt=2**63,
        description="Most that a case may take of its device, in bytes: to see a smaller one.",
    )
    case_timeout_s: float = Field(
        900.0, gt=0, le=86_400, description="A case that takes longer ends as timeout, in seconds."
    )
    seed: int = Field(0, ge=0, lt=2**16, description="Of random weights and noise.")
    images: str | None = Field(None, description="Folder of images for input 'images' and 'sa1b'.")
    prompts: Literal["points", "boxes"] = Field(
        "points", description="What the mask decoder is asked with: points or boxes."
    )
    prompts_per_image: int = Field(
        64, ge=1, le=100_000, description="Most prompts of an image, of those that sa1b has."
    )
    points_per_side: int = Field(
        32, ge=1, le=1_000, description="The mask generator's points along an image's side."
    )


class Latency(Strict):
    """Whole forwards of the image encoder, with no hook and no profiler."""

    forward_s: Samples = Field(min_length=1)
    chunk_forwards: tuple[int, ...]  # forwards between two synchronises
    chunk_wall_s: Samples  # wall time of each chunk, its synchronise included
    # Until the host had launched the first forward of each chunk, the device's queue being empty.
    chunk_launch_s: Samples
    stop_reason: StopReason
    first_forward_s: Seconds  # with compilation, lazy loading and autotuning
    warmup_s: Seconds
    warmup_forwards: int = Field(ge=0)


class Work(Strict):
    """What one forward of a whole batch has to do."""

    flops: Count  # by the encoder's own graph; 2 FLOP = 1 MAC
    least_flops: Count  # of an exact variant whose linear layers see no padding
    least_bytes: Bytes  # weights and input read once, output written once
    # Read and written, if each operation of the eager graph goes through memory.
    moved_bytes: Bytes | None = None


class ModuleTiming(Strict):
    """One module's calls, in forwards that had hooks on."""

    total_s: Samples  # timed children included
    self_s: tuple[SignedSeconds, ...]
    kind: str  # what a person groups it with: patch_embed, window, global, mlp, neck, ...
    work: Work | None = None
    peak_bytes: Bytes | None = None
    rise_bytes: Bytes | None = None  # the peak above what was held when the call began


class Memory(Strict):
    """The most memory that a forward needed."""

    source: str  # what was read
    weights_bytes: Bytes
    peak_bytes: Bytes
    rise_bytes: Bytes  # peak above what was held before the forward
    reserved_bytes: Bytes | None = None  # by torch's CUDA allocator
    device_used_bytes: Bytes | None = None  # of the whole device, by any process
    alloc_retries: Count | None = None


class Energy(Strict):
    """What the board took while forwards followed one another, by the GPU's own counter."""

    joules: Amount
    window_s: Seconds
    forwards: Count


class KernelTime(Strict):
    """A kernel on a GPU, or an operation on a CPU, in all calls that one module makes."""

    module: str
    kind: str  # of the module
    name: str
    calls: Count  # of all profiled forwards
    total_s: Seconds  # of all calls


class Kernels(Strict):
    """What ran in forwards under torch's profiler, which slows them: shares are what they tell."""

    forwards: Annotated[Count, Field(gt=0)]
    times: tuple[KernelTime, ...]


class Output(Strict):
    """What the forward returned, to see whether two runs computed the same."""

    shape: tuple[int, ...]
    dtype: str
    finite: bool
    sha256: str  # of the first image's embedding, as float32


class EmbeddingError(Strict):
    """How far the first image's embedding is from upstream's arithmetic in float32."""

    relative_l2: Amount
    max_abs: Amount
    bf16_relative_l2: Amount | None = None  # of that arithmetic in bf16; for approximate precisions


class OtherProcess(Strict):
    """A process that computed on a GPU and is none of ours."""

    pid: Count
    used_bytes: Bytes | None = None  # the most that was seen; None where the driver does not tell


class CoTenant(Strict):
    """Another worker of ours on the same machine, which shares its CPU, its PCIe and its power."""

    pid: Count
    gpu: str | None = None  # that it was bound to, as CUDA_VISIBLE_DEVICES says


class Telemetry(Strict):
    """What the GPU did while the case was measured, from NVML; a list for each quantity.

    What a GPU does not tell is None, and `missing` says why.
    """

    at_s: Samples = ()  # since the measuring began; the first look is before, the last after
    sm_clock_hz: tuple[Count | None, ...] = ()
    memory_clock_hz: tuple[Count | None, ...] = ()
    power_watts: tuple[Amount | None, ...] = ()
    temperature_celsius: tuple[Count | None, ...] = ()
    used_bytes: tuple[Bytes | None, ...] = ()  # of the whole device, by any process
    event_reasons: tuple[tuple[str, ...] | None, ...] = ()  # why clocks are not at their highest
    process_count: tuple[Count | None, ...] = ()  # that computed on it, ours among them
    energy_joules: Amount | None = None  # of the board, from the first look to the last
    power_limit_watts: Amount | None = None
    uncorrected_errors: Count | None = None  # of the memory (ECC), since the driver was loaded
    is_mig: bool | None = None  # whether the GPU is split into instances
    other_processes: tuple[OtherProcess, ...] | None = None  # of all looks
    missing: dict[str, str] = {}  # quantity: why it is not known


class Check(Strict):
    """One look at whether a measurement can be trusted."""

    value: Finite | None  # None where it can't be told
    limit: str
    verdict: Verdict
    reason: str | None = None  # what a person should know


class Measurement(Strict):
    """What was measured of a case; a pass that was not asked for or can't be is None."""

    latency: Latency | None = None
    components_s: dict[str, Samples] | None = None  # of a batch, from files to masks
    prompts: Count | None = None  # of a batch, that the mask decoder was asked in `components_s`
    mask_generator_s: dict[str, Samples] | None = None  # of a batch, by the generator's stages
    modules: dict[str, ModuleTiming] | None = None
    plain_forward_s: Samples | None = None  # without hooks, in turn with those of `modules`
    memory: Memory | None = None
    work: Work | None = None  # of the image encoder
    parameters: Count | None = None  # of the image encoder
    energy: Energy | None = None
    kernels: Kernels | None = None
    output: Output | None = None
    embedding_error: EmbeddingError | None = None
    # Relative L2 distance of the first image's embedding from that at another batch size.
    batch_error: Amount | None = None
    timer_test_s: Samples | None = None  # of known delays, each twice the one before
    weights: str  # "random, seed 0" or "sha256:..."
    input_source: str  # the photographs, or the noise's seed
    notes: dict[str, str] = {}  # pass: why it is missing, or what to know about it
    flags: dict[str, bool | int | str] = {}  # torch's, as they were set


class Products(Strict):
    """Large matrix products of one precision, all alike."""

    side: Annotated[Count, Field(gt=0)]  # of the square matrices
    product_s: PositiveSamples


class Roofs(Strict):
    """What a device reached when it was asked for the most, by `doctor --calibrate`."""

    schema_version: int = SCHEMA_VERSION
    device: str  # as Environment.device_name has it
    threads: Count  # of torch on the CPU
    torch: str
    measured_at: str  # UTC, ISO 8601
    products: dict[str, Products]  # by precision
    copied_bytes: Annotated[Bytes, Field(gt=0)]  # in one copy: read once and written once
    copy_s: PositiveSamples
    cache_bytes: Bytes  # of the last cache before memory; 0 where it is not known


class Gpu(Strict):
    """One GPU of the machine."""

    index: int
    name: str
    uuid: str
    memory_bytes: Bytes
    compute_capability: str


# Of an environment, what differs between machines that measure the same sweep; torch tells of cuDNN
# beside a GPU alone.
OF_ONE_MACHINE = frozenset({
    "hostname", "os", "cpu", "cores", "memory_bytes", "gpus", "driver", "cudnn",
    "cuda_visible_devices", "notes",
})  # fmt: skip


class Environment(Strict):
    """Where a record was made. Nothing here comes from environment variables but CUDA's own."""

    hostname: str
    os: str
    cpu: str
    cores: int
    memory_bytes: Bytes
    gpus: tuple[Gpu, ...]
    driver: str | None
    cuda: str | None
    cudnn: str | None
    torch: str
    torchvision: str | None
    python: str
    sam_bench: str
    git_commit: str | None
    git_dirty: bool | None
    source_sha256: str  # of our own code as it ran, committed or not
    cuda_visible_devices: str | None = None
    alloc_conf: str | None = None  # PYTORCH_ALLOC_CONF, which changes the memory that is held
    notes: tuple[str, ...] = ()  # what could not be found out, and why

    def find_gpu(self, device: str) -> Gpu | None:
        """The GPU that torch names so; None for a CPU."""
        kind, _, index = device.partition(":")
        if kind != "cuda":
            return None
        return next((gpu for gpu in self.gpus if str(gpu.index) == (index or "0")), None)

    def device_name(self, device: str) -> str:
        """What tells a device from any other: a GPU's UUID, a CPU's name and its share."""
        gpu = self.find_gpu(device)
        if gpu is not None:
            return gpu.uuid
        if device != "cpu":
            return device
        return f"{self.cpu}, {self.cores} cores, {self.memory_bytes / 2**30:.0f} GiB"


class Record(Strict):
    """What became of one case."""

    schema_version: int = SCHEMA_VERSION
    sweep_id: str = Field(pattern=FILE_NAME)
    case_id: str = Field(pattern=FILE_NAME)
    case: Case
    plan: TimingPlan
    status: Status
    stage: str | None = None  # where it ended, if not ok
    message: str | None = None  # why, in one line
    stderr_tail: str | None = None
    measurement: Measurement | None = None
    telemetry: Telemetry | None = None  # None on a CPU
    co_tenants: tuple[CoTenant, ...] | None = None  # None where nobody looked
    roofs: Roofs | None = None  # of the device, where it was calibrated before
    checks: dict[str, Check] = {}
    attempts: Annotated[int, Field(ge=1)] = 1  # more where the GPU was throttled
    is_synthetic: bool = False  # made up for a demonstration: nothing was measured
    environment: Environment
    command: str  # that repeats the sweep
    started_at: str  # UTC, ISO 8601
    wall_s: Seconds  # of the whole case in its worker

    @property
    def record_id(self) -> str:
        """A short name for addresses: it tells nothing of paths, and is looked up, never opened."""
        return hashlib.sha256(f"{self.sweep_id}/{self.case_id}".encode()).hexdigest()[:16]

    @property
    def gpu(self) -> Gpu | None:
        """That the case ran on; None on a CPU."""
        return self.environment.find_gpu(self.case.device)

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if self.case_id != self.case.case_id:
            raise ValueError("case_id is not that of the case")
        if self.status == "not_run" or (self.status == "ok" and self.measurement is None):
            raise ValueError(f"a record without a measurement can't be '{self.status}'")
        return self


class SweepFile(Strict):
    """What a sweep planned; its records lie beside it."""

    schema_version: int = SCHEMA_VERSION
    sweep_id: str = Field(pattern=FILE_NAME)
    definition_sha256: str  # of cases, plan and machine: what a resumed sweep must share
    command: str
    created_at: str  # UTC, ISO 8601
    plan: TimingPlan
    cases: tuple[Case, ...]
    environment: Environment

    def record(self, case: Case, **outcome: Any) -> Record:
        """What became of one of its cases.

        Args:
            case: That was planned.
            outcome: All fields of Record that the sweep does not know.
        """
        return Record(
            sweep_id=self.sweep_id,
            case_id=case.case_id,
            case=case,
            plan=self.plan,
            environment=self.environment,
            command=self.command,
            **outcome,
        )


class SweepEnd(Strict):
    """What a sweep that came to its end says of itself."""

    schema_version: int = SCHEMA_VERSION
    sweep_id: str = Field(pattern=FILE_NAME)
    ended_at: str  # UTC, ISO 8601
    planned: Count
    statuses: dict[str, Count]  # of all its records
    wall_s: Seconds  # of this run of the sweep; a resumed one had others before
    measured_s: Seconds  # of it, timed and warm-up work
    drift_case_id: str | None = None  # the case that was measured again last
    drift_forward_s: Samples | None = None
    drift_telemetry: Telemetry | None = None
    checks: dict[str, Check] = {}
