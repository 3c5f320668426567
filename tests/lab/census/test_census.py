"""The census of a machine small enough to be counted by hand, in memory and in a file."""

import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rmaplab.cli import main
from rmaplab.errors import UsageError
from rmaplab.host.draw import Sample
from rmaplab.host.footprint import Footprints
from rmaplab.host.slabs import Sizes
from rmaplab.host.snapshot import Rung, Snapshot
from rmaplab.kernels.designs import OURS
from rmaplab.lab.census.census import Census, NobodyThere
from rmaplab.lab.census.diff import changes, total_changes
from rmaplab.lab.census.file import anonymised, load, save_snapshot
from rmaplab.lab.census.rows import FileRow
from rmaplab.lab.census.visits import Quantiles
from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE, UNKNOWN, AnonVmas, Chains, Files, Graph, Pages, Processes, Vmas
from rmaplab.objects.graph_check import findings, hidden
from rmaplab.rmap.anonmm import AnonMmMap

MIB = 1 << 20


def ints(*values: int) -> I64:
    return np.array(values, np.int64)


def small_machine() -> Snapshot:
    """A forks B; C is a stranger that maps a file.

    A 10000-14000  a0            pages of a0: index 10, mapped by A and B; index 11, by A only, for B has written its own:
    B 10000-14000  a1, a0        a page of a1, index 11
    C 20000-22000  a2            a page of a2, index 20
      30000-31000  a file
    """
    graph = Graph(
        Processes(ints(7, 8, 9), ints(1, 7, 1), np.array([b"a", b"b", b"c"], "S16"), ints(70, 80, 75), ints(0, 1, 2)),
        Vmas(
            mm=ints(0, 1, 2, 2),
            start=ints(0x10000, 0x10000, 0x20000, 0x30000),
            end=ints(0x14000, 0x14000, 0x22000, 0x31000),
            pgoff=ints(0x10, 0x10, 0x20, 0),
            flags=ints(3, 3, 3, 1),
            anon_vma=ints(0, 1, 2, NONE),
            file=ints(NONE, NONE, NONE, 0),
        ),
        AnonVmas(ints(0, 0, 2), ints(0, 0, 2), ints(2, 0, 1), ints(1, 1, 1), ints(2, 1, 1)),
        Chains(ints(0, 1, 1, 2), ints(0, 1, 0, 2)),
        Files(ints(0xFE << 20 | 1), ints(42)),
        Pages(
            pfn=ints(100, 100, 101, 102, 103),
            mm=ints(0, 1, 0, 1, 2),
            anon_vma=ints(0, 0, 0, 1, 2),
            pgoff=ints(0x10, 0x10, 0x11, 0x11, 0x20),
            mapcount=ints(2, 2, 1, 1, 1),
            weight=np.array([0.5, 0.5, 1, 1, 1]),
        ),
    )
    assert findings(graph) == []
    assert hidden(graph) == (0, 0)
    return Snapshot(
        graph=graph,
        footprints=Footprints(
            ints(4096, 8192, 4096),
            ints(MIB, MIB, MIB),
            ints(10, 20, 30),
            ints(1, 2, UNKNOWN),
            ints(4, 5, UNKNOWN),
            ints(0, 0, 0),
            ints(0, 0, 0),
            ints(0, 0, 0),
        ),
        sizes=Sizes({"anon_vma": 104, "anon_vma_chain": 64, "vm_area_struct": 192}, "a test", {}),
        rung=Rung.EVERYTHING,
        missing=(),
        kernel="6.18.0-test",
        arch="x86_64",
        taken_at=1.0,
        nr_pages=1000,
        cache_line_bytes=64,
        file_names={0: "/a/file"},
    )


def without_anon_vmas(snapshot: Snapshot) -> Snapshot:
    """As an ordinary user would see it."""
    graph, none = snapshot.graph, ints()
    return replace(
        snapshot,
        graph=Graph(
            graph.processes,
            graph.vmas._replace(anon_vma=np.full(4, NONE)),
            AnonVmas(none, none, none, none, none),
            Chains(none, none),
            graph.files,
        ),
        rung=Rung.OWN,
        missing=("no BPF",),
    )


def test_processes_are_counted() -> None:
    """A, B and C, each with what hangs on it."""
    a, b, c = Census(small_machine()).processes()
    assert [(row.pid, row.comm, row.vmas) for row in (a, b, c)] == [(7, "a", 1), (8, "b", 1), (9, "c", 2)]
    assert [(row.anon_vmas, row.chains, row.depth) for row in (a, b, c)] == [(1, 1, 1), (1, 2, 2), (1, 1, 1)]
    assert b.rmap_bytes == 104 + 2 * 64
    assert [row.longest_walk for row in (a, b, c)] == [2, 2, 1]
    assert [row.largest_root_vmas for row in (a, b, c)] == [2, 2, 1]
    assert (a.candidates, a.useful) == (Quantiles(2, 2, 2), Quantiles(1, 2, 2))
    assert (b.candidates, b.useful) == (Quantiles(1, 2, 2), Quantiles(1, 2, 2))
    assert (c.page_tables_bytes, c.private_bytes, c.shared_bytes) == (4096, None, None)


def test_a_tree_is_who_shares_roots() -> None:
    """A and B are one, named by the older; C is another. Unknown memory is left out, not zero."""
    tree, stranger = Census(small_machine()).trees()
    assert (tree.pid, tree.comm, tree.processes, tree.roots, tree.vmas) == (7, "a", 2, 1, 2)
    assert (tree.anon_vmas, tree.chains, tree.rmap_bytes, tree.depth) == (2, 3, 2 * 104 + 3 * 64, 2)
    assert (tree.page_tables_bytes, tree.private_bytes, tree.shared_bytes) == (12288, 3, 9)
    assert (stranger.pid, stranger.processes, stranger.private_bytes) == (9, 1, None)


@pytest.mark.parametrize(
    ("trees", "pid", "comm", "sort", "pids", "mms"),
    [
        (False, None, None, None, [8, 7, 9], None),
        (False, None, None, "pid", [7, 8, 9], None),
        (True, None, None, "vmas", [7, 9], None),
        (False, 8, None, None, [8], [1]),
        (True, 8, None, None, [7], [0, 1]),
        (False, None, "[bc]", "page_tables_bytes", [8, 9], [1, 2]),
    ],
)
def test_rows_are_chosen(
    trees: bool, pid: int | None, comm: str | None, sort: str | None, pids: list[int], mms: list[int] | None
) -> None:
    """The most first; of one process, or of a name, or of their trees, and the address spaces that these rows are about."""
    rows, chosen = Census(small_machine()).select(trees=trees, pid=pid, comm=comm, sort=sort, where="here")
    assert [row.pid for row in rows] == pids
    assert (None if chosen is None else chosen.tolist()) == mms


@pytest.mark.parametrize(("pid", "comm"), [(99, None), (7, "b"), (None, "z*")])
def test_nobody_is_there(pid: int | None, comm: str | None) -> None:
    with pytest.raises(NobodyThere, match="with memory of its own on here: "):
        Census(small_machine()).select(trees=False, pid=pid, comm=comm, sort=None, where="here")


def test_what_is_torn_is_marked_and_nothing_else() -> None:
    """B was caught changing: its tree cannot be trusted, C can."""
    census = Census(replace(small_machine(), torn_mms=(1,), broken=("1 something",)))
    assert [row.torn for row in census.processes()] == [True, True, False]
    assert [row.torn for row in census.trees()] == [True, False]


def test_pages_mapped_since_are_left_out_and_nothing_is_clamped() -> None:
    """A page of three mappings where two VMAs cover it, one of an anon_vma that is not there: neither a visit in vain nor a gain."""
    snapshot = small_machine()
    pages = snapshot.graph.pages
    assert pages is not None
    pages = pages._replace(mapcount=ints(3, 3, 1, 1, 1), anon_vma=ints(0, 0, 0, NONE, 2))
    walk = Census(replace(snapshot, graph=replace(snapshot.graph, pages=pages))).walk()
    assert walk is not None
    assert (walk.pages, walk.left_out) == (2, 2)
    assert walk.useful == Quantiles(1, 1, 1)
    assert walk.wasted_share == pytest.approx(1 / 3)


def test_a_census_of_some_is_about_them(tmp_path: Path) -> None:
    """B alone was asked for: rows, totals, walk and designs are its own; of A, on whose anon_vma it hangs, nothing is said."""
    snapshot = small_machine()
    pages = snapshot.graph.pages
    assert pages is not None
    of_b = Pages._make(column[pages.mm == 1] for column in pages)
    save_snapshot(replace(snapshot, graph=replace(snapshot.graph, pages=of_b), scope=(1,)), tmp_path / "b")
    census = Census(load(tmp_path / "b"))
    rows, mms = census.select(trees=False, pid=None, comm=None, sort=None, where="here")
    assert [row.pid for row in rows] == [8]
    assert mms is not None
    assert mms.tolist() == [1]
    totals = census.totals(mms)
    assert (totals["processes"], totals["vmas"], totals["anon_vmas"], totals["chains"]) == (1, 1, 2, 2)
    assert totals["private_bytes"] == 2
    held = {each.design: each for each in census.designs(mms)}
    assert held["Linux 6.18.0 as it is"].objects == {"anon_vma": 2, "anon_vma_chain": 2}
    assert held["anonmm"].objects == {"anonmm": 1}
    with pytest.raises(NobodyThere):
        census.select(trees=False, pid=7, comm=None, sort=None, where="here")


def test_an_anonymised_census_counts_the_same() -> None:
    """Names are numbers, the same for the same name; figures are as they were."""
    snapshot = replace(small_machine(), cgroups=("/a", "/b", "/a"), unseen=("1 (init)",))
    hidden_names = anonymised(snapshot)
    assert hidden_names.graph.processes.comm.tolist() == [b"command 0", b"command 1", b"command 2"]
    assert hidden_names.cgroups == ("cgroup 0", "cgroup 1", "cgroup 0")
    assert (hidden_names.file_names, hidden_names.unseen) == ({0: "file 0"}, ("1",))
    assert hidden_names.graph.files.inode.tolist() == [0]
    assert Census(hidden_names).totals() == Census(snapshot).totals()


def test_a_cgroup_is_meant_with_those_below_it() -> None:
    """* and ? stand for something; a census that does not know of cgroups says so."""
    census = Census(replace(small_machine(), cgroups=("/app/one", "/app/two", "/other")))

    def pids(cgroup: str) -> list[int]:
        rows, _ = census.select(trees=False, pid=None, comm=None, sort="pid", where="here", cgroup=cgroup)
        return [row.pid for row in rows]

    assert pids("/app") == pids("app/") == pids("/app/*") == [7, 8]
    assert pids("/*/two") == [8]
    assert pids("/") == [7, 8, 9]
    with pytest.raises(NobodyThere, match="'/ap'"):
        pids("/ap")


def test_a_large_folio_is_walked_once() -> None:
    """C's two pages are one folio, and half of it is mapped by two VMAs: pages cost 1 and 2 visits, the folio 2; each weighs once."""
    snapshot = small_machine()
    graph = snapshot.graph
    vmas = Vmas(*(np.append(column, column[2:3]) for column in graph.vmas))
    vmas = vmas._replace(
        start=ints(0x10000, 0x10000, 0x20000, 0x30000, 0x40000), end=ints(0x14000, 0x14000, 0x22000, 0x31000, 0x41000)
    )
    vmas = vmas._replace(pgoff=ints(0x10, 0x10, 0x20, 0, 0x21))
    chains = Chains(ints(0, 1, 1, 2, 4), ints(0, 1, 0, 2, 2))
    pages = Pages(ints(512, 513), ints(2, 2), ints(2, 2), ints(0x20, 0x21), ints(1, 1), np.ones(2))
    none, zero = np.full(2, NONE), ints(0, 0, 0)
    sample = Sample(none, ints(512, 512), ints(2, 2), zero, zero, zero)
    graph = replace(graph, vmas=vmas, chains=chains, pages=pages)
    walk = Census(replace(snapshot, graph=graph, sample=sample)).walk()
    assert walk is not None
    assert walk.folios is not None
    assert (walk.pages, walk.candidates) == (2, Quantiles(1, 2, 2))
    assert (walk.folios.folios.value, walk.folios.candidates, walk.folios.useful) == (
        1,
        Quantiles(2, 2, 2),
        Quantiles(1, 1, 1),
    )
    assert walk.wasted_share == pytest.approx(1 / 3)
    assert walk.folios.wasted is not None
    assert walk.folios.wasted.value == pytest.approx(1 / 2)


def test_an_anon_vma_that_nobody_owns_is_the_trees() -> None:
    """A has ended; B still hangs on a0, and its pages are there."""
    whole = small_machine()
    graph = whole.graph
    left = replace(
        whole,
        graph=Graph(
            Processes(ints(8, 9), ints(7, 1), graph.processes.comm[1:], ints(80, 75), ints(0, 1)),
            Vmas(*(column[1:] for column in graph.vmas))._replace(mm=ints(0, 1, 1)),
            graph.anon_vmas._replace(num_active_vmas=ints(0, 1, 1)),
            Chains(ints(0, 0, 1), ints(1, 0, 2)),
            graph.files,
        ),
        footprints=Footprints(*(column[1:] for column in whole.footprints)),
    )
    assert findings(left.graph) == []
    assert [row.anon_vmas for row in Census(left).processes()] == [1, 1]
    assert [row.anon_vmas for row in Census(left).trees()] == [2, 1]


def test_the_walk_is_over_pages_and_each_weighs_once() -> None:
    """Four pages: two candidates for those of a0, one for the others; one of five visits finds nothing."""
    walk = Census(small_machine()).walk()
    assert walk is not None
    assert (walk.pages, walk.sampled) == (4, 4)
    assert (walk.candidates, walk.useful) == (Quantiles(1, 2, 2), Quantiles(1, 2, 2))
    visits = 2 + 2 + 1 + 1
    assert walk.wasted_share == pytest.approx((visits - 5) / visits)


def test_without_pages_the_walk_is_over_indexes() -> None:
    """a0 covers 4 indexes twice, a1 4 once, a2 2 once; nobody knows what is useful."""
    snapshot = small_machine()
    walk = Census(replace(snapshot, graph=replace(snapshot.graph, pages=None), rung=Rung.GRAPH)).walk()
    assert walk is not None
    assert (walk.pages, walk.candidates, walk.useful, walk.wasted_share) == (10, Quantiles(1, 2, 2), None, None)


def test_a_walk_over_some_address_spaces() -> None:
    """C alone: one page, one visit."""
    walk = Census(small_machine()).walk(ints(2))
    assert walk is not None
    assert (walk.pages, walk.candidates, walk.wasted_share) == (1, Quantiles(1, 1, 1), 0)


def test_files_are_named() -> None:
    """By what a process sees, or by inode where nobody would say."""
    snapshot = small_machine()
    assert Census(snapshot).files() == [FileRow("/a/file", "fe:01", 42, 1, 1)]
    assert Census(replace(snapshot, file_names={})).files()[0].name == "inode 42 on fe:01"
    assert Census(snapshot).files(ints(0)) == []


def test_designs_hold_what_their_sizes_say() -> None:
    """On x86-64: 40 bytes and a pointer per mm under anonmm, 24 per root and VMA under anon_vma, a line per shared page in chains."""
    held = {each.design: each for each in Census(small_machine()).designs()}
    own = held["Linux 6.18.0 as it is"]
    assert (own.objects, own.objects_bytes) == ({"anon_vma": 3, "anon_vma_chain": 4}, 3 * 104 + 4 * 64)
    assert held["anonmm"].total_bytes == 3 * (40 + 8)
    assert held["anon_vma"].total_bytes == 2 * 24 + 4 * 24
    assert held["pte_chain"].total_bytes == 64
    assert held["pte_chain"].page_bytes == 1000 * 8
    assert held["virtual_scan"].total_bytes == 0
    assert all("no rule" not in each.note for each in held.values())
    assert held.keys() == {"Linux 6.18.0 as it is", *OURS} - {
        "anon_vma_chain_newest",
        "anon_vma_interval_tree",
        "anonmm_unordered",
    }


def test_what_a_walk_would_visit_under_each_design() -> None:
    """Four pages. Chains: their entries, 2, 1, 1 and 1. anon_vma: all VMAs of the root, 2 for each page of the family.

    anon_vma_chain: 2 for those of a0, 1 for a1's. anonmm: the shared page may be in both address spaces, the others are their owner's.
    """
    visits = {each.design: each.visits for each in Census(small_machine()).designs()}
    assert visits["pte_chain"] == Quantiles(1, 2, 2)
    assert visits["anon_vma"] == Quantiles(2, 2, 2)
    assert visits["anon_vma_chain"] == visits["Linux 6.18.0 as it is"] == Quantiles(1, 2, 2)
    assert visits["anonmm"] == Quantiles(1, 2, 2)
    assert visits["virtual_scan"] is None
    snapshot = small_machine()
    blind = replace(snapshot, graph=replace(snapshot.graph, pages=None), rung=Rung.GRAPH)
    assert {each.visits for each in Census(blind).designs()} == {None}


def test_a_design_without_a_rule_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a zero."""
    monkeypatch.setattr(AnonMmMap, "live", None)
    (anonmm,) = (each for each in Census(small_machine()).designs() if each.design == "anonmm")
    assert (anonmm.objects_bytes, anonmm.total_bytes) == (None, None)
    assert "no rule" in anonmm.note


def test_a_rung_without_anon_vmas_knows_none() -> None:
    """None, not 0, everywhere; and no trees."""
    census = Census(without_anon_vmas(small_machine()))
    for row in census.processes():
        unknown = (row.anon_vmas, row.chains, row.rmap_bytes, row.depth, row.longest_walk, row.roots, row.candidates)
        assert set(unknown) == {None}
    totals = census.totals()
    assert (totals["trees"], totals["anon_vmas"], totals["chains"], totals["rmap_bytes"]) == (None, None, None, None)
    assert totals["vmas"] == 4
    said = census.as_json(census.processes(), "processes")
    assert (said["torn_dumps"], said["broken"], said["hidden"]) == (None, None, None)
    assert {row["torn"] for row in said["processes"]} == {None}
    whole = Census(small_machine())
    said = whole.as_json(whole.processes(), "processes")
    assert (said["torn_dumps"], said["broken"], said["hidden"]) == (0, [], {"children": 0, "vmas": 0})
    assert census.walk() is None
    held = {each.design: each.total_bytes for each in census.designs()}
    assert held["anon_vma"] is held["pte_chain"] is held["Linux 6.18.0 as it is"] is None
    with pytest.raises(UsageError, match=r"rung 4 \(no BPF\)"):
        census.trees()


# -- in a file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["everything", "own"])
def test_a_saved_census_says_the_same(tmp_path: Path, kind: str) -> None:
    """Every figure, and the circumstances."""
    snapshot = small_machine() if kind == "everything" else without_anon_vmas(small_machine())
    path = tmp_path / "census"
    save_snapshot(snapshot, path)
    one, other = Census(snapshot), Census(load(path))
    said = [json.dumps(census.as_json(census.processes(), "processes")) for census in (one, other)]
    assert said[0] == said[1]
    assert list(tmp_path.iterdir()) == [path]


def damaged(path: Path, kind: str) -> None:
    save_snapshot(small_machine(), path)
    whole = path.read_bytes()
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("a census, honestly")
    elif kind == "array":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    elif kind == "objects":
        with path.open("wb") as file:
            np.savez(file, census=np.array([{}], object))
    elif kind == "bits":
        path.write_bytes(whole[:200] + bytes(200) + whole[400:])
    else:
        with np.load(path) as archive:
            columns = dict(archive)
        header = json.loads(columns["census"].tobytes())
        if kind == "version":
            header["version"] = 99
        elif kind == "header":
            del header["kernel"]
        elif kind == "list":
            header = [1]
        elif kind == "column":
            del columns["graph.vmas.start"]
        elif kind == "reference":
            columns["graph.chains.vma"] += 1000
        elif kind == "pages":
            columns["graph.pages.mm"] += 1000
        elif kind == "kinds":
            columns["graph.pages.weight"] = columns["graph.pages.weight"].astype(str)
        elif kind == "torn":
            header["torn_mms"] = [1000]
        elif kind == "length":
            columns["footprints.rss"] = columns["footprints.rss"][1:]
        columns["census"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        with path.open("wb") as file:
            np.savez(file, **columns)


@pytest.mark.parametrize(
    "kind",
    "cut empty text array objects bits version header list column reference length pages kinds torn".split(),  # noqa: SIM905
)
def test_a_bad_file_gets_one_line(tmp_path: Path, kind: str) -> None:
    """Whatever is wrong with it, the file is named and there is a next step."""
    path = tmp_path / "bad"
    damaged(path, kind)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "save" in str(caught.value)


def flipped(data: bytes, rng: random.Random) -> bytes:
    """A few bits of it are others."""
    flipped = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


@pytest.mark.parametrize("inside", [False, True])
def test_whatever_bits_are_flipped_it_is_one_line_or_a_census(
    tmp_path: Path, inside: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the archive, and in a member of an archive that is well otherwise: its checksum holds, so only we can notice."""
    path, rng = tmp_path / "bad", random.Random(7)
    save_snapshot(small_machine(), path)
    whole, refused = path.read_bytes(), 0
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(300):
        if inside:
            name = rng.choice(["census.npy", *members])
            with zipfile.ZipFile(path, "w") as archive:
                for member, data in members.items():
                    archive.writestr(member, flipped(data, rng) if member == name else data)
        else:
            path.write_bytes(flipped(whole, rng))
        with pytest.raises(SystemExit) as stop:
            main(["live", "--from", str(path), "--format", "json"])
        out, err = capsys.readouterr()
        assert stop.value.code == (2 if err else 0), err
        assert len(err.splitlines()) == (0 if out else 1), err
        refused += bool(err)
    assert 0 < refused < 300


def test_a_file_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    """It is not there; its directory is not there."""
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="try another --save"):
        save_snapshot(small_machine(), tmp_path / "no" / "where")


# -- two of them -------------------------------------------------------------------------------------------------------


def test_what_changed_between_two() -> None:
    """C has ended and D come, A's page tables grew; B is as it was, though its pss is not."""
    before = small_machine()
    processes = before.graph.processes._replace(pid=ints(7, 8, 10), comm=np.array([b"a", b"b", b"d"], "S16"))
    footprints = before.footprints._replace(page_tables=ints(12288, 8192, 4096), pss=ints(10, 15, 30))
    after = replace(before, graph=replace(before.graph, processes=processes), footprints=footprints)
    found = {change.comm: change for change in changes((Census(before), None), (Census(after), None), trees=False)}
    assert set(found) == {"a", "c", "d"}
    assert found["a"].grown("page_tables_bytes") == 8192
    assert (found["c"].after, found["c"].grown("chains")) == (None, -1)
    assert (found["d"].before, found["d"].grown("vmas")) == (None, 2)
    total = total_changes((Census(before), None), (Census(after), None))
    assert (total.grown("page_tables_bytes"), total.grown("chains")) == (8192, 0)


def test_a_reused_pid_is_another_process() -> None:
    """Same PID and name, begun at another time: one has gone, one is new. Where nobody knows the time, the name decides."""
    before = small_machine()
    processes = before.graph.processes
    later = processes._replace(start_time_ns=ints(70, 81, 75))
    unknown = processes._replace(start_time_ns=ints(0, 0, 0))

    def between(after: Processes) -> list[tuple[int, bool, bool]]:
        census = Census(replace(before, graph=replace(before.graph, processes=after)))
        found = changes((Census(before), None), (census, None), trees=False)
        return [(change.pid, change.before is None, change.after is None) for change in found]

    assert between(later) == [(8, False, True), (8, True, False)]
    assert between(unknown) == []
    assert between(processes._replace(comm=np.array([b"a", b"execed", b"c"], "S16"))) == []
    assert len(between(unknown._replace(comm=np.array([b"a", b"other", b"c"], "S16")))) == 2


def test_changes_of_some() -> None:
    """Only rows and totals of the address spaces that are meant."""
    before = small_machine()
    after = replace(before, footprints=before.footprints._replace(page_tables=ints(12288, 16384, 4096)))
    sides = ((Census(before), ints(1)), (Census(after), ints(1)))
    assert [change.pid for change in changes(*sides, trees=False)] == [8]
    total = total_changes(*sides)
    assert (total.comm, total.grown("page_tables_bytes")) == ("all of these", 8192)


def test_unknown_before_or_after_is_unknown_between() -> None:
    """A census without chains, and one with."""
    change = total_changes((Census(without_anon_vmas(small_machine())), None), (Census(small_machine()), None))
    assert change.grown("chains") is None
    assert change.grown("vmas") == 0
