"""The registers of one thread, as Unicorn saves them. Unicorn itself has those of one thread at a time (`ContextHolder.live`)."""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

from rmaplab.cpu.engine import Registers
from rmaplab.cpu.extra import uclib, x86
from rmaplab.cpu.unicorn_calls import checked
from rmaplab.cpu.unicorn_stops import peek, poke


class ContextHolder(Protocol):
    """What an engine is to its contexts."""

    handle: Any
    live: UnicornContext | None

    def load(self, context: UnicornContext) -> None:
        """Unicorn has its registers from now on."""

    def put_descriptors(self, context: UnicornContext) -> None:
        """The thread's own descriptors are in the GDT, and those of no other."""

    def read_general(self) -> Registers:
        """Of the live context."""

    def write_general(self, registers: Registers) -> None:
        """Of the live context."""

    def write_register(self, number: int, value: int) -> None:
        """Of the live context."""


class UnicornContext:
    """The registers of one thread. `engine.live` is the context whose registers Unicorn has."""

    def __init__(self, engine: ContextHolder, pc: int) -> None:
        self.engine = engine
        self.pc = pc
        self.result: int | None = None
        self.tls: dict[int, int] = {}
        """i386: descriptors by their place in the GDT."""
        self.changed = False
        """Its segment registers have to be loaded again, from those."""
        self.saved = ctypes.c_void_p()
        checked(uclib.uc_context_alloc(engine.handle, ctypes.byref(self.saved)))

    def copy(self) -> UnicornContext:
        """The same registers, for another thread."""
        self.engine.load(self)
        other = UnicornContext(self.engine, self.pc)
        checked(uclib.uc_context_save(self.engine.handle, other.saved))
        other.tls = dict(self.tls)
        return other

    def become(self, other: UnicornContext) -> None:
        """Have the registers of `other` from now on."""
        self.engine.load(self)
        checked(uclib.uc_context_restore(self.engine.handle, other.saved))
        self.pc, self.result, self.changed = other.pc, None, bool(self.tls)
        self.engine.put_descriptors(self)

    def read(self) -> Registers:
        """General registers, with "pc", "sp", "flags"."""
        self.engine.load(self)
        return {**self.engine.read_general(), "pc": self.pc}

    def write(self, registers: Registers) -> None:
        """Set those that are named."""
        self.engine.load(self)
        self.pc = registers.get("pc", self.pc)
        self.engine.write_general(registers)

    def peek(self, name: str) -> bytes:
        """Any register, by gdb's name."""
        self.engine.load(self)
        return peek(self.engine.handle, name)

    def poke(self, name: str, value: bytes) -> None:
        """Set it."""
        self.engine.load(self)
        poke(self.engine.handle, name, value)

    def set_tls(self, base: int) -> None:
        """The base of fs."""
        self.engine.load(self)
        self.engine.write_register(x86.UC_X86_REG_FS_BASE, base)

    def set_descriptor(self, place: int, descriptor: int) -> None:
        """One of the three descriptors of the GDT that are a thread's own (i386)."""
        self.tls[place] = descriptor
        self.changed = True
        if self.engine.live is self:
            self.engine.put_descriptors(self)

    def close(self) -> None:
        """The thread has ended."""
        if self.engine.live is self:
            self.engine.live = None
        if self.saved:
            uclib.uc_context_free(self.saved)
            self.saved = ctypes.c_void_p()
