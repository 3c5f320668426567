"""alloc_pages: who may have a frame, and what happens when there is none.

    free frames   |------------------------------|----------|----|
                                            pages_min     min/4   0
    GFP_KERNEL, GFP_HIGHUSER    down to pages_min, then reclaim
    GFP_ATOMIC                  down to a quarter of it, then nothing: the caller copes

Below the mark a request that may sleep goes to the `reclaim` hook, which a kernel installs when it boots. As long as
nobody has, NeedsReclaim says so: a run never goes on with memory it could not have had.

There is one zone now. `Gfp.HIGHUSER` already says which requests may be met from high memory, so zones change this file
and no caller.

Source: 2.6.2 mm/page_alloc.c, __alloc_pages (pass 2: pages_min, __GFP_HIGH takes min >> 2) and setup_per_zone_pages_min
(the square root of the lowmem kilobytes, between 128 KiB and 16 MiB); eras.md 4.2 says how later kernels differ.
"""

import math
from collections.abc import Callable
from enum import Enum

import numpy as np
import numpy.typing as npt

from rmaplab.errors import AllocationFailed, KernelBug, NeedsReclaim
from rmaplab.machine.buddy import Buddy
from rmaplab.machine.frames import PG_RESERVED, Frames, clear_frames
from rmaplab.machine.ram import Ram
from rmaplab.units import PAGE_SIZE

I64 = npt.NDArray[np.int64]


class Gfp(Enum):
    """What a request may do to be met."""

    ATOMIC = "ATOMIC"  # cannot sleep; may dip into the reserve
    KERNEL = "KERNEL"  # may sleep and reclaim; low memory only
    HIGHUSER = "HIGHUSER"  # may sleep and reclaim; any memory


def pages_min(nr_frames: int) -> int:
    """The 2.6.2 mark for a box of `nr_frames`, in pages: sqrt of the size in KiB, in KiB, clamped to [128, 16384]."""
    kilobytes = nr_frames * PAGE_SIZE // 1024
    return min(max(math.isqrt(kilobytes), 128), 16384) * 1024 // PAGE_SIZE


class PageAllocator:
    """The frames of one machine, minus those the kernel took when it booted."""

    def __init__(self, ram: Ram, frames: Frames, reserved: int) -> None:
        self.ram, self.frames = ram, frames
        self.pages_min = pages_min(ram.nr_frames)
        self.zone = Buddy(ram.nr_frames, reserved, ram.nr_frames)
        self.reclaim: Callable[[int, int], None] = _nothing_to_reclaim
        self.fail_after: int | None = None  # the failure injector: requests still granted before one is refused
        frames.flags[:reserved] |= PG_RESERVED
        frames.count[:reserved] = 1

    @property
    def nr_free(self) -> int:
        """nr_free_pages()."""
        return self.zone.nr_free

    def alloc(self, nr: int, gfp: Gfp, *, order: int = 0, zeroed: bool = False) -> I64:
        """`nr` blocks of 2^order frames, sleeping for them if it must. page->count of each first frame is 1.

        Raises NeedsReclaim (or what the reclaim hook raises) when a sleeping request cannot be met, and
        AllocationFailed when the failure injector refuses it.
        """
        if self.fail_after is not None and self.injected_failure(nr):
            raise AllocationFailed(f"{nr} blocks of order {order}")
        while (blocks := self.take(nr, gfp, order, zeroed)) is None:
            self.reclaim(nr, order)
        return blocks

    def try_alloc(self, nr: int, gfp: Gfp, *, order: int = 0, zeroed: bool = False) -> I64 | None:
        """The same without sleeping: all of it, or None and nothing changed."""
        return None if self.injected_failure(nr) else self.take(nr, gfp, order, zeroed)

    def take(self, nr: int, gfp: Gfp, order: int, zeroed: bool) -> I64 | None:
        """try_alloc behind the failure injector's back: for who has asked it already."""
        mark = self.pages_min >> 2 if gfp is Gfp.ATOMIC else self.pages_min
        if self.zone.nr_free - (nr << order) < mark:
            return None
        blocks = self.zone.alloc(nr, order)
        if blocks.size < nr:  # free memory is in pieces
            self.zone.free(blocks, order)
            return None
        if nr == 1 and order == 0:  # a fault's page: scalars, not arrays
            pfn = blocks.item()
            self.frames.count[pfn] = 1
            if not zeroed or not self.frames.scribbled[pfn]:
                return blocks
        else:
            self.frames.count[blocks] = 1
        if zeroed:
            pfns = blocks if order == 0 else (blocks[:, None] + np.arange(1 << order)).ravel()
            clear_frames(self.ram.bytes, self.frames.scribbled, pfns)
        return blocks

    def free(self, blocks: I64, *, order: int = 0) -> None:
        """Give blocks back, whatever their count; their flags are cleared."""
        if not blocks.size:
            return
        self.frames.count[blocks] = 0
        self.frames.flags[blocks] = 0
        self.zone.free(blocks, order)

    def injected_failure(self, nr: int) -> bool:
        """Whether the failure injector refuses this request of `nr` objects.

        The n-th is refused once, with the whole request it is part of. Slab caches ask here too: one count for all. Whoever
        works in batches goes page by page while the injector is armed, so that requests come in the kernel's order.
        """
        if self.fail_after is None:
            return False
        if nr <= self.fail_after:
            self.fail_after -= nr
            return False
        self.fail_after = None
        return True

    def check(self) -> None:
        """Free lists, counter and page->count agree. O(frames)."""
        free = self.zone.free_mask()
        if self.frames.count[free].any():
            raise KernelBug("free_area", "a free frame is referenced")
        if (self.frames.count < 0).any():
            raise KernelBug("page_count", "a count is negative")


def _nothing_to_reclaim(nr: int, order: int) -> None:
    raise NeedsReclaim(f"out of memory: {nr} blocks of order {order} are wanted, and this kernel has no reclaim yet")
