"""mmap of files: what is refused, what merges, which entries a fault makes, and where a dirty bit goes. Rows of files.md B1 to B7, C1, C5, D1, G1 to G9."""

import errno
from collections.abc import Callable, Iterable
from contextlib import nullcontext

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import BusError, NotModelled, SegmentationFault, SyscallError
from rmaplab.machine.batch import Batch
from rmaplab.machine.entries import ACCESSED, DIRTY, PRESENT, RW
from rmaplab.machine.frames import PG_DIRTY
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.truncate import vmtruncate
from rmaplab.objects.flags import (
    MADV_COLD,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_MERGEABLE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    MS_SYNC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_MERGEABLE,
    VM_SHARED,
)
from rmaplab.objects.mm_types import VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "6.18")
kernels = pytest.mark.parametrize("kernel", KERNELS)
HERE = 0x5000_0000
RW_PROT = PROT_READ | PROT_WRITE
SHARED, PRIVATE = MAP_SHARED, MAP_PRIVATE


class Mapped:
    """A system, a task, and a file of 64 pages that say which they are, opened for reading and writing. Nothing is read ahead (test_readahead.py)."""

    def __init__(self, kernel: str, pages: int = 64, *, on_disk: bool = True) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", readahead_kib=0)
        self.task = self.system.spawn()
        data = b"".join(b"page %02d" % i + bytes(PAGE_SIZE - 7) for i in range(pages))
        self.space = self.system.new_file(data, on_disk=on_disk)
        self.open = self.task.open(self.space, writable=True)
        self.frames, self.counts = self.system.machine.frames, self.system.machine.ledger.counts

    def map(
        self, at: int, nr: int, pgoff: int, flags: int = SHARED, prot: int = RW_PROT, file: int | None = None
    ) -> int:
        """`nr` pages from `pgoff` on, `at` pages behind HERE."""
        address = HERE + at * PAGE_SIZE
        return self.task.mmap(nr * PAGE_SIZE, prot, flags | MAP_FIXED, address, file=file or self.open, pgoff=pgoff)

    def vmas(self) -> list[VmArea]:
        assert self.task.mm is not None
        return self.task.mm.vmas

    def entry(self, address: int, task: rmaplab.Task | None = None) -> int:
        mm = (task or self.task).mm
        assert mm is not None
        return int(lookup(*self.system.machine.geometry, mm.pgd, address)[0])

    def present(self, start: int, nr: int, task: rmaplab.Task | None = None) -> str:
        return "".join("1" if self.entry(start + i * PAGE_SIZE, task) & PRESENT else "0" for i in range(nr))

    def is_dirty(self, index: int) -> bool:
        return bool(self.frames.flags[self.space.pages[index]] & PG_DIRTY)


# -- what is refused -------------------------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize(
    ("readable", "writable", "flags", "prot", "name"),
    [
        (True, False, SHARED, RW_PROT, "EACCES"),
        (True, False, SHARED, PROT_READ, None),
        (True, False, PRIVATE, RW_PROT, None),
        (False, True, SHARED, RW_PROT, "EACCES"),
        (False, True, PRIVATE, PROT_READ, "EACCES"),
        (True, True, 0, PROT_READ, "EINVAL"),
        (True, True, SHARED, RW_PROT, None),
    ],
)
def test_how_a_file_was_opened(
    kernel: str, readable: bool, writable: bool, flags: int, prot: int, name: str | None
) -> None:
    mapped = Mapped(kernel)
    opened = mapped.task.open(mapped.space, readable=readable, writable=writable)
    if name is None:
        mapped.task.mmap(PAGE_SIZE, prot, flags, file=opened)
    else:
        with pytest.raises(SyscallError) as error:
            mapped.task.mmap(PAGE_SIZE, prot, flags, file=opened)
        assert error.value.name == name
    mapped.system.check()


@kernels
def test_shared_and_opened_for_reading(kernel: str) -> None:
    """files.md A3: it stays among the private VMAs, and nobody makes it writable."""
    mapped = Mapped(kernel)
    at = mapped.map(0, 4, 0, prot=PROT_READ, file=mapped.task.open(mapped.space))
    flags = mapped.vmas()[0].flags
    assert (flags & VM_SHARED, flags & VM_MAYSHARE, flags & VM_MAYWRITE) == (0, VM_MAYSHARE, 0)
    with pytest.raises(SyscallError, match="opened for reading") as error:
        mapped.task.mprotect(at, PAGE_SIZE, RW_PROT)
    assert error.value.name == "EACCES"
    with pytest.raises(SegmentationFault, match="SIGSEGV"):
        mapped.task.write(at, b"x")
    assert mapped.task.read(at, 7) == b"page 00"
    mapped.system.check()


@pytest.mark.parametrize(
    ("flags", "options", "name"),
    [
        (MAP_SHARED_VALIDATE, {}, None),
        (MAP_SHARED_VALIDATE | 0x400_0000, {}, None),
        (MAP_SHARED_VALIDATE | 0x20_0000, {}, "EOPNOTSUPP"),
        (MAP_SHARED_VALIDATE | 0x8_0000, {}, "EOPNOTSUPP"),  # MAP_SYNC
        (MAP_SHARED | 0x20_0000, {}, None),
        (MAP_PRIVATE | MAP_GROWSDOWN, {}, "EINVAL"),
        (MAP_SHARED, {"pgoff": (1 << 51) - 1}, "EOVERFLOW"),
        (MAP_SHARED, {"pgoff": (1 << 51) - 2}, None),
        (MAP_SHARED, {"pgoff": 1 << 64}, "EOVERFLOW"),
        (MAP_SHARED | MAP_FIXED_NOREPLACE, {"address": HERE}, "EEXIST"),
    ],
)
def test_flags_of_6_18(flags: int, options: dict[str, int], name: str | None) -> None:
    """files.md G9."""
    mapped = Mapped("6.18")
    mapped.map(0, 1, 0)
    if name is None:
        mapped.task.mmap(PAGE_SIZE, PROT_READ, flags, file=mapped.open, **options)
    else:
        with pytest.raises(SyscallError) as error:
            mapped.task.mmap(PAGE_SIZE, PROT_READ, flags, file=mapped.open, **options)
        assert error.value.errno == getattr(errno, name)


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2"])
def test_what_old_kernels_say(kernel: str) -> None:
    """A length of 0 is fine, whatever the file; an offset that wraps is EINVAL; what it replaces is gone before overcommit refuses."""
    mapped = Mapped(kernel)
    closed = mapped.task.open(mapped.space, readable=False)
    assert mapped.task.mmap(0, PROT_READ, MAP_SHARED, 0x1234, file=closed) == 0x1234
    for flags, pgoff in ((MAP_SHARED, (1 << 32) - 1), (MAP_SHARED_VALIDATE, 0)):
        with pytest.raises(SyscallError) as error:
            mapped.task.mmap(PAGE_SIZE, PROT_READ, flags, file=mapped.open, pgoff=pgoff)
        assert error.value.name == "EINVAL"
    mapped.map(0, 4, 0)
    with pytest.raises(SyscallError, match="overcommit") as error:
        mapped.map(0, 100_000, 0, PRIVATE)
    assert error.value.name == "ENOMEM"
    assert mapped.vmas() == []
    mapped.system.check()


def test_what_is_not_modelled_says_so() -> None:
    mapped = Mapped("6.18")
    at = mapped.map(0, 4, 0)
    with pytest.raises(NotModelled, match="leave it out"):
        mapped.task.madvise(at, PAGE_SIZE, MADV_REMOVE)


@kernels
def test_what_is_charged(kernel: str) -> None:
    """files.md B3: private and writable, unless NORESERVE; mprotect to writable too, a fork of it again; nothing of what is shared."""
    mapped = Mapped(kernel)
    k = mapped.system.kernel
    accounted = k.rules.commit_is_accounted
    for flags, prot, pages in (
        (SHARED, RW_PROT, 0),
        (PRIVATE, PROT_READ, 0),
        (PRIVATE, RW_PROT, 8),
        (PRIVATE | MAP_NORESERVE, RW_PROT, 0),
    ):
        before = k.committed_pages
        at = mapped.map(0, 8, 0, flags, prot)
        assert k.committed_pages - before == (pages if accounted else 0)
        mapped.task.munmap(at, 8 * PAGE_SIZE)
        assert k.committed_pages == before
    at = mapped.map(0, 8, 0, PRIVATE, PROT_READ)
    mapped.task.mprotect(at, 4 * PAGE_SIZE, RW_PROT)
    assert k.committed_pages == (4 if accounted else 0)
    mapped.task.fork()
    assert k.committed_pages == (8 if accounted else 0)
    mapped.system.check()


# -- what merges -----------------------------------------------------------------------------------------------------------

Way = tuple[int, int, int, str]
"""Pages behind HERE, page of the file, flags, which open file."""
SAME, OTHER = "same", "other"


@pytest.mark.parametrize(
    ("maps", "in_2_6", "now"),
    [
        ([(0, 0, SHARED, SAME), (4, 4, SHARED, SAME)], 1, 1),
        ([(4, 4, PRIVATE, SAME), (0, 0, PRIVATE, SAME)], 1, 1),
        ([(0, 0, SHARED, SAME), (8, 8, SHARED, SAME), (4, 4, SHARED, SAME)], 1, 1),
        ([(0, 0, SHARED, SAME), (4, 4, SHARED, OTHER)], 2, 2),
        ([(0, 0, SHARED, SAME), (4, 5, SHARED, SAME)], 2, 2),
        ([(0, 0, SHARED, SAME), (4, 4, PRIVATE, SAME)], 2, 2),
        ([(0, 0, PRIVATE, SAME), (4, 4, PRIVATE | MAP_NORESERVE, SAME)], 2, 2),
    ],
)
@kernels
def test_mappings_of_one_open_file_merge(kernel: str, maps: Iterable[Way], in_2_6: int, now: int) -> None:
    """files.md B4, G1: the same open file, pages that continue, equal flags. Never in 2.4."""
    mapped = Mapped(kernel)
    opened = {SAME: mapped.open, OTHER: mapped.task.open(mapped.space, writable=True)}
    for at, pgoff, flags, which in maps:
        mapped.map(at, 4, pgoff, flags, file=mapped.task.dup(opened[which]))
    expected = {"2.4.21": len(list(maps)), "6.18": now}.get(kernel, in_2_6)
    assert len(mapped.vmas()) == expected
    mapped.system.check()


@kernels
def test_the_middle_changes_and_changes_back(kernel: str) -> None:
    """Unmapped and mapped again: 1 but in 2.4. mprotect: files are merged by it since 2.6.7. mremap and back: likewise."""
    mapped = Mapped(kernel)
    at = mapped.map(0, 12, 0)
    middle = at + 4 * PAGE_SIZE
    mapped.task.munmap(middle, 4 * PAGE_SIZE)
    mapped.map(4, 4, 4)
    assert len(mapped.vmas()) == (3 if kernel == "2.4.21" else 1)
    mapped.system.check()
    mapped.task.mprotect(middle, 4 * PAGE_SIZE, PROT_READ)
    mapped.task.mprotect(middle, 4 * PAGE_SIZE, RW_PROT)
    assert len(mapped.vmas()) == (1 if kernel == "6.18" else 3)
    mapped.system.check()


def test_private_parts_that_were_copied_apart() -> None:
    """files.md G1, private: left and right have copies of their own, so the gap joins the left alone."""
    mapped = Mapped("6.18")
    for at in (0, 8):
        mapped.map(at, 4, at, PRIVATE)
        mapped.task.write(HERE + at * PAGE_SIZE, b"mine")
    mapped.map(4, 4, 4, PRIVATE)
    assert [(vma.pgoff, vma.nr_pages) for vma in mapped.vmas()] == [(0, 8), (8, 4)]
    mapped.system.check()


# -- faults, dirty bits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [True, False])
@kernels
def test_read_then_written(kernel: str, on_disk: bool) -> None:
    """files.md C1, G4: writable at once and clean, and the entry alone knows of the write; or, on a disk since 2.6.19, noticed. In memory the page is dirty since it was made."""
    mapped = Mapped(kernel, on_disk=on_disk)
    at = mapped.map(0, 4, 0)
    notices = kernel == "6.18" and on_disk
    mapped.task.read(at)
    assert mapped.entry(at) & (PRESENT | RW | DIRTY) == (PRESENT if notices else PRESENT | RW)
    mapped.task.write(at, b"PAGE")
    assert mapped.entry(at) & (PRESENT | RW | DIRTY) == PRESENT | RW | DIRTY
    assert mapped.counts["page_mkwrite"] == notices
    assert mapped.is_dirty(0) == (notices or not on_disk)
    mapped.system.check()
    mapped.task.write(at + PAGE_SIZE, b"PAGE")  # without a read before
    assert mapped.counts["page_mkwrite"] == notices
    mapped.task.munmap(at, 4 * PAGE_SIZE)
    assert (mapped.is_dirty(0), mapped.is_dirty(1)) == (True, True)
    assert mapped.task.pread(mapped.open, 7, PAGE_SIZE) == b"PAGE 01"
    mapped.system.check()


@pytest.mark.parametrize("write", [False, True])
@kernels
def test_many_faults_at_once_are_as_many_one_by_one(kernel: str, write: bool) -> None:
    """Some pages in the cache, one with an entry, the last ones behind the file's end: entries, counts, dirty pages, locks and charges are the same."""
    at_once, one_by_one = Mapped(kernel), Mapped(kernel)
    seen = []
    for mapped in (at_once, one_by_one):
        mapped.task.pread(mapped.open, 1, 7 * PAGE_SIZE)
        at = mapped.map(0, 60, 6)
        mapped.task.touch(at + 3 * PAGE_SIZE, PAGE_SIZE, write=True)
        if mapped is one_by_one:
            for i in range(58):
                mapped.task.touch(at + i * PAGE_SIZE, PAGE_SIZE, write=write)
        with pytest.raises(BusError) as error:
            mapped.task.touch(at, 60 * PAGE_SIZE, write=write)
        mapped.system.check()
        entries = [mapped.entry(at + i * PAGE_SIZE) & (PRESENT | RW | DIRTY | ACCESSED) for i in range(60)]
        pages = [mapped.space.pages[i] for i in range(6, 64)]
        locks = mapped.system.machine.locks.as_json()
        taken = {name: (locks[name]["reads"], locks[name]["writes"]) for name in locks if not name.startswith("PG_")}
        del mapped.counts["page_touch"]  # they are touched once more
        seen.append(
            (error.value.address, entries, mapped.frames.count[pages].tolist(), mapped.frames.mapcount[pages].tolist(),
             [mapped.is_dirty(i) for i in range(6, 64)], mapped.counts, taken)
        )  # fmt: skip
    assert seen[0] == seen[1]


def test_write_out_wants_to_hear_of_the_next_write() -> None:
    """files.md G4: MS_SYNC and fsync make the entry read-only, so that one more fault comes; MS_ASYNC does nothing."""
    mapped = Mapped("6.18")
    at = mapped.map(0, 4, 0)
    mapped.task.write(at, b"A")
    mapped.task.msync(at, PAGE_SIZE, MS_ASYNC)
    assert (mapped.is_dirty(0), mapped.entry(at) & RW) == (True, RW)
    ways: list[Callable[[], None]] = [
        lambda: mapped.task.msync(at, PAGE_SIZE, MS_SYNC),
        lambda: mapped.task.fsync(mapped.open),
    ]
    for nr, sync in enumerate(ways, 1):
        sync()
        assert (mapped.is_dirty(0), mapped.entry(at) & (RW | DIRTY)) == (False, 0)
        assert mapped.space.store[0][:7] == (b"Aage 00" if nr == 1 else b"Bage 00")
        mapped.task.write(at, b"B")
        assert mapped.counts["page_mkwrite"] == nr
    mapped.system.check()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"])
def test_fsync_does_not_see_what_an_entry_knows(kernel: str) -> None:
    """files.md B7: before page_mkclean only msync looks at entries, at those of its own range; then all of the file is written."""
    mapped = Mapped(kernel)
    at = mapped.map(0, 4, 0)
    mapped.task.write(at, b"A")
    mapped.task.fsync(mapped.open)
    assert mapped.space.store[0][:7] == b"page 00"
    mapped.task.msync(at, PAGE_SIZE, MS_ASYNC)
    assert (mapped.is_dirty(0), mapped.entry(at) & DIRTY, mapped.space.store[0][:7]) == (True, 0, b"page 00")
    mapped.task.fsync(mapped.open)
    assert mapped.space.store[0][:7] == b"Aage 00"
    mapped.task.write(at + PAGE_SIZE, b"B")
    mapped.task.msync(at + PAGE_SIZE, PAGE_SIZE, MS_SYNC)
    assert (mapped.space.store[1][:7], mapped.is_dirty(1)) == (b"Bage 01", False)
    mapped.system.check()


@kernels
def test_mprotect_of_what_is_shared(kernel: str) -> None:
    """Writable again means entries that are writable, where writes are not noticed; a fault where they are."""
    mapped = Mapped(kernel)
    at = mapped.map(0, 4, 0)
    mapped.task.write(at, b"A")
    mapped.task.mprotect(at, PAGE_SIZE, PROT_READ)
    assert mapped.entry(at) & (RW | DIRTY) == DIRTY
    mapped.task.mprotect(at, PAGE_SIZE, RW_PROT)
    assert bool(mapped.entry(at) & RW) == (kernel != "6.18")
    mapped.task.write(at, b"B")
    mapped.system.check()
    assert mapped.task.pread(mapped.open, 1, 0) == b"B"


@pytest.mark.parametrize(
    ("where", "pgoff", "page", "first", "end"), [(0, 0, 20, 16, 32), (5, 3, 5, 3, 19), (5, 3, 20, 14, 30)]
)
def test_a_read_brings_its_neighbours(where: int, pgoff: int, page: int, first: int, end: int) -> None:
    """files.md C5, G4: 16 pages from a border of 16 in the address space, or from the VMA's start; a write brings its own page alone."""
    mapped = Mapped("6.18")
    mapped.task.pread(mapped.open, 64 * PAGE_SIZE, 0)
    at = mapped.map(where, 64 - pgoff, pgoff)
    mapped.task.read(at + (page - pgoff) * PAGE_SIZE)
    expected = "".join("1" if first <= i < end else "0" for i in range(pgoff, 64))
    assert mapped.present(at, 64 - pgoff) == expected
    mapped.system.check()
    mapped.task.write(at + 40 * PAGE_SIZE, b"x")
    assert mapped.present(at, 64 - pgoff).count("1") == 17
    mapped.system.check()


def test_holes_in_the_cache_stay_holes() -> None:
    """files.md G4: pages 0, 2, 3, 9 are in the cache; a read of 2 maps these four. One that has to be read comes alone, its neighbours first."""
    mapped = Mapped("6.18")
    for page in (0, 2, 3, 9):
        mapped.task.pread(mapped.open, 1, page * PAGE_SIZE)
    at = mapped.map(0, 16, 0)
    mapped.task.read(at + 2 * PAGE_SIZE)
    assert mapped.present(at, 16) == "1011000001000000"
    mapped.task.read(at + 5 * PAGE_SIZE)
    assert mapped.present(at, 16) == "1011010001000000"
    old = Mapped("2.6.2")
    old.task.pread(old.open, 16 * PAGE_SIZE, 0)
    at = old.map(0, 16, 0)
    old.task.read(at + 2 * PAGE_SIZE)
    assert old.present(at, 16).count("1") == 1


@kernels
def test_populate_and_mlock(kernel: str) -> None:
    """files.md B7, G3, G7: up to 2.6.34 mlock writes to what is shared; later to private mappings alone, which it copies."""
    mapped = Mapped(kernel)
    mapped.task.cap_ipc_lock(granted=True)
    mapped.task.limit_memlock("1M")
    at = mapped.map(0, 4, 0)
    mapped.task.mlock(at, 4 * PAGE_SIZE)
    assert mapped.present(at, 4) == "1111"
    assert bool(mapped.entry(at) & DIRTY) == (kernel != "6.18")
    private = mapped.map(8, 4, 0, PRIVATE)
    mapped.task.mlock(private, 4 * PAGE_SIZE)
    assert not {
        self >> PAGE_SHIFT for self in map(mapped.entry, range(private, private + 4 * PAGE_SIZE, PAGE_SIZE))
    } & set(mapped.space.pages.values())
    behind = mapped.map(16, 4, 62)
    with nullcontext() if kernel == "2.4.21" else pytest.raises(SyscallError) as error:  # 2.4 does not look
        mapped.task.mlock(behind, 4 * PAGE_SIZE)
    if error is not None:
        assert error.value.name == ("ENOMEM" if kernel == "6.18" else "EPERM")
    assert mapped.present(behind, 4) == "1100"
    mapped.system.check()


def test_map_populate_of_a_file() -> None:
    """files.md G3: what there is, read-only; beyond the file's end it is left to the task's own faults."""
    mapped = Mapped("6.18")
    at = mapped.map(0, 8, 60, SHARED | MAP_POPULATE)
    assert mapped.present(at, 8) == "11110000"
    assert not mapped.is_dirty(60)
    mapped.system.check()


@pytest.mark.parametrize(
    ("kernel", "prot", "flags", "beyond", "there"),
    [
        ("2.4.21", PROT_NONE, SHARED, 0, "...."),
        ("2.6.2", PROT_NONE, SHARED, 0, "hhhh"),
        ("2.6.5-rc1+00100", PROT_NONE, SHARED, 0, "hhhh"),
        ("2.6.5-rc1-aa1", PROT_NONE, SHARED, 0, "hhhh"),
        ("2.6.5-rc1-aa1", PROT_NONE, SHARED | MAP_NONBLOCK, 0, ".h.."),
        ("2.6.5-rc1-aa1", PROT_NONE, SHARED, 1, "...."),  # filemap_populate looks at the end first
        ("2.6.5-rc1-aa1", PROT_NONE, PRIVATE, 0, "...."),
        ("2.6.5-rc1-aa1", PROT_READ, SHARED, 0, "...."),
        ("2.6.7", PROT_NONE, SHARED, 0, "hhhh"),
        ("2.6.7", RW_PROT, SHARED, 0, "pppp"),
        ("2.6.7", RW_PROT, SHARED | MAP_NONBLOCK, 0, ".p.."),
        ("2.6.7", RW_PROT, PRIVATE, 0, "...."),
        ("2.6.7", RW_PROT, SHARED, 1, "...."),
        ("6.18", PROT_NONE, SHARED, 0, "...."),
    ],
)
def test_map_populate_was_remap_file_pages(kernel: str, prot: int, flags: int, beyond: int, there: str) -> None:
    """files.md B6: with mmap's protection, which had to be 0; 2.6.7 passes 0. Pages at their linear places, hidden (h) or present (p)."""
    mapped = Mapped(kernel)
    mapped.task.pread(mapped.open, 1, 61 * PAGE_SIZE)
    at = mapped.map(0, 4, 60 + beyond, flags | MAP_POPULATE, prot)
    entries = [mapped.entry(at + i * PAGE_SIZE) for i in range(4)]
    assert "".join("p" if entry & PRESENT else "h" if entry else "." for entry in entries) == there
    assert not mapped.is_dirty(61)
    mapped.system.check()
    if prot == PROT_NONE:
        mapped.task.mprotect(at, 4 * PAGE_SIZE, PROT_READ)
        assert mapped.task.read(at, 4) == b"page"
        mapped.system.check()


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1-aa1"])
def test_map_populate_that_gets_no_memory_is_mapped_all_the_same(kernel: str) -> None:
    """The error of remap_file_pages is ignored: what came before it stays. Of a file on a disk readahead would swallow the one failure."""
    mapped = Mapped(kernel, on_disk=False)
    before = mapped.system.machine.allocator.nr_free
    mapped.system.machine.allocator.fail_after = 4  # a VMA, page tables and a page, more or less
    at = mapped.map(0, 8, 0, SHARED | MAP_POPULATE, PROT_NONE)
    mapped.system.machine.allocator.fail_after = None
    hidden = sum(bool(mapped.entry(at + i * PAGE_SIZE)) for i in range(8))
    assert 0 < hidden < 8
    mapped.system.check()
    mapped.task.munmap(at, 8 * PAGE_SIZE)
    mapped.system.check()
    assert mapped.system.machine.allocator.nr_free < before


@pytest.mark.parametrize("kernel", KERNELS[:-1])
def test_map_locked_and_map_populate_in_2004(kernel: str) -> None:
    """files.md B1: 2.4 does not know MAP_LOCKED; 2.6 wants the capability, and RLIMIT_MEMLOCK all the same. MAP_POPULATE does nothing."""
    mapped = Mapped(kernel)
    locks = kernel != "2.4.21"
    for prot, flags in ((RW_PROT, SHARED), (PROT_READ, PRIVATE)):
        at = mapped.map(0, 4, 0, flags | MAP_POPULATE, prot)
        assert mapped.present(at, 4) == "0000"
    assert mapped.task.mm is not None
    for granted, limit, name in ((False, "1M", "EPERM"), (True, "12K", "EAGAIN"), (True, "16K", None)):
        mapped.task.cap_ipc_lock(granted=granted)
        mapped.task.limit_memlock(limit)
        if name is not None and locks:
            with pytest.raises(SyscallError) as error:
                mapped.task.mmap(4 * PAGE_SIZE, RW_PROT, SHARED | MAP_LOCKED, file=mapped.open)
            assert error.value.name == name
            continue
        at = mapped.task.mmap(4 * PAGE_SIZE, RW_PROT, SHARED | MAP_LOCKED, file=mapped.open)
        assert (mapped.present(at, 4), mapped.task.mm.locked_vm) == (("1111", 4) if locks else ("0000", 0))
    anonymous = mapped.task.mmap(PAGE_SIZE, RW_PROT, PRIVATE | MAP_ANONYMOUS | MAP_POPULATE)
    assert mapped.present(anonymous, 1) == "0"
    mapped.system.check()


# -- fork, mremap, truncate ------------------------------------------------------------------------------------------------


@kernels
def test_fork(kernel: str) -> None:
    """files.md G5: 2004 copies every entry, the child's clean and old; 6.18 none of what is shared, or private and not copied yet."""
    mapped = Mapped(kernel)
    shared, private, copied = mapped.map(0, 4, 0), mapped.map(8, 4, 0, PRIVATE), mapped.map(16, 4, 0, PRIVATE)
    mapped.task.touch(shared, 4 * PAGE_SIZE, write=True)
    for start in (private, copied):
        mapped.task.touch(start, 4 * PAGE_SIZE)
    mapped.task.write(copied, b"mine")
    child = mapped.task.fork()
    mapped.system.check()
    lazy = kernel == "6.18"
    there = [mapped.present(start, 4, child) for start in (shared, private, copied)]
    assert there == (["0000", "0000", "1111"] if lazy else ["1111"] * 3)
    if not lazy:
        assert mapped.entry(shared, child) & (ACCESSED | DIRTY | RW) == RW
    child.write(shared + 1, b"AGE")
    assert mapped.task.read(shared, 4) == b"pAGE"
    assert child.read(copied, 4) == b"mine"
    mapped.system.check()


def test_old_length_0_in_6_18() -> None:
    """files.md G2: a second mapping without entries, of what is shared alone; it may be longer than the first."""
    mapped = Mapped("6.18")
    at, private = mapped.map(0, 4, 8), mapped.map(8, 4, 0, PRIVATE)
    mapped.task.write(at, b"A")
    again = mapped.task.mremap(at + PAGE_SIZE, 0, 6 * PAGE_SIZE, MREMAP_MAYMOVE)
    assert mapped.present(again, 6) == "000000"
    assert mapped.task.read(again, 7) == b"page 09"
    mapped.task.read(at + PAGE_SIZE)
    assert {m.address for m in mapped.system.who_maps(mapped.space, 9)} == {again, at + PAGE_SIZE}
    read_only = mapped.map(16, 4, 0, prot=PROT_READ, file=mapped.task.open(mapped.space))
    mapped.task.mremap(read_only, 0, PAGE_SIZE, MREMAP_MAYMOVE)
    for where, flags, name in ((at, 0, "ENOMEM"), (private, MREMAP_MAYMOVE, "EINVAL")):
        with pytest.raises(SyscallError) as error:
            mapped.task.mremap(where, 0, PAGE_SIZE, flags)
        assert error.value.name == name
    mapped.system.check()


@pytest.mark.parametrize("kernel", KERNELS[:-1])
def test_old_length_0_in_2004(kernel: str) -> None:
    """files.md B5: of any mapping; of a private one what comes is the file again, without the copies."""
    mapped = Mapped(kernel)
    private = mapped.map(8, 4, 0, PRIVATE)
    mapped.task.write(private, b"mine")
    again = mapped.task.mremap(private, 0, 4 * PAGE_SIZE, MREMAP_MAYMOVE)
    assert (mapped.task.read(private, 4), mapped.task.read(again, 4)) == (b"mine", b"page")
    mapped.system.check()


@kernels
def test_cut(kernel: str) -> None:
    """files.md G6: 8 pages, all touched, cut to 4 pages and 100 bytes: copies behind the cut are lost, that of the straddling page keeps its bytes."""
    mapped = Mapped(kernel, pages=8)
    shared, private = mapped.map(0, 8, 0), mapped.map(16, 8, 0, PRIVATE)
    mapped.task.touch(shared, 8 * PAGE_SIZE)
    mapped.task.touch(private, 8 * PAGE_SIZE)
    for page in (1, 4, 6):
        mapped.task.write(private + page * PAGE_SIZE + 200, b"mine")
    mapped.task.write(shared + 4 * PAGE_SIZE + 200, b"ours")
    mapped.task.ftruncate(mapped.open, 4 * PAGE_SIZE + 100)
    mapped.system.check()
    assert (mapped.present(shared, 8), mapped.present(private, 8)) == ("11111000", "11111000")
    assert set(mapped.space.pages) == {0, 1, 2, 3, 4}
    for page in (5, 6, 7):
        for start in (shared, private):
            with pytest.raises(BusError):
                mapped.task.read(start + page * PAGE_SIZE)
    straddling = 4 * PAGE_SIZE + 200
    assert (mapped.task.read(private + straddling, 4), mapped.task.read(shared + straddling, 4)) == (b"mine", bytes(4))
    assert mapped.task.read(private + PAGE_SIZE + 200, 4) == b"mine"
    mapped.task.write(shared + straddling, b"5")
    mapped.task.ftruncate(mapped.open, 8 * PAGE_SIZE)
    assert mapped.task.read(shared + straddling, 1) == (b"\0" if kernel == "6.18" else b"5")
    assert mapped.task.read(private + 6 * PAGE_SIZE + 200, 4) == bytes(4)
    mapped.system.check()


def test_nothing_at_all_of_a_file() -> None:
    """files.md G6: a file of size 0 can be mapped, and touching it is SIGBUS."""
    mapped = Mapped("6.18", pages=0)
    at = mapped.map(0, 1, 0)
    with pytest.raises(BusError):
        mapped.task.write(at, b"x")


# -- other questions -------------------------------------------------------------------------------------------------------


@kernels
def test_mincore(kernel: str) -> None:
    """files.md B7: the cache's pages, whoever maps them; since 2.6.34 a private copy counts too."""
    mapped = Mapped(kernel)
    mapped.task.pread(mapped.open, 1, 2 * PAGE_SIZE)
    at = mapped.map(0, 4, 0, PRIVATE)
    assert mapped.task.mincore(at, 4 * PAGE_SIZE) == [False, False, True, False]
    mapped.system.check()


@pytest.mark.parametrize("flags", [SHARED, PRIVATE])
def test_advice(flags: int) -> None:
    """files.md G3, on 6.18."""
    mapped = Mapped("6.18")
    at = mapped.map(0, 8, 0, flags)
    mapped.task.write(at, b"mine")
    for advice in (MADV_FREE, MADV_WIPEONFORK):
        with pytest.raises(SyscallError) as error:
            mapped.task.madvise(at, PAGE_SIZE, advice)
        assert error.value.name == "EINVAL"
    if flags == PRIVATE:
        with pytest.raises(SyscallError) as error:
            mapped.task.madvise(at, PAGE_SIZE, MADV_REMOVE)
        assert error.value.name == "EACCES"
    mapped.task.madvise(at, 8 * PAGE_SIZE, MADV_COLD)
    mapped.task.madvise(at, 8 * PAGE_SIZE, MADV_MERGEABLE)
    assert bool(mapped.vmas()[0].flags & VM_MERGEABLE) == (flags == PRIVATE)
    mapped.task.madvise(at, PAGE_SIZE, MADV_RANDOM)
    assert len(mapped.vmas()) == 2
    mapped.task.madvise(at, 8 * PAGE_SIZE, MADV_DONTNEED)
    assert mapped.task.read(at, 4) == (b"mine" if flags == SHARED else b"page")
    mapped.system.check()


@kernels
def test_reads_and_writes_go_on_where_the_last_one_ended(kernel: str) -> None:
    """Position is the open file's: dup and fork share it. Bytes are seen by mappings at once, but by a copy."""
    mapped = Mapped(kernel, pages=2)
    shared, private = mapped.map(0, 2, 0), mapped.map(4, 2, 0, PRIVATE)
    mapped.task.write(private, b"mine")
    assert mapped.task.read_file(mapped.open, 5) == b"page "
    child = mapped.task.fork()
    assert child.write_file(child.dup(mapped.open), b"no") == 2
    assert (mapped.task.read(shared, 7), mapped.task.read(private, 7)) == (b"page no", b"mine 00")
    end = 2 * PAGE_SIZE
    assert mapped.task.pread(mapped.open, 100, end - 3) == bytes(3)
    assert mapped.task.pread(mapped.open, 100, end + 50) == b""
    assert mapped.task.pwrite(mapped.open, b"far", end + 50) == 3
    assert mapped.task.pread(mapped.open, 100, end + 48) == b"\0\0far"
    assert mapped.space.size == end + 53
    for name, opened, arguments, code in (
        ("pread", mapped.task.open(mapped.space, readable=False), (1, 0), "EBADF"),
        ("pwrite", mapped.task.open(mapped.space), (b"x", 0), "EBADF"),
        ("pread", mapped.open, (1, -1), "EINVAL"),
        ("ftruncate", mapped.open, (-1,), "EINVAL"),
    ):
        with pytest.raises(SyscallError) as error:
            getattr(mapped.task, name)(opened, *arguments)
        assert error.value.name == code
    mapped.system.check()


@kernels
def test_who_maps_a_page_of_a_file(kernel: str) -> None:
    """Everybody who has the file's own page; nobody who has a copy; nothing where it is not in the cache."""
    mapped = Mapped(kernel)
    at = mapped.map(0, 4, 4)
    mapped.task.read(at + PAGE_SIZE)
    child = mapped.task.fork()
    child.read(at + PAGE_SIZE)
    elsewhere = mapped.map(8, 4, 2, PRIVATE)
    mapped.task.read(elsewhere + 3 * PAGE_SIZE)
    found = {(m.mm.pid, m.address) for m in mapped.system.who_maps(mapped.space, 5)}
    here = at + PAGE_SIZE
    assert found == {(mapped.task.pid, here), (child.pid, here), (mapped.task.pid, elsewhere + 3 * PAGE_SIZE)}
    mapped.task.write(elsewhere + 3 * PAGE_SIZE, b"x")
    assert {m.address for m in mapped.system.who_maps(mapped.space, 5)} == {here}
    assert mapped.system.who_maps(mapped.space, 60) == []


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1+00100", "6.18"])
def test_nothing_is_lost_where_memory_is_short(kernel: str) -> None:
    """Every n-th allocation of a fault, a write(2) and a map fails in turn: an errno or a killed task, and all else as before."""
    for nth in range(12):
        mapped = Mapped(kernel)
        mapped.system.machine.allocator.fail_after = nth
        child = None
        try:
            at = mapped.map(0, 4, 0, PRIVATE)
            mapped.task.pwrite(mapped.open, b"x" * 5000, 63 * PAGE_SIZE)
            mapped.task.read(at)
            mapped.task.write(at + PAGE_SIZE, b"x")
            child = mapped.task.fork()
        except (SyscallError, rmaplab.NoMemory, rmaplab.OomKilled):
            pass
        mapped.system.machine.allocator.fail_after = None
        mapped.system.check()
        assert np.all(mapped.frames.count[list(mapped.space.pages.values())] >= 1)
        del child


def test_a_file_is_cut_while_a_stretch_waits_for_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """2.6.2 may sleep for its chains when the pages have been found. They are nobody's then, so they are looked for once more."""
    mapped = Mapped("2.6.2")
    address, k = mapped.map(0, 8, 0), mapped.system.kernel
    reserve, cuts = k.design.reserve, [0]

    def cut(batch: Batch) -> None:
        while cuts:
            vmtruncate(k, mapped.space, cuts.pop())
        reserve(batch)

    monkeypatch.setattr(k.design, "reserve", cut)
    with pytest.raises(BusError):
        mapped.task.touch(address, 8 * PAGE_SIZE)
    mapped.system.check()
    assert not mapped.space.pages


def test_a_write_that_gets_no_second_page_is_short() -> None:
    """Bytes that are in the page cache are written; where none are, the call fails."""
    mapped = Mapped("6.18", pages=0)
    allocator = mapped.system.machine.allocator
    allocator.fail_after = 1
    assert mapped.task.pwrite(mapped.open, b"x" * 5000, 0) == PAGE_SIZE
    assert mapped.space.size == PAGE_SIZE
    allocator.fail_after = 0
    with pytest.raises(SyscallError, match=r"\[Errno 12\]"):
        mapped.task.pwrite(mapped.open, b"x", PAGE_SIZE)
    assert mapped.space.size == PAGE_SIZE
    mapped.system.check()
