"""How fast a log is replayed, beside a hand-written loop over the same calls of the same tasks with their arguments at hand.

    python -m benchmarks.replay [LOG]        the bar: replay makes at least half as many calls a second

The loop's list is taken down while a log is replayed: whose method was called with which arguments, among them those that begin programs and touch
memory. Both run in turns, on systems of their own; the best of each counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmaplab.calls.task import Task
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System, boot
from rmaplab.lab.replay.plan import Plan
from rmaplab.lab.replay.player import LogPlayer
from rmaplab.lab.replay.run import ReplayWatch, read_plan

LOGS = Path(__file__).parent.parent / "tests/data/logs"
KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7", "6.18")
BOX = Box(ram="1G", paging="x86-64")
TIMES = 7
BORN = {"fork", "vfork", "thread", "clone_vm"}
CALLS = [
    "add_seals",
    "brk",
    "clone_vm",
    "close",
    "dup",
    "execve",
    "exit",
    "fallocate",
    "fork",
    "fsync",
    "ftruncate",
    "madvise",
    "memfd_create",
    "mincore",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mprotect",
    "mremap",
    "mseal",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "open",
    "open_zero",
    "pread",
    "pwrite",
    "read_file",
    "remap_file_pages",
    "set_vma_name",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "thread",
    "touch",
    "vfork",
    "write_file",
    "limit_as",
    "limit_data",
    "limit_memlock",
    "limit_nproc",
    "limit_stack",
    "mbind",
]

OURS = ("begin_heap", "bury", "seek")
"""What the player does itself: no call is there for it."""
Made = list[tuple[int, str, tuple[Any, ...], dict[str, Any]]]


def taken_down(kernel: str, plan: Plan) -> Made:
    """The calls of one replay: by whom (the number-th task that was born), which, with what. Files are numbered, too."""
    made: Made = []
    tasks: dict[int, int] = {}
    files: dict[int, int] = {}
    depth = 0
    kept: list[object] = []  # so that no id comes again

    def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(task: Task, *about: Any, **named: Any) -> Any:
            nonlocal depth
            if id(task) not in tasks:
                tasks[id(task)] = len(tasks)
                kept.append(task)
                made.append((0, "spawn", (), {}))
            if not depth:
                words = tuple(
                    _File(files.setdefault(id(w), len(files)), w.size, w.on_disk) if name == "open" else w
                    for w in about
                )
                kept.extend(about)
                made.append((tasks[id(task)], name, words, named))
            depth += 1
            try:
                result = method(task, *about, **named)
            finally:
                depth -= 1
            if name in BORN and not depth:
                tasks[id(result)] = len(tasks)
                kept.append(result)
            return result

        return call

    def by_player(name: str, method: Callable[..., None]) -> Callable[..., None]:
        def call(player: LogPlayer, task: Task, *about: int) -> None:
            made.append((tasks[id(task)], name, about, {}))
            method(player, task, *about)

        return call

    before = {name: getattr(Task, name) for name in CALLS}
    others = {name: getattr(LogPlayer, name) for name in OURS}
    try:
        for name, method in others.items():
            setattr(LogPlayer, name, by_player(name, method))
        for name, method in before.items():
            setattr(Task, name, watched(name, method))
        LogPlayer(boot(kernel, BOX), plan, "used").play(lambda: None)
    finally:
        for name, method in before.items():
            setattr(Task, name, method)
        for name, method in others.items():
            setattr(LogPlayer, name, method)
    return made


class _File:
    """A file of a list."""

    def __init__(self, number: int, size: int, on_disk: bool) -> None:
        self.number, self.size, self.on_disk = number, size, on_disk


def loop(system: System, made: Made) -> float:
    """Seconds that a loop over these takes."""
    tasks: list[Task] = []
    files: dict[int, Any] = {}
    none = LogPlayer(system, Plan(), "used")
    began = time.perf_counter()
    for who, name, about, named in made:
        if name == "spawn":
            tasks.append(system.spawn())
            continue
        if name in OURS:
            getattr(none, name)(tasks[who], *about)
            continue
        if name == "open":
            file = about[0]
            if file.number not in files:
                files[file.number] = system.new_file(size=file.size, on_disk=file.on_disk)
            about = (files[file.number],)  # noqa: PLW2901
            about[0].size = max(about[0].size, file.size)  # a program's: it is as long as what is mapped of it
        try:
            result = getattr(tasks[who], name)(*about, **named)
        except OSError:
            continue
        if name in BORN:
            tasks.append(result)
    return time.perf_counter() - began


def counted(system: System) -> dict[str, int]:
    """What a kernel has done, its system calls left out."""
    return {name: nr for name, nr in system.machine.ledger.counts.items() if name != "syscall"}


def main() -> None:
    """A line for each log and kernel."""
    logs = [Path(name) for name in sys.argv[1:]] or sorted(LOGS.glob("*.log.gz"))
    print("calls a second, the best of", TIMES)
    for log in logs:
        began = time.perf_counter()
        plan = read_plan(log)
        reading = time.perf_counter() - began
        for kernel in KERNELS:
            made = taken_down(kernel, plan)
            loops, replays = [], []
            for _ in range(TIMES):
                looped, system = boot(kernel, BOX), boot(kernel, BOX)
                loops.append(loop(looped, made))
                player = LogPlayer(system, plan, "used")
                watch = ReplayWatch(system, player, 0)
                began = time.perf_counter()
                player.play(watch)
                replays.append(time.perf_counter() - began)
                if counted(looped) != counted(system):
                    raise SystemExit(f"{log.name} on {kernel}: the loop has not done what the replay did")
            one, other = len(made) / min(loops), len(made) / min(replays)
            whole = len(made) / (min(replays) + reading)
            print(
                f"{log.name:18} {kernel:14} {len(made):6,} calls   loop {one:9,.0f}   replay {other:9,.0f}   ratio {other / one:.2f}"
                f"   with the reading of the log {whole / one:.2f}"
            )


if __name__ == "__main__":
    main()
