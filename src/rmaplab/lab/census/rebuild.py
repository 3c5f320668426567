"""A saved census, lived through again in the model, under any design: its walks, its objects, and how much of it came out alike.

    census --fork_history.py--> history --relive.py, on 6.18+DESIGN--> tasks --measure.py--> visits, beside the census: what is alike
                                                                         `--fails? its trees in halves, until it is known which

VMAs without an anon_vma are left out: no walk for an anonymous page meets them. Every machine is checked, its walks against its page
tables, before it is believed. All rows speak of the same trees and the same pages: what a design cannot live through is no part of
any row, and is said; so is a design that can live through none.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug, RmaplabError, SyscallError, UsageError
from rmaplab.host.wanted import as_name
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.designs import find_design
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.fork_history import History, history_of
from rmaplab.lab.census.measure import compare, read_all, sample_of, walk_all
from rmaplab.lab.census.relive import KERNEL, relive
from rmaplab.lab.census.visits import Quantiles
from rmaplab.lab.census.walked import all_pages, figures
from rmaplab.machine.arrays import I64, Bools, distinct
from rmaplab.mm.validate import check
from rmaplab.objects.graph import NONE, Pages

MAX_ENTRIES = 1 << 18  # a GiB if nothing is shared; trees beyond that are left out, and it is said
Tick = Callable[[str, str], object]
T = TypeVar("T")


def _unheard(design: str, what: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Chosen:
    """What of a census is lived through again, whole trees, and what is left out.

    `vmas` are those with an anon_vma, `ended` processes of which only anon_vmas were left; `unplaced` entries are of pages whose anon_vma
    is not in the census, or whose place had another page. `complete`: the census has every entry, and is no sample. `torn` trees changed
    while they were read.
    """

    mms: I64
    trees: int
    trees_left_out: int
    entries_left_out: int
    vmas: int
    pages: int
    entries: int
    ended: int
    unplaced: int
    complete: bool
    torn: int

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**{name: value for name, value in vars(self).items() if name != "mms"}, "address_spaces": len(self.mms)}


@dataclass(frozen=True)
class WalkedUnder:
    """One design's row, or the live machine's. `vmas` and `pages` are those that are as in the census.

    visits, useful and wasted_share are over the same pages in all rows, of which `walks` were walked: see Relived. If not all were,
    the share is `wasted_share_within` with 95 %, as quantiles say of themselves.
    `like_live`, for the design of the live kernel: walks that made as many visits as its graph says. `copied` pages mremap had to copy.
    `failed` says why there is nothing else.
    """

    design: str
    vmas: int = 0
    pages: int = 0
    walks: int = 0
    visits: Quantiles | None = None
    useful: Quantiles | None = None
    wasted_share: float | None = None
    wasted_share_within: tuple[float, float] | None = None
    like_live: int | None = None
    objects: dict[str, int] = field(default_factory=dict)
    objects_bytes: int | None = None
    copied: int = 0
    wall_s: float = 0.0
    failed: str | None = None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Unlived:
    """A tree that could not be lived through under a design ("": its history could not be told), and is in no row."""

    pid: int
    comm: str
    processes: int
    design: str
    why: str

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


class Relived(NamedTuple):
    """What came of it: the live machine's row and the designs'. `alike` pages are so under every design: all rows' walks are about those."""

    chosen: Chosen
    was: WalkedUnder
    found: list[WalkedUnder]
    unlived: list[Unlived]
    alike: int


class _Made(NamedTuple):
    """One machine: its row so far, which pages are alike, visits and mappings found by page of the sample."""

    row: WalkedUnder
    like: Bools
    visits: I64
    useful: I64


def check_census(census: Census, source: str) -> None:
    """Raises UsageError for a census that does not have what it takes."""
    snapshot = census.snapshot
    if not snapshot.knows_anon_vmas or census.graph.pages is None:
        rung = int(snapshot.rung)
        raise UsageError(
            f"{source} was taken on rung {rung} of 4 and does not say who shares which page: save a census as root"
        )
    if snapshot.arch != "x86_64":
        raise UsageError(f"{source} is of {snapshot.arch}, and the model lives through x86_64 only: save one there")


def choose(census: Census, heads: Sequence[int], top: int = 0) -> tuple[Chosen, History, Pages]:
    """Trees in the order of `heads` (their pids), the first `top` (0: all), as many as MAX_ENTRIES allow; and their history.

    The census is one that check_census() lets pass. Raises UsageError if every tree is too large.
    """
    asked, trees = _trees(census, heads, top)
    history = _history(census, trees)
    return _chosen(census, asked, trees, trees, history), history, _pages(census)


def live_through(
    census: Census, heads: Sequence[int], designs: Sequence[str], top: int = 0, tick: Tick = _unheard
) -> Relived:
    """What choose() takes, under each design. Nothing that goes wrong with a tree is raised: it is left out of all rows, and said.

    `tick` hears of each step: as relive(), and before each check and each round of walks. Raises as choose().
    """
    asked, taken = _trees(census, heads, top)
    trees = taken
    unlived: list[Unlived] = []
    failed: dict[str, str] = {}

    def leave_out(bad: Mapping[int, str], design: str) -> list[int]:
        unlived.extend(_unlived(census, tree, design, why) for tree, why in bad.items())
        return [tree for tree in trees if tree not in bad]

    while True:
        history, bad = _separate(trees, partial(_history, census))
        if history is None:
            trees = leave_out(bad, "")
            continue
        made: dict[str, _Made] = {}
        for design in (design for design in designs if design not in failed):
            whole = {tuple(trees): history}

            def make(part: list[int], design: str = design, whole: dict[Any, History] = whole) -> _Made:
                return _make(design, census, whole.get(tuple(part)) or _history(census, part), tick)

            one, bad = _separate(trees, make)
            if one is not None:
                made[design] = one
            elif len(bad) == len(trees):
                failed[design] = next(iter(bad.values()))
            else:
                trees = leave_out(bad, design)
                break
        else:
            chosen = _chosen(census, asked, taken, trees, history)
            was, rows, alike = _rows(census, chosen, history, made)
            told = {**rows, **{design: WalkedUnder(design, failed=why) for design, why in failed.items()}}
            return Relived(chosen, was, [told[design] for design in designs], unlived, alike)


# -- trees -----------------------------------------------------------------------------------------------------------


def _pages(census: Census) -> Pages:
    if census.graph.pages is None:
        raise KernelBug("rebuild", "a census without pages was let pass")
    return census.graph.pages


def _trees(census: Census, heads: Sequence[int], top: int) -> tuple[list[int], list[int]]:
    """(those asked for, those taken)."""
    processes = census.graph.processes
    row_of = dict(zip(processes.pid.tolist(), processes.mm.tolist(), strict=True))
    of_page = _entries_of(census)
    asked = list(dict.fromkeys(int(census.families[row_of[pid]]) for pid in heads))
    taken: list[int] = []
    for tree in asked[: top or len(asked)]:
        if of_page[taken].sum() + of_page[tree] <= MAX_ENTRIES:
            taken.append(tree)
    if not taken:
        raise UsageError(
            f"each of these trees maps more than {MAX_ENTRIES:,} pages, too many to be lived through: choose another with --pid"
        )
    return asked, taken


def _entries_of(census: Census) -> I64:
    """By tree: the entries that the census found."""
    found = np.bincount(census.families[_pages(census).mm], minlength=int(census.families.max(initial=-1)) + 1)
    return found.astype(np.int64)


def _history(census: Census, trees: Sequence[int]) -> History:
    mms = np.flatnonzero(np.isin(census.families, np.array(trees, np.int64)))
    return history_of(census.graph, _pages(census), mms)


def _chosen(
    census: Census, asked: Sequence[int], taken: Sequence[int], trees: Sequence[int], history: History
) -> Chosen:
    mms = np.flatnonzero(np.isin(census.families, np.array(trees, np.int64)))
    vmas, pages, of_page = census.graph.vmas, _pages(census), _entries_of(census)
    torn = np.unique(census.families[census.torn_mms])
    return Chosen(
        mms=mms,
        trees=len(trees),
        trees_left_out=len(asked) - len(taken),
        entries_left_out=int(of_page[asked].sum() - of_page[taken].sum()),
        vmas=int(((vmas.anon_vma != NONE) & np.isin(vmas.mm, mms)).sum()),
        pages=len(distinct(pages.pfn[np.isin(pages.mm, mms)])),
        entries=int(of_page[trees].sum()),
        ended=sum(node.mm == NONE for node in history.nodes),
        unplaced=int(of_page[trees].sum()) - len(history.entries.row),
        complete=_is_complete(pages, history),
        torn=int(np.isin(torn, trees).sum()),
    )


def _is_complete(pages: Pages, history: History) -> bool:
    """Whether the census has every entry: else what it lacks may have been there."""
    row = history.entries.row
    return bool(np.allclose(pages.weight[row] * pages.mapcount[row], 1))


# -- what goes wrong -------------------------------------------------------------------------------------------------


def _separate(trees: list[int], attempt: Callable[[list[int]], T]) -> tuple[T | None, dict[int, str]]:
    """What the attempt makes of all these trees; or None, and of whom it can make nothing, and why. Halves are tried, and their halves."""
    try:
        return attempt(trees), {}
    except Exception as error:  # noqa: BLE001  whatever it is, it must not cost the other trees
        why = _said(error)
    if len(trees) < 2:
        return None, dict.fromkeys(trees, why)
    half = len(trees) // 2
    bad = {**_separate(trees[:half], attempt)[1], **_separate(trees[half:], attempt)[1]}
    return None, bad or dict.fromkeys(trees, f"{len(trees)} trees together, not one by one: {why}")


def _said(error: Exception) -> str:
    """In one line; of what nobody foresaw also where it was."""
    text = " ".join(str(error).split())
    if isinstance(error, (RmaplabError, SyscallError)):
        return text
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {last.name} ({Path(last.filename).name}:{last.lineno}): {text}"


def _unlived(census: Census, tree: int, design: str, why: str) -> Unlived:
    processes = census.graph.processes
    people = np.flatnonzero(census.families[processes.mm] == tree)
    head = people[np.lexsort((processes.pid[people], processes.start_time_ns[people]))[0]]
    return Unlived(int(processes.pid[head]), as_name(processes.comm[head]), len(people), design, why)


# -- rows ------------------------------------------------------------------------------------------------------------


def _make(design: str, census: Census, history: History, tick: Tick) -> _Made:
    """Live through the history under a design, check everything, then walk."""
    began, pages = time.perf_counter(), _pages(census)
    system, tasks = relive(design, history, complete=_is_complete(pages, history), tick=partial(tick, design))
    tick(design, "is checked")
    check(system.kernel, walks=0)  # each walk below is judged
    there = read_all(system, tasks)
    pfns, like = compare(there, history.entries, pages.mapcount[history.entries.row])
    tick(design, "is walked")
    visits, useful = walk_all(system, tasks, there, pfns[sample_of(census, history, pages).page])
    caches = system.kernel.design.caches()
    row = WalkedUnder(
        design=design,
        vmas=_vmas_alike(history, tasks),
        pages=int(like.sum()),
        objects={cache.name: cache.nr_objects for cache in caches},
        objects_bytes=sum(cache.bytes for cache in caches),
        copied=system.machine.ledger.counts.get("mremap_copy", 0),
        wall_s=time.perf_counter() - began,
    )
    return _Made(row, like, visits, useful)


def _vmas_alike(history: History, tasks: Sequence[Task]) -> int:
    """How many VMAs of the census are there, between the same addresses."""
    nr = 0
    for node, task in zip(history.nodes, tasks, strict=True):
        there = {(vma.start, vma.end) for vma in task.mm.vmas} if task.mm else set()
        nr += sum((piece.address, piece.end) in there for piece in (*node.kept, *node.late))
    return nr


def _rows(
    census: Census, chosen: Chosen, history: History, made: Mapping[str, _Made]
) -> tuple[WalkedUnder, dict[str, WalkedUnder], int]:
    """The live machine's row, the designs', and how many pages are alike under all of these: figures of walks are over the same pages."""
    pages = _pages(census)
    sample = sample_of(census, history, pages)
    alike = census.usable[sample.rows]  # what was torn is in no row
    for one in made.values():
        alike &= one.like
    everyone = all_pages(census, history, pages, sample.rows)
    candidates = census.page_candidates[sample.row]
    found: dict[str, WalkedUnder] = {}
    for design, one in made.items():
        own = find_design(design).path == find_kernel(KERNEL).design
        as_live = int((one.visits == candidates)[alike[sample.page]].sum()) if own else None
        seen = figures(everyone, sample, alike, one.visits, one.useful)
        found[design] = replace(one.row, **seen, like_live=as_live)
    seen = figures(everyone, sample, alike, candidates, pages.mapcount[sample.row])
    return replace(_on_the_machine(census, chosen), **seen), found, int(alike.sum())


def _on_the_machine(census: Census, chosen: Chosen) -> WalkedUnder:
    """What the live machine held for these trees."""
    chains, size = census.graph.chains, census.snapshot.sizes.by_cache
    of_them = np.isin(census.graph.vmas.mm[chains.vma], chosen.mms)
    objects = {"anon_vma": len(distinct(chains.anon_vma[of_them])), "anon_vma_chain": int(of_them.sum())}
    known = all(cache in size for cache in objects)
    return WalkedUnder(
        design="on the live machine",
        vmas=chosen.vmas,
        pages=chosen.pages,
        objects=objects,
        objects_bytes=sum(size[cache] * nr for cache, nr in objects.items()) if known else None,
    )
