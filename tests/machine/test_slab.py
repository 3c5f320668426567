"""The slab allocator: packing as Linux of 2004 packs, and objects that have their bytes to themselves.

slab   | struct slab + bufctl | object 0 | object 1 | ... | gap |
model  {address: the bytes its owner wrote there}
"""

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.errors import KernelBug, NoMemory
from rmaplab.machine.allocator import Gfp, Layout, PageAllocator
from rmaplab.machine.frames import PG_SLAB, Frames
from rmaplab.machine.ram import Ram
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.slab import Packing, SlabCache, SlabPages, pack, pack_slub
from rmaplab.machine.watermarks import WatermarkRule, min_free_pages
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

LINES = (32, 64, 128)
LINE, WORD = 128, 4
RULES = SchedRules(100, 200, 1, 200, one_queue=False, child_first=True)


class Box:
    """A small machine with an allocator and nothing else."""

    def __init__(self, ram_mib: int = 16) -> None:
        nr_frames = ram_mib << (20 - PAGE_SHIFT)
        layout = Layout(1 << 40, 16, 0, WatermarkRule.SUMMED, per_cpu_lists=False)
        self.allocator = PageAllocator(Ram(nr_frames), Frames(nr_frames), layout, Scheduler(RULES, 1))
        self.pages_min = min_free_pages(nr_frames)
        self.pages = SlabPages(nr_frames)
        self.bytes = self.allocator.ram.bytes.reshape(-1)

    def cache(self, object_bytes: int, *, cpus: int = 1, hwcache_align: bool = False) -> SlabCache:
        return SlabCache(
            f"size-{object_bytes}",
            object_bytes,
            self.pages,
            self.allocator,
            line_bytes=LINE,
            word_bytes=WORD,
            cpus=cpus,
            hwcache_align=hwcache_align,
        )

    def write(self, address: int, data: bytes) -> None:
        """What the owner of an object does: store, and mark the frames as written."""
        self.bytes[address : address + len(data)] = np.frombuffer(data, np.uint8)
        self.allocator.frames.scribbled[address >> PAGE_SHIFT : ((address + len(data) - 1) >> PAGE_SHIFT) + 1] = 1

    def read(self, address: int, nr_bytes: int) -> bytes:
        return self.bytes[address : address + nr_bytes].tobytes()


# -- packing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("object_bytes", "per_page", "hwcache_align"),
    [
        # eras.md 4.4; 250 anon_vmas and 50 VMAs of 76 bytes a page are in slabinfo as posted to LKML in 2004 (history.md 1.5.1)
        pytest.param((32, 64, 128), (113, 59, 30), False, id="pte_chain"),
        pytest.param((12, 12, 12), (253, 250, 250), False, id="anon_vma"),
        pytest.param((24, 24, 24), (145, 144, 144), False, id="anonmm"),
        pytest.param((64, 64, 64), (59, 59, 58), False, id="vma-2.6.2"),
        pytest.param((68, 68, 68), (56, 56, 56), False, id="vma-2.4"),
        pytest.param((76, 76, 76), (50, 50, 50), False, id="vma-aa1"),
        pytest.param((84, 84, 84), (46, 45, 45), False, id="vma-2.6.7"),
        pytest.param((88, 88, 88), (44, 43, 43), False, id="vma-2.6.7-NUMA"),
        pytest.param((528, 528, 528), (7, 7, 6), True, id="mm_struct-2.6.2"),
        pytest.param((4096, 4096, 4096), (1, 1, 1), False, id="pmd"),
        pytest.param((32, 32, 32), (113, 112, 112), True, id="pgd-pae"),
    ],
)
def test_a_page_holds_as_many_objects_as_it_did(
    object_bytes: tuple[int, int, int], per_page: tuple[int, int, int], hwcache_align: bool
) -> None:
    """Objects a page on i386 with cache lines of 32, 64 and 128 bytes, against the published and derived figures."""
    packings = [
        pack(size, line, WORD, hwcache_align=hwcache_align) for size, line in zip(object_bytes, LINES, strict=True)
    ]
    assert [p.order for p in packings] == [0, 0, 0]
    assert tuple(p.per_slab for p in packings) == per_page


def test_mm_structs_are_aligned_to_lines_and_keep_their_header_elsewhere() -> None:
    """528 bytes become 544, 576, 640 (eras.md 4.4); objects of 512 bytes and more begin at the slab's first byte."""
    packings = [pack(528, line, WORD, hwcache_align=True) for line in LINES]
    assert [p.stride for p in packings] == [544, 576, 640]
    assert [p.offset for p in packings] == [0, 0, 0]


def pack_by_counting(object_bytes: int, line: int, hwcache_align: bool) -> Packing:
    """eras.md 4.4 in words: header 24 B + 4 B an object up to a line, 512 B and more off-slab, order until waste <= 1/8 or 2."""
    unit = WORD
    if hwcache_align:
        unit = next(line >> k for k in reversed(range(8)) if object_bytes <= line >> k or k == 0)
    stride = -(-object_bytes // unit) * unit
    for order in (0, 1, 2):
        size, per_slab = PAGE_SIZE << order, 0

        def header(nr: int) -> int:
            return 0 if object_bytes >= 512 else -(-(24 + 4 * nr) // line) * line

        while header(per_slab + 1) + (per_slab + 1) * stride <= size:
            per_slab += 1
        waste = size - header(per_slab) - per_slab * stride
        if per_slab and (waste <= size / 8 or order == 2):
            return Packing(order, per_slab, stride, header(per_slab))
    raise AssertionError("an object larger than a slab")


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 1024).map(lambda words: 4 * words), st.sampled_from(LINES), st.booleans())
def test_packing_is_what_counting_says(object_bytes: int, line: int, hwcache_align: bool) -> None:
    """For every size: as many objects as fit behind their header, in the smallest slab that wastes an eighth at most."""
    assert pack(object_bytes, line, WORD, hwcache_align=hwcache_align) == pack_by_counting(
        object_bytes, line, hwcache_align
    )


# -- objects -----------------------------------------------------------------------------------------------------------

SIZES = (12, 76, 528)
Step = tuple[Literal["alloc", "free", "free_bulk", "shrink"], int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(("alloc", "alloc", "free", "free_bulk", "shrink")), st.integers(0, 2), st.integers(1, 400)
    ),
    max_size=25,
)


class Owners:
    """All live objects of a cache, each with the stamp that its owner wrote over the whole of it."""

    def __init__(self, box: Box, object_bytes: int) -> None:
        self.box, self.cache, self.size = box, box.cache(object_bytes), object_bytes
        self.stamps: dict[int, bytes] = {}
        self.made = 0

    def alloc(self, nr: int) -> None:
        for address in self.cache.alloc_bulk(nr).tolist():
            assert address not in self.stamps
            self._lies_in_a_slab(address)
            assert self.box.read(address, self.size) == bytes(self.size), "an object comes zeroed"
            self.made += 1
            self.stamps[address] = (self.made * 0x9E3779B1 % (1 << 32)).to_bytes(4, "little") * (self.size // 4)
            self.box.write(address, self.stamps[address])

    def free(self, nr: int, *, bulk: bool) -> None:
        chosen = np.random.default_rng(nr).permutation(np.array(sorted(self.stamps), np.int64))[:nr]
        for address in chosen.tolist():
            assert self.box.read(address, self.size) == self.stamps.pop(address), "nobody else writes to an object"
            if bulk:  # its contract: zero beyond the first word
                self.box.write(address + 4, bytes(self.size - 4))
            else:
                self.cache.free(address)
        if bulk:
            self.cache.free_bulk(chosen)

    def _lies_in_a_slab(self, address: int) -> None:
        order, per_slab, stride, offset = self.cache.packing
        slab = address >> PAGE_SHIFT >> order << order
        inside = address - (slab << PAGE_SHIFT)
        assert self.box.allocator.frames.flags[slab] & PG_SLAB
        assert offset <= inside <= (PAGE_SIZE << order) - self.size
        assert (inside - offset) % stride == 0
        assert (inside - offset) // stride < per_slab

    def agrees(self) -> None:
        cache = self.cache
        cache.check()
        assert cache.nr_objects == len(self.stamps)
        slabs = {address >> PAGE_SHIFT for address in self.stamps}  # all of order 0 here
        assert cache.nr_slabs >= len(slabs)
        assert cache.bytes == cache.nr_slabs * PAGE_SIZE
        assert cache.nr_objects_peak >= cache.nr_objects
        assert cache.bytes_peak >= cache.bytes
        addresses = sorted(self.stamps)
        assert all(b - a >= self.size for a, b in pairwise(addresses))


@settings(max_examples=40, deadline=None)
@given(steps)
def test_objects_keep_their_bytes_to_themselves(todo: list[Step]) -> None:
    """Three caches on one machine: objects come zeroed, never overlap, keep what is written; all memory comes back in the end."""
    box = Box()
    frames_at_first = box.allocator.nr_free
    owners = [Owners(box, size) for size in SIZES]
    for verb, which, nr in todo:
        owner = owners[which]
        match verb:
            case "alloc":
                owner.alloc(nr)
            case "free" | "free_bulk":
                owner.free(nr, bulk=verb == "free_bulk")
            case "shrink":
                owner.cache.shrink()
        for each in owners:
            each.agrees()
        assert frames_at_first - box.allocator.nr_free == sum(o.cache.nr_slabs for o in owners)
    for owner in owners:
        owner.free(len(owner.stamps), bulk=False)
        owner.cache.shrink()
        assert (owner.cache.nr_objects, owner.cache.nr_slabs, owner.cache.bytes) == (0, 0, 0)
    assert box.allocator.nr_free == frames_at_first
    box.allocator.check()


def test_an_old_slab_page_leaves_nothing_behind() -> None:
    """A frame that was a slab page, links between freed objects and all, is zero when it is handed out zeroed."""
    box = Box(4)
    cache = box.cache(12)
    cache.free_bulk(cache.alloc_bulk(5000))
    cache.shrink()
    everything = box.allocator.alloc(box.allocator.nr_free - box.pages_min, Gfp.KERNEL, zeroed=True)
    assert not box.allocator.ram.bytes[everything].any()


def test_partial_slabs_are_filled_before_empty_ones() -> None:
    """With a hole in one slab and another slab empty, the next object goes into the hole (free_block, cache_alloc_refill)."""
    box = Box()
    cache = box.cache(76)  # 50 a page
    objects = cache.alloc_bulk(100)
    first = objects[objects >> PAGE_SHIFT == objects[0] >> PAGE_SHIFT]
    second = np.setdiff1d(objects, first)
    assert (first.size, second.size) == (50, 50)
    cache.free_bulk(second)
    cache.free(int(first[7]))
    assert cache.alloc() == first[7]


@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize(("object_bytes", "batch"), [(12, 60), (76, 60), (528, 27)])
def test_empty_slabs_go_back_above_the_free_limit(cpus: int, object_bytes: int, batch: int) -> None:
    """A cache keeps (1 + CPUs) * batch + one slab of free objects and gives whole slabs back beyond that.

    batch is half the per-CPU limit of 120 (up to 256 bytes) or 54 (up to 1 KiB): eras.md 4.4.
    """
    box = Box()
    free_at_first = box.allocator.nr_free
    cache = box.cache(object_bytes, cpus=cpus)
    per_slab = cache.packing.per_slab
    limit = (1 + cpus) * batch + per_slab
    objects = cache.alloc_bulk(10 * limit)
    for part in np.array_split(objects, 53):
        cache.free_bulk(part)
        assert cache.nr_slabs * per_slab - cache.nr_objects <= limit
    free_objects = cache.nr_slabs * per_slab
    assert cache.nr_objects == 0
    assert limit - per_slab < free_objects
    assert box.allocator.nr_free == free_at_first - cache.nr_slabs
    cache.shrink()
    assert (cache.nr_slabs, box.allocator.nr_free) == (0, free_at_first)


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_a_wrong_address_is_no_object() -> None:
    """The header, the middle of an object, an object never handed out, the gap and a page of nobody are refused."""
    box = Box()
    cache = box.cache(76)
    address = cache.alloc()
    slab = address >> PAGE_SHIFT << PAGE_SHIFT
    for wrong in (slab, slab + 4, address + 4, address + 76, slab + PAGE_SIZE - 8, slab + (7 << PAGE_SHIFT)):
        with pytest.raises(KernelBug, match="kmem_cache_free"):
            cache.free_bulk(np.array([wrong], np.int64))
    cache.free(address)
    cache.check()


def test_the_null_pointer_is_no_object() -> None:
    """kmem_cache_free of address 0 is a bug that is noticed."""
    box = Box()
    cache = box.cache(76)
    cache.alloc()
    with pytest.raises(KernelBug, match="kmem_cache_free"):
        cache.free(0)


def test_the_last_object_of_a_slab_is_freed_once() -> None:
    """The second free of the only object of a slab is noticed."""
    box = Box()
    cache = box.cache(76)
    address = cache.alloc()
    cache.free(address)
    with pytest.raises(KernelBug, match="kmem_cache_free"):
        cache.free(address)


def test_an_object_is_freed_once() -> None:
    """The second free of an object is noticed while others live in its slab, too."""
    box = Box()
    cache = box.cache(76)
    address, _ = cache.alloc_bulk(2).tolist()
    cache.free(address)
    with pytest.raises(KernelBug, match="kmem_cache_free"):
        cache.free(address)


def test_an_object_goes_back_to_its_own_cache() -> None:
    """An object of one cache cannot be freed into another, even where both would have an object at that address."""
    box = Box()
    tasks, mms = box.cache(1024), box.cache(528)
    address = tasks.alloc()
    mms.alloc()
    with pytest.raises(KernelBug, match="kmem_cache_free"):
        mms.free(address)


def test_an_object_of_a_large_slab_comes_zeroed_again() -> None:
    """free() lets its caller leave anything in an object; the next owner gets zeros, whatever the order of the slab."""
    box = Box()
    cache = box.cache(1536)  # 2 a page would waste 1024 bytes: slabs of two pages
    assert cache.packing.order == 1
    address = cache.alloc()
    box.write(address, b"\xaa" * 1536)
    cache.free(address)
    assert cache.alloc() == address
    assert box.read(address, 1536) == bytes(1536)


# -- memory runs out ---------------------------------------------------------------------------------------------------


def test_a_request_is_met_as_a_whole_or_not_at_all() -> None:
    """When memory runs out nobody gets an object, those that live are untouched, and shrink() gives back what was tried."""
    box = Box(4)
    cache = box.cache(76)
    mine = cache.alloc_bulk(60).tolist()
    for address in mine:
        box.write(address, b"mine" * 19)
    for gfp, failure in ((Gfp.KERNEL, NoMemory), (Gfp.ATOMIC, NoMemory)):
        with pytest.raises(failure):
            cache.alloc_bulk(1_000_000, gfp)
        assert cache.nr_objects == 60
        cache.check()
        assert all(box.read(address, 76) == b"mine" * 19 for address in mine)
    cache.shrink()
    assert cache.nr_slabs == 2
    for address in mine:
        cache.free(address)
    cache.shrink()
    assert cache.nr_slabs == 0
    box.allocator.check()


def test_a_request_that_failed_does_not_hold_memory() -> None:
    """All of them or an exception and no change: a failed request leaves no more free objects than the cache's limit."""
    box = Box(4)
    cache = box.cache(76)
    with pytest.raises(NoMemory):
        cache.alloc_bulk(1_000_000)
    assert cache.nr_slabs * cache.packing.per_slab <= cache.free_limit


def test_atomic_requests_reach_further_down() -> None:
    """GFP_ATOMIC gets slabs below pages_min, where GFP_KERNEL needs reclaim."""
    box = Box(4)
    cache = box.cache(4096)
    box.allocator.alloc(box.allocator.nr_free - box.pages_min, Gfp.KERNEL)
    with pytest.raises(NoMemory):
        cache.alloc()
    cache.alloc(Gfp.ATOMIC)
    assert box.allocator.nr_free == box.pages_min - 1


def test_reclaim_is_asked_for_slabs() -> None:
    """A cache that needs a slab sleeps for it like everybody, and gets it when reclaim has freed a page."""
    box = Box(4)
    cache = box.cache(76)
    hoard = box.allocator.alloc(box.allocator.nr_free - box.pages_min, Gfp.KERNEL)
    box.allocator.reclaim = lambda _nr, _order: box.allocator.free(hoard[:1])
    address = cache.alloc()
    assert address >> PAGE_SHIFT == hoard[0]


@pytest.mark.parametrize("nth", range(6))
def test_injected_failures_count_objects_one_by_one(nth: int) -> None:
    """Objects and frames are one count: with an empty cache the requests are object 0, its slab's frame, object 1, 2 ..."""
    box = Box()
    cache = box.cache(76)
    box.allocator.fail_after = nth
    refused = []
    for i in range(8):
        try:
            cache.alloc()
        except NoMemory:
            refused.append(i)
    #   n        0         1                    2         3         4
    #   is       object 0  the frame for it     object 1  object 2  object 3
    assert refused == [max(0, nth - 1)]
    cache.check()


def test_an_injected_failure_inside_a_bulk_request_fails_it() -> None:
    """The n-th request is refused for good: a bulk request whose second slab may not be had fails as a whole."""
    box = Box()
    cache = box.cache(76)
    box.allocator.fail_after = 150 + 1  # 150 objects and one of their three frames
    with pytest.raises(NoMemory):
        cache.alloc_bulk(150)
    assert cache.nr_objects == 0


@pytest.mark.parametrize(
    ("name", "object_bytes", "per_slab", "pages"),
    [
        ("anon_vma_chain", 64, 64, 1),
        ("anon_vma", 104, 39, 1),
        ("vm_area_struct", 192, 21, 1),
        ("maple_node", 256, 16, 1),
        ("signal_cache", 1152, 14, 4),
        ("mm_struct", 1600, 20, 8),
        ("sighand_cache", 2112, 15, 8),
        ("task_struct", 5888, 5, 8),
    ],
)
def test_slub(name: str, object_bytes: int, per_slab: int, pages: int) -> None:
    """Objects and pages per slab as /proc/slabinfo of a 6.18 with two CPUs shows them."""
    packing = pack_slub(object_bytes, 64, 8, 2)
    assert (packing.per_slab, 1 << packing.order, packing.offset) == (per_slab, pages, 0), name
