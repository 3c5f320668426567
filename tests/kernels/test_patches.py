"""Each patch of 2004 with and without: what it changes here, and that those which change nothing do not.

with                                  without                              what is asked
2.6.5-rc1+00000_extraversion-1        2.6.5-rc1                            uname
2.6.5-rc1+00100                       2.6.5-rc1                            who is asked for a file's page, and what is kept for it; VM_RESERVED
2.6.5-rc1+00100+00101                 2.6.5-rc1+00100                      the same for an anonymous page; merging by mprotect and mremap; drivers
2.6.5-rc1+00100+anonmm                2.6.5-rc1+00100                      likewise
2.6.5-rc1+00000_twofish-2.6           2.6.5-rc1                            which encrypted loop devices can be read
2.6.5-rc1+00200, 00201                                                     that counts, memory and VMAs are the same to the last one
2.6.5-rc3 and its seven                                                    likewise, of April; and one of 2.6.5-aa5
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

import rmaplab
from rmaplab.cache.cryptoloop import CryptFile
from rmaplab.errors import Oops, SyscallError, UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.releases import PATCHES
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.driver_video import Videobuf
from rmaplab.mm.vma import show_file
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.mm_types import File
from rmaplab.rmap.queries import Outcome, referenced, unmap
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

ANON, RW = MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ | PROT_WRITE
BASE = 0x5000_0000
Facts = dict[str, object]


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def put(task: rmaplab.Task, first: int, last: int, prot: int = RW) -> None:
    task.mmap((last - first) * PAGE_SIZE, prot, ANON | MAP_FIXED, at(first))
    if prot & PROT_WRITE:
        task.touch(at(first), (last - first) * PAGE_SIZE, write=True)


def nr_vmas(task: rmaplab.Task) -> int:
    assert task.mm is not None
    return task.mm.map_count


def pfn(system: rmaplab.System, task: rmaplab.Task, address: int) -> int:
    assert task.mm is not None
    return int(lookup(*system.machine.geometry, task.mm.pgd, address)[0]) >> PAGE_SHIFT


def kept_for(system: rmaplab.System, page: int) -> Facts:
    """What is kept for a page that two processes map, and what it costs to find them."""
    frames, counts = system.machine.frames, system.machine.ledger.counts
    before = dict(counts)
    assert len(list(system.kernel.rmap.walk(page))) == 2
    asked = {name for name in ("chain_slot_visit", "vma_visit", "mm_visit") if counts[name] > before.get(name, 0)}
    blocks = system.machine.caches["pte_chain"].nr_objects if "pte_chain" in system.machine.caches else 0
    flagged = bool(frames.flags[page] & PG_ANON)
    return {"asked": asked, "blocks": blocks, "PG_anon": flagged, "names": bool(frames.mapping[page])}


def of_a_driver(system: rmaplab.System) -> Facts:
    """A page of a TV card whose VMA has VM_RESERVED, shared by a fork: is it anonymous, who is found, and what does try_to_unmap do?"""
    driver = Videobuf(system.kernel, 1, reserved=True)
    task = system.spawn()
    task.mmap(PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, BASE, file=task.open(driver.file, writable=True))
    task.write(BASE, b"x")
    assert task.mm is not None
    driver.start(task.mm.vmas[0])
    task.fork()
    page = pfn(system, task, BASE)
    flagged, found = bool(system.machine.frames.flags[page] & PG_ANON), len(list(system.kernel.rmap.walk(page)))
    outcome = Outcome(int(unmap(system.kernel.rmap, np.array([page]), np.zeros(1, np.int64)).outcome[0]))
    system.check()
    return {"PG_anon": flagged, "found": found, "outcome": outcome}


def of_a_careless_driver(system: rmaplab.System) -> Facts:
    """The card's own driver, as this kernel has it; and one that never sets VM_RESERVED: what does its first touch do?"""
    sets = Videobuf(system.kernel, 1).reserved
    driver = Videobuf(system.kernel, 1, reserved=False)
    task = system.spawn()
    task.mmap(PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, BASE, file=task.open(driver.file, writable=True))
    try:
        task.write(BASE, b"x")
        bug = ""
    except Oops as oops:
        bug = oops.where
    system.check()
    return {"its own sets VM_RESERVED": sets, "BUG": bug}


def loop_devices(system: rmaplab.System) -> Facts:
    """Whether a file behind each kind comes back to a task as it was, and lies otherwise."""

    def works(form: str) -> bool:
        try:
            file = system.new_file(b"an old secret", crypt=form)
        except UsageError:
            return False
        task = system.spawn()
        assert isinstance(file.store, CryptFile)
        return task.pread(task.open(file), 99, 0) == b"an old secret" not in file.store.under[0]

    return {form: works(form) for form in ("twofish", "twofish-compat")}


def uname(system: rmaplab.System) -> Facts:
    return {"release": system.uname().release.partition("+")[0]}


def file_page(system: rmaplab.System) -> Facts:
    """A page of a file that two processes map and read."""
    file = system.kernel.page_cache.new_file(b"file")
    for _ in range(2):
        task = system.spawn()
        assert task.mm is not None
        task.mmap(PAGE_SIZE, address=BASE)
        show_file(system.kernel, task.mm.vmas[0], File(file), 0)
        assert task.read(BASE, 4) == b"file"
    system.check()
    return kept_for(system, file.pages[0])


def anonymous_page(system: rmaplab.System) -> Facts:
    """A page that a fork shares."""
    task = system.spawn()
    put(task, 0, 1)
    task.fork()
    system.check()
    return kept_for(system, pfn(system, task, BASE))


def mprotect(system: rmaplab.System) -> Facts:
    """An island made and unmade."""
    task = system.spawn()
    put(task, 0, 12)
    task.mprotect(at(4), 4 * PAGE_SIZE, PROT_READ)
    task.mprotect(at(4), 4 * PAGE_SIZE, RW)
    system.check()
    return {"VMAs": nr_vmas(task)}


def moved(system: rmaplab.System) -> Facts:
    """A move behind what is alike; both never written to, so that page offsets are no hindrance in 2.6.7."""
    task = system.spawn()
    for first in (0, 100):
        task.mmap(4 * PAGE_SIZE, RW, ANON | MAP_FIXED, at(first))
    task.mremap(at(100), 4 * PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at(4))
    system.check()
    return {"VMAs": nr_vmas(task)}


def moved_shared(system: rmaplab.System) -> Facts:
    """A page that a fork shares moves in one of the two: is it copied, is it found?"""
    task = system.spawn()
    put(task, 0, 1)
    task.fork()
    task.mremap(at(0), PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at(100))
    system.check()
    return {"mapped by": len(system.who_maps(task, at(100)))}


def neighbours(system: rmaplab.System) -> Facts:
    """A mapping beside one whose protection differs, both written; then they are made alike."""
    task = system.spawn()
    put(task, 0, 4)
    task.mprotect(at(0), 4 * PAGE_SIZE, PROT_READ)
    put(task, 4, 8)
    task.mprotect(at(0), 4 * PAGE_SIZE, RW)
    system.check()
    return {"VMAs": nr_vmas(task)}


def shown(system: rmaplab.System) -> rmaplab.Task:
    """A task with twelve pages of a file, mapped privately."""
    task = system.spawn()
    file = task.open(system.new_file(bytes(12 * PAGE_SIZE)))
    task.mmap(12 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_FIXED, at(0), file=file)
    return task


def mprotect_file(system: rmaplab.System) -> Facts:
    """An island made and unmade in it; half of it is written."""
    task = shown(system)
    task.write(at(2), bytes(6 * PAGE_SIZE))
    task.mprotect(at(4), 4 * PAGE_SIZE, PROT_READ)
    task.mprotect(at(4), 4 * PAGE_SIZE, RW)
    system.check()
    return {"VMAs": nr_vmas(task)}


def moved_file(system: rmaplab.System) -> Facts:
    """Its end goes away, and comes back."""
    task = shown(system)
    task.write(at(2), bytes(6 * PAGE_SIZE))
    for old, new in ((4, 100), (100, 4)):
        task.mremap(at(old), 8 * PAGE_SIZE, 8 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at(new))
    system.check()
    return {"VMAs": nr_vmas(task)}


def vmas_of_a_file(system: rmaplab.System) -> Facts:
    """What has them, and what a VMA takes with its place there."""
    index = system.kernel.page_cache.new_file(b"file").i_mmap
    return {"index": type(index).__name__, "VMA": system.machine.caches["vm_area_struct"].object_bytes}


def nonlinear(system: rmaplab.System) -> Facts:
    """A page that remap_file_pages has put elsewhere: how many are found, and what becomes of it when reclaim asks, old."""
    task = system.spawn()
    fd = task.open(system.new_file(size=8 * PAGE_SIZE), writable=True)
    base = task.mmap(4 * PAGE_SIZE, RW, MAP_SHARED, file=fd)
    task.remap_file_pages(base, PAGE_SIZE, 0, 6)
    assert task.mm is not None
    pfn = int(lookup(*system.machine.geometry, task.mm.pgd, base)[0]) >> PAGE_SHIFT
    found = len(system.who_maps(task, base))
    referenced(system.kernel.rmap, np.array([pfn]))
    system.machine.frames.count[pfn] += 1
    outcomes = {int(unmap(system.kernel.rmap, np.array([pfn]), np.zeros(1, np.int64)).outcome[0]) for _ in range(2)}
    system.machine.frames.count[pfn] -= 1
    system.check()
    return {"found": found, "gone": Outcome.SUCCESS in outcomes}


def who_may(system: rmaplab.System) -> Facts:
    """Who is not root and has no capability locks a page, and maps one nonlinearly: as booted, and with the sysctl if there is one."""
    facts: Facts = {}
    systems = {"as booted": system}
    if system.kernel.rules.cap_mlock_disablable:
        systems["sysctl"] = rmaplab.boot(system.spec, ram="64M", disable_cap_mlock=True)
    for name, booted in systems.items():
        task = booted.spawn()
        fd = task.open(booted.new_file(size=8 * PAGE_SIZE), writable=True)
        base = task.mmap(4 * PAGE_SIZE, RW, MAP_SHARED, file=fd)
        calls = {
            "mlock": partial(task.mlock, base, PAGE_SIZE),
            "remap": partial(task.remap_file_pages, base, PAGE_SIZE, 0, 5),
        }
        for call, make in calls.items():
            try:
                make()
                facts[f"{name}: {call}"] = "ok"
            except SyscallError as failure:
                facts[f"{name}: {call}"] = failure.name
        booted.check()
    return facts


def everything(system: rmaplab.System) -> Facts:
    """All that is counted of a task that maps, forks, moves, protects and exits."""
    facts: Facts = {}
    for look in (anonymous_page, mprotect, moved, moved_shared, neighbours, file_page):
        facts |= {f"{look.__name__} {name}": fact for name, fact in look(system).items()}
    machine = system.machine
    caches = {name: (cache.object_bytes, cache.nr_objects) for name, cache in machine.caches.items()}
    return facts | {"counts": dict(machine.ledger.counts), "free": machine.allocator.nr_free, "caches": caches}


class Toggled(NamedTuple):
    """What a look shows on both."""

    patched: str
    base: str
    look: Callable[[rmaplab.System], Facts]
    there: Facts
    here: Facts


CHAIN = {"asked": {"chain_slot_visit"}, "blocks": 1}
OWNED = {"asked": {"vma_visit"}, "blocks": 0, "PG_anon": True, "names": True}
OF_FILE = {"asked": {"vma_visit"}, "blocks": 0, "PG_anon": False, "names": True}
UNTOLD: Facts = {"PG_anon": False, "found": 0, "outcome": Outcome.SUCCESS}
"""Nobody is found, and nobody counts: to try_to_unmap the page is not mapped."""
CORE, AA, APRIL = "2.6.5-rc1+00100", "2.6.5-rc1+00100+00101", "2.6.5-rc3+objrmap-core"
APRIL_ANON = APRIL + "+anon-vma"
CAP = "2.6.5-rc3+disable-cap-mlock"
MAY_NOT: Facts = {"as booted: mlock": "EPERM", "as booted: remap": "ok"}
TOGGLED = [
    Toggled(
        "2.6.5-rc1+00000_extraversion-1", "2.6.5-rc1", uname, {"release": "2.6.5-rc1-aa1"}, {"release": "2.6.5-rc1"}
    ),
    Toggled(CORE, "2.6.5-rc1", file_page, OF_FILE, {**CHAIN, "PG_anon": False, "names": True}),
    Toggled(
        CORE,
        "2.6.5-rc1",
        anonymous_page,
        {**CHAIN, "PG_anon": True, "names": False},
        {**CHAIN, "PG_anon": False, "names": False},
    ),
    Toggled(
        CORE,
        "2.6.5-rc1",
        of_a_driver,
        {"PG_anon": True, "found": 2, "outcome": Outcome.FAIL},
        {"PG_anon": False, "found": 2, "outcome": Outcome.SUCCESS},
    ),
    Toggled(AA, CORE, of_a_driver, UNTOLD, {"PG_anon": True, "found": 2, "outcome": Outcome.FAIL}),
    Toggled(
        AA,
        CORE,
        of_a_careless_driver,
        {"its own sets VM_RESERVED": True, "BUG": "do_no_page"},
        {"its own sets VM_RESERVED": False, "BUG": ""},
    ),
    Toggled(APRIL_ANON, APRIL, of_a_driver, UNTOLD, {"PG_anon": True, "found": 2, "outcome": Outcome.FAIL}),
    Toggled(
        APRIL_ANON,
        APRIL,
        of_a_careless_driver,
        {"its own sets VM_RESERVED": True, "BUG": ""},
        {"its own sets VM_RESERVED": False, "BUG": ""},
    ),
    Toggled(
        "2.6.5-rc1+00000_twofish-2.6",
        "2.6.5-rc1",
        loop_devices,
        {"twofish": True, "twofish-compat": True},
        {"twofish": True, "twofish-compat": False},
    ),
    Toggled(AA, CORE, anonymous_page, OWNED, {**CHAIN, "PG_anon": True, "names": False}),
    Toggled(AA, CORE, file_page, OF_FILE, OF_FILE),
    Toggled(AA, CORE, mprotect, {"VMAs": 3}, {"VMAs": 1}),
    Toggled(AA, CORE, moved, {"VMAs": 2}, {"VMAs": 1}),
    Toggled(AA, CORE, moved_shared, {"mapped by": 2}, {"mapped by": 2}),
    Toggled(
        CORE + "+anonmm",
        CORE,
        anonymous_page,
        {**OWNED, "asked": {"mm_visit"}},
        {**CHAIN, "PG_anon": True, "names": False},
    ),
    Toggled(CORE + "+anonmm", CORE, moved_shared, {"mapped by": 1}, {"mapped by": 2}),
    Toggled(CORE + "+anonmm", CORE, mprotect, {"VMAs": 1}, {"VMAs": 1}),
    Toggled("2.6.5-rc3+extraversion", "2.6.5-rc3", uname, {"release": "2.6.5-rc3-aa3"}, {"release": "2.6.5-rc3"}),
    Toggled(APRIL, "2.6.5-rc3", file_page, OF_FILE, {**CHAIN, "PG_anon": False, "names": True}),
    Toggled(APRIL_ANON, APRIL, anonymous_page, OWNED, {**CHAIN, "PG_anon": True, "names": False}),
    Toggled(APRIL_ANON, APRIL, mprotect, {"VMAs": 3}, {"VMAs": 1}),
    Toggled(
        APRIL_ANON + "+prio-tree",
        APRIL_ANON,
        vmas_of_a_file,
        {"index": "VmaPrioTree", "VMA": 84},
        {"index": "VmaLists", "VMA": 76},
    ),
    Toggled("2.6.5-rc2-aa2", "2.6.5-rc1-aa1", nonlinear, {"found": 1, "gone": True}, {"found": 0, "gone": False}),
    Toggled(CAP, "2.6.5-rc3", who_may, {**MAY_NOT, "sysctl: mlock": "ok", "sysctl: remap": "ok"}, MAY_NOT),
    Toggled(
        CAP + "+nonlinear-can-do-mlock",
        CAP,
        who_may,
        {**MAY_NOT, "as booted: remap": "EPERM", "sysctl: mlock": "ok", "sysctl: remap": "ok"},
        {**MAY_NOT, "sysctl: mlock": "ok", "sysctl: remap": "ok"},
    ),
    Toggled("2.6.5-rc3-aa3", APRIL_ANON + "+prio-tree", mprotect, {"VMAs": 1}, {"VMAs": 3}),
    Toggled("2.6.5-rc3-aa3", APRIL_ANON + "+prio-tree", neighbours, {"VMAs": 1}, {"VMAs": 2}),
    Toggled("2.6.5-rc3-aa3", APRIL_ANON + "+prio-tree", moved, {"VMAs": 2}, {"VMAs": 2}),
    Toggled("2.6.5-rc3-aa3", APRIL_ANON + "+prio-tree", mprotect_file, {"VMAs": 1}, {"VMAs": 3}),
    Toggled("2.6.5-rc3-aa3", "2.6.5-rc3", mprotect_file, {"VMAs": 1}, {"VMAs": 3}),
    Toggled("2.6.7", "2.6.5-rc3-aa3", moved_file, {"VMAs": 1}, {"VMAs": 2}),
    Toggled("2.6.7", "2.6.5-rc3-aa3", mprotect_file, {"VMAs": 1}, {"VMAs": 1}),
    Toggled("2.6.7", "2.6.5-rc3-aa3", moved, {"VMAs": 1}, {"VMAs": 2}),
    Toggled("2.6.7", "2.6.5-rc3-aa3", neighbours, {"VMAs": 1}, {"VMAs": 1}),
]
IDLE = [
    ("2.6.5-rc1+00200", "2.6.5-rc1"),
    *((f"2.6.5-rc1+00200+{p.name}", "2.6.5-rc1+00200") for p in PATCHES["2.6.5-rc1"] if p.number == "00201"),
    ("2.6.5-rc3+gfp-no-compound", "2.6.5-rc3"),
]


@pytest.mark.parametrize("toggled", TOGGLED, ids=lambda each: f"{each.patched}:{each.look.__name__}")
def test_a_patch_with_and_without(toggled: Toggled) -> None:
    found = {name: toggled.look(rmaplab.boot(name, ram="64M")) for name in (toggled.patched, toggled.base)}
    assert found == {toggled.patched: toggled.there, toggled.base: toggled.here}


@pytest.mark.parametrize(("patched", "base"), IDLE)
def test_a_patch_that_is_about_something_else(patched: str, base: str) -> None:
    """It is about a debugger, an encrypted disk, a compiler: every count is that of its base."""
    systems = [rmaplab.boot(name, ram="64M") for name in (patched, base)]
    assert everything(systems[0]) == everything(systems[1])


def test_every_patch_is_toggled() -> None:
    """In one of the two ways."""
    names = [*(each.patched for each in TOGGLED), *(name for name, _ in IDLE)]
    asked = {patch.name for name in names for patch in find_kernel(name).patches}
    assert asked == {patch.name for patches in PATCHES.values() for patch in patches}
