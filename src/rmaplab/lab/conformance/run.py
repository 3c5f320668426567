"""Scripts of system calls, as data: run on a system, compared with a plain model of memory, written down as Python.

    Step(Mmap(task=0, at=Place(0, 0), nr_pages=2, ...))     tasks and addresses are indexes, so that a step may be
    Step(Fork(task=0), fail_after=3)                        left out and the rest still means something
    Step(Touch(task=1, at=Place(0, 1), ...))

A place is an address that some call has returned, the heap, or the border at 1 GiB where page tables end in every format; and
an offset in pages. Index 0 is the latest one at which the task has something mapped. A run writes down what it does as it happens, with the plain API and
nothing else: so the lines of a run that went wrong go wrong again on their own.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from rmaplab.calls.task import Task
from rmaplab.calls.words import FlagsKind, ProtKind
from rmaplab.errors import NoMemory, NotModelled, OomKilled, SegmentationFault, SyscallError
from rmaplab.kernels.system import System
from rmaplab.lab.memory import Memory, Stake
from rmaplab.objects.mm_types import MmStruct
from rmaplab.reclaim.page_out import drop_unused
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

BORDER = 1 << 30
MOST_TASKS, MOST_PAGES = 6, 2500  # alive, and mapped by all of them: no call is short of memory unless told to be
LETTERS = "abcdefghijklmnopqrsuvwxyz"  # of addresses; t1, t2 ... are tasks
NAMES = re.compile(r"\b(?:PROT|MAP|MREMAP|MADV|MLOCK)_[A-Z_]+\b")


class Named(int):
    """A number that a script writes in words: `a + 2 * PAGE`."""

    text: str

    def __new__(cls, value: int, text: str) -> Self:
        """`value`, written as `text`."""
        number = super().__new__(cls, value)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text

    def plus(self, nr: int) -> "Named":
        """The address so many pages further on."""
        sign = "-" if nr < 0 else "+"
        return Named(self + nr * PAGE_SIZE, f"{self.text} {sign} {pages(abs(nr))!r}" if nr else self.text)


def pages(nr: int) -> Named:
    """A length in pages."""
    return Named(nr * PAGE_SIZE, "PAGE" if nr == 1 else f"{nr} * PAGE")


def named(kind: FlagsKind | ProtKind, value: int) -> Named:
    """Flags or a protection, by the names of their constants."""
    return Named(value, kind.constants(value))


@dataclass(frozen=True)
class Spot:
    """An address: the `index`-th that there is a name for, `page` pages further on."""

    index: int
    page: int


@dataclass(eq=False)
class ModelProcess:
    """A task that lives, what its script calls it, and what it must see."""

    task: Task
    name: str
    memory: Memory

    @property
    def mm(self) -> MmStruct:
        """Its address space."""
        if self.task.mm is None:
            raise AssertionError(f"{self.name} has lost its address space")
        return self.task.mm


class Refused(Exception):
    """A call did not do what it was asked to, as it may; or there is nothing to call. The step is over."""


class Operation(Protocol):
    """One system call, or a few that belong together."""

    def run(self, run: "Run") -> None:
        """Make the call, then do to the model what it should have done to memory. Raises Refused."""


@dataclass(frozen=True)
class Step:
    """An operation. With `fail_after` one allocation fails, after so many that are granted."""

    op: Operation
    fail_after: int | None = None


class Run:
    """A script on its way. `lines` is what has been done so far, `preamble` how the system was booted.

    On a `scarce` box memory is out again and again: every call may fail, and NoMemory is one way to. `nr_short` counts; `killed` tasks were in a page fault.
    """

    def __init__(self, system: System, preamble: str, *, scarce: bool = False) -> None:
        self.scarce = scarce
        self.nr_short = self.killed = 0
        self.system = system
        self.preamble = preamble
        self.lines: list[str] = []
        self.processes: list[ModelProcess] = []
        heap = system.machine.paging.heap_base
        self.places = [Named(BORDER, f"{BORDER:#x}"), Named(heap, f"{heap:#x}")]
        self.nr_calls = self.nr_stamps = self._nr_tasks = 0
        self._free_at_boot = system.machine.allocator.nr_unused
        self.armed = False

    # -- what operations are made of ---------------------------------------------------------------------------------

    def process(self, index: int) -> ModelProcess:
        """One of those that live. Raises Refused if none does."""
        if not self.processes:
            raise Refused
        return self.processes[index % len(self.processes)]

    def place(self, process: ModelProcess, place: Spot) -> Named:
        """The address that it means now, to this process: first come the places where it has something mapped."""
        latest = [*reversed(self.places)]  # sorted() is stable: among equals the latest stays first
        latest.sort(key=lambda named: named >> PAGE_SHIFT not in process.memory.prots)
        return latest[place.index % len(latest)].plus(place.page)

    def length(self, process: ModelProcess, at: Named, nr_pages: int) -> int:
        """So many pages; 0 means to the end of what is mapped alike from there on: where mappings meet, they merge."""
        first = at >> PAGE_SHIFT
        return nr_pages or process.memory.alike(first)[-1] + 1 - first

    def need_room(self, nr_pages: int) -> None:
        """Raises Refused where so many pages more would be too many."""
        if sum(len(process.memory.prots) for process in self.processes) + nr_pages > MOST_PAGES:
            raise Refused

    def call(
        self,
        process: ModelProcess,
        method: Callable[..., Any],
        *arguments: object,
        target: str = "",
        refusable: bool = False,
        stake: Stake = Stake(),  # noqa: B008
        **options: object,
    ) -> Any:
        """A system call; its result, under the name `target`. It may fail if memory is short or it is `refusable`: Refused then."""
        line = self._write(process.name, method.__name__, arguments, options, target)
        try:
            return method(process.task, *arguments, **options)
        except (SyscallError, NoMemory, NotModelled) as failure:
            stuck = isinstance(failure, NoMemory) and not failure.undone
            self._short(failure, refusable=refusable and not stuck)
            if stuck:  # it would hang there, and never hear where its memory is
                self.exit(process)
                raise Refused from None
        changed = process.memory.adopt(self.system, process.mm, stake)
        self.claim(changed is None, f"{line} failed, and has changed {changed}")
        raise Refused

    def access(
        self, process: ModelProcess, at: Named, nr_pages: int = 1, stamp: bytes = b"", *, write: bool = False
    ) -> None:
        """Touch so many pages, or store `stamp`. It must fault where the model forbids it; Refused then, or if memory was short."""
        options: dict[str, Any] = {"write": True} if write and not stamp else {}
        method: Callable[..., None] = Task.write if stamp else Task.touch
        arguments = (at, stamp or pages(nr_pages))
        line = self._write(process.name, method.__name__, arguments, options)
        bad = process.memory.fault(at >> PAGE_SHIFT, nr_pages, write=write)
        try:
            method(process.task, *arguments, **options)
        except SegmentationFault as fault:
            if bad is None or fault.address != bad << PAGE_SHIFT:
                raise
            self._suppress("SegmentationFault")
        except (OomKilled, NoMemory) as failure:
            self._short(failure)
            if isinstance(failure, OomKilled):
                self.killed += 1
                self.processes.remove(process)
        else:
            self.claim(bad is None, f"{line} must be a SegmentationFault")
            return
        raise Refused

    def start(self, memory: Memory, make: Callable[[str], Task]) -> ModelProcess:
        """The next task, as `make(its name)` makes it."""
        if len(self.processes) >= MOST_TASKS:
            raise Refused
        name = f"t{self._nr_tasks + 1}"
        process = ModelProcess(make(name), name, memory)
        self._nr_tasks += 1
        self.processes.append(process)
        return process

    def next_letter(self) -> str:
        """The name of the next address."""
        turn, letter = divmod(len(self.places) - 2, len(LETTERS))
        return f"{LETTERS[letter]}{turn or ''}"

    def found(self, address: int) -> None:
        """The address that next_letter() stands for."""
        self.places.append(Named(address, self.next_letter()))

    def spawn(self) -> None:
        """A task out of nothing."""

        def make(name: str) -> Task:
            self._write("system", "spawn", (), {}, name)
            try:
                return self.system.spawn()
            except (SyscallError, NoMemory) as failure:
                self._short(failure)
            raise Refused

        first = self.start(Memory(), make)
        if self.system.kernel.rules.mlock_needs_capability:  # or nothing would ever be locked
            self._write(first.name, Task.cap_ipc_lock.__name__, (), {"granted": True})
            first.task.cap_ipc_lock(granted=True)

    def exit(self, process: ModelProcess) -> None:
        """One less."""
        self.call(process, Task.exit)
        self.processes.remove(process)

    def claim(self, holds: bool, what: str) -> None:
        """What must be so, as an assertion or in words; if it is not, the script ends with it. Raises AssertionError."""
        if not holds:
            self.lines.append(what if what.startswith("assert ") else f"raise AssertionError({what!r})")
            raise AssertionError(what.removeprefix("assert "))

    def _write(
        self, who: str, method: str, arguments: Sequence[object], options: dict[str, object], target: str = ""
    ) -> str:
        words = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in options.items())]
        line = f"{who}.{method}({', '.join(words)})"
        if target:
            line = f"{target} = {line}"
        self.nr_calls += 1
        self.lines.append(line)
        return line

    def _short(self, failure: Exception, *, refusable: bool = False) -> None:
        """A call has failed: the line says so, if it may. Raises the failure again where it may not."""
        expected = self.scarce or (
            (self.armed or refusable) and not (isinstance(failure, NoMemory) and failure.waiting_helps)
        )
        if not expected:
            raise failure
        self.nr_short += not refusable and not self.armed
        self._suppress("NoMemory" if isinstance(failure, NoMemory) else type(failure).__name__)

    def _suppress(self, error: str) -> None:
        self.lines[-1] = f"with suppress(rmaplab.{error}):\n    {self.lines[-1]}"

    # -- a script ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The first task."""
        self.spawn()
        self.verify()

    def step(self, step: Step) -> None:
        """One step, then verify(). Raises whatever a broken design raises; what makes no sense here is left out."""
        if not self.processes:
            self.spawn()
        allocator, before = self.system.machine.allocator, len(self.lines)
        armed = step.fail_after is not None
        self.armed, allocator.fail_after = armed, step.fail_after
        try:
            step.op.run(self)
        except Refused:
            pass
        finally:
            self.armed, allocator.fail_after = False, None
            if armed and len(self.lines) > before:
                self.lines.insert(before, f"system.machine.allocator.fail_after = {step.fail_after}")
        if armed and len(self.lines) > before:
            self.lines.append("system.machine.allocator.fail_after = None")
        if len(self.lines) > before:
            self.verify()

    def verify(self) -> None:
        """check(), and memory is what the model says. Raises KernelBug, AssertionError, or what the design raises."""
        self.lines.append("system.check()")
        self.system.check()
        self.lines.pop()
        for process in self.processes:
            wrong = process.memory.wrong_contents(self.system, process.mm)
            if wrong is not None:
                page, expected = wrong
                self.claim(False, f"assert {process.name}.read({page << PAGE_SHIFT:#x}, 8) == {expected!r}")
            elsewhere = process.memory.wrong_layout(process.mm)
            self.claim(elsewhere is None, f"{process.name}: {elsewhere}")

    def finish(self) -> None:
        """All tasks exit, pagevecs drain, and nothing may be left. Raises as verify()."""
        kernel, machine = self.system.kernel, self.system.machine
        while self.processes:
            self.exit(self.processes[0])
            self.verify()
        self.lines.append("system.machine.disk.settle()")
        machine.disk.settle()
        self.lines.append("system.kernel.lru_add.drain_all()")
        kernel.lru_add.drain_all()
        drop_unused(kernel)
        self.verify()
        self.claim(not kernel.mms and not kernel.tasks, "assert not system.kernel.mms and not system.kernel.tasks")
        self.claim(not kernel.design.tracked().size, "assert system.kernel.design.tracked().size == 0")
        self.claim(not machine.nr_tables, "assert system.machine.nr_tables == 0")
        committed = kernel.committed_pages + kernel.committed_drift
        files = "sum(file.nr_charged for file in system.kernel.page_cache.files.values())"
        charged = sum(file.nr_charged for file in kernel.page_cache.files.values())
        self.claim(
            committed == charged, f"assert system.kernel.committed_pages + system.kernel.committed_drift == {files}"
        )
        for name, cache in machine.caches.items():
            self.claim(not cache.nr_objects, f'assert system.machine.caches["{name}"].nr_objects == 0')
        self.lines.append("for cache in system.machine.caches.values():\n    cache.shrink()")
        for cache in machine.caches.values():
            cache.shrink()
        free = f"assert system.machine.allocator.nr_unused == {self._free_at_boot}  # as at boot"
        self.claim(machine.allocator.nr_unused == self._free_at_boot, free)

    def source(self) -> str:
        """The run as a Python script."""
        body = "\n".join(self.lines)
        names = ", ".join(sorted(set(NAMES.findall(body))))
        head = ["from contextlib import suppress", ""] if "suppress(" in body else []
        head += ["import rmaplab"]
        head += ["from rmaplab.lab.conformance.thief import Thief"] if "Thief(" in self.preamble else []
        head += [f"from rmaplab.objects.flags import {names}"] if names else []
        head += ["", "PAGE = 4096"] if "PAGE" in body else [""]
        return "\n".join([*head, self.preamble, body, ""])
