"""What an exception of torch's makes of a case."""

from __future__ import annotations

from results.records.schema import Status

# What allocators, cuBLAS, cuDNN, Triton and the driver say; in lower case.
OUT_OF_MEMORY = ("out of memory", "alloc_failed", "allocate memory", "not enough memory")


def classify(error: Exception) -> tuple[Status, str]:
    """The status that an error gives a case, and its first line."""
    import torch

    text = str(error).strip() or repr(error)
    line = f"{type(error).__name__}: {text.splitlines()[0][:300]}"
    is_full = any(phrase in text.lower() for phrase in OUT_OF_MEMORY)
    is_known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if is_known or (isinstance(error, RuntimeError) and is_full):
        return "oom", line
    return "cuda_error" if "CUDA error" in text else "crashed", line
