"""The running system under observation: a call is made, measured, and becomes a Scene.

    mm/  --->  a verb of the design  --->  told: which one, how many pages, what was charged meanwhile

While a story is told the design is of a class of its own, derived from its real one, whose verbs tell the stage what they are asked: so
what the reverse map costs can be told from the rest, whatever the design.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import SyscallError, UsageError
from rmaplab.kernels.system import System
from rmaplab.lab.explain.picture import Entry, Page, draw_memory, read_all_entries, read_page
from rmaplab.lab.explain.trace import TracedWalk, recorded_walk
from rmaplab.machine.batch import Batch
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.pagetable import lookup
from rmaplab.rmap.brute_force import mappings_of
from rmaplab.rmap.protocol import Mapping, ReverseMap

R = TypeVar("R")
PAGES = ("add", "duplicate", "remove")
VERBS = (*PAGES, "rehome", "move_verdict", "moved", "reserve")
"""Those of pages; all that begin with mm_, vma_ or tables_ are verbs too. PAGES are told of whatever the design makes of them."""


@dataclass(frozen=True)
class Scene:
    """One step: the call, what happened in words, and sections of lines: (heading, lines)."""

    title: str
    said: list[str]
    sections: list[tuple[str, list[str]]]
    answers: dict[int, list[Mapping]]
    """Who maps each page the story follows, by the reverse map."""


@dataclass
class Cost:
    """What a call took: operations counted in all, those of the design, what it was asked, frames and objects."""

    counts: Counter[str] = field(default_factory=Counter)
    of_design: Counter[str] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)
    tables: tuple[int, int] = (0, 0)
    objects: list[tuple[str, int, int, int]] = field(default_factory=list)
    """Per slab cache of the design: name, bytes an object, objects before, and after."""


def _tell(stage: Stage, design: ReverseMap) -> None:
    """From now on `design` notes in stage.cost what it is asked, and what it has charged for that."""
    own = type(design)
    verbs = [name for name in dir(own) if name in VERBS or name.startswith(("mm_", "vma_", "tables_"))]
    told = [name for name in verbs if name in PAGES or getattr(own, name) is not getattr(ReverseMap, name, None)]
    asked = [name for name in told if not name.endswith("_bytes")]
    design.__class__ = type(own.__name__, (own,), {name: _telling(stage, getattr(own, name)) for name in asked})


def _telling(stage: Stage, verb: Callable[..., Any]) -> Callable[..., Any]:
    def ask(*arguments: Any) -> Any:
        if stage.asking:  # one of its verbs makes use of another
            return verb(*arguments)
        stage.asking = True
        before = stage.machine.ledger.counts.copy()
        try:
            answer = verb(*arguments)
        finally:
            stage.asking = False
        stage.cost.of_design += stage.machine.ledger.counts - before
        stage.cost.asked.append(verb.__name__ + _extent(arguments, answer))
        return answer

    return ask


def _extent(arguments: tuple[Any, ...], answer: Any) -> str:
    batch = next((argument for argument in arguments if isinstance(argument, Batch)), None)
    if batch is None:
        return ""
    verdict = f": copy {int(answer.sum())}" if isinstance(answer, np.ndarray) else ""
    return f"({batch.nr} {'page' if batch.nr == 1 else 'pages'}{verdict})"


class Stage:
    """A booted system and a story's view of it."""

    def __init__(self, system: System) -> None:
        self.system, self.kernel, self.machine = system, system.kernel, system.kernel.machine
        self.design = self.kernel.design
        self.cost = Cost()
        """Of the call that is being made."""
        self.asking = False
        """A verb of the design is at work."""
        _tell(self, self.design)

    def call(self, call: Callable[[], R]) -> tuple[R, Cost]:
        """Make a call and measure it. Raises UsageError where the box is too small for a story."""
        cost = self.cost = Cost()
        counts = self.machine.ledger.counts.copy()
        tables = self.machine.nr_tables
        objects = [cache.nr_objects for cache in self.design.caches()]
        try:
            result = call()
        except SyscallError as error:
            raise UsageError(f"{error.call} failed ({error.name}) in the middle of the story: try more --ram") from None
        cost.counts = self.machine.ledger.counts - counts
        cost.tables = (tables, self.machine.nr_tables)
        cost.objects = [
            (cache.name, cache.object_bytes, before, cache.nr_objects)
            for cache, before in zip(self.design.caches(), objects, strict=True)
        ]
        return result, cost

    def pfn(self, task: Task, address: int) -> int:
        """The frame that `task` has at `address`. Raises UsageError where it has none: then a story makes no sense."""
        assert task.mm is not None
        entry, _ = lookup(*self.machine.geometry, task.mm.pgd, address)
        if not entry & self.machine.mapped:
            raise UsageError(f"pid {task.pid} has no page at {address:x}: this story needs one")
        return int(entry >> 12)

    def page(self, task: Task, address: int) -> Page:
        """That frame's count and what it is made of."""
        return read_page(self.kernel, self.pfn(task, address))

    def entries(self, task: Task) -> list[Entry]:
        """All its entries, in address order."""
        return [entry for entry in read_all_entries(self.kernel) if entry.pid == task.pid]

    def judged(self, pfn: int) -> list[Mapping]:
        """Who maps the page, by all page tables."""
        return list(mappings_of(self.machine, self.kernel.mms.values(), pfn))

    def page_of(self, pfn: int) -> Page:
        """A frame's count and what it is made of."""
        return read_page(self.kernel, pfn)

    def tracked_pages(self, tasks: list[Task], start: int, length: int) -> list[int]:
        """The frames that `tasks` have in [start, start + length), the zero page excepted: each once, in that order."""
        pids = [task.pid for task in tasks]
        entries = [entry for entry in read_all_entries(self.kernel) if start <= entry.address < start + length]
        entries.sort(key=lambda entry: (entry.address, entry.pid))
        return list(dict.fromkeys(e.pfn for e in entries if e.pid in pids and e.pfn != ZERO_PFN))

    def step(self, title: str, said: list[str], cost: Cost, pfns: list[int]) -> Scene:
        """The step that has just been made, with the pages `pfns` followed up the reverse map."""
        pfns = list(dict.fromkeys(pfns))
        walks = [recorded_walk(self.kernel.rmap, pfn) for pfn in pfns]
        who = [self._verdict(walk) for walk in walks]
        sections = [("", draw_memory(self.kernel)), ("", self._draw(pfns)), ("who maps it", who), *_bill(cost)]
        return Scene(title, said, sections, {walk.pfn: walk.answers for walk in walks})

    def ask(self, title: str, said: list[str], pfns: list[int]) -> Scene:
        """A step in which nothing is done but asking: the walk itself, visit by visit."""
        walks = [recorded_walk(self.kernel.rmap, pfn) for pfn in pfns]
        sections: list[tuple[str, list[str]]] = []
        for walk in walks:
            sections += [("", self._draw([walk.pfn])), ("the walk", _visits(walk))]
            sections += [("counted", [_summary(walk)]), ("who maps it", [self._verdict(walk)])]
        return Scene(title, said, sections, {walk.pfn: walk.answers for walk in walks})

    def _draw(self, pfns: list[int]) -> list[str]:
        """The design's drawings, one below the other; what pages without a box of their own have in common stands once."""
        lines: list[str] = []
        drawings = [self.design.draw(pfn) for pfn in pfns]
        for drawing, after in zip(drawings, [*drawings[1:], []], strict=True):
            common = drawing[1:] == after[1:] and not any(line.startswith("+-") for line in drawing)
            lines += drawing[:1] if common else drawing
        return lines

    def _verdict(self, walk: TracedWalk) -> str:
        real = self.judged(walk.pfn)
        answer = f"frame {walk.pfn}: {len(walk.answers)} {_times(walk.answers)}"
        key = [(m.mm.address, m.address) for m in walk.answers]
        if sorted(key) == sorted((m.mm.address, m.address) for m in real):
            return f"{answer}; the judge agrees"
        unfindable = ", which the design declares" if walk.pfn in self.design.declared_unfindable() else ""
        return f"{answer}; THE JUDGE DISAGREES{unfindable}: {len(real)} {_times(real)}"


def where(mappings: list[Mapping]) -> str:
    """The answers, as "pid 2 at 40000000, pid 1 at 40000000"."""
    return ", ".join(f"pid {mapping.mm.pid} at {mapping.address:x}" for mapping in mappings)


def _times(mappings: list[Mapping]) -> str:
    noun = "mapping" if len(mappings) == 1 else "mappings"
    return f"{noun}: {where(mappings)}" if mappings else noun


def _visits(walk: TracedWalk) -> list[str]:
    width = max((len(str(visit)) for visit in walk.visits), default=0)
    return [
        f"{nr}  {visit!s:<{width}}  " + (f"-> {where(visit.found)}" if visit.found else "in vain")
        for nr, visit in enumerate(walk.visits, 1)
    ] or ["no visit at all"]


def _summary(walk: TracedWalk) -> str:
    nr = len(walk.visits)
    visits = f"{nr} {'visit' if nr == 1 else 'visits'}, {walk.useful} useful, {nr - walk.useful} wasted"
    return f"{visits}; the ledger: {listed(walk.counts)}"


def _bill(cost: Cost) -> list[tuple[str, list[str]]]:
    """What the call cost, as sections."""
    memory = [f"page-table frames {_change(*cost.tables)}"]
    memory += [f"{name} objects of {size} bytes {_change(old, new)}" for name, size, old, new in cost.objects]
    nr_asked = Counter(cost.asked)
    asked = [verb if nr == 1 else f"{nr} x {verb}" for verb, nr in nr_asked.items()]
    return [
        ("rmap told", [", ".join(asked) or "nothing it cares about"]),
        ("rmap cost", [listed(cost.of_design)]),
        ("other cost", [listed(cost.counts - cost.of_design)]),
        ("memory", ["; ".join(memory)]),
    ]


def _change(old: int, new: int) -> str:
    return f"{new} ({new - old:+})" if new != old else f"{new}"


def listed(counts: Counter[str]) -> str:
    """Counts in words, by name; those of TLBs, of which no story tells, are left out."""
    told = {operation: nr for operation, nr in counts.items() if nr and not operation.startswith("tlb_")}
    return ", ".join(f"{operation} {nr}" for operation, nr in sorted(told.items())) or "nothing counted"
