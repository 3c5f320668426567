"""A log of strace: what stands in it, in the order in which it happened; what is no log is refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rmaplab.errors import UsageError
from rmaplab.workloads import strace_log
from rmaplab.workloads.program_image import MARK
from rmaplab.workloads.strace_log import Log, LoggedCall, LoggedEnd, parse, read_log

WANTED = {"mmap", "munmap", "close", "openat", "clone", "vfork", "exit_group", "brk", "wait4"}


def read(*lines: str) -> Log:
    return parse(lines, WANTED, {"getpid"})


def said(log: Log) -> list[str]:
    """Pid and what, of each event."""
    return [f"{event.pid} {event.name if isinstance(event, LoggedCall) else event.how}" for event in log.events]


def test_a_call_is_its_name_words_result_and_error() -> None:
    """As they were written."""
    log = read(
        "7  mmap(NULL, 8192, 0x3, 0x22, -1, 0) = 0x7f832a1c1000",
        '7  openat(-100, "\\x2f", 0x80000) = -1 ENOENT (No such file or directory)',
        "7  brk(NULL)                         = 0x55688fcb3000",
        "7  close(0x63)   = -1 (errno 9)",
        "7  exit_group(0)                     = ?",
    )
    assert log.events == [
        LoggedCall(1, 7, "mmap", "NULL, 8192, 0x3, 0x22, -1, 0", 0x7F832A1C1000, "", 1),
        LoggedCall(2, 7, "openat", '-100, "\\x2f", 0x80000', -1, "ENOENT", 2),
        LoggedCall(3, 7, "brk", "NULL", 0x55688FCB3000, "", 3),
        LoggedCall(4, 7, "close", "0x63", -1, "9", 4),
        LoggedCall(5, 7, "exit_group", "0", None, "", 5),
    ]


@pytest.mark.parametrize("prefix", ["7  ", "[pid     7] ", "7  12:13:14.123456 ", "7  1700000000.123456 "])
def test_lines_may_begin_as_strace_can_begin_them(prefix: str) -> None:
    """With the time, or the pid as it stands on a terminal."""
    (event,) = read(f"{prefix}munmap(0x7000, 4096) = 0").events
    assert (event.pid, event.name) == (7, "munmap")  # type: ignore[union-attr]


def test_a_call_that_was_interrupted_stands_where_it_ends() -> None:
    """Its words are put together again."""
    log = read(
        "7  mmap(NULL, 4096, 0x3, 0x22, -1, 0 <unfinished ...>",
        "8  brk(NULL) = 0x1000",
        "7  <... mmap resumed>) = 0x7000",
        "7  wait4(-1,  <unfinished ...>",
        "8  +++ exited with 3 +++",
        "7  <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 8",
    )
    assert said(log) == ["8 brk", "7 mmap", "8 exited", "7 wait4"]
    assert [event.words for event in log.events if isinstance(event, LoggedCall)] == [
        "NULL",
        "NULL, 4096, 0x3, 0x22, -1, 0",
        "-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL",
    ]
    assert log.events[2] == LoggedEnd(5, 8, "exited", 3)


def test_a_birth_comes_before_what_the_child_does() -> None:
    """Even where the child's lines come before the parent's call is resumed; a line of the child before the call is another's of that pid."""
    log = read(
        "9  brk(NULL) = 0x1000",
        "9  +++ exited with 0 +++",
        "7  clone(child_stack=NULL, flags=0x1200000|17 <unfinished ...>",
        "9  close(3 <unfinished ...>",
        "9  <... close resumed>) = 0",
        "7  <... clone resumed>, child_tidptr=0x10) = 9",
        "9  close(4) = 0",
    )
    assert said(log) == ["9 brk", "9 exited", "7 clone", "9 close", "9 close"]


def test_what_is_given_back_is_given_back_at_once() -> None:
    """Another thread may have it before munmap returns."""
    log = read(
        "7  munmap(0x7000, 4096 <unfinished ...>",
        "8  mmap(NULL, 4096, 0x3, 0x22, -1, 0) = 0x7000",
        "7  <... munmap resumed>) = 0",
    )
    assert said(log) == ["7 munmap", "8 mmap"]


def test_how_processes_end() -> None:
    """By themselves, by a signal, or because a thread of theirs is another program now."""
    log = read(
        "7  brk(NULL) = 0",
        "7  --- SIGCHLD {si_signo=17, si_code=0x1, si_pid=9} ---",
        "7  +++ killed by SIGSEGV (core dumped) +++",
        "8  +++ superseded by execve in pid 7 +++",
        "strace: Process 9 attached",
    )
    assert said(log) == ["7 brk", "7 killed", "8 superseded"]
    assert not log.misunderstood


def test_a_thread_that_is_another_program_has_its_processs_pid() -> None:
    """Its execve has begun under its own, and ends under that."""
    log = parse(
        [
            '8  execve("\\x2f\\x61", ["\\x61"], 0x1 <unfinished ...>',
            "7  <... brk resumed>) = ?",
            "7  +++ superseded by execve in pid 8 +++",
            "7  <... execve resumed>) = 0",
        ],
        {"execve", "brk"},
        (),
    )
    assert said(log) == ["7 superseded", "7 execve"]


def test_what_is_not_understood_is_counted_by_name() -> None:
    """What concerns nobody's memory apart from it."""
    log = read(
        "7  brk(NULL) = 0",
        "7  getpid() = 7",
        "7  new_call(1) = 0",
        "7  new_call(1) = 0",
        "7  <... brk resumed>) = 0",
        "7  ???",
        "[ Process PID=7 runs in 32 bit mode. ]",
        MARK + "nonsense",
    )
    assert log.passed == {"getpid": 1}
    assert log.misunderstood == {
        "new_call": 2,
        "brk, resumed where it had not begun": 1,
        "a line that strace does not print": 1,
        "a program of 32 bit": 1,
        "what a program consists of": 1,
    }


def test_names_are_not_counted_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strace_log, "MOST_NAMES", 5)
    log = read("7  brk(NULL) = 0", *(f"7  call{i}() = 0" for i in range(50)))
    assert len(log.misunderstood) == 6
    assert log.misunderstood.total() == 50


def test_names_in_place_of_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the log:1: MAP_PRIVATE is a name .* -X raw"):
        read("7  mmap(NULL, 4096, 0x3, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7000")


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 5000, b"hello\n" * 20, b"7  what is this\n"])
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a\nb"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\\nb is no log of strace: none of its [\d,]+ lines is a call"):
        read_log(path, WANTED, ())


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"7  brk(NULL) = 0\n" * 1000)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.gz").write_bytes(b"7  brk(NULL) = 0\n")
    for name in ("cut.gz", "none.gz", "nowhere", "."):
        with pytest.raises(UsageError, match="rmaplab record -o LOG"):
            read_log(tmp_path / name, WANTED, ())
    (tmp_path / "whole.gz").write_bytes(whole)
    assert len(read_log(tmp_path / "whole.gz", WANTED, ()).events) == 1000


@pytest.mark.parametrize(
    ("bound", "most"),
    [("MOST_LINES", 9), ("MOST_BYTES", 100), ("LONGEST_LINE", 10), ("MOST_CALLS", 9), ("MOST_PIDS", 9)],
)
def test_every_bound_ends_with_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{pid}  brk(NULL) = 0\n" for pid in range(10)))
    assert len(read_log(path, WANTED, ()).events) == 10
    monkeypatch.setattr(strace_log, bound, most)
    with pytest.raises(UsageError, match=r"record less at once|which strace does not write"):
        read_log(path, WANTED, ())


@pytest.mark.parametrize(
    "line",
    ["7  brk(" + " " * 500_000, "7  brk(" + ")   " * 100_000, "7  " + "brk(" * 100_000, "7  brk(<unfinished ...>" + " " * 500_000, '7  brk("' + "\\x" * 200_000 + '") = 0', "1" * 500_000, "7 " + "1 " * 200_000],
)  # fmt: skip
def test_long_lines_take_no_long_time(line: str) -> None:
    """No pattern goes over them again and again: a second for each would be a minute here."""
    read("7  brk(NULL) = 0", *[line] * 3)
