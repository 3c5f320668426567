"""What bench-growth measures: the calls that its rows say, at tiny sizes; and what it makes of the times."""

import pytest
from benchmarks.growth import CHAINS, CHECK, PARTS, Clock, Row, rows, spread, table_of

import rmaplab
from benchmarks import growth
from rmaplab.kernels.box import Box
from rmaplab.report.tables import DASH
from rmaplab.units import PAGE_SIZE

WHAT = {
    "vmas": {"mmap, beside the last", "mmap, into a hole", "munmap, never touched", "munmap, a page written",
             "munmap of all, per VMA", "fork, per VMA", "exit, per VMA"},
    "holes": {"munmap, among holes", "mmap, beyond all holes"},
    "processes": {"fork", "wait", "exit, shared pages", "exit, pages of its own"},
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "6.18"])
def test_each_part_measures_its_calls(kernel: str, part: str) -> None:
    """The parts themselves assert that VMAs, holes and processes are as many as they say."""
    found = rows(kernel, PARTS[part], (4, 7), 1)
    assert {row.what for row in found} == WHAT[part]
    assert {row.kernel for row in found} == {kernel}
    for row in found:
        assert list(row.seconds) == [4, 7]
        assert min(row.seconds.values()) > 0


def test_the_row_of_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a box that is small here."""
    monkeypatch.setattr(growth, "CHECK_BOX", Box(ram="64M"))
    (row,) = rows("6.18", growth.checked, (2, 3), 1)
    assert (row.what, row.bar) == (CHECK, 5)


def test_a_search_beyond_all_holes_goes_beyond_all_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address that it is given lies among them."""
    given: list[int] = []
    mmap = rmaplab.Task.mmap

    def seen(task: rmaplab.Task, length: int, *about: int) -> int:
        given.append(mmap(task, length, *about))
        return given[-1] if length == growth.LONG else given.pop()

    for kernel in ("2.4.21", "2.6.2", "6.18"):
        monkeypatch.setattr(rmaplab.Task, "mmap", seen)
        growth.in_holes(kernel, 40, 1)
        monkeypatch.setattr(rmaplab.Task, "mmap", mmap)
        start = rmaplab.boot(kernel, growth.BOX).spawn().mmap(80 * PAGE_SIZE)
        assert len(given) == 40
        most = start + 79 * PAGE_SIZE  # where the last VMA ends; the first may be the one that has just gone
        assert not [at for at in given if start - 2 * PAGE_SIZE < at < most]
        given.clear()


@pytest.mark.parametrize("nr", [4, 7, 80, 100, 1_000])
def test_places_are_spread(nr: int) -> None:
    """Every other one at most: none beside another."""
    places = spread(nr)
    assert len(places) == len(set(places)) == min(nr // 2, growth.SOME)
    assert all(place % 2 == 0 and 0 <= place < nr for place in places)
    assert places == sorted(places)
    assert nr - places[-1] <= nr // len(places) + 2


def test_the_least_mean_of_all_turns_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two calls a turn, 1 and 3, then 20 and 40, then 6 and 8 seconds long; each done by two."""
    now, lengths = [0.0], iter((1.0, 3.0, 20.0, 40.0, 6.0, 8.0))
    monkeypatch.setattr("benchmarks.growth.time.process_time", lambda: now[0])

    def call(what: str) -> str:
        now[0] += next(lengths)
        return what

    clock = Clock()
    for _ in clock.turns(2):
        assert [clock.call("it", call, "done", parts=2) for _ in range(2)] == ["done", "done"]
    assert clock.least == {"it": 3.5}


def test_what_is_said_of_a_row() -> None:
    """Flat, or what makes it grow, if that is the kernel's."""
    flat = Row("6.18", "anon_vma_chain", "fork", {100: 1e-5, 10_000: 1.9e-5})
    grows = flat._replace(seconds={100: 1e-5, 1_000: 1e-5, 10_000: 2.1e-5})
    chained = grows._replace(kernel="2.6.2", design="pte_chain", what="exit, shared pages")
    unchained = chained._replace(design="anon_vma")
    check = grows._replace(what=CHECK, seconds={100: 1.0, 1_000: 4.9})
    verdicts = [row.verdict for row in (flat, grows, chained, unchained, check)]
    assert verdicts == ["ok", "not met", CHAINS, "not met", "ok"]
    table = table_of([flat, grows, chained, chained, check], 1)
    assert [row[-1] for row in table.rows] == ["ok", "not met", "[1]", "[1]", "ok"]
    assert [row[3] for row in table.rows] == [DASH, "10.00 us", "10.00 us", "10.00 us", "4.90 s"]
    assert table.caption == f"[1] {CHAINS}"


@pytest.mark.parametrize("words", ["--kernels 2.6.3", "--turns 0", "--only all"])
def test_what_makes_no_sense_is_refused(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["growth", *words.split()])
    with pytest.raises(SystemExit) as exit_:
        growth.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err
