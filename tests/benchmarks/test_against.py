"""bench-against without a stopwatch: what it makes of times and counts, and what it refuses."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.against import CannotRun, Ratios, Row, Source
from benchmarks.calls import CALLS, Measured

from benchmarks import against
from rmaplab.errors import UsageError
from rmaplab.report.tables import plain

HERE = Path(__file__).parents[2]

Sides = Callable[[list[Measured], list[Measured]], tuple[Source, Source, list[str]]]


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> Sides:
    """sides(old, new): two sources that answer from these lists, and a list of who was asked."""

    def make(old: list[Measured], new: list[Measured]) -> tuple[Source, Source, list[str]]:
        answers, asked = {"old": iter(old), "new": iter(new)}, []

        def measure(side: Source, _: str) -> Measured:
            asked.append(side.name)
            return next(answers[side.name])

        monkeypatch.setattr(Source, "measure", measure)
        return Source("old", Path(), Path()), Source("new", Path(), Path()), asked

    return make


def test_ratios_are_of_pairs() -> None:
    """The median of the ratios, which is not the ratio of the medians: a disturbed pair counts once."""
    ratios = Ratios.of([(1.0, 0.5), (10.0, 5.0), (2.0, 8.0)])
    assert ratios == Ratios(2.0, 5.0, (0.5, 0.5, 2.25))


def test_one_pair_is_enough() -> None:
    assert Ratios.of([(2.0, 3.0)]) == Ratios(2.0, 3.0, (1.5, 1.5, 1.5))


@pytest.mark.parametrize(("bar", "said"), [(None, ""), (0.5, "met"), (0.49, "not met")])
def test_a_bar_is_met_by_the_median(bar: float | None, said: str) -> None:
    assert Ratios(1.0, 1.0, (0.1, 0.5, 0.9)).verdict(bar) == said


def test_sides_take_turns_after_a_warm_up_that_does_not_count(sides: Sides) -> None:
    """Who is first alternates, so that what drifts falls on both alike; the first answers are dropped."""
    old, new, asked = sides(
        [Measured(99.0, {}), *[Measured(2.0, {})] * 3], [Measured(99.0, {}), *[Measured(1.0, {})] * 3]
    )
    row = against.compare("any", old, new, 3)
    assert asked == ["old", "new", "old", "new", "new", "old", "old", "new"]
    assert row.ratios == Ratios(2.0, 1.0, (0.5, 0.5, 0.5))
    assert row.counts == f"same ({against.fingerprint({})})"
    assert row.remarks == []


def test_counts_that_differ_are_said(sides: Sides) -> None:
    old, new, _ = sides([Measured(1.0, {"fault": 1000})] * 2, [Measured(1.0, {"fault": 1001})] * 2)
    row = against.compare("any", old, new, 1)
    assert (row.counts, row.remarks) == ("differ", ["fault: 1,000 -> 1,001"])


def test_differences_in_words() -> None:
    """What one side alone counts is told from what they count differently, and a side that disagrees with itself is named."""
    assert against.differences([{"a": 1}] * 2, [{"a": 1}] * 2) == []
    assert against.differences([{"a": 1, "b": 2, "c": 3}], [{"a": 1, "b": 3, "d": 4}]) == [
        "b: 2 -> 3",
        "c: only old counts it, 3",
        "d: only new counts it, 4",
    ]
    assert against.differences([{"a": 1}, {"a": 1}], [{"a": 1}, {"a": 2}]) == ["new: not the same in every run"]


def test_fingerprints_ignore_order_and_nothing_else() -> None:
    assert against.fingerprint({"a": 1, "b": 2}) == against.fingerprint({"b": 2, "a": 1})
    assert against.fingerprint({"a": 1, "b": 2}) != against.fingerprint({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234, "1.23 s"), (1.0, "1.00 s"), (0.00456, "4.56 ms"), (7.4e-6, "7.40 us"), (0.000188, "188.00 us")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert against.format_seconds(seconds) == text


def test_table() -> None:
    """A line a call; a dash and no verdict where there is no bar."""
    ratios = Ratios(7.4e-6, 3.7e-6, (0.45, 0.5, 0.55))
    rows = [
        Row("fault from outside", ratios, "same (12345678)", []),
        Row("no such bar", ratios, "differ", ["x: 1 -> 2"]),
    ]
    lines = [" ".join(line.split()) for line in plain(against.table_of(rows)).splitlines()]
    assert "fault from outside 7.40 us 3.70 us 0.500 0.450 0.550 0.70 met same (12345678)" in lines
    assert "no such bar 7.40 us 3.70 us 0.500 0.450 0.550 - differ" in lines


def test_bars_belong_to_calls() -> None:
    assert set(against.BARS) <= set(CALLS)


def test_only() -> None:
    assert against.chosen(None) == list(CALLS)
    assert against.chosen("fault") == ["fault from outside", "fault under the scheduler"]
    with pytest.raises(UsageError, match="fault from outside"):
        against.chosen("nonsense")


def test_a_side_that_fails_says_its_last_line(tmp_path: Path) -> None:
    """An old source may lack what is asked."""
    package = tmp_path / "rmaplab"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('too old')")
    with pytest.raises(CannotRun, match="old cannot run it: ImportError: too old"):
        Source("old", tmp_path, tmp_path / "cache").measure("check() of a small system")


def test_a_source_that_was_not_used_is_no_measurement(tmp_path: Path) -> None:
    """Where PYTHONPATH leads nowhere Python may find another rmaplab: that must not pass for the revision."""
    workloads = tmp_path / "elsewhere" / "rmaplab" / "workloads"
    workloads.mkdir(parents=True)
    for module in (workloads.parent, workloads):
        (module / "__init__.py").touch()
    (workloads / "forkbench.py").write_text("Forkbench = None")
    old = Source("old", tmp_path / "old", tmp_path / "cache")
    old.src.mkdir()
    (old.src / "sitecustomize.py").write_text(f"import sys; sys.path.insert(0, {str(tmp_path / 'elsewhere')!r})")
    with pytest.raises(CannotRun, match="old cannot run it: Python found another rmaplab, in"):
        old.measure("check() of a small system")


def bench_against(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.against", *arguments]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "REV=HEAD~1"),
        ([""], "REV=HEAD~1"),
        (["no-such-revision"], "'no-such-revision' names no commit"),
        (["HEAD:src"], "names no commit"),
        (["HEAD", "--pairs", "0"], "0 pairs: give 1 or more"),
        (["HEAD", "--pairs", "x"], "invalid int value: 'x': try --help"),
        (["HEAD", "--only", "nonsense"], "no call is named 'nonsense'"),
    ],
)
def test_refusals_are_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    if not (HERE / ".git").exists():
        pytest.skip("not a git repository")
    run = bench_against(*arguments)
    assert run.returncode == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a source tree whose only commit says "committed" in it."""
    git = [
        "git",
        "-C",
        str(tmp_path),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    module = tmp_path / "src" / "module.py"
    module.parent.mkdir()
    module.write_text("committed")
    for command in (["init", "-q"], ["add", "src"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(against, "ROOT", tmp_path)
    return module


def test_sources_are_the_commit_and_the_tree(repository: Path) -> None:
    """The old side is what was committed, the new one what lies in the tree, uncommitted changes included; neither is the tree."""
    repository.write_text("edited")
    with against.sources(against.commit_of("HEAD")) as (old, new):
        repository.write_text("edited again")
        assert (old.src / "module.py").read_text() == "committed"
        assert (new.src / "module.py").read_text() == "edited"
        assert old.cache != new.cache
        assert len({side.src for side in (old, new)} | {repository.parent}) == 3
    assert not old.src.exists()


def test_a_commit_without_a_source(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very first commits may have none: here, seen from a directory that has none."""
    monkeypatch.setattr(against, "ROOT", repository.parent)
    with pytest.raises(UsageError, match="has no src/"), against.sources(against.commit_of("HEAD")):
        pass


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["bench-against", *arguments])
    against.main()


def test_a_whole_run(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar that is not met, counts that differ and a call that one side lacks are said; nothing fails."""

    def measure(side: Source, call: str) -> Measured:
        if side.name == "old" and "scheduler" in call:
            raise CannotRun("old cannot run it: AttributeError: run")
        return Measured(1.0, {"fault": 2 if side.name == "new" else 1})

    monkeypatch.setattr(Source, "measure", measure)
    run_main(monkeypatch, "HEAD", "--only", "fault", "--pairs", "2")
    out = capsys.readouterr().out
    assert "not met" in out
    assert "fault under the scheduler: not measured: old cannot run it: AttributeError: run\n" in out
    assert out.endswith("fault from outside: fault: 1 -> 2\n")


def test_nothing_measured(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A source without rmaplab: one line, and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        run_main(monkeypatch, "HEAD", "--only", "check", "--pairs", "1")
    assert ended.value.code == 2
    assert "nothing could be measured: check() of a small system: not measured: old" in capsys.readouterr().err
