"""Memory that is full, on whatever device: how it is told from other errors, and how it is freed.

Whoever paints, writes or describes makes fewer things at once where it runs out.
"""

from __future__ import annotations

import gc

import torch

# What allocators of CPU, CUDA and MPS say; only CUDA's has an exception of its own.
FULL = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory",
    "alloc_failed", "invalid buffer size",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of whatever device, is full.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
        True
        >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        False
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in FULL)


def free_memory() -> None:
    """Give back what torch keeps for later, so that a smaller block finds it in one piece."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
