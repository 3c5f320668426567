"""A working set of RAM and 500 MiB more: processes that write it, read it, and at last look at every byte.

    parent     |== inherited ==| writes it, forks three           |---- own ----|
    child 1    |=*=======*=====| each child writes every 8th      |---- own ----|      all at once:
    child 2    |==*=======*====| of those pages, another than     |---- own ----|      write, read a part in order, some pages at random, all of it and compare
    child 3    |===*=======*===| its sisters                      |---- own ----|

"I'm running this kernel while writing this and it's under 500M swap load without problems" (the announcement, 18 March 2004). What that load was it does not say; this one is
ours. Together they have so many different pages as were asked for: an eighth is inherited, and three times an eighth of that is copied; pages that
are written at random are some copies more. Without forks they are four processes
that nobody has forked, with a quarter each.

What a page holds follows from who wrote it, where it lies and how often it was written, so no two have the same bytes and a page that comes back from swap as another, or as it
was before, is seen.

With `files` a quarter of the pages lie in files on the disk, a fifth of them in each of five. Every process maps one of its own, shared, and writes its first half; the last one all map, and nobody writes:

    own file     |~~~~ written ~~~~|.... as on the disk ....|      x 4       mapped, some pages at random, then all of it; then read(2) as well
    common file  |........... as on the disk ...............|      x 1       likewise, by all four

What of that load was in files nobody says.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.machine.arrays import I64, U8
from rmaplab.objects.flags import MAP_SHARED
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size
from rmaplab.workloads.busy import Checked

PROCESSES = 4
INHERITED = COPIED = 8  # one page in so many
IN_FILES = 4  # likewise, where there are files
FROM_DISK = 8  # who has written what nobody has
CHUNK = 256  # pages that are written or compared in one call
IN_ORDER = 8  # the first page in so many is read in order
AT_RANDOM = 50  # one page in so many is read or written at random
LOAD = 500 << 20
SMALL_RAM = 512 << 20
LEAST = PROCESSES * INHERITED * COPIED  # pages of a working set
_SPREAD, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # odd, with bits all over
_SHIFT = np.uint64(29)


def usual_load(ram_bytes: int) -> int:
    """What the working set has more than RAM where nobody says: 500 MiB; on boxes of less than 512 MiB half their RAM."""
    return LOAD if ram_bytes >= SMALL_RAM else ram_bytes // 2


@dataclass
class Part:
    """A mapping as its process should see it: who wrote each page, and how often that process has."""

    address: int
    writer: I64
    turn: I64
    base: int | None = None
    """The number of its first page that its bytes hang on: of a file, which may be mapped anywhere."""
    writable: bool = True

    def copy(self) -> "Part":
        """What a child inherits."""
        return replace(self, writer=self.writer.copy(), turn=self.turn.copy())

    @property
    def nr(self) -> int:
        """Pages."""
        return self.writer.size

    def at(self, page: int) -> int:
        """An address."""
        return self.address + (page << PAGE_SHIFT)

    def bytes(self, first: int, nr: int) -> bytes:
        """What pages [first, first + nr) hold."""
        pages = (self.address >> PAGE_SHIFT if self.base is None else self.base) + np.arange(first, first + nr)
        return contents(self.writer[first : first + nr], pages, self.turn[first : first + nr])


def contents(writer: I64, page: I64, turn: I64) -> bytes:
    """The bytes of pages, by who has written each, its number in the address space and how often. O(bytes)."""
    seed = ((writer << 56) ^ (page << 24) ^ turn).astype(np.uint64) * _SPREAD
    words = ((seed[:, None] + np.arange(PAGE_SIZE // 8, dtype=np.uint64)) * _MIX).astype(np.uint64, copy=False)
    words ^= words >> _SHIFT
    return bytes(words)


def legible(pages: U8) -> int:
    """How many of (any, 4096) bytes have two words, one behind the other, as contents() has them: what somebody could read who has the disk. O(bytes)."""
    words = pages.view(np.uint64)
    words = words ^ words >> _SHIFT ^ words >> _SHIFT + _SHIFT  # what they were before the last step
    return int((words[:, 1:] - words[:, :-1] == _MIX).any(axis=1).sum())


class Swapload(Checked):
    """One run: `size` bytes of different pages, a quarter of them in files if there are `files`. Keeps the first system call that failed, and the first page with wrong bytes. Raises UsageError."""

    name = "swapload"

    def __init__(self, size: int, seed: int, *, forks: bool = True, files: bool = False) -> None:
        self.nr_pages = size >> PAGE_SHIFT
        if self.nr_pages < LEAST:
            raise UsageError(
                f"a working set of {format_size(max(size, 0))}: swapload has {format_size(LEAST << PAGE_SHIFT)} or more, give it a larger --load"
            )
        super().__init__()
        self.seed, self.forks = seed, forks
        self.file_pages = self.nr_pages // IN_FILES // (PROCESSES + 1) if files else 0
        """Of each file."""
        self._files: list[AddressSpace] = []

    def run(self, system: System) -> None:
        """Run it to the end. Raises NoMemory if memory runs out where no errno can say so."""
        if self.file_pages:
            parts = [self._in_file(0, nr) for nr in range(PROCESSES + 1)]
            self._files = [system.new_file(part.bytes(0, part.nr)) for part in parts]
        if self.forks:
            system.spawn(self.guarded(self._first))
        else:
            for me in range(PROCESSES):
                system.spawn(self.guarded(partial(self._rest, me=me, parts=[])))
        system.run()

    def _own(self, me: int) -> int:
        """Pages that a process maps for itself."""
        inherited = self._nr_inherited
        rest = (
            self.nr_pages
            - (PROCESSES + 1) * self.file_pages
            - inherited
            - sum(len(range(i, inherited, COPIED)) for i in range(1, PROCESSES))
        )
        return rest // PROCESSES + (me < rest % PROCESSES)

    @property
    def _nr_inherited(self) -> int:
        return self.nr_pages // INHERITED if self.forks else 0

    def _first(self, task: Task) -> int:
        inherited = self._mapped(task, 0, self._nr_inherited)
        for me in range(1, PROCESSES):
            task.fork(self.guarded(partial(self._child, me=me, inherited=inherited.copy())))
        code = self._rest(task, 0, [inherited])
        while task.children:
            task.wait()
        return code

    def _child(self, task: Task, me: int, inherited: Part) -> int:
        for page in range(me, inherited.nr, COPIED):
            _write(task, me, inherited, page, 1)
        return self._rest(task, me, [inherited])

    def _rest(self, task: Task, me: int, parts: list[Part]) -> int:
        """What every process does with what it has inherited, and what it maps."""
        parts = [*parts, self._mapped(task, me, self._own(me))]
        shown = self._shown(task, me)
        parts += shown.values()
        for part in parts:
            task.touch(part.address, (part.nr // IN_ORDER) << PAGE_SHIFT)
        self.written_bytes += sum(part.nr for part in (*parts, *shown.values())) * PAGE_SIZE
        fine = self._mix(task, me, parts) and all(
            self._is_right(task, me, part, first, min(CHUNK, part.nr - first), counts=True)
            for part in parts
            for first in range(0, part.nr, CHUNK)
        )
        return 0 if fine and all(self._is_read(task, me, fd, part) for fd, part in shown.items()) else 1

    def _in_file(self, address: int, nr: int) -> Part:
        """File `nr` as it lies on the disk, mapped at `address`; of the last one nothing is written."""
        pages = self.file_pages
        base = (nr + 1) << 26
        return Part(address, np.full(pages, FROM_DISK), np.zeros(pages, np.int64), base, writable=nr < PROCESSES)

    def _shown(self, task: Task, me: int) -> dict[int, Part]:
        """By descriptor: its own file, of which it writes the first half, and the common one. Nothing where there are none."""
        parts = dict[int, Part]()
        for nr in (me, PROCESSES) if self._files else ():
            fd = task.open(self._files[nr], writable=True)
            address = task.mmap(self.file_pages << PAGE_SHIFT, flags=MAP_SHARED, file=fd)
            parts[fd] = part = self._in_file(address, nr)
            half = self.file_pages // 2 if part.writable else 0
            for first in range(0, half, CHUNK):
                _write(task, me, part, first, min(CHUNK, half - first))
        return parts

    def _is_read(self, task: Task, me: int, fd: int, part: Part) -> bool:
        """Whether read(2) of a file gives what it maps."""
        for first in range(0, part.nr, CHUNK):
            nr = min(CHUNK, part.nr - first)
            seen = task.pread(fd, nr << PAGE_SHIFT, first << PAGE_SHIFT)
            if not self.compare(task, me, part.at(first), seen, part.bytes(first, nr)):
                return False
        return True

    def _mapped(self, task: Task, me: int, nr: int) -> Part:
        """Pages of its own, written one after the other."""
        part = Part(task.mmap(nr << PAGE_SHIFT), np.full(nr, me), np.zeros(nr, np.int64))
        for first in range(0, nr, CHUNK):
            _write(task, me, part, first, min(CHUNK, nr - first))
        return part

    def _mix(self, task: Task, me: int, parts: list[Part]) -> bool:
        """Single pages, in an order that only the seed knows: every other one is written, the others compared."""
        ends = np.cumsum([part.nr for part in parts])
        drawn = np.random.default_rng((self.seed, me)).choice(int(ends[-1]), int(ends[-1]) // AT_RANDOM, replace=False)
        rows = np.searchsorted(ends, drawn, "right")
        for nr, (row, place) in enumerate(zip(rows.tolist(), drawn.tolist(), strict=True)):
            part = parts[row]
            page = place - int(ends[row]) + part.nr
            if nr % 2 and part.writable:
                _write(task, me, part, page, 1)
            elif not self._is_right(task, me, part, page, 1):
                return False
        return True

    def _is_right(self, task: Task, me: int, part: Part, first: int, nr: int, *, counts: bool = False) -> bool:
        """Whether pages have the bytes that were written."""
        at = part.at(first)
        return self.compare(task, me, at, task.read(at, nr << PAGE_SHIFT), part.bytes(first, nr), counts=counts)


def _write(task: Task, me: int, part: Part, first: int, nr: int) -> None:
    """Pages get new bytes."""
    part.writer[first : first + nr] = me
    part.turn[first : first + nr] += 1
    task.write(part.at(first), part.bytes(first, nr))
