"""Where programs are to stop: gdb's breakpoints and watchpoints, and which of its steps is under way.

Z0 (Z1), address            before an instruction, in every address space: all tasks are threads of one thing to gdb
Z2, Z3, Z4, address, bytes  after an instruction that has written, read, or either, wherever that page is then
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from rmaplab.cpu.engine import MemoryAccess
from rmaplab.errors import UsageError
from rmaplab.gdb.memory import find_frame
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

SOFTWARE, HARDWARE, WRITE, READ, ACCESS = range(5)
"""Kinds of Z packets."""
REASONS = {SOFTWARE: b"swbreak", HARDWARE: b"hwbreak", WRITE: b"watch", READ: b"rwatch", ACCESS: b"awatch"}
MOST_BREAKPOINTS, MOST_WATCHPOINTS, MOST_BYTES = 1_000, 16, 2 * PAGE_SIZE


class Watchpoint(NamedTuple):
    """Bytes that are watched."""

    kind: int
    address: int
    nr: int


class Stops:
    """What gdb has asked for. `changed` until the engine knows."""

    def __init__(self) -> None:
        self.breakpoints: dict[int, int] = {}
        """Address, kind."""
        self.watchpoints: Counter[Watchpoint] = Counter()
        self.changed = False

    def __bool__(self) -> bool:
        return bool(self.breakpoints or self.watchpoints)

    def insert(self, kind: int, address: int, nr: int) -> None:
        """Z. Raises UsageError: no such thing, or too many."""
        self.changed = True
        if kind in (SOFTWARE, HARDWARE):
            if len(self.breakpoints) >= MOST_BREAKPOINTS:
                raise UsageError(f"more than {MOST_BREAKPOINTS} breakpoints: delete some")
            self.breakpoints[address] = kind
        elif kind in (WRITE, READ, ACCESS) and 0 < nr <= MOST_BYTES:
            if len(self.watchpoints) >= MOST_WATCHPOINTS:
                raise UsageError(f"more than {MOST_WATCHPOINTS} watchpoints: delete some")
            self.watchpoints[Watchpoint(kind, address, nr)] = 1
        else:
            raise UsageError(f"watchpoints are of 1 to {MOST_BYTES} bytes")

    def remove(self, kind: int, address: int, nr: int) -> None:
        """A packet z. Nothing happens if there was none."""
        self.changed = True
        if kind in (SOFTWARE, HARDWARE):
            self.breakpoints.pop(address, None)
        else:
            self.watchpoints.pop(Watchpoint(kind, address, nr), None)

    def clear(self) -> None:
        """All of them."""
        self.breakpoints.clear()
        self.watchpoints.clear()
        self.changed = True

    def pages(self) -> dict[int, bool]:
        """Pages that are watched, by number: whether reads matter."""
        found: dict[int, bool] = {}
        for kind, address, nr in self.watchpoints:
            for page in range(address >> PAGE_SHIFT, (address + nr - 1 >> PAGE_SHIFT) + 1):
                found[page] = found.get(page, False) or kind != WRITE
        return found

    def hit(self, k: Kernel, mm: MmStruct, accesses: Iterable[MemoryAccess]) -> Watchpoint | None:
        """The first watchpoint that one of these was about."""
        for access in accesses:
            for watchpoint in self.watchpoints:
                if watchpoint.kind != (READ if access.is_write else WRITE) and _meets(k, mm, watchpoint, access):
                    return watchpoint
        return None


def _meets(k: Kernel, mm: MmStruct, watched: Watchpoint, access: MemoryAccess) -> bool:
    """Whether an access, told by physical address, is of bytes that are watched. One that goes over the end of a page goes on in the next page, wherever that is."""
    frame, first = access.place >> PAGE_SHIFT, access.place & PAGE_SIZE - 1
    pages = range((watched.address >> PAGE_SHIFT) - 1, (watched.address + watched.nr - 1 >> PAGE_SHIFT) + 1)
    for page in pages:
        if find_frame(k, mm, page << PAGE_SHIFT) == frame:
            start = (page << PAGE_SHIFT) + first
            if start < watched.address + watched.nr and watched.address < start + access.nr:
                return True
    return False
