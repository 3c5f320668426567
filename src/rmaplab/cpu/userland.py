"""The user land of a simulated machine: its processes, how they end, and what they share. How one begins is start.py.

    Userland --> processes by pid --> threads            one tree of files, one engine, one clock for all of them

Source: 6.18 kernel/exit.c, do_exit, exit_notify, forget_original_parent, wait_task_zombie.
"""

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from weakref import WeakValueDictionary

from rmaplab.cpu.abi import NS
from rmaplab.cpu.engine import CpuEngine, Space
from rmaplab.cpu.files.streams import OutputLimit
from rmaplab.cpu.files.tree import FileTree
from rmaplab.cpu.pending import SignalInfo
from rmaplab.cpu.process import SA_NOCLDWAIT, SIG_IGN, SIGCHLD, MemberThread, Process, how
from rmaplab.cpu.syscalls.registry import NAMES
from rmaplab.cpu.unicorn_engine import UnicornEngine
from rmaplab.cpu.waiting import ALL, WaitQueue
from rmaplab.errors import BoundReached
from rmaplab.kernels.system import System
from rmaplab.mm.process import release_task
from rmaplab.objects.flags import VM_EXEC
from rmaplab.objects.mm_types import MmStruct

NS_A_BLOCK = 4
"""User time: believed, some five instructions at 2.4 GHz."""
CYCLES_A_US = 2400
RELEASE = "6.18.0"
MOST_SECONDS = 1 << 31
"""Of simulated time: cycles since boot, and nanoseconds since 1970, are words of 64 bits."""
SIGKILL = 9


@dataclass(frozen=True)
class Bounds:
    """What ends a run: so many bytes written to the host, basic blocks, processes at once, seconds of simulated time."""

    output_bytes: int = 64 << 20
    blocks: int = 1 << 40
    processes: int = 30_000
    simulated_s: int = 1 << 30


class Userland:
    """All programs of one system."""

    def __init__(
        self,
        system: System,
        tree: FileTree,
        *,
        bounds: Bounds | None = None,
        seed: int = 0,
        streams: Sequence[int] = (0, 1, 2),
    ) -> None:
        self.system, self.kernel = system, system.kernel
        system.userland = self
        self.tree = tree
        self.bounds = bounds or Bounds()
        self.epoch_ns = tree.epoch_ns
        self.widths = (64,) if self.kernel.machine.paging.word_bytes == 8 else (32,)
        self.loaders_lie_with_mmap = bool(system.figure("exec_loaders_lie_with_mmap"))
        self.extra_stack_bytes = system.figure("exec_extra_stack_bytes")
        self.calls: dict[int, dict[int, Callable[..., int]]] = {}
        """System calls by width and number, once a program has begun (start.py)."""
        self.processes: dict[int, Process] = {}
        self.threads: dict[int, MemberThread] = {}
        self.init: Process | None = None
        self.blocks = 0
        self.unknown: Counter[str] = Counter()
        """Calls that were answered with ENOSYS, by name."""
        self.reasons: dict[str, str] = {}
        """Why, of those that are known, and of which something was asked that is not modelled."""
        self.deaths: list[tuple[int, bytes, SignalInfo]] = []
        """Processes that a signal has ended: pid, name, which."""
        self.at_end: Callable[[], None] | None = None
        """Is called when the first process is about to end."""
        self.told: Callable[[str, int, str], None] | None = None
        """Is told what processes do: a word, a pid, more about it."""
        self._random = random.Random(seed)  # noqa: S311  (the same in every run)
        self._engines: dict[int, CpuEngine] = {}
        self.streams = streams
        self._futexes: WeakValueDictionary[tuple[int, int], WaitQueue] = WeakValueDictionary()
        """A queue is here as long as somebody waits in it."""
        self.output = OutputLimit(self.bounds.output_bytes)
        self._ino = 1 << 32
        system.machine.tlb.listener = self._flush
        sched = system.machine.sched
        self.longest_s = min(self.bounds.simulated_s, MOST_SECONDS)
        self._ends_ns = sched.now_ns + self.longest_s * NS
        sched.at(self._ends_ns, self.time_has_passed, watches=True)  # also where no user code runs
        tree.proc.osrelease = lambda: self.release

    @property
    def release(self) -> str:
        """What uname(2) calls the kernel: today's C libraries refuse the old ones."""
        return f"{RELEASE}-rmaplab-{self.system.spec.name}"

    # -- processes come and go ------------------------------------------------------------------------------------------

    def one_more(self) -> None:
        """A task is about to be made. Raises BoundReached: there are too many, zombies among them."""
        if len(self.kernel.tasks) >= self.bounds.processes:
            most = self.bounds.processes
            raise BoundReached(f"the program has more than {most} processes and threads: try --processes with more")

    def new_process(
        self, parent: Process, pid: int, mm: MmStruct, *, files_shared: bool, handlers_shared: bool
    ) -> Process:
        """The process of a fork's child."""
        process = self.processes[pid] = parent.fork(pid, files_shared=files_shared, handlers_shared=handlers_shared)
        space = parent.space
        if space is not None and space.mm is mm:
            process.space = space
        else:
            process.space = Space(mm)
            process.space.executable = None if space is None else space.executable
        return process

    def end_process(self, process: Process, status: int) -> None:
        """do_group_exit: every thread ends with `status` on its way to user mode."""
        if process.dying is None:
            process.dying = status
        for thread in list(process.threads):
            thread.rouse()

    def thread_gone(self, thread: MemberThread, process: Process, status: int) -> None:
        """Its task has ended. With the last thread its process is a zombie, and its parent hears of it."""
        if thread not in process.threads:
            return
        process.threads.remove(thread)
        self.threads.pop(thread.task.pid, None)
        process.user_ns += thread.task.user_ns
        process.system_ns += thread.task.system_ns
        process.threads_changed.wake()
        if thread.task is not process.first_task and self.kernel.tasks.get(thread.task.pid) is thread.task:
            release_task(self.kernel, thread.task)
        if not process.threads:
            self._process_gone(process, process.dying if process.dying is not None else status)

    def _process_gone(self, process: Process, status: int) -> None:
        process.descriptors.leave()
        process.ended = status
        if process.alarm is not None:
            process.alarm.cancel()
        adopter = self.init if self.init is not None and self.init.ended is None else None
        for child in process.children:
            child.parent = adopter
            if adopter is not None:
                adopter.children.append(child)
            elif child.ended is not None:
                self.reap(child)
        if adopter is not None and process.children:
            adopter.child_changed.wake()
        process.children = []
        parent = process.parent
        if parent is None:
            self.processes.pop(process.pid, None)
            return
        action, of_child = parent.action(SIGCHLD), process.exit_signal == SIGCHLD
        ignored = of_child and action.handler == SIG_IGN
        if process.exit_signal and not ignored:
            code, what = how(status)
            self.send(parent, SignalInfo(process.exit_signal, code, pid=process.pid, status=what))
        if ignored or (of_child and action.flags & SA_NOCLDWAIT):  # a handler has heard of it all the same
            self.reap(process)
        parent.child_changed.wake()

    def reap(self, process: Process) -> None:
        """release_task: nobody asks for it any more."""
        if process.parent is not None:
            process.parent.children.remove(process)
            process.parent.children_user_ns += process.user_ns + process.children_user_ns
            process.parent.children_system_ns += process.system_ns + process.children_system_ns
        process.parent = None
        self.processes.pop(process.pid, None)
        task = process.first_task
        if task is not None and self.kernel.tasks.get(task.pid) is task and task.exit_code is not None:
            release_task(self.kernel, task)

    # -- signals ---------------------------------------------------------------------------------------------------------

    def send(self, process: Process, info: SignalInfo) -> None:
        """A signal for a process: the first thread that wants it goes on."""
        process.pending.add(info)
        if info.number == SIGKILL:
            self.end_process(process, SIGKILL)
            return
        for thread in process.threads:
            if thread.wanted:
                thread.rouse()
                return

    def fatal_signal(self, process: Process, info: SignalInfo) -> None:
        """A signal ends a process."""
        self.deaths.append((process.pid, process.name, info))
        self.tell("killed", process.pid, f"by signal {info.number}")

    def tell(self, what: str, pid: int, more: str = "") -> None:
        """Something that a timeline shows."""
        if self.told is not None:
            self.told(what, pid, more)

    def futex(self, key: tuple[int, int]) -> WaitQueue:
        """Who waits for a word of memory, by what that is known by (Thread.futex_key). It is forgotten when nobody has it."""
        return self._futexes.setdefault(key, WaitQueue())

    def futex_wake(self, key: tuple[int, int], nr: int, bits: int = ALL) -> int:
        """FUTEX_WAKE_BITSET: how many were woken."""
        queue = self._futexes.get(key)
        return 0 if queue is None else queue.wake(nr, bits)

    def futex_requeue(self, key: tuple[int, int], other: tuple[int, int], nr: int) -> int:
        """FUTEX_REQUEUE: `nr` of those who wait at one word wait at another from now on: how many."""
        queue = self._futexes.get(key)
        if queue is None:
            return 0
        chosen, there = list(queue.sleepers)[:nr], self.futex(other)
        for sleeper in chosen if there is not queue else ():
            del queue.sleepers[sleeper]
            there.sleepers[sleeper] = None
            sleeper.stands_in(there)
        return len(chosen)

    # -- what all share --------------------------------------------------------------------------------------------------

    def engine(self, bits: int) -> CpuEngine:
        """The engine for programs of so many bits, or what stands before it; there are page tables of one kind only."""
        if bits not in self._engines:
            self._engines[bits] = UnicornEngine(self.kernel.machine, bits, 10 * NS_A_BLOCK * CYCLES_A_US // 1000)
        engine, before = self._engines[bits], self.system.before_engine
        return engine if before is None else before(engine)

    def find_executable(self, space: Space, start: int = 0, end: int | None = None) -> None:
        """Where code may be fetched from, where the kernel knows that some pages may not be executed; VMAs in [start, end) have changed. O(those + log ranges), and a copy of them where one has changed."""
        if not self.kernel.rules.knows_nx:
            return
        end = self.kernel.machine.paging.task_size if end is None else end
        found = list[tuple[int, int]]()
        for vma in space.mm.downwards(end):
            if vma.end <= start:
                break
            if vma.flags & VM_EXEC:
                found.append((max(vma.start, start), min(vma.end, end)))
        before = space.executable or []
        first = bisect_left(before, start, key=itemgetter(1))
        last = bisect_right(before, end, key=itemgetter(0))  # those that touch [start, end) among them
        found += [(low, min(high, start)) for low, high in before[first:last] if low < start]
        found += [(max(low, end), high) for low, high in before[first:last] if high > end]
        ranges = list[tuple[int, int]]()
        for low, high in sorted(found):
            if ranges and ranges[-1][1] == low:
                ranges[-1] = ranges[-1][0], high
            else:
                ranges.append((low, high))
        if space.executable is None or ranges != before[first:last]:
            space.executable = [*before[:first], *ranges, *before[last:]]
            space.version += 1

    def user_code_ran(self, blocks: int) -> None:
        """So many basic blocks more. Raises BoundReached when it is too much."""
        self.blocks += blocks
        if self.blocks > self.bounds.blocks:
            raise BoundReached(
                f"the programs have run more than {self.bounds.blocks:,} basic blocks: try --blocks with more"
            )
        self.time_has_passed()

    def time_has_passed(self) -> None:
        """Raises BoundReached when it is too much."""
        if self.kernel.machine.sched.now_ns >= self._ends_ns:
            raise BoundReached(
                f"the programs have run for more than {self.longest_s} simulated seconds: try --seconds with more"
            )

    def random_bytes(self, nr: int) -> bytes:
        """The same in every run."""
        return self._random.randbytes(nr)

    def next_ino(self) -> int:
        """The number of an inode that has no name."""
        self._ino += 1
        return self._ino

    def unknown_call(self, bits: int, number: int) -> None:
        """A call that nobody here knows."""
        self.unknown[NAMES[bits].get(number, f"call {number & 0xFFFF_FFFF}")] += 1

    def not_modelled(self, bits: int, number: int, why: str) -> None:
        """A call that is known, but not what was asked of it."""
        name = NAMES[bits].get(number, f"call {number}")
        self.unknown[name] += 1
        self.reasons[name] = why

    def status(self, process: Process) -> int:
        """The exit code of a shell for it: its own, or 128 and the signal's number."""
        assert process.ended is not None
        return 128 + (process.ended & 0x7F) if process.ended & 0x7F else process.ended >> 8

    def close(self) -> None:
        """Not to be used after."""
        self.kernel.machine.tlb.listener = None
        for engine in self._engines.values():
            engine.close()
        self.tree.close()

    def _flush(self) -> None:
        for engine in self._engines.values():
            engine.flush()
