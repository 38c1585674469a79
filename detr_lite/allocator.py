"""Memory that the C library keeps for the next tensor instead of giving it back to the system."""

import contextlib
import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's malloc.h."""
LARGEST = 1 << 30
"""Bytes of a block from which on it still goes back at once, and that may lie unused at the end of the heap."""
LARGEST_OF_OLD = 1 << 25
"""The largest that older versions of glibc accept."""
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
"""With which a user has decided otherwise."""


def keep_freed_memory() -> bool:
    """Let glibc reuse the memory of large tensors; whether it does so from now on.

    It gives every freed block above 32 MiB, and most of what is free at the end of the heap, back to the system, which
    has to fill the pages of the next one with zeros: thousands of page faults in every training step on a processor.
    Other C libraries, and allocators that are loaded in its place (jemalloc, tcmalloc), stay as they are.
    """
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # of another C library; on Windows there is no CDLL(None)
        return False
    is_set = mallopt(MMAP_THRESHOLD, LARGEST) or mallopt(MMAP_THRESHOLD, LARGEST_OF_OLD)
    return bool(is_set and mallopt(TRIM_THRESHOLD, LARGEST))


def give_back_freed_memory() -> None:
    """Give what is free back to the system now, as far as glibc can, so that memory which is taken later is seen."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # of another C library
        ctypes.CDLL(None).malloc_trim(0)
