"""boot(): a kernel on a box. System: what one does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rmaplab.calls.task import Program, Task, spawn
from rmaplab.errors import NoMemory, UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.contents import SystemContents
from rmaplab.kernels.file_indexes import load_file_index, own_index
from rmaplab.kernels.prices import PriceBook, book_name, find_prices
from rmaplab.kernels.spec import KernelSpec
from rmaplab.kernels.swap_space import Swaps, swap_at_boot
from rmaplab.kernels.uname import Uname, uname_of
from rmaplab.machine.allocator import Gfp, Layout
from rmaplab.machine.entries import ENCODINGS, EntryEra
from rmaplab.machine.frames import PG_RESERVED
from rmaplab.machine.hardware import DiskSpeed, Hardware
from rmaplab.machine.locks import Listener
from rmaplab.machine.machine import Machine
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.paging import Paging
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.smt import NO_SMT, Smt
from rmaplab.machine.tlb import TlbRules
from rmaplab.machine.watermarks import WatermarkRule
from rmaplab.machine.zones import DMA_FRAMES
from rmaplab.mm.kernel import Kernel, lock_order
from rmaplab.mm.overcommit import OvercommitMode
from rmaplab.mm.proc_meminfo import MeminfoEra, meminfo, meminfo_text
from rmaplab.mm.proc_vmstat import VmstatEra, vmstat, vmstat_text
from rmaplab.mm.process import set_user
from rmaplab.mm.rules import Rules
from rmaplab.mm.validate import check
from rmaplab.objects.mm_types import AddressSpace, VmaIndex
from rmaplab.reclaim.oom_programs import SignallingKiller
from rmaplab.rmap.file_index import ListOrder
from rmaplab.rmap.index_apart import NonlinearApart
from rmaplab.rmap.protocol import Mapping, ReverseMap
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size, parse_size, typed_size

MS = 1_000_000  # nanoseconds
LINES = (32, 64, 128)
MAX_CPUS = 64
HT = ("off", "on", "aware", "blind")
HYPER_THREADING = Smt(threads_per_core=2, shared_permille=1538)
"""Two threads do up to 1.3 times the work of one (Intel Technology Journal 6(1), 2002, p. 11): each takes 2 / 1.3 as long."""


def boot(
    kernel: str | KernelSpec, box: Box | None = None, *, design: type[ReverseMap] | None = None, **changes: Any
) -> System:
    """Boot a kernel, by name or as a KernelSpec, on a box.

    The box is described by keywords, the fields of a Box: `ram`, `swap`, `cpus`, `paging`, `split`, `l1_cache_bytes`, `highpte`,
    `boot_use`, `overcommit`, `overcommit_ratio`, `max_map_count`, `disable_cap_mlock`, `shmmax`, `pages_min`, `ht`, `mmap_base`, `heap_base`, `file_index`, `readahead_kib`, `disk_seek_us`, `disk_rpm`, `disk_kib_per_s`, `prices` (kernels/box.py says what each means). If a `box` is given,
    they change it. `design` replaces the kernel's reverse map. Raises UsageError.
    """
    spec = find_kernel(kernel) if isinstance(kernel, str) else kernel
    return System(spec, replace(box or Box(), **changes), design)


def _hardware(spec: KernelSpec, box: Box) -> Hardware:
    """What the box is to this kernel. Raises UsageError for a box that nobody could build, or settings that no kernel takes."""
    hardware = Hardware(
        ram_bytes=_whole_pages(box.ram, "RAM"),
        swap_bytes=0,  # until its areas are open
        cpus=box.cpus,
        paging=_with_bases(spec.paging(box.paging, box.split), box),
        l1_cache_bytes=box.l1_cache_bytes,
        highpte=box.highpte,
        smt=NO_SMT if box.ht == "off" else HYPER_THREADING,
        disk=DiskSpeed.of(box.disk_seek_us, box.disk_rpm, box.disk_kib_per_s),
        readahead_pages=box.readahead_kib // 4,
    )
    if min(box.readahead_kib, box.disk_seek_us, box.disk_rpm, box.disk_kib_per_s) < 0:
        raise UsageError("a disk's figures are 0 or more: readahead_kib, disk_seek_us, disk_rpm, disk_kib_per_s")
    if box.ht not in HT:
        raise UsageError(f"hyper-threading {box.ht!r}: choose one of {', '.join(HT)}")
    if box.ht != "off" and box.cpus % 2:
        raise UsageError(f"{box.cpus} CPUs with hyper-threading: two share a core, so choose an even number")
    if not 1 <= box.cpus <= MAX_CPUS:
        raise UsageError(f"{box.cpus} CPUs: choose 1 to {MAX_CPUS}")
    if box.l1_cache_bytes not in LINES:
        raise UsageError(f"a cache line of {box.l1_cache_bytes} bytes: choose one of {', '.join(map(str, LINES))}")
    if hardware.ram_bytes > hardware.paging.max_ram_bytes:
        limit = format_size(hardware.paging.max_ram_bytes)
        raise UsageError(
            f"{format_size(hardware.ram_bytes)} of RAM: {hardware.arch} goes up to {limit}; try --paging x86-64"
        )
    if box.overcommit not in list(OvercommitMode):
        raise UsageError(f"overcommit mode {box.overcommit}: choose 0 (heuristic), 1 (always) or 2 (strict)")
    if box.pages_min is not None and box.pages_min < 0:
        raise UsageError(f"pages_min {box.pages_min}: give 0 or more pages")
    if box.overcommit_ratio < 0:
        raise UsageError(f"an overcommit ratio of {box.overcommit_ratio} %: give 0 or more")
    return hardware


def _rules(spec: KernelSpec, box: Box, word_bytes: int) -> Rules:
    """The kernel's own, but for what a box may set. Raises UsageError."""
    rules = spec.rules(word_bytes)
    if box.disable_cap_mlock is not None:
        if not rules.cap_mlock_disablable:
            raise UsageError(
                f"{spec.name} has no vm.disable_cap_mlock: leave disable_cap_mlock out, or try 2.6.5-rc3-aa3 or 2.6.5-rc3+disable-cap-mlock"
            )
        rules = replace(rules, cap_mlock_disabled=box.disable_cap_mlock)
    if box.shmmax is not None:
        shmmax = parse_size(box.shmmax)
        if shmmax < 0:
            raise UsageError(f"shmmax {shmmax}: give 0 or more bytes")
        rules = replace(rules, shm_max_bytes=shmmax)
    if box.max_map_count is None:
        return rules
    if not rules.max_map_count_settable:
        raise UsageError(f"vm.max_map_count cannot be set on {spec.name}: leave max_map_count out")
    if box.max_map_count < 0:
        raise UsageError(f"max_map_count {box.max_map_count}: give 0 or more")
    return replace(rules, max_map_count=box.max_map_count)


def _file_index(spec: KernelSpec, box: Box, paging: Paging) -> tuple[Callable[[], VmaIndex], int]:
    """(What makes a file's index of VMAs, how many bytes of each it takes more than the kernel's own.) Raises UsageError."""
    word = paging.word_bytes
    own = load_file_index(own_index(spec.figure("file_index", word)))
    index = own if box.file_index is None else load_file_index(box.file_index)
    order = ListOrder(
        *(bool(spec.figure(f"list_{what}", word)) for what in ListOrder._fields),
    )
    make: Callable[[], VmaIndex] = partial(index, paging, order)
    if spec.figure("nonlinear_apart", word):
        make = partial(NonlinearApart.beside, partial(index, paging, order))
    return make, index.vma_bytes(paging) - own.vma_bytes(paging)


def _with_bases(paging: Paging, box: Box) -> Paging:
    """Addresses that a real machine draws at random."""
    heap = paging.heap_base if box.heap_base is None else box.heap_base
    return replace(
        paging, heap_base=heap, unmapped_base=paging.unmapped_base if box.mmap_base is None else box.mmap_base
    )


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
        page_struct = spec.figure("page_struct_bytes", word) + design.page_bytes(hardware)
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
                f"to boot; try --ram {typed_size(1 << (self.nr_pages * 4 // 3 >> 8).bit_length() + 20)}"
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


def _sched_rules(spec: KernelSpec, box: Box, word_bytes: int) -> SchedRules:
    """The scheduler's figures; whether it knows siblings the box may decide."""

    def figure(name: str) -> int:
        return spec.figure(name, word_bytes)

    return SchedRules(
        timeslice_ns=figure("timeslice_ms") * MS,
        max_timeslice_ns=figure("max_timeslice_ms") * MS,
        tick_ns=figure("tick_us") * 1000,
        busy_balance_ns=figure("busy_balance_ms") * MS,
        one_queue=bool(figure("one_run_queue")),
        child_first=bool(figure("child_runs_first")),
        sync_wakes_move=bool(figure("sync_wakes_move")),
        knows_siblings={"aware": True, "blind": False}.get(box.ht, bool(figure("sched_knows_siblings"))),
    )


class System(SystemContents):
    """A booted kernel. `kernel` holds its state, `kernel.machine` the box under it."""

    def __init__(self, spec: KernelSpec, box: Box, design: type[ReverseMap] | None = None) -> None:
        hardware = _hardware(spec, box)
        given = None if box.boot_use is None else _whole_pages(box.boot_use, "boot use")
        design = design or spec.design_class()
        siblings = box.ht != "off"
        book = (
            box.prices if isinstance(box.prices, PriceBook) else find_prices(box.prices or book_name(siblings=siblings))
        )
        self.spec, self.box = spec, box
        word = hardware.paging.word_bytes
        self.boot_use = use = BootUse.of(spec, hardware, design, given)
        layout = Layout(
            lowmem_bytes=hardware.paging.lowmem_bytes,
            image=use.image,
            mem_map=use.mem_map,
            rule=WatermarkRule(spec.figure("watermarks", word)),
            per_cpu_lists=bool(spec.figure("per_cpu_lists", word)),
            one_lru=bool(spec.figure("one_lru", word)),
            pages_min=box.pages_min,
        )
        slub = bool(spec.figure("slub", word))
        rules = _rules(spec, box, word)
        sched, locks = _sched_rules(spec, box, word), lock_order(design, rules.file_lock)
        encoding = ENCODINGS[EntryEra(spec.figure("pte_encoding", word))][hardware.arch]
        devices = swap_at_boot(box.swap, rules, encoding)
        hardware = replace(hardware, swap_bytes=sum(device.promised for device in devices) << PAGE_SHIFT)
        tlb = TlbRules(
            switch_clears_mask=bool(spec.figure("switch_mm_clears_mask", word)),
            spares_lazy_cpus=bool(spec.figure("lazy_cpus_spared", word)),
        )
        price_list = book.price_list(spec.software)
        self.machine = Machine(hardware, price_list, sched, layout, encoding, locks, slub=slub, tlb=tlb)
        use.take(self.machine)
        self.kernel = Kernel(
            self.machine,
            rules,
            design(self.machine),
            spec.walk_rules(word),
            *_file_index(spec, box, hardware.paging),
            overcommit=OvercommitMode(box.overcommit),
            overcommit_ratio=box.overcommit_ratio,
        )
        self.swaps = Swaps(self.kernel, devices)
        """Its swap areas, as /proc/swaps has them."""
        reclaims = bool(spec.reclaim) if box.reclaim is None else box.reclaim
        self.killer = self.start_reclaim() if reclaims else None

    def start_reclaim(self) -> SignallingKiller:
        """From now on who finds no memory makes room as this kernel did: in swap, if there is any, and at last by killing somebody. Raises UsageError."""
        reclaim = self.spec.reclaim_class()
        if reclaim is None:
            raise UsageError(f"the reclaim of {self.spec.name} is not here: try 2.4.21, or 2.6.2 to 2.6.7")
        killer = SignallingKiller(self.kernel)
        reclaim(self.kernel, self.spec.reclaim_rules(self.machine.paging.word_bytes), killer.out_of_memory)
        return killer

    def uname(self) -> Uname:
        """What uname(2) says, of a kernel that was compiled on the day of its release. The release is cut at 64 characters, as Linux has room."""
        return uname_of(self.spec, self.machine.paging.word_bytes)

    def proc_version(self) -> str:
        """The line of /proc/version. Source: 2.6.2 init/version.c, linux_banner."""
        uname = self.uname()
        return f"{uname.sysname} version {uname.release} (rmaplab@{uname.nodename}) (no compiler) {uname.version}\n"

    def meminfo(self) -> dict[str, int]:
        """/proc/meminfo in KiB, by this kernel's names and in its order; mm/proc_meminfo.py says what is left out. O(frames)."""
        return meminfo(self.kernel, MeminfoEra(self.figure("proc_meminfo")))

    def proc_meminfo(self) -> str:
        """The same as the kernel prints it."""
        return meminfo_text(self.kernel, MeminfoEra(self.figure("proc_meminfo")))

    def vmstat(self) -> dict[str, int]:
        """/proc/vmstat since boot, likewise; of 2.4 what /proc/stat has of it (mm/proc_vmstat.py). O(frames)."""
        return vmstat(self.kernel, VmstatEra(self.figure("proc_vmstat")))

    def proc_vmstat(self) -> str:
        """The same as the kernel prints it."""
        return vmstat_text(self.kernel, VmstatEra(self.figure("proc_vmstat")))

    def figure(self, name: str) -> int:
        """One figure of its kernel, on this box (rmaplab kernels NAME)."""
        return self.spec.figure(name, self.machine.paging.word_bytes)

    def spawn(self, program: Program | None = None, *, root: bool = False) -> Task:
        """A first task with an empty address space. With a program it runs when run() is called, else you drive it.

        It is nobody in particular, without capabilities; or `root`, which has them all, and again after an execve.
        """
        task = spawn(self.kernel, program)
        if root:
            set_user(self.kernel, task, 0)
            task.limits.may_lock = True
        return task

    def run(self, seconds: float | None = None) -> None:
        """Run all programs until none can go on, or for so many seconds of simulated time. Raises what the machine cannot do: NoMemory."""
        self.machine.sched.run(None if seconds is None else self.machine.sched.now_ns + int(seconds * 10**9))

    def close(self) -> None:
        """Let go of programs that cannot go on, after NoMemory say: its RAM and its swap files are the host's again. Not to be used after."""
        self.swaps.close()
        self.machine.sched.abandon()
        if self.userland is not None:
            self.userland.close()

    def watch(self, listener: Listener | None) -> None:
        """Tell `listener` of every point at which another task may act: a lock is about to be taken, memory is asked for. None ends it.

        Work goes page by page then, every lock is really taken, and the listener may act at once as somebody else: through the tasks of
        this system, or the functions of mm/. docs/locking.md says what is assumed.
        """
        self.machine.watch(listener)

    def swapon(self, what: int | str | Path) -> int:
        """One more swap area, "64M@5" or "./swapfile" (kernels/swap_space.py). Returns its number. Raises UsageError, SyscallError."""
        return self.swaps.swapon(what)

    def swapoff(self, what: int | str | Path) -> None:
        """An area, by its number or its file: what lies there comes back, and it is gone. Raises SyscallError (EINVAL, ENOMEM, EINTR), NoMemory."""
        self.swaps.swapoff(what)

    def who_maps(self, what: Task | AddressSpace, where: int) -> list[Mapping]:
        """Who maps the page that a task has at address `where`, or page `where` of a file, by this kernel's reverse map.

        Empty where nothing is mapped, and for the zero page, which no kernel tracks. A private copy is not the file's page.
        """
        if isinstance(what, AddressSpace):
            return list(self.kernel.rmap.walk(what.pages[where])) if where in what.pages else []
        task, address = what, where
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
