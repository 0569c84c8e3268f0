"""What was measured: raw samples, from which statistics are computed when a record is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .quantities import (
    SCHEMA_VERSION,
    Amount,
    Bytes,
    Count,
    PositiveSamples,
    Samples,
    Seconds,
    SignedSeconds,
    Strict,
)

# The name of the whole image encoder among components and modules. As a module its self time is
# what no other timed module accounts for.
ENCODER = "image_encoder"
StopReason = Literal["converged", "plateau", "cap"]


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


class MatrixProducts(Strict):
    """Large matrix products of one precision, all alike."""

    side: Annotated[Count, Field(gt=0)]  # of the square matrices
    product_s: PositiveSamples


class MeasuredRoofs(Strict):
    """What a device reached when it was asked for the most, by `doctor --calibrate`."""

    schema_version: int = SCHEMA_VERSION
    device: str  # as Environment.device_name has it
    threads: Count  # of torch on the CPU
    torch: str
    measured_at: str  # UTC, ISO 8601
    products: dict[str, MatrixProducts]  # by precision
    copied_bytes: Annotated[Bytes, Field(gt=0)]  # in one copy: read once and written once
    copy_s: PositiveSamples
    cache_bytes: Bytes  # of the last cache before memory; 0 where it is not known
