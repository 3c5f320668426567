"""Tasks as gdb's threads: which there are, what they are called, their registers, and who is at work.

A thread's number is its pid. Threads of the kernel have none here: they are numbered from behind the last one that a pid can be. A task that runs no program,
but a workload of ours, has no registers: gdb is told zeros.
"""

from typing import Any

from rmaplab.errors import UsageError
from rmaplab.gdb import memory
from rmaplab.gdb.target import NO_CALL, SEGMENTS, Register, registers
from rmaplab.harmless import printable
from rmaplab.kernels.system import System
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.objects.mm_types import MmStruct
from rmaplab.objects.task import TaskStruct

FIRST_KERNEL_THREAD = 1 << 22
"""PID_MAX_LIMIT: no pid is so high."""
MASKS = {"eflags": 0x50CD5, "mxcsr": 0xFFBF}
"""What user mode may change of them: FLAG_MASK of 2.6.2 arch/i386/kernel/ptrace.c, without TF; MXCSR_FEATURE_MASK."""
MOST_STRINGS, MOST_AUXV = 100_000, 64
NOBODY = 1
"""Whom gdb is told where there is no task: it wants one."""


class Tasks:
    """Those of one system. `comm` is what tasks are called that have no name of their own."""

    def __init__(self, system: System, comm: str) -> None:
        self._system, self._comm = system, comm
        self.bits = 8 * system.machine.paging.word_bytes
        self._numbers: dict[SchedEntity, int] = {}

    def all(self) -> dict[int, SchedEntity]:
        """By number, in order of birth, without zombies. O(tasks)."""
        tasks = self._system.kernel.tasks.values()
        found: dict[int, SchedEntity] = {task.pid: task for task in tasks if task.exit_code is None}
        for entity in self._system.machine.sched.alive():
            if not isinstance(entity, TaskStruct):
                found[self.number_of(entity)] = entity
        return found

    def number_of(self, entity: SchedEntity) -> int:
        """What gdb calls it."""
        if isinstance(entity, TaskStruct):
            return entity.pid
        return self._numbers.setdefault(entity, FIRST_KERNEL_THREAD + len(self._numbers))

    def current(self) -> int:
        """Who is at work: whose greenlet this is, else who has a CPU, else who has called from outside, or any."""
        sched = self._system.machine.sched
        entity = sched.current or sched.running()
        entity = entity or next((cpu.current for cpu in sched.cpus if cpu.current is not None), None)
        for each in (entity, self._system.kernel.driven):
            if each is not None and getattr(each, "exit_code", None) is None:
                return self.number_of(each)
        return next(iter(self.all()), NOBODY)

    def mm(self, number: int) -> MmStruct | None:
        """Its address space; None: it has none."""
        task = self._system.kernel.tasks.get(number)
        return None if task is None else task.mm

    def thread(self, number: int) -> Any:
        """The thread of a program that it is (rmaplab.cpu.thread.Thread), once that has registers; else None."""
        userland = self._system.userland
        thread = userland.threads.get(number) if userland is not None else None
        return thread if thread is not None and thread.context is not None else None

    def name(self, number: int, entity: SchedEntity) -> str:
        """What `comm` would say. Names are whatever a program says."""
        userland = self._system.userland
        thread = userland.threads.get(number) if userland is not None else None
        if thread is not None:
            return printable(thread.process.name.decode(errors="replace"))
        return entity.comm or self._comm

    def state(self, entity: SchedEntity) -> str:
        """In a word or two."""
        cpu = entity.cpu
        if cpu is not None and cpu.current is entity:
            return f"on CPU {cpu.index}"
        if cpu is not None and (entity in cpu.queue.active or entity in cpu.queue.expired):
            return f"waits for CPU {cpu.index}"
        return "sleeps" if entity.context is not None else "is driven from outside"

    def core(self, entity: SchedEntity) -> int:
        """The CPU that it is on, or was."""
        return entity.cpu.index if entity.cpu is not None else 0

    # -- registers -------------------------------------------------------------------------------------------------------

    def read(self, number: int, register: Register) -> bytes:
        """One register. Little-endian."""
        thread = self.thread(number)
        if register.name.startswith(NO_CALL):
            return b"\xff" * register.nr_bytes
        if thread is None:
            return bytes(register.nr_bytes)
        context = thread.context
        value = context.pc if register.name in ("rip", "eip") else None
        if register.name in ("rax", "eax"):  # what it finds when it goes on
            value = context.result
        if value is not None:
            return bytes((value & (1 << 8 * register.nr_bytes) - 1).to_bytes(register.nr_bytes, "little"))
        return bytes(context.peek(register.name)[: register.nr_bytes])

    def read_all(self, number: int) -> bytes:
        """What `g` says."""
        return b"".join(self.read(number, register) for register in registers(self.bits))

    def write(self, number: int, register: Register, value: bytes) -> None:
        """Set one. Raises UsageError: it runs no program."""
        thread = self.thread(number)
        if thread is None:
            raise UsageError(f"thread {number} runs no program: it has no registers")
        context = thread.context
        if register.name in ("rip", "eip"):
            context.pc = int.from_bytes(value, "little")
        elif register.name in SEGMENTS or register.name.startswith(NO_CALL):
            return  # those of user mode stay
        elif register.name in MASKS:
            keeps, mask = int.from_bytes(self.read(number, register), "little"), MASKS[register.name]
            wanted = int.from_bytes(value, "little") & mask | keeps & ~mask
            context.poke(register.name, wanted.to_bytes(register.nr_bytes, "little"))
        else:
            if register.name in ("rax", "eax"):
                context.result = None
            context.poke(register.name, value)

    # -- a program -------------------------------------------------------------------------------------------------------

    def auxv(self, number: int) -> bytes:
        """Its auxiliary vector, as it stands above its environment; empty where there is none any more. O(strings)."""
        thread, word = self.thread(number), self.bits // 8
        if thread is None:
            return b""
        k, mm, at = self._system.kernel, self.mm(number), thread.process.start_stack
        argc = int.from_bytes(memory.read(k, mm, at, word), "little")
        at += (2 + argc) * word  # argv and its NULL
        for _ in range(MOST_STRINGS):
            pointer = memory.read(k, mm, at, word)
            at += word
            if not any(pointer):
                break
        found = memory.read(k, mm, at, MOST_AUXV * 2 * word)
        for end in range(0, len(found) - 2 * word + 1, 2 * word):
            if not any(found[end : end + word]):  # AT_NULL
                return found[: end + 2 * word]
        return b""

    def executable(self, number: int) -> bytes:
        """The path of its program, from the root that it is shown."""
        thread = self.thread(number)
        return b"" if thread is None else bytes(thread.process.executable)
