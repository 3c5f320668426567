"""qsbench: a quicksort over more integers than there is RAM for, the benchmark by which the VM of 2.4 and 2.5 was judged (Lorenzo Allegrucci, 2001).

    array     |3 7 1 6 ........................................ 2 9 4 5|     random, written in order
    a pass     i --->  what is not below the pivot changes places  <--- j     from both ends: every page is read and written
              |== below the pivot ==|======== the others =============|     then the left part, to its end; then the right one

What it is: that program's passes, over pages of simulated memory, with real numbers in them. Each process has its own array, maps it, writes it, sorts it with the
median of three as the pivot, and goes through it in order at last. The numbers are 0 to n - 1, shuffled: sorted, each lies where it says, so the last
look is of every byte, and a page that came back as another at any time before is seen there (not where and when it happened: it has been sorted since).

What it is not: its instructions. Where a part has come down to LEAF bytes it is read, sorted and written at once: its passes touch the same few pages. Left and right
are read and written in blocks of BLOCK bytes. All of the program's processes sort the same numbers; here each has them shuffled another way, as pages of one that come to another must be seen. What comparing takes of the CPU is one price for each number and pass. srand and malloc are not there, nor is the program's text.

Sources: qsbench.c 0.92 and what its options mean, Lorenzo Allegrucci, 9 October 2001, <3.0.6.32.20011009163147.01e5e6e0@pop.tiscalinet.it>; `-m`, the array in MB, 29 September
2002, <200209291615.24158.l.allegrucci@tiscalinet.it>; PASS_PS: `qsbench -m 350` took 24.2 s of user time (Nikita Danilov, 25 February 2004,
<16444.32362.648358.521800@laputa.namesys.com>, on a box he does not describe).
"""

import math
from functools import partial

import numpy as np
import numpy.typing as npt

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size
from rmaplab.workloads.busy import NS, Checked, compute

Numbers = npt.NDArray[np.int32]
INT = 4
BLOCK = 16 << PAGE_SHIFT
LEAF = 64 << PAGE_SHIFT
LEAST = 1 << 20
MOST = (2 << 30) - 1
MOST_PROCESSES = 1024  # MAX_PROCS
_ALL = (1 << 64) - 1
PASS_PS = 9000
"""CPU time of one number in one pass, in picoseconds: those 24.2 s over 92 M numbers and the passes that a median of three takes (`passes`)."""


def passes(nr: int) -> float:
    """How many passes each of `nr` numbers goes through, on average: 12/7 ln(n), less 2 (C. A. R. Hoare's quicksort with a median of three)."""
    return max(12 / 7 * math.log(max(nr, 2)) - 2, 1.0)


def shuffled(first: int, stop: int, nr: int, seed: int) -> Numbers:
    """Numbers `first` to `stop` - 1 of a permutation of 0 to nr - 1 that hangs on `seed`. O(stop - first)."""
    bits = max((nr - 1).bit_length(), 2)
    mask, odd = np.uint64((1 << bits) - 1), np.uint64(((0x9E3779B97F4A7C15 ^ seed << 1) | 1) & _ALL)
    drawn = np.arange(first, stop, dtype=np.uint64)
    out = np.ones(drawn.size, bool)
    while out.any():  # what lies beyond nr goes on along its cycle
        value = drawn[out] ^ (np.uint64(seed & _ALL) & mask)
        for _ in range(4):
            value = (value * odd + np.uint64(1)) & mask
            value ^= value >> np.uint64((bits + 1) // 2)
        drawn[out] = value
        out = drawn >= nr
    return drawn.astype(np.int32)


def usual_array(ram_bytes: int, processes: int) -> int:
    """Bytes of each array where nobody says: 350 MB on 256 MB, which was the benchmark's usual case, shared out."""
    return ram_bytes * 350 // 256 // processes // INT * INT


class Qsbench(Checked):
    """One run: `processes` arrays of `size` bytes each. Raises UsageError."""

    name = "qsbench"

    def __init__(self, size: int, processes: int, seed: int) -> None:
        if not 1 <= processes <= MOST_PROCESSES:
            raise UsageError(f"{processes} processes: qsbench has 1 to {MOST_PROCESSES:,}, such as --processes 4")
        if not LEAST <= size <= MOST:
            many = f" for each of {processes} processes" if processes > 1 else ""
            raise UsageError(
                f"an array of {format_size(max(size, 0))}{many}: qsbench has 1 MiB to 2 GiB each, such as --array 88M"
            )
        super().__init__()
        self.nr, self.processes, self.seed = size // INT, processes, seed
        self.ends_s: list[float] = []
        """When each process had done, in simulated time."""
        self.user_s: list[float] = []
        """What each of them had of the CPU, in the same order."""

    @property
    def asked(self) -> dict[str, int]:
        """How much of what."""
        return {"array_bytes": self.nr * INT, "processes": self.processes}

    def run(self, system: System) -> None:
        """Run it to the end. Raises NoMemory if memory runs out where no errno can say so."""
        system.spawn(self.guarded(self._start))
        system.run()

    def _start(self, task: Task) -> int:
        for me in range(self.processes):
            task.fork(self.guarded(partial(self._sort, me=me)))
        while task.children:
            task.wait()
        return 0

    def _sort(self, task: Task, me: int) -> int:
        """One process."""
        nr, seed = self.nr, self.seed * MOST_PROCESSES + me
        array = _Array(task, task.mmap(-(-nr * INT // PAGE_SIZE) * PAGE_SIZE))
        self.written_bytes += nr * INT
        step = LEAF // INT
        for first in range(0, nr, step):
            array.write(first, shuffled(first, min(first + step, nr), nr, seed))
        array.sort(0, nr)
        fine = True
        for first in range(0, nr, step):
            stop = min(first + step, nr)
            written = np.arange(first, stop, dtype=np.int32).tobytes()
            seen = array.read(first, stop)
            fine = self.compare(task, me, array.address + first * INT, seen.tobytes(), written) and fine
        self.ends_s.append(task.kernel.machine.sched.now_ns / NS)
        self.user_s.append(task.user_ns / NS)
        return 0 if fine else 1


class _Array:
    """Numbers in a task's memory, counted from `address`."""

    def __init__(self, task: Task, address: int) -> None:
        self.task, self.address = task, address

    def read(self, first: int, stop: int) -> Numbers:
        """A copy of numbers [first, stop)."""
        return np.frombuffer(self.task.read(self.address + first * INT, (stop - first) * INT), np.int32).copy()

    def write(self, first: int, numbers: Numbers) -> None:
        """They lie from `first` on."""
        self.task.write(self.address + first * INT, numbers.tobytes())

    def sort(self, first: int, stop: int) -> None:
        """Numbers [first, stop), the left part of each pass before its right one."""
        rest = [(first, stop)]
        while rest:
            first, stop = rest.pop()
            middle = first if (stop - first) * INT <= LEAF else self._part(first, stop)
            if first < middle < stop:
                rest += [(middle, stop), (first, middle)]
            else:  # small; or a pass that got nowhere, as numbers are not what was written
                self.write(first, np.sort(self.read(first, stop)))
                nr = stop - first
                self.compute(nr * passes(nr))

    def compute(self, numbers: float) -> None:
        """One pass over so many."""
        compute(self.task, round(numbers * PASS_PS / 1000))

    def _part(self, first: int, stop: int) -> int:
        """One pass: where the numbers begin that are not below the pivot, the median of the first, the middle and the last one."""
        three = [int(self.read(at, at + 1)[0]) for at in (first, (first + stop) >> 1, stop - 1)]
        pivot = sorted(three)[1]
        left, right = _Block(self, first, first), _Block(self, stop, stop)
        while True:
            if not left.wrong.size:
                left.put()
                if left.stop == right.first:
                    break
                left = _Block(self, left.stop, min(left.stop + BLOCK // INT, right.first))
                left.wrong = np.flatnonzero(left.numbers >= pivot)
            if not right.wrong.size:
                right.put()
                if left.stop == right.first:
                    break
                right = _Block(self, max(right.first - BLOCK // INT, left.stop), right.first)
                right.wrong = np.flatnonzero(right.numbers < pivot)
            left.exchange(right)
        # what is between the two has been read, by one of them, and is parted in itself
        last = left if left.wrong.size else right
        other = right if last is left else left
        middle = last.first + int((last.numbers < pivot).sum())
        if last.numbers.size:
            last.numbers = np.concatenate((last.numbers[last.numbers < pivot], last.numbers[last.numbers >= pivot]))
            last.put()
        other.put()
        return middle


class _Block:
    """Numbers [first, stop), read, to be written again; `wrong`: which of them belong to the other side."""

    def __init__(self, array: _Array, first: int, stop: int) -> None:
        self.array, self.first, self.stop = array, first, stop
        self.numbers = array.read(first, stop) if first < stop else np.empty(0, np.int32)
        self.wrong = np.empty(0, np.int64)

    def exchange(self, other: "_Block") -> None:
        """As many numbers as both have wrong change places."""
        nr = min(self.wrong.size, other.wrong.size)
        mine, theirs = self.wrong[:nr], other.wrong[:nr]
        self.numbers[mine], other.numbers[theirs] = other.numbers[theirs], self.numbers[mine].copy()
        self.wrong, other.wrong = self.wrong[nr:], other.wrong[nr:]

    def put(self) -> None:
        """Back to memory, once."""
        if self.numbers.size:
            self.array.write(self.first, self.numbers)
            self.array.compute(self.numbers.size)
            self.numbers = np.empty(0, np.int32)
