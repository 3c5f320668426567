"""How check() grows with processes: on a box of 64 GiB, 1,000 of them beside 100, in turns, in CPU seconds of this process.

    small     each child has written 4 pages of the 16 that it has from its parent
    shared    likewise of 1,024: the others are mapped by every process
    own       each child has written all 16: nobody shares any, and a page's walk finds one

What the box itself takes, its frames, is in both. A bound that is not met is said, and fails nothing. `python -m benchmarks.growth_of_check`
"""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import rmaplab
from rmaplab.report.tables import Table, console, new_table
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7", "6.18")
SHAPES = {"small": (16, 4), "shared": (1024, 4), "own": (16, 16)}
"""Pages of the parent, and how many of them a child has written."""
NAMED = {(kernel, "own") for kernel in ("2.4.21", "2.6.5-rc1-aa1", "2.6.7")}
WHY = "[1] a walk from a page that one process alone has goes over all of them: 2.4's address spaces, an anon_vma's list. It is made once for each process, and that is what is checked."
RAM, FEW, MANY, BOUND = "64G", 100, 1000, 5.0


class Grown(NamedTuple):
    """CPU seconds of check(), turn by turn, with few processes and with many; how many entries there are."""

    kernel: str
    shape: str
    few: list[float]
    many: list[float]
    entries: tuple[int, int]

    @property
    def ratio(self) -> float:
        """The median of the turns' ratios."""
        return statistics.median(many / few for few, many in zip(self.few, self.many, strict=True))

    def row(self) -> list[str]:
        """For the table."""
        seconds = [f"{statistics.median(times):.2f} s" for times in (self.few, self.many)]
        entries = [f"{nr:,}" for nr in self.entries]
        met = "ok" if self.ratio <= BOUND else "[1]" if (self.kernel, self.shape) in NAMED else "not met"
        return [self.kernel, self.shape, *entries, *seconds, f"{self.ratio:.1f}", f"{BOUND:g}", met]


def populated(kernel: str, processes: int, pages: int, written: int, ram: str = RAM) -> rmaplab.System:
    """A parent that has written `pages`, and its children, who have written some of them again."""
    system = rmaplab.boot(kernel, ram=ram, paging="x86-64")
    parent = system.spawn()
    at = parent.mmap(pages * PAGE_SIZE)
    parent.touch(at, pages * PAGE_SIZE, write=True)
    for _ in range(processes - 1):
        parent.fork().touch(at, written * PAGE_SIZE, write=True)
    return system


def check_seconds(system: rmaplab.System) -> float:
    """One check()."""
    began = time.process_time()
    system.check()
    return time.process_time() - began


def growth(kernel: str, shape: str, turns: int = 3, processes: tuple[int, int] = (FEW, MANY), ram: str = RAM) -> Grown:
    """Both sizes, in turns; a first turn compiles and warms, and is not counted."""
    systems = [populated(kernel, nr, *SHAPES[shape], ram) for nr in processes]
    seconds = [[check_seconds(system) for system in systems] for _ in range(turns + 1)][1:]
    entries = [sum(mm.rss for mm in system.kernel.mms.values()) for system in systems]
    for system in systems:
        system.close()
    return Grown(kernel, shape, [few for few, _ in seconds], [many for _, many in seconds], (entries[0], entries[1]))


def measured(kernels: Sequence[str] = KERNELS) -> Iterator[Grown]:
    """Every kernel and shape."""
    for kernel in kernels:
        for shape in SHAPES:
            print(f"measuring: check() on {kernel}, {shape}", file=sys.stderr, flush=True)
            yield growth(kernel, shape)


def table_of(rows: Sequence[Grown]) -> Table:
    """One line for each kernel and shape."""
    head = f"check() on a box of {RAM}: {MANY:,} processes beside {FEW}"
    table = new_table(head, f"kernel|pages|>entries, {FEW}|>entries, {MANY:,}|>{FEW}|>{MANY:,}|>ratio|>may be|")
    for row in rows:
        table.add_row(*row.row())
        if "[1]" in row.row():
            table.caption = WHY
    return table


def main() -> None:
    """Measure and print. Kernels may be named."""
    console().print(table_of(list(measured(sys.argv[1:] or KERNELS))))


if __name__ == "__main__":
    main()
