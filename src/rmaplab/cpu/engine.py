"""What runs user code: the seam between a thread and an engine.

    context = engine.context()              registers of one thread; a fork's child begins with a copy
    context.pc, context.sp = entry, stack
    trap = engine.turn(context, space, blocks, tsc) user code runs, until ...

        SYSCALL      it calls the kernel: engine.number, engine.arguments; context.result is what it finds when it goes on
        FAULT        its page tables do not allow an access: engine.address, engine.access
        EXCEPTION    it has met another exception of the CPU: engine.vector
        SLICE        `blocks` basic blocks have run
        BREAKPOINT   it stands before an instruction at which it is to stop       both only if a debugger
        WATCHED      it is about to touch a page that is watched                  has asked for it: set_stops

`step` is a turn of one instruction, whatever is asked for: STEPPED, or what that has met; engine.accesses are then what it has read and written.

A Space is an address space as the CPU sees it: its page tables, and where it may fetch from. An engine reads the tables where they are, in
simulated RAM, sets accessed and dirty bits as the MMU does, and keeps what it has read until it is told to forget it (machine/tlb.py). There is one engine
here, which emulates (unicorn_engine.py); another could run the code on the host's CPU, in a process for each mm.
"""

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from rmaplab.objects.mm_types import MmStruct

Registers = dict[str, int]
"""General registers by the names of struct sigcontext, and "flags", "pc", "sp"."""


class Trap(IntEnum):
    """Why user code has stopped."""

    SLICE = 0
    SYSCALL = 1
    FAULT = 2
    EXCEPTION = 3
    BREAKPOINT = 4
    WATCHED = 5
    STEPPED = 6


class AccessKind(IntEnum):
    """What a fault is about; the numbers are Unicorn's (UC_MEM_READ and so on)."""

    READ = 16
    WRITE = 17
    FETCH = 18


class MemoryAccess(NamedTuple):
    """One that an instruction has made: `nr` bytes from a physical address on; in the frames after it, too, if it goes over the end of a page."""

    place: int
    nr: int
    is_write: bool


class Context(Protocol):
    """The registers of one thread. Contexts of two engines know nothing of each other."""

    pc: int
    result: int | None
    """What the register of results is to be when it goes on; None: as it is."""

    def copy(self) -> Any:
        """The same registers, for another thread."""

    def read(self) -> Registers:
        """General registers."""

    def write(self, registers: Registers) -> None:
        """Set those that are named."""

    def peek(self, name: str) -> bytes:
        """One register by the name that gdb has for it, those of FPU and SSE among them: its bytes. Raises KeyError: there is none of that name."""

    def poke(self, name: str, value: bytes) -> None:
        """Set it. Raises KeyError."""

    def become(self, other: Any) -> None:
        """Have the registers of `other` from now on, all of them."""

    def set_descriptor(self, place: int, descriptor: int) -> None:
        """A descriptor of the GDT that is the thread's own (i386)."""

    def set_tls(self, base: int) -> None:
        """Where thread-local memory is: the base of fs (x86-64)."""

    def close(self) -> None:
        """The thread has ended."""


class Space:
    """An address space as the CPU sees it: the mm, and [start, end) ranges that code may be fetched from; None: anywhere."""

    def __init__(self, mm: MmStruct) -> None:
        self.mm = mm
        self.executable: list[tuple[int, int]] | None = None
        self.version = 0
        """Moves with `executable`."""


class CpuEngine(Protocol):
    """What runs user code."""

    number: int
    arguments: tuple[int, ...]
    address: int
    access: AccessKind
    vector: int
    blocks: int
    """Basic blocks that the last turn has run."""

    def context(self, pc: int, sp: int) -> Context:
        """A first thread's registers."""

    def turn(self, context: Any, space: Space, blocks: int, tsc: int = 0) -> Trap:
        """Run user code of a thread until something wants the kernel; `tsc` is what the cycle counter shows when it begins. The context is one of this engine's."""

    accesses: list[MemoryAccess]
    """Of the last step."""

    def step(self, context: Any, space: Space, tsc: int = 0) -> Trap:
        """Run one instruction; of `rep` one round."""

    def set_stops(self, breakpoints: Collection[int], watched: Mapping[int, bool]) -> None:
        """Addresses before which turns stop, in every address space; pages (by number) that they do not touch, or only read where that is False. Raises UsageError: they are too many."""

    def flush(self) -> None:
        """Forget what has been read of page tables."""

    def close(self) -> None:
        """Not to be used after."""
