"""The live kernel's graph by BPF, against what is published about it and against what /proc shows. Needs root."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from rmaplab.host import vmas as module
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.footprint import Footprints
from rmaplab.host.slabs import Sizes
from rmaplab.host.snapshot import Rung, Snapshot
from rmaplab.host.vmas import CHAIN, CUT, RESUMED, VMA, Dump, VmaDumper, decode
from rmaplab.lab.census.census import Census
from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE, UNKNOWN, Graph
from rmaplab.objects.graph_check import findings, hidden

BASE, END = 0x2000_0000_0000, 0x2100_0000_0000

Forks = Callable[..., AbstractContextManager[list[int]]]


@pytest.fixture(scope="module")
def dumper() -> Iterator[VmaDumper]:
    """The iterator. Skips, or fails where everything is required, where BPF is not to be had."""
    try:
        loaded = VmaDumper()
    except BpfUnavailable as error:
        if os.environ.get("RMAPLAB_REQUIRE_ALL"):
            raise
        pytest.skip(str(error))
    with loaded:
        yield loaded


def dump_whole(dumper: VmaDumper) -> Dump:
    """A dump that is not torn. Other processes of this machine come and go: that takes patience, and no more."""
    for _ in range(20):
        dump = dumper.dump()
        if not dump.broken:
            return dump
    pytest.fail(f"torn 20 times: {dump.broken}")


def read_whole(dumper: VmaDumper) -> I64:
    """The rows of such a dump."""
    for _ in range(20):
        rows, _, _ = dumper._read()
        dump = decode(rows)
        if not dump.broken and not findings(dump.graph) and hidden(dump.graph) == (0, 0):
            return rows
    pytest.fail("torn 20 times")


def window(graph: Graph, pids: list[int]) -> I64:
    """The VMAs of these processes between BASE and END."""
    mms = graph.processes.mm[np.isin(graph.processes.pid, pids)]
    return np.flatnonzero((graph.vmas.start >= BASE) & (graph.vmas.start < END) & np.isin(graph.vmas.mm, mms))


def counts(dump: Dump, pids: list[int]) -> tuple[int, int, int]:
    """(VMAs, anon_vmas they hang on, chains) in the window."""
    inside = window(dump.graph, pids)
    of_them = np.isin(dump.graph.chains.vma, inside)
    return len(inside), len(np.unique(dump.graph.chains.anon_vma[of_them])), int(of_them.sum())


@pytest.mark.parametrize(("vmas", "children"), [(1, 1), (3, 10), (7, 30)])
def test_flat_children_cost_what_is_published(dumper: VmaDumper, forks: Forks, vmas: int, children: int) -> None:
    """F + 2Fn chains, F + Fn anon_vmas (reference modern.md 1.3, measured on 6.18)."""
    with forks(vmas, children, 0) as pids:
        dump = dump_whole(dumper)
    assert counts(dump, pids) == (vmas * (1 + children), vmas * (1 + children), vmas + 2 * vmas * children)


def test_a_line_of_forks_costs_what_is_published(dumper: VmaDumper, forks: Forks) -> None:
    """F D (D + 1) / 2 chains for D processes in a line, all alive; the chain of the last is D long."""
    vmas, processes = 3, 40
    with forks(vmas, 0, processes - 1) as pids:
        dump = dump_whole(dumper)
    assert counts(dump, pids)[2] == vmas * processes * (processes + 1) // 2
    inside = window(dump.graph, pids)
    assert dump.graph.chain_lengths()[inside].max() == processes
    assert dump.graph.depths[dump.graph.vmas.anon_vma[inside]].max() == processes
    assert len(np.unique(dump.graph.families[dump.graph.vmas.mm[inside]])) == 1


def test_a_chain_longer_than_a_record_is_read_to_its_end(dumper: VmaDumper, forks: Forks) -> None:
    """More generations than the 500 chains that fit: the rest is resumed, and nothing is missing."""
    processes = 530
    with forks(1, 0, processes - 1) as pids:
        dump = dump_whole(dumper)
    assert dump.resumed >= processes - 500
    assert counts(dump, pids)[2] == processes * (processes + 1) // 2
    assert dump.graph.chain_lengths()[window(dump.graph, pids)].max() == processes


def test_a_resumed_chain_is_resumed_again(dumper: VmaDumper, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one round of the map does not hold all VMAs that were cut."""
    monkeypatch.setattr(module, "RESUME_AT_ONCE", 7)
    with forks(1, 0, 520) as pids:
        dump = dump_whole(dumper)
    assert counts(dump, pids)[2] == 521 * 522 // 2


def test_vmas_are_those_of_maps(dumper: VmaDumper, forks: Forks) -> None:
    """Address, permissions and inode of every VMA of a process, as its maps has them."""
    with forks(5, 1, 0) as pids:
        graph = dumper.dump().graph
        for pid in pids:
            (row,) = np.flatnonzero(graph.processes.pid == pid)
            mine = np.flatnonzero(graph.vmas.mm == graph.processes.mm[row])
            lines = [line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
            lines = [line for line in lines if line[-1] != "[vsyscall]"]  # no VMA: a gate for everybody
            assert [f"{graph.vmas.start[i]:08x}-{graph.vmas.end[i]:08x}" for i in mine] == [line[0] for line in lines]
            for i, line in zip(mine, lines, strict=True):
                flags = int(graph.vmas.flags[i])
                letters = "".join(letter if flags >> bit & 1 else "-" for bit, letter in enumerate("rwx"))
                assert line[1][:3] == letters
                file = int(graph.vmas.file[i])
                assert int(line[4]) == (0 if file == NONE else graph.files.inode[file])
                if file != NONE:
                    device = int(graph.files.device[file])
                    assert line[3] == f"{device >> 20:02x}:{device & 0xFFFFF:02x}"
    assert graph.processes.parent[graph.processes.pid == pids[1]].tolist() == [pids[0]]


def test_nothing_is_left_behind(dumper: VmaDumper) -> None:
    """A dump opens files and closes them; the kernel's programs go with the dumper."""
    before = set(Path("/proc/self/fd").iterdir())
    dumper.dump()
    with VmaDumper() as another:
        another.dump()
    assert set(Path("/proc/self/fd").iterdir()) == before


# -- torn dumps, made from whole ones ----------------------------------------------------------------------------------


def test_what_changed_while_it_was_read_is_found(dumper: VmaDumper, forks: Forks) -> None:
    """Every damage that a race can do to the rows is noticed."""
    with forks(2, 3, 0):
        rows = read_whole(dumper)
    kinds = rows[:, 0] & 0xFFFFFFFF
    chains = np.flatnonzero(kinds == CHAIN)
    names, repeated = np.unique(rows[chains, 1], return_counts=True)
    twice = chains[np.flatnonzero(rows[chains, 1] == names[repeated > 1][0])]

    changed = rows.copy()
    changed[twice[0], 5] += 1
    assert any("saw their anon_vma changed" in str(what) for what in decode(changed).broken)

    moved = rows.copy()
    moved[chains[0], 2] = rows[chains[-1], 2]
    assert any("in another VMA's list" in str(what) for what in decode(moved).broken)

    lost = np.delete(rows, [i for i in chains if rows[i, 1] == rows[chains[0], 1]], axis=0)
    assert any("do not hang on their own anon_vma" in str(what) for what in decode(lost).broken)

    again = np.concatenate([rows, rows[kinds == VMA][:1], rows[kinds == 2][:1]])
    again[-2, 4] += 0x1000
    assert any("VMAs changed" in str(what) for what in decode(again).broken)


def test_what_is_torn_has_a_place(dumper: VmaDumper, forks: Forks) -> None:
    """A chain of one process's VMA is damaged: the findings are about its family, and no other."""
    with forks(2, 3, 0) as pids:
        rows = read_whole(dumper)
    chains = np.flatnonzero(rows[:, 0] & 0xFFFFFFFF == CHAIN)
    shown = np.flatnonzero((rows[:, 0] & 0xFFFFFFFF == VMA) & (rows[:, 0] >> 32 == pids[2]) & (rows[:, 7] != 0))
    for column, change in ((2, 8), (6, -1), (1, 1 << 40)):
        damaged = rows.copy()
        damaged[chains[chains > shown[0]][0], column] += change
        dump = decode(damaged)
        found = [*dump.broken, *findings(dump.graph)]
        mms = np.unique(np.concatenate([finding.mms for finding in found]))
        of_family = dump.graph.processes.mm[np.isin(dump.graph.processes.pid, pids)]
        assert len(mms)
        assert set(mms.tolist()) <= set(of_family.tolist())


@pytest.mark.parametrize("seed", range(30))
def test_a_census_bears_whatever_was_torn(dumper: VmaDumper, seed: int) -> None:
    """Rows lost, repeated, swapped and changed at random: it may be wrong and says so, but it does not fail."""
    random = np.random.default_rng(seed)
    rows = dumper._read()[0].copy()
    chains = np.flatnonzero(rows[:, 0] & 0xFFFFFFFF == CHAIN)
    for column in random.choice([1, 2, 3, 4, 5, 6, 7], 4):
        hit = random.choice(chains, 1 + seed % 9)
        rows[hit, column] = random.choice([0, -1, 8, *rows[chains, column][:5].tolist()], len(hit))
    vmas = np.flatnonzero(rows[:, 0] & 0xFFFFFFFF == VMA)
    rows[random.choice(vmas, 3), 7] = random.choice(rows[chains, 1], 3)
    rows[random.choice(vmas, 2), 1] = random.choice(rows[vmas, 1], 2)
    lost = random.choice(chains, 10)
    dump = decode(np.delete(rows, lost, axis=0))
    assert [*dump.broken, *findings(dump.graph)]
    graph, unknown = dump.graph, np.full(len(dump.graph.processes.pid), UNKNOWN)
    snapshot = Snapshot(
        graph,
        Footprints(*[unknown] * len(Footprints._fields)),
        Sizes({"anon_vma": 104, "anon_vma_chain": 64}, "a test", {}),
        Rung.GRAPH,
        (),
        "6.18",
        "x86_64",
        0.0,
        1000,
        64,
        {},
    )
    census = Census(snapshot)
    for found in (census.processes(), census.trees()):
        census.as_json(found, "rows")


def test_tasks_that_share_an_address_space_count_its_vmas_once(dumper: VmaDumper, forks: Forks) -> None:
    """A thread with files of its own is shown beside its process: same VMAs, same chains."""
    with forks(2, 2, 0):
        rows = read_whole(dumper)
    once = decode(rows).graph.columns()
    twice = decode(np.concatenate([rows, rows])).graph.columns()
    assert all(np.array_equal(once[name], twice[name]) for name in once)


def test_a_torn_dump_is_read_again_and_counted(dumper: VmaDumper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torn twice, then whole; and torn for ever is given back with what is wrong."""
    whole = read_whole(dumper), 0, 0
    torn = whole[0].copy()
    torn[np.flatnonzero(torn[:, 0] & 0xFFFFFFFF == CHAIN), 2] += 8
    reads = [torn, torn, whole[0], whole[0]]
    monkeypatch.setattr(dumper, "_read", lambda **_: (reads.pop(0), 0, 0))
    dump = dumper.dump()
    assert (dump.torn, dump.broken) == (2, [])
    monkeypatch.setattr(dumper, "_read", lambda **_: (torn, 0, 0))
    dump = dumper.dump()
    assert dump.torn == module.TRIES - 1
    assert dump.broken


def test_a_chain_that_could_not_be_resumed_is_never_passed_over(
    dumper: VmaDumper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends between the record and its continuation leaves a cut chain: the dump is torn."""
    rows, _, _ = dumper._read()
    cut = np.zeros((1, 8), np.int64)
    cut[0, :3] = CUT, rows[0, 2] + 1, rows[0, 2] + 9
    whole = dumper._iterator.read
    monkeypatch.setattr(dumper._iterator, "read", lambda _: memoryview(bytes(whole()) + cut.tobytes()))
    _, resumed, lost = dumper._read()
    assert (resumed, lost) == (1, 1)
    assert RESUMED == CUT + 1


def test_a_dump_of_few_has_all_that_their_walks_visit(dumper: VmaDumper, forks: Forks) -> None:
    """One child is asked for: the VMAs on what it hangs on are those of the whole dump. Who shares with nobody is read alone."""
    with forks(3, 4, 2) as pids, forks(2, 0, 0) as (alone,):
        part, whole = dumper.dump_of([pids[2]]), dump_whole(dumper)
        single = dumper.dump_of([alone])
        nobody = dumper.dump_of([])
    assert not part.broken

    def visited(dump: Dump) -> set[tuple[int, int]]:
        graph = dump.graph
        pid_of = dict(zip(graph.processes.mm.tolist(), graph.processes.pid.tolist(), strict=True))
        own = np.isin(graph.vmas.mm[graph.chains.vma], graph.processes.mm[graph.processes.pid == pids[2]])
        hung = graph.chains.vma[np.isin(graph.chains.anon_vma, graph.chains.anon_vma[own])]
        return {(pid_of[int(graph.vmas.mm[vma])], int(graph.vmas.start[vma])) for vma in hung}

    assert visited(part) == visited(whole)
    assert {pid for pid, _ in visited(part)} == set(pids)
    assert single.graph.processes.pid.tolist() == [alone]
    assert hidden(single.graph) == (0, 0)
    assert nobody.graph.nr_mms == 0


def test_a_dump_of_some_is_told_whom_it_is_about(dumper: VmaDumper, forks: Forks) -> None:
    """Three hundred strangers beside them, kin too: the kernel writes not a row more, and the graph is that part of the machine's."""
    with forks(3, 2, 3) as pids:
        asked = pids[1:]
        alone = bytes(dumper._iterator.read(asked))
        with forks(2, 300, 0) as strangers:
            beside = bytes(dumper._iterator.read(asked))
            only, whole = dumper.dump_only(asked), dumper.dump()
    assert set(strangers) < set(whole.graph.processes.pid.tolist())
    assert only.graph.processes.pid.tolist() == sorted(asked)
    assert beside == alone
    assert only.graph.part(asked, BASE, END).unlike(whole.graph.part(asked, BASE, END)) is None
    assert counts(only, asked)[2] == 3 * (2 * 2 + 2 + 3 + 4)


def test_a_long_chain_of_some_is_read_to_its_end(dumper: VmaDumper, forks: Forks) -> None:
    """What is resumed is theirs alone, too."""
    with forks(1, 0, 520) as pids:
        only = dumper.dump_only(pids[-1:])
    assert only.resumed > 0
    assert counts(only, pids[-1:]) == (1, 521, 521)
    assert only.graph.processes.pid.tolist() == pids[-1:]
