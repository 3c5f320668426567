"""The slab allocator: kernel objects in pages of the simulated RAM, packed as Linux of 2004 packs them.

    one slab of the cache "anon_vma" on i386, lines of 128 bytes
    +------------------+----------+----------+---     ---+------------+-----+
    | struct slab 24 B | object 0 | object 1 |    ...    | object 249 | gap |
    | + 4 B an object  | 12 bytes | 12 bytes |           |            |     |
    +------------------+----------+----------+---     ---+------------+-----+
    0                1024                                                 4096

An object's address is its identity: a design stores it where the kernel stores a pointer. Objects whose state Python holds
(VMAs, mms, tasks) take their bytes here too, so memory runs out when it would. Free objects are linked through their first
word; a fresh slab is handed out front to back without being written. Partial slabs are used before empty ones, and an empty
slab goes back to the page allocator once the cache has more free objects than its limit.

Objects freed one by one wait in an array of up to 120 and are handed out again first. Linux has such an array per CPU, here
there is one. What is left out: colouring, and the separate home of the management of off-slab caches.

Source: 2.6.2 mm/slab.c, kmem_cache_create, cache_estimate, free_block, enable_cpucache; the packing is checked against
the slabinfo figures of LKML 2004 (250 anon_vmas, 50 aa1 VMAs a page).
"""

from typing import NamedTuple

import numpy as np

from rmaplab.errors import KernelBug, NoMemory
from rmaplab.machine.allocator import Gfp, PageAllocator, Unmet
from rmaplab.machine.arrays import I16, I32, I64, U32
from rmaplab.machine.frames import PG_SLAB
from rmaplab.machine.jit import inline, kernel
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

OFF_SLAB_BYTES = PAGE_SIZE >> 3  # objects this big keep their management elsewhere
BREAK_ORDER = 2  # slabs do not grow beyond this order
MAX_PER_SLAB = 384
SLUB_MAX_ORDER = 3  # PAGE_ALLOC_COSTLY_ORDER
PARTIAL, EMPTY = 0, 1  # the lists; a full slab is on neither


class Packing(NamedTuple):
    """How a cache lays its objects out: slabs of 2^order pages, `per_slab` objects of `stride` bytes from `offset` on."""

    order: int
    per_slab: int
    stride: int
    offset: int


def pack(object_bytes: int, line_bytes: int, word_bytes: int, *, hwcache_align: bool = False) -> Packing:
    """The layout kmem_cache_create chooses. Sizes in bytes."""
    align = word_bytes
    if hwcache_align:
        align = line_bytes
        while object_bytes <= align // 2:
            align //= 2
    stride = (object_bytes + align - 1) // align * align
    on_slab = object_bytes < OFF_SLAB_BYTES
    header = 24 if word_bytes == 4 else 40
    for order in range(BREAK_ORDER + 1):
        size = PAGE_SIZE << order
        per_slab, offset = size // stride, 0
        if on_slab:
            per_slab = (size - header) // (stride + 4)
            while (
                offset := (header + 4 * per_slab + line_bytes - 1) // line_bytes * line_bytes
            ) + per_slab * stride > size:
                per_slab -= 1
        waste = size - offset - per_slab * stride
        if per_slab and waste * 8 <= size:
            break
    return Packing(order, per_slab, stride, offset)


def pack_slub(
    object_bytes: int, line_bytes: int, word_bytes: int, cpus: int, *, hwcache_align: bool = False
) -> Packing:
    """The layout of SLUB: nothing in the slab but objects, as many as keep CPUs out of each other's way.

    Source: mm/slub.c of 6.18, calculate_order, calc_slab_order; checked against a slabinfo of two CPUs.
    """
    align = word_bytes
    if hwcache_align:
        align = line_bytes
        while object_bytes <= align // 2:
            align //= 2
    stride = (object_bytes + align - 1) // align * align
    wanted = min(4 * (cpus.bit_length() + 1), (PAGE_SIZE << SLUB_MAX_ORDER) // stride)
    first = max((wanted * stride - 1).bit_length() - PAGE_SHIFT, 0)
    for fraction in (16, 8, 4, 2, 1):
        for order in range(first, SLUB_MAX_ORDER + 1):
            size = PAGE_SIZE << order
            if size % stride * fraction <= size:
                return Packing(order, min(size // stride, MAX_PER_SLAB), stride, 0)
    raise KernelBug("calculate_order", f"no slab holds an object of {object_bytes} bytes")


class SlabPages:
    """The columns about slab pages that all caches of a machine share; a frame belongs to one cache at most."""

    def __init__(self, nr_frames: int) -> None:
        self.inuse: I16 = np.zeros(nr_frames, np.int16)
        self.free: I16 = np.zeros(nr_frames, np.int16)  # 1 + index of the first freed object, 0 for none
        self.fresh: I16 = np.zeros(nr_frames, np.int16)  # objects handed out so far, front to back
        self.owner: I16 = np.zeros(nr_frames, np.int16)  # number of the cache whose slab begins here, 0 for none
        self.used: I64 = np.zeros((nr_frames, MAX_PER_SLAB // 64), np.int64)  # a bit per object that is out
        self.nr_caches = 0
        self.links: I32 = np.zeros((2, nr_frames), np.int32)  # 1 + next and previous slab of its list


class SlabCache:
    """kmem_cache_t: objects of one kind. `nr_objects`, `nr_slabs` and their peaks are its slabinfo line."""

    def __init__(
        self,
        name: str,
        object_bytes: int,
        pages: SlabPages,
        allocator: PageAllocator,
        *,
        line_bytes: int,
        word_bytes: int,
        cpus: int,
        hwcache_align: bool = False,
        slub: bool = False,
    ) -> None:
        self.name = name
        self.object_bytes = object_bytes
        if slub:
            self.packing = pack_slub(object_bytes, line_bytes, word_bytes, cpus, hwcache_align=hwcache_align)
        else:
            self.packing = pack(object_bytes, line_bytes, word_bytes, hwcache_align=hwcache_align)
        batchcount = 60 if object_bytes <= 256 else 27 if object_bytes <= 1024 else 12
        self.free_limit = (1 + cpus) * batchcount + self.packing.per_slab
        self.nr_objects = self.nr_slabs = 0
        self.nr_objects_peak = self.nr_slabs_peak = 0
        if self.packing.per_slab > MAX_PER_SLAB:
            raise KernelBug("kmem_cache_create", f"{self.packing.per_slab} objects of {name} in a slab")
        pages.nr_caches += 1
        self._id = pages.nr_caches
        self._pages, self._allocator = pages, allocator
        self._heads: I64 = np.zeros(2, np.int64)  # 1 + first slab
        self._array_limit = 120 if object_bytes <= 256 else 54 if object_bytes <= 1024 else 24
        self._array: list[int] = []  # freed one by one, to be handed out again first
        self._single: set[int] = set()  # handed out one by one
        self._state = (allocator.ram.words4, pages.inuse, pages.free, pages.fresh, pages.used, pages.links, self._heads)

    @property
    def bytes(self) -> int:
        """Bytes of RAM the cache holds, free objects included."""
        return self.nr_slabs << (PAGE_SHIFT + self.packing.order)

    @property
    def bytes_peak(self) -> int:
        """The most it ever held."""
        return self.nr_slabs_peak << (PAGE_SHIFT + self.packing.order)

    def alloc(self, gfp: Gfp = Gfp.KERNEL) -> int:
        """kmem_cache_alloc: the address of one zeroed object. Raises as PageAllocator.alloc."""
        allocator = self._allocator
        if self._array and allocator.might_sleep is None:
            if allocator.fail_after is not None and allocator.injected_failure(1):
                raise NoMemory(f"an object of {self.name}")
            address = self._array.pop()
            self.nr_objects += 1
            self.nr_objects_peak = max(self.nr_objects_peak, self.nr_objects)
        else:
            address = self.alloc_bulk(1, gfp).item()
        self._single.add(address)
        return address

    def alloc_bulk(self, nr: int, gfp: Gfp = Gfp.KERNEL) -> I64:
        """`nr` zeroed objects by address: all of them or an exception and no change. O(nr)."""
        if self._allocator.injected_failure(nr):
            raise NoMemory(f"{nr} objects of {self.name}")
        if self._allocator.might_sleep is not None:
            self._allocator.let_others_act(gfp)
        _, per_slab, stride, offset = self.packing
        while nr > self.nr_slabs * per_slab - self.nr_objects - len(
            self._array
        ):  # others take objects while this one sleeps
            self._flush(len(self._array))
            missing, before = nr - (self.nr_slabs * per_slab - self.nr_objects), self.nr_slabs
            if missing <= 0:
                break
            try:
                self._grow(-(-missing // per_slab), gfp)
            except NoMemory:
                self._release(self.nr_slabs - before)  # a request that fails holds nothing
                raise
        objects = np.empty(nr, np.int64)
        got = _alloc(*self._state, per_slab, stride, offset, objects)
        if got != nr:
            raise KernelBug("kmem_cache_alloc", f"{self.name}: {nr} objects promised, {got} found")
        self.nr_objects += nr
        self.nr_objects_peak = max(self.nr_objects_peak, self.nr_objects)
        return objects

    def free(self, address: int) -> None:
        """kmem_cache_free of one object. What it held need not be cleared, except by whoever calls free_bulk."""
        stride = self.packing.stride
        scribbled = self._allocator.frames.scribbled
        first, last = address >> PAGE_SHIFT, (address + stride - 1) >> PAGE_SHIFT
        if scribbled[first] or (last != first and scribbled[last]):
            self._allocator.ram.bytes.reshape(-1)[address : address + stride] = 0
        if address not in self._single:  # one of many, or none of ours
            if address in self._array:
                raise KernelBug("kmem_cache_free", f"{self.name}: {address:#x} is not an allocated object")
            self.free_bulk(np.array([address], np.int64))
            return
        self._single.remove(address)
        self.nr_objects -= 1
        self._array.append(address)
        if len(self._array) > self._array_limit:
            self._flush((self._array_limit + 1) // 2)

    def _flush(self, nr: int) -> None:
        """Back to their slabs with the `nr` that have waited longest in the array."""
        objects = np.array(self._array[:nr], np.int64)
        del self._array[:nr]
        self.nr_objects += nr
        self.free_bulk(objects)

    def free_bulk(self, objects: I64) -> None:
        """Free objects whose bytes are zero beyond their first word. O(n)."""
        order, per_slab, stride, offset = self.packing
        bad = _free(*self._state, self._pages.owner, self._id, order, per_slab, stride, offset, objects)
        if bad >= 0:
            raise KernelBug("kmem_cache_free", f"{self.name}: {objects[bad]:#x} is not an allocated object")
        self.nr_objects -= objects.size
        if self._single:
            self._single.difference_update(objects.tolist())
        nr_free = self.nr_slabs * per_slab - self.nr_objects - len(self._array)
        if nr_free > self.free_limit:
            self._release((nr_free - self.free_limit + per_slab - 1) // per_slab)

    def shrink(self) -> None:
        """kmem_cache_shrink: give every empty slab back."""
        self._flush(len(self._array))
        self._release(self.nr_slabs)

    def _grow(self, nr_slabs: int, gfp: Gfp) -> None:
        order, allocator = self.packing.order, self._allocator
        if allocator.injected_failure(nr_slabs):
            raise NoMemory(f"{nr_slabs} slabs of {self.name}")
        while (slabs := allocator.take(nr_slabs, gfp, order, zeroed=True)) is None:
            if nr_slabs > 1:  # what there is still serves: the request fails at the slab that cannot be had
                self._grow(nr_slabs // 2, gfp)
                nr_slabs -= nr_slabs // 2
            elif gfp is Gfp.ATOMIC:
                raise NoMemory(f"a slab of {self.name}")
            else:
                allocator.sleep_for(1, order, Unmet(f"a slab of {self.name}", gfp))
        pages = self._pages
        allocator.frames.flags[slabs] |= PG_SLAB
        pages.inuse[slabs] = pages.free[slabs] = pages.fresh[slabs] = 0
        pages.used[slabs] = 0
        pages.owner[slabs] = self._id
        _push_all(pages.links, self._heads, slabs)
        self.nr_slabs += slabs.size
        self.nr_slabs_peak = max(self.nr_slabs_peak, self.nr_slabs)

    def _release(self, most: int) -> None:
        slabs = np.empty(most, np.int64)
        slabs = slabs[: _pop_empty(self._pages.links, self._heads, slabs)]
        order = self.packing.order
        self._pages.owner[slabs] = 0
        for page in range(1 << order):  # freed objects leave their links behind
            self._allocator.frames.scribbled[slabs + page] = 1
        self._allocator.free(slabs, order=order)
        self.nr_slabs -= slabs.size

    def check(self) -> None:
        """What the slabs hold adds up to what the counters say. O(frames)."""
        per_slab = self.packing.per_slab
        listed = 0
        for which, head in enumerate(self._heads.tolist()):
            slab = head - 1
            while slab >= 0:
                inuse = int(self._pages.inuse[slab])
                if (inuse == 0) != (which == EMPTY) or inuse >= per_slab:
                    raise KernelBug("slab", f"{self.name}: slab {slab} with {inuse} objects is on the wrong list")
                listed += per_slab - inuse
                slab = int(self._pages.links[0, slab]) - 1
        if listed + len(self._array) != self.nr_slabs * per_slab - self.nr_objects:
            raise KernelBug("slab", f"{self.name}: {listed} objects free on lists, counters say otherwise")


@inline
def _push(links: I32, heads: I64, which: int, slab: int) -> None:
    head = heads[which]
    links[0, slab] = head
    links[1, slab] = 0
    if head:
        links[1, head - 1] = slab + 1
    heads[which] = slab + 1


@inline
def _unlink(links: I32, heads: I64, which: int, slab: int) -> None:
    after, before = links[0, slab], links[1, slab]
    if before:
        links[0, before - 1] = after
    else:
        heads[which] = after
    if after:
        links[1, after - 1] = before


@kernel
def _push_all(links: I32, heads: I64, slabs: I64) -> None:
    for i in range(slabs.size - 1, -1, -1):
        _push(links, heads, EMPTY, slabs[i])


@kernel
def _pop_empty(links: I32, heads: I64, slabs: I64) -> int:
    nr = 0
    while nr < slabs.size and heads[EMPTY]:
        slabs[nr] = heads[EMPTY] - 1
        _unlink(links, heads, EMPTY, slabs[nr])
        nr += 1
    return nr


@kernel
def _alloc(
    words: U32, inuse: I16, free: I16, fresh: I16, used: I64, links: I32, heads: I64,
    per_slab: int, stride: int, offset: int, objects: I64,
) -> int:  # fmt: skip
    nr = 0
    while nr < objects.size:
        slab = heads[PARTIAL] - 1
        if slab < 0:
            slab = heads[EMPTY] - 1
            if slab < 0:
                return nr
            _unlink(links, heads, EMPTY, slab)
            _push(links, heads, PARTIAL, slab)
        base = (slab << PAGE_SHIFT) + offset
        take = min(objects.size - nr, per_slab - inuse[slab])
        for _ in range(take):
            index = np.int64(free[slab]) - 1
            if index >= 0:
                address = base + index * stride
                free[slab] = words[address >> 2]
                words[address >> 2] = 0
            else:
                address = base + np.int64(fresh[slab]) * stride
                fresh[slab] += 1
                index = np.int64(fresh[slab]) - 1
            used[slab, index >> 6] |= np.int64(1) << (index & 63)
            objects[nr] = address
            nr += 1
        inuse[slab] += take
        if inuse[slab] == per_slab:
            _unlink(links, heads, PARTIAL, slab)
    return nr


@kernel
def _free(
    words: U32, inuse: I16, free: I16, fresh: I16, used: I64, links: I32, heads: I64, owner: I16, cache: int,
    order: int, per_slab: int, stride: int, offset: int, objects: I64,
) -> int:  # fmt: skip
    """Return -1, or the place of the first address that is no object of this cache, or is free."""
    for i in range(objects.size):
        address = objects[i]
        slab = (address >> PAGE_SHIFT) >> order << order
        if slab < 0 or slab >= owner.size or owner[slab] != cache:
            return i
        inside = address - (slab << PAGE_SHIFT) - offset
        index = inside // stride
        if inside < 0 or index * stride != inside or index >= fresh[slab]:
            return i
        bit = np.int64(1) << (index & 63)
        if not used[slab, index >> 6] & bit:
            return i
        used[slab, index >> 6] &= ~bit
        words[address >> 2] = free[slab]
        free[slab] = index + 1
        left = inuse[slab] - 1
        inuse[slab] = left
        if left == per_slab - 1:
            _push(links, heads, PARTIAL, slab)
        if left == 0:
            _unlink(links, heads, PARTIAL, slab)
            _push(links, heads, EMPTY, slab)
    return -1
