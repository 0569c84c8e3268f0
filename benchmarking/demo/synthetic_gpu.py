"""A made-up GPU: what it would measure, by FLOPs, bytes, launches, peaks, and noise.

For the demonstration store alone, which has SAM 1's models. The whole model: a part takes as long
as the slowest of computing, moving its bytes and launching its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from results.hardware.specs import find_spec
from results.records.case import Case
from results.records.environment import Telemetry
from results.records.measurement import (
    ENCODER,
    Energy,
    Latency,
    Measurement,
    Memory,
    Modules,
    ModuleTiming,
    Output,
    Pipeline,
    Work,
)
from sam.work import Formats, ModuleWork

from ..choices.families import family_of, find_model
from ..choices.precision import PRECISIONS

SAMPLES, MODULE_SAMPLES, LOOKS = 40, 8, 12
NOISE = 0.004  # of a sample, lognormal
# Shares of the maker's peaks that the GPU reaches.
COMPUTE_SHARE = {"fp32": 0.75, "tf32": 0.55, "bf16": 0.6, "fp16": 0.6}
MEMORY_SHARE = 0.8
LAUNCH_S = 6e-6  # of a kernel
KERNELS = {"attn": 20, "mlp": 4, "norm1": 1, "norm2": 1, "patch_embed": 3, "neck": 8}
# Through memory: the L x L scores, by attention, and a part's input and output.
PASSES_OVER_SCORES = {"reference": 6, "sdpa": 2}
PASSES_OVER_TOKENS = {"attn": 10, "mlp": 6, "norm1": 1, "norm2": 1, "patch_embed": 1, "neck": 4}
REST = 0.01  # of a forward, that is in no module
# Of the pipeline, for an image: seconds on a host that all made-up machines share.
HOST_S = {"decode": 8e-3, "preprocess": 6e-3, "host_to_device_copy": 4e-4}
DECODER_FLOPS, DECODER_SHARE = 3.6e9, 0.05  # of a prompt; of the peak


@dataclass(frozen=True)
class SyntheticGpu:
    """One of the GPUs that the demonstration shows.

    power_share: Of its limit, that it draws when it is busy.
    clock_drop: Share of the clock that its power cap takes at the largest batch.
    """

    name: str
    memory_bytes: int
    capability: str
    power_watts: float
    power_share: float
    clock_hz: int
    clock_drop: float


@dataclass(frozen=True)
class SyntheticModule:
    """A timed module that has no timed modules in it."""

    name: str
    work: Work
    seconds: float
    launch_s: float


def fits(case: Case, gpu: SyntheticGpu) -> bool:
    return peak_bytes(case) <= gpu.memory_bytes


def peak_bytes(case: Case) -> int:
    """Weights, and for each image mostly the scores of a global layer."""
    width = find_model(case.model).config.embed_dim
    length, item = tokens_of(case), formats_of(case).weight
    image_bytes = PASSES_OVER_SCORES[case.attention] / 2 * scores_bytes(case, length)
    image_bytes += 12 * length * width * item
    return int(module_works(case)[""].weight_bytes + case.batch_size * image_bytes)


def scores_bytes(case: Case, tokens: int) -> int:
    """Of all heads' products of queries and keys, of one global layer and image."""
    heads: int = find_model(case.model).config.num_heads
    return heads * tokens**2 * formats_of(case).weight


def formats_of(case: Case) -> Formats:
    half = PRECISIONS[case.precision].dtype != "float32"
    return Formats(2 if half else 4, 4 if PRECISIONS[case.precision].keeps_residual else 2)


def module_works(case: Case) -> dict[str, ModuleWork]:
    work, config = family_of(case.model).work, find_model(case.model).config
    assert work is not None
    return work(config, case.image_size, case.attention, formats_of(case))


def output_shape(case: Case) -> tuple[int, ...]:
    shape_of = family_of(case.model).embedding_shape
    assert shape_of is not None
    return shape_of(find_model(case.model).config, case.batch_size, case.image_size)


def tokens_of(case: Case) -> int:
    """Of an image, one per position of the embedding."""
    *_, rows, columns = output_shape(case)
    return rows * columns


def measure(
    case: Case, gpu: SyntheticGpu, clock_hz: float, factor: float, random: np.random.Generator
) -> Measurement:
    """All passes of a case.

    Args:
        case: That fits.
        gpu: Where.
        clock_hz: Of the multiprocessors.
        factor: Times as long as it should be.
        random: Of the noise.
    """
    slowed = gpu.clock_hz / clock_hz
    parts = [part_of(name, work, case, gpu, slowed) for name, work in leaves(case).items()]
    launch_s = sum(part.launch_s for part in parts)
    forward_s = factor * max(launch_s, sum(part.seconds for part in parts) / (1 - REST))
    works = module_works(case)
    whole = in_batch(works[""], case, sum(part.work.moved_bytes or 0 for part in parts))
    weights_bytes, dtype = works[""].weight_bytes, PRECISIONS[case.precision].dtype
    samples = forward_s * random.lognormal(0, NOISE, SAMPLES)
    forwards = max(1, int(5 / forward_s))
    joules = gpu.power_watts * gpu.power_share * forwards * forward_s
    return Measurement(
        passes={
            "latency": Latency(
                forward_s=tuple(samples),
                chunk_forwards=(SAMPLES,),
                chunk_wall_s=(float(samples.sum()) * 1.002,),
                chunk_launch_s=(min(launch_s, forward_s),),
                stop_reason="converged",
                first_forward_s=0.5 + forward_s,
                warmup_s=2.0,
                warmup_forwards=20,
            ),
            "components": Pipeline(
                stages_s=components(case, gpu, forward_s, random), prompts=case.batch_size
            ),
            "modules": Modules(
                timings=modules(case, parts, forward_s, random),
                plain_forward_s=tuple(forward_s * random.lognormal(0, NOISE, MODULE_SAMPLES)),
            ),
            "memory": Memory(
                source="made up",
                weights_bytes=weights_bytes,
                peak_bytes=peak_bytes(case),
                rise_bytes=peak_bytes(case) - weights_bytes,
            ),
            "flops": whole,
            "energy": Energy(joules=joules, window_s=forwards * forward_s, forwards=forwards),
        },
        parameters=weights_bytes // formats_of(case).weight,
        output=Output(shape=output_shape(case), dtype=dtype, finite=True, sha256="0" * 64),
        timer_test_s=(0.01, 0.02, 0.04),
        weights="made up",
        input_source="made up",
    )


def leaves(case: Case) -> dict[str, ModuleWork]:
    """The modules that have no timed modules in them."""
    works = module_works(case)
    return {name: work for name, work in works.items() if name and f"{name}.attn" not in works}


def part_of(
    name: str, work: ModuleWork, case: Case, gpu: SyntheticGpu, slowed: float
) -> SyntheticModule:
    """How long a part takes: the slowest of computing, moving and launching."""
    last = name.rpartition(".")[2]
    moved = PASSES_OVER_TOKENS[last] * work.image_bytes * case.batch_size + work.weight_bytes
    if last == "attn":
        attended = scores_bytes(case, tokens_of(case))
        if int(name.split(".")[1]) not in find_model(case.model).config.global_blocks:
            attended = attended * 196 // tokens_of(case)  # windows have few
        moved += case.batch_size * PASSES_OVER_SCORES[case.attention] * attended
    peak = find_spec(gpu.name)
    assert peak is not None
    rate = peak.flops_per_s[case.precision] * COMPUTE_SHARE[case.precision]
    compute_s = work.flops * case.batch_size / rate * slowed
    memory_s = moved / (peak.bytes_per_s * MEMORY_SHARE)
    launch_s = KERNELS[last] * LAUNCH_S
    return SyntheticModule(
        name, in_batch(work, case, int(moved)), max(compute_s, memory_s, launch_s), launch_s
    )


def in_batch(work: ModuleWork, case: Case, moved_bytes: int) -> Work:
    return Work(
        flops=work.flops * case.batch_size,
        least_flops=work.least_flops * case.batch_size,
        least_bytes=work.least_bytes(case.batch_size),
        moved_bytes=moved_bytes,
    )


def modules(
    case: Case, parts: list[SyntheticModule], forward_s: float, random: np.random.Generator
) -> dict[str, ModuleTiming]:
    """Samples of each part, of the blocks that hold them, and of the encoder."""
    works = module_works(case)
    noise = random.lognormal(0, NOISE, MODULE_SAMPLES)
    scale = forward_s * (1 - REST) / sum(part.seconds for part in parts)
    whole = forward_s * noise
    timings = {
        ENCODER: ModuleTiming(
            total_s=tuple(whole), self_s=tuple(whole * REST), kind="encoder", parent=None
        )
    }
    for name in filter(None, works):
        own = [part for part in parts if part.name == name or part.name.startswith(f"{name}.")]
        total = sum(part.seconds for part in own) * scale * noise
        is_part = own[0].name == name
        moved = sum(part.work.moved_bytes or 0 for part in own)
        timings[name] = ModuleTiming(
            total_s=tuple(total),
            self_s=tuple(total if is_part else 0 * total),
            kind=kind_of(name, case),
            parent=block if (block := name.rpartition(".")[0]) in timings else ENCODER,
            work=in_batch(works[name], case, moved),
        )
    return timings


def kind_of(name: str, case: Case) -> str:
    """As benchmarking.choices.modules names it."""
    words = name.split(".")
    if words[0] != "blocks":
        return name
    block = "global" if int(words[1]) in find_model(case.model).config.global_blocks else "window"
    if len(words) == 2:
        return block
    return {"attn": f"{block} attention", "mlp": "mlp"}.get(words[2], "norm")


def components(
    case: Case, gpu: SyntheticGpu, forward_s: float, random: np.random.Generator
) -> dict[str, tuple[float, ...]]:
    """From files to masks, for a prompt an image."""
    peak = find_spec(gpu.name)
    assert peak is not None
    decoder_s = DECODER_FLOPS / (peak.flops_per_s[case.precision] * DECODER_SHARE)
    image_s = HOST_S | {
        ENCODER: forward_s / case.batch_size,
        "prompt_encoder": 3e-4 / case.batch_size,
        "mask_decoder": decoder_s,
        "postprocess": decoder_s / 4,
    }
    return {
        name: tuple(case.batch_size * seconds * random.lognormal(0, 5 * NOISE, MODULE_SAMPLES))
        for name, seconds in image_s.items()
    }


def watch(gpu: SyntheticGpu, clock_hz: float, is_capped: bool, used_bytes: int) -> Telemetry:
    """What NVML would have told."""
    reasons = ("power cap",) if is_capped else ()
    return Telemetry(
        at_s=tuple(0.5 * look for look in range(LOOKS)),
        sm_clock_hz=(int(clock_hz),) * LOOKS,
        memory_clock_hz=(None,) * LOOKS,
        power_watts=(gpu.power_watts * gpu.power_share,) * LOOKS,
        temperature_celsius=(62,) * LOOKS,
        used_bytes=(used_bytes,) * LOOKS,
        event_reasons=(reasons,) * LOOKS,
        process_count=(1,) * LOOKS,
        power_limit_watts=gpu.power_watts,
        uncorrected_errors=0,
        is_mig=False,
        other_processes=(),
        missing={"memory_clock_hz": "made up"},
    )
