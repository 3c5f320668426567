"""The endless fork, 2012: a process forks and exits, its child forks and exits, and so on; one process lives at any time.

    generation 0 --> 1 --> 2 --> ... --> 300      every VMA of the last one hangs on its own anon_vma and on those of all
      exited      exited    exited       alive    ancestors: pages may have been inherited from any of them

Since 2.6.34 fork gives each VMA of the child an anon_vma of its own; an ancestor's lives on while a descendant hangs on it. Daniel Forrest
reported slabs that grow without bound. Since 3.19 fork hands out again what nobody calls his own any more.

Sources: Daniel Forrest, "Repeated fork() causes SLAB to grow without bound", LKML, 16 August 2012; 7a3ef208e662 (3.19), 2555283eb40d
(6.0); modern.md 1.3.
"""

from collections.abc import Iterator, Sequence

from rmaplab.kernels.system import System, boot
from rmaplab.lab.explain.scenarios import Degree
from rmaplab.lab.explain.side_by_side import SideBySide, Trial, map_pages, write_pages
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap, NewestFirst
from rmaplab.rmap.chained_anon_vma import ChainedAnonVma
from rmaplab.rmap.protocol import ReverseMap
from rmaplab.units import format_size

GENERATIONS = 300
VMAS = 10
SEEN_AT = (1, 10, 100)
STEP = 4  # pages from one VMA to the next: two are mapped, two stay empty, so that nothing merges


class NoReuse(AnonVmaChainMap):
    """An anon_vma of its own for every child."""

    def may_be_reused(self, vma: VmArea, anon_vma: ChainedAnonVma) -> bool:
        """As anon_vma_fork of 2.6.34 to 3.18: nobody asks whether an old one would do."""
        return False


RULES: tuple[tuple[str, str, type[ReverseMap] | None], ...] = (
    ("6.18", "no reuse, as 2.6.34 to 3.18", NoReuse),
    ("6.18", "degree, as 3.19 to 5.19", Degree),
    ("6.18", "its own: no VMA calls it its own, at most one child", None),
    ("6.18", "the same, the newest first", NewestFirst),
    ("2.6.5-rc1-aa1", "one for the family", None),
    ("2.6.5-rc1+anonmm", "one for each mm", None),
    ("2.6.2", "a pte chain for each shared page", None),
    ("2.4.21", "none: all page tables are searched", None),
)


def generations(system: System, nr: int, vmas: int) -> Iterator[int]:
    """The calls: yields the number of each generation when its parent has exited. Each writes the first page of every VMA."""
    task = system.spawn()
    for i in range(vmas):
        map_pages(task, i * STEP, i * STEP + 2)
        write_pages(task, i * STEP, i * STEP + 2)
    for generation in range(1, nr + 1):
        child = task.fork()
        task.exit()
        task = child
        for i in range(vmas):
            write_pages(task, i * STEP, i * STEP + 1)
        yield generation


def trial(kernel: str, rule: str, design: type[ReverseMap] | None, nr: int, vmas: int) -> Trial:
    """One row. Everything is checked when the last generation stands."""
    system = boot(kernel, ram="128M", swap="0", paging="x86-64", design=design)
    caches = system.kernel.design.caches()
    links, at_last = 0, 0
    seen: dict[str, int | str] = {}
    for generation in generations(system, nr, vmas):
        counted = system.machine.ledger.counts["anon_vma_chain_link"]
        links, at_last = counted, counted - links
        if generation in (*SEEN_AT, nr):
            seen[("" if seen else "after ") + str(generation)] = caches[0].nr_objects if caches else 0
    system.check()
    memory = format_size(sum(cache.bytes for cache in caches))
    return Trial(
        kernel,
        rule,
        {**seen, "memory": memory},
        [f"the last fork makes {at_last:,} chains"] if at_last else [],
    )


def _run() -> Iterator[Trial]:
    return (trial(*rule, GENERATIONS, VMAS) for rule in RULES)


def said(trials: Sequence[Trial]) -> list[str]:
    """What comes of comparing the first trial with the kernel's own."""
    without, own = trials[0], trials[2]
    many, few = (int(each.found[str(GENERATIONS)]) for each in (without, own))
    each = f"{many // VMAS:,} for each: one of every generation"
    kept = f"With it {few:,}, {few // VMAS} for each, however long this goes on."
    lines = [f"Without reuse {many:,} anon_vmas for the {VMAS} VMAs of the one process that lives, {each}. {kept}"]
    if few > 2 * VMAS:
        bound = "The commit says that there are at most two for each VMA."
        lines.append(f"{bound} The root is a third: it counts itself as a child, so nobody ever takes it over.")
    return lines


ENDLESS_FORK = SideBySide(
    "endless-fork",
    "a process forks and exits, its child forks and exits: who clears up?",
    "Daniel Forrest, LKML, 16 August 2012; mended by 7a3ef208e662 (3.19, January 2015): docs/facts/modern.md 1.3",
    (
        f"pid 1 maps {VMAS} areas of 2 pages, apart from each other, and writes them",
        "pid 1 forks pid 2 and exits; pid 2 writes the first page of each area",
        f"pid 2 forks pid 3 and exits, and so on: {GENERATIONS} generations, one process alive",
    ),
    "objects after so many generations, and the slabs of the reverse map in the end",
    _run,
    said,
)
