"""Which pages of a file on a disk come into the cache beside the one that is wanted: by era (rules.Readahead), one module each.

    2.4.27         readahead_position      goes on where the last one ended
    2.6.2, 2.6.7   readahead_windows       two windows that grow with hits and shrink with seeks
    2.6.23, 6.18   readahead_demand        on a missing page, and on a marked one

What each open file remembers is in File.ra. A file that lives in the page cache is not read ahead.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from rmaplab.mm import readahead_demand, readahead_position, readahead_windows
from rmaplab.mm.file_rules import Readahead
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_read import find_or_read
from rmaplab.objects.flags import VM_SEQ_READ
from rmaplab.objects.mm_types import File, VmArea


class FileReader(Protocol):
    """One read(2)."""

    def page(self, index: int, start: int, left: int) -> int:
        """The page, with one more reference, for `left` bytes from `start` on; -1 beyond the end. Raises as an allocation, and DiskError."""

    def done(self, position: int) -> None:
        """It ends there."""


class Policy(NamedTuple):
    """What an era does: in read(2), in a fault, with `nr` faults that have found their page, and if it is told to."""

    reader: Callable[[Kernel, File, int, int], FileReader]
    fault: Callable[[Kernel, VmArea, File, int], int]
    hit: Callable[[File, int], None]
    force: Callable[[Kernel, File, int, int], None]


POLICIES = {
    Readahead.POSITION: Policy(
        readahead_position.PositionReader, readahead_position.fault, readahead_position.hit, readahead_position.force
    ),
    Readahead.TWO_WINDOWS: Policy(
        readahead_windows.WindowsReader, readahead_windows.fault, readahead_windows.hit, readahead_windows.force
    ),
    Readahead.ON_DEMAND: Policy(
        readahead_demand.DemandReader, readahead_demand.fault, readahead_demand.hit, readahead_demand.force
    ),
}


class Unaided:
    """A read(2) of what lives in the page cache."""

    def __init__(self, k: Kernel, opened: File) -> None:
        self._k, self._file, self._ra = k, opened.mapping, opened.ra

    def page(self, index: int, _start: int, _left: int) -> int:
        """As FileReader says."""
        return find_or_read(self._k, self._file, index)

    def done(self, position: int) -> None:
        """Nothing is remembered but where it ends: 2.4's f_reada."""
        self._ra.position = position


def reader(k: Kernel, opened: File, start: int, length: int) -> FileReader:
    """A read(2) of `length` bytes from `start` on begins."""
    if not opened.mapping.on_disk:
        return Unaided(k, opened)
    return POLICIES[k.rules.readahead].reader(k, opened, start, length)


def fault_page(k: Kernel, vma: VmArea, opened: File, index: int) -> int:
    """The page that a fault in `vma` wants, with one more reference; -1 beyond the end. May sleep. Raises as an allocation, and DiskError."""
    if not opened.mapping.on_disk:
        return find_or_read(k, opened.mapping, index, k.rules.nopage_reads)
    return POLICIES[k.rules.readahead].fault(k, vma, opened, index)


def count_hits(k: Kernel, opened: File, nr: int) -> None:
    """Faults have found `nr` pages without asking for them one by one."""
    POLICIES[k.rules.readahead].hit(opened, nr)


def asks_each_time(k: Kernel, vma: VmArea) -> bool:
    """Whether every fault must be told to fault_page, even of a page that is there: MADV_SEQUENTIAL, where that is as read(2)."""
    return bool(vma.flags & VM_SEQ_READ) and k.rules.readahead != Readahead.ON_DEMAND


def force(k: Kernel, opened: File, first: int, nr: int) -> None:
    """Pages [first, first + nr) are on their way, up to the file's end, as far as there is memory (MADV_WILLNEED)."""
    POLICIES[k.rules.readahead].force(k, opened, first, nr)
