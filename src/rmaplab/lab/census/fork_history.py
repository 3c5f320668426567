"""A history that could have led to what a census found: who forked whom, with which memory, and who wrote which page when.

    census: VMAs, anon_vmas, pages           history
    A 10000  a0   page p: A, B               A maps 10000, writes p
    B 10000  a1   page q: B      ------>     A forks B                 whatever B shows of A's must be there before
                                             B writes q                what is only its own comes last

family.py finds out who is whose child. What a child inherited, its parent had at the same index of the same root, though the
parent may have let go of it since. A page was written by the owner of its anon_vma, before the first fork towards somebody who
maps it. It is one history of many: lab/census/relive.py plays it; whoever calls that compares the outcome with the census.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rmaplab.lab.census.family import FamilyNode, Piece, by_birth, family_tree, generation, line
from rmaplab.lab.census.placing import coverers, place
from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import ACCESS, NONE, Graph, Pages


class FoundEntries(NamedTuple):
    """A row per entry of a page table: the page (a number from 0 on), the node, the address; the row of graph.pages."""

    page: I64
    node: I64
    address: I64
    row: I64


@dataclass(frozen=True)
class History:
    """Nodes, whom `order` puts parents first; for (node, child) what the node writes before it forks that child, NONE: at last.

    `colour` is by root anon_vma: neighbours with unlike colours must not merge. `unplaced` entries are at no known address.
    """

    nodes: list[FamilyNode]
    order: list[int]
    entries: FoundEntries
    writes: dict[tuple[int, int], I64]
    colour: dict[int, int]
    unplaced: int


def history_of(graph: Graph, pages: Pages, mms: I64) -> History:
    """Of these address spaces, whole fork trees. O((VMAs + entries) x depth)."""
    nodes = family_tree(graph, mms)
    order = sorted(range(len(nodes)), key=lambda i: (generation(nodes, i), nodes[i].birth))
    _lay_out(graph, nodes, order)
    entries = _entries(graph, pages, nodes)
    placed = entries.address != NONE
    entries = FoundEntries(*(column[placed] for column in entries))
    entries = entries._replace(page=_numbered(entries.page))  # a page that is nowhere has no number
    order = by_birth(nodes, order)
    writes = _writes(graph, pages, nodes, order, entries)
    return History(nodes, order, entries, writes, _colours(nodes), int((~placed).sum()))


# -- which memory was where ------------------------------------------------------------------------------------------


def _lay_out(graph: Graph, nodes: list[FamilyNode], order: list[int]) -> None:
    """Fill early, kept and late, children before parents."""
    vmas, root_of, nr_pages = graph.vmas, graph.anon_vmas.root, graph.vmas.nr_pages
    by_mm = np.searchsorted(vmas.mm, np.arange(graph.nr_mms + 1))  # VMAs are in order of their mm
    owned: dict[int, set[int]] = {}  # whose root is its own has inherited nothing of it
    for i in reversed(order):
        node = nodes[i]
        rows = range(by_mm[node.mm], by_mm[node.mm + 1]) if node.mm != NONE else range(0)
        mine = [own for own in vmas.anon_vma[rows.start : rows.stop].tolist() if own != NONE]
        times, owned[i] = Counter(root_of[mine].tolist()), node.anon_vmas.union(mine)
        needed = [piece for child in node.children for piece in nodes[child].early if piece.root not in owned[child]]
        inherited = {piece.root for piece in needed}
        for row in rows:
            own = int(vmas.anon_vma[row])
            if own == NONE:
                continue
            start, first = int(vmas.start[row]), int(vmas.pgoff[row])
            moved = bool(vmas.file[row] == NONE) and first != start >> 12 and 0 < first < 1 << 35
            nr, access = int(nr_pages[row]), int(vmas.flags[row]) & ACCESS
            piece = Piece(int(root_of[own]), first, nr, start, moved, access)
            early = own != piece.root or times[own] > 1 or own in inherited
            (node.kept if early else node.late).append(piece)
        taken = _by_root(node.kept)
        missing = [rest for piece in needed for rest in _without(piece, taken)]
        node.early = _joined([*node.kept, *missing])


def _by_root(pieces: list[Piece]) -> dict[int, list[Piece]]:
    found: dict[int, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.root, []).append(piece)
    return found


def _overlap(one: Piece, other: Piece) -> bool:
    return one.root == other.root and one.first < other.first + other.nr and other.first < one.first + one.nr


def _without(piece: Piece, taken: dict[int, list[Piece]]) -> list[Piece]:
    """What of its indexes no piece has yet; now they are taken."""
    rest = [piece]
    for other in taken.get(piece.root, []):
        if not any(_overlap(part, other) for part in rest):
            continue
        cut = [(part.first, min(part.first + part.nr, other.first)) for part in rest]
        cut += [(max(part.first, other.first + other.nr), part.first + part.nr) for part in rest]
        rest = [
            piece._replace(first=first, nr=last - first, address=piece.address + (first - piece.first << 12))
            for first, last in sorted(set(cut))
            if first < last
        ]
    taken.setdefault(piece.root, []).extend(rest)
    return rest


def _joined(pieces: list[Piece]) -> list[Piece]:
    """In order of address; parts of one mapping as one, with the hole between them, unless they were split by their access.

    What is in the way of another is left out.
    """
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece.address):
        last = found[-1] if found else None
        if last is not None and (last.root, last.shift, last.access) == (piece.root, piece.shift, piece.access):
            found[-1] = last._replace(nr=max(piece.end, last.end) - last.address >> 12)
        elif last is None or last.end <= piece.address:
            found.append(piece)
    return found


def _colours(nodes: list[FamilyNode]) -> dict[int, int]:
    """By root: neighbours in any address space get unlike ones, as far as four suffice."""
    beside: dict[int, set[int]] = {}
    for node in nodes:
        pieces = sorted([*node.early, *node.late], key=lambda piece: piece.address)
        for one, other in pairwise(pieces):
            if one.end >= other.address and one.root != other.root:
                beside.setdefault(one.root, set()).add(other.root)
                beside.setdefault(other.root, set()).add(one.root)
    colour: dict[int, int] = {}
    for root, others in beside.items():
        taken = {colour.get(other) for other in others}
        colour[root] = next((each for each in range(4) if each not in taken), 0)
    return colour


# -- who wrote what, and when ----------------------------------------------------------------------------------------


def _entries(graph: Graph, pages: Pages, nodes: list[FamilyNode]) -> FoundEntries:
    """Where each page found is, by its index; the address is NONE where nothing of its process covers that."""
    node_of = np.full(graph.nr_mms, NONE)
    for i, node in enumerate(nodes):
        if node.mm != NONE:
            node_of[node.mm] = i
    row = np.flatnonzero((node_of[pages.mm] != NONE) & (pages.anon_vma != NONE))
    return FoundEntries(_numbered(pages.pfn[row]), node_of[pages.mm[row]], place(graph, pages, row), row)


def _numbered(names: I64) -> I64:
    """By row: which of the names it has, from 0 on without gaps."""
    return np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _writes(
    graph: Graph, pages: Pages, nodes: list[FamilyNode], order: list[int], entries: FoundEntries
) -> dict[tuple[int, int], I64]:
    """Addresses by (node, the child it must come before)."""
    nr = int(entries.page.max(initial=-1)) + 1  # each of them is mapped by somebody
    anon_vma, index = np.zeros(nr, np.int64), np.zeros(nr, np.int64)
    anon_vma[entries.page], index[entries.page] = pages.anon_vma[entries.row], pages.pgoff[entries.row]
    parent = np.array([*(node.parent for node in nodes), NONE])  # the last, for NONE
    writer = _owners(graph, nodes)[anon_vma]
    for _ in nodes:  # what somebody maps who is no descendant was written further up
        astray = np.unique(entries.page[~_reached(entries, writer, parent)[1]])
        astray = astray[writer[astray] != NONE]
        if not len(astray):
            break
        writer[astray] = parent[writer[astray]]
    towards, known = _reached(entries, writer, parent)
    rank = np.full(len(nodes) + 1, len(nodes))
    rank[order] = np.arange(len(nodes))
    before = np.full(nr, len(nodes))
    np.minimum.at(before, entries.page, rank[towards])
    unseen = np.bincount(entries.page, minlength=nr)[entries.page] < pages.mapcount[entries.row]
    first_child = np.array([min((rank[child] for child in node.children), default=len(nodes)) for node in nodes])
    wider = np.unique(
        entries.page[unseen & known]
    )  # a sample does not say who else maps it: whoever can inherit it may
    before[wider] = first_child[writer[wider]]
    like = np.zeros(nr, np.int64)
    like[entries.page] = entries.address
    at = _addresses(graph, nodes, writer, graph.anon_vmas.root[anon_vma], index, like)
    mine = known & (writer[entries.page] == entries.node)
    at[entries.page[mine]] = entries.address[mine]
    chosen = np.flatnonzero((writer != NONE) & (at != NONE))
    chosen = chosen[np.lexsort((at[chosen], before[chosen], writer[chosen]))]
    steps = np.stack([writer[chosen], before[chosen]])
    cuts = np.flatnonzero((steps[:, 1:] != steps[:, :-1]).any(axis=0)) + 1
    child_of = [*order, NONE]
    return {
        (int(writer[part[0]]), child_of[int(before[part[0]])]): at[part] for part in np.split(chosen, cuts) if len(part)
    }


def _reached(entries: FoundEntries, writer: I64, parent: I64) -> tuple[I64, I64]:
    """By entry: the writer's child on the way to it (NONE: it is the writer's own), and whether the writer is above it at all."""
    here, towards = entries.node.copy(), np.full(len(entries.node), NONE)
    wanted = writer[entries.page]
    while True:
        up = (here != wanted) & (here != NONE)
        if not up.any():
            return towards, here == wanted
        towards[up] = here[up]
        here = np.where(up, parent[here], here)


def _owners(graph: Graph, nodes: list[FamilyNode]) -> I64:
    """By anon_vma: the node whose own it is or was. Of one that nobody owns: who is above all that hang on it."""
    vmas, chains = graph.vmas, graph.chains
    node_of = np.full(graph.nr_mms, NONE)
    owner = np.full(len(graph.anon_vmas.root), NONE)
    for i, node in enumerate(nodes):
        if node.mm != NONE:
            node_of[node.mm] = i
        owner[list(node.anon_vmas)] = i
    owned = np.flatnonzero(vmas.anon_vma != NONE)
    owner[vmas.anon_vma[owned]] = node_of[vmas.mm[owned]]
    orphan = np.flatnonzero((owner[chains.anon_vma] == NONE) & (node_of[vmas.mm[chains.vma]] != NONE))
    hanging: dict[int, set[int]] = {}
    for anon_vma, i in zip(
        chains.anon_vma[orphan].tolist(), node_of[vmas.mm[chains.vma[orphan]]].tolist(), strict=True
    ):
        hanging.setdefault(anon_vma, set()).add(i)
    for anon_vma, below in hanging.items():
        lines = [line(nodes, i) for i in below]
        above = next((i for i in lines[0] if all(i in each for each in lines)), NONE)
        if above in below and nodes[above].parent != NONE:
            above = nodes[above].parent
        owner[anon_vma] = above
    return owner


def _addresses(graph: Graph, nodes: list[FamilyNode], node: I64, root: I64, index: I64, like: I64) -> I64:
    """Where nodes have an index of a root before their children are born, or NONE; of several places the one that is `like`."""
    width = len(graph.anon_vmas.root)
    pieces = [(i * width + piece.root, *piece[1:4]) for i, each in enumerate(nodes) for piece in each.early]
    table = np.array(pieces, np.int64).reshape(-1, 4)
    query, at = coverers(node * width + root, index, table[:, 0], table[:, 1], table[:, 2])
    there = table[at, 3] + (index[query] - table[at, 1] << 12)
    best_last = np.lexsort((there == like[query], query))
    found = np.full(len(node), NONE)
    found[query[best_last]] = there[best_last]
    return found
