"""What cannot be in the graph of a reverse map, and where: chains, roots, parents and counters that contradict each other.

It is what include/linux/rmap.h and mm/rmap.c of 6.x promise (reference: CVE-2022-42703 for the fourth finding about VMAs). A dump
of a kernel that goes on running may break it: then it is torn.
"""

from typing import NamedTuple

import numpy as np

from rmaplab.machine.arrays import I64, U64, Bools
from rmaplab.objects.graph import UNKNOWN, Graph


class Finding(NamedTuple):
    """Something that cannot be: what, how often, and the address spaces that have to do with it (not each only once)."""

    what: str
    times: int
    mms: I64

    def __str__(self) -> str:
        return f"{self.times:,} {self.what}"


def findings(graph: Graph) -> list[Finding]:
    """What cannot be, and in which address spaces. O(chains log chains)."""
    vmas, anon_vmas, chains = graph.vmas, graph.anon_vmas, graph.chains
    itself, root_of = np.arange(len(anon_vmas.root)), anon_vmas.root
    own = chains.anon_vma == vmas.anon_vma[chains.vma]
    times_own = np.bincount(chains.vma[own], minlength=len(vmas.mm))
    children, active = _recount(graph)
    overlap = np.zeros(len(vmas.mm), np.bool_)
    overlap[1:] = (vmas.mm[1:] == vmas.mm[:-1]) & (vmas.start[1:] < vmas.end[:-1])
    of_vmas = {
        "overlap in one address space": overlap,
        "have an anon_vma and no chain, or chains and no anon_vma": (vmas.anon_vma >= 0) != (graph.chain_lengths() > 0),
        "hang on another set of anon_vmas than others with the same anon_vma": _unlike_chains(graph),
        "do not hang on their own anon_vma exactly once": (vmas.anon_vma >= 0) & (times_own != 1),
    }
    of_anon_vmas = {
        "have a root that has another root": root_of[root_of] != root_of,
        "have a parent of another root": root_of[anon_vmas.parent] != root_of,
        "are not reached from a root": graph.depths == 0,
        "are their own parent and no root": (anon_vmas.parent == itself) & (root_of != itself),
        "have more children than num_children": _exceeds(children, anon_vmas.num_children),
        "have more VMAs than num_active_vmas": _exceeds(active, anon_vmas.num_active_vmas),
    }
    stray = root_of[chains.anon_vma] != root_of[vmas.anon_vma[chains.vma]]
    found = [Finding(f"VMAs {what}", int(bad.sum()), vmas.mm[bad]) for what, bad in of_vmas.items()]
    for what, bad in of_anon_vmas.items():
        affected = vmas.mm[chains.vma[bad[chains.anon_vma]]] if bad.any() else vmas.mm[:0]
        found.append(Finding(f"anon_vmas {what}", int(bad.sum()), affected))
    what = "chains hang on anon_vmas of another root than their VMA's"
    found.append(Finding(what, int(stray.sum()), vmas.mm[chains.vma[stray]]))
    return [finding for finding in found if finding.times]


def hidden(graph: Graph) -> tuple[int, int]:
    """(children, VMAs) that the counters of the anon_vmas count and the graph does not have: processes we cannot see."""
    children, active = _recount(graph)
    found = [(graph.anon_vmas.num_children, children), (graph.anon_vmas.num_active_vmas, active)]
    missing = [np.where(said == UNKNOWN, 0, said - recount).clip(0).sum() for said, recount in found]
    return int(missing[0]), int(missing[1])


def _recount(graph: Graph) -> tuple[I64, I64]:
    nr = len(graph.anon_vmas.root)
    own = graph.vmas.anon_vma[graph.vmas.anon_vma >= 0]
    parents = graph.anon_vmas.parent[graph.anon_vmas.parent >= 0]
    return np.bincount(parents, minlength=nr), np.bincount(own, minlength=nr)


def _unlike_chains(graph: Graph) -> Bools:
    """By VMA: its set of anon_vmas differs from that of the first VMA of the same anon_vma. Sets are compared by sums of hashes."""
    known = np.flatnonzero(graph.vmas.anon_vma >= 0)
    sums = np.zeros(len(graph.vmas.mm), np.uint64)
    np.add.at(sums, graph.chains.vma, _scatter(graph.chains.anon_vma))
    of_first = np.zeros(len(graph.anon_vmas.root), np.uint64)
    own, sums = graph.vmas.anon_vma[known][::-1], sums[known]
    of_first[own] = sums[::-1]
    unlike = np.zeros(len(graph.vmas.mm), np.bool_)
    unlike[known] = sums != of_first[own[::-1]]
    return unlike


def _exceeds(recount: I64, counter: I64) -> Bools:
    found: Bools = (counter != UNKNOWN) & (recount > counter)
    return found


def _scatter(numbers: I64) -> U64:
    """A 64-bit hash of each number (the finalizer of MurmurHash3)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x ^= x >> np.uint64(33)
        x *= np.uint64(factor)
    return x ^ x >> np.uint64(33)
