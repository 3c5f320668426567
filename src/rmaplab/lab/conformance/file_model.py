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


class Shown:
    """A page of an address space: page `index` of a file, and if it is private perhaps a `copy`.

    `home` and `linear` are what a fault would bring in its place: another page only where remap_file_pages was, of another file only where truncate has
    left one mapped that is nobody's now.
    """

    __slots__ = ("copy", "home", "index", "linear", "may_write", "of", "shared", "writable")

    def __init__(self, of: Bytes, index: int, *, shared: bool, writable: bool, may_write: bool) -> None:
        self.of = self.home = of
        self.index = self.linear = index
        self.shared, self.writable, self.may_write = shared, writable, may_write
        self.copy: bytearray | None = None

    def forked(self) -> "Shown":
        """The same, of a child."""
        child = self.fresh()
        child.of, child.index = self.of, self.index
        child.copy = None if self.copy is None else bytearray(self.copy)
        return child

    def fresh(self, further: int = 0) -> "Shown":
        """What a fault would bring, so many pages further on."""
        index = self.linear + further
        return Shown(self.home, index, shared=self.shared, writable=self.writable, may_write=self.may_write)

    def forget(self) -> None:
        """Its entry goes, with what it has mapped: a fault brings what it brings."""
        self.of, self.index, self.copy = self.home, self.linear, None


@dataclass(eq=False)
class FileUser:
    """A task and its pages, by number."""

    task: Task
    pages: dict[int, Shown] = field(default_factory=dict)
