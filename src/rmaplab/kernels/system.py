"""boot(): a kernel on a box. System: what one does with it."""

from __future__ import annotations

from rmaplab.errors import UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.prices import PROVISIONAL_2004
from rmaplab.kernels.spec import KernelSpec
from rmaplab.machine.machine import Hardware, Machine
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.paging import MAPPED, paging_format
from rmaplab.machine.sched import SchedRules
from rmaplab.mm.check import check
from rmaplab.mm.kernel import MM_LOCKS, Kernel
from rmaplab.mm.syscalls import Program, Task, spawn
from rmaplab.rmap.protocol import Mapping, ReverseMap
from rmaplab.units import PAGE_SHIFT, format_size, parse_size

MS = 1_000_000  # nanoseconds
LINES = (32, 64, 128)
MAX_CPUS = 32


def boot(
    kernel: str | KernelSpec,
    *,
    ram: int | str = "1G",
    swap: int | str = "0",
    cpus: int = 4,
    paging: str | None = None,
    l1_cache_bytes: int = 128,
    highpte: bool = True,
    design: type[ReverseMap] | None = None,
) -> System:
    """Boot a kernel, by name or as a KernelSpec, on a box.

    Sizes are bytes or "512M". `paging` is "i386", "i386-pae" (the default: the announcement's box) or "x86-64".
    `l1_cache_bytes` is the line of the box's CPUs, 128 on a Pentium 4; `highpte` says whether page tables may lie in high
    memory, which makes a pte_chain's slots 8 bytes wide under PAE. `design` replaces the kernel's reverse map.
    Free swap counts for overcommit; nothing is swapped out yet (NeedsReclaim). Raises UsageError.
    """
    spec = find_kernel(kernel) if isinstance(kernel, str) else kernel
    hardware = Hardware(
        ram_bytes=_whole_pages(ram, "RAM"),
        swap_bytes=_whole_pages(swap, "swap"),
        cpus=cpus,
        paging=paging_format(paging or "i386-pae"),
        l1_cache_bytes=l1_cache_bytes,
        highpte=highpte,
    )
    if not 1 <= cpus <= MAX_CPUS:
        raise UsageError(f"{cpus} CPUs: choose 1 to {MAX_CPUS}")
    if l1_cache_bytes not in LINES:
        raise UsageError(f"a cache line of {l1_cache_bytes} bytes: choose one of {', '.join(map(str, LINES))}")
    if hardware.ram_bytes > hardware.paging.max_ram_bytes:
        limit = format_size(hardware.paging.max_ram_bytes)
        raise UsageError(
            f"{format_size(hardware.ram_bytes)} of RAM: {hardware.arch} goes up to {limit} here; try --paging x86-64"
        )
    return System(spec, hardware, design or spec.design_class())


def _whole_pages(size: int | str, what: str) -> int:
    nr_bytes = parse_size(size)
    if nr_bytes < 0:
        raise UsageError(f"{nr_bytes} bytes of {what}: give a size of 0 or more")
    return nr_bytes >> PAGE_SHIFT << PAGE_SHIFT


class System:
    """A booted kernel. `kernel` holds its state, `kernel.machine` the box under it."""

    def __init__(self, spec: KernelSpec, hardware: Hardware, design: type[ReverseMap]) -> None:
        self.spec = spec
        paging = hardware.paging
        word = paging.word_bytes
        page_struct = spec.figure("page_struct_bytes", word) + design.page_bytes(paging, highpte=hardware.highpte)
        mem_map = (hardware.ram_bytes >> PAGE_SHIFT) * page_struct
        reserved = mem_map + spec.figure("image_bytes", word) + spec.figure("boot_use_bytes", word)
        sched = SchedRules(
            timeslice_ns=spec.figure("timeslice_ms", word) * MS,
            max_timeslice_ns=spec.figure("max_timeslice_ms", word) * MS,
            tick_ns=spec.figure("tick_us", word) * 1000,
            busy_balance_ns=spec.figure("busy_balance_ms", word) * MS,
            one_queue=bool(spec.figure("one_run_queue", word)),
            child_first=bool(spec.figure("child_runs_first", word)),
        )
        self.machine = Machine(hardware, PROVISIONAL_2004, sched, reserved, MM_LOCKS + design.lock_classes)
        self.kernel = Kernel(self.machine, spec.rules(word), design(self.machine))

    def spawn(self, program: Program | None = None) -> Task:
        """A first task with an empty address space. With a program it runs when run() is called, else you drive it."""
        return spawn(self.kernel, program)

    def run(self) -> None:
        """Run all programs until none can go on. Raises what the machine cannot do: NeedsReclaim."""
        self.machine.sched.run()

    def who_maps(self, task: Task, address: int) -> list[Mapping]:
        """Who maps the page that `task` has at `address`, by this kernel's reverse map.

        Empty where nothing is mapped, and for the zero page, which no kernel tracks.
        """
        if task.mm is None or not 0 <= address < self.machine.paging.task_size:
            return []
        entry, _ = lookup(*self.machine.geometry, task.mm.pgd, address)
        return list(self.kernel.rmap.walk(entry >> PAGE_SHIFT)) if entry & MAPPED else []

    def check(self) -> None:
        """Recompute everything that can be recomputed, and compare the reverse map with the judge. Raises KernelBug."""
        check(self.kernel)

    def __repr__(self) -> str:
        hardware = self.machine.hardware
        return (
            f"<Linux {self.spec.name} on {hardware.arch}, {format_size(hardware.ram_bytes)} RAM, {hardware.cpus} CPUs: "
            f"{len(self.kernel.tasks)} tasks>"
        )
