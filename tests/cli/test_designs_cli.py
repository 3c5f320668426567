"""`rmaplab designs` and `rmaplab designs check`, as they are typed; the template of docs/ included."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rmaplab.cli import main

TEMPLATE = Path(__file__).parents[2] / "docs" / "template-design"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The template, by the entry points of its pyproject, and a package that cannot be imported."""
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    points = dict(project["entry-points"]["rmaplab.designs"])
    packages = {project["name"]: points, "wreck": {"wrecked": "wreck:Design", "forgetful": "forgetful:Forgetful"}}
    for package, designs in packages.items():
        info = tmp_path / f"{package.replace('-', '_')}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        lines = "\n".join(f"{name} = {value}" for name, value in designs.items())
        (info / "entry_points.txt").write_text(f"[rmaplab.designs]\n{lines}\n")
    (tmp_path / "wreck.py").write_text("raise ValueError('no such luck')\n")
    (tmp_path / "forgetful.py").write_text(
        "from pv_list import PvList\n"
        "class Forgetful(PvList):\n"
        "    def walk(self, pfn):\n"
        "        yield from list(super().walk(pfn))[:1]\n"
    )
    monkeypatch.syspath_prepend(TEMPLATE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("pv_list", "forgetful", "wreck"):
        sys.modules.pop(name, None)


def rmaplab(*arguments: str) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    return int(done.value.code or 0)


@pytest.mark.usefixtures("installed")
def test_the_list_shows_all_and_survives_a_broken_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert rmaplab("designs") == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "rmaplab.rmap.anon_vma:AnonVmaMap" in rows["anon_vma"]
    assert "rmaplab-pv-list" in rows["pv_list"]
    assert "A list of (mm, address) per page." in rows["pv_list"]
    assert "broken: " in rows["wrecked"]
    assert "no such luck" in rows["wrecked"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("paging", ["i386", "i386-pae", "x86-64"])
def test_the_template_passes(paging: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert rmaplab("designs", "check", "pv_list", "--paging", paging, "--examples", "40") == 0
    assert f"pv_list on 2.6.5-rc1, {paging}: ok, 40 scripts of" in capsys.readouterr().out


@pytest.mark.usefixtures("installed")
def test_a_broken_design_gets_a_script_that_runs_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert rmaplab("designs", "check", "forgetful") == 1
    out, err = capsys.readouterr()
    assert 'rmaplab.boot("2.6.5-rc1+forgetful"' in out
    assert len(err.splitlines()) == 1
    assert "1 mappings missed" in err
    with pytest.raises(Exception, match="1 mappings missed"):
        exec(compile(out, "script", "exec"), {})


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "nothing"), "no design 'nothing'"),
        (("check", "wrecked"), "no such luck"),
        (("check", "anonmm", "--kernel", "9.9"), "no kernel '9.9'"),
        (("check", "anonmm", "--paging", "vax"), "no page-table format 'vax'"),
        (("check", "anonmm", "--steps", "0"), "0 steps"),
        (("check",), "NAME"),
    ],
)
def test_a_request_that_makes_no_sense_is_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rmaplab("designs", *arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert len(err.splitlines()) == 1
    assert words in err


def test_without_hypothesis_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert rmaplab("designs", "check", "anonmm") == 2
    assert "pip install 'rmaplab[designs]'" in capsys.readouterr().err
