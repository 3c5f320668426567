"""A window on a file, its pages in any order: one nonlinear VMA on 32 bits, as many plain ones as it takes on 64. Who finds its pages again?

    file     0 1 2 ... 62 63
    window   |63|62|61| ... |32|      remap_file_pages: one VMA, entries of any page          mmap: a VMA for each

The announcement left such pages unfound: "it's like allowing a bad user to use mlock, so he can turn down the machine locally". On 64 bits nobody needs
them: "this vm design is optimal on the 64bit without requiring nor remap_file_pages nor mlock there".

Sources: the announcement; <20040324060020.GA2065@dualathlon.random>, <20040402043132.GB2251@dualathlon.random>, <20040408170759.GI31667@dualathlon.random>;
files.md A7, B6, D1, E2; history.md 1.5.9 to 1.5.11.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import Oops, SyscallError
from rmaplab.kernels.spec import KernelSpec
from rmaplab.kernels.system import System, boot
from rmaplab.lab.explain.side_by_side import RW, SideBySide, Trial
from rmaplab.machine.entries import EntryKind
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import MAP_FIXED, MAP_SHARED
from rmaplab.rmap.queries import Outcome, referenced, unmap
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

PLACES = 64
KERNELS = ("2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.5-rc2-aa2", "2.6.7")
ON_64 = ("2.6.5-rc1-aa1", "2.6.7", "6.18")
LOCKERS = (
    ("2.6.2", "", None),
    ("2.6.5-rc3-aa3", "", False),
    ("2.6.5-rc3-aa3", "", True),
    ("2.6.5-rc3-aa3", "+nonlinear-can-do-mlock", False),
    ("2.6.5-rc3-aa3", "+nonlinear-can-do-mlock", True),
    ("2.6.7", "", None),
)
"""Kernels, what is put on top, and vm.disable_cap_mlock, where they have it."""
REMAPPED, MAPPED = "remap", "mmaps"
WHO_FINDS = "one nonlinear VMA, and who finds its pages (i386-pae)"
WHO_MAY = "who may lock memory, and who may map so (i386-pae)"
PLAIN = "the same window in plain mmaps (x86-64)"


class Window:
    """A task that maps the last pages of a file in reverse order, and its fork."""

    def __init__(self, kernel: str | KernelSpec, rule: str, paging: str) -> None:
        self.system = boot(kernel, ram="64M", paging=paging)
        self.task = self.system.spawn()
        data = b"".join(bytes([page + 1]) * PAGE_SIZE for page in range(2 * PLACES))
        self.fd = self.task.open(self.system.new_file(data), writable=True)
        self.at = self.task.mmap(PLACES * PAGE_SIZE, RW, MAP_SHARED, file=self.fd)
        for place in range(PLACES):
            self.show(rule, place, 2 * PLACES - 1 - place)
        self.task.touch(self.at, PLACES * PAGE_SIZE)
        self.child = self.task.fork()
        self.child.touch(self.at, PLACES * PAGE_SIZE)
        self.system.check()

    def show(self, rule: str, place: int, page: int) -> None:
        """A place shows a page of the file."""
        address = self.at + place * PAGE_SIZE
        if rule == REMAPPED:
            self.task.remap_file_pages(address, PAGE_SIZE, 0, page)
        else:
            self.task.mmap(PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, address, file=self.fd, pgoff=page)

    def kinds(self, task: Task) -> list[EntryKind]:
        """What its entries are."""
        assert task.mm is not None
        machine, pgd = self.system.machine, task.mm.pgd
        entries = (lookup(*machine.geometry, pgd, self.at + place * PAGE_SIZE)[0] for place in range(PLACES))
        return [machine.encoding.kind(int(entry)) for entry in entries]

    def count(self, kind: EntryKind) -> int:
        """Entries of that kind, of both."""
        return sum(kinds.count(kind) for kinds in map(self.kinds, (self.task, self.child)))

    @property
    def first(self) -> int:
        """The frame at its first place."""
        assert self.task.mm is not None
        return int(lookup(*self.system.machine.geometry, self.task.mm.pgd, self.at)[0]) >> PAGE_SHIFT


def _steps(system: System) -> int:
    """VMAs and slots that have been visited, and entries that have been read, so far."""
    counts = system.machine.ledger.counts
    return sum(counts[name] for name in ("vma_visit", "chain_slot_visit", "table_walk", "pte_scan", "file_node_visit"))


def finds(kernel: str | KernelSpec, rule: str, paging: str, part: str) -> Trial:
    """One row: who maps the first page, what a reclaim gets that asks for it, what truncate leaves, and munmap."""
    window, notes = Window(kernel, rule, paging), list[str]()
    system, pfn = window.system, window.first
    assert window.task.mm is not None
    vmas = window.task.mm.map_count
    found: dict[str, int | str] = {"VMAs": vmas}
    if part == PLAIN:
        found["bytes"] = vmas * system.machine.caches["vm_area_struct"].object_bytes
    before = _steps(system)
    found["finds"] = f"{len(list(system.kernel.rmap.walk(pfn)))} of 2"
    found["steps"] = _steps(system) - before
    found["unmap"], found["gone"] = _reclaim(window, pfn)
    system.check()
    if part == WHO_FINDS:
        found.update(_truncate(window, notes))
    return Trial(system.spec.name, rule, found, notes, part)


def _reclaim(window: Window, pfn: int) -> tuple[str, int]:
    """(What try_to_unmap says of a page that has been old for a while, how many entries have gone with that.)"""
    system, present = window.system, window.count(EntryKind.PAGE)
    frames = system.machine.frames
    pages = {int(lookup(*system.machine.geometry, task.mm.pgd, window.at + i * PAGE_SIZE)[0])
             for task in (window.task, window.child) if task.mm is not None for i in range(PLACES)}  # fmt: skip
    referenced(system.kernel.rmap, np.unique([entry >> PAGE_SHIFT for entry in pages]))
    frames.count[pfn] += 1  # isolated
    outcome = Outcome.AGAIN
    for _ in range(3):  # as it comes by again
        outcome = Outcome(int(unmap(system.kernel.rmap, np.array([pfn]), np.zeros(1, np.int64)).outcome[0]))
        if outcome is not Outcome.AGAIN:
            break
    frames.count[pfn] -= 1
    said = {Outcome.SUCCESS: "takes it", Outcome.AGAIN: "in vain", Outcome.FAIL: "fails"}
    return said.get(outcome, outcome.name), present - window.count(EntryKind.PAGE)


def _truncate(window: Window, notes: list[str]) -> Iterator[tuple[str, int | str]]:
    """All that it shows is cut off the file; then both unmap it."""
    system = window.system
    for task in (window.task, window.child):
        task.touch(window.at, PLACES * PAGE_SIZE)
    window.task.ftruncate(window.fd, PLACES * PAGE_SIZE)
    yield "left", window.count(EntryKind.PAGE)
    system.check()
    try:
        for task in (window.task, window.child):
            task.munmap(window.at, PLACES * PAGE_SIZE)
        yield "munmap", "ok"
    except Oops as oops:
        notes.append(
            f"kernel BUG in {oops.where}: what truncate has left has no mapping. The task dies with page_table_lock held, and all that it maps stays."
        )
        yield "munmap", "BUG"
    system.check()


def may(kernel: str, patch: str, sysctl: bool | None) -> Trial:
    """One row: what somebody may who is not root, with an RLIMIT_MEMLOCK of half the window."""
    system = boot(kernel + patch, ram="64M", paging="i386-pae", disable_cap_mlock=sysctl)
    task, half = system.spawn(), PLACES // 2 * PAGE_SIZE
    task.limit_memlock(half)
    fd = task.open(system.new_file(size=2 * PLACES * PAGE_SIZE), writable=True)
    at = task.mmap(2 * half, RW, MAP_SHARED, file=fd)
    found: dict[str, int | str] = {
        f"mlock {PLACES}": _errno(lambda: task.mlock(at, 2 * half)),
        f"mlock {PLACES // 2}": _errno(lambda: task.mlock(at, half)),
        "remap_file_pages": _errno(lambda: task.remap_file_pages(at, PAGE_SIZE, 0, PLACES)),
    }
    system.check()
    has = "no sysctl" if sysctl is None else f"sysctl {int(sysctl)}"
    return Trial(kernel, has + (", aa5's patch" if patch else ""), found, (), WHO_MAY)


def _errno(call: Callable[[], None]) -> str:
    try:
        call()
    except SyscallError as failure:
        return failure.name
    return "ok"


def _run() -> Iterator[Trial]:
    for kernel in KERNELS:
        yield finds(kernel, REMAPPED, "i386-pae", WHO_FINDS)
    for locker in LOCKERS:
        yield may(*locker)
    for kernel in ON_64:
        for rule in (REMAPPED, MAPPED):
            yield finds(kernel, rule, "x86-64", PLAIN)


def said(trials: Sequence[Trial]) -> list[str]:
    """What comes of them."""
    lines = [
        _on(trials, WHO_FINDS, lambda found: found["finds"] == "0 of 2", 'Nobody finds the page, and reclaim asks in vain: "it\'s like allowing a bad user to use mlock, so he can turn down the machine locally"'),
        _on(trials, WHO_FINDS, lambda found: int(found["gone"]) > 2, "Asked for one page, reclaim takes others with it, whatever is old (2.6.7 a cluster of 32 aligned places at a time, of which a VMA may have a part)"),
        _on(trials, WHO_FINDS, lambda found: int(found["left"]) > 0, "What truncate has cut off stays mapped, and is nobody's"),
        _on(trials, WHO_FINDS, lambda found: found["munmap"] == "BUG", "... and the next munmap is a BUG, which was read in the code (no mail tells of it)"),
        _on(trials, WHO_MAY, lambda found: found["remap_file_pages"] == "EPERM", 'Only who may lock memory may map so (boot("2.6.5-rc3-aa3+nonlinear-can-do-mlock"))'),
    ]  # fmt: skip
    plain = [row for row in trials if row.part == PLAIN and row.rule == MAPPED and row.found["finds"] == "2 of 2"]
    where = ", ".join(f"{row.kernel} in {row.found['steps']} steps" for row in plain)
    if plain:
        lines.append(
            f'In plain mmaps on x86-64 both are found: {where}. The announcement: "this vm design is optimal on the 64bit without requiring nor '
            f'remap_file_pages nor mlock there". On 6.18 remap_file_pages is an mmap (since 4.0).'
        )
    return [line for line in lines if line]


def _on(trials: Sequence[Trial], part: str, holds: Callable[[dict[str, int | str]], bool], words: str) -> str:
    where = [
        f"{row.kernel} ({row.rule})" if part == WHO_MAY else row.kernel
        for row in trials
        if row.part == part and holds(row.found)
    ]
    return f"{words}: {'; '.join(where)}." if where else ""


NONLINEAR = SideBySide(
    "nonlinear",
    "pages of a file in any order, in one VMA: who finds them again?",
    'the announcement: "The nonlinear vmas aren\'t covered yet, so this is an insecure kernel at this time"; "2.6.5-rc2-aa2", LKML, 24 March 2004: '
    "docs/facts/files.md B6, D1, E2",
    (
        f"pid 1 maps {PLACES} pages of a file of {2 * PLACES}, and has the last {PLACES} shown there in reverse order: by remap_file_pages, or by an mmap for each",
        "forks pid 2, and both touch all; who maps the first page: how many of the two are found, in how many steps (VMAs, slots of chains, entries read)",
        "all have been old for a while: a reclaim asks for that page, three times if it must; how many entries have gone then (nonlinear ones leave file entries)",
        "both touch all again; the file is cut to half: how many entries still map what is gone",
        "both unmap all",
        f"another, not root, with RLIMIT_MEMLOCK of {PLACES // 2} pages, locks {PLACES} and {PLACES // 2} pages, and maps a page nonlinearly",
    ),
    "",
    _run,
    said,
)
