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

Left out: files. Reclaim takes pages of theirs as well (2.6.2 to 2.6.7), but nobody says what that load had of them.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.machine.arrays import I64
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size
from rmaplab.workloads.busy import Checked

PROCESSES = 4
INHERITED = COPIED = 8  # one page in so many
CHUNK = 256  # pages that are written or compared in one call
IN_ORDER = 8  # the first page in so many is read in order
AT_RANDOM = 50  # one page in so many is read or written at random
LOAD = 500 << 20
SMALL_RAM = 512 << 20
LEAST = PROCESSES * INHERITED * COPIED  # pages of a working set
_SPREAD, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # odd, with bits all over


def usual_load(ram_bytes: int) -> int:
    """What the working set has more than RAM where nobody says: 500 MiB; on boxes of less than 512 MiB half their RAM."""
    return LOAD if ram_bytes >= SMALL_RAM else ram_bytes // 2


@dataclass
class Part:
    """A mapping as its process should see it: who wrote each page, and how often that process has."""

    address: int
    writer: I64
    turn: I64

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
        pages = (self.address >> PAGE_SHIFT) + np.arange(first, first + nr)
        return contents(self.writer[first : first + nr], pages, self.turn[first : first + nr])


def contents(writer: I64, page: I64, turn: I64) -> bytes:
    """The bytes of pages, by who has written each, its number in the address space and how often. O(bytes)."""
    seed = ((writer << 56) ^ (page << 24) ^ turn).astype(np.uint64) * _SPREAD
    words = ((seed[:, None] + np.arange(PAGE_SIZE // 8, dtype=np.uint64)) * _MIX).astype(np.uint64, copy=False)
    words ^= words >> np.uint64(29)
    return bytes(words)


class Swapload(Checked):
    """One run: `size` bytes of different pages. Keeps the first system call that failed, and the first page with wrong bytes. Raises UsageError."""

    name = "swapload"

    def __init__(self, size: int, seed: int, *, forks: bool = True) -> None:
        self.nr_pages = size >> PAGE_SHIFT
        if self.nr_pages < LEAST:
            raise UsageError(
                f"a working set of {format_size(max(size, 0))}: swapload has {format_size(LEAST << PAGE_SHIFT)} or more, give it a larger --load"
            )
        super().__init__()
        self.seed, self.forks = seed, forks

    def run(self, system: System) -> None:
        """Run it to the end. Raises NoMemory if memory runs out where no errno can say so."""
        if self.forks:
            system.spawn(self.guarded(self._first))
        else:
            for me in range(PROCESSES):
                system.spawn(self.guarded(partial(self._rest, me=me, parts=[])))
        system.run()

    def _own(self, me: int) -> int:
        """Pages that a process maps for itself."""
        inherited = self._nr_inherited
        rest = self.nr_pages - inherited - sum(len(range(i, inherited, COPIED)) for i in range(1, PROCESSES))
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
        for part in parts:
            task.touch(part.address, (part.nr // IN_ORDER) << PAGE_SHIFT)
        self.written_bytes += sum(part.nr for part in parts) * PAGE_SIZE
        fine = self._mix(task, me, parts) and all(
            self._is_right(task, me, part, first, min(CHUNK, part.nr - first), counts=True)
            for part in parts
            for first in range(0, part.nr, CHUNK)
        )
        return 0 if fine else 1

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
            if nr % 2:
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
