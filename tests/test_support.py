"""docs/support.md is true: its table agrees with pyproject.toml and with the code, and other architectures get one line."""

import platform
import re
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest

from rmaplab.cli import main
from rmaplab.host.agent import Agent
from rmaplab.host.asked import HostTrouble

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROWS = {
    cells[0]: cells[1:]
    for line in (ROOT / "docs" / "support.md").read_text().splitlines()
    if line.startswith("| ") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
}

Uname = namedtuple("Uname", "sysname nodename release version machine")  # noqa: PYI024, what os.uname() gives, made up


def test_pythons_are_those_of_the_package() -> None:
    """The table's versions are the classifiers', the lowest is requires-python, and so is what runs this."""
    said = re.findall(r"3\.\d+", ROWS["Python"][0])
    classified = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert said == classified == sorted(said, key=lambda version: int(version[2:]))
    assert PROJECT["requires-python"] == f">={said[0]}"
    assert sys.version_info >= tuple(map(int, said[0].split(".")))


def test_run_time_needs_are_those_of_the_package() -> None:
    named = sorted(re.findall(r"[a-z]+", ROWS["what is installed"][0].lower()))
    assert named == sorted(re.match(r"[a-z]+", need)[0] for need in PROJECT["dependencies"])  # type: ignore[index]


def test_the_system_is_the_one_of_the_package() -> None:
    assert "Operating System :: POSIX :: Linux" in PROJECT["classifiers"]
    assert ROWS["`who`, `live`"][0].startswith("Linux on x86_64")


@pytest.mark.parametrize(
    "arguments", [["who", "1", "7f0000000000"], ["who", "--pfn", "1"], ["live"], ["live", "--watch"]]
)
@pytest.mark.parametrize("where", [("Linux", "aarch64"), ("Linux", "i686"), ("Darwin", "arm64")])
def test_other_machines_are_refused_in_one_line(
    arguments: list[str], where: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What would read the machine says that it cannot, where it can, and what there is instead."""
    monkeypatch.setattr(platform, "system", lambda: where[0])
    monkeypatch.setattr(platform, "machine", lambda: where[1])
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == ""
    assert re.fullmatch(
        rf"rmaplab: {arguments[0]} reads Linux on x86_64, and this is {where[0]} on {where[1]}: .*try .*\n", said.err
    )


def test_check_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: Uname("Linux", "x", "6.18.0", "1", "aarch64"))
    with pytest.raises(HostTrouble, match=r"needs Linux on x86-64: compare with recorded results \(--against FILE\)"):
        Agent()


def test_the_model_answers_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What `who` recommends instead."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(SystemExit) as stop:
        main(["explain", "fork"])
    assert stop.value.code in (0, None)
    assert "fork" in capsys.readouterr().out
