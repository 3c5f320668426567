"""What calls do to mappings on 6.18: merges, mremap, locks, advice, stacks. Expected values were seen on a running 6.18.44.

A script is words: `map 0-4` maps pages 0 to 3 of a private place, `write 0-4` writes them; `=` is what the mappings are then.
The rows of modern.md 1.8 ("live results") and 1.9 and its errno samples (4) are here, and what a differential fuzz with the same
kernel brought to light.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmaplab
from rmaplab.errors import NotModelled, SegmentationFault, SyscallError
from rmaplab.objects.flags import (
    MADV_COLD,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_STACK,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_DONTCOPY,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_READ,
    VM_WIPEONFORK,
    VM_WRITE,
)
from rmaplab.units import PAGE_SIZE

ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
BASE = 0x1_0000_0000
PROTS = {"none": PROT_NONE, "r": PROT_READ, "rw": RW, "rwx": RW | PROT_EXEC}
LETTERS = {
    VM_LOCKED: "lo",
    VM_LOCKONFAULT: "lf",
    VM_GROWSDOWN: "gd",
    VM_NORESERVE: "nr",
    VM_DONTCOPY: "dc",
    VM_WIPEONFORK: "wf",
    VM_NOHUGEPAGE: "nh",
    VM_MERGEABLE: "mg",
}
ADVICE = {
    "dontfork": MADV_DONTFORK,
    "dofork": MADV_DOFORK,
    "mergeable": MADV_MERGEABLE,
    "unmergeable": MADV_UNMERGEABLE,
    "wipeonfork": MADV_WIPEONFORK,
    "keeponfork": MADV_KEEPONFORK,
    "dontdump": MADV_DONTDUMP,
    "dodump": MADV_DODUMP,
}


def boot() -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot("6.18", ram="64M")
    return system, system.spawn()


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def drawn(task: rmaplab.Task) -> str:
    """The mappings as /proc/PID/smaps tells them: `0-4 rw lo, 8-12 r`."""
    assert task.mm is not None
    words = []
    for v in task.mm.vmas:
        rwx = "".join(letter for letter, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC)) if v.flags & bit)
        marks = [name for bit, name in LETTERS.items() if v.flags & bit]
        words.append(
            " ".join([f"{(v.start - BASE) // PAGE_SIZE}-{(v.end - BASE) // PAGE_SIZE}", rwx or "none", *marks])
        )
    return ", ".join(words)


def obey(system: rmaplab.System, task: rmaplab.Task, script: str) -> rmaplab.Task:
    """Run a script, with check() after each of its calls; the task it ends with (`fork` goes on as the child)."""
    for line in script.split(";"):
        verb, *words = line.split()
        first, last = (int(page) for page in words[0].split("-")) if words and "-" in words[0] else (0, 0)
        address, length = at(first), (last - first) * PAGE_SIZE
        match verb:
            case "map":
                task.mmap(length, PROTS[words[1] if words[1:] else "rw"], ANON | MAP_FIXED, address)
            case "write":
                task.touch(address, length, write=True)
            case "unmap":
                task.munmap(address, length)
            case "protect":
                task.mprotect(address, length, PROTS[words[1]])
            case "move" | "leave":
                flags = MREMAP_MAYMOVE | MREMAP_FIXED | (MREMAP_DONTUNMAP if verb == "leave" else 0)
                assert task.mremap(address, length, length, flags, at(int(words[1]))) == at(int(words[1]))
            case "grow":
                assert task.mremap(address, length, (int(words[1]) - first) * PAGE_SIZE, 0) == address
            case "lock":
                task.mlock(address, length)
            case "unlock":
                task.munlock(address, length)
            case "fork":
                task = task.fork()
            case "=":
                assert drawn(task) == ", ".join(" ".join(v.split()) for v in line.strip()[1:].split(","))
            case _:
                task.madvise(address, length, ADVICE[verb])
        system.check()
    return task


def refusal(task: rmaplab.Task, call: str, *arguments: int) -> str | None:
    """The errno's name, or None if it worked."""
    try:
        getattr(task, call)(*arguments)
    except SyscallError as error:
        return error.name
    return None


# -- merging (modern.md 1.8) -----------------------------------------------------------------------------------------

MERGES = {
    "new behind faulted": "map 0-4; write 0-4; map 4-8; = 0-8 rw",
    "new before faulted": "map 4-8; write 4-8; map 0-4; = 0-8 rw",
    "between two anon_vmas": "map 0-4; write 0-4; map 8-12; write 8-12; map 4-8; = 0-8 rw, 8-12 rw",
    "between faulted and not": "map 0-4; write 0-4; map 8-12; map 4-8; = 0-12 rw",
    "between unfaulted and faulted": "map 0-4; map 8-12; write 8-12; map 4-8; = 0-12 rw",
    "mprotect and back": "map 0-12; write 0-12; protect 4-8 r; = 0-4 rw, 4-8 r, 8-12 rw; protect 4-8 rw; = 0-12 rw",
    "mprotect of unfaulted to match faulted": "map 0-4; write 0-4; map 4-8 r; protect 4-8 rw; = 0-8 rw",
    "mremap of unfaulted beside faulted": "map 0-4; write 0-4; map 20-24; move 20-24 4; = 0-8 rw",
    "mremap of faulted beside faulted": "map 0-4; write 0-4; map 20-24; write 20-24; move 20-24 4; = 0-4 rw, 4-8 rw",
    "mremap of faulted beside unfaulted": "map 0-4; map 20-24; write 20-24; move 20-24 4; = 0-4 rw, 4-8 rw",
    "away and back": "map 0-8; write 0-8; move 4-8 20; = 0-4 rw, 20-24 rw; move 20-24 4; = 0-8 rw",
    "DONTUNMAP, and back beside unfaulted": "map 4-8; write 4-8; leave 4-8 20; unmap 4-8; map 0-4; move 20-24 4; = 0-8 rw",
    "child: new beside inherited": "map 0-4; write 0-4; fork; map 4-8; = 0-4 rw, 4-8 rw",
    "child: mprotect to match": "map 0-4; write 0-4; fork; map 4-8 r; protect 4-8 rw; = 0-4 rw, 4-8 rw",
    "child: split and restore": "map 0-4; write 0-4; fork; protect 1-2 r; = 0-1 rw, 1-2 r, 2-4 rw; protect 1-2 rw; = 0-4 rw",
    "mlock and back": "map 0-8; write 0-8; lock 4-5; = 0-4 rw, 4-5 rw lo, 5-8 rw; unlock 4-5; = 0-8 rw",
    "DONTFORK and back": "map 0-8; write 0-8; dontfork 4-5; = 0-4 rw, 4-5 rw dc, 5-8 rw; dofork 4-5; = 0-8 rw",
    "MERGEABLE and back": "map 0-8; write 0-8; mergeable 4-5; = 0-4 rw, 4-5 rw mg, 5-8 rw; unmergeable 4-5; = 0-8 rw",
    "WIPEONFORK and back": "map 0-8; write 0-8; wipeonfork 4-5; = 0-4 rw, 4-5 rw wf, 5-8 rw; keeponfork 4-5; = 0-8 rw",
    "DONTDUMP and back": "map 0-8; dontdump 4-5; dodump 4-5; = 0-8 rw",
    "split, faulted, the same again": "map 0-8; protect 4-8 rwx; write 0-1; write 4-5; = 0-4 rw, 4-8 rwx; protect 4-8 rw; = 0-8 rw",
    "growing over a gap to unfaulted": "map 0-2; write 0-2; map 3-4; grow 0-2 3; = 0-4 rw",
    "growing over a gap to faulted": "map 0-2; write 0-2; map 3-4; write 3-4; grow 0-2 3; = 0-3 rw, 3-4 rw",
    "growing of unfaulted to faulted": "map 0-2; map 3-4; write 3-4; grow 0-2 3; = 0-4 rw",
    "beside an emptied source": "map 0-4; write 0-4; leave 0-4 20; map 4-6; = 0-6 rw, 20-24 rw",
    "beside one that had moved before": "map 4-8; write 4-8; move 4-8 20; leave 20-24 40; map 24-26; = 20-24 rw, 24-26 rw, 40-44 rw",
    "an emptied source moves as unfaulted": "map 4-8; write 4-8; move 4-8 20; leave 20-24 40; map 60-62; move 20-24 62; = 40-44 rw, 60-66 rw",
    "a source left in part keeps its anon_vma": "map 0-4; write 0-4; leave 1-3 20; map 4-6; = 0-6 rw, 20-22 rw",
}


@pytest.mark.parametrize("name", MERGES)
def test_merging(name: str) -> None:
    """As the running kernel did it, with all invariants after every call."""
    obey(*boot(), MERGES[name])


def test_a_charge_given_back_merges() -> None:
    """Read-only, unfaulted memory gives its charge back, so that it is like memory mapped read-only."""
    system, task = boot()
    obey(system, task, "map 0-4; protect 0-4 r; = 0-4 r; map 4-8 r; = 0-8 r")
    assert system.kernel.committed_pages == 0


# -- mremap (modern.md 1.9, 4) ---------------------------------------------------------------------------------------

MAY, FIX, STAY = MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP
P = PAGE_SIZE
REFUSED = {
    "nothing there": (at(30), P, 2 * P, MAY, 0, "EFAULT"),
    "new length 0": (at(0), P, 0, MAY, 0, "EINVAL"),
    "old length 0, private": (at(0), 0, P, MAY, 0, "EINVAL"),
    "old length 0, to a place": (at(0), 0, P, MAY | FIX, at(40), "EINVAL"),
    "old length 0, nothing there": (at(30), 0, P, MAY, 0, "EFAULT"),
    "unknown flag": (at(0), P, P, 8, 0, "EINVAL"),
    "FIXED alone": (at(0), P, P, FIX, at(40), "EINVAL"),
    "DONTUNMAP alone": (at(0), P, P, STAY, 0, "EINVAL"),
    "DONTUNMAP that grows": (at(0), P, 2 * P, MAY | STAY, 0, "EINVAL"),
    "new address of no page": (at(0), P, P, MAY | FIX, at(40) + 1, "EINVAL"),
    "old address of no page": (at(0) + 1, P, P, MAY, 0, "EINVAL"),
    "overlap": (at(0), 2 * P, 2 * P, MAY | FIX, at(1), "EINVAL"),
    "overlap with what is cut off": (at(8), 4 * P, P, MAY | FIX, at(10), "EINVAL"),
    "no room, may not move": (at(0), 4 * P, 9 * P, 0, 0, "ENOMEM"),
    "from the middle, may not move": (at(0), 2 * P, 3 * P, 0, 0, "ENOMEM"),
    "growing over more than one": (at(0), 12 * P, 13 * P, MAY, 0, "EFAULT"),
    "growing over more than one, to a place": (at(0), 12 * P, 13 * P, MAY | FIX, at(40), "EFAULT"),
    "shrinking over more than one, to a place": (at(2), 10 * P, 3 * P, MAY | FIX, at(40), "EFAULT"),
    "a run that begins in a gap": (at(5), 7 * P, 7 * P, MAY | FIX, at(40), "EFAULT"),
    "the same size, wherever it ends": (at(2), 9 * P, 9 * P, MAY, 0, None),
    "shrinking in place, wherever it ends": (at(3), 9 * P, 4 * P, MAY, 0, None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mremap_refuses(name: str) -> None:
    """With 0-4 written and 8-12 mapped. What is refused has changed nothing here."""
    system, task = boot()
    obey(system, task, "map 0-4; write 0-4; map 8-12")
    *arguments, errno = REFUSED[name]
    assert refusal(task, "mremap", *arguments) == errno
    if errno:
        assert drawn(task) == "0-4 rw, 8-12 rw"
    system.check()


RUNS = {
    "three areas, a gap inside": "map 0-2; write 0-2; map 2-4 r; map 6-8; move 1-10 40; = 0-1 rw, 40-41 rw, 41-43 r, 45-47 rw",
    "onto others, which stay in the gap": "map 0-2; map 3-4; map 40-60 r; move 0-4 41; = 40-41 r, 41-43 rw, 43-44 r, 44-45 rw, 45-60 r",
    "DONTUNMAP of a run": "map 0-2; write 0-2; map 3-4; leave 0-4 41; = 0-2 rw, 3-4 rw, 41-43 rw, 44-45 rw",
}


@pytest.mark.parametrize("name", RUNS)
def test_a_move_of_many(name: str) -> None:
    """Since 6.17: gaps inside stay gaps, and what is mapped there stays."""
    obey(*boot(), RUNS[name])


def test_dontunmap_leaves_it_empty_and_unlocked() -> None:
    """The pages have gone; VM_LOCKED goes from all of the source, though locked_vm counts it on (seen as VmLck: 24 kB)."""
    system, task = boot()
    obey(system, task, "map 0-4; write 0-4; lock 0-4; leave 1-3 30; = 0-4 rw, 30-32 rw lo")
    assert task.mm is not None
    assert task.mm.locked_vm == 6
    assert task.mincore(at(0), 4 * P) == [True, False, False, True]


def test_a_hint_without_fixed() -> None:
    """MREMAP_DONTUNMAP takes the new address as a hint; MAYMOVE alone does not look at it."""
    _, task = boot()
    task.mmap(P, RW, ANON | MAP_FIXED, at(0))
    assert task.mremap(at(0), P, P, MAY, at(60)) == at(0)
    assert task.mremap(at(0), P, P, MAY | STAY, at(60)) == at(60)


# -- mmap ------------------------------------------------------------------------------------------------------------


def test_mmap_flags() -> None:
    """Seen in smaps and pagemap: what each flag leaves, and what it faults in."""
    system, task = boot()
    for page, prot, flags in (
        (0, RW, MAP_POPULATE),
        (4, PROT_READ, MAP_POPULATE),
        (8, PROT_NONE, MAP_POPULATE),
        (12, RW, MAP_POPULATE | MAP_NONBLOCK),
        (16, RW, MAP_NORESERVE),
        (20, RW, MAP_STACK),
        (24, RW, MAP_LOCKED),
        (28, PROT_NONE, MAP_LOCKED),
    ):
        task.mmap(2 * P, prot, ANON | MAP_FIXED | flags, at(page))
        system.check()
    assert drawn(task) == "0-2 rw, 4-6 r, 8-10 none, 12-14 rw, 16-18 rw nr, 20-22 rw nh, 24-26 rw lo, 28-30 none lo"
    here = {page for page in (0, 4, 8, 12, 16, 20, 24, 28) if all(task.mincore(at(page), 2 * P))}
    assert here == {0, 4, 24}
    assert len(system.who_maps(task, at(0))) == len(system.who_maps(task, at(24))) == 1
    assert system.who_maps(task, at(4)) == []  # the zero page
    assert refusal(task, "mmap", P, RW, ANON | MAP_FIXED_NOREPLACE, at(20)) == "EEXIST"
    assert task.mmap(P, RW, ANON | MAP_FIXED_NOREPLACE, at(40)) == at(40)
    assert refusal(task, "mmap", P, RW, ANON | MAP_FIXED_NOREPLACE, at(44) + 1) == "EINVAL"


def test_mmap_refuses() -> None:
    """Seen on 6.18: type 0, a length of 0, one beyond the address space, and more than there is (mode 0: RAM and swap)."""
    _, task = boot()
    assert refusal(task, "mmap", P, RW, MAP_ANONYMOUS) == "EINVAL"
    assert refusal(task, "mmap", 0) == "EINVAL"
    assert refusal(task, "mmap", 1 << 47) == "ENOMEM"
    assert refusal(task, "mmap", P, RW, ANON | MAP_FIXED, (1 << 47) - P) == "ENOMEM"
    assert task.mmap(P, RW, ANON | MAP_FIXED, (1 << 47) - 2 * P) == (1 << 47) - 2 * P
    assert refusal(task, "mmap", 128 << 20) == "ENOMEM"
    for prot, flags in ((PROT_READ, 0), (RW, MAP_NORESERVE)):
        task.mmap(128 << 20, prot, ANON | flags)


def test_what_is_not_modelled_says_so() -> None:
    """Never an errno that a program could take for the kernel's."""
    _, task = boot()
    with pytest.raises(NotModelled):
        task.mmap(P, RW, ANON | MAP_HUGETLB)
    task.mmap(P, RW, ANON | MAP_FIXED, at(0))
    for advice in (MADV_HUGEPAGE, 100):
        with pytest.raises(NotModelled):
            task.madvise(at(0), P, advice)


def test_mappings_go_downwards() -> None:
    """Each below the last, and so merged with it; a hint is rounded down (seen on 6.18)."""
    _, task = boot()
    first = task.mmap(4 * P)
    assert task.mmap(2 * P) == first - 2 * P
    task.munmap(first, P)
    assert task.mmap(P) == first
    assert task.mmap(P, address=at(3) + 17) == at(3)


def test_a_failed_mmap_spares_what_was_there() -> None:
    """MAP_FIXED takes away what was there only when nothing can fail any more (mm/vma.c, vms_abort_munmap_vmas)."""
    system, task = boot()
    obey(system, task, "map 0-4; write 0-4")
    assert refusal(task, "mmap", 128 << 20, RW, ANON | MAP_FIXED, at(0)) == "ENOMEM"
    assert drawn(task) == "0-4 rw"
    assert task.mincore(at(0), 4 * P) == [True] * 4
    system.check()


# -- mlock -----------------------------------------------------------------------------------------------------------


def test_mlock_over_a_page_nobody_may_touch() -> None:
    """ENOMEM, yet VM_LOCKED is everywhere, and what precedes that page is there (modern.md 4)."""
    system, task = boot()
    obey(system, task, "map 0-6; protect 2-3 none")
    assert refusal(task, "mlock", at(0), 6 * P) == "ENOMEM"
    assert drawn(task) == "0-2 rw lo, 2-3 none lo, 3-6 rw lo"
    assert task.mincore(at(0), 6 * P) == [True, True, False, False, False, False]
    system.check()


def test_mlock_over_a_hole() -> None:
    """ENOMEM; what precedes it is locked, and not faulted in."""
    _, task = boot()
    task.mmap(2 * P, RW, ANON | MAP_FIXED, at(0))
    assert refusal(task, "mlock", at(0), 4 * P) == "ENOMEM"
    assert drawn(task) == "0-2 rw lo"
    assert task.mincore(at(0), 2 * P) == [False, False]
    assert refusal(task, "mlock", at(20), P) == "ENOMEM"
    assert refusal(task, "mlock", at(20), 0) is None


def test_mlock_rounds_outwards() -> None:
    """An address within a page, and a length that ends in the next (seen on 6.18)."""
    _, task = boot()
    task.mmap(4 * P, RW, ANON | MAP_FIXED, at(0))
    task.mlock(at(1) + 100, P)
    assert drawn(task) == "0-1 rw, 1-3 rw lo, 3-4 rw"


def test_a_locked_page_that_may_be_written_is_copied_at_once() -> None:
    """Read-only and locked it is the zero page; writable, it is its own (mprotect_fixup)."""
    system, task = boot()
    obey(system, task, "map 0-4 r; lock 0-2; = 0-2 r lo, 2-4 r")
    assert system.who_maps(task, at(0)) == []
    assert task.mincore(at(0), 4 * P) == [True, True, False, False]
    obey(system, task, "protect 0-4 rw; = 0-2 rw lo, 2-4 rw")
    assert len(system.who_maps(task, at(0))) == 1
    assert task.mincore(at(0), 4 * P) == [True, True, False, False]


def test_mlock2() -> None:
    """MLOCK_ONFAULT locks what comes, when it comes; a plain mlock after it brings it in."""
    _, task = boot()
    task.mmap(4 * P, RW, ANON | MAP_FIXED, at(0))
    task.mlock2(at(0), 2 * P, MLOCK_ONFAULT)
    assert drawn(task) == "0-2 rw lo lf, 2-4 rw"
    assert task.mincore(at(0), 2 * P) == [False, False]
    assert refusal(task, "mlock2", at(0), P, 2) == "EINVAL"
    task.mlock(at(0), P)
    assert drawn(task) == "0-1 rw lo, 1-2 rw lo lf, 2-4 rw"
    assert task.mincore(at(0), 2 * P) == [True, False]


def test_limits() -> None:
    """RLIMIT_MEMLOCK without CAP_IPC_LOCK; what is locked already is not counted twice (seen on 6.18)."""
    _, task = boot()
    task.limit_memlock(4 * P)
    task.mmap(8 * P, RW, ANON | MAP_FIXED, at(0))
    assert [refusal(task, "mlock", at(a), n * P) for a, n in ((0, 5), (0, 3), (0, 4), (4, 1))] == [
        "ENOMEM",
        None,
        None,
        "ENOMEM",
    ]
    assert drawn(task) == "0-4 rw lo, 4-8 rw"
    assert refusal(task, "mmap", P, RW, ANON | MAP_FIXED | MAP_LOCKED, at(20)) == "EAGAIN"
    assert refusal(task, "mremap", at(0), 4 * P, 5 * P, MAY) == "EAGAIN"
    task.limit_memlock(0)
    assert [refusal(task, "mlock", at(0), P), refusal(task, "mlockall", MCL_CURRENT)] == ["EPERM", "EPERM"]
    assert refusal(task, "munlock", at(0), P) is None
    assert refusal(task, "mmap", P, RW, ANON | MAP_FIXED | MAP_LOCKED, at(20)) == "EPERM"
    task.cap_ipc_lock(granted=True)
    assert refusal(task, "mlock", at(0), 8 * P) is None


def test_mlockall() -> None:
    """What is there, what will be, or both; fork's child has neither (seen on 6.18)."""
    system, task = boot()
    assert [refusal(task, "mlockall", flags) for flags in (0, 8, MCL_ONFAULT)] == ["EINVAL"] * 3
    task.mlockall(MCL_FUTURE)
    obey(system, task, "map 0-2; map 2-3 r; = 0-2 rw lo, 2-3 r lo")
    assert task.mincore(at(0), 3 * P) == [True] * 3
    child = task.fork()
    obey(system, child, "map 50-51; = 0-2 rw, 2-3 r, 50-51 rw")
    task.munlockall()
    obey(system, task, "map 3-4; = 0-2 rw, 2-3 r, 3-4 rw")
    task.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
    obey(system, task, "map 4-5; = 0-2 rw lo lf, 2-3 r lo lf, 3-5 rw lo lf")
    assert task.mincore(at(4), P) == [False]


# -- madvise, mincore, msync -----------------------------------------------------------------------------------------


def test_dontneed() -> None:
    """Zeros from now on; a sharer keeps what he has."""
    system, task = boot()
    task.mmap(2 * P, RW, ANON | MAP_FIXED, at(0))
    task.write(at(0), b"gone")
    child = task.fork()
    task.madvise(at(0), 2 * P, MADV_DONTNEED)
    assert task.read(at(0), 4) == bytes(4)
    assert child.read(at(0), 4) == b"gone"
    system.check()


def test_dontneed_frees_tables() -> None:
    """PT_RECLAIM: a leaf table whose whole range is dropped goes (seen as VmPTE)."""
    system, task = boot()
    task.mmap(4 << 20, RW, ANON | MAP_FIXED, 0x1_0020_0000)
    task.touch(0x1_0020_0000, 4 << 20, write=True)
    assert task.mm is not None
    before = task.mm.nr_tables
    task.madvise(0x1_0020_0000, (4 << 20) - P, MADV_DONTNEED)
    assert task.mm.nr_tables == before - 1
    system.check()


def test_locked_memory_is_not_dropped() -> None:
    """Seen on 6.18: EINVAL for all that would free it, but for MADV_DONTNEED_LOCKED."""
    system, task = boot()
    obey(system, task, "map 0-2; lock 0-2")
    for advice in (MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT):
        assert refusal(task, "madvise", at(0), P, advice) == "EINVAL"
    assert refusal(task, "madvise", at(0), P, MADV_DONTNEED_LOCKED) is None
    assert task.mincore(at(0), 2 * P) == [False, True]


def test_advice_over_a_hole() -> None:
    """The rest is done, and then ENOMEM."""
    _, task = boot()
    for page in (0, 3):
        task.mmap(P, RW, ANON | MAP_FIXED, at(page))
    assert refusal(task, "madvise", at(0), 4 * P, MADV_DONTFORK) == "ENOMEM"
    assert drawn(task) == "0-1 rw dc, 3-4 rw dc"
    assert refusal(task, "madvise", at(20), P, MADV_COLD) == "ENOMEM"
    assert refusal(task, "madvise", at(20), 0, MADV_COLD) is None


@pytest.mark.parametrize("advice", [5, 7, 26, 99, -1, MADV_REMOVE])
def test_advice_it_does_not_take(advice: int) -> None:
    """Unknown, or for files: EINVAL, before anything is looked at but for what is for files."""
    _, task = boot()
    task.mmap(P, RW, ANON | MAP_FIXED, at(0))
    assert refusal(task, "madvise", at(0), P, advice) == "EINVAL"
    assert refusal(task, "madvise", at(0) + 1, P, MADV_COLD) == "EINVAL"


def test_populate() -> None:
    """A read maps the zero page and breaks no COW, a write makes pages its own; holes and protections are errors."""
    system, task = boot()
    obey(system, task, "map 0-4; map 4-6 r")
    task.madvise(at(0), 2 * P, MADV_POPULATE_READ)
    assert system.who_maps(task, at(0)) == []
    task.madvise(at(0), 4 * P, MADV_POPULATE_WRITE)
    assert task.mincore(at(0), 6 * P) == [True] * 4 + [False] * 2
    child = task.fork()
    child.madvise(at(0), 2 * P, MADV_POPULATE_READ)
    assert len(system.who_maps(child, at(0))) == 2
    child.madvise(at(0), 2 * P, MADV_POPULATE_WRITE)
    assert len(system.who_maps(child, at(0))) == 1
    assert refusal(task, "madvise", at(4), P, MADV_POPULATE_WRITE) == "EINVAL"
    assert refusal(task, "madvise", at(5), 2 * P, MADV_POPULATE_READ) == "ENOMEM"
    task.mprotect(at(4), P, PROT_NONE)
    assert refusal(task, "madvise", at(4), P, MADV_POPULATE_READ) == "EINVAL"
    assert refusal(task, "madvise", at(4), P, MADV_WILLNEED) is None
    system.check()


def test_dontfork_and_wipeonfork() -> None:
    """What the child does not get, and what it gets empty."""
    system, task = boot()
    obey(system, task, "map 0-6; write 0-6; dontfork 0-2; wipeonfork 2-4")
    child = task.fork()
    assert drawn(child) == "2-4 rw wf, 4-6 rw"
    assert child.mincore(at(2), 4 * P) == [False, False, True, True]
    system.check()


def test_msync() -> None:
    """Errors only: there is nothing to write (seen on 6.18)."""
    system, task = boot()
    obey(system, task, "map 0-4; lock 0-2")
    rows = [
        ((at(0), P, MS_INVALIDATE), "EBUSY"),
        ((at(2), P, MS_INVALIDATE), None),
        ((at(2), 8 * P, MS_INVALIDATE), "ENOMEM"),
        ((at(2), P, MS_ASYNC | MS_SYNC), "EINVAL"),
        ((at(2) + 1, P, MS_SYNC), "EINVAL"),
        ((at(2), P, 8), "EINVAL"),
        ((at(20), 0, MS_SYNC), None),
    ]
    assert [refusal(task, "msync", *arguments) for arguments, _ in rows] == [errno for _, errno in rows]


def test_mincore() -> None:
    """1 0 after one touch (modern.md 4); a hole is ENOMEM."""
    _, task = boot()
    task.mmap(2 * P, RW, ANON | MAP_FIXED, at(0))
    task.touch(at(0), P)
    assert task.mincore(at(0), 2 * P) == [True, False]
    assert refusal(task, "mincore", at(0), 3 * P) == "ENOMEM"
    assert refusal(task, "mincore", at(0) + 1, P) == "EINVAL"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 511, 512, 513, 1 << 18, (1 << 18) - 1, 1 << 27]), st.booleans()), max_size=12
    )
)
def test_munmap_frees_every_table_that_nobody_needs(steps: list[tuple[int, bool]]) -> None:
    """free_pgd_range looks at every level: what is left maps a stretch in which something is mapped (VmPTE on 6.18)."""
    system, task = boot()
    for page, mapped in steps:
        if mapped:
            task.mmap(P, RW, ANON | MAP_FIXED, at(page))
            task.touch(at(page), P, write=True)
        else:
            task.munmap(at(page), P)
        assert task.mm is not None
        pages = [page for vma in task.mm.vmas for page in range(vma.start >> 12, vma.end >> 12)]
        needed = {(level, page >> 9 * level) for page in pages for level in (1, 2, 3)}
        assert task.mm.nr_tables == 1 + len(needed)
    system.check()


# -- stacks ----------------------------------------------------------------------------------------------------------


def stack(task: rmaplab.Task, page: int, prot: int = RW) -> None:
    task.mmap(2 * P, prot, ANON | MAP_FIXED | MAP_GROWSDOWN, at(page))


def test_it_grows_down() -> None:
    """To the page that is touched; a read too, and then it has an anon_vma and merges with fresh memory like any other."""
    system, task = boot()
    stack(task, 600)
    task.write(at(597), b"x")
    assert drawn(task) == "597-602 rw gd"
    task.touch(at(590), P)
    assert drawn(task) == "590-602 rw gd"
    stack(task, 602)
    assert drawn(task) == "590-604 rw gd"
    system.check()


def test_it_keeps_away_from_others() -> None:
    """256 pages from what is accessible (seen on 6.18: 557 is the lowest it gets to above 301), not from what is not."""
    system, task = boot()
    obey(system, task, "map 300-301")
    stack(task, 600)
    with pytest.raises(SegmentationFault):
        task.write(at(556), b"x")
    task.write(at(557), b"x")
    assert drawn(task) == "300-301 rw, 557-602 rw gd"
    elsewhere = task.mmap(P, address=at(500))
    assert elsewhere != at(500)
    task.munmap(elsewhere, P)
    task.mprotect(at(300), P, PROT_NONE)
    task.write(at(301), b"x")
    assert drawn(task) == "300-301 none, 301-602 rw gd"
    with pytest.raises(SegmentationFault):
        task.write(at(300), b"x")
    system.check()


def test_it_has_a_limit() -> None:
    """RLIMIT_STACK, 8 MiB: 2,048 pages and no more (seen on 6.18)."""
    _, task = boot()
    stack(task, 3000)
    task.write(at(3002 - 2048), b"x")
    with pytest.raises(SegmentationFault):
        task.write(at(3002 - 2049), b"x")
    assert drawn(task) == "954-3002 rw gd"


def test_it_grows_for_an_access_it_does_not_allow() -> None:
    """A write below a read-only one is a fault, and it has grown all the same (seen on 6.18)."""
    system, task = boot()
    stack(task, 300, PROT_READ)
    with pytest.raises(SegmentationFault):
        task.write(at(299), b"x")
    assert drawn(task) == "299-302 r gd"
    system.check()


# -- processes -------------------------------------------------------------------------------------------------------


def test_fork_is_lazy() -> None:
    """A VMA without anonymous pages is not copied entry by entry: the zero page is mapped again by the child (eras.md 3.2)."""
    system, task = boot()
    obey(system, task, "map 0-4; map 8-12; write 8-9")
    task.touch(at(0), 4 * P)
    task.touch(at(8), 4 * P)
    child = task.fork()
    assert child.mincore(at(0), 4 * P) == [False] * 4
    assert child.mincore(at(8), 4 * P) == [True] * 4
    system.check()


def test_clone_vm() -> None:
    """CLONE_VM: one address space, until the last of them has gone."""
    system, task = boot()
    task.mmap(2 * P, RW, ANON | MAP_FIXED, at(0))
    other = task.clone_vm()
    other.write(at(0), b"seen")
    assert task.read(at(0), 4) == b"seen"
    task.exit()
    assert other.read(at(0), 4) == b"seen"
    system.check()
    other.exit()
    assert not system.kernel.mms


@pytest.mark.parametrize("kernel", ["6.18", "2.6.2", "2.6.5-rc1+anonmm"])
def test_execve(kernel: str) -> None:
    """A new, empty address space; the old one goes, or stays with those who share it. Limits stay."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    address = task.mmap(2 * P)
    task.write(address, b"x")
    task.limit_as("1M")
    child = task.vfork()
    child.execve()
    assert child.mm is not task.mm
    assert task.read(address) == b"x"  # it waits no longer
    task.execve()
    assert task.mm is not None
    assert (task.mm.map_count, task.mm.rss, task.limits.address_space) == (0, 0, 1 << 20)
    assert system.kernel.design.tracked().size == 0
    system.check()


def test_mlockall_ends_with_exec() -> None:
    """MCL_FUTURE is not inherited by what is executed."""
    system, task = boot()
    task.mlockall(MCL_FUTURE)
    task.execve()
    obey(system, task, "map 0-2; = 0-2 rw")


# -- kernels that do not know these calls ----------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"])
def test_then(kernel: str) -> None:
    """mlock2 came with 4.4, most advice later; mlock needed CAP_IPC_LOCK; mincore knew files (eras.md 6.3; history.md 1.5.11)."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    address = task.mmap(4 * P)
    task.write(address, b"x")
    assert refusal(task, "mlock2", address, P, 0) == "ENOSYS"
    assert refusal(task, "mlock", address, P) == "EPERM"
    assert refusal(task, "mlockall", MCL_CURRENT) == "EPERM"
    assert [
        refusal(task, "madvise", address, P, advice) for advice in (MADV_FREE, MADV_DONTFORK, MADV_POPULATE_WRITE)
    ] == ["EINVAL"] * 3
    assert refusal(task, "mremap", address, P, P, MAY | STAY) == "EINVAL"
    assert refusal(task, "mincore", address, P) == "ENOMEM"
    task.madvise(address, P, MADV_DONTNEED)
    assert task.read(address) == b"\0"
    task.cap_ipc_lock(granted=True)
    task.mlock(address + P, P)
    assert task.mm is not None
    assert task.mm.locked_vm == 1
    assert task.mm.map_count == 3
    system.check()
    child = task.fork()
    assert child.mm is not None
    assert child.mm.locked_vm == 0
    system.check()
