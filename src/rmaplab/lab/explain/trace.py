"""The walk, visit by visit, as the ledger hears of it.

A design charges what it does while it walks: `..._visit` when it looks at something (a VMA, an mm, a chain's slot),
`visit_...` when that was in vain, and what a look cost. Put in order with the answers, that is the walk:

    1  vma_visit, table_walk                    -> pid 2 at 40000000
    2  vma_visit, table_walk, visit_other_page  in vain

The real ledger hears nothing of it: looking on must not change what is counted.
"""

from collections import Counter
from dataclasses import dataclass, field

from rmaplab.machine.ledger import Ledger
from rmaplab.rmap.pages import Rmap
from rmaplab.rmap.protocol import Mapping


@dataclass
class TracedVisit:
    """One thing that was looked at: what was charged for it, and what was found there."""

    charges: Counter[str] = field(default_factory=Counter)
    found: list[Mapping] = field(default_factory=list)

    @property
    def began(self) -> bool:
        """Whether more than the looking has happened: the next ..._visit is another visit then."""
        return bool(self.found) or any(not operation.endswith("_visit") for operation in self.charges)

    def __str__(self) -> str:
        return ", ".join(operation if nr == 1 else f"{operation} {nr}" for operation, nr in self.charges.items())


class Tape(Ledger):
    """A ledger that also keeps the order."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger.prices)
        self.visits: list[TracedVisit] = []

    def charge(self, operation: str, nr: int = 1) -> None:
        """Count it, and put it to the visit it belongs to."""
        super().charge(operation, nr)
        last = self.visits[-1] if self.visits else None
        if last is None or (operation.endswith("_visit") and (last.began or operation in last.charges)):
            self.visits.append(TracedVisit())
        self.visits[-1].charges[operation] += nr

    def answer(self, mapping: Mapping) -> None:
        """Note what was found."""
        if not self.visits:
            self.visits.append(TracedVisit())
        self.visits[-1].found.append(mapping)


@dataclass(frozen=True)
class TracedWalk:
    """A walk that was made: its visits and what the ledger counted."""

    pfn: int
    visits: list[TracedVisit]
    counts: Counter[str]

    @property
    def answers(self) -> list[Mapping]:
        """Who maps the page."""
        return [mapping for visit in self.visits for mapping in visit.found]

    @property
    def useful(self) -> int:
        """Visits that found something."""
        return sum(bool(visit.found) for visit in self.visits)


def recorded_walk(rmap: Rmap, pfn: int) -> TracedWalk:
    """Ask who maps `pfn`, with a tape in the ledger's place."""
    machine = rmap.machine
    ledger = machine.ledger
    tape = Tape(ledger)
    machine.ledger, machine.charge = tape, tape.charge
    try:
        for mapping in rmap.walk(pfn):
            tape.answer(mapping)
    finally:
        machine.ledger, machine.charge = ledger, ledger.charge
    return TracedWalk(pfn, tape.visits, tape.counts)
