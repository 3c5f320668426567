"""`rmaplab live` on this machine: what it says on each rung, with wrong command lines, and while processes come and go."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmaplab.cli import main
from rmaplab.host import procfs
from rmaplab.host.bpf import btf
from rmaplab.host.snapshot import CensusTaker, Rung
from rmaplab.host.wanted import Wanted, read_cgroup
from rmaplab.lab.census.file import save_snapshot
from rmaplab.objects.graph import Graph
from rmaplab.objects.graph_check import Finding, findings

FIRST_MM = np.zeros(1, np.int64)
REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
CAP_PERFMON, CAP_BPF = "38", "39"
Forks = Callable[..., AbstractContextManager[list[int]]]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["live", *arguments])
    out, err = capsys.readouterr()
    code = exit_.value.code
    assert isinstance(code, int)
    return code, out, err


def said_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--format", "json")
    assert (code, err) == (0, "")
    said: dict[str, Any] = json.loads(out)
    return said


@pytest.fixture(scope="module")
def _everything() -> None:
    """Skips, or fails where everything is required, below the first rung."""
    with CensusTaker() as observer:
        if observer.rung != Rung.EVERYTHING:
            if REQUIRE_ALL:
                pytest.fail("; ".join(observer.missing))
            pytest.skip("; ".join(observer.missing))


everything = pytest.mark.usefixtures("_everything")


@everything
def test_a_tree_of_real_processes(capsys: pytest.CaptureFixture[str], forks: Forks) -> None:
    """Root and six descendants are one tree, with the chains that are published for their shape, and walks as long as it is large."""
    with forks(4, 6, 0, write=True) as pids:
        said = said_json(capsys, "--tree", "--pid", str(pids[3]))
    (tree,) = said["trees"]
    assert (tree["pid"], tree["comm"], tree["processes"]) == (pids[0], "forks", 7)
    assert tree["chains"] % (1 + 2 * 6) == 0
    assert 4 <= tree["roots"] <= tree["chains"] // (1 + 2 * 6)  # neighbours may share an anon_vma
    assert tree["longest_walk"] == 7
    assert tree["candidates"]["max"] == 7
    assert 1 <= tree["useful"]["p50"] <= 7
    assert tree["rmap_bytes"] == (
        tree["anon_vmas"] * said["object_sizes"]["anon_vma_bytes"]
        + tree["chains"] * said["object_sizes"]["anon_vma_chain_bytes"]
    )
    assert tree["page_tables_bytes"] > 7 * 4096
    assert said["rung"] == 1
    assert said["walk"]["candidates"]["max"] == 7


@everything
def test_the_table_says_where_it_stands(capsys: pytest.CaptureFixture[str], forks: Forks) -> None:
    """First line: the rung. A row per process asked for, by name too."""
    with forks(2, 3, 0) as pids:
        code, out, _ = run(capsys, "--comm", "fork*", "--sort", "pid")
    assert code == 0
    lines = out.splitlines()
    assert "rung 1 of 4: everything" in lines[0]
    shown = [int(line.split()[0]) for line in lines if line.strip().startswith(tuple(map(str, pids)))]
    assert shown == sorted(pids)
    assert "anonmm" in out
    assert "Files with most VMAs" in out


def test_without_a_match_those_there_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, forks: Forks
) -> None:
    """The commonest names, of this machine or of the file, each with as many processes as a question by that name finds."""
    census = str(tmp_path / "census")
    with forks(60, 61, 0):
        code, _, err = run(capsys, "--comm", "nobody-is-called-so")
        assert code == 2
        assert re.search(r"there are (.*, )?forks \(\d+\)", err)
        run(capsys, "--save", census)
    _, _, err = run(capsys, "--from", census, "--comm", "nobody-is-called-so")
    found = re.findall(r"([^,]+) \(([\d,]+)\)", err.partition("there are ")[2])
    assert found
    for name, number in found:
        asked = ("--from", census, "--comm", glob.escape(name.strip()), "--top", "0")
        assert sum(row["processes"] for row in said_json(capsys, *asked)["processes"]) == int(number.replace(",", ""))


def test_no_name_is_obeyed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A process calls itself a closing tag and an escape sequence, and maps a file of such a name."""
    path = tmp_path / "a\nb\x1b[2J[x]"
    path.write_bytes(bytes(4096))
    program = (
        "import ctypes, mmap, sys, time; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 4096, prot=1); m[0];"
        "ctypes.CDLL(None).prctl(15, b'[/x]\\x1b]0;y\\x07'); print(hex(id(m)), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            maps = Path(f"/proc/{child.pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")
            address = next(line.split("-")[0] for line in maps.splitlines() if "\\012" in line or "[2J" in line)
            for form in ("table", "csv"):
                code, out, _ = run(capsys, "--pid", str(child.pid), "--format", form)
                assert code == 0
                assert r"[/x]\x1b]0;y\x07" in out
                assert not [c for c in out if not c.isprintable() and c != "\n"]
            with pytest.raises(SystemExit) as exit_:
                main(["who", str(child.pid), address])
            said = "".join(capsys.readouterr())
            assert exit_.value.code == 0
            assert not [c for c in said if not c.isprintable() and c != "\n"]
        finally:
            child.kill()


@everything
def test_csv_has_the_rung_in_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--format", "csv", "--sort", "vmas", "--top", "0")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["rung"] for row in rows} == {"1"}
    counts = [int(row["vmas"]) for row in rows]
    assert counts == sorted(counts, reverse=True)
    assert str(os.getpid()) in {row["pid"] for row in rows}


@everything
def test_save_from_and_diff(capsys: pytest.CaptureFixture[str], forks: Forks, tmp_path: Path) -> None:
    """A census read back is the same; between two stands what was started meanwhile, by its chains."""
    before, after = str(tmp_path / "before"), str(tmp_path / "after")
    now = said_json(capsys, "--save", before)
    assert said_json(capsys, "--from", before) | {"made_by": now["made_by"]} == now
    assert len(now["processes"]) == min(20, now["totals"]["address_spaces"])
    assert len(now["processes"]) + now["rows_left_out"] == now["totals"]["address_spaces"]
    with forks(3, 5, 0) as pids:
        run(capsys, "--save", after)
        _, out, _ = run(capsys, "diff", before, after, "--tree", "--top", "0", "--format", "json")
    said = json.loads(out)
    (tree,) = (
        change for change in said["trees"] if change["pid"] == pids[0] and change["after"]
    )  # a pid may have been another's
    assert tree["before"] is None
    assert tree["grown"]["chains"] == tree["after"]["chains"] >= 3 * 11
    assert said["total"]["grown"]["chains"] == sum(change["grown"]["chains"] for change in said["trees"])
    assert (said["before"]["rung"], said["after"]["rung"]) == (1, 1)
    _, out, _ = run(capsys, "diff", before, after, "--tree")
    assert "all that was seen" in out
    assert out.count("rung 1 of 4") == 2
    _, out, _ = run(capsys, "diff", before, after, "--format", "csv", "--top", "1")
    assert out.startswith("rung_before,rung_after,pid,comm")
    assert len(out.splitlines()) <= 3
    _, out, _ = run(capsys, "diff", before, after, "--comm", "forks", "--top", "0", "--format", "json")
    said = json.loads(out)
    assert sorted(change["pid"] for change in said["processes"]) == sorted(pids)
    assert said["total"]["grown"]["vmas"] == sum(change["grown"]["vmas"] for change in said["processes"])
    assert run(capsys, "diff", before, after, "--comm", "nobody-is-called-so")[0] == 2


@everything
def test_only_those_asked_for_are_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forks: Forks
) -> None:
    """Of others neither smaps nor pagemap is opened; what is said of a child is what the whole census says of it."""
    opened: list[str] = []
    open_proc = procfs.open_proc

    def watched(name: str) -> int:
        opened.append(name)
        return open_proc(name)

    with forks(4, 6, 0, write=True) as pids:
        whole = said_json(capsys, "--comm", "forks")
        monkeypatch.setattr("rmaplab.host.rights.try_pagemaps", lambda: ([], 0))  # which opens some, and reads nothing
        monkeypatch.setattr(procfs, "open_proc", watched)
        child = said_json(capsys, "--pid", str(pids[3]))
        costly = {name.partition("/")[0] for name in opened if name.endswith(("smaps_rollup", "pagemap", "maps"))}
        group = said_json(capsys, "--cgroup", read_cgroup(pids[3]), "--top", "0")
    assert costly <= {str(pids[3]), str(os.getpid())}  # our own: where the struct pages are
    (row,) = child["processes"]
    (same,) = (each for each in whole["processes"] if each["pid"] == pids[3])
    assert {**row, "pss_bytes": 0} == {**same, "pss_bytes": 0}
    assert child["totals_of"] == "these address spaces"
    assert child["totals"]["processes"] == 1
    assert child["totals"]["chains"] == row["chains"]
    assert child["walk"]["candidates"]["max"] == 7
    assert child["walk"]["pages_within"] is None
    assert set(pids) <= {each["pid"] for each in group["processes"]}


@everything
def test_a_sample_says_so_and_can_be_drawn_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forks: Forks, tmp_path: Path
) -> None:
    """Windows read, seed and intervals; the same seed draws the same; --full and whoever is asked for are no sample."""
    monkeypatch.setattr("rmaplab.host.snapshot.WINDOWS", 300)
    with forks(40, 20, 0, write=True):
        some = said_json(capsys, "--seed", "7", "--save", str(tmp_path / "some"))
        looks = [
            [said_json(capsys, *how)["walk"] for how in (["--full"], ["--seed", str(i)], ["--full"])] for i in range(8)
        ]
        full = said_json(capsys, "--full")
        tree = said_json(capsys, "--tree", "--comm", "forks")
        code, out, _ = run(capsys, "--seed", "7")
    assert code == 0
    assert some["pages"]["seed"] == 7
    assert 0 < some["pages"]["windows_read"] <= 300 < some["pages"]["windows"]
    low, high = some["walk"]["pages_within"]
    assert low <= some["walk"]["pages"] <= high
    held = 0
    for before, drawn, after in looks:  # memory that others have moves meanwhile
        (low, high), shares = drawn["wasted_share_within"], (before["wasted_share"], after["wasted_share"])
        held += low <= max(shares) and min(shares) <= high
    assert held >= 5  # nineteen of twenty do
    assert (full["pages"]["seed"], full["walk"]["pages_within"], tree["walk"]["wasted_share_within"]) == (None,) * 3
    assert tree["pages"]["windows_read"] == tree["pages"]["windows"]
    assert "--seed 7 draws the same" in out
    again = said_json(capsys, "--from", str(tmp_path / "some"))
    assert again | {"made_by": some["made_by"]} == some
    monkeypatch.undo()
    whole = said_json(capsys)["pages"]
    assert whole["windows_read"] == whole["windows"]


@everything
def test_whose_total_it_is(capsys: pytest.CaptureFixture[str], forks: Forks) -> None:
    """What seven processes share is summed seven times, and stands once in PSS; the machine's own totals stand beside."""
    with forks(400, 6, 0) as pids:
        said = said_json(capsys, "--tree", "--pid", str(pids[0]))
        _, out, _ = run(capsys, "--tree", "--pid", str(pids[0]))
    (tree,) = said["trees"]
    memory = {row["kind"]: row for row in said["memory"]}
    shared = 400 * 2 * 4096
    assert tree["shared_bytes"] >= 7 * shared > tree["pss_bytes"] >= shared
    assert memory["shared"]["of_processes"] == tree["shared_bytes"]
    assert memory["shared"]["of_machine"] is None
    assert memory["PSS"]["of_machine"] == said["machine"]["ram"]
    assert memory["anonymous pages, each once"]["of_processes"] >= shared
    assert all(row["in_use"] is None or row["in_use"] <= row["slots"] for row in said["objects"])
    assert "summed over processes" in out
    assert "shared, summed" in out


@everything
def test_no_name_is_in_an_anonymised_census(capsys: pytest.CaptureFixture[str], forks: Forks, tmp_path: Path) -> None:
    """Neither of a command, nor of a file, nor of a cgroup, in any member of the archive; what it counts is the same."""
    path, plain = tmp_path / "numbers", tmp_path / "names"
    with forks(2, 2, 0) as pids:
        run(capsys, "--save", str(path), "--anonymise")
        run(capsys, "--save", str(plain))
    with np.load(plain) as archive:
        header = json.loads(archive["census"].tobytes())
        comms = set(archive["graph.processes.comm"].tolist())
        inodes = archive["graph.files.inode"]
    names = {*comms, *(name.encode() for name in header["file_names"].values())}
    names |= {group.encode() for group in header["cgroups"] if group} | {b"forks"}
    with zipfile.ZipFile(path) as archive:
        members = b"\n".join(archive.read(name) for name in archive.namelist())
        assert not [name for name in names if len(name) > 4 and name in members]
    with np.load(path) as archive:
        assert all(re.fullmatch(rb"command \d+", comm) for comm in archive["graph.processes.comm"].tolist())
        assert not np.isin(archive["graph.files.inode"], inodes[inodes > 10_000]).any()
    assert path.stat().st_mode & 0o777 == 0o600
    said = said_json(capsys, "--from", str(path), "--pid", str(pids[1]))
    assert said["processes"][0]["comm"].startswith("command ")
    assert all(row["name"].startswith("file ") for row in said["files"] if not row["name"].startswith("inode"))
    assert said["processes"][0]["vmas"] >= 3


# -- rungs -------------------------------------------------------------------------------------------------------------


def with_capabilities(capabilities: str, *arguments: str) -> tuple[int, str, str]:
    if os.geteuid():
        if REQUIRE_ALL:
            pytest.fail("dropping capabilities needs root")
        pytest.skip("dropping capabilities needs root")
    program = [sys.executable, str(Path(__file__).with_name("drop.py")), capabilities, *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=100)
    return done.returncode, done.stdout, done.stderr


@everything
def test_bpf_and_perfmon_suffice_for_the_graph() -> None:
    """Rung 2: chains and candidates, no pages; and what is missing is named."""
    code, out, _ = with_capabilities(f"{CAP_BPF},{CAP_PERFMON}", "live", "--top", "0", "--format", "json")
    assert code == 0
    said = json.loads(out)
    assert said["rung"] == 2
    assert "CAP_SYS_ADMIN" in said["missing"][0]
    assert said["totals"]["chains"] > 0
    assert said["walk"]["candidates"]["max"] >= 1
    assert said["walk"]["useful"] is None
    assert {row["useful"] for row in said["processes"]} == {None}
    (row,) = (row for row in said["processes"] if row["pid"] == os.getpid())
    assert (row["private_bytes"] is not None) == perfmon_opens_our_memory()


def perfmon_opens_our_memory() -> bool:
    """Whether this kernel lets CAP_PERFMON alone read the smaps_rollup of a process with more capabilities, such as ours."""
    command = ["setpriv", "--bounding-set=-all,+perfmon", "cat", f"/proc/{os.getpid()}/smaps_rollup"]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


@everything
@pytest.mark.parametrize("capabilities", ["user", CAP_BPF, ""])
def test_an_ordinary_user_sees_what_is_his(capabilities: str) -> None:
    """Rung 4: own processes; nothing is zero that is only unknown."""
    code, out, err = with_capabilities(capabilities, "live", "--format", "json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["rung"] == 4
    assert any("CAP_BPF" in reason for reason in said["missing"])
    assert said["processes"]
    assert {row["chains"] for row in said["processes"]} == {row["torn"] for row in said["processes"]} == {None}
    assert {said[name] for name in ("torn_dumps", "broken", "hidden")} == {None}
    assert all(row["page_tables_bytes"] for row in said["processes"])
    assert said["walk"] is None
    assert said["unseen"]
    assert said["files"]


@everything
def test_an_ordinary_user_who_watches_hears_of_no_dumps() -> None:
    """No graph is read, so none can be torn: nothing is counted, not 0 of it."""
    code, out, err = with_capabilities("user", "live", "--watch", "--times", "2", "--interval", "0")
    assert (code, err) == (0, "2 looks\n")
    assert out.splitlines()[-1].startswith("2 ")
    assert "torn" not in out


@everything
def test_an_ordinary_user_gets_one_line_for_what_he_cannot_have() -> None:
    """Trees, and somebody else's process."""
    for arguments in (("--tree",), ("--pid", "1")):
        code, out, err = with_capabilities("user", "live", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("rmaplab: ")
        assert "rung 4" in err
        assert len(err.splitlines()) == 1


@everything
def test_pages_without_bpf(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rung 3: a kernel without BTF; VMAs, and how often pages are mapped."""
    monkeypatch.setattr(btf, "VMLINUX", tmp_path / "vmlinux")
    btf.kernel_btf.cache_clear()
    said = said_json(capsys, "--top", "0")
    btf.kernel_btf.cache_clear()
    assert said["rung"] == 3
    assert "CONFIG_DEBUG_INFO_BTF" in said["missing"][0]
    assert said["totals"]["chains"] is None
    assert said["walk"]["useful"]["max"] >= 1
    assert said["walk"]["candidates"] is None
    assert os.getpid() in {row["pid"] for row in said["processes"]}


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pid", "4194304"), "no process 4194304"),
        (("--pid", "2"), "kernel thread"),
        (("--pid", "0"), "--pid"),
        (("--comm", "nobody-is-called-so"), "there are "),
        (("--sort", "beauty"), "--sort"),
        (("--from", "/nowhere/census"), "No such file"),
        (("--from", __file__), "is no census"),
        (("--save", "/nowhere/census"), "cannot write"),
        (("--times", "3"), "add --watch"),
        (("--anonymise",), "add --save"),
        (("--full", "--seed", "3"), "leave one of them out"),
        (("--full", "--from", "CENSUS"), "leave --from out"),
        (("--cgroup", "nowhere"), "no process of cgroup 'nowhere'"),
        (("diff", "CENSUS", "CENSUS", "--pid", "4194304"), "no process 4194304"),
        (("--watch", "--format", "csv"), "--watch"),
        (("--watch", "--from", "x"), "--watch"),
        (("--under", "anonmm"), "--from"),
        (("--under", "anonmm", "--from", "x", "--save", "y"), "--from"),
        (("--under", "anonmm", "--from", "/nowhere/census"), "No such file"),
        (("--under", "beauty", "--from", "CENSUS"), "no design 'beauty'"),
        (("--under", "anonmm,", "--from", "CENSUS"), "no design ''"),
        (("--under", "anonmm", "--from", "CENSUS"), "rung 4"),
        (("diff", "/nowhere/a", "/nowhere/b"), "No such file"),
        (("diff", __file__, __file__, "--sort", "depth"), "cannot be sorted by depth"),
        (("dif", "a", "b"), "did you mean diff?"),
    ],
)
def test_a_wrong_command_line_gets_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, one line, nothing on stdout. CENSUS is one that an ordinary user saved."""
    if "CENSUS" in arguments:
        census = tmp_path / "census"
        with CensusTaker() as observer:
            save_snapshot(replace(observer.look(), rung=Rung.OWN), census)
        arguments = tuple(str(census) if word == "CENSUS" else word for word in arguments)
    if arguments == ("--pid", "2") and "Kthread:\t1" not in _status(2):
        pytest.skip("pid 2 is no kernel thread here: another PID namespace")
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


@everything
def test_a_process_that_ends_during_the_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forks: Forks
) -> None:
    """It was there when it was asked for, and is not in the dump: one line."""
    running = forks(1, 0, 0)
    (pid,) = running.__enter__()
    look = CensusTaker.look

    def late(observer: CensusTaker, *wanted: Wanted, **how: Any) -> object:
        running.__exit__(None, None, None)
        return look(observer, *wanted, **how)

    monkeypatch.setattr(CensusTaker, "look", late)
    code, out, err = run(capsys, "--pid", str(pid))
    assert (code, out) == (2, "")
    assert f"no process {pid}" in err
    assert len(err.splitlines()) == 1


# -- while the machine goes on -----------------------------------------------------------------------------------------

STORM = """
import os, sys, time
end = time.time() + float(sys.argv[1])
while time.time() < end:
    if os.fork() == 0:
        if os.fork() == 0:
            bytearray(1 << 16)
            os._exit(0)
        os.wait()
        os._exit(0)
    os.wait()
"""


@everything
def test_a_fork_storm_is_watched_and_torn_dumps_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look is printed, with the count of torn dumps; the last line sums up. Nothing crashes, no descriptor is left.

    The storm may tear dumps or not. So that one is torn for certain, the first is called so.
    """
    asked = 0

    def torn_at_first(graph: Graph) -> list[Finding]:
        nonlocal asked
        asked += 1
        return findings(graph) + ([Finding("anon_vmas were torn by a test", 1, FIRST_MM)] if asked == 1 else [])

    monkeypatch.setattr("rmaplab.host.vmas.findings", torn_at_first)
    storms = [subprocess.Popen([sys.executable, "-E", "-S", "-c", STORM, "60"]) for _ in range(2)]
    try:
        before = len(list(Path("/proc/self/fd").iterdir()))
        code, out, err = run(capsys, "--watch", "--interval", "0.05", "--times", "15")
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    finally:
        for storm in storms:
            storm.kill()
            storm.wait()
    assert code == 0
    lines = [line for line in out.splitlines() if not line.startswith("  missing:")]
    assert "rung 1 of 4" in lines[0]
    assert [int(line.split()[0]) for line in lines[1:]] == list(range(1, 16))
    assert all(re.match(r"\d+ \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}: ", line) for line in lines[1:])
    assert all(f" {what}" in lines[1] for what in ("private", "PSS", "visits", "in vain"))
    counted = [int(line.partition("torn dumps so far ")[2].partition(",")[0]) for line in lines[1:]]
    assert counted == sorted(counted)
    assert counted[0] >= 1
    left = [int(line.rpartition("left so ")[2]) for line in lines[1:]]
    assert left == sorted(left)
    assert asked == counted[-1] + 15
    assert err.startswith(f"15 looks, {counted[-1]} torn dumps read again")


@everything
def test_watching_as_json_is_a_line_per_look(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--watch", "--interval", "0", "--times", "2", "--pid", str(os.getpid()), "--format", "json")
    looks = [json.loads(line) for line in out.splitlines()]
    assert [[row["pid"] for row in look["processes"]] for look in looks] == [[os.getpid()]] * 2


@everything
@pytest.mark.parametrize(("by", "form"), [("--pid", "table"), ("--comm", "table"), ("--comm", "json")])
def test_a_watch_goes_on_when_nobody_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forks: Forks, by: str, form: str
) -> None:
    """By name somebody may come again, so it looks until it has looked N times; a PID will not. Neither is an error."""
    running, look, looks = forks(1, 0, 0), CensusTaker.look, 0
    (pid,) = running.__enter__()

    def and_it_ends(observer: CensusTaker, *wanted: Wanted, **how: Any) -> object:
        nonlocal looks
        looks += 1
        if looks == 2:
            running.__exit__(None, None, None)
        return look(observer, *wanted, **how)

    monkeypatch.setattr(CensusTaker, "look", and_it_ends)
    name = str(pid) if by == "--pid" else "forks"
    code, out, err = run(capsys, "--watch", "--interval", "0", "--times", "4", by, name, "--format", form)
    assert code == 0
    if form == "json":
        said_of_each = [json.loads(line) for line in out.splitlines()]
        assert [len(look["processes"]) for look in said_of_each] == [1, 0, 0, 0]
        assert [bool(look["files"]) for look in said_of_each] == [True, False, False, False]
        return
    said = [line for line in out.splitlines() if line[0].isdigit()]
    assert ": 1 process, " in said[0]
    assert [line.split()[0] for line in said[1:]] == (["2"] if by == "--pid" else ["2", "3", "4"])
    assert all(line.endswith(": none now") for line in said[1:])
    assert err.startswith(f"{len(said)} looks, ")


@everything
def test_a_watch_for_nobody_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that nobody has at the first look is more likely a mistake."""
    code, out, err = run(capsys, "--watch", "--times", "2", "--comm", "nobody-is-called-so")
    assert (code, out) == (2, "")
    assert "there are " in err


@everything
def test_nothing_of_the_system_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither sysctls of memory and BPF, nor mounts, nor what is pinned; and no file of ours stays open."""

    def state() -> list[str]:
        names = [*Path("/proc/sys/vm").glob("*"), *Path("/proc/sys/kernel").glob("*bpf*"), Path("/proc/mounts")]
        readable = [name for name in names if os.access(name, os.R_OK) and name.is_file() and "stat" not in name.name]
        return [name.read_text(errors="replace") for name in sorted(readable) if "compact" not in name.name]

    before = state()
    run(capsys)
    assert state() == before
