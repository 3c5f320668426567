"""The live kernel's graph: what bpf/task_vma.bpf.c writes, as objects/graph.py has it.

    kernel --iterator--> rows of 64 bytes --decode--> columns with pointers --build--> Graph, pointers renamed
                            | CUT? put (VMA, place) into the map, run again, append
                            +-- torn? dump again, up to TRIES times; how often is in Dump.torn

A dump is not atomic: each VMA is read under its mmap_lock, but processes fork and exit between one and the next. So every dump is
checked: what was read twice must be the same twice, and Graph.check() must find nothing. What counters count and nobody shows
(a process half made or half gone, pid 1, other PID namespaces) is not torn but hidden; it is waited out once, then reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.bpf.loader import Iterator
from rmaplab.host.bpf.syscall import update_map
from rmaplab.objects.graph import I64, NONE, AnonVmas, Chains, Files, Graph, Processes, Vmas, build

TRIES = 5
RESUME_AT_ONCE = 60_000  # the map holds 65,536
VMA, VMA_MORE, CHAIN, CUT, RESUMED = range(1, 6)

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dump:
    """A graph, and the kernel's pointers by row of it: they say which anon_vma a page's mapping means.

    `torn` is how many dumps were thrown away before this one, `broken` what is still wrong with it (empty if nothing), `resumed`
    the number of VMAs whose chain took more than one run. `mapping_pointers` are the files' address_spaces.
    """

    graph: Graph
    vma_pointers: I64
    anon_vma_pointers: I64
    mapping_pointers: I64
    torn: int = 0
    broken: Sequence[str] = ()
    resumed: int = 0
    hidden: tuple[int, int] = (0, 0)
    """Children and VMAs that anon_vmas count and nobody shows."""


class VmaDumper:
    """The iterator, loaded once, dumped as often as wanted. A context manager. Raises BpfUnavailable."""

    def __init__(self) -> None:
        self._iterator = Iterator("task_vma")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the program."""
        self._iterator.close()

    def dump(self) -> Dump:
        """The graph as it is now: the first dump that is whole and hides nothing new, or the last of TRIES. O(n log n)."""
        torn, before = 0, None
        for _ in range(TRIES):
            rows, resumed, lost = self._read()
            dump = decode(rows)
            broken = [*dump.broken, *dump.graph.check()]
            if lost:
                broken.append(f"{lost:,} VMAs went before their chain was read to its end")
            hidden = dump.graph.hidden()
            dump = replace(dump, torn=torn, broken=broken, resumed=resumed, hidden=hidden)
            if not broken and hidden in ((0, 0), before):
                break
            torn += bool(broken)
            before = hidden
        return dump

    def _read(self) -> tuple[Rows, int, int]:
        """All rows of one dump, the rest of chains that were cut behind them; how many VMAs were resumed, and how many in vain."""
        rows = _as_rows(self._iterator.read())
        cut = _cut(rows)
        parts, resumed, lost = [rows], len(cut), 0
        while len(cut):
            with Iterator("task_vma") as again:  # its map begins empty
                now, cut = cut[:RESUME_AT_ONCE], cut[RESUME_AT_ONCE:]
                resume = again.maps["resume"]
                update_map(resume, 0, 1)
                for vma, place in now.tolist():
                    update_map(resume, vma, place)
                more = _as_rows(again.read())
            lost += len(now) - len(np.intersect1d(now[:, 0], more[_kinds(more) == RESUMED, 1]))
            parts.append(more)
            cut = np.concatenate([cut, _cut(more)])
        return (np.concatenate(parts) if resumed else rows), resumed, lost


def _as_rows(data: bytearray) -> Rows:
    return np.frombuffer(data, np.int64).reshape(-1, 8)


def _kinds(rows: Rows) -> I64:
    return rows[:, 0] & 0xFFFFFFFF


def _cut(rows: Rows) -> Rows:
    """(VMA, place) of each chain that was cut. A process that was shown twice, by threads, is so with the same VMA."""
    return np.unique(rows[_kinds(rows) == CUT][:, 1:3], axis=0)


def decode(rows: Rows) -> Dump:
    """A graph from the rows of one dump. `broken` says what the rows alone show to be wrong. O(n log n)."""
    kinds = _kinds(rows)
    first, more, chains = rows[kinds == VMA], rows[kinds == VMA_MORE], rows[kinds == CHAIN]
    if len(first) != len(more):
        raise BpfUnavailable("what our BPF program wrote makes no sense: rebuild it with make bpf")
    processes = Processes(
        first[:, 0] >> 32,
        more[:, 0] >> 32,
        np.ascontiguousarray(more[:, 4:6]).view("S16").reshape(-1),
        more[:, 6],
        first[:, 1],
    )
    begins = (kinds == VMA) | (kinds == RESUMED)
    beginning = np.where(kinds[begins] == VMA, rows[begins, 2], rows[begins, 1])
    owner = beginning[np.cumsum(begins)[kinds == CHAIN] - 1]

    # tasks that share an mm all show its VMAs; every anon_vma_chain is in one list only
    pointers, shown, which = np.unique(first[:, 2], return_index=True, return_inverse=True)
    changed = (first[:, 1:] != first[shown][which.reshape(-1), 1:]).any(axis=1)
    if len(shown) < len(first):
        once = np.sort(np.unique(chains[:, 7], return_index=True)[1])
        first, more, chains, owner = first[shown], more[shown], chains[once], owner[once]
        pointers, shown = first[:, 2], np.arange(len(first))
    vma = shown[np.searchsorted(pointers, owner).clip(max=len(pointers) - 1)] if len(pointers) else owner

    names, said, which = np.unique(chains[:, 1], return_index=True, return_inverse=True)
    unlike = (chains[:, 3:7] != chains[said][which.reshape(-1), 3:7]).any(axis=1)
    files, file = _files(more)
    anon = chains[said]
    built = build(
        processes,
        Vmas(first[:, 1], first[:, 3], first[:, 4], first[:, 5], first[:, 6], first[:, 7], file),
        AnonVmas(anon[:, 3], anon[:, 4], anon[:, 5], anon[:, 6], anon[:, 0] >> 32),
        Chains(vma, chains[:, 1]),
        Files(files[:, 1], files[:, 2]),
        names,
    )
    found = {
        "VMAs changed between two readings": changed,
        "anon_vma_chains were found in another VMA's list": (chains[:, 2] != owner) | (first[vma, 2] != owner),
        "anon_vma_chains saw their anon_vma changed since another did": unlike,
        "VMAs do not hang on their own anon_vma": (first[:, 7] != 0) & ~np.isin(first[:, 7], names),
        "VMAs are of an address space that its process has left": ~np.isin(
            first[:, 1], processes.mm[_leaders(processes)]
        ),
    }
    broken = [f"{int(wrong.sum()):,} {what}" for what, wrong in found.items() if wrong.any()]
    return Dump(built.graph, first[built.vmas, 2], names[built.anon_vmas], files[:, 0], broken=broken)


def decode_files(data: bytearray) -> Rows:
    """(address_space, device, inode) of every file that is mapped in the rows of a dump."""
    rows = _as_rows(data)
    return _files(rows[_kinds(rows) == VMA_MORE])[0]


def _leaders(processes: Processes) -> I64:
    """The rows that build() keeps: of each pid the first task."""
    order = np.lexsort((processes.start_time_ns, processes.pid))
    return order[np.unique(processes.pid[order], return_index=True)[1]]


def _files(more: Rows) -> tuple[Rows, I64]:
    """Mapped files as rows (address_space, device, inode), and by VMA which of them it maps, or NONE."""
    named = np.stack([more[:, 1], more[:, 3] & 0xFFFFFFFF, more[:, 2]], axis=1)
    maps = np.flatnonzero(more[:, 1])
    _, at, which = np.unique(named[maps, 0], return_index=True, return_inverse=True)
    file = np.full(len(more), NONE)
    file[maps] = which.reshape(-1)
    return named[maps][at], file
