"""Time lost to locks that are not simulated: an analytic estimate, and labelled so wherever it is shown.

The locks of zones and slab caches are not in the machine. How long would tasks wait for them? Let N acquisitions hold a lock
for h each, during a run of R seconds on n CPUs. Whoever comes finds it held by somebody else with probability

    rho = N h / R * (n - 1) / n             and waits then, in the mean,    h / (2 (1 - rho))

as in a queue with constant service (M/D/1: Pollaczek and Khinchine). It supposes that arrivals do not know of each other.

    class        held for, N h in all
    zone_lock    50 ns for each page that goes to a zone or comes from it
    slab_lock    20 ns for each pte_chain block that goes to its cache or comes from it

In how many acquisitions that happens does not matter here: per page in 2.4, by batches later (eras.md 9).
"""

from rmaplab.machine.ledger import Ledger

PAGE_NS, BLOCK_NS = 50, 20  # estimates: some instructions and part of a cache line each
ZONE = ("anon_fault", "cow_copy", "table_alloc", "page_free", "table_free")
BLOCKS = ("chain_block_alloc", "chain_block_free")


def estimates(ledger: Ledger, real_ns: int, cpus: int) -> dict[str, float]:
    """Seconds of CPU time lost by lock class, over all CPUs; classes that were not taken are missing."""
    pages = sum(ledger.counts[operation] for operation in ZONE)
    blocks = sum(ledger.counts[operation] for operation in BLOCKS)
    held = {"zone_lock": pages * PAGE_NS, "slab_lock": blocks * BLOCK_NS}
    return {name: lost_ns(held_ns, real_ns, cpus) / 10**9 for name, held_ns in held.items() if held_ns}


def lost_ns(held_ns: int, real_ns: int, cpus: int) -> int:
    """The formula above in whole ns, N waits of h rho / (2 (1 - rho)); `held_ns` is N h, and N itself cancels.

    A lock that is always held (rho >= 1) costs all but one CPU the whole time.
    """
    others, all_cpus = held_ns * (cpus - 1), real_ns * cpus  # rho is their quotient
    if others >= all_cpus:
        return real_ns * (cpus - 1)
    return held_ns * others // (2 * (all_cpus - others))
