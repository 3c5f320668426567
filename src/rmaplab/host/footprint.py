"""What a process holds, as /proc counts it: page tables from status, shared and private memory from smaps_rollup.

    /proc/PID/status         VmPTE                       anybody; a BPF dump of VMAs has it too (mm->pgtables_bytes)
    /proc/PID/smaps_rollup   Rss, Pss, Shared_*, ...     who may trace PID; the kernel walks all its page tables for it
    /proc/PID/maps           a line per VMA              as smaps_rollup
    /proc/meminfo            the machine's own totals    anybody

A process that ends meanwhile, or is not ours, has UNKNOWN in its columns, never a zero. Sources: Documentation/filesystems/proc.rst.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rmaplab.host.procfs import PAGE_BYTES, HostVma, ProcStatus, Unread, read_fields, read_maps, read_proc, read_status
from rmaplab.host.rollups import read_rollups
from rmaplab.machine.arrays import I64, Bools
from rmaplab.objects.graph import NONE, UNKNOWN, AnonVmas, Chains, Files, Graph, Processes, Vmas, build

_VM = {"r": 1, "w": 2, "x": 4, "s": 8}  # VM_READ, VM_WRITE, VM_EXEC, VM_SHARED


class Footprints(NamedTuple):
    """Bytes by process, in the order of the graph's; UNKNOWN where we could not look."""

    page_tables: I64
    rss: I64
    pss: I64
    private: I64
    shared: I64
    swap: I64
    hugetlb: I64
    ksm: I64


class KnownMemory(NamedTuple):
    """By process, in the order of the graph's: bytes that need not be asked for, where they are `known`: nothing of it is swapped out, or hugetlb."""

    known: Bools
    rss: I64
    pss: I64
    private: I64
    ksm: I64


_ROLLUP = ((b"Rss",), (b"Pss",), (b"Private_Clean", b"Private_Dirty"), (b"Shared_Clean", b"Shared_Dirty"), (b"Swap",),
           (b"Private_Hugetlb", b"Shared_Hugetlb"), (b"KSM",))  # fmt: skip
_MEMINFO = {"page_tables": "PageTables", "anonymous": "AnonPages", "hugetlb": "Hugetlb"}
KSM = Path("/sys/kernel/mm/ksm")


def read_machine() -> dict[str, int]:
    """The machine's own totals in bytes, by name; what this kernel does not say is left out.

    ksm: what the processes see of merged pages; ksm_held: the pages that stand for it.
    """
    fields = {name.encode(): value.encode() for name, value in read_fields("meminfo").items()}
    text = b"".join(b"\n%s: %s" % pair for pair in fields.items())
    found = {name: _bytes(text, key.encode()) for name, key in _MEMINFO.items()}
    total, free = _bytes(text, b"SwapTotal"), _bytes(text, b"SwapFree")
    found["swap"] = UNKNOWN if UNKNOWN in (total, free) else total - free
    found["ram"] = _bytes(text, b"MemTotal")
    try:
        held, more = (int((KSM / name).read_text()) * PAGE_BYTES for name in ("pages_shared", "pages_sharing"))
        found |= {"ksm": held + more, "ksm_held": held}
    except (OSError, ValueError):
        pass
    return {name: value for name, value in found.items() if value != UNKNOWN}


def read_task(pid: int) -> ProcStatus | None:
    """Who a process is, or None if there is none."""
    status = read_status(pid)
    return None if isinstance(status, Unread) else status


def is_something_swapped_out() -> bool:
    """Of the whole machine; True where it does not say."""
    return read_machine().get("swap") != 0


def read_footprints(
    pids: Sequence[int], chosen: Bools, page_tables: I64 | None = None, memory: KnownMemory | None = None
) -> Footprints:
    """Of those processes that are `chosen`; what is not known of their `page_tables` and `memory`. About 35 us each and 1 us per MiB resident."""
    rows = np.full((len(pids), len(Footprints._fields)), UNKNOWN, np.int64)
    asked = np.flatnonzero(chosen)
    if memory is not None:
        known = asked[memory.known[asked]]
        rows[known, 1:] = _columns_of(memory, known)
    unknown = asked if memory is None else asked[~memory.known[asked]]
    of_them = [pids[i] for i in unknown.tolist()]
    for told in read_rollups(of_them, [name for names in _ROLLUP for name in names]):
        for column, parts in enumerate(_ROLLUP, 1):
            if set(parts) <= told.figures.keys():
                rows[unknown[told.places], column] = sum(told.figures[part] for part in parts) << 10
    if page_tables is None:
        statuses = (read_proc(f"{pids[i]}/status") for i in asked.tolist())
        said = [UNKNOWN if isinstance(status, Unread) else _bytes(status, b"VmPTE") for status in statuses]
        rows[asked, 0] = np.array(said, np.int64)
    else:
        rows[asked, 0] = page_tables[asked]
    return Footprints(*rows.T.copy())


def _columns_of(memory: KnownMemory, rows: I64) -> I64:
    """As Footprints has them, without page tables."""
    rss, pss, private, ksm = (column[rows] for column in memory[1:])
    none = np.zeros(len(rows), np.int64)
    return np.stack([rss, pss, private, rss - private, none, none, ksm], axis=1)


def _bytes(text: bytes, *names: bytes) -> int:
    """The sum of some lines "Name:   12 kB", none of them the first; UNKNOWN if one is not there."""
    total = 0
    for name in names:
        _, found, rest = text.partition(b"\n%s:" % name)
        if not found:
            return UNKNOWN
        total += int(rest[:32].split()[0]) << 10
    return total


def graph_of_maps(pids: Sequence[int]) -> tuple[Graph, list[int]]:
    """What /proc/PID/maps knows of the graph: processes, VMAs and files, and no anon_vmas; and the PIDs that it would not show."""
    tasks: list[tuple[int, int, bytes, int]] = []
    vmas: list[tuple[int, ...]] = []
    files: dict[tuple[int, int], int] = {}
    refused = []
    for pid in pids:
        task, lines = read_task(pid), read_maps(pid)
        if task is None or not task.has_memory:
            continue
        if isinstance(lines, Unread):
            refused += [pid] if lines is Unread.REFUSED else []
            continue
        tasks.append((pid, task.parent, task.comm.encode(), _start_time_ns(pid)))
        vmas += [_row(pid, vma, files) for vma in lines if vma.name != "[vsyscall]"]  # no VMA: a gate all share
    rows = np.array(vmas, np.int64).reshape(-1, 6)
    owners = np.array([task[0] for task in tasks], np.int64)
    none: I64 = np.zeros(0, np.int64)
    built = build(
        Processes(
            owners,
            np.array([task[1] for task in tasks], np.int64),
            np.array([task[2] for task in tasks], "S16"),
            np.array([task[3] for task in tasks], np.int64),
            owners,
        ),
        Vmas(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 4], np.zeros(len(rows), np.int64), rows[:, 5]),
        AnonVmas(none, none, none, none, none),
        Chains(none, none),
        Files(np.array([device for device, _ in files], np.int64), np.array([inode for _, inode in files], np.int64)),
        none,
    )
    return built.graph, refused


def _start_time_ns(pid: int) -> int:
    """When it began, to a tick, since boot (/proc/PID/stat, field 22: what stands after the name in brackets is counted); 0 if it has ended."""
    text = read_proc(f"{pid}/stat")
    fields = [] if isinstance(text, Unread) else text.rpartition(b")")[2].split()
    return int(fields[19]) * (1_000_000_000 // os.sysconf("SC_CLK_TCK")) if len(fields) > 19 else 0


def _row(pid: int, vma: HostVma, files: dict[tuple[int, int], int]) -> tuple[int, ...]:
    """(pid, start, end, pgoff, flags, file) of a line of maps; a file new to `files` is added to it."""
    major, minor = (int(part, 16) for part in vma.device.split(":"))
    file = files.setdefault((major << 20 | minor, vma.inode), len(files)) if vma.inode else NONE
    return pid, vma.start, vma.end, vma.offset_bytes >> 12, sum(_VM.get(letter, 0) for letter in vma.perms), file


def names_of_mappings(pid: int) -> dict[int, str]:
    """The names of what a process maps, by start address, as its maps shows them; nothing if it cannot be read."""
    lines = read_maps(pid)
    return {} if isinstance(lines, Unread) else {vma.start: vma.name for vma in lines if vma.name}
