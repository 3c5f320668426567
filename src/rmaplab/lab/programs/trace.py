"""A timeline of a run in Chrome's trace format: which task each CPU ran, and memory, faults and reclaim as counters.

    process "CPUs"     CPU 0   |sh 1|cat 2 (user)|cat 2|....|sh 1|          a piece of work each; neighbours of one task and mode are one
                       CPU 1   ..|kswapd|...
    process "memory"   free, page tables, reverse map, anonymous, swap       every so often in simulated time
    process "events"   faults, COW, pages out and in, by sample
    process "programs" an instant each: fork, execve, exit, a fatal signal

Load the file in chrome://tracing, https://ui.perfetto.dev or viztracer's vizviewer. Times are simulated, in microseconds.

Source: "Trace Event Format" (Duffy, Sinclair, Google, 2016): X, C, i and M events.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmaplab.cpu.userland import Userland
from rmaplab.files import write_text
from rmaplab.kernels.system import System
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.mm.page_state import FAULTS
from rmaplab.objects.task import TaskStruct
from rmaplab.units import PAGE_SIZE

CPUS, MEMORY, EVENTS, PROGRAMS = 1_000_001, 1_000_002, 1_000_003, 1_000_004
"""Processes of the trace: no thread has such a number, or it would be shown as their first."""
FIRST_CPU = 1
US = 1000
MOST_PIECES = 400_000
MOST_SAMPLES = 5_000
FIRST_PERIOD_NS = 100_000
COUNTED = {
    "faults": FAULTS,
    "reclaim": ("pgscan", "pgsteal", "pswpout", "pswpin"),
    "walks": ("visits", "in_vain"),
}


class Trace:
    """An observer of the scheduler (machine.sched.Observer) and of the programs of a userland."""

    def __init__(self, system: System, userland: Userland) -> None:
        self._system, self._userland = system, userland
        self._sched, self._ledger = system.machine.sched, system.machine.ledger
        self._pieces: list[list[Any]] = []
        self._last: dict[int, list[Any]] = {}
        self._samples: list[dict[str, Any]] = []
        self._instants: list[dict[str, Any]] = []
        self._names: dict[int, str] = {}
        self._period_ns = FIRST_PERIOD_NS
        self._before = self._ledger.counts.copy()
        self.dropped = 0
        self._sched.observer = self
        userland.told = self.told
        self._sched.at(self._sched.now_ns, self._sample, watches=True)

    def burst(self, entity: SchedEntity, ns: int) -> None:
        """Only pieces are drawn."""

    def work(self, entity: SchedEntity, began_ns: int, ended_ns: int, *, user: bool) -> None:
        """A piece of work on a CPU."""
        cpu = entity.cpu
        if cpu is None or ended_ns <= began_ns:
            return
        last = self._last.get(cpu.index)
        name = self._name(entity)
        if last is not None and last[1] == name and last[4] == user and last[3] == began_ns:
            last[3] = ended_ns
            return
        if len(self._pieces) >= MOST_PIECES:
            self.dropped += 1
            return
        piece = [cpu.index, name, began_ns, ended_ns, user]
        self._last[cpu.index] = piece
        self._pieces.append(piece)

    def told(self, what: str, pid: int, more: str) -> None:
        """A program does something: fork, execve, exit."""
        process = self._userland.processes.get(pid)
        if process is not None:
            self._names[pid] = f"{process.name.decode(errors='replace')} {pid}"
        if len(self._instants) < MOST_PIECES:
            self._instants.append(
                {
                    "ph": "i",
                    "s": "t",
                    "pid": PROGRAMS,
                    "tid": pid,
                    "ts": self._sched.now_ns / US,
                    "name": what,
                    "args": {"what": more},
                }
            )

    def _name(self, entity: SchedEntity) -> str:
        if isinstance(entity, TaskStruct):
            thread = self._userland.threads.get(entity.pid)
            return (
                f"{thread.process.name.decode(errors='replace')} {entity.pid}"
                if thread is not None
                else f"task {entity.pid}"
            )
        return entity.comm or type(entity).__name__

    def _sample(self) -> None:
        """What memory is, and what has happened since the last one."""
        now, k, machine = self._sched.now_ns / US, self._system.kernel, self._system.machine
        memory = {
            "free": machine.allocator.nr_free,
            "page tables": machine.nr_tables,
            "reverse map": sum(cache.bytes for cache in k.design.caches()) // PAGE_SIZE,
            "mapped": sum(mm.rss for mm in k.mms.values()),
        }
        for name, value in memory.items():
            self._samples.append({"ph": "C", "pid": MEMORY, "ts": now, "name": name, "args": {"pages": value}})
        counts = self._ledger.counts
        for name, operations in COUNTED.items():
            values = {
                operation: counts[operation] - self._before[operation] for operation in operations if counts[operation]
            }
            if values:
                self._samples.append({"ph": "C", "pid": EVENTS, "ts": now, "name": name, "args": values})
        self._before = counts.copy()
        if len(self._samples) > MOST_SAMPLES * len(memory):  # half as often from now on
            self._period_ns *= 2
            self._samples = self._samples[::2]
        self._sched.at(self._sched.now_ns + self._period_ns, self._sample, watches=True)

    def events(self) -> Iterator[dict[str, Any]]:
        """All of it, names first."""
        for pid, name in ((CPUS, "CPUs"), (MEMORY, "memory"), (EVENTS, "events"), (PROGRAMS, "programs")):
            yield {"ph": "M", "pid": pid, "tid": 0, "ts": 0, "name": "process_name", "args": {"name": name}}
        for pid, name in sorted(self._names.items()):
            yield {"ph": "M", "pid": PROGRAMS, "tid": pid, "ts": 0, "name": "thread_name", "args": {"name": name}}
        for cpu in self._sched.cpus:
            yield {
                "ph": "M",
                "pid": CPUS,
                "tid": FIRST_CPU + cpu.index,
                "ts": 0,
                "name": "thread_name",
                "args": {"name": f"CPU {cpu.index}"},
            }
        for (
            cpu_index,
            name,
            began,
            ended,
            user,
        ) in self._pieces:  # a ns less, or those that round would see neighbours overlap
            yield {
                "ph": "X", "pid": CPUS, "tid": FIRST_CPU + cpu_index, "ts": began / US, "dur": max(ended - began - 1, 1) / US, "name": name,
                "cat": "user" if user else "kernel", "args": {"mode": "user" if user else "kernel"},
            }  # fmt: skip
        yield from self._instants
        yield from self._samples

    def write(self, path: Path) -> None:
        """As a file. Raises UsageError."""
        text = json.dumps({"traceEvents": list(self.events()), "displayTimeUnit": "ms"}, separators=(",", ":"))
        write_text(path, "--timeline", text)
