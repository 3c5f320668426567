"""The C library's heap, told what a look does: tens of arrays of some MiB each, one after another.

glibc takes each such array from the kernel and gives it back at once, so every one of them is cleared and faulted in anew: half the system time
of a large look. Source: mallopt(3).
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_IN_HEAP = 32 << 20  # glibc takes no more
_KEPT = 1 << 30


def keep_freed_memory() -> None:
    """Arrays up to 32 MiB come from the heap, and up to 1 GiB that is free stays ours. Nothing where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
