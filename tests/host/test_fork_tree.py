"""Who maps this page, for every page of a family of processes whose memory is known by construction (issue 7: must show 1).

fork_tree.py says what each process did and what it must map by that; nothing of it was read from /proc.
"""

from collections import defaultdict

import numpy as np
import pytest

from rmaplab.host import kpageflags, pagemap, procfs
from rmaplab.host.file_page import find_file_page
from rmaplab.host.kernel_walk import KernelWalk
from rmaplab.host.pagemap import PM_PFN, PM_PRESENT, Pagemap
from rmaplab.host.place import find_place
from rmaplab.host.who import Answer, who_maps_address, who_maps_file

from . import fork_tree as tree
from .conftest import REQUIRE_ALL, Family

PAGE = tree.PAGE


def pfn_of(pid: int, address: int) -> int:
    with Pagemap(pid) as reader:
        entry = reader.entry(address)
    assert entry is not None
    assert entry & PM_PRESENT
    return entry & PM_PFN


def found(answer: Answer) -> list[tuple[int, int]]:
    return sorted((visit.pid, visit.address) for visit in answer.mappers)


@pytest.mark.usefixtures("pfns")
def test_the_join_is_the_truth_for_every_page(family: Family) -> None:
    """Each page's entries are one page frame, other pages have others, and the join finds exactly those entries."""
    join = pagemap.join(family.pids.values())
    frames = {label: pfn_of(*mappers[0]) for label, mappers in family.pages.items()}
    assert len(set(frames.values())) == len(frames)
    for label, mappers in family.pages.items():
        assert join.mappers(frames[label]) == mappers, label
    counts = pagemap.read_per_pfn("kpagecount", list(frames.values()))
    assert not isinstance(counts, procfs.Unread)
    assert counts.tolist() == [len(mappers) for mappers in family.pages.values()]
    # in the window there is nothing but these pages and the zero page
    known = {entry for mappers in family.pages.values() for entry in mappers}
    others = {
        (pid, address): pfn_of(pid, address)
        for pid, address in zip(join.pids.tolist(), join.addresses.tolist(), strict=True)
        if tree.BASE <= address < tree.BASE + (1 << 30) and (pid, address) not in known
    }
    assert {address for _, address in others} == {tree.ZERO}
    assert len(set(others.values())) == 1


@pytest.mark.usefixtures("pfns")
def test_who_is_the_truth_for_every_page(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """`who PID ADDRESS`, asked of one entry of each page: all of its mappers, count, VMA and name.

    Among all processes of the machine; for all but a few of the 513 pages of huge memory among the family, which saves seconds.
    """
    names = {pid: f"tree {name}" for name, pid in family.pids.items()}
    everybody = procfs.processes
    for label, mappers in family.pages.items():
        pid, address = mappers[-1]
        few = address >= tree.HUGE and address // PAGE % 64 != 7
        monkeypatch.setattr(procfs, "processes", (lambda: sorted(names)) if few else everybody)
        answer = who_maps_address(find_place(pid, f"{address:x}"))
        assert found(answer) == mappers, label
        assert answer.mapcount == len(mappers)
        assert all(visit.comm == names[visit.pid] for visit in answer.mappers)
        assert all(v.vma and v.vma.start <= v.address < v.vma.end for v in answer.mappers)


@pytest.mark.usefixtures("pfns")
def test_the_kernels_own_walk_is_the_join_for_every_page(family: Family, walk: KernelWalk) -> None:
    """By BPF: page, mapping, chains, VMA, entry. Its hits are the truth, and the join, for every page of the family."""
    frames = {label: pfn_of(*mappers[0]) for label, mappers in family.pages.items()}
    join = pagemap.join(family.pids.values())
    walked = walk.walk(np.array(list(frames.values()), np.uint64))
    assert walked.folios.known.all()
    hits = defaultdict(list)
    for page, pid, address, hit in zip(*(column.tolist() for column in walked[:3]), walked.hits.tolist(), strict=True):
        if hit:
            hits[page].append((pid, address))
    for page, (label, mappers) in enumerate(family.pages.items()):
        assert sorted(hits[page]) == join.mappers(frames[label]) == mappers, label
        assert walked.folios.mapcount[page] == len(mappers)


@pytest.mark.usefixtures("pfns")
def test_what_the_walk_visits_in_vain(family: Family, walk: KernelWalk) -> None:
    """Every VMA that could have the page: those with a copy of their own, and those that gave it back."""

    def wasted(name: str, address: int) -> dict[str, set[tuple[int, int]]]:
        answer = who_maps_address(find_place(family.pids[name], f"{address:x}"), walk)
        reasons = defaultdict(set)
        for visit in answer.wasted or ():
            reasons[visit.miss].add((visit.pid, visit.address))
        return dict(reasons)

    _, b, c, d = (family.pids[name] for name in "ABCD")
    first, tenth = tree.PRIVATE, tree.PRIVATE + 10 * PAGE
    assert wasted("A", first) == {"a copy of its own": {(b, first), (d, first)}}
    assert wasted("A", tenth) == {"no entry": {(c, tenth)}}
    # what B copied hangs on B's anon_vma, where only B's child can be looked for
    assert wasted("B", first) == {}
    assert wasted("D", tree.PRIVATE + 4 * PAGE) == {}
    # D unmapped half of what B had moved: there is no VMA to visit
    assert wasted("A", tree.MOVED + 4 * PAGE) == {}
    assert wasted("A", tree.MOVED) == {}


@pytest.mark.usefixtures("pfns")
def test_the_index_is_kept_by_a_move(family: Family, walk: KernelWalk) -> None:
    """A page that B moved still has the index of where it was first touched: vm_pgoff moved with the VMA."""
    moved = who_maps_address(find_place(family.pids["B"], f"{tree.MOVED_TO:x}"), walk)
    assert moved.index == tree.MOVED // PAGE


@pytest.mark.usefixtures("pfns")
def test_candidates_of_a_file_are_the_same_by_graph_and_by_maps(family: Family, walk: KernelWalk) -> None:
    for page in range(tree.NR):
        place = find_file_page(str(family.file), page * PAGE)
        by_maps, by_graph = who_maps_file(place), who_maps_file(place, walk)
        assert by_maps.as_json() == by_graph.as_json()
        assert by_graph.index == page


@pytest.mark.usefixtures("pfns")
@pytest.mark.parametrize(
    ("region", "kind", "flags"),
    [
        (tree.PRIVATE, "anon", {"ANON", "SWAPBACKED"}),
        (tree.MOVED, "anon", {"ANON", "SWAPBACKED"}),
        (tree.HUGE, "anon", {"ANON", "SWAPBACKED"}),
        (tree.SHARED, "shmem", {"SWAPBACKED", "MMAP"}),
        (tree.FILE_SHARED, "file", {"MMAP"}),
        (tree.FILE_PRIVATE, "file", {"MMAP"}),
        (tree.FILE_PRIVATE + 4 * PAGE, "anon", {"ANON"}),
    ],
)
def test_the_kind_of_a_page(family: Family, region: int, kind: str, flags: set[str]) -> None:
    answer = who_maps_address(find_place(family.pids["A"], f"{region:x}"))
    assert answer.kind == kind
    assert flags <= set(answer.flags or ())


@pytest.mark.usefixtures("pfns")
def test_exclusive_is_what_nobody_else_inherited(family: Family) -> None:
    """A page that its owner copied for itself, after all forks; not one that is shared since a fork."""

    def exclusive(name: str, address: int) -> bool | None:
        return who_maps_address(find_place(family.pids[name], f"{address:x}")).exclusive

    assert exclusive("D", tree.PRIVATE + 4 * PAGE) is True
    assert exclusive("A", tree.PRIVATE + 12 * PAGE) is False
    assert exclusive("A", tree.SHARED) is None


@pytest.mark.usefixtures("pfns")
def test_a_huge_page_and_what_is_left_of_it_after_a_copy(family: Family) -> None:
    """A's entry is one for 512 pages; B wrote to page 7, so B and D have an entry per page, and another page there."""
    maps = procfs.read_maps(family.pids["A"])
    assert not isinstance(maps, procfs.Unread)
    smaps = procfs.read_proc(f"{family.pids['A']}/smaps")
    assert isinstance(smaps, bytes)
    part = smaps[smaps.index(b"%x-" % tree.HUGE) :]
    if b"AnonHugePages:      2048 kB" not in part[: part.index(b"VmFlags")] and not REQUIRE_ALL:
        pytest.skip("this machine gave no transparent huge page")
    here = f"{tree.HUGE + 7 * PAGE:x}"
    whole, copied = (who_maps_address(find_place(family.pids[name], here)) for name in "AB")
    assert {"THP", "COMPOUND_TAIL"} <= set(whole.flags or ())
    assert whole.huge
    assert whole.folio == (pfn_of(family.pids["A"], tree.HUGE), 512)
    assert "THP" not in (copied.flags or ())
    assert {pid for pid, _ in found(whole)} == {family.pids["A"], family.pids["C"]}
    assert {pid for pid, _ in found(copied)} == {family.pids["B"], family.pids["D"]}


def test_a_page_of_the_file_and_the_vmas_visited_in_vain(family: Family) -> None:
    """The candidates are all VMAs of the file that cover the page, whoever touched it; wasted are those without an entry for it."""
    for page in range(tree.NR):
        answer = who_maps_file(find_file_page(str(family.file), page * PAGE + 17))
        assert answer.index == page
        assert found(answer) == family.pages[f"file page {page}"]
        assert answer.candidates is not None
        everywhere = {
            (pid, region + page * PAGE)
            for pid in family.pids.values()
            for region in (tree.FILE_SHARED, tree.FILE_PRIVATE, tree.FILE_LAZY)
        }
        assert {(visit.pid, visit.address) for visit in answer.candidates} == everywhere
        assert answer.wasted is not None
        reasons = defaultdict(set)
        for visit in answer.wasted:
            reasons[visit.miss].add((visit.pid, visit.address))
        lazy = {(pid, tree.FILE_LAZY + page * PAGE) for pid in family.pids.values()}
        untouched = {(family.pids[name], tree.FILE_SHARED + page * PAGE) for name in "BC"}
        copies = {(pid, tree.FILE_PRIVATE + page * PAGE) for pid in family.pids.values()} if page in (4, 5) else set()
        assert reasons["no entry"] == lazy | untouched
        assert reasons["a copy of its own"] == copies


@pytest.mark.usefixtures("pfns")
def test_a_moved_page_is_found_where_it_was_moved_to(family: Family) -> None:
    """B and D map at MOVED_TO what A and C map at MOVED."""
    a, b, c, d = (family.pids[name] for name in "ABCD")
    answer = who_maps_address(find_place(d, f"{tree.MOVED_TO:x}"))
    assert set(found(answer)) == {(a, tree.MOVED), (b, tree.MOVED_TO), (c, tree.MOVED), (d, tree.MOVED_TO)}


@pytest.mark.usefixtures("pfns")
def test_where_there_is_no_page(family: Family) -> None:
    """Never touched: no page, said with what else there is to know. The zero page: no count and no reverse map."""
    a, b = family.pids["A"], family.pids["B"]
    empty = who_maps_address(find_place(a, f"{tree.EMPTY:x}"))
    assert (empty.pfn, empty.kind, empty.mappers) == (None, "none", [])
    zero = who_maps_address(find_place(a, f"{tree.ZERO:x}"))
    assert (zero.kind, zero.candidates) == ("zero", [])
    assert "ZERO_PAGE" in (zero.flags or ())
    lazy = who_maps_address(find_place(b, f"{tree.FILE_LAZY + 2 * PAGE:x}"))
    assert found(lazy) == family.pages["file page 2"]
    assert "not touched yet" in lazy.absent


@pytest.mark.usefixtures("pfns")
def test_flags_are_those_of_the_words(family: Family) -> None:
    """The words of all pages at once and one at a time agree; out-of-order and repeated PFNs come back in their places."""
    pfns = [pfn_of(*mappers[0]) for mappers in family.pages.values()][:40]
    mixed = [*reversed(pfns), *pfns]
    words = pagemap.read_per_pfn("kpageflags", mixed)
    assert not isinstance(words, procfs.Unread)
    one_by_one = [int(pagemap.read_per_pfn("kpageflags", [pfn])[0]) for pfn in mixed]  # type: ignore[index]
    settled = ~np.uint64(1 << 2 | 1 << 5 | 1 << 6)  # REFERENCED, LRU and ACTIVE may change meanwhile
    assert (words & settled).tolist() == (np.array(one_by_one, np.uint64) & settled).tolist()
    assert all("ANON" in kpageflags.flag_names(int(word)) for word in words[40:56])
