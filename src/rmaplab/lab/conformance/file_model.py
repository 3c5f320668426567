"""The plain model that calls on files and their mappings are compared with: what is in memory, as bytes in Python.

Bytes       a file: pages and a size
Shown       a page of an address space: which page of which file, shared or not, whether it may be written to, a private copy if there is one
FileUser    a task, and what it must see at each address
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from rmaplab.calls.task import Task
from rmaplab.errors import SegmentationFault, SyscallError
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE

HERE, ROOM = 0x5000_0000 // PAGE_SIZE, 60  # pages
PAGES = 20


def refused(name: str, call: Callable[[], object]) -> None:
    """It must fail with this errno. Raises AssertionError."""
    try:
        call()
    except SyscallError as failure:
        if failure.name == name:
            return
        raise
    raise AssertionError(f"a call must fail with {name}")


def signalled(kind: type[SegmentationFault], call: Callable[[], object]) -> None:
    """It must be this signal and no other. Raises AssertionError."""
    try:
        call()
    except SegmentationFault as fault:
        if type(fault) is kind:
            return
        raise
    raise AssertionError(f"an access must be a {kind.__name__}")


@dataclass(eq=False)
class Bytes:
    """What a file is made of: page -> bytes, those behind the end too as far as a mapping shows them."""

    pages: dict[int, bytearray]
    size: int

    def page(self, index: int) -> bytearray:
        """Its bytes."""
        return self.pages.setdefault(index, bytearray(PAGE_SIZE))

    def resize(self, size: int, *, zeroes_tail: bool) -> None:
        """What is cut off is gone; what a mapping has left behind the old end too, if that is so."""
        index, offset = divmod(min(size, self.size), PAGE_SIZE)
        if offset and (size < self.size or zeroes_tail):
            self.page(index)[offset:] = bytes(PAGE_SIZE - offset)
        for gone in [each for each in self.pages if each * PAGE_SIZE >= size]:
            del self.pages[gone]
        self.size = size

    def covers(self, index: int) -> bool:
        """Whether it has that page."""
        return index * PAGE_SIZE < self.size


@dataclass(eq=False)
class FileBytes(Bytes):
    """And of one with a name: where it is."""

    space: AddressSpace


@dataclass
class Shown:
    """A page of an address space. `index` is which page of the file it is, `linear` which one a fault would bring: another only where remap_file_pages was."""

    of: Bytes
    index: int
    shared: bool
    writable: bool
    may_write: bool
    copy: bytearray | None = None
    linear: int = -1

    def __post_init__(self) -> None:
        self.linear = self.index if self.linear < 0 else self.linear


@dataclass(eq=False)
class FileUser:
    """A task and its pages, by number."""

    task: Task
    pages: dict[int, Shown] = field(default_factory=dict)
