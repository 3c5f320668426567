"""localmalloc: children of one process that each allocate memory of their own after fork, as the announcement of 2.6.5-rc1-aa1 speaks of it.

    parent           [inherited]
    child 1          [inherited][adjacent]   .   [apart]          mapped and written after fork
      helper         [inherited][adjacent]   .   [apart]          forked after that: shares what its creator has mapped
    child 2 ...

"applications using local "malloc" in a process-group will scale better during heavy swapping (in presence of tons of processes in the
same group)". Whose the pages are that swapping asks for decides, so there is a Case for each kind. A malloc that goes through mmap, as
glibc's does from 128 KiB on (mallopt(3)), lies apart; one that grows the heap lies adjacent to inherited memory, and merges with it where the kernel
merges.

Sources: the announcement (18 March 2004); Andrea Arcangeli, 13 March 2004, <20040313173348.GI30940@dualathlon.random>.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from rmaplab.units import PAGE_SIZE

BASE = 0x1000_0000
MOST_PROCESSES = 30_000
MOST_PAGES = 1 << 16  # at a place: 256 MiB
MOST_ENTRIES = 4 << 20


class Case(Enum):
    """Which pages are asked for. The value is what a table says."""

    PRIVATE_APART = "private, apart"
    """A child has mapped them away from all it has inherited, and nobody else has them."""
    PRIVATE_ADJACENT = "private, adjacent"
    """Likewise, where inherited memory ends."""
    SHARED = "shared with helpers"
    """Apart; when all children have theirs, each forks its helpers."""
    SHARED_AT_ONCE = "shared, helpers at once"
    """Apart; a child forks its helpers before the next child is born."""
    CREATOR_GONE = "shared, creator gone"
    """As SHARED; then the children end, and their helpers live on."""
    COWED = "inherited, copied"
    """A child has written to what it has inherited: its copies."""
    UNTOUCHED = "inherited, untouched"
    """The parent's pages, which everybody has."""

    @property
    def has_helpers(self) -> bool:
        """Whether anybody is forked by a child."""
        return self in (Case.SHARED, Case.SHARED_AT_ONCE, Case.CREATOR_GONE)


class LocalPages(NamedTuple):
    """`pages` pages from `address` on, as `task` has them."""

    task: Task
    address: int


class LocalMalloc:
    """`children` children of one process, `helpers` of each where the case has some, `pages` pages at every place."""

    name = "localmalloc"

    def __init__(self, children: int, helpers: int, pages: int) -> None:
        processes = 1 + children * (1 + helpers)
        fits = processes <= MOST_PROCESSES and pages <= MOST_PAGES and 2 * processes * pages <= MOST_ENTRIES
        if min(children, helpers, pages) < 1 or not fits:
            raise UsageError(
                f"--children {children} --helpers {helpers} --pages {pages}: give 1 or more of each, at most {MOST_PROCESSES:,} processes in all, "
                f"{MOST_PAGES:,} pages each and {MOST_ENTRIES:,} entries in all, such as --children 200 --helpers 1 --pages 32"
            )
        self.children, self.helpers, self.pages = children, helpers, pages

    @property
    def length(self) -> int:
        """Bytes at every place."""
        return self.pages * PAGE_SIZE

    def ram_bytes(self, spare_bytes: int) -> int:
        """What a box needs for any case: pages, page tables, stacks and struct pages, beside `spare_bytes` for the kernel."""
        pages = (1 + 2 * self.children) * self.length
        return pages * 17 // 16 + (1 + self.children * (1 + self.helpers)) * 96 * 1024 + spare_bytes

    def run(self, system: System, case: Case) -> list[LocalPages]:
        """The pages that the case is about, by who has them, all in memory. Raises SyscallError, NoMemory."""
        parent = system.spawn()
        self._malloc(parent, BASE)
        if case is Case.UNTOUCHED:
            for _ in range(self.children):
                parent.fork()
            return [LocalPages(parent, BASE)]
        places, helpers = [], list[Task]()
        for child in (parent.fork() for _ in range(self.children)):
            places.append(LocalPages(child, self._child(child, case)))
            if case is Case.SHARED_AT_ONCE:
                helpers += self._fork_helpers(child)
        if case in (Case.SHARED, Case.CREATOR_GONE):
            helpers = [helper for place in places for helper in self._fork_helpers(place.task)]
        if case is not Case.CREATOR_GONE:
            return places
        for place in places:
            place.task.exit()
        return [
            LocalPages(helper, place.address) for helper, place in zip(helpers[:: self.helpers], places, strict=True)
        ]

    def _child(self, child: Task, case: Case) -> int:
        """What a child does first: the address of its pages."""
        match case:
            case Case.COWED:
                child.touch(BASE, self.length, write=True)
                return BASE
            case Case.PRIVATE_ADJACENT:
                return self._malloc(child, BASE + self.length)
            case _:
                return self._malloc(child, BASE + 2 * self.length + PAGE_SIZE)

    def _malloc(self, task: Task, address: int) -> int:
        task.mmap(self.length, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, address=address)
        task.touch(address, self.length, write=True)
        return address

    def _fork_helpers(self, child: Task) -> Iterator[Task]:
        for _ in range(self.helpers):
            yield child.fork()
