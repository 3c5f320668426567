"""The walk, visit by visit, as the ledger hears of it.

A design tells the ledger what it does while it walks: a visit when it looks at something (a VMA, an mm, a chain's slot), waste when that
was in vain, and what a look cost. Put in order with the answers, that is the walk:

    1  vma_visit, table_walk                    -> pid 2 at 40000000
    2  vma_visit, table_walk, visit_other_page  in vain

Afterwards the ledger is as it was before: looking on must not change what is counted.
"""

from collections import Counter
from dataclasses import dataclass, field

from rmaplab.machine.ledger import Ledger
from rmaplab.rmap.pages import Rmap
from rmaplab.rmap.protocol import Mapping


@dataclass
class TracedVisit:
    """One thing that was looked at: what was charged for it, and what was found there. `looks` are the charges that are visits."""

    charges: Counter[str] = field(default_factory=Counter)
    looks: set[str] = field(default_factory=set)
    found: list[Mapping] = field(default_factory=list)

    @property
    def began(self) -> bool:
        """Whether more than the looking has happened: the next look is another visit then."""
        return bool(self.found) or len(self.charges) > len(self.looks)

    def __str__(self) -> str:
        return ", ".join(operation if nr == 1 else f"{operation} {nr}" for operation, nr in self.charges.items())


class Tape:
    """What a ledger hears, cut into visits: what it counts while one lasts is that visit's."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.visits: list[TracedVisit] = []

    def visit(self, operation: str) -> None:
        """The ledger is about to count a look. What goes on with the last visit is part of that: an mm, and its first VMA."""
        last = self.visits[-1] if self.visits else None
        if last is None or last.began or operation in last.charges:
            last = self._next()
        last.looks.add(operation)

    def answer(self, mapping: Mapping) -> None:
        """Note what was found."""
        (self.visits[-1] if self.visits else self._next()).found.append(mapping)

    def end(self) -> None:
        """The walk is over. If it has visited nothing, what it has counted is told all the same."""
        if not self.visits and self._ledger.counts:
            self._next()

    def _next(self) -> TracedVisit:
        """What is counted from here on goes to another visit; what was counted before the first one goes to that."""
        self.visits.append(TracedVisit(self._ledger.counts if not self.visits else Counter()))
        self._ledger.counts = self.visits[-1].charges
        return self.visits[-1]


@dataclass(frozen=True)
class TracedWalk:
    """A walk that was made: its visits and what the ledger counted."""

    pfn: int
    visits: list[TracedVisit]

    @property
    def counts(self) -> Counter[str]:
        """All that was charged."""
        return sum((visit.charges for visit in self.visits), Counter())

    @property
    def answers(self) -> list[Mapping]:
        """Who maps the page."""
        return [mapping for visit in self.visits for mapping in visit.found]

    @property
    def useful(self) -> int:
        """Visits that found something."""
        return sum(bool(visit.found) for visit in self.visits)


def recorded_walk(rmap: Rmap, pfn: int) -> TracedWalk:
    """Ask who maps `pfn`, and take down what the ledger hears."""
    ledger = rmap.machine.ledger
    before, tape = ledger.snapshot(), Tape(ledger)
    ledger.counts, ledger.told = Counter(), tape.visit
    try:
        for mapping in rmap.walk(pfn):
            tape.answer(mapping)
        tape.end()
    finally:
        ledger.told = None
        ledger.restore(before)
    return TracedWalk(pfn, tape.visits)
