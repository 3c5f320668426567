"""Fifteen years in which VMAs did not merge that could have. Mended in 6.16, 2025.

A VMA that has written pages names an anon_vma; one that has none must get the other's chain before both can be one. Rik van Riel's patch
of 2010 did that. In 2011 another wanted fork's children kept apart and asked whether the VMA that grows has *exactly one* chain:
one that has written nothing has none, so it was refused too.

Sources: 5beb49305251 (2.6.34), 965f55dea0e3 (3.0, May 2011), 879bca0a2c4f (6.16), mm/mmap.c and mm/vma.c, is_mergeable_anon_vma; modern.md 1.8.
"""

from collections.abc import Callable, Iterator, Sequence

from rmaplab.calls.task import Task
from rmaplab.kernels.system import System, boot
from rmaplab.lab.explain.side_by_side import RW, SideBySide, Trial, map_pages, page, write_pages
from rmaplab.objects.flags import PROT_EXEC
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.units import PAGE_SIZE

RWX = RW | PROT_EXEC
STRIPES = 100


class AnyOfTwo(AnonVmaChainMap):
    """One of them has no anon_vma, or both have the same."""

    def vma_can_grow(self, vma: VmArea, source: VmArea | None) -> bool:
        """As is_mergeable_anon_vma of 2.6.34 to 2.6.39."""
        return source is None or self.vma_can_merge(vma, source)


class ExactlyOne(AnonVmaChainMap):
    """One of them has none, and what grows has exactly one chain; or both have the same."""

    def vma_can_grow(self, vma: VmArea, source: VmArea | None) -> bool:
        """As is_mergeable_anon_vma of 3.0 to 6.15: list_is_singular is false for an empty list too."""
        own, other = vma.anon_vma, source.anon_vma if source is not None else None
        return own is other or ((own is None or other is None) and len(self.chains.get(vma, ())) == 1)


RULES = (
    ("2.6.34 to 2.6.39", AnyOfTwo),
    ("3.0 to 6.15", ExactlyOne),
    ("6.16 on: no chain or one", AnonVmaChainMap),
)


def _rewrite(task: Task, first: int, last: int, prot: int) -> None:
    task.mprotect(page(first), (last - first) * PAGE_SIZE, prot)


def _beside(system: System, unwritten: Sequence[tuple[int, int]]) -> Task:
    """Pages 4 to 7 are written while they may be executed; then they may not, as their unwritten neighbours."""
    task = system.spawn()
    for first, last in unwritten:
        map_pages(task, first, last)
    map_pages(task, 4, 8, RWX)
    write_pages(task, 4, 8)
    _rewrite(task, 4, 8, RW)
    return task


def _before(system: System) -> Task:
    return _beside(system, [(0, 4)])


def _behind(system: System) -> Task:
    return _beside(system, [(8, 12)])


def _both(system: System) -> Task:
    return _beside(system, [(0, 4), (8, 12)])


def _other_way(system: System) -> Task:
    """The unwritten one changes its rights, and its written neighbour grows."""
    task = system.spawn()
    map_pages(task, 0, 4)
    write_pages(task, 0, 4)
    map_pages(task, 4, 8, RWX)
    _rewrite(task, 4, 8, RW)
    return task


def _child(system: System) -> Task:
    """A fork's child maps new memory beside what it has inherited."""
    parent = system.spawn()
    map_pages(parent, 0, 4)
    write_pages(parent, 0, 4)
    child = parent.fork()
    map_pages(child, 4, 8)
    return child


def _stripes(system: System) -> Task:
    """As a compiler at run time: of an area each second page is written while it may be executed."""
    task = system.spawn()
    map_pages(task, 0, 2 * STRIPES)
    for i in range(0, 2 * STRIPES, 2):
        _rewrite(task, i, i + 1, RWX)
        write_pages(task, i, i + 1)
        _rewrite(task, i, i + 1, RW)
    return task


CASES: dict[str, Callable[[System], Task]] = {
    "before": _before,
    "behind": _behind,
    "both": _both,
    "reverse": _other_way,
    "child": _child,
    "stripes": _stripes,
}


def trial(rule: str, design: type[AnonVmaChainMap]) -> Trial:
    """How many VMAs the task of each case has in the end; everything is checked there."""
    found: dict[str, int | str] = {}
    for name, case in CASES.items():
        system = boot("6.18", ram="64M", swap="0", paging="x86-64", design=design)
        task = case(system)
        system.check()
        assert task.mm is not None
        found[name] = len(task.mm.vmas)
    return Trial("6.18", rule, found)


def _run() -> Iterator[Trial]:
    return (trial(*rule) for rule in RULES)


def said(trials: Sequence[Trial]) -> list[str]:
    """What the middle rule left, against the last."""
    first, for_years, mended = (each.found for each in trials)
    left = [name for name in CASES if int(for_years[name]) > int(mended[name])]
    stripes = f"{for_years['stripes']} VMAs where {mended['stripes']} will do; it may have 65,530"
    lines = [
        f"For fifteen years {len(left)} of these {len(CASES)} left more VMAs than they had to: {', '.join(left)}.",
        f"A process that writes as in 'stripes' came to {stripes}.",
    ]
    if int(mended["child"]) > int(first["child"]):
        lines.append(
            "A fork's child merges nothing new with what it has inherited: the rule of 3.0 was for that, and it still holds."
        )
    return [
        *lines,
        "What 6.16 allows again mremap had never had to do right: it did not clone the chain (explain mremap-merge).",
    ]


MERGE_15_YEARS = SideBySide(
    "merge-15-years",
    "a written VMA beside unwritten ones gets their rights back: do they become one?",
    'Lorenzo Stoakes, "fix incorrectly disallowed anonymous VMA merges", LKML, 17 March 2025; 879bca0a2c4f (6.16). Seen by Jann Horn in August 2023: docs/facts/modern.md 1.8',
    (
        "before: pages 0 to 3 rw; 4 to 7 rwx and written; then 4 to 7 rw",
        "behind, both: the unwritten ones are pages 8 to 11; or 0 to 3 and 8 to 11",
        "reverse: pages 0 to 3 rw and written; 4 to 7 rwx, unwritten; then 4 to 7 rw",
        "child: pages 0 to 3 rw and written; a fork's child maps 4 to 7 rw",
        f"stripes: {2 * STRIPES} pages rw; each second one is made rwx, written, and made rw again",
    ),
    "VMAs in the end, on 6.18 with the rule of",
    _run,
    said,
)
