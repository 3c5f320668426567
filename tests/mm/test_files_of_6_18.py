"""Files on 6.18: what a running 6.18.44 does, row by row (files.md G1 to G9); random calls on both agreed but for what is mended here."""

import pytest

from rmaplab.errors import BusError, SegmentationFault, SyscallError
from rmaplab.machine.entries import DIRTY
from rmaplab.objects.flags import (
    MADV_COLD,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_WILLNEED,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MLOCK_ONFAULT,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PROT_NONE,
    PROT_READ,
)
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

from .test_mmap_file import HERE, PRIVATE, RW_PROT, SHARED, Mapped


def cached(*, pages: int = 64, on_disk: bool = True) -> Mapped:
    """All of the file is in the cache."""
    mapped = Mapped("6.18", pages, on_disk=on_disk)
    for page in range(pages):
        mapped.task.pread(mapped.open, 1, page * PAGE_SIZE)
        if not on_disk:
            mapped.task.pwrite(mapped.open, b"p", page * PAGE_SIZE)
    return mapped


def copied(mapped: Mapped, at: int, nr: int) -> str:
    """Which pages are not those of the cache."""
    own = set(mapped.space.pages.values())
    entries = [mapped.entry(at + i * PAGE_SIZE) for i in range(nr)]
    return "".join("1" if entry & 1 and entry >> PAGE_SHIFT & (1 << 40) - 1 not in own else "0" for entry in entries)


def refused(mapped: Mapped, name: str, call: str, *arguments: object) -> None:
    with pytest.raises(SyscallError) as error:
        getattr(mapped.task, call)(*arguments)
    assert error.value.name == name
    mapped.system.check()


# -- G2: mremap --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [SHARED, PRIVATE])
def test_a_move_that_unmaps_nothing(flags: int) -> None:
    """files.md G2: what is shared is faulted again, the same frame; a private copy goes along, and the old place reads the file."""
    mapped = cached()
    at = mapped.map(0, 4, 0, flags)
    mapped.task.write(at, b"mine")
    was = mapped.entry(at) >> PAGE_SHIFT
    for how, new in ((MREMAP_DONTUNMAP, 4), (MREMAP_DONTUNMAP | MREMAP_MAYMOVE, 5), (MREMAP_FIXED, 4)):
        refused(mapped, "EINVAL", "mremap", at, 4 * PAGE_SIZE, new * PAGE_SIZE, how, HERE + (1 << 20))
    to = mapped.task.mremap(at, 4 * PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_DONTUNMAP | MREMAP_MAYMOVE)
    assert (mapped.entry(at), mapped.entry(to) >> PAGE_SHIFT) == (0, was)
    mapped.system.check()
    assert mapped.task.read(to, 4) == b"mine"
    assert mapped.task.read(at, 4) == (b"mine" if flags == SHARED else b"page")
    assert (mapped.entry(at) >> PAGE_SHIFT == was) == (flags == SHARED)
    mapped.system.check()


@pytest.mark.parametrize(
    ("flags", "faulted", "nr"), [(SHARED, 2, 1), (PRIVATE, 0, 1), (PRIVATE, 1, 1), (PRIVATE, 2, 2)]
)
def test_a_move_beside_its_continuation(flags: int, faulted: int, nr: int) -> None:
    """files.md G2: they are one then, but for two private parts that were each written to."""
    mapped = cached()
    first, second = mapped.map(0, 4, 0, flags), mapped.map(20, 4, 4, flags)
    for at in (first, second)[:faulted]:
        mapped.task.write(at, b"x")
    mapped.task.mremap(second, 4 * PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, first + 4 * PAGE_SIZE)
    assert len(mapped.vmas()) == nr
    mapped.system.check()


def test_one_move_of_several_files_and_a_hole() -> None:
    """files.md G2: of equal length, with MREMAP_FIXED: the layout is kept."""
    mapped = cached()
    other = mapped.task.open(mapped.space, writable=True)
    at = mapped.map(0, 2, 0)
    mapped.map(3, 2, 8, PRIVATE)
    mapped.map(5, 1, 0, file=other)
    to = HERE + (1 << 20)
    mapped.task.mremap(at, 6 * PAGE_SIZE, 6 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to)
    assert [((v.start - to) >> PAGE_SHIFT, v.nr_pages, v.pgoff) for v in mapped.vmas()] == [
        (0, 2, 0),
        (3, 2, 8),
        (5, 1, 0),
    ]
    mapped.system.check()


def test_growing() -> None:
    """files.md G2: in place it meets what follows and is one with it; blocked it is ENOMEM; beyond the file's end it is SIGBUS to touch."""
    mapped = cached(pages=8)
    at = mapped.map(0, 2, 0)
    mapped.map(4, 2, 4)
    refused(mapped, "ENOMEM", "mremap", at, 2 * PAGE_SIZE, 5 * PAGE_SIZE, 0)
    assert mapped.task.mremap(at, 2 * PAGE_SIZE, 4 * PAGE_SIZE, 0) == at
    assert len(mapped.vmas()) == 1
    mapped.task.mremap(at, 6 * PAGE_SIZE, 12 * PAGE_SIZE, 0)
    assert mapped.task.read(at + 7 * PAGE_SIZE, 7) == b"page 07"
    with pytest.raises(BusError):
        mapped.task.read(at + 8 * PAGE_SIZE)
    mapped.system.check()


# -- G3: madvise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("flags", [SHARED, PRIVATE])
def test_pageout(flags: int, on_disk: bool) -> None:
    """files.md G3: what is mapped once loses its entry, and if it is clean and on a disk its place in the cache; copies and what others map stay."""
    mapped = cached(pages=8, on_disk=on_disk)
    at = mapped.map(0, 8, 0, flags)
    mapped.task.touch(at, 8 * PAGE_SIZE)
    mapped.task.write(at, b"mine")
    mapped.task.read(mapped.map(20, 1, 2))
    mapped.task.madvise(at, 4 * PAGE_SIZE, MADV_PAGEOUT)
    mapped.system.check()
    assert mapped.present(at, 8) == ("00101111" if flags == SHARED else "10101111")
    gone = {0, 1, 3} if flags == PRIVATE else {1, 3}  # page 0 is newer than the disk if it is shared
    assert set(range(8)) - set(mapped.space.pages) == ((gone - {0}) if on_disk else set())
    assert mapped.task.read(at, 4) == b"mine"
    assert mapped.task.read(at + PAGE_SIZE, 7) == b"page 01"
    mapped.system.check()


def test_willneed() -> None:
    """Into the cache, up to the file's end, and into nobody's page tables; a hole of what lives in memory stays one."""
    mapped = Mapped("6.18", 8)
    at = mapped.map(0, 8, 4)
    mapped.task.madvise(at, 8 * PAGE_SIZE, MADV_WILLNEED)
    assert (set(mapped.space.pages), mapped.present(at, 8)) == ({4, 5, 6, 7}, "0" * 8)
    private = mapped.map(20, 4, 0, PRIVATE)
    mapped.system.machine.allocator.fail_after = 0
    mapped.task.madvise(private, 4 * PAGE_SIZE, MADV_WILLNEED)  # readahead gives up
    mapped.system.machine.allocator.fail_after = None
    assert len(mapped.space.pages) == 4
    memory = mapped.system.new_file(size=8 * PAGE_SIZE, on_disk=False)
    opened = mapped.task.open(memory, writable=True)
    at = mapped.map(40, 8, 0, file=opened)
    mapped.task.madvise(at, 8 * PAGE_SIZE, MADV_WILLNEED)
    assert mapped.task.pread(opened, PAGE_SIZE, 100) == bytes(PAGE_SIZE)
    assert memory.pages == {}
    mapped.task.read(at + PAGE_SIZE)
    assert set(memory.pages) == {1}  # files.md C3, G4: a fault allocates, even of a read
    mapped.system.check()


@pytest.mark.parametrize("flags", [SHARED, PRIVATE])
def test_populate_read_and_write(flags: int) -> None:
    """files.md G3: beyond the end EFAULT, what may not be accessed EINVAL; WRITE copies all that is private."""
    mapped = cached(pages=6)
    at = mapped.map(0, 8, 0, flags)
    refused(mapped, "EFAULT", "madvise", at, 8 * PAGE_SIZE, MADV_POPULATE_READ)
    assert mapped.present(at, 8) == "11111100"
    assert copied(mapped, at, 6) == "000000"
    refused(mapped, "EFAULT", "madvise", at + 4 * PAGE_SIZE, 4 * PAGE_SIZE, MADV_POPULATE_WRITE)
    assert copied(mapped, at, 6) == ("000000" if flags == SHARED else "000011")
    mapped.task.mprotect(at, 8 * PAGE_SIZE, PROT_READ)
    refused(mapped, "EINVAL", "madvise", at, PAGE_SIZE, MADV_POPULATE_WRITE)
    mapped.task.mprotect(at, 8 * PAGE_SIZE, PROT_NONE)
    refused(mapped, "EINVAL", "madvise", at, PAGE_SIZE, MADV_POPULATE_READ)


@pytest.mark.parametrize("flags", [SHARED, PRIVATE])
def test_guard_regions_of_files(flags: int) -> None:
    """files.md G3: a touch is SIGSEGV, also when the file has been cut before them, and in a child; what is removed is faulted again."""
    mapped = cached(pages=8)
    at = mapped.map(0, 8, 0, flags)
    mapped.task.touch(at, 8 * PAGE_SIZE)
    mapped.task.madvise(at + 2 * PAGE_SIZE, 4 * PAGE_SIZE, MADV_GUARD_INSTALL)
    assert mapped.present(at, 8) == "11000011"
    child = mapped.task.fork()
    mapped.task.ftruncate(mapped.open, 4 * PAGE_SIZE)
    mapped.system.check()
    for page, kind in ((3, SegmentationFault), (5, SegmentationFault), (6, BusError)):
        for task in (mapped.task, child):
            with pytest.raises(SegmentationFault) as fault:
                task.read(at + page * PAGE_SIZE)
            assert type(fault.value) is kind
    mapped.task.madvise(at, 8 * PAGE_SIZE, MADV_GUARD_REMOVE)
    assert mapped.task.read(at + 3 * PAGE_SIZE, 7) == b"page 03"
    with pytest.raises(BusError):
        mapped.task.read(at + 5 * PAGE_SIZE)
    mapped.system.check()


def test_what_is_locked_keeps_its_pages() -> None:
    """files.md G3: EINVAL, but for DONTNEED_LOCKED."""
    mapped = cached()
    mapped.task.cap_ipc_lock(granted=True)
    at = mapped.map(0, 4, 0, SHARED | MAP_LOCKED)
    for advice in (MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_REMOVE, MADV_GUARD_INSTALL):
        refused(mapped, "EINVAL", "madvise", at, PAGE_SIZE, advice)
    assert mapped.present(at, 4) == "1111"
    mapped.task.madvise(at, PAGE_SIZE, MADV_DONTNEED_LOCKED)
    assert mapped.present(at, 4) == "0111"
    mapped.system.check()


@pytest.mark.parametrize(
    ("flags", "prot", "present", "copies"),
    [
        (SHARED | MAP_POPULATE, RW_PROT, "11110000", "00000000"),
        (SHARED | MAP_POPULATE, PROT_READ, "11110000", "00000000"),
        (PRIVATE | MAP_POPULATE, PROT_READ, "11110000", "00000000"),
        (PRIVATE | MAP_POPULATE, RW_PROT, "11110000", "11110000"),
        (PRIVATE | MAP_POPULATE, PROT_NONE, "00000000", "00000000"),
        (PRIVATE | MAP_POPULATE | MAP_NONBLOCK, RW_PROT, "00000000", "00000000"),
        (PRIVATE | MAP_LOCKED, RW_PROT, "11110000", "11110000"),
    ],
)
def test_map_populate(flags: int, prot: int, present: str, copies: str) -> None:
    """files.md G3, G7: success, with what there is; nothing is dirtied."""
    mapped = cached(pages=4)
    mapped.task.cap_ipc_lock(granted=True)
    at = mapped.map(0, 8, 0, flags, prot)
    assert (mapped.present(at, 8), copied(mapped, at, 8)) == (present, copies)
    assert not any(map(mapped.is_dirty, range(4)))
    mapped.system.check()


# -- G4, G5: faults and fork -------------------------------------------------------------------------------------------


def test_a_write_beyond_the_end_has_prepared_for_a_copy() -> None:
    """do_cow_fault takes its page first. Seen when it forks: a VMA that has an anon_vma is copied, entry by entry."""
    mapped = cached(pages=4)
    at = mapped.map(0, 6, 0, PRIVATE)
    mapped.task.touch(at, 4 * PAGE_SIZE)
    assert mapped.present(at, 4, mapped.task.fork()) == "0000"
    free = mapped.system.machine.allocator.nr_unused
    with pytest.raises(BusError):
        mapped.task.write(at + 5 * PAGE_SIZE, b"x")
    mapped.system.check()
    assert free - mapped.system.machine.allocator.nr_unused <= 2  # slabs of anon_vma, and no page
    assert mapped.present(at, 4, mapped.task.fork()) == "1111"
    mapped.system.check()


def test_a_piece_without_copies_is_not_copied_by_fork() -> None:
    """files.md G5: decided VMA by VMA. The child's page table comes when it touches."""
    mapped = cached()
    at = mapped.map(0, 4, 0, PRIVATE)
    mapped.task.touch(at, 4 * PAGE_SIZE)
    mapped.task.munmap(at + 2 * PAGE_SIZE, PAGE_SIZE)
    mapped.task.write(at, b"x")
    child = mapped.task.fork()
    assert mapped.present(at, 4, child) == "1100"
    other = cached()
    at = other.map(0, 4, 0)
    other.task.touch(at, 4 * PAGE_SIZE)
    child = other.task.fork()
    assert child.mm is not None
    before = child.mm.nr_tables
    assert child.read(at, 7) == b"page 00"
    assert child.mm.nr_tables - before == 3
    other.system.check()


@pytest.mark.parametrize("on_disk", [True, False])
def test_faults_of_shared_pages(on_disk: bool) -> None:
    """files.md G4: read, then written: one more fault on a disk, none in memory; after MS_SYNC again, after MS_ASYNC not."""
    mapped = cached(on_disk=on_disk)
    at = mapped.map(0, 4, 0)
    mapped.task.read(at)
    counts = mapped.system.machine.ledger.counts
    for sync, faults in ((None, 1), (None, 0), (MS_SYNC, 1), (MS_ASYNC, 0)):
        if sync is not None:
            mapped.task.msync(at, PAGE_SIZE, sync)
        before = counts["page_mkwrite"] + counts["file_fault"]
        mapped.task.write(at, b"x")
        assert counts["page_mkwrite"] + counts["file_fault"] - before == (faults if on_disk else 0)
    mapped.system.check()


# -- G7: mlock, msync, mincore; G8: overcommit ---------------------------------------------------------------------------


def test_mlock() -> None:
    """files.md G7: beyond the end ENOMEM, and locked; ONFAULT brings nothing; the errnos of limits."""
    mapped = cached(pages=20)
    mapped.task.cap_ipc_lock(granted=True)
    assert mapped.task.mm is not None
    at = mapped.map(0, 4, 18)
    refused(mapped, "ENOMEM", "mlock", at, 4 * PAGE_SIZE)
    assert (mapped.task.mm.locked_vm, mapped.present(at, 4)) == (4, "1100")
    mapped.task.munlock(at, 4 * PAGE_SIZE)
    at = mapped.map(32, 20, 0)
    mapped.task.mlock2(at, 20 * PAGE_SIZE, MLOCK_ONFAULT)
    assert mapped.present(at, 20) == "0" * 20
    mapped.task.read(at + 3 * PAGE_SIZE)
    assert mapped.present(at, 20) == "1" * 16 + "0" * 4
    mapped.task.munmap(at, 20 * PAGE_SIZE)
    mapped.task.cap_ipc_lock(granted=False)
    for limit, lock, mmap in (("4K", "ENOMEM", "EAGAIN"), ("0", "EPERM", "EPERM")):
        mapped.task.limit_memlock(limit)
        at = mapped.map(0, 4, 0)
        refused(mapped, lock, "mlock", at, 4 * PAGE_SIZE)
        with pytest.raises(SyscallError) as error:
            mapped.map(8, 4, 0, SHARED | MAP_LOCKED)
        assert error.value.name == mmap


def test_msync() -> None:
    """files.md G7."""
    mapped = cached()
    mapped.task.cap_ipc_lock(granted=True)
    at = mapped.map(0, 4, 0)
    for length, flags, name in (
        (PAGE_SIZE, MS_SYNC | MS_ASYNC, "EINVAL"),
        (PAGE_SIZE, 8, "EINVAL"),
        (8 * PAGE_SIZE, MS_SYNC, "ENOMEM"),
        ((1 << 64) - PAGE_SIZE, MS_SYNC, "ENOMEM"),
    ):
        refused(mapped, name, "msync", at, length, flags)
    refused(mapped, "EINVAL", "msync", at + 1, PAGE_SIZE, MS_SYNC)
    mapped.task.msync(at, PAGE_SIZE, 0)
    mapped.task.msync(at + 100 * PAGE_SIZE, 0, MS_SYNC)
    mapped.task.mlock(at, PAGE_SIZE)
    refused(mapped, "EBUSY", "msync", at, PAGE_SIZE, MS_INVALIDATE)


def test_overcommit() -> None:
    """files.md G8: private and writable counts; NORESERVE, what may not be written and what is shared does not."""
    mapped = cached()
    huge = 1 << 16  # pages: four times the RAM
    for flags, prot, refuses in (
        (PRIVATE, RW_PROT, True),
        (PRIVATE | MAP_NORESERVE, RW_PROT, False),
        (PRIVATE, PROT_READ, False),
        (SHARED, RW_PROT, False),
    ):
        if refuses:
            with pytest.raises(SyscallError, match="overcommit"):
                mapped.map(0, huge, 0, flags, prot)
        else:
            at = mapped.map(0, huge, 0, flags, prot)
            mapped.task.munmap(at, huge * PAGE_SIZE)
    for flags, refuses in ((PRIVATE, True), (PRIVATE | MAP_NORESERVE, False)):
        at = mapped.map(0, huge, 0, flags, PROT_READ)
        if refuses:
            refused(mapped, "ENOMEM", "mprotect", at, huge * PAGE_SIZE, RW_PROT)
        else:
            mapped.task.mprotect(at, huge * PAGE_SIZE, RW_PROT)
    mapped.system.check()


def test_what_a_shared_write_leaves_dirty() -> None:
    """files.md G4: a page that is in memory alone is writable at once; nothing is dirty that was only read."""
    mapped = cached(on_disk=False)
    at = mapped.map(0, 4, 0)
    mapped.task.read(at)
    assert not mapped.entry(at) & DIRTY
    mapped.task.write(at, b"x")
    assert mapped.entry(at) & DIRTY
