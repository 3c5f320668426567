r"""A log of strace -f -xx -X raw, line by line: the calls of a real program, and how its processes ended.

    6860  mmap(NULL, 8192, 0x3, 0x22, -1, 0) = 0x7f832a1c1000         a call
    6860  read(3,  <unfinished ...>                                   it has begun, and others go on
    6867  +++ exited with 0 +++                                       a process, or a thread, has gone
    6860  <... read resumed>"", 4096) = 0                             now it is done: this is where it stands among the others
    6860  --- SIGCHLD {si_signo=17, ...} ---                          a signal: nobody's memory

A call stands where it has ended. But the birth of a process stands before the first line of the child, who may be faster than its parent,
and what gives something back (munmap, close) where it has begun, for another thread may get the same before it is over. What a line says nothing of is counted: calls that concern nobody's memory (`passed`), and what is not understood, by name.

A log comes from strangers. How long it may be, and a line of it, and how many processes it may have, is bounded; a log beyond that is
refused in one line. It may be compressed (.gz).
"""

import gzip
import re
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from rmaplab.errors import UsageError
from rmaplab.harmless import printable
from rmaplab.workloads.program_image import MARK, ProgramImage, from_line
from rmaplab.workloads.strace_words import NAMED_FLAGS, BadWord

MOST_LINES = 5_000_000
MOST_CALLS = 1_000_000
"""That are kept: of memory, files and processes."""
LONGEST_LINE = 1 << 20
MOST_BYTES = 4 << 30
"""Of a log that is not compressed, or no more."""
MOST_PIDS = 100_000
MOST_NAMES = 1000
"""Names that are counted; a real log has a few hundred at most."""
BIRTHS = frozenset({"clone", "clone3", "fork", "vfork"})
GIVE_BACK = frozenset({"munmap", "shmdt", "close"})
"""Another thread may get what they have given back before they return."""
_LINE = re.compile(r"(?:\[pid +)?(\d{1,10})\]? +(?:\d[\d:.]* +)*(.*)", re.DOTALL)
_CALL = re.compile(r"([a-z_][a-z0-9_]{0,63})\((.*)\)\s+= (.*)", re.DOTALL)
_BEGUN = re.compile(r"([a-z_][a-z0-9_]{0,63})\((.*)", re.DOTALL)
_UNFINISHED = "<unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. ([a-z_][a-z0-9_]{0,63}) resumed>(.*)", re.DOTALL)
_RESULT = re.compile(r"(0x[0-9a-f]+|-?\d+)(?: (E[A-Z0-9]+|\(errno (\d+)\)))?")
_EXITED = re.compile(r"\+\+\+ exited with (-?\d{1,10}) \+\+\+")
_KILLED = re.compile(r"\+\+\+ killed by (SIG[A-Z0-9_+]+)(?: \(core dumped\))? \+\+\+")
_SUPERSEDED = re.compile(r"\+\+\+ superseded by execve in pid (\d{1,10}) \+\+\+")
_NOTICES = re.compile(
    r"--- .* ---|\[ Process PID=\d+ runs in 64 bit mode\. \]|strace: Process \d+ (?:attached|detached).*", re.DOTALL
)
_OTHER_MODE = re.compile(r"\[ Process PID=\d+ runs in (.{1,20}) mode\. \]")
HOW = "make one with: rmaplab record -o LOG -- COMMAND"


class LoggedCall(NamedTuple):
    """A call that has returned. `result` is None where it never did; `error` the errno's name, or its number, "" if it went well. It had begun at line `began`."""

    line: int
    pid: int
    name: str
    words: str
    result: int | None
    error: str
    began: int


class LoggedEnd(NamedTuple):
    """A process or thread that has gone: `how` is "exited", "killed" or "superseded"; `value` its exit code, or the pid of the thread that has made an execve."""

    line: int
    pid: int
    how: str
    value: int


Logged = LoggedCall | LoggedEnd


@dataclass
class Log:
    """What a log says, in order; what of it concerns nobody's memory; what was not understood, by name."""

    events: list[Logged] = field(default_factory=list)
    nr_lines: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    misunderstood: Counter[str] = field(default_factory=Counter)
    images: dict[bytes, ProgramImage] = field(default_factory=dict)
    """What programs consist of, by path, where rmaplab record has added it."""

    def wonder(self, what: str) -> None:
        """One more that is not understood."""
        if what not in self.misunderstood and len(self.misunderstood) >= MOST_NAMES:
            what = "more that has other names"
        self.misunderstood[what] += 1


def read_log(path: Path, wanted: Collection[str], harmless_calls: Collection[str]) -> Log:
    """The calls named in `wanted`; `harmless_calls` concern nobody's memory. Raises UsageError: no file, no log, or one beyond the bounds."""
    name = printable(str(path))
    try:
        with _open(path) as file:
            log = parse(_lines(file, name), wanted, harmless_calls, name)
    except (OSError, EOFError, zlib.error) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is cut, or no gzip file"
        raise UsageError(f"cannot read {name} ({why}): give a log of strace; {HOW}") from None
    return log


def _open(path: Path) -> gzip.GzipFile | IO[bytes]:
    if path.exists() and not path.is_file():
        raise UsageError(f"{printable(str(path))} is no file: give a log of strace; {HOW}")
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _lines(file: gzip.GzipFile | IO[bytes], name: str) -> Iterator[str]:
    nr = nr_bytes = 0
    while raw := file.readline(LONGEST_LINE + 1):
        nr, nr_bytes = nr + 1, nr_bytes + len(raw)
        if len(raw) > LONGEST_LINE:
            raise UsageError(
                f"{name}:{nr}: a line of more than {LONGEST_LINE:,} bytes, which strace does not write; {HOW}"
            )
        if nr > MOST_LINES or nr_bytes > MOST_BYTES:
            raise UsageError(f"{name} has more than {MOST_LINES:,} lines, or {MOST_BYTES:,} bytes: record less at once")
        yield raw.decode("utf-8", "surrogateescape").rstrip("\n")


def parse(lines: Iterable[str], wanted: Collection[str], harmless_calls: Collection[str], name: str = "the log") -> Log:
    """The same of lines. O(lines log lines). Raises UsageError."""
    reader = _LogReader(wanted, harmless_calls, name)
    for line in lines:
        reader.take(line)
    log = reader.log
    if not reader.understood:
        raise UsageError(f"{name} is no log of strace: none of its {log.nr_lines:,} lines is a call; {HOW}")
    reader.close()
    _in_order(log.events)
    return log


class _LogReader:
    """Takes lines one by one."""

    def __init__(self, wanted: Collection[str], harmless_calls: Collection[str], name: str) -> None:
        self.log, self.name = Log(), name
        self.understood = 0
        self._wanted, self._harmless = wanted, harmless_calls
        self._begun: dict[int, tuple[str, str, int]] = {}
        self._pids: set[int] = set()

    def take(self, line: str) -> None:
        """One more line. Raises UsageError for what is beyond the bounds, or was recorded in other words."""
        self.log.nr_lines += 1
        if line.startswith(MARK):
            self._image(line)
            return
        found = _LINE.match(line)
        pid, rest = (int(found[1]), found[2]) if found else (0, line)
        if found is None and not line.strip():
            return
        if pid not in self._pids:
            self._pids.add(pid)
            if len(self._pids) > MOST_PIDS:
                raise UsageError(f"{self.name} has more than {MOST_PIDS:,} processes: record less at once")
        if (resumed := _RESUMED.match(rest)) is not None:
            self._resume(pid, resumed[1], resumed[2])
            return
        said, unfinished, more = rest.partition(_UNFINISHED)
        if not unfinished and (call := _CALL.match(rest)) is not None:
            self._returned(pid, call[1], call[2], call[3], self.log.nr_lines)
        elif unfinished and (begun := _BEGUN.match(said)) is not None:
            self.understood += 1
            self._abandon(pid)
            if not more.strip():  # else it never returns: "<unfinished ...>) = ?"
                self._begun[pid] = begun[1], begun[2].rstrip(), self.log.nr_lines
        else:
            self._end_or_notice(pid, rest)

    def _image(self, line: str) -> None:
        try:
            path, image = from_line(line)
        except BadWord:
            self.log.wonder("what a program consists of")
            return
        if len(self.log.images) < MOST_NAMES:
            self.log.images[path] = image

    def _resume(self, pid: int, name: str, rest: str) -> None:
        begun = self._begun.pop(pid, None)
        if begun is None or begun[0] != name:
            self.log.wonder(f"{printable(name)}, resumed where it had not begun")
            return
        if _UNFINISHED in rest:  # it never returns
            return
        gap = " " if begun[1].endswith(",") else ""
        call = _CALL.match(f"{name}({begun[1]}{gap}{rest.lstrip()}")
        if call is None:
            self.log.wonder(f"{name}, resumed in words that strace does not print")
        else:
            self._returned(pid, name, call[2], call[3], begun[2])

    def _abandon(self, pid: int) -> None:
        """What had begun never returns: another call of the same thread has come."""
        if (begun := self._begun.pop(pid, None)) is not None:
            self.log.wonder(f"{begun[0]}, which never returned")

    def _returned(self, pid: int, name: str, words: str, result: str, began: int) -> None:
        self.understood += 1
        if pid in self._begun:
            self._abandon(pid)
        if name in self._harmless:
            self.log.passed[name] += 1
        elif name not in self._wanted:
            self.log.wonder(name)
        else:
            if (named := NAMED_FLAGS.search(words)) is not None:
                raise UsageError(
                    f"{self.name}:{self.log.nr_lines}: {named[0]} is a name where a number is needed: record with strace -f -xx -X raw, or {HOW}"
                )
            self._keep(LoggedCall(self.log.nr_lines, pid, name, words, *_result(result), began))

    def _keep(self, event: Logged) -> None:
        self.log.events.append(event)
        if len(self.log.events) > MOST_CALLS:
            raise UsageError(
                f"{self.name} has more than {MOST_CALLS:,} calls of memory, files and processes: record less at once"
            )

    def _end_or_notice(self, pid: int, rest: str) -> None:
        nr = self.log.nr_lines
        if (exited := _EXITED.fullmatch(rest)) is not None:
            self._gone(LoggedEnd(nr, pid, "exited", int(exited[1])))
        elif _KILLED.fullmatch(rest) is not None:
            self._gone(LoggedEnd(nr, pid, "killed", 0))
        elif (superseded := _SUPERSEDED.fullmatch(rest)) is not None:
            execve = self._begun.pop(int(superseded[1]), None)
            self._gone(LoggedEnd(nr, pid, "superseded", int(superseded[1])))
            if execve is not None:  # which a thread has begun, and from now on it has its process's pid
                self._begun[pid] = execve
        elif _NOTICES.fullmatch(rest) is not None:
            pass
        elif (mode := _OTHER_MODE.fullmatch(rest)) is not None:
            self.log.wonder(f"a program of {printable(mode[1])}")
        else:
            self.log.wonder("a line that strace does not print")
            return
        self.understood += 1

    def _gone(self, end: LoggedEnd) -> None:
        self._begun.pop(end.pid, None)
        self._keep(end)

    def close(self) -> None:
        """What never returned, for the log ends."""
        for pid in list(self._begun):
            if self._begun[pid][0] in self._wanted:
                self._abandon(pid)


def _result(said: str) -> tuple[int | None, str]:
    """What a call has returned, and its error. `said` may go on in words."""
    found = _RESULT.match(said)
    if found is None:
        return None, ""
    value = int(found[1], 16 if found[1].startswith("0x") else 10)
    if abs(value) >> 64:
        return None, ""
    if value == -1 and found[2]:
        return -1, found[3] or found[2]
    return value, ""


def _in_order(events: list[Logged]) -> None:
    """Put births before the first line of the child, and what gives something back where it has begun. O(n log n)."""
    lines: dict[int, list[int]] = {}
    for event in events:
        lines.setdefault(event.pid, []).append(event.line if isinstance(event, LoggedEnd) else event.began)
    place: dict[int, float] = {}
    for event in events:
        if isinstance(event, LoggedEnd) or event.began == event.line:
            continue
        if event.name in GIVE_BACK:
            place[event.line] = event.began
        elif event.name in BIRTHS and event.result is not None:
            of_child = lines.get(event.result, [])
            first = bisect_right(of_child, event.began)
            if first < len(of_child) and of_child[first] < event.line:
                place[event.line] = of_child[first] - 0.5
    if place:
        events.sort(key=lambda event: place.get(event.line, event.line))
