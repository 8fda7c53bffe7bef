"""Memory that a step frees stays with the process, for the next step to use."""

from __future__ import annotations

import ctypes
import os

# Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = -1
LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes; larger tensors are mapped each for itself, as ever


def keep_freed_memory() -> None:
    """On a CPU, spares the kernel to hand out and zero the same pages again in every step.

    glibc gives memory back that is freed at the end of its heap, which all activations of a step
    are; to take it anew cost 4 % of a step (docs/log.md). Does nothing under another C library, or
    where the environment says how malloc is to work.
    """
    told = any(name.startswith("MALLOC_") for name in os.environ)
    if told or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, NEVER)
