"""boot(): a kernel on a box. System: what one does with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmaplab.calls.task import Program, Task, spawn
from rmaplab.errors import NoMemory, UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.prices import PriceBook, book_name, find_prices
from rmaplab.kernels.spec import KernelSpec
from rmaplab.machine.allocator import Gfp, Layout
from rmaplab.machine.entries import ENCODINGS, EntryEra
from rmaplab.machine.frames import PG_RESERVED
from rmaplab.machine.machine import Hardware, Machine
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.smt import NO_SMT, Smt
from rmaplab.machine.tlb import TlbRules
from rmaplab.machine.watermarks import WatermarkRule
from rmaplab.machine.zones import DMA_FRAMES
from rmaplab.mm.kernel import MM_LOCKS, Kernel
from rmaplab.mm.overcommit import OvercommitMode
from rmaplab.mm.validate import check
from rmaplab.rmap.protocol import Mapping, ReverseMap
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size, parse_size

MS = 1_000_000  # nanoseconds
LINES = (32, 64, 128)
MAX_CPUS = 64
HT = ("off", "on", "aware", "blind")
HYPER_THREADING = Smt(threads_per_core=2, shared_permille=1538)
"""Two threads do up to 1.3 times the work of one (Intel Technology Journal 6(1), 2002, p. 11): each takes 2 / 1.3 as long."""


def boot(
    kernel: str | KernelSpec,
    *,
    ram: int | str = "1G",
    swap: int | str = "0",
    cpus: int = 4,
    paging: str | None = None,
    split: str | None = None,
    l1_cache_bytes: int = 128,
    highpte: bool = True,
    boot_use: int | str | None = None,
    overcommit: int = 0,
    overcommit_ratio: int = 50,
    pages_min: int | None = None,
    ht: str = "off",
    prices: str | PriceBook | None = None,
    design: type[ReverseMap] | None = None,
) -> System:
    """Boot a kernel, by name or as a KernelSpec, on a box.

    Sizes are bytes or "512M". `paging` is "i386", "i386-pae" or "x86-64", by default the kernel's own (that of
    2004 is the announcement's "i386-pae"), `split` how i386 divides its addresses: "3:1", "2:2" or "4:4".
    `l1_cache_bytes` is the line of the box's CPUs, 128 on a Pentium 4; `highpte` says whether page tables may lie in high memory, which makes a pte_chain's slots 8 bytes wide
    under PAE. `boot_use` is what kernel and user land hold after boot besides mem_map (the kernel's figures if not given).
    `overcommit` is vm.overcommit_memory, `overcommit_ratio` its percentage for mode 2. `pages_min` replaces the
    watermark rule's own sum, for boxes of a few hundred frames. `design` replaces the kernel's reverse map.
    `ht` says whether two CPUs each share a core: "off"; "on", known to the scheduler as far as the kernel's is; "aware" and
    "blind" decide that against the kernel. `prices` is the name of a price list (kernels/prices.py).
    Free swap counts for overcommit; nothing is swapped out yet (NoMemory). Raises UsageError.
    """
    spec = find_kernel(kernel) if isinstance(kernel, str) else kernel
    hardware = Hardware(
        ram_bytes=_whole_pages(ram, "RAM"),
        swap_bytes=_whole_pages(swap, "swap"),
        cpus=cpus,
        paging=spec.paging(paging, split),
        l1_cache_bytes=l1_cache_bytes,
        highpte=highpte,
        smt=NO_SMT if ht == "off" else HYPER_THREADING,
    )
    _check_box(hardware, ht, overcommit, overcommit_ratio, pages_min)
    use = None if boot_use is None else _whole_pages(boot_use, "boot use")
    return System(
        spec,
        hardware,
        design or spec.design_class(),
        OvercommitMode(overcommit),
        overcommit_ratio,
        use,
        pages_min,
        prices if isinstance(prices, PriceBook) else find_prices(prices or book_name(siblings=ht != "off")),
        knows_siblings={"aware": True, "blind": False}.get(ht, bool(spec.figure("sched_knows_siblings", 4))),
    )


def _check_box(hardware: Hardware, ht: str, overcommit: int, overcommit_ratio: int, pages_min: int | None) -> None:
    """Raises UsageError for a box that nobody could build, or settings that no kernel takes."""
    if ht not in HT:
        raise UsageError(f"hyper-threading {ht!r}: choose one of {', '.join(HT)}")
    if ht != "off" and hardware.cpus % 2:
        raise UsageError(f"{hardware.cpus} CPUs with hyper-threading: two share a core, so choose an even number")
    if not 1 <= hardware.cpus <= MAX_CPUS:
        raise UsageError(f"{hardware.cpus} CPUs: choose 1 to {MAX_CPUS}")
    if hardware.l1_cache_bytes not in LINES:
        raise UsageError(f"a cache line of {hardware.l1_cache_bytes} bytes: choose one of {', '.join(map(str, LINES))}")
    if hardware.ram_bytes > hardware.paging.max_ram_bytes:
        limit = format_size(hardware.paging.max_ram_bytes)
        raise UsageError(
            f"{format_size(hardware.ram_bytes)} of RAM: {hardware.arch} goes up to {limit}; try --paging x86-64"
        )
    if overcommit not in list(OvercommitMode):
        raise UsageError(f"overcommit mode {overcommit}: choose 0 (heuristic), 1 (always) or 2 (strict)")
    if pages_min is not None and pages_min < 0:
        raise UsageError(f"pages_min {pages_min}: give 0 or more pages")
    if overcommit_ratio < 0:
        raise UsageError(f"an overcommit ratio of {overcommit_ratio} %: give 0 or more")


def _whole_pages(size: int | str, what: str) -> int:
    nr_bytes = parse_size(size)
    if nr_bytes < 0:
        raise UsageError(f"{nr_bytes} bytes of {what}: give a size of 0 or more")
    return nr_bytes >> PAGE_SHIFT << PAGE_SHIFT


@dataclass(frozen=True)
class BootUse:
    """What is not free when the first program starts. Frames.

    The image and mem_map lie where the boot allocator puts them; the rest has been allocated since like anything else.
    """

    image: int
    mem_map: int
    kernel: int
    """Slab, stacks, page tables: low memory."""
    user: int
    """Pages of the user land."""

    @classmethod
    def of(cls, spec: KernelSpec, hardware: Hardware, design: type[ReverseMap], given_bytes: int | None) -> BootUse:
        """By the kernel's figures; `given_bytes`, if given, is shared out as they would. Raises UsageError."""
        word = hardware.paging.word_bytes
        page_struct = spec.figure("page_struct_bytes", word) + design.page_bytes(
            hardware.paging, highpte=hardware.highpte
        )
        mem_map = -(-(hardware.ram_bytes >> PAGE_SHIFT) * page_struct // PAGE_SIZE)
        names = ("image_bytes", "boot_kernel_bytes", "boot_user_bytes")
        image, kernel, user = (-(-spec.figure(name, word) // PAGE_SIZE) for name in names)
        if given_bytes is not None:
            given = given_bytes >> PAGE_SHIFT
            image, rest = min(image, given), max(given - image, 0)
            kernel = rest * kernel // (kernel + user)
            user = rest - kernel
        use = cls(image, mem_map, kernel, user)
        use.check(hardware)
        return use

    @property
    def nr_pages(self) -> int:
        """All of it."""
        return self.image + self.mem_map + self.kernel + self.user

    def check(self, hardware: Hardware) -> None:
        """Raises UsageError if the box cannot boot."""
        low = min(hardware.ram_bytes, hardware.paging.lowmem_bytes) >> PAGE_SHIFT
        if (hardware.ram_bytes >> PAGE_SHIFT) * 3 < self.nr_pages * 4:
            raise UsageError(
                f"{format_size(hardware.ram_bytes)} of RAM is too small: this kernel takes {format_size(self.nr_pages * PAGE_SIZE)} "
                f"to boot; try --ram {1 << (self.nr_pages * 4 // 3 >> 8).bit_length()}M"
            )
        if self.image > min(DMA_FRAMES, low) or self.mem_map + self.image + self.kernel > low * 31 // 32:
            raise UsageError(
                f"{format_size(hardware.ram_bytes)} of RAM: its struct pages take {format_size(self.mem_map * PAGE_SIZE)}, and "
                f"{format_size(low * PAGE_SIZE)} are low memory; try less --ram, --boot-use or another --split"
            )

    def take(self, machine: Machine) -> None:
        """Allocate what was allocated after boot. Raises UsageError."""
        for nr, gfp in ((self.kernel, Gfp.KERNEL), (self.user, Gfp.HIGHUSER)):
            try:
                pages = machine.allocator.alloc(nr, gfp) if nr else np.empty(0, np.int64)
            except NoMemory:
                raise UsageError("nothing is free after boot: try more --ram or less --boot-use") from None
            machine.frames.flags[pages] |= PG_RESERVED
        machine.allocator.drain()


class System:
    """A booted kernel. `kernel` holds its state, `kernel.machine` the box under it."""

    def __init__(
        self,
        spec: KernelSpec,
        hardware: Hardware,
        design: type[ReverseMap],
        overcommit: OvercommitMode,
        overcommit_ratio: int,
        boot_use_bytes: int | None,
        pages_min: int | None,
        prices: PriceBook,
        *,
        knows_siblings: bool = False,
    ) -> None:
        self.spec = spec
        word = hardware.paging.word_bytes
        use = BootUse.of(spec, hardware, design, boot_use_bytes)
        layout = Layout(
            lowmem_bytes=hardware.paging.lowmem_bytes,
            image=use.image,
            mem_map=use.mem_map,
            rule=WatermarkRule(spec.figure("watermarks", word)),
            per_cpu_lists=bool(spec.figure("per_cpu_lists", word)),
            pages_min=pages_min,
        )
        sched = SchedRules(
            timeslice_ns=spec.figure("timeslice_ms", word) * MS,
            max_timeslice_ns=spec.figure("max_timeslice_ms", word) * MS,
            tick_ns=spec.figure("tick_us", word) * 1000,
            busy_balance_ns=spec.figure("busy_balance_ms", word) * MS,
            one_queue=bool(spec.figure("one_run_queue", word)),
            child_first=bool(spec.figure("child_runs_first", word)),
            sync_wakes_move=bool(spec.figure("sync_wakes_move", word)),
            knows_siblings=knows_siblings,
        )
        self.boot_use = use
        slub = bool(spec.figure("slub", word))
        price_list = prices.price_list(spec.software)
        encoding = ENCODINGS[EntryEra(spec.figure("pte_encoding", word))][hardware.arch]
        tlb = TlbRules(
            switch_clears_mask=bool(spec.figure("switch_mm_clears_mask", word)),
            spares_lazy_cpus=bool(spec.figure("lazy_cpus_spared", word)),
        )
        locks = MM_LOCKS + design.lock_classes
        self.machine = Machine(hardware, price_list, sched, layout, encoding, locks, slub=slub, tlb=tlb)
        use.take(self.machine)
        self.kernel = Kernel(
            self.machine,
            spec.rules(word),
            design(self.machine),
            overcommit=overcommit,
            overcommit_ratio=overcommit_ratio,
        )

    def spawn(self, program: Program | None = None) -> Task:
        """A first task with an empty address space. With a program it runs when run() is called, else you drive it."""
        return spawn(self.kernel, program)

    def run(self) -> None:
        """Run all programs until none can go on. Raises what the machine cannot do: NoMemory."""
        self.machine.sched.run()

    def close(self) -> None:
        """Let go of programs that cannot go on, after NoMemory say: its RAM is the host's again. Not to be used after."""
        self.machine.sched.abandon()

    def who_maps(self, task: Task, address: int) -> list[Mapping]:
        """Who maps the page that `task` has at `address`, by this kernel's reverse map.

        Empty where nothing is mapped, and for the zero page, which no kernel tracks.
        """
        if task.mm is None or not 0 <= address < self.machine.paging.task_size:
            return []
        entry, _ = lookup(*self.machine.geometry, task.mm.pgd, address)
        return list(self.kernel.rmap.walk(entry >> PAGE_SHIFT)) if entry & self.machine.mapped else []

    def check(self) -> None:
        """Recompute everything that can be recomputed, and compare the reverse map with the judge. Raises KernelBug."""
        check(self.kernel)

    def __repr__(self) -> str:
        hardware = self.machine.hardware
        return (
            f"<Linux {self.spec.name} on {hardware.arch}, {format_size(hardware.ram_bytes)} RAM, {hardware.cpus} CPUs: "
            f"{len(self.kernel.tasks)} tasks>"
        )
