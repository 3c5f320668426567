"""What may be seen is found out by trying. Surroundings that lack something are made, not pretended (surroundings.py)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmaplab.host import procfs, rights
from rmaplab.host.snapshot import CensusTaker, Rung

from .conftest import REQUIRE_ALL

DAC, PTRACE, ADMIN, PERFMON, BPF = 2, 19, 21, 38, 39


@pytest.fixture(scope="module", autouse=True)
def _everything() -> None:
    """Skips, or fails where everything is required, below the first rung, which only root can take something from."""
    with CensusTaker() as observer:
        if (observer.rung != Rung.EVERYTHING or os.geteuid()) and not REQUIRE_ALL:
            pytest.skip("; ".join(["needs root", *observer.missing]))


@pytest.fixture(scope="module")
def of_nobody() -> Iterator[int]:
    """A process of another user that has written to memory."""
    command = [sys.executable, "-E", "-S", "-c", "import os; os.setuid(65534); print(1, flush=True); os.read(0, 1)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


def run(steps: str, *arguments: str) -> tuple[int, str, str]:
    program = [sys.executable, str(Path(__file__).with_name("surroundings.py")), steps, *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=100)
    return done.returncode, done.stdout, done.stderr


def look(steps: str) -> dict[str, Any]:
    """The census there; nothing in it is 0 because nobody could look."""
    code, out, err = run(steps, "live", "--format", "json", "--top", "0")
    assert (code, err) == (0, "")
    said: dict[str, Any] = json.loads(out)
    none_may_be = ("swap_bytes", "hugetlb_bytes", "ksm_bytes")
    assert 0 not in [value for name, value in said["totals"].items() if name not in none_may_be]
    for row in said["processes"]:
        assert 0 not in (row["page_tables_bytes"], row["pss_bytes"])
    return said


def caps(*numbers: int) -> str:
    return "caps:" + ":".join(map(str, numbers))


def rows_with_pages(said: dict[str, Any]) -> set[int]:
    return {row["pid"] for row in said["processes"] if row["useful"]}


@pytest.mark.usefixtures("of_nobody")
def test_page_frames_may_be_shown_and_nobody_elses_be_opened() -> None:
    """The capabilities that docs/live.md names, but not that to pass over file modes: the graph, no pages, and which is missing."""
    said = look(f"user,{caps(BPF, PERFMON, ADMIN, PTRACE)}")
    assert said["rung"] == 2
    assert any("CAP_DAC_READ_SEARCH" in line and "pagemap" in line for line in said["missing"])
    assert said["walk"]["basis"].startswith("indexes")
    assert rows_with_pages(said) == set()
    assert said["totals"]["chains"] > 0


def test_with_that_one_too_it_is_everything(of_nobody: int) -> None:
    """It was that which was missing: pages of root's processes, and of others'."""
    said = look(f"user,{caps(BPF, PERFMON, ADMIN, PTRACE, DAC)}")
    assert said["rung"] == 1
    assert {os.getpid(), of_nobody} <= rows_with_pages(said)


def test_without_bpf_likewise() -> None:
    """Where our own pagemap opens and shows frames, it does not follow that others' do."""
    said = look(f"no-sys,user,{caps(ADMIN, PTRACE)}")
    assert said["rung"] == 4
    assert any("CAP_DAC_READ_SEARCH" in line for line in said["missing"])
    assert said["walk"] is None
    assert look(f"no-sys,user,{caps(ADMIN, PTRACE, DAC)}")["rung"] == 3


def test_a_proc_that_hides_others() -> None:
    """hidepid=2: BPF shows the graph of all, and how large page tables are; pages and memory are known of nobody else. Who may trace is shown all."""
    said = look(f"hidepid,user,{caps(BPF, PERFMON, ADMIN, DAC)}")
    assert said["rung"] == 2
    assert any("hidepid" in line for line in said["missing"])
    (row,) = (row for row in said["processes"] if row["pid"] == os.getpid())
    assert (row["private_bytes"], row["pss_bytes"], row["useful"]) == (None, None, None)
    assert row["page_tables_bytes"] > 0
    assert row["vmas"] > 0
    said = look("hidepid,user,caps:")
    assert said["rung"] == 4
    assert any("hidepid" in line for line in said["missing"])
    said = look("hidepid,caps:2:19:21:38:39")
    assert said["rung"] == 1
    assert not any("hidepid" in line for line in said["missing"])


def test_a_pid_namespace() -> None:
    """It sees its own, all of it, and says that there are others."""
    said = look("pidns")
    assert (said["rung"], [row["pid"] for row in said["processes"]]) == (1, [1])
    assert rows_with_pages(said) == {1}
    assert any("outside of this PID namespace" in line for line in said["missing"])
    assert not any("outside of this PID namespace" in line for line in look("no-sys")["missing"])


def test_a_proc_of_another_namespace_is_not_mixed_with_ours(of_nobody: int) -> None:
    """BPF would number processes by the inner one, /proc does by the outer: only one of them is used."""
    said = look("old-proc")
    assert said["rung"] == 3
    assert any("another PID namespace" in line for line in said["missing"])
    assert said["totals"]["chains"] is None
    assert {os.getpid(), of_nobody} <= rows_with_pages(said)
    code, out, err = run("old-proc", "who", str(of_nobody), "[stack]", "--format", "json")
    assert code == 0, err
    assert of_nobody in {mapper["pid"] for mapper in json.loads(out)["mappers"]}
    assert json.loads(out)["candidates"] is None


def test_no_types_of_the_kernel() -> None:
    """/sys is not mounted: the third rung, and why."""
    said = look("no-sys")
    assert said["rung"] == 3
    assert any("mount -t sysfs" in line for line in said["missing"])
    assert os.getpid() in rows_with_pages(said)


def test_no_proc_at_all() -> None:
    """The graph is BPF's to show, with its page tables; memory is not known, of nobody. With neither there is nothing to say but why."""
    said = look("no-proc")
    assert said["rung"] == 2
    assert any("/proc is not mounted" in line for line in said["missing"])
    assert {said["totals"][name] for name in ("private_bytes", "pss_bytes")} == {None}
    assert {row["private_bytes"] for row in said["processes"]} == {None}
    assert os.getpid() in {row["pid"] for row in said["processes"]}
    code, out, err = run("no-proc,no-sys", "live")
    assert (code, out) == (2, "")
    assert "/proc is not mounted" in err
    assert "/sys" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "asked", [("1",), ("1", "[heap]"), ("self",), ("--pfn", "1"), ("--file", sys.executable), ("init", "[heap]")]
)
def test_no_proc_to_ask(asked: tuple[str, ...]) -> None:
    """`who` does not say that there is no such process, file or frame: it has not looked."""
    code, out, err = run("no-proc", "who", *asked)
    assert (code, out) == (2, "")
    assert err.startswith("rmaplab: /proc is not mounted")
    assert len(err.splitlines()) == 1


def test_who_keeps_pages_to_himself_is_named(monkeypatch: pytest.MonkeyPatch, of_nobody: int) -> None:
    """A process that a security module protects, say: the rung stands, and it is told whose pages are not in it."""
    really, ours = procfs.open_proc, os.getpid()

    def refuse(name: str) -> int:
        if name == f"{of_nobody}/pagemap":
            raise PermissionError(13, "Permission denied", f"/proc/{name}")
        return really(name)

    monkeypatch.setattr(procfs, "open_proc", refuse)
    monkeypatch.setattr(procfs, "processes", lambda: [ours, of_nobody, os.getppid(), os.getppid()])
    with CensusTaker() as observer:
        assert observer.rung == Rung.EVERYTHING
        assert any(f"pid {of_nobody} are not ours" in line for line in observer.missing)
    monkeypatch.setattr(procfs, "processes", lambda: [ours, of_nobody])
    with CensusTaker() as observer:
        assert observer.rung == Rung.GRAPH
    assert rights.try_pagemaps() == ([of_nobody], 1)


def test_so_many_are_tried_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spread over all there are: a machine of many processes is not asked one by one."""
    asked: list[int] = []
    ours = procfs.read_proc("self/status")
    monkeypatch.setattr(procfs, "processes", lambda: list(range(10, 5010)))

    def status(name: str) -> bytes | procfs.Unread:
        asked.append(int(name.removesuffix("/status")))
        return ours

    monkeypatch.setattr(rights, "read_proc", status)
    monkeypatch.setattr(procfs, "open_proc", lambda _: os.open(os.devnull, os.O_RDONLY))
    assert rights.try_pagemaps() == ([], len(asked))
    assert len(asked) == rights.TRIED
    assert max(asked) > 4900
