"""The ledger counts elementary operations; a price list turns them into simulated time.

    what happened                   counted as          priced as (ns)
    copy_page_range, 1 entry        pte_copy            800
    page_remove_rmap, 1 cache line  chain_line          100
    anonymous write fault           anon_fault          2600
    ...

Three kinds of operations are added up besides, whatever a reverse map calls them: `visits`, what a walk from a page has looked at (a VMA, an
mm, a slot); `in_vain`, looks that found something else, by reason; and `searched`, what was gone through to take a mapping away.

The counts are the result: they follow from kernel, box and workload alone. Prices decide only how long things take, and
so who is alive when; that is why every result names its price list. Nothing here or anywhere reads the wall clock.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PriceList:
    """Nanoseconds of simulated time per operation; what is not listed is counted and costs nothing."""

    name: str
    source: str
    ns: Mapping[str, int]


Snapshot = tuple[Counter[str], Counter[str], int, int, int, int]


class Ledger:
    """Counts by operation, and the time they have cost since it was last taken."""

    def __init__(self, prices: PriceList) -> None:
        self.prices = prices
        self.counts: Counter[str] = Counter()
        self._price = dict(prices.ns).get
        self.pending_ns = 0
        self.visits = self.in_vain = self.searched = 0
        self.told: Callable[[str], None] | None = None
        """Hears of each visit before it is counted: which operation it is."""

    def charge(self, operation: str, nr: int = 1) -> None:
        """Count `nr` operations and add their price to the time that is due."""
        self.counts[operation] += nr
        self.pending_ns += nr * self._price(operation, 0)

    def visit(self, operation: str, nr: int = 1) -> None:
        """A walk from a page looks at something; at `nr` things, if nobody hears of each."""
        if self.told is not None:
            self.told(operation)
        self.visits += nr
        self.charge(operation, nr)

    def waste(self, reason: str, nr: int = 1) -> None:
        """What it has looked at does not map the page."""
        self.in_vain += nr
        self.charge(reason, nr)

    def search(self, operation: str, nr: int) -> None:
        """`nr` mappings were gone through to find one that is to be taken away."""
        self.searched += nr
        self.charge(operation, nr)

    def snapshot(self) -> Snapshot:
        """What restore() needs."""
        return self.counts, self.counts.copy(), self.pending_ns, self.visits, self.in_vain, self.searched

    def restore(self, snapshot: Snapshot) -> None:
        """Forget what has happened since the snapshot: looking at a machine must not change its story."""
        self.counts, counts, self.pending_ns, self.visits, self.in_vain, self.searched = snapshot
        self.counts.clear()  # whoever has it keeps it
        self.counts.update(counts)
