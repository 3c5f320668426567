"""The announcement's claims about memory: the arithmetic, and what a running machine says to the same question.

    "this releases 4byte of page_t"                       mem_map of two kernels, weighed
    "filling around 400m with pagetables"                 512 processes, their tables counted
    what pte chains take                                  a page mapped 2^L times, its blocks counted in their slabs
    "saves tons of zone-normal to make it possible        low memory that 512 processes need, and the RAM whose mem_map
     to use >=4G boxes with the optimal 3:1 model"        leaves that much of 896 MiB

The left-hand side of each row is a formula over sizes that have their source in `rmaplab kernels`; the right-hand side is read
off machines that were booted and made to fork. Where they differ, one of them is wrong: tests/lab/announcement/test_claims.py
says that none is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rmaplab.calls.task import Task
from rmaplab.errors import NoMemory, OomKilled, SyscallError, UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import System, boot
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.slab import pack
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.forkbench import SIZE

CONFIGURATIONS = (("i386", False), ("i386-pae", False), ("i386-pae", True), ("x86-64", False))
"""(page-table format, HIGHPTE)."""
KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1")
RAM_GIB = (1, 2, 4, 8, 16, 32, 64)
LEVELS = (6, 7, 8, 9)
LINES = (32, 64, 128)
MIB, GIB = 1 << 20, 1 << 30
CHAIN_PAGES = 4096
"""Pages of the process whose chains are measured: what they take is in proportion."""
REACH_BOX = "3G"
"""Where the low memory that a workload needs is measured: high memory holds the rest of it."""


@dataclass(frozen=True)
class Claim:
    """One question and its answers. `published` is None where nobody published a figure."""

    about: str
    arithmetic: int
    machine: int
    unit: str
    published: str | None = None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def page_struct_claims() -> Iterator[Claim]:
    """Struct page by kernel and configuration; the machine's figure is what 1 GiB more of RAM costs at boot."""
    published = {
        ("2.6.5-rc1-aa1", "i386-pae", True): '4 less than mainline: "releases 4byte of page_t"',
        ("2.4.21", "i386-pae", False): "48 (Andrea Arcangeli, LKML 24 March 2004)",
    }
    for kernel in KERNELS:
        spec = find_kernel(kernel)
        for paging, highpte in CONFIGURATIONS:
            small, large = (boot(kernel, ram=ram, paging=paging, highpte=highpte, boot_use=0) for ram in ("1G", "2G"))
            size = spec.sizes(small.machine.hardware)["struct page"]
            weighed = (_taken_at_boot(large) - _taken_at_boot(small)) * PAGE_SIZE // (GIB // PAGE_SIZE)
            name = f"{kernel}, {paging}{', HIGHPTE' if highpte else ''}"
            yield Claim(name, size, weighed, "bytes", published.get((kernel, paging, highpte)))


def mem_map_claims() -> Iterator[Claim]:
    """mem_map from 1 to 64 GiB with PAE and HIGHPTE: RAM / 4 KiB x struct page, against the frames taken at boot."""
    for kernel in KERNELS:
        size = find_kernel(kernel).sizes(boot(kernel).machine.hardware)["struct page"]
        for gib in RAM_GIB:
            taken = _taken_at_boot(boot(kernel, ram=f"{gib}G", boot_use=0)) * PAGE_SIZE
            yield Claim(f"{kernel}, {gib} GiB", gib * GIB // PAGE_SIZE * size, taken, "bytes")


def table_claims() -> Iterator[Claim]:
    """Page tables of 512 processes with 512 MiB each, all alive; the machine counts those of two and goes on from there."""
    for paging, highpte in (("i386", True), ("i386-pae", True)):
        system = boot("2.6.5-rc1-aa1", ram="2G", paging=paging, highpte=highpte)
        leaf_tables = SIZE // system.machine.paging.leaf_span
        upper = system.machine.paging.tables_at_birth or 1
        parent = _filled(system, SIZE)
        before = system.machine.nr_tables
        parent.fork()
        each = system.machine.nr_tables - before
        published = (
            '"around 400m": more than this, so not this format'
            if paging == "i386"
            else '"around 400m": not all alive at once'
        )
        yield Claim(
            f"level 9, {paging}", 512 * (leaf_tables + upper) * PAGE_SIZE, 512 * each * PAGE_SIZE, "bytes", published
        )


def chain_claims() -> Iterator[Claim]:
    """Pte chains of 512 MiB mapped 2^L times, by line size, with PAE and with and without HIGHPTE."""
    published = {
        (6, 128, False): "3 blocks a page",
        (6, 128, True): "5 blocks a page",
        (9, 128, True): "35 blocks a page",
    }
    for highpte in (True, False):
        for line in LINES:
            system = boot("2.6.2", ram="2G", l1_cache_bytes=line, highpte=highpte, overcommit=1)
            parent = _filled(system, CHAIN_PAGES * PAGE_SIZE)
            cache = system.machine.caches["pte_chain"]
            slot = system.kernel.design.page_bytes(system.machine.hardware)  # a pte_addr_t, as in a block
            nrpte = (line - system.machine.paging.word_bytes) // slot
            packing = pack(line, line, system.machine.paging.word_bytes, hwcache_align=True)
            mapped = 1
            for level in LEVELS:
                while mapped < 1 << level:
                    parent.fork()
                    mapped += 1
                blocks = -(-mapped // nrpte)  # both of the first two mappings go into the first block
                times = SIZE // PAGE_SIZE // CHAIN_PAGES
                slabs = -(-CHAIN_PAGES * blocks // packing.per_slab)
                yield Claim(
                    f"level {level}, {line}-byte lines{', HIGHPTE' if highpte else ''}",
                    slabs * times * (PAGE_SIZE << packing.order),
                    cache.bytes * times,
                    "bytes",
                    f"{note} (computed)" if (note := published.get((level, line, highpte))) else None,
                )


@dataclass(frozen=True)
class Reach:
    """How far 3:1 goes for one kernel: the largest RAM whose low memory holds so many processes beside mem_map."""

    kernel: str
    highpte: bool
    split: str
    processes: int
    low_need_bytes: int
    """Low memory that the processes took, measured."""
    low_free_bytes: dict[int, int]
    """Low memory that can be had after boot, by GiB of RAM; -1 where it does not boot."""
    largest_gib: int | None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def reaches(
    processes: int = 512, split: str = "3:1", cases: Sequence[tuple[str, bool]] | None = None
) -> Iterator[Reach]:
    """For each kernel, with and without HIGHPTE: what `processes` with 512 MiB each need of low memory, and the RAM for it."""
    for kernel, highpte in cases or [(kernel, highpte) for kernel in KERNELS for highpte in (False, True)]:
        need = low_memory_need(kernel, processes, highpte=highpte)
        free = {gib: low_memory_free(kernel, gib, highpte=highpte, split=split) for gib in range(1, 65)}
        fits = [gib for gib, low in free.items() if low >= need]
        shown = {gib: free[gib] for gib in RAM_GIB}
        yield Reach(kernel, highpte, split, processes, need, shown, max(fits) if fits else None)


def low_memory_need(kernel: str, processes: int, *, highpte: bool, size: int = SIZE, ram: str = REACH_BOX) -> int:
    """Bytes of low memory that a process with `size` bytes and its children take: `processes` in all, all alive.

    Raises UsageError if that many do not fit on the box where it is measured.
    """
    system = boot(kernel, ram=ram, highpte=highpte, overcommit=1)
    allocator = system.machine.allocator
    before = allocator.obtainable(Gfp.KERNEL)
    try:
        parent = _filled(system, size)
        for _ in range(processes - 1):
            parent.fork()
    except (NoMemory, SyscallError, OomKilled):
        raise UsageError(f"{processes} processes do not fit into {ram} on {kernel}: try fewer") from None
    return (before - allocator.obtainable(Gfp.KERNEL)) * PAGE_SIZE


def low_memory_free(kernel: str, gib: int, *, highpte: bool, split: str) -> int:
    """Bytes of low memory that the kernel's own requests could have after boot, down to the min marks; -1: no boot."""
    try:
        system = boot(kernel, ram=f"{gib}G", highpte=highpte, split=split)
    except UsageError:
        return -1
    return system.machine.allocator.obtainable(Gfp.KERNEL) * PAGE_SIZE


def _taken_at_boot(system: System) -> int:
    """Frames that are not free on a box with no boot use: mem_map's."""
    return system.machine.frames.nr - system.machine.allocator.nr_unused


def _filled(system: System, size: int) -> Task:
    task = system.spawn()
    task.touch(task.mmap(size), size, write=True)
    return task
