"""Who writes dirty pages of files but reclaim: writers that have made too many of them, and pdflush (pdflush.py) for all.

    dirty + under way   0 ------------ 10 % ------------------ 40 %          of the RAM that page cache may have
                                        |  pdflush writes       |  a writer writes back half again as much as it may write unasked, and waits
                                        background              dirty

The more is mapped, the lower both are: half of what nobody maps, no less than 5 %. A writer asks for that not with each page but with each n-th: a 32nd of RAM by CPUs, 1024 at most;
8 when too much was dirty the last time.

    inodes    s_dirty: newest ... oldest ---> s_io: written from the oldest on; one that is not done stays there, or goes back as the newest

An inode is dirty from its first dirty page on, for write(2) at once, for what a mapping has written when the page hears of it: at munmap, msync, or when reclaim unmaps it.

Source: 2.6.2, 2.6.5 and 2.6.7 mm/page-writeback.c, get_dirty_limits, balance_dirty_pages, set_ratelimit, page_writeback_init; fs/fs-writeback.c, sync_sb_inodes, __sync_single_inode,
__mark_inode_dirty; fs/mpage.c, mpage_writepages; reclaim.md D.8. Believed: 2.6.2 and 2.6.5 write an inode's pages in the order in which they became dirty; here it is that of the file.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, U32, consecutive
from rmaplab.machine.disk import MOST_PAGES
from rmaplab.machine.frames import PG_DIRTY, PG_WRITEBACK
from rmaplab.machine.jit import kernel
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.reclaim.reclaimer import SECOND
from rmaplab.reclaim.rules import ReclaimRules
from rmaplab.reclaim.shrink_file import FilePages
from rmaplab.units import PAGE_SIZE

VM_DIRTY_RATIO, DIRTY_BACKGROUND_RATIO, LEAST_RATIO = 40, 10, 5
"""Percentages; where little of RAM is low memory they are less (page_writeback_init)."""
RATELIMIT_EXCEEDED = 8
LAST = (1 << 52) - 1


@dataclass
class WritebackControl:
    """One order to write: `nr_to_write` pages, fewer when it is done."""

    nr_to_write: int
    older_than_ns: int | None = None
    """Only inodes that were dirty then already."""
    nonblocking: bool = False
    """Ends where the disk's queue is congested, and says so."""
    for_kupdate: bool = False
    by_pdflush: bool = False
    encountered_congestion: bool = False


@dataclass(frozen=True)
class DirtyState:
    """Pages, now: dirty ones, those under way to a disk, and the two thresholds."""

    nr_dirty: int
    nr_writeback: int
    background: int
    dirty: int

    @property
    def exceeds(self) -> bool:
        """Whether writers have to wait."""
        return self.nr_dirty + self.nr_writeback > self.dirty


class Writeback:
    """Of one kernel, on its one disk. `wake_background` starts background_writeout, if nobody has yet."""

    def __init__(self, k: Kernel, rules: ReclaimRules) -> None:
        self.k, self.rules = k, rules
        self.files = FilePages(k)
        zones = k.machine.allocator.zones
        self.total_pages = sum(zone.extent.present for zone in zones)  # pages_high is 0 still when this is computed
        low = sum(zone.extent.present for zone in zones if not zone.extent.is_high)
        correction = min(400 * low // self.total_pages, 100)
        self.dirty_ratio = VM_DIRTY_RATIO * correction // 100
        self.background_ratio = DIRTY_BACKGROUND_RATIO * correction // 100
        nr_cpus = len(k.machine.sched.cpus)
        self.ratelimit_pages = min(max(self.total_pages // (nr_cpus * 32), 16), (4096 << 10) // PAGE_SIZE)
        self.s_dirty: dict[AddressSpace, int] = {}
        """Dirty inodes, and since when (ns); who comes first is the oldest."""
        self.s_io: dict[AddressSpace, int] = {}
        """Those that are to be written, likewise."""
        self.dirty_exceeded = False
        self.in_progress = False
        """Whether a pdflush writes to the disk just now (BDI_pdflush)."""
        self.wake_background: Callable[[], None] = _nobody
        self.inode_is_dirty: Callable[[], None] = _nobody
        """Told of each page: then there is something for wb_kupdate to do some day."""
        self._ratelimits = [0] * nr_cpus
        self._locked: dict[AddressSpace, bool] = {}  # I_LOCK: whether it became dirty meanwhile
        self._index: dict[AddressSpace, int] = {}  # writeback_index

    # -- what is dirty ----------------------------------------------------------------------------------------------------

    def mark_inode_dirty(self, file: AddressSpace) -> None:
        """__mark_inode_dirty: some page of a file on the disk is newer than that. O(1)."""
        if not file.on_disk:
            return
        if file in self._locked:
            self._locked[file] = True
        elif file not in self.s_io and file not in self.s_dirty:
            self.s_dirty[file] = self._now_ns
        self.inode_is_dirty()

    @property
    def any_dirty(self) -> bool:
        """Whether any inode is."""
        return bool(self.s_dirty or self.s_io or self._locked)

    @property
    def nr_dirty(self) -> int:
        """Pages of files on the disk that are newer than it. O(pages of dirty inodes)."""
        flags = self.k.machine.frames.flags
        inodes = set(chain(self.s_dirty, self.s_io, self._locked))
        return sum(int(np.count_nonzero(flags[file.pages.within(0, LAST)[1]] & PG_DIRTY)) for file in inodes)

    def state(self) -> DirtyState:
        """get_dirty_limits. O(frames), O(pages of dirty inodes)."""
        frames = self.k.machine.frames
        nr_mapped, nr_writeback = _page_state(frames.flags, frames.mapcount)
        unmapped_ratio = 100 - nr_mapped * 100 // self.total_pages
        dirty_ratio = max(min(self.dirty_ratio, unmapped_ratio // 2), LEAST_RATIO)
        ratio = self.background_ratio if self.background_ratio < dirty_ratio else dirty_ratio // 2
        background, dirty = (percent * self.total_pages // 100 for percent in (ratio, dirty_ratio))
        return DirtyState(self.nr_dirty, nr_writeback, background, dirty)

    # -- writers ----------------------------------------------------------------------------------------------------------

    def balance_dirty_pages_ratelimited(self) -> None:
        """Somebody has made one page dirty; if it is time he may have to write some, and to wait. May sleep: no spinlock may be held."""
        cpu = self.k.this_cpu()
        limit = RATELIMIT_EXCEEDED if self.dirty_exceeded else self.ratelimit_pages
        self._ratelimits[cpu] += 1
        if self._ratelimits[cpu] > limit:
            self._ratelimits[cpu] = 0
            self.balance_dirty_pages()

    def balance_dirty_pages(self) -> None:
        """While too much is dirty: write a chunk, and be done, or wait until something is written."""
        self.k.machine.end_burst()
        chunk = self.ratelimit_pages + self.ratelimit_pages // 2
        written = 0
        while (now := self.state()).exceeds:
            self.dirty_exceeded = True
            if now.nr_dirty:
                control = WritebackControl(chunk)
                self.writeback_inodes(control)
                if not (now := self.state()).exceeds:
                    break
                written += chunk - control.nr_to_write
                if written >= chunk:
                    break
            self.k.machine.disk.congestion_wait(SECOND // 10)
        if not now.exceeds:
            self.dirty_exceeded = False
        if not self.in_progress and now.nr_dirty > now.background:
            self.wake_background()

    # -- inodes -----------------------------------------------------------------------------------------------------------

    def writeback_inodes(self, control: WritebackControl) -> None:
        """Dirty inodes, the oldest first, until enough is written. May sleep."""
        start_ns = self._now_ns
        if not control.for_kupdate or not self.s_io:
            self.s_io |= self.s_dirty
            self.s_dirty = {}
        while self.s_io:
            file, when_ns = next(iter(self.s_io.items()))
            if self.k.page_cache.files.get(file.address) is not file:  # it has gone
                self._forget(file)
                continue
            if control.nonblocking and self.k.machine.disk.is_write_congested:
                control.encountered_congestion = True
                return
            if when_ns > start_ns or (control.older_than_ns is not None and when_ns > control.older_than_ns):
                return
            if control.by_pdflush:
                if self.in_progress:
                    return
                self.in_progress = True
            try:
                self._writeback_single_inode(file, control)
            finally:
                self.in_progress &= not control.by_pdflush
            if control.nr_to_write <= 0:
                return

    def _writeback_single_inode(self, file: AddressSpace, control: WritebackControl) -> None:
        """One inode, unless somebody is at it; then where it belongs."""
        when_ns = self.s_io[file]
        if file in self._locked:
            del self.s_io[file]
            self.s_dirty[file] = when_ns
            return
        self._locked[file] = False
        try:
            ended_early = self._write_pages(file, control)
        finally:
            redirtied = self._locked.pop(file)
        if self.s_io.pop(file, None) is None:  # who came by has put it on s_dirty
            self.s_dirty.pop(file, None)
        left = self._has_dirty(file)
        if not left and not redirtied:
            return
        if not self.rules.inodes_take_turns:  # io_pages are left, or only what is newer
            if ended_early and left:
                self.s_io = {file: when_ns} | self.s_io
            else:
                self.s_dirty[file] = self._now_ns
        elif redirtied:
            self.s_io = {file: when_ns} | self.s_io
        elif control.for_kupdate:
            self.s_dirty = {file: when_ns} | self.s_dirty
        else:
            self.s_dirty[file] = self._now_ns

    def _write_pages(self, file: AddressSpace, control: WritebackControl) -> bool:
        """mpage_writepages: dirty pages that are not under way, a request's worth at a time. Whether it ended before all were."""
        disk = self.k.machine.disk
        for first, last in _stretches(self._candidates(file)):
            if control.nr_to_write <= 0:
                return True
            if control.nonblocking and disk.is_write_congested:
                control.encountered_congestion = True
                return True
            stop = min(last, first + control.nr_to_write - 1)
            indexes, pfns = file.pages.within(first, stop)
            flags = self.k.machine.frames.flags[pfns]
            ready = flags & (PG_DIRTY | PG_WRITEBACK) == PG_DIRTY  # as it is now: others may have been here
            indexes, pfns = indexes[ready], pfns[ready]
            for index, begin, end in consecutive(indexes):
                self.files.start_writing(file, index, pfns[begin:end], PG_WRITEBACK)
            control.nr_to_write -= pfns.size
            self._index[file] = stop + 1
            if pfns.size:
                self.k.machine.end_burst()
                if not control.nonblocking:
                    disk.get_request_wait()
            if stop < last:
                return True
        return False

    def _candidates(self, file: AddressSpace) -> I64:
        """The indexes of pages that could be written, ascending; from 2.6.7 on from where the last one has ended, and from the beginning if nothing is there."""
        indexes, pfns = file.pages.within(0, LAST)
        newer: I64 = indexes[self.k.machine.frames.flags[pfns] & PG_DIRTY != 0]
        if self.rules.inodes_take_turns:
            ahead: I64 = newer[newer >= self._index.get(file, 0)]
            if ahead.size:
                return ahead
        return newer

    def _has_dirty(self, file: AddressSpace) -> bool:
        return bool((self.k.machine.frames.flags[file.pages.within(0, LAST)[1]] & PG_DIRTY).any())

    def _forget(self, file: AddressSpace) -> None:
        for known in (self.s_io, self.s_dirty, self._index):
            known.pop(file, None)

    @property
    def _now_ns(self) -> int:
        return self.k.machine.sched.now_ns

    def check(self) -> None:
        """Whoever has a dirty page is on a list, and on one alone. Raises KernelBug. O(pages cached)."""
        for file in self.k.page_cache.files.values():
            lists = (file in self.s_dirty) + (file in self.s_io)
            if lists > 1:
                raise KernelBug("inode_lists", f"file {file.address} is on s_dirty and on s_io")
            if file.on_disk and not lists and file not in self._locked and self._has_dirty(file):
                raise KernelBug("inode_lists", f"file {file.address} has dirty pages, and pdflush does not know")


def _nobody() -> None:
    """There is no pdflush."""


def _stretches(indexes: I64) -> Iterable[tuple[int, int]]:
    """Neighbours, no more than a request has: (first, last)."""
    for index, begin, end in consecutive(indexes):
        for first in range(index, index + end - begin, MOST_PAGES):
            yield first, min(first + MOST_PAGES, index + end - begin) - 1


@kernel
def _page_state(flags: U32, mapcount: I32) -> tuple[int, int]:
    """(pages that somebody maps, pages under way)."""
    mapped = under_way = 0
    for pfn in range(flags.size):
        mapped += mapcount[pfn] > 0
        under_way += flags[pfn] & np.uint32(PG_WRITEBACK) != 0
    return mapped, under_way
