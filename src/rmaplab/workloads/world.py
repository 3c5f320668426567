"""What a script made of memory, as either side tells it: results of operations, and the worlds between them.

    World     process A    VMAs     w+0..w+8 rw- shared file a+2      start, end, protection, other flags, which file from where on
                           pages    w+2  frame a  x2  exclusive  #3    present entries: address, frame, mapcount, what is in it
                           tables   3                                  page tables that the script's memory needs
              process B    ...

The two sides have the window at other addresses and use other frames. So addresses are those that both sides agree on
(places.py), and frames and files are numbered in the order in which they are met: equal worlds are equal up to renaming.

A side does not see everything (an ordinary user sees no frames): `sees` says what, and only what both see is compared. Of scripts with a file on
a disk no pages are: what is read ahead there, and in pieces of what size, is not modelled.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np

from rmaplab.calls.table import BIRTHS, DISK
from rmaplab.machine.arrays import I64
from rmaplab.objects.flags import (
    VM_ACCESS,
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MAYBE_GUARD,
    VM_MAYSHARE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_RAND_READ,
    VM_SEALED,
    VM_SEQ_READ,
    VM_SHARED,
    VM_WIPEONFORK,
)
from rmaplab.objects.graph import Graph
from rmaplab.workloads.places import REACH, W
from rmaplab.workloads.script import Op, Script

FLAG_NAMES = {  # the flags of VMAs that are compared
    VM_GROWSDOWN: "growsdown", VM_LOCKED: "locked", VM_LOCKONFAULT: "onfault", VM_SEQ_READ: "sequential", VM_RAND_READ: "random",
    VM_DONTCOPY: "dontfork", VM_ACCOUNT: "account", VM_NORESERVE: "noreserve", VM_WIPEONFORK: "wipeonfork",
    VM_DONTDUMP: "dontdump", VM_NOHUGEPAGE: "nohugepage", VM_MERGEABLE: "mergeable", VM_DROPPABLE: "droppable",
    VM_SEALED: "sealed", VM_SHARED: "shared", VM_MAYSHARE: "mayshare", VM_MAYBE_GUARD: "guarded",
}  # fmt: skip
KNOWN_FLAGS = VM_ACCESS | sum(FLAG_NAMES)
EVERYTHING = frozenset(
    {"flags", "pages", "words", "frames", "mapcounts", "exclusive", "tables", "borders", "locked", "codes"}
)


OF_PAGES = frozenset({"pages", "words", "frames", "mapcounts", "exclusive", "tables"})


def has_disk(script: Script) -> bool:
    """Whether one of its files is on a disk."""
    return any(op.call == "create" and op["where"] == DISK for op in script.ops)


def seen_of(script: Script, sees: frozenset[str]) -> frozenset[str]:
    """What of `sees` can be compared in this script."""
    return sees - OF_PAGES if has_disk(script) else sees


def stamp(number: int) -> int:
    """What the operation with this number writes to its first page; to the next ones, one more each."""
    return number << 20


class Circumstances(NamedTuple):
    """What is said of the host to who obeys the same script elsewhere.

    `privileged`: the first process is root. `m` and `h` are the regions' addresses, None where nobody knows. `promised` are the bytes of RAM
    and swap: so much at most is promised in one mapping; `swap` are those of swap. `overcommit`, `ratio` and `max_map_count` are vm.overcommit_memory,
    vm.overcommit_ratio and vm.max_map_count; None: the kernel's own. `own_pages` are what each process has mapped that no script knows of.
    """

    privileged: bool = True
    m: int | None = None
    h: int | None = None
    promised: int = 64 << 30
    swap: int = 0
    overcommit: int = 0
    ratio: int = 50
    max_map_count: int | None = None
    own_pages: int = 0


class Raw(NamedTuple):
    """One process as its side sees it.

    `vmas` are rows (start, end, flags, file, offset): a number of the side's for the file, 0 for none, and bytes; `pages` rows (address, pfn, zero page?, mapcount, exclusive?, first word); both in order of
    addresses, which are told already. `tables` counts page tables, of the script's memory and others that never change; `locked` are pages that count for
    RLIMIT_MEMLOCK.
    """

    vmas: I64
    pages: I64
    tables: int
    locked: int


ACCESSES = ("read", "write", "fetch", "copy_from_user", "copy_to_user")
ADDRESS, FRAME, MOVED, MAPCOUNT, EXCLUSIVE, WORD = range(6)
START, END, FLAGS, FILE, OFFSET = range(5)


@dataclass
class State:
    """One process: VMAs as in Raw, with files numbered; pages as rows (address, frame, moved?, mapcount, exclusive?, word); tables and locked pages, or None.

    Frame 0 is the zero page, others are numbered in the order in which they are met. "Moved" means that a load or a store has
    put another frame there than was there before: a copy.
    """

    vmas: I64
    pages: I64
    tables: int | None
    locked: int | None = None

    def same(self, other: "State", sees: frozenset[str]) -> bool:
        """Whether both are equal, in what is seen."""
        if "tables" in sees and self.tables != other.tables:
            return False
        if "locked" in sees and self.locked != other.locked:
            return False
        if not np.array_equal(seen_vmas(self.vmas, sees), seen_vmas(other.vmas, sees)):
            return False
        if "pages" not in sees:
            return True
        columns = seen_columns(sees)
        return np.array_equal(self.pages[:, columns], other.pages[:, columns])


World = Mapping[str, State]


@dataclass
class Record:
    """A script's results and worlds, one each per operation, up to `error` if there was one.

    `reasons` are the model's: why an operation failed, "" where it did not or nobody said. `graph` is the anon_vma graph of the window at the end, where somebody asked for it. `sees` says what the side shows of worlds, `around` under which circumstances it was.
    """

    script: Script
    sees: frozenset[str]
    around: Circumstances = field(default_factory=Circumstances)
    results: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    worlds: list[World] = field(default_factory=list)
    error: Exception | None = None
    graph: Graph | None = None


@cache
def seen_columns(sees: frozenset[str]) -> list[int]:
    """Which columns of State.pages mean something."""
    columns = {"frames": [FRAME, MOVED], "mapcounts": [MAPCOUNT], "exclusive": [EXCLUSIVE], "words": [WORD]}
    return [ADDRESS, *(column for name, those in columns.items() if name in sees for column in those)]


def seen_vmas(vmas: I64, sees: frozenset[str]) -> I64:
    """Flags where they are seen; where VMAs end only where that is comparable: else those that are alike are one."""
    mask = KNOWN_FLAGS if "flags" in sees else VM_ACCESS
    told = vmas.copy()
    told[:, FLAGS] &= mask
    if "borders" in sees or not len(told):
        return told
    before, after = told[:-1], told[1:]
    other = (
        (after[:, START] != before[:, END])
        | (after[:, FLAGS] != before[:, FLAGS])
        | (after[:, FILE] != before[:, FILE])
    )
    goes_on = after[:, OFFSET] - before[:, OFFSET] == after[:, START] - before[:, START]
    begins = np.append(True, other | ((after[:, FILE] != 0) & ~goes_on))
    merged: I64 = told[begins]
    merged[:, END] = told[np.append(begins[1:], True), END]
    return merged


class Watcher:
    """Makes worlds of what one side sees, operation by operation. `tables_at_birth` is what a process has for itself."""

    def __init__(self, tables_at_birth: int) -> None:
        self.tables_at_birth = tables_at_birth
        self._before: I64 | None = None
        self._frames: dict[str, I64] = {}
        self._odd: set[str] = set()  # processes whose tables also hold what is not in the window
        self._all_locked = False  # what is the host's own, too

    def world(self, op: Op, raws: Mapping[str, Raw]) -> World:
        """The world after `op`."""
        self._note_odd(op, raws)
        pfns = np.concatenate([raw.pages[:, 1] for raw in raws.values()]) if raws else np.empty(0, np.int64)
        numbers = _numbered(pfns, np.concatenate([raw.pages[:, 2] for raw in raws.values()]) if raws else pfns)
        files = dict[int, int]()
        world, at = {}, 0
        for name, raw in raws.items():
            vmas = raw.vmas
            if vmas[:, FILE].any():
                vmas = vmas.copy()
                vmas[:, FILE] = [
                    files.setdefault(file, len(files) + 1) if file else 0 for file in vmas[:, FILE].tolist()
                ]
            pages = raw.pages.copy()
            pages[:, FRAME] = numbers[at : at + len(pages)]
            pages[:, MOVED] = 0
            if name == op.process and op.call in ACCESSES and name in self._frames:
                pages[:, MOVED] = _moved(self._frames[name], raw.pages)
            at += len(pages)
            for start, end, *_ in vmas[vmas[:, FLAGS] & 3 == 0].tolist():  # what cannot be read is not looked at
                pages[(pages[:, ADDRESS] >= start) & (pages[:, ADDRESS] < end), WORD] = 0
            tables = None if name in self._odd else raw.tables - self.tables_at_birth
            world[name] = State(vmas, pages, tables, None if self._all_locked else raw.locked)
        self._frames |= {name: raw.pages for name, raw in raws.items()}
        return world

    def _note_odd(self, op: Op, raws: Mapping[str, Raw]) -> None:
        """Where tables are shared with what is not the script's, or everything was populated, their number says nothing."""
        if op.call in BIRTHS and op.process in self._odd:
            self._odd.add(op["child"])
        if op.call == "exec":
            self._odd.add(op.process)
        if op.call == "mlockall":
            self._odd |= set(raws)
            self._all_locked = True
        for name, raw in raws.items():
            begins, ends = raw.vmas[:, 0], raw.vmas[:, 1]  # in order of what they begin with, as it is told
            if len(begins) and (begins[0] < W or begins[-1] >= W + REACH or ends.max() > W + REACH):
                self._odd.add(name)


def _numbered(pfns: I64, zero: I64) -> list[int]:
    """1, 2 ... for frames in the order in which they are met; 0 for the zero page. O(n): a dict, which a few pages suit best."""
    numbers: dict[int, int] = {}
    return [
        0 if is_zero else numbers.setdefault(pfn, len(numbers) + 1)
        for pfn, is_zero in zip(pfns.tolist(), zero.tolist(), strict=True)
    ]


def _moved(before: I64, now: I64) -> I64:
    """1 where another frame stands than stood at that address."""
    if not len(before) or not len(now):
        return np.zeros(len(now), np.int64)
    at = np.minimum(np.searchsorted(before[:, 0], now[:, 0]), len(before) - 1)
    moved: I64 = ((before[at, 0] == now[:, 0]) & (before[at, 1] != now[:, 1])).astype(np.int64)
    return moved
