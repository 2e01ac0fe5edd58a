"""The heap of the C library: how much freed memory it keeps, and how to return that to the system. glibc only."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Final

KEPT_FREE: Final = 16 * 1024 * 1024
"""Free bytes at the end of the heap that the C library keeps (M_TRIM_THRESHOLD)."""
MAPPED_FROM: Final = 8 * 1024 * 1024
"""Minimum bytes of a block that is mapped outside of the heap, and unmapped when freed (M_MMAP_THRESHOLD)."""
ARENAS: Final = 2
"""Heaps of the C library: each thread may reserve one of 64 MB of address space (M_ARENA_MAX)."""
_SETTINGS: Final = frozenset({"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"})
"""Environment variables that may set these thresholds, and then take precedence (mallopt(3))."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def keep_freed_memory() -> None:
    """Keep freed memory for the next large response, within bounds (mallopt(3)).

    Otherwise glibc returns each large block to the kernel, and every reuse faults its pages in again. Settings in the
    environment take precedence. Does nothing on C libraries without `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and _SETTINGS.isdisjoint(os.environ):
        mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM)
        mallopt(_M_TRIM_THRESHOLD, KEPT_FREE)
        mallopt(_M_ARENA_MAX, ARENAS)


def trim() -> None:
    """Collect garbage, and return free memory to the system."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
