"""The nouns of an address space, in one module, since each knows the others: mm_struct, vm_area_struct, file, and a file's address_space.

    mm_struct         VMAs in order, the top page table, counters
      |    ^
      v    | vma.mm
    vm_area_struct    one stretch of it whose pages are treated alike

    address space   0 ........ start =============== end ........ TASK_SIZE
    object          . . . . .  pgoff   pgoff + 1 ...               (in pages)

    struct page                  address_space               vm_area_struct
    +-------------------+       +-----------------+     +--> pid 1  start 0x40000000, pgoff 0
    | mapping ----------------->| i_mmap ---------------+
    | index   7         |       | pages  7: PFN   |     +--> pid 2  start 0x50000000, pgoff 4: page 7 is at 0x50003000
    | PG_anon clear     |       +-----------------+        vma.file: an open file, of which an address_space may have many;
    +-------------------+                                  VMAs of two of them never merge

`pgoff` says which page of the object behind the VMA its first page is. For anonymous memory there is no object, and a
kernel either ignores it (2.6.2) or sets it to start / 4096 when the VMA is made, so that a page's index outlives a move
of the VMA (anon_vma).
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.radix_tree import RadixTree
from rmaplab.objects.flags import VM_EXEC, VM_LOCKED, VM_MAYSHARE, VM_READ, VM_WRITE
from rmaplab.objects.readahead import ReadaheadState
from rmaplab.objects.shmem import Account, ShmemInfo
from rmaplab.objects.traits import PLAIN
from rmaplab.objects.vma_tree import VmaTree
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from rmaplab.machine.locks import Lock, Locks

Range = tuple[int, int]
"""[start, end) of an address space."""


class VmArea:
    """[start, end) of `mm`. `address` is where its bytes lie in the slab; `anon_vma` belongs to the reverse-mapping design.

    `file` is the open file that it shows, from page `pgoff` on; None: nothing, its pages are anonymous. Then `zero` may be an open file of /dev/zero that
    it was made of. `ops` are what a driver has given it.
    """

    __slots__ = (
        "address", "anon_vma", "cursor", "end", "file", "flags", "lock", "mm", "ops", "pgoff", "raend", "start", "traits", "write_seq", "zero"
    )  # fmt: skip

    def __init__(self, mm: MmStruct, start: int, end: int, flags: int, pgoff: int, address: int = 0) -> None:
        self.mm = mm
        self.start = start
        self.end = end
        self.flags = flags
        self.pgoff = pgoff
        self.address = address
        self.anon_vma: object = None
        self.file: File | None = None
        self.zero: File | None = None
        self.ops: VmOperations | None = None
        self.traits = PLAIN
        self.lock: Lock | None = None  # where VMAs have one (mm/vma_lock.py)
        self.write_seq = 0  # which writer of mmap_sem has write-locked it
        self.cursor = 0  # how far reclaim has come in a nonlinear one, in bytes: 2.6.7's vm_private_data
        self.raend = 0  # 2.4's vm_raend (mm/readahead_position.py)

    @property
    def vm_file(self) -> File | None:
        """The open file that it was made of, whether or not it shows it."""
        return self.file or self.zero

    @property
    def nr_pages(self) -> int:
        """Length in pages."""
        return (self.end - self.start) >> PAGE_SHIFT

    def address_of(self, index: int) -> int:
        """The virtual address of the object's page `index`; outside [start, end) if this VMA does not cover it."""
        return self.start + ((index - self.pgoff) << PAGE_SHIFT)

    def index_of(self, address: int) -> int:
        """linear_page_index: which page of the object is at `address`, the inverse."""
        return self.pgoff + ((address - self.start) >> PAGE_SHIFT)

    def __repr__(self) -> str:
        """As a line of /proc/PID/maps."""
        rwx = "".join(
            letter if self.flags & bit else "-" for letter, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC))
        )
        return f"{self.start:08x}-{self.end:08x} {rwx}{'s' if self.flags & VM_MAYSHARE else 'p'} {self.pgoff << PAGE_SHIFT:08x}"


class VmOperations(Protocol):
    """vm_ops: who hears of the VMAs that show a file, a driver of those of its device."""

    def open(self, vma: VmArea) -> None:
        """There is one more: a fork's child, a part of one, or where one has moved to."""

    def close(self, vma: VmArea) -> None:
        """One less; its entries are gone."""


@runtime_checkable
class DeviceOperations(VmOperations, Protocol):
    """vm_ops of a driver with pages of its own."""

    def nopage(self, vma: VmArea, address: int) -> int:
        """The page to be mapped at `address`, with a reference for the caller; -1: SIGBUS. Raises as an allocation."""


class FileOperations(Protocol):
    """file_operations of a struct file that is not simply its inode's. One that `chooses_addresses` has a get_unmapped_area."""

    chooses_addresses: ClassVar[bool]

    def mmap(self, vma: VmArea) -> None:
        """`vma`, which nobody knows of yet, shows it: vm_ops. Raises SyscallError."""

    def release(self) -> None:
        """Nobody refers to it any more."""


class Driver(Protocol):
    """What is behind the file of a device: its mmap (file_operations), and its references to pages."""

    def mmap(self, vma: VmArea) -> None:
        """`vma`, which nobody knows of yet, shows the device: vm_flags and vm_ops. Raises SyscallError, with nothing mapped."""

    def references(self) -> I64:
        """The PFNs that it has references to, one for each."""


class VmaIndex(Protocol):
    """The VMAs that map one file, private and shared: rmap/file_index.py has them. mm/vma.py alone links and unlinks."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def looked_at(self) -> int:
        """Nodes that its last search has passed."""

    @property
    def apart(self) -> Sequence[VmArea]:
        """Nonlinear ones, where they are kept apart: no search by pages finds them."""

    def link(self, vma: VmArea, parent: VmArea | None = None) -> None:
        """One more; a fork's child of `parent`."""

    def unlink(self, vma: VmArea) -> None:
        """One less."""

    def pre_update(self, vma: VmArea) -> None:
        """Its pages are about to change."""

    def post_update(self, vma: VmArea) -> None:
        """They have changed."""

    def candidates(self, first: int, last: int) -> Iterator[VmArea]:
        """Those that may show pages [first, last]; `looked_at` says how many nodes that has taken so far."""

    def __iter__(self) -> Iterator[VmArea]:
        """All."""

    def check(self) -> str | None:
        """What is wrong with it, in words."""


class AddressSpace:
    """An inode and its address_space. `address` is what page->mapping says; `i_mmap` are the VMAs that map it, which change under `lock`.

    `pages` are those in the page cache: index -> PFN. `size` in bytes. `store` is what is on its disk: index -> a page's bytes, zeros where
    there is none, and reading or writing one may raise DiskError; a file that is not `on_disk` has none but what it was made with, and lives in
    the page cache, as on tmpfs, which adds `shmem`: or in swap, in `slots` (index -> number of cache/swap_slots.py). `dropped` of its pages have gone and count until
    somebody looks. `on_lru`: reclaim may take its pages. A device has a `driver`, and no pages. It stays while it is `named`, or has `opens`: open files.
    """

    __slots__ = (
        "address", "driver", "dropped", "has_nonlinear", "i_mmap", "lock", "named", "on_disk", "on_lru", "opens", "pages", "read_only", "shmem", "size", "slots", "store", "truncate_count", "write_failed"
    )  # fmt: skip

    def __init__(
        self, address: int, i_mmap: VmaIndex, lock: Lock, pages: RadixTree | None = None, *, on_disk: bool = True
    ) -> None:
        self.address = address
        self.i_mmap = i_mmap
        self.lock = lock
        self.on_disk, self.on_lru = on_disk, False
        self.driver: Driver | None = None
        self.shmem: ShmemInfo | None = None
        self.slots: dict[int, int] = {}
        self.size = self.truncate_count = self.opens = self.dropped = 0
        self.named = True
        self.store: MutableMapping[int, bytes] = {}
        self.read_only = False
        self.write_failed = False  # AS_EIO: reclaim could not write a page, and nobody has been told
        self.has_nonlinear = False  # VMAs that were nonlinear once may show it
        self.pages = RadixTree() if pages is None else pages

    def is_hole(self, index: int) -> bool:
        """Whether nobody has ever written there, and no disk has it."""
        return not (self.on_disk or index in self.pages or index in self.slots or index in self.store)

    @property
    def nr_pages(self) -> int:
        """Pages that the file has, the last of them perhaps not full."""
        return -(-self.size // PAGE_SIZE)

    @property
    def nr_allocated(self) -> int:
        """Pages that it has: in the cache, in swap, or as it was made; and those `dropped`. O(pages it was made with)."""
        made = sum(index not in self.pages for index in self.store)
        return len(self.pages) + len(self.slots) + made + self.dropped

    @property
    def nr_blocks(self) -> int:
        """Pages that it takes: its own and those of its swap vector."""
        vector = None if self.shmem is None else self.shmem.vector
        return self.nr_allocated + (0 if vector is None else len(vector.pages))

    @property
    def nr_charged(self) -> int:
        """Pages that overcommit has promised for it."""
        if self.shmem is None or self.shmem.account is Account.NOTHING:
            return 0
        return self.nr_pages if self.shmem.account is Account.SIZE else self.nr_allocated


class File:
    """struct file: an address space, opened for reading, for writing, or both. VMAs of one of them may merge, those of two opens never do.

    `position` is where read and write go on, `ra` how it was read so far; dup and fork share them. `count` are those who refer to it: descriptors and VMAs. `address` is where
    its bytes lie in the slab; 0 if it was not opened by anybody (mm/open_file.py). `ops` are what it does that others do not.
    """

    __slots__ = ("address", "count", "mapping", "ops", "position", "ra", "readable", "writable")

    def __init__(self, mapping: AddressSpace, *, readable: bool = True, writable: bool = False) -> None:
        self.mapping = mapping
        self.readable, self.writable = readable, writable
        self.position = self.address = self.count = 0
        self.ops: FileOperations | None = None
        self.ra = ReadaheadState()


class MmStruct(VmaTree[VmArea]):
    """One address space. VMAs and what counts them change under mmap_sem held for writing; entries under page_table_lock."""

    def __init__(self, pid: int, address: int, pgd: int, locks: Locks) -> None:
        super().__init__(pid)
        self.address = address
        """Its place in the slab, which serves as the pointer to it."""
        self.pgd = pgd
        """Physical address of the top page table."""
        self.mmap_sem = locks.new("mmap_sem", f"mm of pid {pid}")
        self.page_table_lock = locks.new("page_table_lock", f"mm of pid {pid}")
        self.rss = 0
        """Present anonymous entries, as mm->rss; those of the zero page do not count. page_table_lock."""
        self.total_vm = 0
        """Pages of all VMAs."""
        self.total_vm_drift = 0
        """Pages that VMAs have grown by without being counted (a failed merging mremap)."""
        self.nr_tables = 0
        """Frames of its page tables, the top one included. page_table_lock."""
        self.free_area_cache = 0
        """Where the last search for a hole ended (mm/unmapped_area.py)."""
        self.start_brk = self.brk = 0
        """The heap: its first address, and the one behind its last."""
        self.def_flags = 0
        """The vm_flags that VMAs to come get besides their own (mlockall)."""
        self.locked_vm = 0
        """Pages of locked VMAs."""
        self.locked_vm_drift = 0
        """Pages still counted as locked that are not (MREMAP_DONTUNMAP of a locked mapping)."""
        self.cpu_vm_mask = 0
        """CPUs, bit by bit, that have its page tables loaded (machine/tlb.py)."""
        self.users = 1
        """Tasks that live in it: more than one after vfork or clone."""
        self.dumpable = True
        """Whether others of the same user may look at it: not after setuid, until exec."""
        self.swap_address = 0
        """How far 2.4's swap_out has come in it (reclaim/swap_out.py)."""
        self.mmlist_next: MmStruct | None = None
        self.mmlist_prev: MmStruct | None = None
        """Its neighbours on the mmlist (objects/mm_list.py); None where init_mm is."""

    def check(self) -> None:
        """VMAs are in order, apart, and counted. O(n)."""
        previous = 0
        for vma, start in zip(self.vmas, self._starts, strict=True):
            if not previous <= start == vma.start < vma.end or vma.mm is not self:
                raise KernelBug("validate_mm", f"{vma} is out of order in mm {self.pid}")
            previous = vma.end
        if (wrong := self.wrong_holes()) is not None:
            raise KernelBug("validate_mm", f"mm {self.pid}: {wrong}")
        if self.total_vm != sum(vma.nr_pages for vma in self.vmas) - self.total_vm_drift:
            raise KernelBug("validate_mm", f"total_vm of mm {self.pid} is {self.total_vm}")
        locked = sum(vma.nr_pages for vma in self.vmas if vma.flags & VM_LOCKED)
        if self.locked_vm - self.locked_vm_drift != locked:
            raise KernelBug("validate_mm", f"locked_vm of mm {self.pid} is {self.locked_vm}, its VMAs say {locked}")

    def __repr__(self) -> str:
        return f"<mm of pid {self.pid}: {self.map_count} VMAs, rss {self.rss}>"
