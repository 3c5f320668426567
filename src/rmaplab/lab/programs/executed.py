"""An unmodified program on one kernel: its own output and exit status, and what it has cost the kernel.

    arguments, root ----> Userland on a booted System ----> Executed: status, counts, memory at the end and at peak

The end is when the first process exits, with what others still have; the peak is each thing's own. Wall time is the host's; simulated time is believed
(cpu/userland.py, NS_A_BLOCK, and the price list).
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rmaplab.cpu.abi import X86_64
from rmaplab.cpu.binfmt import close_program, find_program, search
from rmaplab.cpu.files.filesystem import EPOCH_NS
from rmaplab.cpu.files.tree import FileTree
from rmaplab.cpu.process import Process
from rmaplab.cpu.start import enter, no_program, start
from rmaplab.cpu.userland import Bounds, Userland
from rmaplab.errors import BoundReached, SyscallError
from rmaplab.harmless import printable
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import OK, hardware_as_json, run_to_the_end
from rmaplab.units import PAGE_SIZE

NS = 10**9
PROBE_RAM = "64M"
WAITS, BOUND = "waits for ever", "ended"


@dataclass(frozen=True)
class Asked:
    """What is to be run, and what of the host it sees."""

    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    root: str = "/"
    cwd: str = "/"
    scratch: str | None = None
    bounds: Bounds = field(default_factory=Bounds)
    seed: int = 0
    epoch_ns: int = EPOCH_NS
    """When the machine is booted, since 1970."""


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of page tables and of the reverse map, objects of that by slab cache, VMAs."""

    page_tables_bytes: int
    rmap_bytes: int
    rmap_objects: dict[str, int]
    vmas: int


@dataclass
class Executed:
    """What came of a program on one kernel. `status` is what a shell would show; None if it has not ended. `outcome`: ok, a signal's name, hung, or why it did not end."""

    kernel: str
    design: str
    hardware: dict[str, Any]
    program: str
    outcome: str
    status: int | None
    why: str | None
    processes: int
    processes_peak: int
    at_exit: MemoryUse
    peak: MemoryUse
    ledger: dict[str, int]
    visits: int
    in_vain: int
    swap: dict[str, int]
    unknown_calls: dict[str, int]
    not_modelled: dict[str, str]
    """Why, of those of them that are known."""
    deaths: list[dict[str, Any]]
    oom_killed: int
    time_s: dict[str, float]
    prices: str
    blocks: int
    """Basic blocks of user code."""
    left_out: list[str] = field(default_factory=list)
    """Names that were not written below --scratch: special files, links that lead out."""
    wall_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes, times in seconds."""
        return asdict(self)


Watch = Callable[[System, Userland], None]


def execute(
    kernel: str, box: Box, asked: Asked, streams: Sequence[int] = (0, 1, 2), watch: Watch | None = None
) -> Executed:
    """Run it to its end; then all that can be recounted is, and the reverse map is laid beside the judge. `streams` are the host's descriptors that it has as 0, 1, 2. Raises UsageError: there is no such program."""
    system = boot(kernel, box)
    userland = Userland(
        system,
        FileTree(system, asked.root, seed=asked.seed, epoch_ns=asked.epoch_ns),
        bounds=asked.bounds,
        seed=asked.seed,
        streams=streams,
    )
    if watch is not None:
        watch(system, userland)
    peak = _Peak(system)
    init = start(userland, list(asked.arguments), list(asked.environment), cwd=asked.cwd)
    began, ends, left_out = time.perf_counter(), [MemoryUse(0, 0, {}, 0)], list[str]()
    userland.at_end = lambda: ends.__setitem__(0, peak.now())
    try:
        try:
            end, why = run_to_the_end(System.run, system)
        except BoundReached as failure:
            end, why = BOUND, str(failure)
        if end == OK and init.ended is None:
            end, why = WAITS, "every thread sleeps, and nobody is left to wake one"
        wall_s = time.perf_counter() - began
        if end in (OK, WAITS):
            system.check()
        if asked.scratch is not None:
            left_out = [printable(os.fsdecode(name)) for name in userland.tree.write_out(asked.scratch).left_out]
    finally:
        system.close()
    memory = ends[0], peak.peak()
    done = _told(userland, init, asked, (end, why), memory, wall_s)
    done.left_out = left_out
    return done


def _told(
    userland: Userland,
    init: Process,
    asked: Asked,
    end: tuple[str, str | None],
    memory: tuple[MemoryUse, MemoryUse],
    wall_s: float,
) -> Executed:
    """What is known when it is over: `end` is how and why, `memory` at exit and at peak."""
    system, outcome = userland.system, end[0]
    machine, k = system.machine, system.kernel
    fatal = (init.ended or 0) & 0x7F
    return Executed(
        kernel=system.spec.name,
        design=k.design.name,
        hardware=hardware_as_json(system),
        program=shlex.join(word.decode(errors="replace") for word in asked.arguments),
        outcome=signal_name(fatal) if outcome == OK and fatal else outcome,
        status=None if init.ended is None else userland.status(init),
        why=end[1],
        processes=k.nr_processes,
        processes_peak=k.nr_alive_peak,
        at_exit=memory[0],
        peak=memory[1],
        ledger=dict(sorted(machine.ledger.counts.items())),
        visits=machine.ledger.visits,
        in_vain=machine.ledger.in_vain,
        swap={"pages_in": machine.ledger.counts["pswpin"], "pages_out": machine.ledger.counts["pswpout"]},
        unknown_calls=dict(sorted(userland.unknown.items())),
        not_modelled=dict(sorted(userland.reasons.items())),
        deaths=[
            {"pid": pid, "name": name.decode(errors="replace"), "signal": signal_name(info.number)}
            for pid, name, info in userland.deaths
        ],
        oom_killed=len(system.killer.killed) if system.killer is not None else 0,
        time_s={
            "real": machine.sched.now_ns / NS,
            "user": machine.sched.user_ns / NS,
            "sys": machine.sched.system_ns / NS,
        },
        prices=machine.ledger.prices.name,
        blocks=userland.blocks,
        wall_s=wall_s,
    )


def signal_name(number: int) -> str:
    """Such as SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def width_of(asked: Asked, kernel: str) -> int:
    """How many bits the program has, 32 or 64. Raises UsageError: there is none such."""
    system = boot(kernel, ram=PROBE_RAM)
    tree, process = FileTree(system, asked.root), Process(0, None, X86_64)
    enter(tree, process, asked.cwd)
    arguments, environment = list(asked.arguments), list(asked.environment)
    try:
        path = search(system.kernel, tree, process, arguments[0], environment)
        program = find_program(system.kernel, tree, process, path, arguments, environment)
        close_program(system.kernel, program)
    except SyscallError as failure:
        raise no_program(arguments[0], failure, asked.cwd) from None
    finally:
        tree.close()
        system.close()
    return program.image.bits


class _Peak:
    """What the kernel has now, and had at most: the machine and its caches keep that themselves."""

    def __init__(self, system: System) -> None:
        self._k, self._machine = system.kernel, system.machine

    def now(self) -> MemoryUse:
        """As it is. O(caches, address spaces)."""
        caches = list(self._k.design.caches())
        return MemoryUse(
            self._machine.nr_tables * PAGE_SIZE,
            sum(cache.bytes for cache in caches),
            {cache.name: cache.nr_objects for cache in caches},
            sum(len(mm.vmas) for mm in self._k.mms.values()),
        )

    def peak(self) -> MemoryUse:
        """Each at its own peak."""
        caches = list(self._k.design.caches())
        return MemoryUse(
            self._machine.nr_tables_peak * PAGE_SIZE,
            sum(cache.bytes_peak for cache in caches),
            {cache.name: cache.nr_objects_peak for cache in caches},
            self._k.vma_cache.nr_objects_peak,
        )
