"""`who` on a page of every kind of memory, against what the zoo says it made, and against a reader of our own (issue 13: 4, must show 1).

zoo.py knows its pages by construction. The second reader knows nothing of rmaplab: it reads all page tables of the machine.
"""

import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks import page_tables
from rmaplab.errors import UsageError
from rmaplab.host.kernel_walk import KernelWalk
from rmaplab.host.place import find_place
from rmaplab.host.snapshot import CensusTaker
from rmaplab.host.vmas import VmaDumper
from rmaplab.host.wanted import Wanted
from rmaplab.host.who import Answer, who_maps_address

from .conftest import Zoo, zoo_entry
from .fork_tree import PAGE
from .zoo import AT, AWAY, KINDS

PFN = (1 << 55) - 1
Entries = list[tuple[int, int]]
SHARED = {
    "memfd": ["memfd_untouched", "past_end"],
    "clean": ["clean_untouched"],
    "sysv": [],
    "tmpfs": [],
    "deleted": [],
    "dirty": [],
}
"""Pages of files, and where else their file is mapped."""
IN_VAIN = {
    ("anonymous", 1, "A"): ("B", "a copy of its own"),
    ("anonymous", 2, "A"): ("B", "a copy of its own"),
    ("anonymous", 2, "B"): ("A", "a copy of its own"),
    ("anonymous", 3, "A"): ("B", "a copy of its own"),
    ("swapped", 1, "B"): ("A", "swapped out"),
}
"""Of a page that these map: who is visited as well, and what is found there. A child's own copy hangs where only it is looked for."""
EXCLUSIVE = [
    ("anonymous", 1, "B"),
    ("anonymous", 2, "A"),
    ("anonymous", 3, "A"),
    ("anonymous", 3, "B"),
    ("wipeonfork", 1, "B"),
]
KIND = dict.fromkeys(KINDS, "anon") | {
    "hugetlb_shared": "hugetlb", "ksm": "ksm", "memfd": "shmem", "sysv": "shmem", "tmpfs": "shmem",
    "deleted": "file", "dirty": "file", "clean": "file", "bpf_map": "kernel",
}  # fmt: skip
FLAGS = {
    "locked": {"MLOCKED", "UNEVICTABLE"},
    "huge": {"THP"},
    "small_folio": {"THP"},
    "hugetlb": {"HUGE", "ANON"},
    "hugetlb_shared": {"HUGE"},
    "ksm": {"KSM"},
    "memfd": {"SWAPBACKED"},
}
FOLIO = {"huge": 512, "small_folio": 16, "hugetlb": 512, "hugetlb_shared": 512}
MAPPED = [
    *(
        [
            "anonymous",
            "moved",
            "moved_by_child",
            "dontfork",
            "wipeonfork",
            "guard",
            "locked",
            "huge",
            "small_folio",
            "hugetlb",
            "hugetlb_shared",
            "ksm",
            "swapped",
        ]
    ),
    *(["memfd", "sysv", "tmpfs", "deleted", "dirty", "clean", "bpf_map"]),
]


@pytest.fixture(scope="module")
def everywhere(zoo: Zoo) -> dict[int, Entries]:
    """By page frame of the zoo: every entry on this machine, read by hand."""
    mine = {zoo_entry(*entry) & PFN for entries in zoo.pages.values() for entry in entries}
    wanted, found = np.array(sorted(mine), np.uint64), defaultdict(list)
    for pid in [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]:
        try:
            with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
                for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
                    start, end = (int(text, 16) for text in line.split()[0].split("-"))
                    if " ---p " in line or start >> 63:
                        continue
                    words = np.frombuffer(
                        os.pread(pagemap.fileno(), (end - start) // PAGE * 8, start // PAGE * 8), np.uint64
                    )
                    for i in np.flatnonzero((words >> 63 == 1) & np.isin(words & PFN, wanted)).tolist():
                        found[int(words[i]) & PFN].append((pid, start + i * PAGE))
        except OSError:
            continue  # ended, or hidden from us
    return {pfn: sorted(entries) for pfn, entries in found.items()}


def ask(zoo: Zoo, process: str, address: int, walk: KernelWalk | None = None) -> Answer:
    return who_maps_address(find_place(zoo.pids[process], f"{address:x}"), walk)


def where(entries: Entries, zoo: Zoo) -> str:
    """The processes of the zoo that map a page, by name."""
    return "".join(name for name in "AB" if zoo.pids[name] in {pid for pid, _ in entries})


def pages_of(kind: str, zoo: Zoo) -> list[tuple[int, Entries]]:
    """(page, all its entries) for a few pages of the kind."""
    start = range(AT[kind], AT[kind] + AWAY + 2 * PAGE)
    found = [(entries[0][1] % AWAY // PAGE, entries) for entries in zoo.pages.values() if entries[0][1] in start]
    assert found
    return [each for each in found if each[0] in (0, 1, 2, 3, 15, 511)]


def expected_in_vain(kind: str, page: int, entries: Entries, zoo: Zoo) -> set[tuple[int, int, str]]:
    if kind in SHARED:  # every VMA of the file that covers the page
        covering = {(pid, AT[name] + page * PAGE) for name in (kind, *SHARED[kind]) for pid in zoo.pids.values()}
        return {(pid, address, "no entry") for pid, address in covering - set(entries)}
    if (kind, page) == ("ksm", 0):  # one frame for A's two pages and B's first: its second hangs on A's as well
        return {(zoo.pids["B"], AT["ksm"] + PAGE, "a copy of its own")}
    if (key := (kind, page, where(entries, zoo))) in IN_VAIN:
        name, miss = IN_VAIN[key]
        return {(zoo.pids[name], AT[kind] + page * PAGE, miss)}
    return set()


@pytest.mark.parametrize("kind", MAPPED)
def test_who_maps_it(kind: str, zoo: Zoo, everywhere: dict[int, Entries], walk: KernelWalk) -> None:
    """All entries, count, kind, flags, the folio and what is visited in vain: asked of every entry of a page."""
    zoo.need(kind)
    for page, entries in pages_of(kind, zoo):
        for pid, address in entries:
            answer = ask(zoo, where([(pid, address)], zoo), address, walk)
            assert sorted((visit.pid, visit.address) for visit in answer.mappers) == entries
            assert everywhere[answer.pfn or 0] == entries
            copied = (kind, page) == ("ksm", 1)  # by B, before it could be merged
            assert (answer.kind, answer.mapcount, answer.absent) == ("anon" if copied else KIND[kind], len(entries), "")
            assert copied or FLAGS.get(kind, set()) <= set(answer.flags or ())
            if kind in FOLIO:
                first = zoo_entry(pid, address - page * PAGE) & PFN
                assert answer.folio == (first, FOLIO[kind])
                assert answer.huge == (FOLIO[kind] == 512)
            in_vain = {(visit.pid, visit.address, visit.miss) for visit in answer.wasted or ()}
            assert in_vain == expected_in_vain(kind, page, entries, zoo)
            assert kind == "bpf_map" or len(answer.candidates or ()) == len(entries) + len(in_vain)


@pytest.mark.parametrize("kind", ["anonymous", "dontfork", "wipeonfork", "locked"])
def test_exclusive_is_what_was_written_where_nobody_had_it_too(kind: str, zoo: Zoo) -> None:
    for page, entries in pages_of(kind, zoo):
        names = where(entries, zoo)
        alone = kind == "dontfork" or (kind == "wipeonfork" and names == "A") or (kind, page, names) in EXCLUSIVE
        assert ask(zoo, names[0], entries[0][1]).exclusive is alone


@pytest.mark.parametrize("walked", [False, True])
def test_a_page_of_a_driver_is_no_page_of_a_file(zoo: Zoo, walk: KernelWalk, *, walked: bool) -> None:
    """BPF's maps and perf's rings share one inode, and no page is in its cache: nobody else's page is named, no VMA is visited."""
    zoo.need("bpf_map")
    answer = ask(zoo, "A", AT["bpf_map"], walk if walked else None)
    assert (answer.kind, answer.candidates, answer.index) == ("kernel", [], None)
    assert {visit.address for visit in answer.mappers} == {AT["bpf_map"]}


@pytest.mark.parametrize(
    ("kind", "process", "page", "is_of", "says"),
    [
        ("wipeonfork", "B", 0, "none", "nothing was written or read there yet"),
        ("untouched", "A", 0, "none", "nothing was written or read there yet, or it was given back$"),
        ("missing", "A", 0, "none", "userfaultfd watches this VMA"),
        ("missing", "B", 0, "none", "or it was given back$"),
        ("no_access", "A", 1, "none", "PROT_NONE.*SIGSEGV"),
        ("guard", "A", 1, "guard", "MADV_GUARD_INSTALL.*SIGSEGV"),
        ("guard", "B", 1, "guard", "MADV_GUARD_INSTALL.*SIGSEGV"),
        ("perf", "A", 0, "pfnmap", "VM_PFNMAP"),
        ("perf_again", "A", 1, "pfnmap", "VM_PFNMAP"),
        ("past_end", "A", 2, "none", r"page 2 is beyond the end of /memfd:zoo.*8,192 bytes: to touch it is SIGBUS"),
        ("past_end", "B", 3, "none", "beyond the end"),
    ],
)
def test_why_there_is_no_page(
    kind: str, process: str, page: int, is_of: str, says: str, zoo: Zoo, walk: KernelWalk
) -> None:
    """The reason is told, and no page of somebody else's."""
    zoo.need(kind)
    answer = ask(zoo, process, AT[kind] + page * PAGE, walk)
    assert re.search(says, answer.absent)
    assert (answer.kind, answer.pfn, answer.mappers, answer.candidates) == (is_of, None, [], None)


def test_vvar_has_no_reverse_map(zoo: Zoo) -> None:
    if "[vvar]" not in Path(f"/proc/{zoo.pids['A']}/maps").read_text():
        pytest.skip("this kernel shows no [vvar]: another architecture")
    answer = who_maps_address(find_place(zoo.pids["A"], "[vvar]"))
    assert (answer.kind, answer.pfn) == ("pfnmap", None)


def test_the_vma_that_a_fork_left_out(zoo: Zoo) -> None:
    with pytest.raises(UsageError, match="nothing is mapped at"):
        ask(zoo, "B", AT["dontfork"])


def test_whose_entries_name_a_slot_of_swap(zoo: Zoo) -> None:
    """A fork copies them; whoever touches the page has it back, the others' entries stay."""
    zoo.need("swapped")
    both = ask(zoo, "B", AT["swapped"])
    one = ask(zoo, "A", AT["swapped"] + PAGE)
    assert both.kind == one.kind == "swap"
    assert "swapped out, to slot" in both.absent
    assert {visit.pid for visit in both.same_slot or ()} == set(zoo.pids.values())
    assert [(visit.pid, visit.address) for visit in one.same_slot or ()] == [(zoo.pids["A"], AT["swapped"] + PAGE)]


@pytest.mark.parametrize("process", ["A", "B"])
def test_shared_memory_that_is_swapped_out(zoo: Zoo, walk: KernelWalk, process: str) -> None:
    """No page table says so, the page cache does. Asking does not bring it back."""
    zoo.need("shared_swapped")
    for _ in range(2):
        answer = ask(zoo, process, AT["shared_swapped"], walk)
        assert (answer.kind, answer.pfn, answer.mappers) == ("swap", None, [])
        assert "is swapped out" in answer.absent
        covering = {(pid, AT["shared_swapped"]) for pid in zoo.pids.values()}
        assert {(visit.pid, visit.address) for visit in answer.candidates or ()} == covering


@pytest.mark.parametrize(
    ("kind", "source"), [("clean_untouched", "clean"), ("memfd_untouched", "memfd"), ("unmapped", None)]
)
def test_a_page_that_this_process_would_get(zoo: Zoo, walk: KernelWalk, kind: str, source: str | None) -> None:
    """It is in the page cache: whoever maps it is told, or that nobody does."""
    answer = ask(zoo, "B", AT[kind] + PAGE, walk)
    assert "not touched yet" in answer.absent
    expected = next(entries for page, entries in pages_of(source, zoo) if page == 1) if source else []
    assert [(visit.pid, visit.address) for visit in answer.mappers] == expected
    assert answer.pfn
    assert answer.mapcount == len(expected)


def test_a_page_of_a_file_that_is_not_in_memory(zoo: Zoo) -> None:
    """Asking does not read it in."""
    for _ in range(2):
        answer = ask(zoo, "A", AT["uncached"])
        assert "is not in the page cache: a touch reads it in" in answer.absent
        assert (answer.pfn, answer.mappers, len(answer.candidates or ())) == (None, [], 2)


@pytest.mark.parametrize(("kind", "processes"), [("zero", "A"), ("huge_zero", "AB")])
def test_zero_pages(zoo: Zoo, walk: KernelWalk, kind: str, processes: str) -> None:
    """Neither counted nor walked. A fork copies the huge one's entry, since its VMA got an anon_vma (do_huge_pmd_anonymous_page)."""
    answer = ask(zoo, "A", AT[kind], walk)
    if kind == "huge_zero" and answer.kind == "none":
        pytest.skip("this machine gives no huge zero page")
    assert (answer.kind, answer.candidates) == ("zero", [])
    here = [(visit.pid, visit.address) for visit in answer.mappers if visit.address == AT[kind]]
    assert where(here, zoo) == processes


def test_the_live_graph_of_the_zoo(zoo: Zoo, walk: KernelWalk) -> None:
    """What was written has an anon_vma in A; a fork adds one and a chain to each that it inherits; wiped memory begins anew."""
    there = [kind for kind in KINDS if kind not in zoo.missing]
    with VmaDumper() as dumper:
        graph = dumper.dump().graph.part(zoo.pids.values(), AT[KINDS[0]], AT[KINDS[-1]] + (16 << 20))
    not_inherited = [kind for kind in ("dontfork", "perf", "perf_again") if kind in there]
    assert len(graph.vmas.mm) == 2 * len(there) - len(not_inherited)
    written = {kind for kind in MAPPED if KIND[kind] in ("anon", "ksm")} | {"huge_zero"}
    nr = len(written.intersection(there))
    inherited = nr - len(written.intersection(["dontfork", "wipeonfork"]))
    assert len(graph.anon_vmas.root) == nr + inherited + 1
    assert len(graph.chains.vma) == nr + 2 * inherited + 1


def test_the_live_pages_of_the_zoo(zoo: Zoo) -> None:
    """Each anonymous page of the family is found, with its map count, by whoever reads page tables without rmaplab too; but for KSM's."""
    with CensusTaker() as observer:
        graph = observer.look(Wanted(pid=zoo.pids["A"], trees=True)).graph
    there = page_tables.read(zoo.pids.values())
    ksm = page_tables.words_of("kpageflags", there.frames) >> np.uint64(21) & np.uint64(1) != 0
    pages, processes = graph.pages, graph.processes
    assert pages is not None
    theirs = np.isin(pages.mm, processes.mm[np.isin(processes.pid, list(zoo.pids.values()))])
    counts = dict(zip(pages.pfn[theirs].tolist(), pages.mapcount[theirs].tolist(), strict=True))
    assert counts == dict(zip(there.frames[~ksm].tolist(), there.mapcounts[~ksm].tolist(), strict=True))
    assert len(counts) > 2000
