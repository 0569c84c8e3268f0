"""Measuring what a device can do at most: large matrix products of each precision, a large copy.

Run as a process of its own, it prints one JSON line for the doctor, which never loads torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
import torch
from torch import Tensor

from hooks import Clock, clock_for
from results.records.measurement import MatrixProducts, MeasuredRoofs
from sam.quantise import EIGHT_BITS

from ..choices.precision import PRECISIONS, allow_tf32, why_unsupported
from ..machine.environment import describe_environment
from .timing import MAX_CHUNK_FORWARDS, chunk_size, collected_garbage, timed_chunk

SMALLEST_SIDE = 512
LARGEST_SIDE = {"cpu": 8192, "cuda": 16384}
PRODUCT_S = {"cpu": 0.05, "cuda": 0.02}  # sides are doubled until a product takes this long
SPAN_S = 2.0  # of work, for each roof
COPY_BYTES = {"cpu": 2**29, "cuda": 2**31}  # far more than any cache
CACHE = Path("/sys/devices/system/cpu/cpu0/cache")


def calibrate(device: torch.device) -> MeasuredRoofs:
    """Ask the most of a device."""
    environment = describe_environment()
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    clock = clock_for(device)
    precisions = [
        name for name in PRECISIONS if why_unsupported(name, device.type, capability) is None
    ]
    with torch.inference_mode(), collected_garbage():
        products = {name: time_products(name, device, clock) for name in precisions}
        copied_bytes, copy_s = time_copies(device, clock)
    return MeasuredRoofs(
        device=environment.device_name(str(device)),
        threads=torch.get_num_threads(),
        torch=environment.torch,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        products=products,
        copied_bytes=copied_bytes,
        copy_s=copy_s,
        cache_bytes=cache_bytes(device),
    )


def time_products(precision: str, device: torch.device, clock: Clock) -> MatrixProducts:
    """Square products, as large as is worth while: a small one does not fill a GPU."""
    allow_tf32(PRECISIONS[precision].tf32)
    side = SMALLEST_SIDE
    while True:
        matrices = [torch.randn(side, side, device=device) for _ in range(2)]
        product = product_of(matrices, precision)
        product()  # loads the kernel
        product_s = timed_chunk(product, clock, 1).forward_s[0]
        if product_s >= PRODUCT_S[device.type] or side >= LARGEST_SIDE[device.type]:
            return MatrixProducts(side=side, product_s=tuple(repeat(product, clock)))
        side *= 2


def product_of(matrices: list[Tensor], precision: str) -> Callable[[], Tensor]:
    """Of two matrices, in a precision."""
    chosen = PRECISIONS[precision]
    if chosen.eight_bits is not None:
        bits = EIGHT_BITS[chosen.eight_bits]
        return partial(bits.product, *(bits.quantise(matrix)[0] for matrix in matrices))
    factors = [matrix.to(getattr(torch, chosen.dtype)) for matrix in matrices]
    return partial(torch.mm, *factors, out=torch.empty_like(factors[0]))


def time_copies(device: torch.device, clock: Clock) -> tuple[int, tuple[float, ...]]:
    """Bytes of one copy, and the seconds of each."""
    is_cuda = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if is_cuda else psutil.virtual_memory().available
    size = min(COPY_BYTES[device.type], free // 4)
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    copy = partial(target.copy_, source)
    copy()  # takes the memory from the system
    return source.nbytes, tuple(repeat(copy, clock))


def repeat(work: Callable[[], object], clock: Clock) -> list[float]:
    """Seconds of each call, warmed up before."""
    size = chunk_size(timed_chunk(work, clock, 2).forward_s[-1])
    samples: list[float] = []
    while sum(samples) < SPAN_S and len(samples) < 16 * MAX_CHUNK_FORWARDS:
        samples += timed_chunk(work, clock, size).forward_s
    return samples


def cache_bytes(device: torch.device) -> int:
    """Of the last cache before memory; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = []
    for path in CACHE.glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * units[text[-1]] if text[-1:] in units else 0)
    return max(sizes, default=0)


if __name__ == "__main__":
    print(calibrate(torch.device(sys.argv[1])).model_dump_json())
