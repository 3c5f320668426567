"""`make bench-growth`: what a call costs us where there are many VMAs or processes, beside the same call where there are few. CPU time of this process, all in one run.

    side by side    N VMAs of one page that no two of which merge; "into a hole": some of them went, and others come where they were
    in holes        N VMAs of one page with a page of nothing between any two; "beyond all holes": one has just gone, and nothing that long is free but behind them
    processes       N children of one, with sixteen pages that they share with it, or have written and so own

"per VMA": a call that does something with all N, divided by N. Figures are the means of forty calls, least of all turns; the first turn compiles, and does not count.
A row is flat if the largest size takes at most so many times what the smallest takes. Some are not, as the kernel's own structure is one whose work grows, and that
work is what is modelled: those are NAMED. A bar that is not met is said, and fails nothing.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from mmap import PROT_EXEC, PROT_READ, PROT_WRITE
from typing import NamedTuple, TypeVar

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import KERNELS, find_kernel
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from rmaplab.report.tables import DASH, Table, console, new_table
from rmaplab.units import PAGE_SIZE

SIZES, TURNS, SOME = (100, 1_000, 10_000), 4, 40
BOX = Box(ram="2G", paging="x86-64")
READ_WRITE = PROT_READ | PROT_WRITE
SHARED_BYTES = 16 * PAGE_SIZE
LONG = 4 * PAGE_SIZE
"""Longer than a hole and the VMAs beside it."""
CHECK_KERNEL = "2.6.5-rc1-aa1"
CHECK_SIZES, CHECK_BOX, CHECK = (100, 1_000), Box(ram="64G", paging="x86-64"), "check() on 64 GiB"
FLAT, BARS = 2.0, {"mmap, beyond all holes": 3.0, CHECK: 5.0}
CHAINS = "pte chains: a page's has an entry for each process that maps it, and is searched for the one that goes"
NAMED = {(design, "exit, shared pages"): CHAINS for design in ("pte_chain", "pte_chain_anon")}
"""What grows in the kernel itself, by design and row."""
LEGEND = [
    [("what", "VMAs of one page each: mmap beside the last and into holes that have just been made, munmap, and fork, exit and munmap of all VMAs by one of them;")],
    [("what", "among as many holes of one page: munmap, and mmap of four pages, for which all holes are too short;")],
    [("what", "processes, children of one: fork, exit, wait; the sixteen pages of each are those of all, or it has written them. check(): processes, too.")],
    [("ratio", "ratio: the largest size beside the smallest.")],
]  # fmt: skip
Result = TypeVar("Result")
Measured = tuple[str, dict[str, float]]
"""The name of the kernel's design; seconds by what was called."""


class Row(NamedTuple):
    """Seconds of one call by size, under a kernel with this design."""

    kernel: str
    design: str
    what: str
    seconds: dict[int, float]

    @property
    def ratio(self) -> float:
        """The largest size beside the smallest."""
        return self.seconds[max(self.seconds)] / self.seconds[min(self.seconds)]

    @property
    def bar(self) -> float:
        """What it may be."""
        return BARS.get(self.what, FLAT)

    @property
    def verdict(self) -> str:
        """Whether it is, or else why not, if that is known."""
        if self.ratio <= self.bar:
            return "ok"
        return NAMED.get((self.design, self.what), "not met")


class Clock:
    """CPU seconds by what was called: the mean of a turn's calls, the least of all turns."""

    def __init__(self) -> None:
        self.least: dict[str, float] = {}
        self._turn: dict[str, list[float]] = {}

    def turns(self, nr: int) -> Iterator[int]:
        """So many, and one before them that does not count; garbage of none falls into the next."""
        for turn in range(nr + 1):
            gc.collect()
            self._turn.clear()
            yield turn
            if turn:
                for what, times in self._turn.items():
                    mean = sum(times) / len(times)
                    self.least[what] = min(mean, self.least.get(what, mean))

    def call(self, what: str, call: Callable[..., Result], *about: object, parts: int = 1) -> Result:
        """One call, or one that does so many things."""
        began = time.process_time()
        result = call(*about)
        self._turn.setdefault(what, []).append((time.process_time() - began) / parts)
        return result


def spread(nr: int) -> list[int]:
    """SOME even numbers below `nr`, or all, as far apart as they can be."""
    some = min(nr // 2, SOME)
    return [i * nr // some & -2 for i in range(some)]


def map_count(task: rmaplab.Task) -> int:
    """How many VMAs it has."""
    assert task.mm is not None
    return task.mm.map_count


def side_by_side(kernel: str, nr: int, turns: int) -> Measured:
    """Calls at the end of all VMAs, into and out of holes, and those that go through all of them."""
    system = rmaplab.boot(kernel, BOX)
    task, clock, kinds = system.spawn(), Clock(), (READ_WRITE, READ_WRITE | PROT_EXEC)
    places = [task.mmap(PAGE_SIZE, kinds[i % 2]) for i in range(nr)]
    for place in places:
        task.touch(place, 1, write=True)
    for _ in clock.turns(turns):
        new = [clock.call("mmap, beside the last", task.mmap, PAGE_SIZE, kinds[(nr + i) % 2]) for i in range(SOME)]
        for place in new:
            clock.call("munmap, never touched", task.munmap, place, PAGE_SIZE)
        holes = [places[i] for i in spread(nr)]
        for place in holes:
            clock.call("munmap, a page written", task.munmap, place, PAGE_SIZE)
        back = [clock.call("mmap, into a hole", task.mmap, PAGE_SIZE, kinds[0]) for _ in holes]
        assert sorted(back) == sorted(holes), "other holes were found"
        for place in back:
            task.touch(place, 1, write=True)
        child = clock.call("fork, per VMA", task.fork, parts=nr)
        assert map_count(child) == nr, "VMAs have merged"
        clock.call("exit, per VMA", child.exit, parts=nr)
        task.wait()
        child = task.fork()
        clock.call("munmap of all, per VMA", child.munmap, min(places), nr * PAGE_SIZE, parts=nr)
        child.exit()
        task.wait()
    return system.kernel.design.name, clock.least


def in_holes(kernel: str, nr: int, turns: int) -> Measured:
    """Where none of N holes is long enough."""
    system = rmaplab.boot(kernel, BOX)
    task, clock = system.spawn(), Clock()
    start = task.mmap(2 * nr * PAGE_SIZE, PROT_READ)
    for page in range(1, 2 * nr, 2):
        task.munmap(start + page * PAGE_SIZE, PAGE_SIZE)
    for _ in clock.turns(turns):
        for i in spread(nr):
            gone = start + 2 * i * PAGE_SIZE
            clock.call("munmap, among holes", task.munmap, gone, PAGE_SIZE)  # where 2.6 goes on from
            place = clock.call("mmap, beyond all holes", task.mmap, LONG, PROT_READ)
            task.munmap(place, LONG)
            task.mmap(PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, gone)
        assert map_count(task) == nr, "VMAs have merged"
    return system.kernel.design.name, clock.least


def processes(kernel: str, nr: int, turns: int) -> Measured:
    """fork, exit and wait among N children of one process, whichever of them it is."""
    system = rmaplab.boot(kernel, BOX)
    task, clock = system.spawn(), Clock()
    memory = task.mmap(SHARED_BYTES, READ_WRITE)
    task.touch(memory, SHARED_BYTES, write=True)
    children = [task.fork() for _ in range(nr)]
    for _ in clock.turns(turns):
        for what in ("exit, shared pages", "exit, pages of its own"):
            ends = [children[i] for i in spread(nr)]
            if what == "exit, pages of its own":
                for child in ends:
                    child.touch(memory, SHARED_BYTES, write=True)
            for child in ends:
                clock.call(what, child.exit)
            for _ in ends:
                clock.call("wait", task.wait)
            gone = set(ends)
            children = [child for child in children if child not in gone]
            children += [clock.call("fork", task.fork) for _ in ends]
        assert len(children) == nr, "somebody has gone"
    return system.kernel.design.name, clock.least


def checked(kernel: str, nr: int, turns: int) -> Measured:
    """check() of N processes with a page of their own each, on a box whose frames are many."""
    system = rmaplab.boot(kernel, CHECK_BOX)
    parent, clock = system.spawn(), Clock()
    memory = parent.mmap(SHARED_BYTES, READ_WRITE)
    parent.touch(memory, SHARED_BYTES, write=True)
    for _ in range(nr - 1):
        parent.fork().touch(memory, 1, write=True)
    for _ in clock.turns(turns):
        clock.call(CHECK, system.check)
    return system.kernel.design.name, clock.least


PARTS: dict[str, Callable[[str, int, int], Measured]] = {
    "vmas": side_by_side,
    "holes": in_holes,
    "processes": processes,
}


def rows(kernel: str, part: Callable[[str, int, int], Measured], sizes: Sequence[int], turns: int) -> list[Row]:
    """A row for each call of this part."""
    measured = {nr: part(kernel, nr, turns) for nr in sizes}
    design, calls = measured[max(sizes)]
    return [Row(kernel, design, what, {nr: least[what] for nr, (_, least) in measured.items()}) for what in calls]


def format_us(seconds: float) -> str:
    """Microseconds, or seconds where they are many."""
    return f"{seconds * 1e6:,.2f} us" if seconds < 0.1 else f"{seconds:,.2f} s"


def table_of(measured: Sequence[Row], turns: int) -> Table:
    """A line for each row; below it what is measured, and what is named."""
    sizes = sorted({nr for row in measured for nr in row.seconds})
    title = f"growth: {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}; CPU time of a call, the least of {turns} turns"
    table = new_table(title, "kernel|what|" + "|".join(f">{nr:,}" for nr in sizes) + "|>ratio|>may be|", legend=LEGEND)
    notes: list[str] = []
    for row in measured:
        verdict = row.verdict
        if verdict not in ("ok", "not met"):
            if verdict not in notes:
                notes.append(verdict)
            verdict = f"[{notes.index(verdict) + 1}]"
        times = [format_us(row.seconds[nr]) if nr in row.seconds else DASH for nr in sizes]
        table.add_row(row.kernel, row.what, *times, f"{row.ratio:.2f}", f"{row.bar:g}", verdict)
    table.caption = "\n".join(f"[{i}] {note}" for i, note in enumerate(notes, 1)) or None
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench-growth", description="many VMAs and processes beside few, as ratios")
    parser.add_argument("--kernels", default=",".join(KERNELS), help="those of `rmaplab kernels` if not given")
    parser.add_argument("--only", choices=(*PARTS, "check"), help="one part")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"of each figure, {TURNS} if not given")
    options = parser.parse_args()
    kernels = options.kernels.split(",")
    try:
        for kernel in kernels:
            find_kernel(kernel)
    except UsageError as error:
        parser.error(str(error))
    if options.turns < 1:
        parser.error(f"{options.turns} turns: give 1 or more")
    measured: list[Row] = []
    for kernel in kernels:
        for name, part in PARTS.items():
            if options.only in (None, name):
                print(f"measuring: {kernel}, {name}", file=sys.stderr, flush=True)
                measured += rows(kernel, part, SIZES, options.turns)
    if options.only in (None, "check"):
        print("measuring: check()", file=sys.stderr, flush=True)
        measured += rows(CHECK_KERNEL, checked, CHECK_SIZES, options.turns)
    console().print(table_of(measured, options.turns))


if __name__ == "__main__":
    main()
