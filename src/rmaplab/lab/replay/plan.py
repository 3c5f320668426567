"""What a log says, worked out once for all kernels: a list of steps.

    log    6860  mmap(NULL, 1974096, 0x1, 0x802, 3, 0) = 0x7f8329fd6000         step   process 0: mmap, region 7: 1,974,096 bytes of descriptor 3
           6860  mprotect(0x7f832a1a5000, 16384, 0x1) = 0                              process 0: mprotect, 16,384 bytes of region 7 from 0x1cf000 on

A ReplayStep's `call` names a method of the player (player.py), `about` are its arguments. `error` is what the call has come to on the host: "" if it
went well, else an errno's name; None for what is no call of the program, such as the touching of a page that a call shows to have been used.

Processes have numbers of their own, in the order of their births: a pid may come again.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rmaplab.errors import UsageError
from rmaplab.lab.replay.places import HostSpace, Image, ProgramPart, RegionPiece
from rmaplab.workloads.strace_log import Log, LoggedCall
from rmaplab.workloads.strace_words import BadWord, split

MOST_COPIED = 20_000_000
"""Stretches and descriptors that forks may copy, in all: one of 65,530 mappings (max_map_count) three hundred times."""
MOST_FILES = 200_000


class ReplayStep(NamedTuple):
    """One call of process `who`, of the log's `line`."""

    line: int
    who: int
    call: str
    about: tuple[Any, ...]
    error: str | None = ""


@dataclass
class LoggedFile:
    """A file of the host, as far as calls show it: `size` in bytes before anybody has changed it, which is `sure` if fstat said it."""

    size: int = 0
    on_disk: bool = True
    zero: bool = False
    sure: bool = False
    changed: bool = False

    def reaches(self, size: int) -> None:
        """It must have had so many bytes, at least."""
        if not self.changed and not self.sure:
            self.size = max(self.size, size)

    def says(self, size: int) -> None:
        """It has so many bytes now."""
        if not self.changed:
            self.size, self.sure = size, True


@dataclass
class Plan:
    """The steps, of `nr_regions` regions, `nr_segments` segments and these files; and what of the log is not among them."""

    steps: list[ReplayStep] = field(default_factory=list)
    files: list[LoggedFile] = field(default_factory=list)
    nr_regions: int = 0
    nr_segments: int = 0
    threads: list[bool] = field(default_factory=list)
    """By number, whether it is a thread of another."""
    root: bool = False
    """Whether the first process is root's."""
    nr_lines: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    """Calls that concern nobody's memory."""
    misunderstood: Counter[str] = field(default_factory=Counter)

    @property
    def nr_processes(self) -> int:
        """Tasks, threads among them."""
        return len(self.threads)

    @property
    def nr_calls(self) -> int:
        """Steps that are calls of the program."""
        return sum(step.error is not None for step in self.steps)


@dataclass
class LoggedDescriptor:
    """What a descriptor of the host means."""

    file: int
    closes_on_exec: bool


class LoggedTask:
    """A process or a thread of the host. `number` is ours; a thread has its process as `leader`."""

    def __init__(self, number: int, pid: int, space: HostSpace, fds: dict[int, LoggedDescriptor]) -> None:
        self.number, self.pid = number, pid
        self.space, self.fds = space, fds
        self.leader: LoggedTask = self
        self.threads: list[LoggedTask] = []
        self.alive = True
        self.leaves_last = False
        """It has called exit while threads of its process go on."""
        self.vforked = -1
        """Which step was the vfork of a child that has its address space."""
        self.lender: LoggedTask | None = None
        """Who waits until this one needs its address space no more."""

    def give_back(self) -> None:
        """It needs nobody's address space any more."""
        if self.lender is not None:
            self.lender.vforked, self.lender = -1, None


class Planner:
    """What all calls are planned with: who there is, and where the steps go."""

    def __init__(self, log: Log) -> None:
        self.log, self.plan = log, Plan(nr_lines=log.nr_lines, passed=log.passed, misunderstood=log.misunderstood)
        self.tasks: dict[int, LoggedTask] = {}
        self.names: dict[bytes, int] = {}
        self.segments: dict[int, tuple[int, int]] = {}
        self._copied = 0

    def add(self, event: LoggedCall, who: LoggedTask, call: str, *about: Any) -> None:
        """A step that is this call."""
        self._goes_on(who)
        self.plan.steps.append(ReplayStep(event.line, who.number, call, about, event.error))

    def beside(self, line: int, who: LoggedTask, call: str, *about: Any) -> None:
        """A step that is no call of the program."""
        self._goes_on(who)
        self.plan.steps.append(ReplayStep(line, who.number, call, about, None))

    def _goes_on(self, who: LoggedTask) -> None:
        """Who goes on before the line that says that its vfork child needs its address space no more has not waited: to us it is a clone."""
        if who.vforked >= 0:
            step = self.plan.steps[who.vforked]
            self.plan.steps[who.vforked] = step._replace(call="clone_vm")
            who.vforked = -1

    def region(self) -> int:
        """A new one."""
        self.plan.nr_regions += 1
        return self.plan.nr_regions - 1

    def words(self, event: LoggedCall, least: int) -> list[str]:
        """Its arguments. Raises BadWord where there are fewer."""
        words = split(event.words)
        if len(words) < least:
            raise BadWord(f"{len(words)} arguments")
        return words

    def image(self, path: bytes | None, file: int | None) -> Image:
        """Plan a program that begins: of what it consists, if the log knows."""
        facts = None if path is None else self.log.images.get(path)
        interpreter = None if facts is None else facts.interpreter
        loader = None if interpreter is None else self.log.images.get(interpreter)
        loader_file = None if interpreter is None else self.named_file(interpreter)
        parts = (ProgramPart(self.region(), each) for each in (facts, loader, None))
        return Image(file, loader_file, *parts)

    def named_file(self, name: bytes, *, fresh: bool = False) -> int:
        """The number of the file that a name means; `fresh`: it is a new one. Raises BadWord where there are too many."""
        if fresh or name not in self.names:
            memory = name.startswith(b"/dev/shm/")
            self.names[name] = self.new_file(on_disk=not memory, zero=name == b"/dev/zero")
        return self.names[name]

    def new_file(self, *, on_disk: bool, zero: bool = False) -> int:
        """The number of one more. Raises BadWord where there are too many."""
        if len(self.plan.files) >= MOST_FILES:
            raise BadWord("too many files")
        self.plan.files.append(LoggedFile(on_disk=on_disk, zero=zero))
        return len(self.plan.files) - 1

    def new_task(self, pid: int, space: HostSpace, fds: dict[int, LoggedDescriptor]) -> LoggedTask:
        """One more."""
        task = self.tasks[pid] = LoggedTask(len(self.plan.threads), pid, space, fds)
        self.plan.threads.append(False)
        return task

    def who(self, line: int, pid: int, *, begins: bool = False) -> LoggedTask:
        """The task of that pid; one of which nobody has seen the birth is there from here on, with a program, unless it `begins` one."""
        task = self.tasks.get(pid)
        if task is None:
            image = self.image(None, None)
            task = self.new_task(pid, HostSpace(image), {})
            self.beside(line, task, "spawn", None if begins else image)
        return task

    def copied(self, who: LoggedTask) -> HostSpace:
        """A child's address space. Raises UsageError for a log that forks more than anybody can."""
        self._copied += who.space.nr_stretches + len(who.fds)
        if self._copied > MOST_COPIED:
            raise UsageError("the log's forks copy more mappings than can be kept: record less at once")
        return who.space.copy()

    def touch(self, line: int, who: LoggedTask, start: int, length: int, *, write: bool = True) -> None:
        """A call shows that this memory is used: it is in memory then. What is nowhere is passed over."""
        if length <= 0 or start <= 0:
            return
        first, last = start >> 12, (start + length - 1) >> 12
        touched = who.space.touched
        if last - first < 16 and all(page in touched for page in range(first, last + 1)):
            return
        pieces = who.space.pieces(start, start + length)
        if pieces is None:
            return
        if last - first < 16:
            touched.update(range(first, last + 1))
        for piece in pieces:
            self.beside(line, who, "touch", piece, write)

    def pieces(self, event: LoggedCall, who: LoggedTask, start: int, length: int) -> tuple[RegionPiece, ...] | None:
        """What a call is about; None, and counted, where that is nowhere."""
        found = who.space.pieces(start, start + max(length, 1))
        if found is None:
            self.log.wonder(f"{event.name} of what is not known to be mapped")
            return None
        if length <= 0:
            return (found[0]._replace(length=length),)
        return tuple(found)
