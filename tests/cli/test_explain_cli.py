"""`rmaplab explain`: what is printed fits, is ASCII, and says what the running system says; mistakes are one line and exit code 2."""

from __future__ import annotations

import json
import re

import pytest
from tests.cli.terminal import on_terminal

from rmaplab.cli import main
from rmaplab.lab.explain import COMPARED, STORIES, endless_fork
from rmaplab.lab.explain.scenarios import SCENARIOS
from rmaplab.report import emit, explain, explain_compared, tables

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1", "2.4.21+anon_vma"]
WIDEST = 110


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["explain", *arguments])
    out, err = capsys.readouterr()
    code = exit_.value.code
    assert isinstance(code, int)
    return code, out, err


@pytest.mark.parametrize("paging", ["i386", "i386-pae", "x86-64"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("story", STORIES)
def test_it_fits_and_is_plain(capsys: pytest.CaptureFixture[str], story: str, kernel: str, paging: str) -> None:
    """Piped: ASCII without escape sequences, no line too wide or with blanks at its end, steps numbered."""
    code, out, err = run(capsys, story, "--kernel", kernel, "--paging", paging, "--ram", "64M")
    assert (code, err) == (0, "")
    assert out.isascii()
    assert "\x1b" not in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= WIDEST
    assert not [line for line in lines if line != line.rstrip()]
    numbers = [int(nr) for nr in re.findall(r"^-- (\d+)\. ", out, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert kernel in lines[0]
    assert paging in lines[0]
    assert "DISAGREES" not in out


ALL = [(story, kernel) for story in STORIES for kernel in ("2.6.2", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1", "6.18")]


@pytest.mark.parametrize(("story", "kernel"), [*ALL, *((name, "") for name in (*SCENARIOS, *COMPARED))])
def test_everything_fits_80_columns(
    story: str, kernel: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of 80 columns no line of any story is wider, on the widest page tables; nothing is left out or cut."""
    monkeypatch.setattr(endless_fork, "GENERATIONS", 4)
    where = ["--kernel", kernel, "--paging", "x86-64", "--ram", "64M"] if kernel else []
    _, wide, _ = run(capsys, story, *where)
    for module in (emit, explain, tables):
        monkeypatch.setattr(module, "terminal_width", lambda: 80)
    monkeypatch.setattr(explain_compared, "text_width", lambda most: min(most, 80))
    code, out, err = run(capsys, story, *where)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    assert "not shown" not in out
    words = [re.sub(r"[\s|\u2500]|-{3,}", "", text) for text in (out, wide)]
    assert words[0] == words[1] if story not in COMPARED else sorted(words[0]) == sorted(words[1])


def test_a_real_terminal_of_80_columns() -> None:
    """As a process: colours aside, as wide as it may be."""
    code, told = on_terminal(80, "explain", "mremap", "--kernel", "6.18", "--ram", "64M")
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told).splitlines()
    assert code == 0
    assert 70 < max(map(len, lines)) <= 80
    assert any("MAYMOVE|FIXED" in line for line in lines)


def test_a_comparison_has_its_own_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    """One line; and its rows are there as JSON."""
    code, out, err = run(capsys, "fork-enomem", "--kernel", "6.18")
    assert (code, out) == (2, "")
    assert "leave --kernel out" in err
    _, out, _ = run(capsys, "merge-15-years", "--format", "json")
    rows = json.loads(out)["rows"]
    assert [row["found"]["both"] for row in rows] == [1, 3, 1]


def test_the_number_of_mappers(capsys: pytest.CaptureFixture[str]) -> None:
    """One, two, three after two forks; two and one after the write."""
    _, out, _ = run(capsys, "who", "--kernel", "2.6.2", "--ram", "64M")
    assert re.findall(r"frame \d+: (\d) mapping", out) == ["1", "2", "3", "3", "2", "1", "2", "1"]


def test_the_copy_of_mremap(capsys: pytest.CaptureFixture[str]) -> None:
    """One under anonmm, none under anon_vma."""
    _, anonmm, _ = run(capsys, "mremap", "--kernel", "2.6.5-rc1+anonmm", "--ram", "64M")
    _, anon_vma, _ = run(capsys, "mremap", "--ram", "64M")
    assert "mremap_copy 1" in anonmm
    assert "mremap_copy" not in anon_vma


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        [],
        ["who", "--kernel", "2.7.0"],
        ["who", "--kernel", "2.6.2+nope"],
        ["who", "--paging", "vax"],
        ["who", "--ram", "8M"],
        ["who", "--cache-line", "16"],
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("rmaplab: ")
    assert err.count("\n") == 1


def test_without_a_story_all_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, from which one can be chosen."""
    with pytest.raises(SystemExit) as ended:
        main(["explain"])
    assert ended.value.code == 2
    assert "choose one of fork, cow" in capsys.readouterr().err
