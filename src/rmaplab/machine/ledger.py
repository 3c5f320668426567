"""The ledger counts elementary operations; a price list turns them into simulated time.

    what happened                   counted as          priced as (ns)
    copy_page_range, 1 entry        pte_copy            800
    page_remove_rmap, 1 cache line  chain_line          100
    anonymous write fault           anon_fault          2600
    ...

The counts are the result: they follow from kernel, box and workload alone. Prices decide only how long things take, and
so who is alive when; that is why every result names its price list. Nothing here or anywhere reads the wall clock.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PriceList:
    """Nanoseconds of simulated time per operation; what is not listed is counted and costs nothing."""

    name: str
    source: str
    ns: Mapping[str, int]


class Ledger:
    """Counts by operation, and the time they have cost since it was last taken."""

    def __init__(self, prices: PriceList) -> None:
        self.prices = prices
        self.counts: Counter[str] = Counter()
        self._ns = prices.ns
        self.pending_ns = 0

    def charge(self, operation: str, nr: int = 1) -> None:
        """Count `nr` operations and add their price to the time that is due."""
        self.counts[operation] += nr
        self.pending_ns += nr * self._ns.get(operation, 0)

    def snapshot(self) -> tuple[Counter[str], int]:
        """What restore() needs."""
        return self.counts.copy(), self.pending_ns

    def restore(self, snapshot: tuple[Counter[str], int]) -> None:
        """Forget what has happened since the snapshot: looking at a machine must not change its story."""
        self.counts, self.pending_ns = snapshot
