"""Who forked whom, as far as a census shows: the address spaces of a fork tree, and those that must have been and have ended.

    census     A    B (ppid A)    C: its anon_vma's parent is B's    D: its anon_vma's parent is nobody's
    tree       A --> B --> C            one that has ended --> D

A child belongs to its parent (ppid) if that lives in the tree, else to whoever owns the anon_vmas above its own. If nobody
does, its parent has ended. Which memory a node had is for fork_history.py to fill in.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE, Graph


class Piece(NamedTuple):
    """Memory in one address space: `nr` pages from index `first` of a root anon_vma on, at `address`; its access, where it ends up."""

    root: int
    first: int
    nr: int
    address: int
    moved: bool
    access: int = 3

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + (self.nr << 12)

    @property
    def shift(self) -> int:
        """Address less index, in pages: a mapping's parts have the same."""
        return (self.address >> 12) - self.first


@dataclass
class FamilyNode:
    """An address space of the tree. `mm` is its row, NONE for one that has ended; `birth` when it came to be."""

    mm: int
    birth: int
    parent: int = NONE
    children: list[int] = field(default_factory=list)
    anon_vmas: set[int] = field(default_factory=set)
    """What was its own: of one that has ended only."""
    ended_early: bool = False
    """Before its children had children: one of those has taken over an anon_vma of its."""
    early: list[Piece] = field(default_factory=list)
    """What it has before its children are born: what it inherited and what they inherit."""
    kept: list[Piece] = field(default_factory=list)
    """Its VMAs in the census that come of those, and those that are parts of one mapping."""
    late: list[Piece] = field(default_factory=list)
    """Its other VMAs, each with an anon_vma of its own and nobody's else."""


def family_tree(graph: Graph, mms: I64) -> list[FamilyNode]:
    """These address spaces, and those that must have been above them. Their memory is still to be filled in."""
    processes, vmas, anon_vmas = graph.processes, graph.vmas, graph.anon_vmas
    oldest = np.lexsort((processes.pid, processes.start_time_ns))[::-1]
    head = np.zeros(graph.nr_mms, np.int64)
    head[processes.mm[oldest]] = oldest
    nodes = [FamilyNode(mm, int(processes.start_time_ns[head[mm]])) for mm in mms.tolist()]
    node_of = {node.mm: i for i, node in enumerate(nodes)}
    mm_of = dict(zip(processes.pid.tolist(), processes.mm.tolist(), strict=True))
    family = graph.families
    owner, ended = {}, dict[int, int]()  # by anon_vma: the node that lives, the first that has ended
    own: list[Counter[int]] = [Counter() for _ in nodes]
    for mm, anon_vma in zip(vmas.mm.tolist(), vmas.anon_vma.tolist(), strict=True):
        if anon_vma != NONE and mm in node_of:
            owner[anon_vma] = node_of[mm]
            own[node_of[mm]][anon_vma] += 1
    for i in range(len(nodes)):
        mm = nodes[i].mm
        above = mm_of.get(int(processes.parent[head[mm]]), NONE)
        mate = node_of.get(above, NONE)
        if above != mm and mate != NONE and family[above] == family[mm] and nodes[mate].birth <= nodes[i].birth:
            if i not in line(nodes, mate):
                nodes[i].parent = mate
        else:
            _find_parent(nodes, i, own[i], (owner, ended), anon_vmas.parent, anon_vmas.root)
    i = len(mms)
    while i < len(nodes):  # those that have ended had parents too; that may bring in more of them
        _find_parent(nodes, i, Counter(nodes[i].anon_vmas), (owner, ended), anon_vmas.parent, anon_vmas.root)
        i += 1
    for i, node in enumerate(nodes):
        node.ended_early = any(anon_vma in owner for anon_vma in node.anon_vmas)
        if node.parent != NONE:
            nodes[node.parent].children.append(i)
    return nodes


def _find_parent(
    nodes: list[FamilyNode],
    i: int,
    own: Counter[int],
    owners: tuple[dict[int, int], dict[int, int]],
    parent: I64,
    root: I64,
) -> None:
    """By the anon_vmas above its own: who owns most of them, or one that has ended; nobody if its own are all roots. O(own + depth)."""
    owner, of_ended = owners
    votes: Counter[int] = Counter()
    orphans = []
    for anon_vma, times in own.items():
        if root[anon_vma] == anon_vma:
            continue
        above = int(parent[anon_vma])
        mate = owner.get(above, NONE)
        if mate not in (NONE, i) and nodes[mate].birth < nodes[i].birth:
            votes[mate] += times
        elif above not in own:
            orphans.append(above)
    for mate, times in votes.most_common(1):
        if times >= len(orphans) and i not in line(nodes, mate):
            nodes[i].parent = mate
            return
    if not orphans:
        return
    ended = min((of_ended[each] for each in orphans if each in of_ended), default=len(nodes))
    if ended == len(nodes):
        nodes.append(FamilyNode(NONE, nodes[i].birth))
    if i not in line(nodes, ended):
        nodes[ended].anon_vmas.update(orphans)
        of_ended.update((each, min(ended, of_ended.get(each, ended))) for each in orphans)
        nodes[ended].birth = min(nodes[ended].birth, nodes[i].birth)
        nodes[i].parent = ended


def line(nodes: list[FamilyNode], i: int) -> list[int]:
    """A node and all above it."""
    above = []
    while i != NONE:
        above.append(i)
        i = nodes[i].parent
    return above


def generation(nodes: list[FamilyNode], i: int) -> int:
    """1 for who has no parent."""
    return len(line(nodes, i))


def by_birth(nodes: list[FamilyNode], order: list[int]) -> list[int]:
    """By birth, but parents first."""
    done: dict[int, None] = {}
    for young in sorted(order, key=lambda i: nodes[i].birth):
        i, above = young, []
        while i != NONE and i not in done:
            above.append(i)
            i = nodes[i].parent
        done.update(dict.fromkeys(reversed(above)))
    return list(done)
