"""A machine that stands still, as text: what a debugger's `monitor` shows of it. Nothing is counted for looking."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rmaplab.kernels.system import System
from rmaplab.lab.explain.picture import LEGEND, draw_page
from rmaplab.machine import frames as frame_flags
from rmaplab.machine.entries import ACCESSED, DIRTY, PFN_MASK, PRESENT, RW, USER, EntryKind
from rmaplab.machine.locks import Locks
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import MmStruct
from rmaplab.report.results import add_counts
from rmaplab.report.tables import DASH, new_table, plain
from rmaplab.rmap.brute_force import mappings_of
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size

FLAG_NAMES = {
    value: name
    for name, value in vars(frame_flags).items()
    if name.startswith(("PG_", "BH_")) and name != "PG_SLOW"
}  # fmt: skip
ENTRY_FLAGS = ((PRESENT, "present"), (RW, "writable"), (USER, "user"), (ACCESSED, "accessed"), (DIRTY, "dirty"))
LEVELS = {2: ("pgd", "pte"), 3: ("pgd", "pmd", "pte"), 4: ("pgd", "pud", "pmd", "pte")}
DUMPED = 16
"""Bytes in a line."""


@contextmanager
def unnoticed(k: Kernel) -> Iterator[None]:
    """Who looks is nobody, holds nothing, and is not counted."""
    ledger = k.machine.ledger
    before = ledger.snapshot()
    try:
        with k.machine.locks.apart("gdb"):
            yield
    finally:
        ledger.restore(before)


def show_vmas(mm: MmStruct | None) -> str:
    """A task's VMAs, one a line."""
    if mm is None:
        return "no address space\n"
    lines = [repr(vma).rsplit(" of ", 1)[0].strip("<>") for vma in mm.vmas]
    return "\n".join([*lines, f"VMAs: {len(lines)}, pages there: {mm.rss:,}", ""])


def show_rmap(k: Kernel, mm: MmStruct | None, address: int) -> str:
    """Who maps the page at an address of a task: by page tables, and what the kernel's reverse map says of it. O(all page tables)."""
    is_there = mm is not None and mm.pgd and 0 <= address < k.machine.paging.task_size
    entry, pte = map(int, lookup(*k.machine.geometry, mm.pgd, address)) if mm is not None and is_there else (0, -1)
    pfn = entry >> PAGE_SHIFT & PFN_MASK
    if pte < 0 or not entry & k.machine.mapped:
        return f"{address:x}: {_what_else(k, entry) if pte >= 0 else 'no page table'}: nobody's page\n"
    return show_page(k, pfn)


def show_page(k: Kernel, pfn: int) -> str:
    """A frame, its owner and all its mappings. O(all page tables)."""
    frames = k.machine.frames
    if not 0 <= pfn < frames.nr:
        return f"no frame {pfn}: there are {frames.nr:,}\n"
    flags = int(frames.flags[pfn])
    names = [name for bit, name in FLAG_NAMES.items() if flags & bit]
    zone = next((zone.name for zone in k.machine.allocator.zones if zone.start <= pfn < zone.end), DASH)
    lines = [
        f"frame {pfn} at {pfn << PAGE_SHIFT:x}, zone {zone}: count {frames.count[pfn]}, mapcount {frames.mapcount[pfn]}, {' '.join(names) or 'no flags'}",
        f"owner: {_owner(k, pfn)}",
    ]
    told = [(mapping.mm.pid, mapping.address) for mapping in k.rmap.walk(pfn)] if pfn else []
    truth = [(mapping.mm.pid, mapping.address) for mapping in mappings_of(k.machine, k.mms.values(), pfn)]
    if truth and pfn:
        lines += ["", *draw_page(k, pfn), "", LEGEND.splitlines()[0]]
    if pfn:
        same = "as in the page tables" if sorted(told) == sorted(truth) else f"of {len(truth)} in the page tables"
        where = ", ".join(f"pid {pid} at {address:x}" for pid, address in told[:8])
        more = f" ... {len(told)} in all" if len(told) > 8 else ""
        lines.append(f"{k.design.name} says: {where or 'nobody'}{more}: {same}")
    return "\n".join([*lines, ""])


def _owner(k: Kernel, pfn: int) -> str:
    frames = k.machine.frames
    mapping, index = int(frames.mapping[pfn]), int(frames.index[pfn])
    if not mapping:
        return "none"
    file = k.rmap.file_of(pfn)
    return (
        f"page {index} of a file" if file is not None else f"{mapping:x}, an object of {k.design.name}; index {index:x}"
    )


def _what_else(k: Kernel, entry: int) -> str:
    """What an entry is that maps no page."""
    encoding = k.machine.encoding
    kind = encoding.kind(entry)
    if kind is EntryKind.SWAP:
        area, slot = encoding.swap_slot(entry)
        return f"in swap, slot {slot} of area {area}"
    if kind is EntryKind.FILE:
        return f"page {encoding.file_pgoff(entry)} of its file"
    return "a marker" if kind is EntryKind.MARKER else "nothing"


def show_pte(k: Kernel, mm: MmStruct | None, address: int) -> str:
    """The way down from the top table, level by level."""
    machine = k.machine
    if mm is None or not mm.pgd:
        return "no page tables\n"
    paging = machine.paging
    if not 0 <= address < paging.task_size:
        return f"{address:x} is no address of a task\n"
    bits, table, lines = paging.bits, mm.pgd, list[str]()
    for level, name in enumerate(LEVELS[paging.levels]):
        shift = PAGE_SHIFT + bits * (paging.levels - 1 - level)
        slot = address >> shift & (1 << bits) - 1
        at = table + slot * paging.entry_bytes
        entry = int(machine.words[at // paging.entry_bytes])
        is_last = level == paging.levels - 1
        lines.append(
            f"{name}  [{slot:3}] at {at:x}: {entry & (1 << 8 * paging.entry_bytes) - 1:x}{_flags(k, entry, is_last)}"
        )
        if is_last or not entry & PRESENT:
            break
        table = (entry >> PAGE_SHIFT & PFN_MASK) << PAGE_SHIFT
    return "\n".join([*lines, ""])


def _flags(k: Kernel, entry: int, is_last: bool) -> str:
    pfn = entry >> PAGE_SHIFT & PFN_MASK
    if not is_last:
        return f"  table in frame {pfn}" if entry & PRESENT else "  none"
    if not entry & k.machine.mapped:
        return f"  {_what_else(k, entry)}"
    return f"  frame {pfn}: {', '.join(name for bit, name in ENTRY_FLAGS if entry & bit)}"


def show_lru(k: Kernel) -> str:
    """Lists and free pages by zone."""
    allocator = k.machine.allocator
    table = new_table(
        "pages by zone",
        "zone|>free|>per CPU|>min|>low|>high|>inactive|>active",
        caption=f"{k.lru_add.references().size} pages wait in pagevecs. {'' if k.lru_add.lists is not None else 'This kernel has no lists here.'}".strip(),
    )
    for i, zone in enumerate(allocator.zones):
        marks = zone.marks
        inactive, active = allocator.lru.nr[i].tolist()
        numbers = (zone.nr_free, zone.nr_listed, marks.min, marks.low, marks.high, inactive, active)
        table.add_row(zone.name, *(f"{nr:,}" for nr in numbers))
    return plain(table)


def show_locks(locks: Locks) -> str:
    """Who holds what, then what was counted by class."""
    lines = [
        f"{lock.type.name} of {lock.of} is held{'' if lock.writer is not None else ' by readers'}, {len(lock.waiters or ())} wait for it"
        for lock in dict.fromkeys(lock for owner in locks.holders.values() for lock in owner.held)
    ]
    table = new_table(None, "class|>reads|>writes|>tries in vain|>waits|>waited s|>held s|>longest s|_most fought over")
    for name, row in locks.as_json().items():
        table.add_row(
            name,
            *(f"{row[what]:,}" for what in ("reads", "writes", "trylock_failures", "waits")),
            *(f"{row[what]:.6f}" for what in ("wait_s", "held_s", "held_max_s")),
            row["most_fought_over"] or DASH,
        )
    return "\n".join([*(lines or ["nobody holds any"]), plain(table)])


def show_tasks(system: System, rows: Iterable[tuple[int, str, str]]) -> str:
    """Tasks: `rows` are number, name and state of each."""
    k = system.kernel
    size = k.rules.thread_stack_bytes
    table = new_table(
        "tasks",
        ">thread|name|state|>parent|>VMAs|>pages|>user s|>sys s|kernel stack",
        caption=f"A kernel stack is THREAD_SIZE, {size:,} bytes; thread_info lies at its foot. {len(k.tasks):,} tasks, {k.nr_alive:,} alive.",
    )
    for number, name, state in rows:
        task = k.tasks.get(number)
        if task is None:
            table.add_row(f"{number}", name, state, *[DASH] * 6)
            continue
        mm = task.mm
        vmas, pages = (DASH, DASH) if mm is None else (f"{len(mm.vmas):,}", f"{mm.rss:,}")
        parent = f"{task.parent.pid}" if task.parent is not None else DASH
        times = (f"{ns / 10**9:.6f}" for ns in (task.user_ns, task.system_ns))
        first = int(task.stack[0]) << PAGE_SHIFT
        table.add_row(f"{number}", name, state, parent, vmas, pages, *times, f"{first:x}-{first + size:x}")
    return plain(table)


def show_ledger(k: Kernel) -> str:
    """Everything that was counted, as `rmaplab run` shows it."""
    table = new_table(None, "what|>value|_")
    add_counts(table, dict(sorted(k.machine.ledger.counts.items())))
    return plain(table)


def show_bytes(place: int, data: bytes) -> str:
    """A dump, sixteen bytes a line."""
    lines = []
    for at in range(0, len(data), DUMPED):
        part = data[at : at + DUMPED]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{place + at:08x}  {part.hex(' '):<{3 * DUMPED}} {text}")
    return "\n".join([*lines, ""]) if lines else "no such RAM\n"


def show_kernel(system: System) -> str:
    """Which kernel on which machine, and when."""
    hardware, sched = system.machine.hardware, system.machine.sched
    return (
        f"Linux {system.spec.name}, {system.kernel.design.name}, on {hardware.arch} with {format_size(hardware.ram_bytes)} of RAM and {hardware.cpus} CPUs\n"
        f"{sched.now_ns / 10**9:.6f} s of simulated time, {system.machine.allocator.nr_free:,} of {hardware.ram_bytes // PAGE_SIZE:,} pages free\n"
    )
