"""What a process holds, as /proc counts it: page tables from status, shared and private memory from smaps_rollup.

    /proc/PID/status         VmPTE                       anybody
    /proc/PID/smaps_rollup   Rss, Pss, Shared_*, ...     who may trace PID; the kernel walks all its page tables for it
    /proc/PID/maps           a line per VMA              as smaps_rollup

A process that ends meanwhile, or is not ours, has UNKNOWN in its columns, never a zero. Sources: Documentation/filesystems/proc.rst.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rmaplab.host.procfs import HostVma, ProcStatus, Unread, read_fields, read_maps, read_status
from rmaplab.machine.arrays import I64
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


def read_task(pid: int) -> ProcStatus | None:
    """Who a process is, or None if there is none."""
    status = read_status(pid)
    return None if isinstance(status, Unread) else status


def read_footprints(pids: Sequence[int]) -> Footprints:
    """Of all these processes. About 30 us each and 1 us per MiB resident."""
    rows = np.full((len(pids), len(Footprints._fields)), UNKNOWN, np.int64)
    for i, pid in enumerate(pids):
        status = read_fields(f"{pid}/status")
        rows[i, 0] = _bytes(status, "VmPTE")
        rollup = read_fields(f"{pid}/smaps_rollup")
        rows[i, 1:] = (
            _bytes(rollup, "Rss"),
            _bytes(rollup, "Pss"),
            _bytes(rollup, "Private_Clean", "Private_Dirty"),
            _bytes(rollup, "Shared_Clean", "Shared_Dirty"),
            _bytes(rollup, "Swap"),
        )
    return Footprints(*rows.T.copy())


def _bytes(fields: dict[str, str], *names: str) -> int:
    if any(name not in fields for name in names):
        return UNKNOWN
    return sum(int(fields[name].split()[0]) << 10 for name in names)


def graph_of_maps(pids: Sequence[int]) -> tuple[Graph, list[int]]:
    """What /proc/PID/maps knows of the graph: processes, VMAs and files, and no anon_vmas; and the PIDs that it would not show."""
    tasks: list[tuple[int, int, bytes]] = []
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
        tasks.append((pid, task.parent, task.comm.encode()))
        vmas += [_row(pid, vma, files) for vma in lines if vma.name != "[vsyscall]"]  # no VMA: a gate all share
    rows = np.array(vmas, np.int64).reshape(-1, 6)
    owners = np.array([task[0] for task in tasks], np.int64)
    none: I64 = np.zeros(0, np.int64)
    built = build(
        Processes(
            owners,
            np.array([task[1] for task in tasks], np.int64),
            np.array([task[2] for task in tasks], "S16"),
            np.zeros(len(tasks), np.int64),
            owners,
        ),
        Vmas(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 4], np.zeros(len(rows), np.int64), rows[:, 5]),
        AnonVmas(none, none, none, none, none),
        Chains(none, none),
        Files(np.array([device for device, _ in files], np.int64), np.array([inode for _, inode in files], np.int64)),
        none,
    )
    return built.graph, refused


def _row(pid: int, vma: HostVma, files: dict[tuple[int, int], int]) -> tuple[int, ...]:
    """(pid, start, end, pgoff, flags, file) of a line of maps; a file new to `files` is added to it."""
    major, minor = (int(part, 16) for part in vma.device.split(":"))
    file = files.setdefault((major << 20 | minor, vma.inode), len(files)) if vma.inode else NONE
    return pid, vma.start, vma.end, vma.offset_bytes >> 12, sum(_VM.get(letter, 0) for letter in vma.perms), file


def names_of_mappings(pid: int) -> dict[int, str]:
    """The names of what a process maps, by start address, as its maps shows them; nothing if it cannot be read."""
    lines = read_maps(pid)
    return {} if isinstance(lines, Unread) else {vma.start: vma.name for vma in lines if vma.name}
