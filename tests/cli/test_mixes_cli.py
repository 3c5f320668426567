"""`rmaplab run` and `compare` of qsbench and kbuild: what is printed and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from rmaplab.calls.task import Task
from rmaplab.cli import main
from rmaplab.cli.work import compare as work
from rmaplab.kernels.box import Box
from rmaplab.lab.costs.nonlinear_user import NonlinearUserRow, run_nonlinear_user
from rmaplab.workloads import rmaptest

SMALL = ("--ram", "16M", "--swap", "32M", "--boot-use", "10M", "--paging", "i386", "--array", "6M")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    out, err = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, out, err


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """A row per kernel; swap and verified_bytes are what a script looks for, and how to make it again."""
    code, out, err = run(
        capsys, "compare", "qsbench", *SMALL, "--kernels", "2.4.21,2.6.2", "--seed", "3", "--format", "json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["made_by"]["seed"] == 3
    assert [row["kernel"] for row in found["rows"]] == ["2.4.21", "2.6.2"]
    for row in found["rows"]:
        assert (row["workload"], row["outcome"], row["seed"]) == ("qsbench", "ok", 3)
        assert set(row["swap"]) == {"pages_in", "pages_out"}
        assert row["verified_bytes"] == row["written_bytes"] == 6 << 20
        assert row["asked"] == {"array_bytes": 6 << 20, "processes": 1}


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Of one kernel everything that was counted, with lines of vmstat before; side by side a row each."""
    code, out, _ = run(capsys, "run", "qsbench", *SMALL, "--kernel", "2.6.7", "-p", "1", "--vmstat", "1")
    assert code == 0
    assert out.startswith("procs")
    assert "qsbench (array 6 MiB, processes 1) on 16 MiB of RAM and 32 MiB of swap (i386, 4 CPUs): Linux 2.6.7" in out
    assert "swap_write" in out
    code, out, _ = run(capsys, "compare", "qsbench", *SMALL, "--kernels", "2.6.2", "--columns", "pages,real")
    assert code == 0
    assert " 2.6.2 " in out
    assert "believed" in out


def test_kbuild(capsys: pytest.CaptureFixture[str]) -> None:
    """What is read of files has a column."""
    code, out, _ = run(capsys, "compare", "kbuild", "-j", "2", "--compiles", "2", "--kernels", "2.6.2", "--ram", "96M")
    assert code == 0
    assert "kbuild (jobs 2, compiles 2) on 96 MiB of RAM" in out
    assert "files read" in out
    assert "first done" in out


def test_nonlinear_user(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows for a kernel, on its own small box; a shorter window here."""

    def shorter(kernels: list[str], box: Box) -> tuple[Iterator[NonlinearUserRow], int]:
        assert (box.ram, box.swap, box.boot_use) == ("16M", "16M", "8M")
        both = (run_nonlinear_user(kernels[0], box, remapped=remapped, window=2 << 20) for remapped in (False, True))
        return both, 2

    monkeypatch.setattr(work, "compare_nonlinear_user", shorter)
    code, out, _ = run(capsys, "compare", "nonlinear-user", "--kernels", "2.6.2")
    assert code == 0
    assert "a window of 2 MiB on a file, and a bystander with 256 KiB" in out
    assert "in order" in out
    assert "remapped" in out
    assert 'turn down the machine locally"' in out
    code, out, _ = run(capsys, "compare", "nonlinear-user", "--kernels", "2.6.2", "--format", "json")
    rows = json.loads(out)["rows"]
    assert [row["window"] for row in rows] == ["in order", "remapped"]
    assert all(set(row["swap"]) == {"pages_in", "pages_out"} for row in rows)
    assert all(row["verified_bytes"] == row["written_bytes"] for row in rows)


def test_rmap_test(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A row per kernel and index; what was published stands below. Exit code 1: wrong bytes."""
    monkeypatch.setattr(rmaptest, "VMAS", 2560)
    command = ("compare", "rmap-test", "--kernels", "2.6.5-rc1-aa1", "--indexes", "list,rbtree")
    code, out, _ = run(capsys, *command)
    assert code == 0
    assert "160 VMAs on a file of 4.4 MiB in each of two processes, on 16 MiB of RAM" in out
    assert out.count("2.6.5-rc1-aa1") == 2
    assert "lists 146 s" in out
    monkeypatch.setattr(Task, "read", lambda _, __, length: bytes(length))
    assert run(capsys, *command)[0] == 1


def test_the_box_is_small_where_none_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """64M, 128M and 10M, each for itself."""
    code, out, _ = run(capsys, "run", "qsbench", "--array", "1M", "--kernel", "2.6.2", "--format", "json")
    (row,) = json.loads(out)["rows"]
    sizes = (row["hardware"]["ram_bytes"] >> 20, row["hardware"]["swap_bytes"] >> 20, row["hardware"]["boot_use_bytes"])
    assert (code, *sizes[:2]) == (0, 64, 128)
    assert 9 << 20 < sizes[2] < 11 << 20
    code, out, _ = run(
        capsys, "run", "qsbench", "--array", "1M", "--kernel", "2.6.2", "--ram", "96M", "--format", "json"
    )
    assert json.loads(out)["rows"][0]["hardware"]["ram_bytes"] == 96 << 20


def test_wrong_bytes_are_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of run and of compare."""
    monkeypatch.setattr(Task, "read", lambda _, __, length: bytes(length))
    for verb, kernel in (("run", "--kernel"), ("compare", "--kernels")):
        code, out, _ = run(capsys, verb, "qsbench", "--array", "1M", kernel, "2.6.2")
        assert code == 1
        assert "2.6.2, wrong bytes: process 0 (pid 2) has other bytes at page 0x" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "qsbench", "--kernel", "6.18"], "the reclaim of 6.18 is not here: try 2.4.21"),
        (["run", "qsbench", "--kernel", "2.6.2", "--array", "much"], "512M"),
        (["run", "qsbench", "--kernel", "2.6.2", "--array", "1K"], "--array 88M"),
        (["run", "qsbench", "--kernel", "2.6.2", "--processes", "0"], "--processes 4"),
        (["run", "qsbench", "--kernel", "2.6.2", "--seed", "-1"], "--seed -1"),
        (["run", "qsbench", "--kernel", "2.6.2", "--level", "3"], "qsbench has no --level"),
        (["run", "qsbench", "--kernel", "2.6.2", "--jobs", "3"], "qsbench has no -j"),
        (["run", "qsbench", "--kernel", "2.6.2", "--no-reclaim"], "qsbench has no --reclaim"),
        (["run", "kbuild", "--kernel", "2.6.2", "--jobs", "0"], "--jobs 8"),
        (["run", "kbuild", "--kernel", "2.6.2", "--compiles", "0"], "--compiles 40"),
        (["run", "kbuild", "--kernel", "2.6.2", "--array", "1M"], "kbuild has no --array"),
        (["compare", "kbuild", "-p", "1"], "kbuild has no -p"),
        (["compare", "kbuild", "--no-forks"], "kbuild has no --forks"),
        (["run", "forkbench", "--kernel", "2.6.2", "--array", "1M"], "forkbench has no --array"),
        (["run", "forkbench", "--kernel", "2.6.2", "--seed", "1"], "forkbench has no --seed"),
        (["run", "qsort", "--kernel", "2.6.2"], "no workload 'qsort'"),
        (["compare", "nonlinear-user", "--seed", "1"], "nonlinear-user has no --seed"),
        (["compare", "nonlinear-user", "--array", "1M"], "nonlinear-user has no --array"),
        (["compare", "nonlinear-user", "-j", "1"], "nonlinear-user has no -j"),
        (["compare", "nonlinear-user", "--ram", "8M"], "is too small"),
        (["compare", "rmap-test", "--mlock"], "rmap-test has no --mlock"),
        (["compare", "rmap-test", "--tests", "rmap-test-1"], "rmap-test has no --tests"),
        (["compare", "rmap-test", "--indexes", "heap"], "heap"),
        (["compare", "qsbench", "--load", "1M"], "qsbench has no --load"),
        (["compare", "qsbench", "--plot", "x.svg"], "qsbench has no --plot"),
        (["compare", "qsbench", "--cpus", "1,2"], "qsbench runs on one box"),
        (["compare", "qsbench", "--prices", "2004-slot"], "leave --prices out"),
        (["compare", "swapload", "--array", "1M"], "swapload has no --array"),
        (["compare", "forkbench", "-p", "2"], "forkbench has no -p"),
    ],
)
def test_a_mistake_gets_one_line_and_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
