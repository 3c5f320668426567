"""What a reverse map costs in memory, over the number of children and of VMAs: measured on live systems.

One process has V anonymous VMAs of one page each, every page written, and forks C children, which all stay alive:

    parent   [vma] gap [vma] gap [vma] ...      V of them, one page each
    child 1  [vma] gap [vma] gap [vma] ...      the same pages
      ...
    child C  [vma] gap [vma] gap [vma] ...      (C + 1) mms, V * (C + 1) VMAs, V frames

The gaps are there because neighbours would merge under one design and not under another: so all kernels have the same VMAs.
Alternating protections would keep them apart too, but they ask the merge rules, and these differ.

For each kernel and each V a machine is booted, children are added one by one, and at each C of the sweep the machine is read:
the design's objects and slabs, and how many VMAs, mms and frames there are to which it adds bytes. Nothing is predicted.
The page tables are the same under all designs and are not counted here (`rmaplab compare` does).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import Any, NamedTuple

from rmaplab.calls.task import Task
from rmaplab.errors import NoMemory, OomKilled, SyscallError, UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import hardware_as_json
from rmaplab.mm.process import PID_MAX, RESERVED_PIDS
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from rmaplab.units import PAGE_SIZE

MAX_CHILDREN = PID_MAX - RESERVED_PIDS - 1
STRIDE = 2 * PAGE_SIZE  # a page, and a gap


class Combination(NamedTuple):
    """One point of the grid: children of the process, and VMAs in each process."""

    children: int
    vmas: int


@dataclass(frozen=True)
class MemoryPoint:
    """What one design takes at one point. All sizes are of the whole system."""

    kernel: str
    design: str
    children: int
    vmas: int
    """VMAs per process."""
    hardware: dict[str, Any]
    nr_mms: int
    nr_vmas: int
    nr_objects: dict[str, int]
    """The design's own objects, by slab cache."""
    objects_bytes: int
    """Objects times object size."""
    vma_bytes: int
    """What the design adds to all vm_area_structs."""
    mm_bytes: int
    """What the design adds to all mm_structs."""
    total_bytes: int
    """objects_bytes + vma_bytes + mm_bytes."""
    own_slabs_bytes: int
    """RAM in whole slabs for the design's own objects."""
    all_slabs_bytes: int
    """RAM in whole slabs for its objects, all vm_area_structs and all mm_structs: comparable among kernels of one base."""
    page_struct_bytes: int
    """What the design adds to the box's struct pages: fixed when it boots, in no total."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes."""
        return asdict(self)


class Stretch(NamedTuple):
    """Numbers of VMAs per process, from the first to the last that was measured, at which one kernel is the cheaper of two."""

    cheaper: str | None
    """The kernel; None where both take the same."""
    first: int
    last: int


def grid(children: Sequence[int], vmas: Sequence[int], limit: int) -> tuple[list[Combination], list[Combination]]:
    """(combinations to measure, combinations of more than `limit` children times VMAs), both ascending.

    Raises UsageError for numbers that no kernel could hold, and where nothing is left to measure.
    """
    for number in (*children, *vmas):
        if number < 1:
            raise UsageError(f"{number} is too few: a sweep counts children and VMAs from 1")
    if children and max(children) > MAX_CHILDREN:
        raise UsageError(f"{max(children):,} children: there are pids for {MAX_CHILDREN:,}, ask for fewer")
    every = [Combination(*pair) for pair in sorted(set(product(children, vmas)))]
    kept = [point for point in every if point.children * point.vmas <= limit]
    if not kept:
        raise UsageError(f"no combination has {limit:,} children times VMAs or fewer: try a larger --limit")
    return kept, [point for point in every if point not in kept]


def sweep_memory(kernels: Sequence[str], points: Sequence[Combination], box: Box) -> Iterator[MemoryPoint]:
    """Measure every point on every kernel; one MemoryPoint as each is done, by kernel, then VMAs, then children.

    What can be refused is refused before the first. Raises UsageError, later too: where the box is too small for a point.
    """
    for kernel in kernels:
        spec = find_kernel(kernel)
        system = boot(kernel, box)
        most = spec.figure("max_map_count", system.machine.paging.word_bytes)
        wanted = max(point.vmas for point in points)
        if wanted > most:
            raise UsageError(f"{wanted:,} VMAs: a process of Linux {kernel} has {most:,} at most, ask for fewer")
    return _sweep(kernels, points, box)


def _sweep(kernels: Sequence[str], points: Sequence[Combination], box: Box) -> Iterator[MemoryPoint]:
    for kernel in kernels:
        for vmas in sorted({point.vmas for point in points}):
            yield from _grow(kernel, vmas, sorted(point.children for point in points if point.vmas == vmas), box)


def _grow(kernel: str, vmas: int, counts: Sequence[int], box: Box) -> Iterator[MemoryPoint]:
    """One machine: the process, then its children up to each count."""
    system = boot(kernel, box)
    children = 0
    try:
        parent = with_vmas(system, vmas)
        for count in counts:
            while children < count:
                parent.fork()
                children += 1
            yield measure(system, children, vmas)
    except (SyscallError, NoMemory, OomKilled):
        raise UsageError(
            f"{box.ram} of RAM hold {children:,} children of {vmas:,} VMAs under {kernel}: try a larger --ram, or fewer"
        ) from None


def with_vmas(system: System, vmas: int) -> Task:
    """A process with `vmas` VMAs of one written page each, and a gap after each. Raises as mmap and write do."""
    task = system.spawn()
    for address in range(base := system.machine.paging.unmapped_base, base + vmas * STRIDE, STRIDE):
        task.mmap(PAGE_SIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, address=address)
        task.touch(address, PAGE_SIZE, write=True)
    return task


def measure(system: System, children: int, vmas: int) -> MemoryPoint:
    """Read the machine as it stands. O(slab caches)."""
    machine, k, rmap = system.machine, system.kernel, system.kernel.design
    caches = rmap.caches()
    objects_bytes = sum(cache.nr_objects * cache.object_bytes for cache in caches)
    vma_bytes = k.vma_cache.nr_objects * rmap.vma_bytes(machine.paging)
    mm_bytes = k.mm_cache.nr_objects * rmap.mm_bytes(machine.paging)
    own_slabs_bytes = sum(cache.bytes for cache in caches)
    page_bytes = rmap.page_bytes(machine.hardware)
    return MemoryPoint(
        kernel=system.spec.name,
        design=rmap.name,
        children=children,
        vmas=vmas,
        hardware=hardware_as_json(system),
        nr_mms=k.mm_cache.nr_objects,
        nr_vmas=k.vma_cache.nr_objects,
        nr_objects={cache.name: cache.nr_objects for cache in caches},
        objects_bytes=objects_bytes,
        vma_bytes=vma_bytes,
        mm_bytes=mm_bytes,
        total_bytes=objects_bytes + vma_bytes + mm_bytes,
        own_slabs_bytes=own_slabs_bytes,
        all_slabs_bytes=own_slabs_bytes + k.vma_cache.bytes + k.mm_cache.bytes,
        page_struct_bytes=machine.frames.nr * page_bytes,
    )


def order(points: Sequence[MemoryPoint], one: str, other: str) -> dict[int, tuple[Stretch, ...]]:
    """By number of children: where along the VMAs kernel `one` takes less than kernel `other` in total, and where more."""
    totals = {(point.kernel, point.children, point.vmas): point.total_bytes for point in points}
    found: dict[int, tuple[Stretch, ...]] = {}
    for _, children, vmas in sorted(key for key in totals if key[0] == one and (other, *key[1:]) in totals):
        difference = totals[one, children, vmas] - totals[other, children, vmas]
        cheaper = one if difference < 0 else other if difference > 0 else None
        before = found.get(children, ())
        if before and before[-1].cheaper == cheaper:
            found[children] = (*before[:-1], before[-1]._replace(last=vmas))
        else:
            found[children] = (*before, Stretch(cheaper, vmas, vmas))
    return found


def orders(points: Sequence[MemoryPoint]) -> dict[tuple[str, str], dict[int, tuple[Stretch, ...]]]:
    """order() of every two kernels, in the order of the points."""
    kernels = dict.fromkeys(point.kernel for point in points)
    return {(one, other): order(points, one, other) for one, other in combinations(kernels, 2)}
