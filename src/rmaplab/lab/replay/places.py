"""Where in what an address of the host lies: regions, and pieces of them.

    host          0x7f6a4ff5d000 [====== libc ======)          region 7 begins there
    a call        0x7f6a5012c000     [==)                      16 KiB of region 7 from 0x1cf000 on: a piece
    kernel        0x2a95559000   [====== libc ======)          where it has put region 7: so the call is about 0x2a95728000

A region is what one call has made: an mmap, an mremap, a shmat, the heap, or a part of a program that execve has mapped. Which addresses of the
host belong to which region is the same for every kernel; where a kernel has put a region is its own affair.
"""

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from rmaplab.errors import UsageError
from rmaplab.units import PAGE_SIZE, page_align
from rmaplab.workloads.program_image import ProgramImage

NEAR_BRK = 2 << 30
"""A program lies at most so far below its heap: randomisation moves that by up to 1 GiB (6.18 arch/x86/kernel/process.c, arch_randomize_brk)."""
NEAR_LOADER = 16 << 20
"""ld.so lies right above what is mapped first; the stack is farther away than that, for its limit lies between (6.18 mm/util.c, mmap_base)."""
MOST_STRETCHES = 150_000
"""Of one process: no more than 65,530 mappings were ever allowed by default, and what is one mapping may be made of some."""
LONGEST_PART = 64 << 20
"""What a program's or a loader's part may span; a log that says more is not believed."""


class RegionPiece(NamedTuple):
    """`length` bytes of a region from `offset` on; negative where a part's beginning was found later."""

    region: int
    offset: int
    length: int


class ProgramPart:
    """What execve has mapped and no line of the log shows: a program, its loader, or the stack. Its region's offset 0 is the first address of it that a call names.

    `low` and `high` are the offsets that calls have named so far.
    """

    def __init__(self, region: int, facts: ProgramImage | None = None) -> None:
        self.region, self.facts = region, facts
        self.origin: int | None = None
        self.low = self.high = 0
        self.begins: int | None = None
        """The offset where the program of these `facts` begins, once a call has told."""

    def protected(self, address: int, length: int) -> None:
        """A part of it has become read-only: if that is its loader's doing, it tells where the program begins."""
        relro = None if self.facts is None else self.facts.relro_pages()
        if relro is not None and self.origin is not None and length == relro[1]:
            self.begins = address - self.origin - relro[0]

    def reach(self, start: int, end: int) -> bool:
        """Whether [start, end) belongs to it: then it has grown over that."""
        start, end = start & -PAGE_SIZE, page_align(end)
        origin = start if self.origin is None else self.origin
        low, high = min(self.low, start - origin), max(self.high, end - origin)
        if high - low > LONGEST_PART:
            return False
        self.origin, self.low, self.high = origin, low, high
        return True


class Image:
    """What a program consists of when it begins, by the file of that number, and its loader by another."""

    def __init__(
        self, file: int | None, loader_file: int | None, program: ProgramPart, loader: ProgramPart, stack: ProgramPart
    ) -> None:
        self.file, self.loader_file = file, loader_file
        self.program, self.loader, self.stack = program, loader, stack

    def part_at(self, address: int, heap: int | None, top: int) -> ProgramPart | None:
        """Which part an address must belong to that nobody has mapped, where the heap begins at `heap` and calls have mapped up to `top`."""
        if heap is not None and heap - NEAR_BRK <= address < heap:
            return self.program
        if top <= address < top + NEAR_LOADER:
            return self.loader
        return self.stack if address >= top else None


class HostSpace:
    """An address space of the host, as far as the log shows it: which region is where. `heap` is where its heap begins, `brk` where it ends."""

    def __init__(self, image: Image | None) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._regions: list[tuple[int, int]] = []  # a region, and where it begins
        self.image = image
        self.heap: int | None = None
        self.heap_region = -1
        self.brk = self.top = 0
        self.touched: set[int] = set()
        """Pages that are in memory since something has changed here last."""

    def copy(self) -> "HostSpace":
        """A child's."""
        self.touched.clear()
        child = HostSpace(self.image)
        child._starts, child._ends, child._regions = self._starts[:], self._ends[:], self._regions[:]
        child.heap, child.heap_region, child.brk, child.top = self.heap, self.heap_region, self.brk, self.top
        return child

    @property
    def nr_stretches(self) -> int:
        """How many it has."""
        return len(self._starts)

    def put(self, start: int, end: int, region: int, origin: int | None = None) -> None:
        """[start, end) shows `region` now, which begins at `origin` (`start` if not given). O(stretches). Raises UsageError where they are too many."""
        if end <= start:
            return
        if len(self._starts) >= MOST_STRETCHES:
            raise UsageError(f"a process of the log maps more than {MOST_STRETCHES:,} stretches: record less at once")
        self.cut(start, end)
        at = bisect_left(self._starts, start)
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        self._regions.insert(at, (region, start if origin is None else origin))
        self.top = max(self.top, end)

    def cut(self, start: int, end: int) -> None:
        """Nothing is at [start, end) any more. O(stretches)."""
        self.touched.clear()
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if first >= last:
            return
        low, high = self._starts[first], self._ends[last - 1]
        kept = []
        if low < start:
            kept.append((low, start, self._regions[first]))
        if end < high:
            kept.append((end, high, self._regions[last - 1]))
        self._starts[first:last] = [each[0] for each in kept]
        self._ends[first:last] = [each[1] for each in kept]
        self._regions[first:last] = [each[2] for each in kept]

    def begins(self, address: int) -> RegionPiece | None:
        """The whole of the region that begins at `address`, as far as it is one stretch."""
        at = bisect_left(self._starts, address)
        if at == len(self._starts) or self._starts[at] != address or self._regions[at][1] != address:
            return None
        return RegionPiece(self._regions[at][0], 0, self._ends[at] - address)

    def behind(self, address: int) -> RegionPiece | None:
        """The place right behind the stretch that ends at `address`, of no length."""
        at = bisect_left(self._ends, address)
        if at == len(self._ends) or self._ends[at] != address:
            return None
        region, origin = self._regions[at]
        return RegionPiece(region, address - origin, 0)

    def known(self, start: int, end: int) -> list[RegionPiece]:
        """What of [start, end) calls have mapped, holes left out. O(log stretches + pieces)."""
        at = bisect_right(self._ends, start)
        found = []
        while at < len(self._starts) and self._starts[at] < end:
            low, high = max(start, self._starts[at]), min(end, self._ends[at])
            region, origin = self._regions[at]
            found.append(RegionPiece(region, low - origin, high - low))
            at += 1
        return found

    def pieces(self, start: int, end: int) -> list[RegionPiece] | None:
        """What [start, end) is made of; None if a part of it is nothing that is known. O(log stretches + pieces)."""
        at = bisect_right(self._ends, start)
        found: list[RegionPiece] = []
        while start < end:
            if at < len(self._starts) and self._starts[at] <= start:
                stop = min(end, self._ends[at])
                region, origin = self._regions[at]
                offset = start - origin
                at += 1
            else:
                limit = min(end, self._starts[at]) if at < len(self._starts) else end
                part = None if self.image is None else self.image.part_at(start, self.heap, self.top)
                if part is None or not part.reach(start, limit):
                    return None
                stop, region, offset = limit, part.region, start - (part.origin or 0)
            if found and found[-1].region == region and found[-1].offset + found[-1].length == offset:
                found[-1] = RegionPiece(region, found[-1].offset, found[-1].length + stop - start)
            else:
                found.append(RegionPiece(region, offset, stop - start))
            start = stop
        return found
