"""Living through a fork history in the model, under any design.

    births in order:    parent writes what the child's line shows --fork--> child moves and maps what its own line needs
    then, everybody:    unmap what is not in the census, map and write what is its own only, give pages back, set access

Private anonymous memory stands in for file memory that has anonymous pages, and stays writable until the end. What had been
mapped elsewhere and moved (its index tells) is mapped there and moved, where there is room. Neighbours that were not one
mapping get different flags (MAP_STACK, MAP_NORESERVE), so that the kernel does not merge them. A call that fails leaves its
part undone: whoever compares the outcome with the census sees it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import SegmentationFault, SyscallError
from rmaplab.kernels.system import System, boot
from rmaplab.lab.census.family import Piece
from rmaplab.lab.census.fork_history import History
from rmaplab.machine.arrays import I64
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_STACK,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
    VM_ACCESS,
)
from rmaplab.objects.graph import NONE
from rmaplab.units import PAGE_SIZE

KERNEL = "6.18"
COLOURS = (0, MAP_STACK, MAP_NORESERVE, MAP_STACK | MAP_NORESERVE)
SPARE_BYTES = 1 << 30
VMA_BYTES = 4 * PAGE_SIZE  # with what it hangs on, and its first fault's page
TABLE_SHIFT = 21  # what a leaf table spans
READ_WRITE = PROT_READ | PROT_WRITE
_NOTHING: I64 = np.empty(0, np.int64)


def relive(
    design: str, history: History, *, complete: bool, tick: Callable[[str], object] = str
) -> tuple[System, list[Task]]:
    """A machine that has been through the history under a design, and the tasks by node. Raises UsageError for an unknown design.

    `complete`: what a process does not map in the history it gives back in the end. `tick` hears of every process twice.
    """
    system = boot(f"{KERNEL}+{design}", ram=_ram(history), overcommit=1)
    return system, _Player(system, history, complete=complete, tick=tick).play()


def _ram(history: History) -> int:
    """Enough: NORESERVE on the host, committed where it is written. A child has the tables of all that its parents have written."""
    written = np.concatenate([_NOTHING, *history.writes.values()])
    first = np.array([piece.address for node in history.nodes for piece in (*node.early, *node.late)], np.int64)
    tables = len(np.unique(np.concatenate([written, first]) >> TABLE_SHIFT))
    vmas = len(first) * VMA_BYTES
    needed = len(history.entries.row) * 2 * PAGE_SIZE + len(history.nodes) * (2 * tables + 16) * PAGE_SIZE + vmas
    return 1 << (needed + SPARE_BYTES - 1).bit_length()


class _Player:
    """Plays a history: births in order, then what everybody did to its own memory. What fails is left undone: the comparison sees it."""

    def __init__(self, system: System, history: History, *, complete: bool, tick: Callable[[str], object]) -> None:
        self.system, self.history, self.complete, self.tick = system, history, complete, tick
        self.tasks: dict[int, Task] = {}
        self.prepared: list[set[Piece]] = [set() for _ in history.nodes]

    def play(self) -> list[Task]:
        """The tasks, by node."""
        nodes = self.history.nodes
        unborn = [len(node.children) for node in nodes]
        for i in self.history.order:
            node = nodes[i]
            inherited: list[Piece] = []
            if node.parent == NONE:
                self.tasks[i] = self.system.spawn()
            else:
                inherited = self._before_fork(node.parent, i)
                self.tasks[i] = self.tasks[node.parent].fork()
            self._settle(i, inherited)
            self.tick("processes are born")
            unborn[node.parent] -= node.parent != NONE
            if node.parent != NONE and not unborn[node.parent] and nodes[node.parent].ended_early:
                self.tasks[node.parent].exit()
        for i, node in enumerate(nodes):
            if node.mm == NONE and not node.ended_early:
                self.tasks[i].exit()
        for i, node in enumerate(nodes):
            if node.mm != NONE:
                self._finish(i)
            self.tick("processes see to their memory")
        return [self.tasks[i] for i in range(len(nodes))]

    def _before_fork(self, i: int, child: int) -> list[Piece]:
        """The parent writes what the child's line shows; memory to be inherited must have its anon_vma. What the child gets."""
        task, writes = self.tasks[i], self.history.writes.get((i, child), _NOTHING)
        _write(task, writes)
        node = self.history.nodes[i]
        roots = {piece.root for piece in self.history.nodes[child].early}
        for piece in node.early:
            if piece not in self.prepared[i]:
                low, high = np.searchsorted(writes, (piece.address, piece.end))
                if low == high and piece.root in roots:
                    _write(task, np.array([piece.address]))
                if low < high or piece.root in roots:
                    self.prepared[i].add(piece)
        return node.early

    def _settle(self, i: int, inherited: Sequence[Piece]) -> None:
        """Move what the parent had elsewhere, and map what neither had."""
        by_root: dict[int, list[Piece]] = {}
        for piece in inherited:
            by_root.setdefault(piece.root, []).append(piece)
        task, new = self.tasks[i], []
        for piece in self.history.nodes[i].early:
            sources = [p for p in by_root.get(piece.root, []) if _covers(p, piece)]
            source = next((p for p in sources if p.shift == piece.shift), sources[0] if sources else None)
            if source is None:
                self._map(task, piece)
                new.append(piece)
                continue
            self.prepared[i].add(piece)
            there = piece.address + (source.shift - piece.shift << 12)
            if there != piece.address:
                _move(task, there, piece)
        self._split(i, new)

    def _map(self, task: Task, piece: Piece) -> None:
        """Memory of nobody else's. If its index says that it was mapped elsewhere and moved, so be it, where there is room."""
        colour = COLOURS[self.history.colour.get(piece.root, 0)]
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | colour
        origin, mm = piece.first << 12, task.mm
        length = piece.nr << 12
        elsewhere = piece.moved and mm is not None and origin + length <= self.system.machine.paging.task_size
        if elsewhere and mm is not None and (mm.overlapping(origin, origin + length) or _meet(origin, piece)):
            elsewhere = False
        try:
            task.mmap(length, READ_WRITE, flags, origin if elsewhere else piece.address)
        except SyscallError:
            return
        if elsewhere:
            _prepare(task, origin)
            _move(task, origin, piece)

    def _split(self, i: int, pieces: Sequence[Piece]) -> None:
        """What was mapped as one and faulted gets its borders, and can still be written: as a loader does after its relocations."""
        task = self.tasks[i]
        for piece in pieces:
            if piece.access & VM_ACCESS != READ_WRITE:
                _prepare(task, piece.address)
                self.prepared[i].add(piece)
                _call(task.mprotect, piece.address, piece.nr << 12, VM_ACCESS)

    def _finish(self, i: int) -> None:
        """Let go of what is not in the census, map what is its own only, write, give back pages, set access."""
        node, task = self.history.nodes[i], self.tasks[i]
        for piece in node.early:
            if piece not in self.prepared[i]:  # parts of one mapping: they share the anon_vma of the first fault
                _prepare(task, piece.address)
                self.prepared[i].add(piece)
        kept = sorted(node.kept, key=lambda piece: piece.address)
        low = 0
        for end, following in [*((p.address, p.end) for p in kept), (self.system.machine.paging.task_size, 0)]:
            if end > low:
                _call(task.munmap, low, end - low)
            low = following
        for piece in node.late:
            self._map(task, piece)
        self._split(i, node.late)
        writes = self.history.writes.get((i, NONE), _NOTHING)
        _write(task, writes)
        for piece in (*node.kept, *node.late):
            low, high = np.searchsorted(writes, (piece.address, piece.end))
            early = any(_covers(p, piece) for p in self.prepared[i] if p.root == piece.root)
            if low == high and not early:
                _prepare(task, piece.address)
        if self.complete:
            self._give_back(i)
        for piece in (*node.kept, *node.late):
            _call(task.mprotect, piece.address, piece.nr << 12, piece.access & VM_ACCESS)

    def _give_back(self, i: int) -> None:
        task, entries = self.tasks[i], self.history.entries
        if task.mm is None:
            return
        there = read_page_tables(self.system.machine, task.mm.pgd)[0].addresses
        for start, end in _runs(np.setdiff1d(there, entries.address[entries.node == i])):
            _call(task.madvise, start, end - start, MADV_DONTNEED)


def _covers(one: Piece, other: Piece) -> bool:
    """Whether the index where `other` begins is in `one`."""
    return one.root == other.root and one.first <= other.first < one.first + one.nr


def _meet(origin: int, piece: Piece) -> bool:
    return origin < piece.end and piece.address < origin + (piece.nr << 12)


def _runs(addresses: I64) -> list[tuple[int, int]]:
    """(start, end) of pages in a row, from sorted addresses."""
    if not len(addresses):
        return []
    cuts = np.flatnonzero(np.diff(addresses) != PAGE_SIZE)
    starts = addresses[np.concatenate([[0], cuts + 1])]
    ends = addresses[np.concatenate([cuts, [len(addresses) - 1]])] + PAGE_SIZE
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _write(task: Task, addresses: I64) -> None:
    for start, end in _runs(addresses):
        try:
            task.touch(start, end - start, write=True)
        except SegmentationFault:
            continue


def _prepare(task: Task, address: int) -> None:
    """A first fault, and the page given back: the anon_vma stays."""
    _write(task, np.array([address]))
    _call(task.madvise, address, PAGE_SIZE, MADV_DONTNEED)


def _move(task: Task, start: int, piece: Piece) -> None:
    length = piece.nr << 12
    _call(task.mremap, start, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, piece.address)


def _call(call: Callable[..., Any], *arguments: int) -> None:
    try:
        call(*arguments)
    except SyscallError:
        return
