"""`rmaplab check`, as it is typed: what it prints, what it keeps, exit codes."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from rmaplab.calls.table import CALLS
from rmaplab.calls.words import FlagsKind
from rmaplab.cli import main
from rmaplab.host.agent import Agent
from rmaplab.workloads.script import Script, parse, read_script, usage

DATA = Path(__file__).parents[1] / "data" / "check"
DOCS = Path(__file__).parents[2] / "docs"
REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
here = (
    os.uname().machine == "x86_64" and os.uname().sysname == "Linux" and bool(shutil.which("cc") or shutil.which("gcc"))
)
needs_agent = pytest.mark.skipif(not REQUIRE_ALL and not here, reason="no C compiler, or not Linux on x86-64")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as caught:
        main(["check", *arguments])
    printed = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, printed.out, printed.err


def submissions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all scripts that an agent is given from now on."""
    asked, submit = list[str](), Agent.submit

    def heard(agent: Agent, script: Script) -> None:
        asked.append(script.name)
        submit(agent, script)

    monkeypatch.setattr(Agent, "submit", heard)
    return asked


@needs_agent
def test_no_difference(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each script in a line; what any kernel does, so that it holds everywhere."""
    script = tmp_path / "x.script"
    script.write_text("A: mmap w+0 4 rw\nA: write w+1\nA: fork B\nB: read w+1\n")
    code, out, err = run(capsys, str(script), str(script))
    assert (code, out.count(f"{script}: no difference in 4 operations\n  ")) == (0, 2)
    assert err == "" or "CONFIG_" in err or os.geteuid() != 0  # what this host's kernel is built without is said


@needs_agent
def test_a_script_says_what_it_must_come_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where both sides agree on something else, that is shown, and the exit code is 1."""
    right, wrong = tmp_path / "right.script", tmp_path / "wrong.script"
    right.write_text(
        "repeat 3 i\nA: mmap w+{2*i} 1 rw => w+{2*i}\nend\nA: read w+1 => SIGSEGV w+1\nA: munmap w+0 9 => ok\n"
    )
    wrong.write_text("A: mmap w+0 1 rw\nA: mremap w+0 1 2 => EFAULT\n")
    code, out, _ = run(capsys, str(right), str(wrong))
    assert code == 1
    assert f"{right}: no difference in 5 operations" in out
    assert f"{wrong}:2: A: mremap w+0 1 2 => EFAULT" in out
    assert "Both sides agree, and the script expects EFAULT" in out


@needs_agent
def test_a_directory_is_a_suite(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """All of its scripts are run, whatever came before; a summary, and JUnit XML for who collects results."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.script").write_text("A: mmap w+0 1 rw => EINVAL\n")
    (tmp_path / "b.script").write_text("A: limit MEMLOCK 9\nA: drop IPC_LOCK\nA: mlockall CURRENT\n")
    (tmp_path / "sub" / "c <&>.script").write_text("A: mmap w+0 1 rw\nA: mremap w+0 1 2\nA: mremap w+9 1 2\n")
    report = tmp_path / "report.xml"
    code, out, _ = run(capsys, str(tmp_path), "--junit", str(report))
    assert code == 1
    assert "  1 mmap, 2 mremap: 2 ok, 1 EFAULT" in out
    assert out.splitlines()[-1] == "3 scripts: 1 equal, 1 differ, 1 not compared"
    suite = ET.parse(report).getroot()
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    assert [[part.tag for part in case] for case in suite] == [["failure"], ["skipped"], []]
    assert suite[2].get("name") == str(tmp_path / "sub" / "c <&>.script")
    empty = tmp_path / "none"
    empty.mkdir()
    code, _, err = run(capsys, str(empty))
    assert (code, "is a directory without scripts" in err) == (2, True)


@needs_agent
def test_show_prints_what_each_line_came_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "a.script"
    script.write_text("A: mmap w+0 1 rw => ok\nA: read w+1\n")
    code, out, _ = run(capsys, str(script), "--show")
    assert code == 0
    why = "read of an address that nothing is mapped at"
    assert out.splitlines()[:3] == [
        str(script),
        "  1: A: mmap w+0 1 rw  w+0",
        f"  2: A: read w+1       SIGSEGV w+1 MAPERR  ({why})",
    ]
    code, _, err = run(capsys, "--fuzz", "1", "--show")
    assert (code, "--show and --junit tell of scripts" in err) == (2, True)


@needs_agent
def test_a_box_that_is_not_the_hosts_is_the_models_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host never hears of it; one line says why, and what the script expects is looked at."""
    asked = submissions(monkeypatch)
    script, report = tmp_path / "a.script", tmp_path / "r.xml"
    script.write_text(
        "box ram=64M overcommit=2 ratio=50\nA: mmap w+0 4000 rw => ok\nA: fork B => ok\nA: fork C => ENOMEM\n"
    )
    code, out, _ = run(capsys, str(script), "--junit", str(report))
    assert code == 1
    assert f"{script}:3: A: fork B => ok\n\n  model, 6.18  ENOMEM  (overcommit: 4,000 pages are asked for" in out
    assert out.endswith("\n\nThe script expects ok\n")
    assert ET.parse(report).getroot().get("failures") == "1"
    script.write_text(script.read_text().replace("fork B => ok", "fork B => ENOMEM"))
    code, out, _ = run(capsys, str(script))
    assert code == 0
    told = "on the model alone, what 3 of 3 operations must come to, they do; the host was not asked: the script has a machine of its own"
    assert out.startswith(f"{script}: {told} (box ram=64M overcommit=2 ratio=50)\n")
    code, _, err = run(capsys, str(script), "--record", str(tmp_path / "x.json"))
    assert (code, f"{script} cannot be recorded on this host: the script has" in err) == (2, True)
    assert set(asked) == {"probe"}


@needs_agent
def test_what_is_not_modelled_does_not_end_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is said and counted, and the scripts behind it run."""
    bound, plain = tmp_path / "bound.script", tmp_path / "plain.script"
    bound.write_text("A: limit MEMLOCK 9\nA: drop IPC_LOCK\nA: mlockall CURRENT\n")
    plain.write_text("A: mmap w+0 2 rw\n")
    code, out, err = run(capsys, str(bound), str(plain))
    assert (code, out) == (0, f"{plain}: no difference in 1 operation\n  1 mmap: all ok\n1 not compared\n")
    assert err.splitlines()[-1].startswith(f"not compared: {bound}, line 3: mlockall")


@needs_agent
def test_what_the_model_refuses_never_reaches_the_host(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that would fill the host's memory fails on the model, which is asked first."""
    asked = submissions(monkeypatch)
    large = tmp_path / "large.script"
    large.write_text("A: mmap w+0 200000 rw\nA: write w+0 200000\n")
    code, out, err = run(capsys, str(large))
    assert (code, out) == (2, "")
    assert f"{large}, line 2: the model's box of 256M is too small for this: use fewer pages" in err
    assert set(asked) == {"probe"}


@needs_agent
def test_a_difference_is_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A kernel of 2004 ignores MAP_FIXED_NOREPLACE: the last operation differs, both address spaces are shown."""
    script = tmp_path / "x.script"
    script.write_text("# two mappings\nA: mmap w+0 2 rw\nA: write w+0\nA: mmap w+1 1 r FIXED_NOREPLACE\nA: wait\n")
    code, out, _ = run(capsys, str(script), "--kernel", "2.6.5-rc1-aa1")
    lines = out.splitlines()
    assert code == 1
    assert lines[0] == f"{script}:4: A: mmap w+1 1 r FIXED_NOREPLACE"
    host, model = (
        line for line in lines if line.startswith(("  host, Linux", "  model, 2.6.5-rc1-aa1")) and "|" not in line
    )
    assert host.endswith("  EEXIST")
    assert not model.endswith("EEXIST")
    assert "What differs: result" in lines
    assert any(line.startswith("  process A") for line in lines)


@needs_agent
def test_record_then_against(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What the host does is kept, and the model compared with it where there is no such host."""
    recording = tmp_path / "r.json"
    scripts = [str(path) for path in sorted(DATA.glob("zero-page*.script")) + sorted(DATA.glob("mincore-one*.script"))]
    code, out, _ = run(capsys, *scripts, "--record", str(recording))
    assert (code, out) == (0, f"{recording}: 2 scripts, 10 operations recorded\n")
    code, out, _ = run(capsys, "--against", str(recording))
    assert code == 0
    assert out.startswith(f"{recording}: no difference in 2 scripts, 10 operations (recorded on Linux ")


def test_against_compares_all_that_was_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """And says how many."""
    code, out, err = run(capsys, "--against", str(DATA / "linux-6.18.json"))
    assert (code, err) == (0, "")
    assert f"no difference in {len(list(DATA.glob('*.script')))} scripts" in out


def test_against_shows_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    """An older kernel is another one: the first difference is drawn, and it goes on to count what else differs."""
    code, out, _ = run(capsys, "--against", str(DATA / "linux-6.18.json"), "--kernel", "2.6.5-rc1")
    assert code == 1
    assert "recorded, Linux 6.18" in out
    assert out.count("What differs: ") == 1
    told, counts = out.splitlines()[-2:]
    (nr,) = re.findall(r": (\d+) of \d+ scripts differ; the model is of Linux 2.6.5-rc1, and this is 6.18", told)
    assert int(nr) == sum(int(number) for number in re.findall(r"(\d+) [a-zA-Z]", counts)) > 1


@needs_agent
def test_fuzz_says_what_it_has_covered(capsys: pytest.CaptureFixture[str]) -> None:
    """Operations by kind and result, fork trees."""
    if os.uname().release.split(".")[:2] != ["6", "18"] and not REQUIRE_ALL:
        pytest.skip("this is not Linux 6.18")
    code, out, _ = run(capsys, "--fuzz", "40", "--seed", "2")
    assert code == 0
    assert out.startswith("covered: ")
    assert "MAYMOVE|FIXED|DONTUNMAP " in out
    assert "  fork trees: " in out
    assert out.endswith("no difference in 40 scripts of seed 2\n")


@needs_agent
def test_fuzz_has_habits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Their name stands in what is said, and in the script that is saved."""
    kept = tmp_path / "kept.script"
    code, out, _ = run(capsys, "--fuzz", "9", "--habits", "storm", "--kernel", "2.6.5-rc1-aa1", "--save", str(kept))
    assert code == 1
    assert kept.read_text().startswith("# smallest of script ")
    assert "of seed 0 (habits: storm): " in kept.read_text()
    assert "mremap" in kept.read_text()
    assert "of seed 0 (storm):" in out  # what the maker has called it


@needs_agent
def test_jobs_change_nothing_of_what_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """But for the seconds: a difference, the script that is kept, the exit code."""
    told = []
    for jobs in ("1", "2"):
        kept = tmp_path / "kept.script"
        code, out, err = run(
            capsys, "--fuzz", "40", "--seed", "2", "--kernel", "2.6.5-rc1-aa1", "--save", str(kept), "--jobs", jobs
        )
        told.append((code, re.sub(r"[\d.]+ s, \d+ scripts a second", "", out), err, kept.read_text()))
        kept.unlink()
    assert told[0] == told[1]
    assert told[0][0] == 1


@needs_agent
def test_fuzz_keeps_the_smallest_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It can be run again, and shows the same."""
    kept = tmp_path / "kept.script"
    code, out, _ = run(capsys, "--fuzz", "40", "--seed", "2", "--kernel", "2.6.5-rc1-aa1", "--save", str(kept))
    assert code == 1
    assert f"saved as {kept}" in out
    assert kept.read_text().startswith("# smallest of script ")
    again, shown, _ = run(capsys, str(kept), "--kernel", "2.6.5-rc1-aa1")
    assert again == 1
    assert shown.splitlines()[2:] == out.split("\n\n", 1)[1].splitlines()[2:-2]
    assert len(read_script(kept).ops) <= 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give scripts, or --fuzz N, or --against FILE: one of them"),
        (["x", "--fuzz", "3"], "give scripts, or --fuzz N, or --against FILE: one of them"),
        (["no-such-file"], "no-such-file: cannot be read (No such file or directory): give the path of a script"),
        (["/dev/null"], "/dev/null:1: expected an operation such as A: mmap w+0 1 rw, found none"),
        (["{bad}"], "{bad}:2: expected a call, found 'fly': one of mmap, create"),
        (["--fuzz", "0"], "Invalid value for '--fuzz': 0 is not in the range x>=1"),
        (["--fuzz", "3", "--seed", "x"], "Invalid value for '--seed'"),
        (["--fuzz", "3", "--kernel", "9.9"], "no kernel '9.9': choose from"),
        (
            ["--fuzz", "3", "--save", "/no/such/x"],
            "cannot write /no/such/x: give --save a file in a directory that exists and is yours",
        ),
        (["{bad}", "--save", "x"], "--save keeps what --fuzz finds"),
        (["{bad}", "--seed", "7"], "--seed says which scripts --fuzz makes: give --fuzz N, or leave it out"),
        (["--fuzz"], "Option '--fuzz' requires an argument (see: rmaplab check --help)"),
        (["{bad}", "--habits", "storm"], "--habits says how --fuzz makes scripts: give --fuzz N, or leave it out"),
        (["--fuzz", "3", "--jobs", "0"], "Invalid value for '--jobs': 0 is not in the range 1<=x<=256"),
        (["--fuzz", "3", "--jobs", "9999999"], "Invalid value for '--jobs': 9999999 is not in the range"),
        (["--fuzz", "3", "--jobs", "two"], "Invalid value for '--jobs': 'two' is not a valid integer range"),
        (["{bad}", "--jobs", "2"], "--jobs says how many scripts --fuzz compares at a time: give --fuzz N"),
        (["--against", "{bad}", "--jobs", "1"], "--jobs says how many scripts --fuzz compares at a time"),
        (["--fuzz", "3", "--record", "x", "--jobs", "2"], "give --fuzz N without --record, or leave it out"),
        (["--fuzz", "3", "--jobs", "2", "--habits", "x"], "no habit 'x': choose from steps, all, many, lineage, storm"),
        (["--fuzz", "3", "--jobs", "2", "--kernel", "9.9"], "no kernel '9.9': choose from"),
        (["--fuzz", "3", "--habits", "x"], "no habit 'x': choose from steps, all, many, lineage, storm"),
        (["--against", "{bad}"], "{bad} is no recording, or a damaged one: make one with --record FILE"),
        (["--against", "nowhere.json"], "nowhere.json cannot be read (No such file or directory)"),
        (
            ["--against", "{bad}", "--record", "x"],
            "--record keeps what the host does and --against leaves the host out",
        ),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Exit code 2 and the next thing to try."""
    bad = tmp_path / "bad.script"
    bad.write_text("A: mmap w+0 1 rw\nA: fly\n")
    code, out, err = run(capsys, *(argument.format(bad=bad) for argument in arguments))
    assert (code, out) == (2, "")
    assert message.format(bad=bad) in err
    assert err.count("\n") == 1


def test_no_compiler_no_host(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in a line, with the way out."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    code, _, err = run(capsys, str(DATA / "zero-page.script"))
    assert (code, err.count("\n")) == (2, 1)
    assert "install gcc, or compare with recorded results (--against FILE)" in err


def test_the_manual_names_every_call_and_every_word() -> None:
    """docs/scripts.md is complete, and its example is a script."""
    manual = (DOCS / "scripts.md").read_text()
    rows = {line.split("`")[1]: line for line in manual.splitlines() if line.startswith("| `")}
    for call, row in CALLS.items():
        _, _, signature = usage(call).partition(" ")
        assert f"| `{call}` | {signature}{' ' if signature else ''}|" in rows[call]
        for argument in row.arguments:
            words = argument.kind.words if isinstance(argument.kind, FlagsKind) else ()
            assert [word for word in words if word not in rows[call]] == []
    blocks = [block for block in manual.split("\n\n") if block.startswith("    ")]
    assert [len(parse(block).ops) for block in blocks] == [6, 8, 9, 300, 4]


def test_every_divergence_that_was_corrected_has_a_script() -> None:
    """The last table of docs/divergences.md names files that are there."""
    table = (DOCS / "divergences.md").read_text().split("## What comparing has corrected")[1]
    named = {line.split("|")[-2].strip() for line in table.splitlines() if line.startswith("|")} - {"script", "---"}
    assert len(named) > 5
    assert named <= {path.stem for path in DATA.glob("*.script")}
