"""What was measured: raw samples, from which statistics are computed when a record is read.

Each pass stores one result under its own name. RESULTS names the models of the results that tables
and figures work with; the result of any other pass is read as plain JSON, so that a record of a
new pass can be stored, merged and shown without an edit here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from .quantities import (
    PASS_NAME,
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
MOST_FIELDS = 100  # of a result without a model; each may become a column


class PassResult(Strict):
    """What a pass found."""

    def timed_s(self) -> float:
        """Seconds of timed and warm-up work."""
        return 0.0


class Latency(PassResult):
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

    def timed_s(self) -> float:
        return sum(self.forward_s) + self.first_forward_s + self.warmup_s


class Work(PassResult):
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
    # The timed module that contains it: ENCODER for the outermost ones, None for the encoder.
    parent: str | None
    work: Work | None = None
    peak_bytes: Bytes | None = None
    rise_bytes: Bytes | None = None  # the peak above what was held when the call began


def innermost(timings: Mapping[str, ModuleTiming]) -> set[str]:
    """Names of the modules that contain no other timed module."""
    return timings.keys() - {timing.parent for timing in timings.values()}


class Modules(PassResult):
    """The encoder and its modules by name, in forwards that alternate with plain ones."""

    timings: dict[str, ModuleTiming]
    plain_forward_s: Samples = ()  # without hooks, in turn with those of `timings`

    def timed_s(self) -> float:
        encoder = self.timings.get(ENCODER)
        return sum(self.plain_forward_s) + (sum(encoder.total_s) if encoder is not None else 0.0)


class Memory(PassResult):
    """The most memory that a forward needed."""

    source: str  # what was read
    weights_bytes: Bytes
    peak_bytes: Bytes
    rise_bytes: Bytes  # peak above what was held before the forward
    reserved_bytes: Bytes | None = None  # by torch's CUDA allocator
    device_used_bytes: Bytes | None = None  # of the whole device, by any process
    alloc_retries: Count | None = None


class Pipeline(PassResult):
    """A pipeline on one batch of images, by its stages."""

    stages_s: dict[str, Samples]
    prompts: Count | None = None  # of the batch, that the mask decoder was asked

    def timed_s(self) -> float:
        return sum(map(sum, self.stages_s.values()))


class Energy(PassResult):
    """What the board took while forwards followed one another, by the GPU's own counter."""

    joules: Amount
    window_s: Seconds
    forwards: Count

    def timed_s(self) -> float:
        return self.window_s


class KernelTime(Strict):
    """A kernel on a GPU, or an operation on a CPU, in all calls that one module makes."""

    module: str
    kind: str  # of the module
    name: str
    calls: Count  # of all profiled forwards
    total_s: Seconds  # of all calls


class Kernels(PassResult):
    """What ran in forwards under torch's profiler, which slows them: shares are what they tell."""

    forwards: Annotated[Count, Field(gt=0)]
    times: tuple[KernelTime, ...]


class Output(Strict):
    """What the forward returned, to see whether two runs computed the same."""

    shape: tuple[int, ...]
    dtype: str
    finite: bool
    sha256: str  # of the first image's embedding, as float32


class EmbeddingError(PassResult):
    """How far the first image's embedding is from upstream's arithmetic in float32."""

    relative_l2: Amount
    max_abs: Amount
    bf16_relative_l2: Amount | None = None  # of that arithmetic in bf16; for approximate precisions


class OtherResult(PassResult):
    """The result of a pass that has no model here: plain JSON, with a unit in each field's name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    @property
    def fields(self) -> dict[str, JsonValue]:
        return self.__pydantic_extra__ or {}

    def timed_s(self) -> float:
        """All its seconds: it does not say which of them are not its own work."""
        return sum(
            sum(numbers_in(value)) for name, value in self.fields.items() if name.endswith("_s")
        )

    @model_validator(mode="after")
    def _is_plain(self) -> OtherResult:
        if len(self.fields) > MOST_FIELDS:
            raise ValueError(f"a result may have {MOST_FIELDS} fields, got {len(self.fields)}")
        check_names(self.fields)
        for number in numbers_in(self.fields):
            if not isfinite(number) or (isinstance(number, int) and not -(2**63) <= number < 2**63):
                raise ValueError(f"numbers must be finite and of 64 bits, got {number!r:.40}")
        return self


def check_names(names: Iterable[str]) -> None:
    """Names of passes and their fields become names of columns."""
    for name in names:
        if not PASS_NAME.fullmatch(name):
            raise ValueError(
                f"a name must be lowercase letters, digits and underscores, got {name!r:.60}"
            )


def numbers_in(value: object) -> Iterable[float]:
    """All numbers in a JSON value."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from numbers_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from numbers_in(each)


RESULTS: dict[str, type[PassResult]] = {
    "latency": Latency,
    "modules": Modules,
    "memory": Memory,
    "flops": Work,
    "embedding_error": EmbeddingError,
    "components": Pipeline,  # from files to the masks of the prompts
    "mask_generator": Pipeline,
    "energy": Energy,
    "kernels": Kernels,
}


class ByName:
    """Validates each result with the model of its name, or else as plain JSON."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        known = {
            name: core_schema.typed_dict_field(handler.generate_schema(form), required=False)
            for name, form in RESULTS.items()
        }
        other = handler.generate_schema(OtherResult)
        return core_schema.typed_dict_schema(
            known, extras_schema=other, extra_behavior="allow", total=False
        )


Found = TypeVar("Found", bound=PassResult)


class Measurement(Strict):
    """What was measured of a case. A pass that did not run, or found nothing, has no result."""

    passes: Annotated[dict[str, PassResult], ByName()] = {}
    parameters: Count | None = None  # of the image encoder
    output: Output | None = None
    # Relative L2 distance of the first image's embedding from that at another batch size.
    batch_error: Amount | None = None
    timer_test_s: Samples | None = None  # of known delays, each twice the one before
    weights: str  # "random, seed 0" or "sha256:..."
    input_source: str  # the photographs, or the noise's seed
    notes: dict[str, str] = {}  # pass: why it is missing, or what to know about it
    flags: dict[str, bool | int | str] = {}  # torch's, as they were set

    @model_validator(mode="after")
    def _has_names_of_passes(self) -> Measurement:
        check_names(self.passes)
        return self

    def with_passes(self, **results: PassResult | None) -> Measurement:
        """The same measurement with other results; None takes one away."""
        passes = {**self.passes, **results}
        kept = {name: each for name, each in passes.items() if each is not None}
        return self.model_copy(update={"passes": kept})

    def _found(self, name: str, form: type[Found]) -> Found | None:
        result = self.passes.get(name)
        return result if isinstance(result, form) else None

    @property
    def latency(self) -> Latency | None:
        return self._found("latency", Latency)

    @property
    def modules(self) -> dict[str, ModuleTiming] | None:
        return found.timings if (found := self._found("modules", Modules)) else None

    @property
    def plain_forward_s(self) -> Samples | None:
        """Forwards without hooks, in turn with those that timed the modules."""
        return found.plain_forward_s if (found := self._found("modules", Modules)) else None

    @property
    def memory(self) -> Memory | None:
        return self._found("memory", Memory)

    @property
    def work(self) -> Work | None:
        """Of the image encoder."""
        return self._found("flops", Work)

    @property
    def embedding_error(self) -> EmbeddingError | None:
        return self._found("embedding_error", EmbeddingError)

    @property
    def energy(self) -> Energy | None:
        return self._found("energy", Energy)

    @property
    def kernels(self) -> Kernels | None:
        return self._found("kernels", Kernels)

    @property
    def components_s(self) -> dict[str, Samples] | None:
        """Of a batch, from files to masks."""
        return found.stages_s if (found := self._found("components", Pipeline)) else None

    @property
    def prompts(self) -> int | None:
        """Of a batch, that the mask decoder was asked in `components_s`."""
        return found.prompts if (found := self._found("components", Pipeline)) else None

    @property
    def mask_generator_s(self) -> dict[str, Samples] | None:
        """Of a batch, by the generator's stages."""
        return found.stages_s if (found := self._found("mask_generator", Pipeline)) else None

    @property
    def other_passes(self) -> dict[str, OtherResult]:
        """Results of passes that have no model here."""
        return {name: each for name, each in self.passes.items() if isinstance(each, OtherResult)}


def to_result(name: str, found: BaseModel) -> PassResult:
    """What a pass found, as it is stored: in the model of its name, or as plain JSON."""
    if name in RESULTS:
        return RESULTS[name].model_validate(found)
    return OtherResult.model_validate(found.model_dump(mode="json"))


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
