"""Shared memory that lies in swap: every way back, every way to an end, swapoff, and whatever fails on the way.

reclaim.md J.2, J.3.

object: [p0 p1 ... p19]   a file on tmpfs, mapped at `at`; all of it is in swap, but for what a test has touched
"""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest

import rmaplab
from rmaplab.cache.area_store import AreaStore
from rmaplab.errors import BusError, DiskError, NoMemory, NoSpace, OomKilled, SyscallError
from rmaplab.machine.arrays import U8
from rmaplab.machine.frames import PG_REFERENCED
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import (
    IPC_PRIVATE,
    IPC_RMID,
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.reclaim.shrink import Scan, Shrinker
from rmaplab.reclaim.swap_out import SwapOut
from rmaplab.reclaim.virtual import Attempt, VirtualReclaim
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7")
OF_2_6 = KERNELS[1:]
THREE = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7")
RW = PROT_READ | PROT_WRITE
NR = 20
TEXT = b"".join((b"page %02d" % page) * 585 + b"#" for page in range(NR))
P = PAGE_SIZE


class Swapped:
    """A file on tmpfs of NR pages, which a task has open and maps; its bytes are in swap."""

    def __init__(self, kernel: str, *, swap: str | list[str] = "1M", flags: int = MAP_SHARED) -> None:
        self.system = rmaplab.boot(kernel, ram="16M", swap=swap, boot_use=0, overcommit=1, paging="i386", cpus=1)
        self.k: Kernel = self.system.kernel
        self.task = self.system.spawn(root=True)
        self.file = self.system.new_file(TEXT, on_disk=False)
        self.fd = self.task.open(self.file, writable=True)
        self.at = self.task.mmap(NR * P, RW, flags, file=self.fd)
        self.task.pread(self.fd, NR * P, 0)
        self.out(self.file)

    def out(self, file: AddressSpace) -> None:
        """All of it goes."""
        if self.k.rules.new_pages_are_active:
            self._shrink(file)
        else:
            self._swap_out(file)
        assert not file.pages
        assert not self.k.swap.cached
        self.system.check()

    def _swap_out(self, file: AddressSpace) -> None:
        """As 2.4 does: address space by address space, twice, as entries are young; then by the list."""
        lists, frames = self.k.machine.allocator.lru, self.k.machine.frames
        swap_out, last = SwapOut(self.k), lists.ends.size - 1
        reclaim = VirtualReclaim(self.k, self.system.spec.reclaim_rules(4), lambda _: None)
        for _ in range(2):
            pages = np.array([pfn for _, pfn in file.pages.items()], np.int64)
            lists.remove(pages)
            lists.add(pages, active=False)
            frames.flags[pages] &= ~np.uint32(PG_REFERENCED)
            swap_out.swap_out(last)
        for _ in range(3):
            reclaim.shrink_cache(Attempt(last), max_scan=int(lists.nr[:, 0].sum()))
            self.k.machine.disk.settle()

    def _shrink(self, file: AddressSpace) -> None:
        lists, frames = self.k.machine.allocator.lru, self.k.machine.frames
        shrinker = Shrinker(self.k, self.system.spec.reclaim_rules(4))
        self.k.lru_add.drain_all()
        pages = np.array([pfn for _, pfn in file.pages.items()])
        lists.remove(pages)
        lists.add(pages, active=False)
        referenced(self.k.rmap, pages)
        frames.flags[pages] &= ~np.uint32(PG_REFERENCED)
        for _ in range(3):
            for zone, (inactive, _) in enumerate(lists.nr.tolist()):
                shrinker.shrink_cache(zone, inactive, 32, Scan())
            self.k.machine.disk.settle()

    def fails(self, call: Callable[[], object]) -> str:
        """How it ends; all is counted afterwards, and nothing locked."""
        try:
            call()
            how = "ok"
        except BusError:
            how = "SIGBUS"
        except SyscallError as failure:
            how = failure.name
        except (NoMemory, OomKilled):
            how = "no memory"
        self.system.check()
        assert not self.system.machine.locks.held()
        return how


def test_all_bytes_are_different() -> None:
    assert len(TEXT) == NR * P
    assert len({TEXT[i * P : i * P + P] for i in range(NR)}) == NR


# -- back ---------------------------------------------------------------------------------------------------------------------


def _truncated(stage: Swapped) -> None:
    stage.task.ftruncate(stage.fd, 3 * P + 9)
    stage.task.ftruncate(stage.fd, 4 * P)
    assert stage.task.pread(stage.fd, P, 3 * P) == TEXT[3 * P : 3 * P + 9] + bytes(P - 9)
    assert stage.k.swap.nr_used <= 3


def _written(stage: Swapped) -> None:
    stage.task.pwrite(stage.fd, b"new", 3 * P + 9)
    assert stage.task.read(stage.at + 3 * P, P) == TEXT[3 * P : 3 * P + 9] + b"new" + TEXT[3 * P + 12 : 4 * P]


def _written_whole(stage: Swapped) -> None:
    stage.task.pwrite(stage.fd, b"n" * 2 * P, 3 * P)
    assert stage.task.read(stage.at + 3 * P, 3 * P) == b"n" * 2 * P + TEXT[5 * P : 6 * P]


def _forked(stage: Swapped) -> None:
    child = stage.task.fork()
    assert child.read(stage.at, NR * P) == TEXT
    child.write(stage.at + 5, b"!")
    assert stage.task.read(stage.at + 4, 2) == TEXT[4:5] + b"!"


def _moved(stage: Swapped) -> None:
    there = stage.task.mremap(stage.at, NR * P, 2 * NR * P, MREMAP_MAYMOVE)
    assert stage.task.read(there, NR * P) == TEXT


def _remapped(stage: Swapped) -> None:
    stage.task.remap_file_pages(stage.at, 4 * P, 0, 9)
    assert stage.task.read(stage.at, 5 * P) == TEXT[9 * P : 13 * P] + TEXT[4 * P : 5 * P]


def _copied(stage: Swapped) -> None:
    at = stage.task.mmap(NR * P, RW, MAP_PRIVATE, file=stage.fd)
    stage.task.write(at + 2 * P, b"mine")
    assert stage.task.read(at, NR * P) == TEXT[: 2 * P] + b"mine" + TEXT[2 * P + 4 :]
    assert stage.task.read(stage.at, NR * P) == TEXT


def _grown(stage: Swapped) -> None:
    stage.task.pwrite(stage.fd, b"end", (NR + 30) * P)
    stage.system.check()
    assert stage.task.pread(stage.fd, (NR + 30) * P + 3, 0) == TEXT + bytes(30 * P) + b"end"


def _advised(stage: Swapped) -> None:
    assert stage.task.mincore(stage.at, NR * P) == [False] * NR
    stage.task.read(stage.at + 3 * P)
    stage.task.madvise(stage.at, NR * P, MADV_DONTNEED)
    assert stage.task.mincore(stage.at, NR * P) == [page == 3 for page in range(NR)]
    assert stage.task.read(stage.at, NR * P) == TEXT


WAYS = (_truncated, _written, _written_whole, _forked, _moved, _remapped, _copied, _grown, _advised)


@pytest.mark.parametrize(
    ("kernel", "way"), [(kernel, way) for kernel in KERNELS for way in WAYS if kernel in OF_2_6 or way is not _remapped]
)
def test_every_way_back(kernel: str, way: Callable[[Swapped], None]) -> None:
    stage = Swapped(kernel)
    way(stage)
    stage.system.check()
    back = stage.task.pread(stage.fd, 3 * P, 0)
    assert back[8:] == TEXT[8 : 3 * P]
    stage.task.munmap(stage.at, NR * P)
    stage.system.check()


@pytest.mark.parametrize("kernel", THREE)
def test_it_goes_and_comes_again_and_again(kernel: str) -> None:
    """What was written meanwhile goes with it, whoever has written it how."""
    stage, text = Swapped(kernel), bytearray(TEXT)
    for turn in range(4):
        stage.task.write(stage.at + turn * P + 7, b"store")
        stage.task.pwrite(stage.fd, b"write", turn * P + 77)
        text[turn * P + 7 : turn * P + 12], text[turn * P + 77 : turn * P + 82] = b"store", b"write"
        stage.task.touch(stage.at, NR * P)
        stage.out(stage.file)
        assert len(stage.file.slots) == NR
    assert stage.task.read(stage.at, NR * P) == bytes(text)
    assert stage.k.swap.nr_used == 0


@pytest.mark.parametrize("kernel", OF_2_6)
def test_pages_at_places_of_their_own(kernel: str) -> None:
    """File entries are left, and a touch brings them from swap: chains find them, 00100's because they are converted; 2.6.7 by clusters. In aa1 they cannot be found, and stay."""
    stage = Swapped(kernel)
    stage.task.remap_file_pages(stage.at, 4 * P, 0, 9)
    stage.task.write(stage.at + P + 1, b"there")
    lists = stage.k.machine.allocator.lru
    for _ in range(4):
        stage.k.lru_add.drain_all()
        pages = np.array([pfn for _, pfn in stage.file.pages.items()], np.int64)
        lists.remove(pages)
        lists.add(pages, active=False)
        referenced(stage.k.rmap, pages)
        stage.k.machine.frames.flags[pages] &= ~np.uint32(PG_REFERENCED)
        Shrinker(stage.k, stage.system.spec.reclaim_rules(4)).shrink_cache(0, 32, 32, Scan())
        stage.k.machine.disk.settle()
        stage.system.check()
    away = set(range(NR)) - ({9, 10, 11, 12} if kernel == "2.6.5-rc1-aa1" else set())
    assert set(stage.file.slots) == away
    text = TEXT[: 10 * P + 1] + b"there" + TEXT[10 * P + 6 :]
    assert stage.task.read(stage.at, 4 * P) == text[9 * P : 13 * P]
    assert stage.task.read(stage.at + 4 * P, 16 * P) == text[4 * P :]
    stage.system.check()
    assert stage.task.pread(stage.fd, NR * P, 0) == text


# -- the end ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_what_ends_gives_back_its_slots_and_promises(kernel: str, cached: bool) -> None:
    """Anonymous memory that is unmapped, IPC_RMID and the last detach, ftruncate: and of what swap has been asked for meanwhile, too."""
    stage = Swapped(kernel)
    task, before = stage.task, stage.k.committed_pages
    anonymous = task.mmap(NR * P, RW, MAP_SHARED | MAP_ANONYMOUS)
    shmid = task.shmget(IPC_PRIVATE, NR * P, 0o600)
    segment = task.shmat(shmid)
    for at in (anonymous, segment):
        task.copy_to_user(at, TEXT)
    assert task.mm is not None
    files = [vma.file.mapping for vma in task.mm.vmas if vma.file is not None and vma.file.mapping is not stage.file]
    for file in files:
        stage.out(file)
    assert stage.k.swap.nr_used == 3 * NR
    if cached:
        task.read(anonymous + 9 * P)
        task.read(segment + 9 * P)
        assert stage.k.swap.cached
    task.munmap(anonymous, NR * P)
    task.shmctl(shmid, IPC_RMID)
    stage.system.check()
    task.shmdt(segment)
    stage.system.check()
    assert stage.k.committed_pages == before
    assert int((stage.k.swap.users > 0).sum()) - 1 - len(stage.k.swap.cached) <= NR
    task.ftruncate(stage.fd, 0)
    stage.system.check()
    stage.k.lru_add.drain_all()
    task.exit()
    stage.system.check()
    assert stage.k.committed_pages == 0
    assert stage.file.shmem is not None
    assert stage.file.shmem.swapped == stage.file.nr_blocks == 0


@pytest.mark.parametrize("kernel", THREE)
def test_a_page_that_is_being_written_when_it_ends_is_nobodys_until_reclaim_comes(kernel: str) -> None:
    """free_swap_and_cache finds it under writeback: it stays in the swap cache, its slot used once."""
    stage = Swapped(kernel)
    stage.task.read(stage.at + 3 * P)
    stage.k.lru_add.drain_all()
    page = np.array([stage.file.pages[3]])
    stage.task.munmap(stage.at, NR * P)
    stage.k.machine.allocator.lru.remove(page)
    stage.k.machine.frames.count[page] += 1
    shrinker = Shrinker(stage.k, stage.system.spec.reclaim_rules(4))
    stage.k.machine.frames.flags[page] &= ~np.uint32(PG_REFERENCED)
    for _ in range(2):
        shrinker._shrink(page, Scan())
    slot = stage.file.slots[3]
    stage.task.ftruncate(stage.fd, 3 * P)
    assert stage.k.swap.users[slot] == 1
    assert stage.k.swap.cached[slot] == page[0]
    stage.k.machine.disk.settle()
    shrinker._put_back(page, np.array([False]))
    shrinker.shrink_cache(0, 32, 32, Scan())
    assert not stage.k.swap.users[slot]
    stage.system.check()


# -- swapoff ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_swapoff_finds_what_lies_in_vectors(kernel: str, private: bool) -> None:
    """No page table names it: shmem_unuse goes through the objects. Every page is dirty then, and on no slot."""
    stage = Swapped(kernel)
    if private:  # some of it is read ahead, and some is back
        stage.task.read(stage.at + 5 * P)
    stage.system.swapoff(0)
    stage.system.check()
    assert len(stage.file.pages) == NR
    assert stage.file.slots == {}
    assert stage.k.swap.nr_used == 0
    assert stage.task.read(stage.at, NR * P) == TEXT
    stage.system.swapon("1M")
    stage.out(stage.file)
    assert stage.task.read(stage.at, NR * P) == TEXT


@pytest.mark.parametrize("kernel", THREE)
def test_swapoff_of_one_of_two_areas(kernel: str) -> None:
    """They take turns: the other one's half stays."""
    stage = Swapped(kernel, swap=["1M@3", "1M@3"])
    stage.system.swapoff(1)
    stage.system.check()
    assert (len(stage.file.pages), len(stage.file.slots)) == (NR // 2, NR // 2)
    assert stage.task.read(stage.at, NR * P) == TEXT


# -- what fails -----------------------------------------------------------------------------------------------------------------


class BadStore(AreaStore):
    """Stands before a store. Reads, or writes, fail from the `nth` on, `nr` of them."""

    def __init__(self, store: AreaStore, nth: int, nr: int, *, reading: bool) -> None:
        self.store, self.bad, self.reading, self.seen = store, range(nth, nth + nr), reading, 0

    def read(self, slot: int) -> U8:
        self.seen += self.reading
        if self.reading and self.seen - 1 in self.bad:
            raise DiskError("EIO")
        return self.store.read(slot)

    def write(self, slot: int, page: U8) -> None:
        self.seen += not self.reading
        if not self.reading and self.seen - 1 in self.bad:
            raise NoSpace("ENOSPC")
        self.store.write(slot, page)


@pytest.mark.parametrize(
    ("call", "how"),
    [
        (lambda s: s.task.read(s.at + 3 * P), "SIGBUS"),
        (lambda s: s.task.write(s.at + 3 * P, b"x"), "SIGBUS"),
        (lambda s: s.task.pread(s.fd, 9, 3 * P), "EIO"),
        (lambda s: s.task.pwrite(s.fd, b"x", 3 * P), "EIO"),
        (lambda s: s.task.pwrite(s.fd, b"x" * P, 3 * P), "EIO"),
        (
            lambda s: s.task.remap_file_pages(s.at, P, 0, 3) if s.k.rules.remap_pages else s.task.pread(s.fd, 1, 3 * P),
            "EIO",
        ),
        (lambda s: s.task.ftruncate(s.fd, 3 * P + 9), "ok"),
    ],
)
@pytest.mark.parametrize("kernel", THREE)
def test_a_page_that_cannot_be_read_is_asked_for(kernel: str, call: Callable[[Swapped], object], how: str) -> None:
    """Nothing is mapped, nothing is lost. The page that could not be read stays in the swap cache, and whoever comes finds the same; when reclaim has dropped it its slot is read again.

    ftruncate does not mind: what it should have cut off is there when the file grows again.
    """
    stage = Swapped(kernel)
    stage.k.swap.stores[0] = BadStore(stage.k.swap.stores[0], 0, 8, reading=True)
    assert stage.fails(lambda: call(stage)) == how
    if how != "ok":
        assert stage.fails(lambda: call(stage)) == how
    pages = np.array([*stage.k.swap.cached.values()])
    stage.k.lru_add.drain_all()
    stage.k.swap.delete_many(pages)
    stage.k.machine.allocator.free(pages)
    if how == "ok":
        stage.task.ftruncate(stage.fd, 4 * P)
    assert stage.task.pread(stage.fd, P, 3 * P) == TEXT[3 * P : 4 * P]
    assert stage.k.swap.lost == []
    stage.system.check()


@pytest.mark.parametrize("kernel", THREE)
def test_swapoff_does_not_ask_and_its_page_is_zeros(kernel: str) -> None:
    """The page is the object's, and not uptodate: shmem_getpage clears it. In 2.4 it is taken for uptodate, and shows what its frame had. That is told of."""
    stage = Swapped(kernel)
    stage.k.swap.stores[0] = BadStore(stage.k.swap.stores[0], 0, 1, reading=True)
    first = min(stage.file.slots, key=lambda index: stage.file.slots[index])
    stage.system.swapoff(0)
    stage.system.check()
    assert len(stage.k.swap.lost) == 1
    lost = stage.task.pread(stage.fd, P, first * P)
    assert lost == bytes(P) if kernel != "2.4.21" else lost != TEXT[first * P : first * P + P]
    assert stage.task.read(stage.at, NR * P) == TEXT[: first * P] + lost + TEXT[first * P + P :]
    stage.system.check()


@pytest.mark.parametrize("kernel", THREE)
def test_what_was_not_written_is_lost_and_told_of(kernel: str) -> None:
    """A failed write is a clean page, up to 2.6.7: whoever brings it back sees what the slot had."""
    stage = Swapped(kernel)
    stage.task.touch(stage.at, NR * P)
    stage.k.swap.stores[0] = BadStore(stage.k.swap.stores[0], 4, 1, reading=False)
    stage.out(stage.file)
    assert stage.task.read(stage.at, NR * P) != TEXT
    assert [seen for loss in stage.k.swap.lost for seen in loss.seen] == [(stage.task.pid, 4 * P)]
    stage.system.check()


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("kernel", THREE)
def test_every_allocation_on_the_way_back_fails_in_turn(kernel: str, read: bool) -> None:
    """A page table, the page, its neighbours, a node of the index: nothing is lost, and it can be tried again."""
    for nth in range(60):
        stage = Swapped(kernel)
        allocator = stage.k.machine.allocator
        allocator.fail_after = nth
        how = stage.fails(lambda s=stage: s.task.pread(s.fd, 9, 3 * P) if read else s.task.touch(s.at + 3 * P, 1))  # type: ignore[misc]
        left, allocator.fail_after = allocator.fail_after, None
        other = stage.system.spawn()  # a fault without memory is the end of its task
        assert other.pread(other.open(stage.file), NR * P, 0) == TEXT
        stage.system.check()
        if left is not None:
            break
        assert how in ("ok", "no memory", "ENOMEM")
    else:
        raise AssertionError("it does not end")
    assert nth > 3


@pytest.mark.parametrize("kernel", THREE)
def test_every_allocation_of_swapoff_fails_in_turn(kernel: str) -> None:
    """Then the area is back, without what has come back already."""
    for nth in range(0, 200, 3):
        stage = Swapped(kernel)
        allocator = stage.k.machine.allocator
        allocator.fail_after = nth
        with suppress(SyscallError, NoMemory):
            stage.system.swapoff(0)
        left, allocator.fail_after = allocator.fail_after, None
        stage.system.check()
        assert stage.task.pread(stage.fd, NR * P, 0) == TEXT
        if left is not None:
            break
    else:
        raise AssertionError("it does not end")
    assert nth > 10
