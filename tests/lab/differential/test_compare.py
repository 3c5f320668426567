"""The model and the real kernel: rows of modern.md 1.8 and 4 as recorded, random scripts live; and that a wrong model is found and made small."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rmaplab.calls.table import CALLS
from rmaplab.errors import KernelBug, NotModelled, UsageError
from rmaplab.host.agent import Agent
from rmaplab.host.bpf.loader import Iterator as BpfIterator
from rmaplab.lab.differential.campaign import calls_of, campaign, smallest
from rmaplab.lab.differential.compare import Coverage, compare, result_kind, variant
from rmaplab.lab.differential.fuzz import make_script
from rmaplab.lab.differential.obey import obey
from rmaplab.lab.differential.recording import load, save
from rmaplab.report.differences import draw_difference
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.workloads.script import Script, parse, read_script
from rmaplab.workloads.world import (
    EVERYTHING,
    EXCLUSIVE,
    MAPCOUNT,
    WORD,
    Circumstances,
    Record,
    State,
    has_disk,
    seen_of,
)

DATA = Path(__file__).parents[2] / "data" / "check"
DOCS = Path(__file__).parents[3] / "docs"
MADE_ON, RECORDS = load(DATA / "linux-6.18.json")
BY_NAME = {record.script.name: record for record in RECORDS}

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
here = (
    os.uname().machine == "x86_64" and os.uname().sysname == "Linux" and bool(shutil.which("cc") or shutil.which("gcc"))
)
needs_agent = pytest.mark.skipif(not REQUIRE_ALL and not here, reason="no C compiler, or not Linux on x86-64")


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def linux_6_18(agent: Agent) -> Agent:
    if agent.version != (6, 18) and not REQUIRE_ALL:
        pytest.skip(f"this is Linux {agent.release}, not 6.18")
    return agent


# -- rows of modern.md 1.8 and 4 -------------------------------------------------------------------------------------------


def test_there_is_a_record_of_each_script() -> None:
    """And of nothing else: whoever edits a script records it again."""
    scripts = {path.name: str(read_script(path)) for path in DATA.glob("*.script")}
    assert scripts == {name: str(record.script) for name, record in BY_NAME.items()}
    assert all(record.sees == seen_of(record.script, EVERYTHING) for record in RECORDS)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_the_model_does_what_linux_did(name: str) -> None:
    """Results, VMAs, pages, frames, mapcounts, exclusiveness and page tables, after each operation; check() too."""
    record = BY_NAME[name]
    model = obey(record.script, "6.18", record.around, check_each=True)
    assert model.error is None
    assert compare(record, model) is None


@needs_agent
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_linux_still_does_it(linux_6_18: Agent, name: str) -> None:
    """What was recorded, seen again on the kernel under our feet, as far as it shows it to us."""
    record = BY_NAME[name]
    if has_disk(record.script) and not linux_6_18.has_disk:
        pytest.skip("no directory here lies on ext4")
    assert compare(linux_6_18.run(record.script), replace(record, script=record.script)) is None


def test_an_older_kernel_differs() -> None:
    """2.6.5-rc1-aa1 does not merge as 6.18 does: the comparison is not blind."""
    different = [
        name
        for name, record in BY_NAME.items()
        if name.startswith("merge") and compare(record, obey(record.script, "2.6.5-rc1-aa1"))
    ]
    assert len(different) > 10


# -- how much ---


@needs_agent
def test_promises_are_kept_alike(linux_6_18: Agent) -> None:
    """Far more than the model's RAM is mapped on both sides; more than the host's RAM and swap neither does."""
    script = parse(
        "A: mmap w+0 20000 rw\nA: mmap w+20000 262144 rw\nA: mremap w+0 20000 20001 MAYMOVE\nA: mmap any 99999999999 rw\n"
        f"A: mmap any {linux_6_18.circumstances.promised >> 12} rw\nA: mmap any {(linux_6_18.circumstances.promised >> 12) + 1} rw"
    )
    host = linux_6_18.run(script)
    assert host.results[0] == "w+0"
    assert host.results[3] == host.results[5] == "ENOMEM"
    assert host.results[4].startswith("0x7")  # too far from m to be told so
    assert compare(host, obey(script, "6.18", linux_6_18.circumstances)) is None


def test_what_the_models_box_has_no_room_for_is_refused() -> None:
    """The model says so, and it is asked first."""
    with pytest.raises(UsageError, match="x, line 1: the model's box of 256M is too small for this: use fewer pages"):
        obey(parse("A: mmap w+0 100000 rw POPULATE", "x"), "6.18")


@pytest.mark.parametrize(
    ("mapped", "limit", "result"),
    [(5, 4, "ENOMEM"), (5, 5, None), (5, 24, None), (5, 25, "ok"), (9, 8, "ENOMEM"), (9, 9, None), (0, 20, "ok")],
)
def test_what_the_hosts_own_memory_decides_is_not_compared(mapped: int, limit: int, result: str | None) -> None:
    """To mlockall RLIMIT_MEMLOCK is one of all that a process has mapped, and on the host that is more than the script has: 20 pages here.

    limit   |------------ pages mapped |======== 20 =========|-------------
                refused on both sides     which? not compared     fine on both
    """
    around = Circumstances(own_pages=20)
    script = f"A: limit MEMLOCK {limit}\n" + f"A: mmap w+0 {mapped} rw\n" * bool(mapped) + "A: mlockall CURRENT"
    assert obey(parse(script, "x"), "6.18", around).results[-1] == "ok"  # root is not bound
    bound = parse(f"A: drop IPC_LOCK\n{script}", "x")
    if result is None:
        with pytest.raises(NotModelled, match=f"x, line 4: mlockall compares RLIMIT_MEMLOCK, {limit} pages, with all"):
            obey(bound, "6.18", around)
        assert obey(parse(str(bound).replace("CURRENT", "FUTURE")), "6.18", around).results[-1] == "ok"
    else:
        assert obey(bound, "6.18", around).results[-1] == result


@needs_agent
def test_at_the_hosts_bound_of_mlockall(linux_6_18: Agent) -> None:
    """How much a process has there that no script knows of is known to the page."""
    around = linux_6_18.circumstances

    def script(mapped: int) -> Script:
        limit = around.own_pages + 10
        return parse(
            f"A: limit MEMLOCK {limit}\nA: drop IPC_LOCK\nA: mmap w+0 {mapped} rw\nA: fork B\nB: mlockall CURRENT"
        )

    fits, fits_not = script(10), script(11)
    assert compare(linux_6_18.run(fits), obey(fits, "6.18", around)) is None
    assert linux_6_18.run(fits).results[-1] == "ok"
    assert linux_6_18.run(fits_not).results[-1] == "ENOMEM"
    with pytest.raises(NotModelled, match="more of its own"):
        obey(fits_not, "6.18", around)


# -- random scripts --------------------------------------------------------------------------------------------------------


@needs_agent
def test_who_is_bound_locks_not_all(linux_6_18: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """RLIMIT_MEMLOCK binds an ordinary user from the beginning: his random scripts have no mlockall, root's have."""
    assert calls_of(linux_6_18) == frozenset(CALLS) - linux_6_18.missing.keys()
    monkeypatch.setattr(linux_6_18, "circumstances", linux_6_18.circumstances._replace(privileged=False))
    assert calls_of(linux_6_18) == frozenset(CALLS) - linux_6_18.missing.keys() - {"mlockall"}


@needs_agent
def test_random_scripts_do_not_differ(linux_6_18: Agent) -> None:
    """A few; `make fuzz` runs 20,000."""
    result = campaign(linux_6_18, "6.18", 150, seed=1)
    assert result.difference is None
    assert result.coverage.scripts == 150
    assert result.unsteady == 0


@needs_agent
def test_the_same_script_gives_the_same_record(agent: Agent) -> None:
    """Nothing of what is compared depends on chance: else no difference would mean anything."""
    for number in range(60):
        script = make_script(2, number, calls_of(agent))
        assert compare(agent.run(script), agent.run(script)) is None


@needs_agent
def test_a_wrong_model_is_found_and_made_small(linux_6_18: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child's mapping that merges with a new one beside it: modern.md 1.8 says no."""
    monkeypatch.setattr(AnonVmaChainMap, "vma_can_grow", lambda *_: True)
    result = campaign(linux_6_18, "6.18", 300, seed=3)
    assert result.difference is not None
    assert result.difference.aspect in ("VMAs", "model")
    assert len(result.difference.script.ops) <= 6
    assert result.found_in is not None
    again = smallest(linux_6_18, "6.18", make_script(3, result.found_in, frozenset(CALLS) - linux_6_18.missing.keys()))
    assert again is not None
    assert str(again.script) == str(result.difference.script)


def test_a_model_that_breaks_down_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KernelBug is a difference like any other, in the operation in which it happens."""

    def broken(*_: object) -> None:
        raise KernelBug("anon_vma_fork", "it is broken")

    monkeypatch.setattr(AnonVmaChainMap, "vma_fork", broken)
    record = BY_NAME["merge-child-new.script"]
    model = obey(record.script, "6.18")
    assert str(pickle.loads(pickle.dumps(model.error))) == "anon_vma_fork: it is broken"  # as a campaign hears of it
    difference = compare(record, model)
    assert difference is not None
    assert (difference.index, difference.aspect, difference.sign) == (
        2,
        "model",
        ("fork", "modelKernelBug", "ok", "ok"),
    )


# -- the anon_vma graph ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_graph() -> Iterator[Agent]:
    with Agent(graph=True) as agent:
        if (agent.no_graph or agent.version != (6, 18)) and not REQUIRE_ALL:
            pytest.skip(agent.no_graph or f"this is Linux {agent.release}, not 6.18")
        assert not agent.no_graph
        yield agent


@needs_agent
def test_only_the_scripts_own_processes_are_asked_about(with_graph: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs here, the agent's supervisor too; and who has ended is not."""
    asked: list[set[int]] = []
    read = BpfIterator.read

    def spy(iterator: BpfIterator, pids: Collection[int] | None = None) -> memoryview:
        asked.append(set(pids or ()))
        return read(iterator, pids)

    monkeypatch.setattr(BpfIterator, "read", spy)
    record = with_graph.run(parse("A: mmap w+0 1 rw\nA: write w+0\nA: fork B\nB: fork C\nB: exit"))
    assert record.graph is not None
    assert record.graph.processes.pid.tolist() == [0, 1]  # in order of birth
    assert len(asked) == 1
    assert len(asked[0] - {with_graph.pid}) == len(asked[0]) == 2


@needs_agent
def test_random_scripts_leave_the_same_graph(with_graph: Agent) -> None:
    """Every VMA's own anon_vma and its chain in order, parents, roots and counters: read by BPF, and in the model."""
    result = campaign(with_graph, "6.18", 100, seed=6)
    assert result.difference is None
    record = with_graph.run(parse("A: mmap w+0 1 rw\nA: write w+0\nA: fork B\nB: fork C"))
    assert record.graph is not None
    assert (len(record.graph.vmas.mm), len(record.graph.anon_vmas.root), len(record.graph.chains.vma)) == (
        3,
        3,
        1 + 2 + 3,
    )


@needs_agent
def test_a_script_of_nothing_has_a_graph_of_nothing(with_graph: Agent) -> None:
    """Not that of the script before."""
    with_graph.run(parse("A: mmap w+0 1 rw\nA: write w+0"))
    host = with_graph.run(Script(()))
    assert host.graph is not None
    assert (len(host.graph.processes.mm), len(host.graph.vmas.mm)) == (0, 0)


@needs_agent
def test_a_design_that_never_reuses_is_found(with_graph: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only the graph shows: a fork takes over an anon_vma that nobody calls his own any more (modern.md 1.3)."""
    monkeypatch.setattr(AnonVmaChainMap, "may_be_reused", lambda *_: False)
    result = campaign(with_graph, "6.18", 300, seed=11, habit="lineage")
    assert result.difference is not None
    assert result.difference.aspect == "graph"
    calls = [op.call for op in result.difference.script.ops]
    assert "fork" in calls[-2:]
    lets_go = {"exit", "exec", "kill", "munmap", "mremap"} & set(calls) or calls.count("mmap") > 1  # MAP_FIXED, over it
    assert lets_go
    assert calls.count("fork") >= 2
    drawn = draw_difference(result.difference, "host", "model")
    assert sum("anon_vma " in line and "parent" in line for line in drawn) >= 6


# -- compare ---------------------------------------------------------------------------------------------------------------


def altered(record: Record, index: int, **changes: object) -> Record:
    """The record, with another state of A after an operation."""
    worlds = list(record.worlds)
    worlds[index] = {**worlds[index], "A": replace(worlds[index]["A"], **changes)}  # type: ignore[arg-type]
    return replace(record, worlds=worlds)


def test_each_aspect_is_compared() -> None:
    """And only where both sides see it."""
    record = BY_NAME["exclusive-after-fork.script"]
    last = len(record.results) - 1
    state: State = record.worlds[last]["A"]
    longer = state.vmas + np.array([0, 4096, 0, 0, 0])
    aspects = {}
    for name, other, hidden in (
        ("VMAs", altered(record, last, vmas=longer), set[str]()),
        ("flags", altered(record, last, vmas=state.vmas | np.array([0, 0, 0x2000, 0, 0])), {"flags"}),
        ("file", altered(record, last, vmas=state.vmas | np.array([0, 0, 0, 1, 0])), set()),
        ("offset", altered(record, last, vmas=state.vmas | np.array([0, 0, 0, 0, 4096])), set()),
        ("page tables", altered(record, last, tables=7), {"tables"}),
        ("no pages", altered(record, last, pages=state.pages[:0]), {"pages"}),
        ("mapcount", altered(record, last, pages=state.pages + np.eye(6, dtype=int)[MAPCOUNT]), {"mapcounts"}),
        ("exclusive", altered(record, last, pages=state.pages - np.eye(6, dtype=int)[EXCLUSIVE]), {"exclusive"}),
        ("words", altered(record, last, pages=state.pages + np.eye(6, dtype=int)[WORD]), {"words"}),
        ("processes", replace(record, worlds=[*record.worlds[:-1], {}]), set()),
        ("result", replace(record, results=[*record.results[:-1], "EINVAL"]), set()),
    ):
        difference = compare(record, other)
        assert difference is not None, name
        aspects[name] = difference.aspect
        assert difference.index == last
        if hidden:
            assert compare(record, replace(other, sees=EVERYTHING - hidden)) is None
    assert aspects == {
        "VMAs": "VMAs", "flags": "VMAs", "file": "VMAs", "offset": "VMAs", "page tables": "page tables", "no pages": "pages", "mapcount": "pages",
        "exclusive": "pages", "words": "pages", "processes": "processes", "result": "result",
    }  # fmt: skip


def test_where_vmas_end_is_no_matter_on_a_kernel_that_merges_otherwise() -> None:
    """Two that touch and are alike count as one; what is mapped how still counts."""
    of_one_file = [[0, 4096, 3, 1, 0], [4096, 8192, 3, 1, 4096]]
    for one, two, alike in (
        ([[0, 8192, 3, 0, 0]], [[0, 4096, 3, 0, 0], [4096, 8192, 3, 0, 0]], True),
        ([[0, 8192, 3, 0, 0]], [[0, 4096, 3, 0, 0], [4096, 8192, 1, 0, 0]], False),
        ([[0, 8192, 3, 1, 0]], of_one_file, True),
        ([[0, 8192, 3, 1, 0]], [of_one_file[0], [4096, 8192, 3, 1, 0]], False),
        ([[0, 8192, 3, 1, 0]], [of_one_file[0], [4096, 8192, 3, 2, 4096]], False),
    ):
        records = [
            Record(parse("A: wait"), EVERYTHING, results=["ECHILD"], worlds=[{"A": State(np.array(vmas), np.empty((0, 6), np.int64), 0)}])
            for vmas in (one, two)
        ]  # fmt: skip
        assert compare(*records) is not None
        assert (compare(records[0], replace(records[1], sees=EVERYTHING - {"borders"})) is None) == alike


def test_why_a_fault_was_one_is_compared_where_both_tell_it() -> None:
    """A recording from before si_code was told is compared without; one that tells it is not."""
    model = obey(parse("A: mmap w+0 1 r\nA: write w+0"), "6.18")
    assert model.results[1] == "SIGSEGV w+0 ACCERR"
    for told, codes, differs in (
        ("SIGSEGV w+0 ACCERR", EVERYTHING, False),
        ("SIGSEGV w+0 MAPERR", EVERYTHING, True),
        ("SIGSEGV w+0", EVERYTHING - {"codes"}, False),
        ("SIGSEGV w+1", EVERYTHING - {"codes"}, True),
    ):
        host = replace(model, results=[model.results[0], told], sees=codes)
        assert (compare(host, model) is not None) == differs


def test_results_have_kinds() -> None:
    """One word, however long they are."""
    words = {
        "w+3": "ok",
        "ok": "ok",
        "#2 #2.1 0": "ok",
        "#2 SIGSEGV w+2": "SIGSEGV",
        "#2 SIGSEGV w+2 MAPERR": "SIGSEGV",
        "ENOMEM": "ENOMEM",
        "B 3": "ok",
        "0 1 1": "ok",
    }
    assert {result: result_kind(result) for result in words} == words


def test_calls_have_variants() -> None:
    """By the flags that make them another call."""
    script = parse(
        "A: mmap any 1 rw POPULATE\nA: mremap w+0 1 1\nA: mremap w+0 1 1 MAYMOVE|FIXED w+2\nA: madvise w+0 1 FREE\nA: munmap w+0 1"
    )
    assert [variant(op) for op in script.ops] == [
        "mmap any POPULATE",
        "mremap 0",
        "mremap MAYMOVE|FIXED",
        "madvise FREE",
        "munmap",
    ]


def test_random_scripts_cover_what_they_should() -> None:
    """Every call; every combination of mremap's flags; fork trees of several generations. By the model's results."""
    coverage = Coverage()
    for number in range(500):
        coverage.add(obey(make_script(4, number, frozenset(CALLS)), "6.18"))
    tried = {call.split(" ")[0] for call, _ in coverage.calls}
    assert tried == {call.name for call in CALLS.values() if call.often}
    assert len({call for call, _ in coverage.calls if call.startswith("mremap")}) == 8
    frequent = ("shmat", "shmget CREAT|0x180", "zero", "memfd ALLOW_SEALING", "remap_file_pages", "mmap SHARED", "mprotect", "mlock", "munlock", "madvise DONTNEED", "madvise FREE", "madvise WIPEONFORK", "mremap MAYMOVE", "fork",
                "mremap MAYMOVE|FIXED", "mremap MAYMOVE|FIXED|DONTUNMAP", "mremap MAYMOVE|DONTUNMAP")  # fmt: skip
    assert {call: coverage.calls[call, "ok"] for call in frequent if coverage.calls[call, "ok"] < 12} == {}
    assert sum(times for (_, generations), times in coverage.families.items() if generations >= 3) > 40


# -- recordings ------------------------------------------------------------------------------------------------------------


def test_a_recording_holds_everything(tmp_path: Path) -> None:
    """Save and load are inverse, the words of worlds included."""
    records = [obey(make_script(5, number, frozenset(CALLS)), "6.18") for number in range(25)]
    save(tmp_path / "x.json", records, "the model")
    made_on, again = load(tmp_path / "x.json")
    assert made_on == "the model"
    for one, other in zip(records, again, strict=True):
        assert (str(one.script), one.sees, one.results) == (str(other.script), other.sees, other.results)
        assert compare(one, other) is None
        assert compare(other, one) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no recording, or a damaged one"),
        ("[]", "is no recording, or a damaged one"),
        ('{"format": "other"}', "is not a recording of rmaplab-check-1"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{}]}', "is no recording, or a damaged one"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: fly"], "sees": [], "privileged": true, "results": [], "worlds": []}]}', "n:1: expected a call, found 'fly'"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: wait"], "sees": [], "privileged": true, "m": "x", "results": ["ECHILD"], "worlds": [{}]}]}', "is no recording, or a damaged one"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: wait"], "sees": [], "privileged": true, "h": 5, "results": ["ECHILD"], "worlds": [{}]}]}', "is no recording, or a damaged one"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: wait"], "sees": [], "privileged": true, "promised": -1, "results": ["ECHILD"], "worlds": [{}]}]}', "is no recording, or a damaged one"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: wait"], "sees": [], "privileged": true, "overcommit": 3, "results": ["ECHILD"], "worlds": [{}]}]}', "is no recording, or a damaged one"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: wait"], "sees": [], "privileged": true, "max_map_count": "9", "results": ["ECHILD"], "worlds": [{}]}]}', "is no recording, or a damaged one"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["box ram=x", "A: wait"], "sees": [], "privileged": true, "results": ["ECHILD"], "worlds": [{}]}]}', "n:1: expected a size such as ram=512M"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: wait"], "sees": [], "privileged": true, "m": 281474976710656, "results": ["ECHILD"], "worlds": [{}]}]}', "is no recording, or a damaged one"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: wait"], "sees": [], "privileged": true, "results": [], "worlds": []}]}', "is no recording, or a damaged one"),
        ('{"format": "rmaplab-check-1", "made_on": "x", "scripts": [{"name": "n", "lines": ["A: wait"], "sees": [], "privileged": true, "results": ["ok"], "worlds": [{"A": {"vmas": ["w+0.w+1 rw-"], "pages": [], "tables": 0}}]}]}', "is no recording, or a damaged one"),
    ],
)  # fmt: skip
def test_a_damaged_recording_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """In one line, with the file's name and the way out."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path / "x.json")
    assert "x.json" in str(caught.value)
    assert "\n" not in str(caught.value)
