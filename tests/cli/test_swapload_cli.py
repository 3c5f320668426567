"""`rmaplab compare swapload`: what is printed, drawn and refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rmaplab.cache import cryptoloop
from rmaplab.calls.task import Task
from rmaplab.cli import main

SMALL = ("--ram", "16M", "--swap", "32M", "--boot-use", "2M", "--load", "2M", "--paging", "i386")
KERNELS = ["2.4.21", "2.6.2"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "swapload", *arguments])
    out, err = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, out, err


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """A row per kernel; swap and verified_bytes are what a script looks for."""
    code, out, err = run(capsys, *SMALL, "--kernels", ",".join(KERNELS), "--format", "json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["rows"]
    assert [row["kernel"] for row in rows] == KERNELS
    for row in rows:
        assert (row["outcome"], row["seed"], row["forks"], row["burst_tables"]) == ("ok", 1, True, 32)
        assert set(row["swap"]) == {"pages_in", "pages_out"}
        assert row["verified_bytes"] == row["written_bytes"] > row["working_set_bytes"] == 18 << 20


def test_the_tables_and_the_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What is believed and the bug of twenty hours later stand below; with bursts there is a second table."""
    path = tmp_path / "swapload.svg"
    plot = tuple[str, ...]()
    try:
        import matplotlib as mpl

        del mpl
        plot = ("--plot", str(path))
    except ImportError:
        if os.environ.get("RMAPLAB_REQUIRE_ALL"):
            raise
    code, out, _ = run(capsys, *SMALL, "--kernels", "2.6.2", "--bursts", "1,32", "--no-forks", *plot)
    assert code == 0
    assert "none of them forked, on 16 MiB of RAM and 32 MiB of swap" in out
    assert "s: simulated with a disk of 2004 whose figures are believed" in out
    assert "twenty hours later" in out
    assert "what hangs on the burst" in out
    assert out.count(" 2.6.2 ") == 3
    assert not plot or path.read_text().count("2.6.2, 32") > 0


def test_what_is_not_shown_is_not_explained(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *SMALL, "--kernels", "2.6.2", "--columns", "outcome,allocstalls,walks")
    assert code == 0
    assert [word for word in ("allocstalls: ", "walks: ", "scanned: ", "visits: ", "kswapd's: ") if word in out] == [
        "allocstalls: ",
        "walks: ",
    ]


def test_files(capsys: pytest.CaptureFixture[str]) -> None:
    """Two columns more, and what of the working set lies in them."""
    code, out, _ = run(capsys, *SMALL, "--kernels", "2.6.2", "--files")
    assert code == 0
    assert "18 MiB, 4.5 MiB of it in files, written" in out
    assert "files read" in out
    assert "files written" in out


class Quick:
    """In place of the cipher, which takes most of a run's time."""

    def __init__(self, key: bytes) -> None:
        self._pad = np.frombuffer(key[:16], np.uint8)

    def encrypt(self, blocks: bytes) -> bytes:
        there = np.frombuffer(blocks, np.uint8).reshape(-1, 16) ^ self._pad
        return there.tobytes()

    decrypt = encrypt


def test_plain_and_encrypted_areas_beside_each_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the kernel that reads all forms, where no other is named; all bytes are right on both."""
    monkeypatch.setattr(cryptoloop, "Twofish", Quick)
    code, out, err = run(capsys, *SMALL, "--crypt", "twofish-compat", "--format", "json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["rows"]
    assert [(row["kernel"], row["crypt"], row["outcome"]) for row in rows] == [
        ("2.6.5-rc1-aa1", None, "ok"),
        ("2.6.5-rc1-aa1", "twofish-compat", "ok"),
    ]
    assert all(row["verified_bytes"] == row["written_bytes"] for row in rows)
    assert rows[0]["legible_pages"] > 500
    assert rows[1]["ledger"]["twofish_page"] == sum(rows[1]["swap"].values())


def test_wrong_bytes_are_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Told with page and process."""
    monkeypatch.setattr(Task, "read", lambda _, __, length: bytes(length))
    code, out, _ = run(capsys, *SMALL, "--kernels", "2.6.2")
    assert code == 1
    assert "2.6.2, wrong bytes: process " in out
    assert "has other bytes at page 0x" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kernels", "6.18"], "the reclaim of 6.18 is not here: try 2.4.21"),
        (["--kernels", "2.6.8"], "2.6.2"),
        (["--load", "much"], "512M"),
        (["--load", "0"], "--load 500M"),
        (["--seed", "-1"], "--seed -1"),
        (["--seed", "x"], "not a valid integer"),
        (["--bursts", "0"], "1,8,32"),
        (["--bursts", "2000"], "--bursts 1,8,32"),
        (["--cpus", "1,2"], "swapload runs on one box"),
        (["--levels", "3"], "swapload has no --levels"),
        (["--users", "3"], "swapload has no --users"),
        (["--reclaim"], "swapload has no --reclaim"),
        (["--prices", "2004-slot"], "leave --prices out"),
        (["--crypt", "rot13"], "crypt=rot13 is not here: choose from twofish, "),
        (["--crypt", "twofish", "--kernels", "2.4.21"], "crypt=twofish is cryptoloop's, which this kernel has not"),
        (["--crypt", "twofish", "--swap", "8M,crypt=twofish"], "beside each other: give sizes alone"),
        (
            ["--kernels", "2.6.2", "--swap", "8M,crypt=twofish,key=./no such file"],
            "name a file that has the passphrase in its first line",
        ),
    ],
)
def test_a_mistake_gets_one_line_and_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_options_of_swapload_are_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    """The other workloads say so."""
    for workload in ("forkbench", "localmalloc", "mallocgroup", "manyvmas", "sga"):
        for option in ("--load=1M", "--seed=2", "--no-forks", "--bursts=1", "--crypt=twofish"):
            with pytest.raises(SystemExit) as stop:
                main(["compare", workload, option])
            assert stop.value.code == 2
            assert (
                f"{workload} has no --{'forks' if option == '--no-forks' else option[2:].partition('=')[0]}"
                in capsys.readouterr().err
            )
