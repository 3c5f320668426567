"""The graph a reverse map walks: processes, VMAs, anon_vmas and the chains between them. One type for the live kernel and for the model.

    process --> mm --> VMA --(chain)--> anon_vma --parent--> anon_vma = root
      pid               start, end        ^   ^
      comm              pgoff             |   |      a VMA hangs on its own anon_vma and on those of all its ancestors:
                        file            own   inherited      that many VMAs are visited for a page of each

Columns, not objects: a machine has millions of chains. A row's number is its identity; a kernel's pointers are renamed when
the graph is built, in an order that depends on nothing but the graph: processes by pid, mms by their first process, VMAs by mm and
address, chains as the VMA's list has them, anon_vmas by their first chain. So two graphs that differ in pointers only are equal.

graph_check.py knows what cannot be in such a graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rmaplab.machine.arrays import F64, I64, Whereabouts, ascending_order, distinct, numbered

Bytes = npt.NDArray[np.bytes_]

Stretches = tuple[I64, I64, I64, I64]

NONE = -1
"""No such row: a VMA without anon_vma, memory without file."""
ACCESS = 0xF
"""VM_READ, VM_WRITE, VM_EXEC, VM_SHARED: the same in every kernel."""
UNKNOWN = -1
"""A counter that the kernel does not keep or we could not read."""
LIGHTEST_TOO_HEAVY = 1e15
"""No page of a sample stands for so many: more than any machine has."""


class Processes(NamedTuple):
    """A row per process. `parent` is a pid, `mm` a number shared by processes that share an address space."""

    pid: I64
    parent: I64
    comm: Bytes
    start_time_ns: I64
    mm: I64


class Vmas(NamedTuple):
    """A row per VMA: bytes for start and end, pages for pgoff, the kernel's VM_ flags; rows of anon_vmas and files, or NONE."""

    mm: I64
    start: I64
    end: I64
    pgoff: I64
    flags: I64
    anon_vma: I64
    file: I64

    @property
    def nr_pages(self) -> I64:
        """Pages each VMA covers."""
        return self.end - self.start >> 12


class AnonVmas(NamedTuple):
    """A row per anon_vma. root and parent are rows; a root is its own parent, and counts itself among its children."""

    root: I64
    parent: I64
    num_children: I64
    num_active_vmas: I64
    refcount: I64


class Chains(NamedTuple):
    """A row per anon_vma_chain: which VMA hangs on which anon_vma, by VMA, in the order of the VMA's list."""

    vma: I64
    anon_vma: I64


class Files(NamedTuple):
    """A row per mapped file: the device and inode numbers that /proc/PID/maps shows."""

    device: I64
    inode: I64


class Pages(NamedTuple):
    """A row per page looked at, as it is or as one of a sample: `weight` says for how many it stands.

    `mm` is where it was found; `anon_vma` and `pgoff` are its folio's mapping and its own index there; anon_vma is NONE if it is not in the
    graph. `mapcount` is how many entries map it.
    """

    pfn: I64
    mm: I64
    anon_vma: I64
    pgoff: I64
    mapcount: I64
    weight: F64


@dataclass(frozen=True)
class Graph:
    """Processes, VMAs, anon_vmas, chains, and files; pages where somebody looked."""

    processes: Processes
    vmas: Vmas
    anon_vmas: AnonVmas
    chains: Chains
    files: Files
    pages: Pages | None = None

    @property
    def nr_mms(self) -> int:
        """Address spaces."""
        return int(self.processes.mm.max(initial=-1)) + 1

    def with_pages(self, pages: Pages | None) -> Graph:
        """The same with these pages; what was worked out of the rest need not be again."""
        other = replace(self, pages=pages)
        for name in ("depths", "families", "stretches"):
            if name in vars(self):
                vars(other)[name] = vars(self)[name]
        return other

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Every column by "table.column", for a file."""
        return {
            f"{name}.{column}": values
            for name in TABLES
            if (table := getattr(self, name)) is not None
            for column, values in table._asdict().items()
        }

    @classmethod
    def from_columns(cls, columns: Mapping[str, npt.NDArray[Any]]) -> Graph:
        """The graph of columns(). Raises KeyError for a missing column, ValueError for columns that do not fit together."""
        tables: dict[str, Any] = {}
        for name, table in TABLES.items():
            if name == "pages" and "pages.pfn" not in columns:
                continue
            found = [np.asarray(columns[f"{name}.{column}"]) for column in table._fields]
            if any(values.shape != (len(found[0]),) for values in found):
                raise ValueError(f"columns of {name} differ in length")
            kinds = [{"comm": "S", "weight": "f"}.get(column, "i") for column in table._fields]
            if [values.dtype.kind for values in found] != kinds:
                raise ValueError(f"a column of {name} has values of another kind")
            tables[name] = table(*found)
        graph = cls(**tables)
        graph._check_references()
        return graph

    def part(self, pids: Iterable[int], low: int, high: int, *, renumber: bool = False) -> Graph:
        """What these processes have between two addresses: their VMAs there, and what those hang on. Renamed anew; without pages.

        With `renumber` processes are numbered by their place in `pids`, which must have each once: where pids have wrapped, the
        child's is smaller than its parent's, and two graphs of one history would be in different orders.
        """
        wanted = np.fromiter(pids, np.int64)
        people = np.flatnonzero(np.isin(self.processes.pid, wanted))
        vmas = np.flatnonzero((self.vmas.start >= low) & (self.vmas.end <= high))
        row_of = np.full(len(self.vmas.mm), NONE)
        row_of[vmas] = np.arange(len(vmas))
        kept = np.flatnonzero(row_of[self.chains.vma] != NONE)
        pid, parent, comm, start_time_ns, mm = self.processes
        if renumber:
            pid = find_rows(pid, wanted)
        return build(
            Processes(pid[people], parent[people], comm[people], start_time_ns[people], mm[people]),
            Vmas(*(column[vmas] for column in self.vmas)),
            self.anon_vmas,
            Chains(row_of[self.chains.vma[kept]], self.chains.anon_vma[kept]),
            self.files,
            np.arange(len(self.anon_vmas.root)),
        ).graph

    def unlike(self, other: Graph) -> str | None:
        """The first difference up to renaming, in words; pids, names, times and flags beyond access do not count."""
        tables = ((name, getattr(self, name), getattr(other, name)) for name in ("vmas", "anon_vmas", "chains"))
        for name, mine, its in tables:
            for column, one, another in zip(mine._fields, mine, its, strict=True):
                mask = ACCESS if column == "flags" else -1
                ours, theirs = (_as_met(one), _as_met(another)) if column == "file" else (one, another)
                if len(ours) != len(theirs):
                    return f"{len(ours):,} {name} here and {len(theirs):,} there"
                wrong = np.flatnonzero((ours & mask) != (theirs & mask))
                if len(wrong):
                    row = int(wrong[0])
                    return f"{name}[{row}].{column} is {int(ours[row]):#x} here and {int(theirs[row]):#x} there"
        same = np.array_equal(self.processes.mm, other.processes.mm)
        return None if same else "processes share address spaces otherwise"

    def _check_references(self) -> None:
        references: tuple[tuple[I64, int, int], ...] = (
            (self.processes.mm, 0, len(self.processes.pid)),
            (self.vmas.mm, 0, self.nr_mms),
            (self.vmas.anon_vma, NONE, len(self.anon_vmas.root)),
            (self.vmas.file, NONE, len(self.files.inode)),
            (self.anon_vmas.root, NONE, len(self.anon_vmas.root)),
            (self.anon_vmas.parent, NONE, len(self.anon_vmas.root)),
            (self.chains.vma, 0, len(self.vmas.mm)),
            (self.chains.anon_vma, 0, len(self.anon_vmas.root)),
        )
        if self.pages is not None:
            references += ((self.pages.mm, 0, self.nr_mms), (self.pages.anon_vma, NONE, len(self.anon_vmas.root)))
            if not ((self.pages.weight > 0) & (self.pages.weight < LIGHTEST_TOO_HEAVY)).all():
                raise ValueError("a page stands for no number of pages")
        if any(len(rows) and not least <= rows.min() <= rows.max() < end for rows, least, end in references):
            raise ValueError("a row refers to a row that is not there")

    # -- what hangs together -----------------------------------------------------------------------------------------

    def chain_lengths(self) -> I64:
        """Chains by VMA. O(chains)."""
        return np.bincount(self.chains.vma, minlength=len(self.vmas.mm)).astype(np.int64)

    @cached_property
    def depths(self) -> I64:
        """Generation by anon_vma: 1 for a root, its parent's + 1 for others. O(anon_vmas x depth); 0 where parents run in a circle."""
        parent, depth = self.anon_vmas.parent, np.zeros(len(self.anon_vmas.parent), np.int64)
        here = np.flatnonzero((parent == np.arange(len(parent))) | (parent == NONE))
        by_parent = ascending_order(parent)
        first = np.searchsorted(parent[by_parent], np.arange(len(parent) + 1))
        generation = 1
        while len(here):
            depth[here] = generation
            generation += 1
            here = by_parent[_ranges(first[here], first[here + 1])]
            here = here[depth[here] == 0]
        return depth

    @cached_property
    def families(self) -> I64:
        """By mm, the number of its fork family: mms that share a root anon_vma are of one. O(chains + VMAs x depth of merging)."""
        known = self.vmas.anon_vma != NONE
        pairs = unique_pairs(self.vmas.mm[known], self.anon_vmas.root[self.vmas.anon_vma[known]])
        mm = np.arange(self.nr_mms)
        while True:  # least number wins, through roots and back, until nothing changes
            least = np.full(len(self.anon_vmas.root), self.nr_mms)
            np.minimum.at(least, pairs[1], mm[pairs[0]])
            after = mm.copy()
            np.minimum.at(after, pairs[0], least[pairs[1]])
            if (after == mm).all():
                break
            mm = after
        return numbered(mm)[2]

    @cached_property
    def stretches(self) -> Stretches:
        """How many VMAs a walk visits: for each stretch of indexes of an anon_vma, (anon_vma, first index, pages, VMAs that cover it).

        Stretches that no VMA covers are left out. O(chains log chains).
        """
        vma, anon_vma = self.chains
        begin = self.vmas.pgoff[vma]
        owner, at, step = _begins_and_ends(anon_vma, begin, begin + self.vmas.nr_pages[vma])
        cover = np.cumsum(step)[:-1]  # every anon_vma begins and ends with 0
        length = at[1:] - at[:-1]
        real = (cover > 0) & (length > 0)
        real &= owner[1:] == owner[:-1]
        return owner[:-1][real], at[:-1][real], length[real], cover[real]


def _begins_and_ends(owner: I64, begin: I64, end: I64) -> tuple[I64, I64, I64]:
    """(owner, index, 1 where something begins and -1 where it ends), in order of owner and index."""
    low, high = int(begin.min(initial=0)), int(end.max(initial=0))
    width = (high - low).bit_length()
    if low < 0 or width + int(owner.max(initial=0)).bit_length() > 62:
        order = ascending_order(np.concatenate([begin, end]), np.concatenate([owner, owner]))
        step = np.where(order < len(owner), 1, -1)
        return np.concatenate([owner, owner])[order], np.concatenate([begin, end])[order], step
    # all three as one word: no order is looked for, and nothing has to be put into it
    words = np.concatenate([owner, owner])
    words <<= width + 1
    words[: len(owner)] |= begin - low << 1
    words[len(owner) :] |= (end - low << 1) + 1
    words.sort()
    at = (words >> 1 & (1 << width) - 1) + low
    return words >> width + 1, at, 1 - 2 * (words & 1)


TABLES: dict[str, Any] = {
    "processes": Processes,
    "vmas": Vmas,
    "anon_vmas": AnonVmas,
    "chains": Chains,
    "files": Files,
    "pages": Pages,
}


class Built(NamedTuple):
    """What build() made: the graph, for each VMA and anon_vma of it which of the rows given it was, and the names of its mms."""

    graph: Graph
    vmas: I64
    anon_vmas: I64
    mms: I64


def build(processes: Processes, vmas: Vmas, anon_vmas: AnonVmas, chains: Chains, files: Files, names: I64) -> Built:
    """A graph from rows in any order, mms, anon_vmas and files named by any integers (a kernel's pointers).

    `processes.mm`, `vmas.mm`, `vmas.anon_vma`, and anon_vmas.root and .parent are such names, 0 for none; `names` are the anon_vmas', row
    by row. `chains` and `vmas.file` are rows already. VMAs of an mm that no process has are left out, and anon_vmas that no VMA
    hangs on; a root or parent that is not there is replaced by the anon_vma itself. O(n log n).
    """
    row_of = Whereabouts(names).find
    anon_vmas = anon_vmas._replace(root=row_of(anon_vmas.root), parent=row_of(anon_vmas.parent))
    return arrange(processes, vmas._replace(anon_vma=row_of(vmas.anon_vma)), anon_vmas, chains, files)


def arrange(processes: Processes, vmas: Vmas, anon_vmas: AnonVmas, chains: Chains, files: Files) -> Built:
    """As build(), where anon_vmas are rows already, NONE for none; mms are names. O(n) where all is in order, else O(n log n)."""
    order = np.argsort(processes.pid)
    pid, parent, comm, start_time_ns, mms = processes
    processes = Processes(pid[order], parent[order], comm[order], start_time_ns[order], mms[order])
    mm_names, first = np.unique(processes.mm, return_index=True)
    mm_names = mm_names[np.argsort(first)]
    processes = processes._replace(mm=find_rows(processes.mm, mm_names))

    mm = _of_runs(vmas.mm, mm_names)
    order = ascending_order(vmas.start, mm)
    vma_rows = order[mm[order] != NONE]
    row_of = np.full(len(mm), NONE)
    row_of[vma_rows] = np.arange(len(vma_rows))
    if len(vma_rows) < len(order) or not _counts_up(order):
        vmas, mm = Vmas(*(column[vma_rows] for column in vmas)), mm[vma_rows]

    owner = np.where(chains.vma == NONE, NONE, row_of[chains.vma])
    hangs_on = chains.anon_vma
    if (owner == NONE).any() or (owner[1:] < owner[:-1]).any():
        kept = np.flatnonzero(owner != NONE)
        kept = kept[ascending_order(owner[kept])]
        owner, hangs_on = owner[kept], hangs_on[kept]
    nr = len(anon_vmas.root)
    first = np.full(nr, len(owner))
    first[hangs_on[::-1]] = np.arange(len(owner))[::-1]
    met = ascending_order(first)[: int((first < len(owner)).sum())]
    new_row = np.full(nr + 1, NONE)  # the last one is that of NONE
    new_row[met] = np.arange(len(met))
    if not (len(met) == nr and _counts_up(met)):
        anon_vmas = AnonVmas(*(column[met] for column in anon_vmas))
        anon_vmas = anon_vmas._replace(root=new_row[anon_vmas.root], parent=new_row[anon_vmas.parent])
        vmas = vmas._replace(anon_vma=new_row[vmas.anon_vma])
        hangs_on = new_row[hangs_on]
    itself = np.arange(len(met))
    root, parent = (np.where(row == NONE, itself, row) for row in (anon_vmas.root, anon_vmas.parent))
    anon_vmas = anon_vmas._replace(root=root, parent=parent)
    return Built(
        Graph(processes, vmas._replace(mm=mm), anon_vmas, Chains(owner, hangs_on), files), vma_rows, met, mm_names
    )


def _counts_up(rows: I64) -> bool:
    """Whether these, each once, are 0, 1, 2 and so on."""
    return bool((rows[1:] > rows[:-1]).all())


def _of_runs(wanted: I64, names: I64) -> I64:
    """As find_rows(), each run of equal ones looked up once."""
    new = np.ones(len(wanted), np.bool_)
    np.not_equal(wanted[1:], wanted[:-1], out=new[1:])
    nth: I64 = np.cumsum(new) - 1
    return find_rows(wanted[new], names)[nth]


def find_rows(wanted: I64, names: I64) -> I64:
    """Where each of `wanted` stands in `names`, or NONE."""
    return Whereabouts(names).find(wanted)


def unique_pairs(one: I64, other: I64) -> tuple[I64, I64]:
    """Each pair of numbers (from 0 on) once, sorted. O(n log n)."""
    width = int(other.max(initial=0)) + 1
    found = distinct(one * width + other)
    return found // width, found % width


def _as_met(files: I64) -> I64:
    """Files numbered in the order in which VMAs show them; NONE stays. O(n log n)."""
    names, first, which = numbered(files)
    ranks = np.argsort(np.argsort(np.where(names == NONE, -1, first)))
    numbers: I64 = np.where(files == NONE, NONE, ranks[which])
    return numbers


def _ranges(first: I64, last: I64) -> I64:
    """first[0] ... last[0] - 1, first[1] ... last[1] - 1, and so on, in one array."""
    lengths = last - first
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    numbers: I64 = np.arange(total) - np.repeat(ends - lengths - first, lengths)
    return numbers
