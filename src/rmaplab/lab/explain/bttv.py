"""A TV card's driver maps its buffers: pages that no file and no anon_vma knows. What does each kernel of March 2004 make of them?

    pid 1  [page rw]---+
                       +--> page of the driver <=== the card writes its pictures (DMA)        mapping 0: whose is it?
    pid 2  [page rw]---+

With a chain nobody asks: who maps a page is written down. Where a page is found through what it names, such a page must be told apart, and
VM_RESERVED is how a driver says so. bttv did not. The announcement has "a fix in bttv that didn't set VM_RESERVE", and checks that trap
whoever forgets it. On 20 March their author saw that they also trap a SIGBUS: they came before the question whether there is a page at all.

Sources: the announcement; <20040320133025.GH9009@dualathlon.random>, <20040320174857.GA9009@dualathlon.random>; files.md C6.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import BusError, Oops
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.kernels.spec import KernelSpec
from rmaplab.kernels.system import System, boot
from rmaplab.lab.explain.side_by_side import RW, SideBySide, Trial
from rmaplab.machine.frames import PG_RESERVED
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.driver_video import Rvmalloc, Videobuf
from rmaplab.objects.flags import MAP_SHARED
from rmaplab.rmap.brute_force import mappings_of
from rmaplab.rmap.queries import Outcome, unmap
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

PAGES = 4
LENGTH = PAGES * PAGE_SIZE
Make = Callable[[System], Videobuf | Rvmalloc]
AS_IT_WAS, FIXED, REMAPPED = "bttv", "fixed", "remapped"
DRIVERS: dict[str, Make] = {
    AS_IT_WAS: lambda system: Videobuf(system.kernel, PAGES, reserved=False),
    FIXED: lambda system: Videobuf(system.kernel, PAGES, reserved=True),
    REMAPPED: lambda system: Rvmalloc(system.kernel, PAGES),
}
KERNELS = ("2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1")
TRAPPED = "trapped"
TRAP = Figure(1, "<20040320174857.GA9009@dualathlon.random>: pfn_valid was asked before NOPAGE_SIGBUS", Status.BELIEVED)


def with_trap(spec: KernelSpec) -> KernelSpec:
    """The same kernel with the checks where they were until 20 March 2004: before the test for SIGBUS."""
    return replace(spec, figures={**spec.figures, "sigbus_is_checked": TRAP})


def trial(spec: KernelSpec, rule: str, make: Make) -> Trial:
    """One row: the calls of the story under one driver, everything checked after each."""
    system = boot(spec, ram="64M")
    notes: list[str] = []
    found: dict[str, int | str] = {}
    try:
        found.update(_live(system, make(system), notes))
    except Oops as oops:
        found["fault"] = "BUG"
        notes.append(f"{oops}{_believed(spec, 'nopage_is_checked')}. The task dies, with mmap_sem held for reading.")
    system.check()
    found["EOF"] = _beyond(system, notes)
    system.check()
    return Trial(spec.name, rule, found, notes)


def _live(system: System, driver: Videobuf | Rvmalloc, notes: list[str]) -> Iterator[tuple[str, int | str]]:
    """(Column, what is found), step by step."""
    k, frames = system.kernel, system.machine.frames
    task = system.spawn()
    at = task.mmap(LENGTH, RW, MAP_SHARED, file=task.open(driver.file, writable=True))
    assert task.mm is not None
    task.touch(at, LENGTH, write=True)
    system.check()
    pages = np.array([_entry(system, task, at + i * PAGE_SIZE) >> PAGE_SHIFT for i in range(PAGES)], np.int64)
    yield "fault", int(frames.mapcount[pages].sum())
    if isinstance(driver, Videobuf):
        driver.start(task.mm.vmas[0])
    child = task.fork()
    system.check()
    first = int(pages[0])
    entries = len(list(mappings_of(system.machine, k.mms.values(), first)))
    yield "fork", f"{frames.mapcount[first]}/{entries}"
    yield "found", len(list(k.rmap.walk(first)))
    system.check()
    yield "reclaim", _reclaim(system, first, notes)
    system.check()
    driver.capture(b"picture")
    yield "sees", "live" if task.read(at, 7) == b"picture" else "black"
    system.check()
    for each in (task, child):
        each.munmap(at, LENGTH)
        system.check()
    yield "freed", int((frames.count[pages] == 0).sum())
    if isinstance(driver, Rvmalloc):
        driver.free()


def _entry(system: System, task: Task, address: int) -> int:
    assert task.mm is not None
    return int(lookup(*system.machine.geometry, task.mm.pgd, address)[0])


def _reclaim(system: System, page: int, notes: list[str]) -> str:
    """What try_to_unmap does, if it would be asked at all."""
    k = system.kernel
    if k.machine.frames.flags[page] & PG_RESERVED:
        return "skips"
    if not k.rmap.is_mapped(page):
        notes.append("To this kernel nobody maps the page: it is not told of it (believed).")
        return "unseen"
    outcome = Outcome(int(unmap(k.rmap, np.array([page]), np.zeros(1, np.int64)).outcome[0]))
    if outcome is Outcome.SUCCESS:
        notes.append(
            "A walk finds all who map the page, and would take it from them. It is on no LRU list, so nobody walks."
        )
        return "takes"
    refused = system.spec.figures["unmap_reserved"]
    notes.append(
        f"try_to_unmap refuses VM_RESERVED besides VM_LOCKED{_believed(system.spec, 'unmap_reserved')}: {refused.source}."
    )
    return "refuses"


def _beyond(system: System, notes: list[str]) -> str:
    """A touch behind the end of an ordinary file."""
    task = system.spawn()
    at = task.mmap(2 * PAGE_SIZE, RW, MAP_SHARED, file=task.open(system.new_file(b"x"), writable=True))
    try:
        task.touch(at + PAGE_SIZE, 1)
    except BusError:
        return "SIGBUS"
    except Oops as oops:
        notes.append(f"{oops}{_believed(system.spec, 'sigbus_is_checked')}: no driver is needed for that.")
        return "BUG"
    return "a page"


def _believed(spec: KernelSpec, figure: str) -> str:
    """What is said behind a figure that is believed."""
    return " (believed)" if spec.figures[figure].status is Status.BELIEVED else ""


def _run() -> Iterator[Trial]:
    for name in KERNELS:
        for rule, make in DRIVERS.items():
            yield trial(find_kernel(name), rule, make)
    yield trial(with_trap(find_kernel(KERNELS[-1])), TRAPPED, DRIVERS[FIXED])


def said(trials: Sequence[Trial]) -> list[str]:
    """What comes of them."""
    lines = [
        _on(trials, "reclaim", "takes", "A reclaim that met the page would take it from under the card"),
        _on(trials, "fault", "BUG", "The first touch is a BUG"),
        _on(trials, "reclaim", "refuses", "try_to_unmap spares it"),
        _on(trials, "found", 0, "Two map it and nobody finds them, as is declared"),
        _on(trials, "EOF", "BUG", "A touch behind a file's end is a BUG"),
    ]
    return [line for line in lines if line]


def _on(trials: Sequence[Trial], column: str, what: int | str, words: str) -> str:
    where = [f"{trial.kernel} ({trial.rule})" for trial in trials if trial.found.get(column) == what]
    return f"{words}: {', '.join(where)}." if where else ""


BTTV = SideBySide(
    "bttv",
    "a TV card's driver maps its buffers: whose pages are they?",
    'the announcement: "a fix in bttv that didn\'t set VM_RESERVE"; mails of 20 March 2004: docs/facts/files.md C6',
    (
        f"pid 1 maps {PAGES} pages of a card: of bttv; of the same, fixed: with VM_RESERVED; or remapped: all entries at once, of reserved pages",
        "touches them: what their mapcounts say then; the card is told to write there",
        "forks pid 2: mapcount and entries of the first page; how many are found",
        "a reclaim asks for it; the card writes a picture, and pid 1 sees it, live or black",
        "both unmap all: how many of the pages are free then",
        "another task touches a page behind the end of an ordinary file; once on a kernel whose checks come before SIGBUS (trapped)",
    ),
    "what becomes of a driver's pages",
    _run,
    said,
)
