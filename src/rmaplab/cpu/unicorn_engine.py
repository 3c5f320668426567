"""The engine that is here: Unicorn, which emulates x86, with our page tables behind its TLB (traps.py).

    Unicorn's physical memory                       its virtual memory: whatever `fill` says
    0 ....... RAM ....... | kernel page |           user addresses: the tables of the Space; KERNEL_PAGE: below
                            GDT, and an iret to ring 3

Threads run in ring 3, as on a real machine: what only a kernel may do is an exception. A context is Unicorn's own, saved when another thread runs. Contexts,
flushes and turns are one C call each; a turn ends with a C call to read what the kernel wants to see.

Two things that Unicorn 2.1 does otherwise than a CPU: after an exception it would make a double fault of the next one (`_forget_exception` finds the field by
what changes and puts it back), and RDTSC would show the host's time (it shows the simulated one). Unicorn is GPL-2.0: it is an extra, and nothing of it is here.
"""

import ctypes
import mmap
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from rmaplab.cpu import traps
from rmaplab.cpu.engine import AccessKind, MemoryAccess, Registers, Space, Trap
from rmaplab.cpu.extra import uclib, unicorn, x86
from rmaplab.cpu.registers import GENERAL32, GENERAL64, TLS_PLACES, USER32, USER64, gdt_page, iret_frame
from rmaplab.cpu.unicorn_calls import RegisterBatch, add_hook, checked, find_old_exception, find_refused
from rmaplab.cpu.unicorn_context import UnicornContext
from rmaplab.cpu.unicorn_stops import EngineStops
from rmaplab.errors import KernelBug, UsageError
from rmaplab.machine.machine import Machine
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNEL_PAGE = {64: -2 * PAGE_SIZE, 32: (1 << 32) - 2 * PAGE_SIZE}
PRESENT_SEGMENT = 1 << 47
FRAME_AT, CODE_AT = 0x800, 0xC00
FPU_AT_FIRST = (x86.UC_X86_REG_FPCW, 0x37F), (x86.UC_X86_REG_FPTAG, 0xFFFF), (x86.UC_X86_REG_MXCSR, 0x1F80)
"""As fninit leaves it: all exceptions masked, 64 bits of precision."""
EXCEPTION_OF = {unicorn.UC_ERR_INSN_INVALID: 6}
GENERAL_PROTECTION = 13
TRAP_FLAG = 1 << 8
_FLUSH_TLB = unicorn.UC_CTL_TLB_FLUSH | 1 << 30


class UnicornEngine:
    """Unicorn over the RAM of a machine, for programs of 32 or 64 `bits`, whose cycle counter counts so many `cycles` in ten basic blocks. Raises UsageError."""

    def __init__(self, machine: Machine, bits: int, cycles: int) -> None:
        self._machine = machine  # Unicorn has a pointer to its RAM
        self._seen = -1
        """Machine.changes when entries were forgotten last: whoever has run since may have made them old without a flush, as 2.4 and 2.6 do."""
        self.bits = bits
        self.number = 0
        self.arguments: tuple[int, ...] = (0,) * 6
        self.address, self.access, self.vector, self.blocks = 0, AccessKind.READ, 0, 0
        self.live: UnicornContext | None = None
        self._space: tuple[Space, int] | None = None
        self._stale = True
        self._uc: Any = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64 if bits == 64 else unicorn.UC_MODE_32)
        self.handle: Any = self._uc._uch  # noqa: SLF001  (its C functions are called without its wrapper)
        self._uc.ctl_set_tlb_mode(unicorn.UC_TLB_VIRTUAL)
        self._uc.ctl_exits_enabled(True)
        ram_bytes = machine.ram.nr_frames << PAGE_SHIFT
        self._page = mmap.mmap(-1, PAGE_SIZE)
        page = np.frombuffer(self._page, np.uint8)
        try:
            self._uc.mem_map_ptr(0, ram_bytes, unicorn.UC_PROT_ALL, machine.ram.bytes.ctypes.data)
            self._uc.mem_map_ptr(ram_bytes, PAGE_SIZE, unicorn.UC_PROT_ALL, page.ctypes.data)
        except unicorn.UcError:
            raise UsageError(
                f"the engine cannot have {ram_bytes >> 20} MiB of RAM for programs of {bits} bits: try less --ram"
            ) from None
        self._descriptors = page[:FRAME_AT].view(np.uint64)
        self._control = np.zeros(traps.NR_WORDS, np.int64)
        self._pages = np.zeros((2, machine.ram.nr_frames), np.int64)
        """By frame at which page of addresses it was run last, and written."""
        self._sums = machine.code = np.zeros(machine.ram.nr_frames, np.int64)
        self._set_up_control(machine, cycles)
        self._hooks = list[Any]()
        self._add_hooks()
        self._stops = EngineStops(self._uc, self._control)
        self.accesses = list[MemoryAccess]()
        general = GENERAL64 if bits == 64 else GENERAL32
        self._general = RegisterBatch([number for _, number in general])
        self._names = [name for name, _ in general]
        entry = USER64 if bits == 64 else USER32
        self._entry, self._pc = RegisterBatch([number for _, number in entry]), RegisterBatch([entry[0][1]])
        self._ids = dict(general)
        self._start: UnicornContext | None = None
        self._start = self._to_user_mode()
        self._old_exception = self._find_old_exception()
        self._refused = find_refused(self.handle, self._fetch)

    # -- what a thread needs ---------------------------------------------------------------------------------------------

    def context(self, pc: int, sp: int) -> UnicornContext:
        """A first thread's registers: zeros but for these."""
        assert self._start is not None
        context = self._start.copy()
        context.write({"pc": pc, "sp": sp})
        return context

    def turn(self, context: UnicornContext, space: Space, blocks: int, tsc: int = 0) -> Trap:
        """Run user code of a thread until something wants the kernel, `blocks` basic blocks at most; the cycle counter is at `tsc`."""
        control = self._control
        control[traps.TSC] = tsc
        if self.live is not context:
            self.load(context)
        if (
            self._space is None
            or self._space[0] is not space
            or self._space[1] != space.version
            or control[traps.PGD] != space.mm.pgd
        ):
            self._enter(space)
        if self._stale or self._seen != self._machine.changes:
            self._seen = self._machine.changes
            checked(uclib.uc_ctl(self.handle, ctypes.c_int(_FLUSH_TLB)))
            self._stale = False
        if context.result is not None:
            self.write_register(self._entry.numbers[1], context.result)
            context.result = None
        control[traps.BLOCKS], control[traps.LIMIT] = 0, blocks
        while True:
            control[traps.TRAP] = control[traps.STALE] = 0
            error = uclib.uc_emu_start(self.handle, ctypes.c_uint64(context.pc), 0, 0, 0)
            if not control[traps.STALE]:
                break
            self._forget(code=control[traps.STALE] == traps.CODE_IS_OLD)
            context.pc = self._pc.read(self.handle)[0]
        self.blocks = int(control[traps.BLOCKS])
        trap = int(control[traps.TRAP])
        if trap == traps.SYSCALL:
            context.pc, self.number, *rest = self._entry.read(self.handle)
            self.arguments = tuple(rest)
            return Trap.SYSCALL
        context.pc = self._pc.read(self.handle)[0]
        if trap == traps.FAULT:
            self.address = (
                self._refused.value
                if self._refused is not None
                else int(control[traps.ADDRESS]) & ((1 << self.bits) - 1)
            )
            self.access = AccessKind(int(control[traps.ACCESS]))
            return Trap.FAULT
        if trap in (traps.AT_BREAKPOINT, traps.AT_WATCHED):
            return Trap(trap)
        if trap == traps.EXCEPTION:
            self.vector = int(control[traps.VECTOR])
            self._forget_exception(context)
            return Trap.EXCEPTION
        if error or not self.blocks:  # nothing that it can run stands there
            self.vector = EXCEPTION_OF.get(error, GENERAL_PROTECTION)
            self._forget_exception(context)
            return Trap.EXCEPTION
        return Trap.SLICE

    def step(self, context: UnicornContext, space: Space, tsc: int = 0) -> Trap:
        """One instruction, by the trap flag, as kgdb and ptrace do it."""
        self.load(context)
        flags = self.read_general()["flags"]
        self.write_general({"flags": flags | TRAP_FLAG})
        self._stops.begin_step()
        self._stale = True
        try:
            trap = self.turn(context, space, 1, tsc)
        finally:
            self.accesses = self._stops.end_step()
            self._stale = True
        if not flags & TRAP_FLAG:
            self.write_general({"flags": self.read_general()["flags"] & ~TRAP_FLAG})
        is_done = trap is Trap.SLICE or (trap is Trap.EXCEPTION and self.vector == traps.DEBUG)
        return Trap.STEPPED if is_done else trap

    def set_stops(self, breakpoints: Collection[int], watched: Mapping[int, bool]) -> None:
        """Where turns stop from now on."""
        self._stops.set(breakpoints, watched)
        self._stale = True

    def flush(self) -> None:
        """Forget what has been read of page tables, before the next turn."""
        self._stale = True

    def close(self) -> None:
        """Not to be used after."""
        self.live = self._start = None
        self._uc = None
        self._stops.close()

    # -- what a context needs --------------------------------------------------------------------------------------------

    def load(self, context: UnicornContext) -> None:
        """Unicorn has the registers of `context` from now on."""
        if self.live is context:
            return
        if self.live is not None:
            checked(uclib.uc_context_save(self.handle, self.live.saved))
        checked(uclib.uc_context_restore(self.handle, context.saved))
        self.live = context
        self._stale = True
        self.put_descriptors(context)

    def put_descriptors(self, context: UnicornContext) -> None:
        """The thread's own descriptors are in the GDT, and those of no other."""
        if self.bits == 32:
            for place in TLS_PLACES:
                self._descriptors[place] = context.tls.get(place, 0)
        if context.changed:  # what fs and gs select may be another segment now
            context.changed = False
            for register in (x86.UC_X86_REG_FS, x86.UC_X86_REG_GS):
                selector = self._uc.reg_read(register)
                there = context.tls.get(selector >> 3, PRESENT_SEGMENT) & PRESENT_SEGMENT
                self.write_register(register, selector if there else 0)

    def read_general(self) -> Registers:
        """Of the live context."""
        return dict(zip(self._names, self._general.read(self.handle), strict=True))

    def write_general(self, registers: Registers) -> None:
        """Of the live context."""
        for name, value in registers.items():
            if name in self._ids:
                self.write_register(self._ids[name], value)

    def write_register(self, number: int, value: int) -> None:
        """One register of the live context."""
        word = ctypes.c_uint64(value & (1 << 64) - 1)
        checked(uclib.uc_reg_write(self.handle, number, ctypes.byref(word)))

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _set_up_control(self, machine: Machine, cycles: int) -> None:
        control, base = self._control, self._control.ctypes.data

        def distance(address: int) -> int:
            if (address - base) % 8:
                raise KernelBug("engine", "arrays are not where words are")
            return (address - base) // 8

        control[traps.RAM] = distance(machine.ram.words8.ctypes.data)
        control[traps.SUMS] = distance(self._sums.ctypes.data)
        control[traps.RUN_AT], control[traps.WRITTEN_AT] = (distance(pages.ctypes.data) for pages in self._pages)
        control[traps.SCRIBBLED] = distance(machine.frames.scribbled.ctypes.data)
        control[traps.LEVELS], control[traps.BITS] = machine.paging.levels, machine.paging.bits
        control[traps.WIDE] = machine.paging.entry_bytes == 8
        control[traps.NR_FRAMES] = control[traps.KERNEL_FRAME] = machine.ram.nr_frames
        control[traps.KERNEL_PAGE] = KERNEL_PAGE[self.bits]
        control[traps.ENGINE_STOP] = ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value or 0
        control[traps.WRITE_REGISTER] = ctypes.cast(uclib.uc_reg_write, ctypes.c_void_p).value or 0
        halves = (
            (x86.UC_X86_REG_RAX, x86.UC_X86_REG_RDX) if self.bits == 64 else (x86.UC_X86_REG_EAX, x86.UC_X86_REG_EDX)
        )
        control[traps.LOW_HALF], control[traps.HIGH_HALF] = halves
        control[traps.CYCLES] = cycles
        control[traps.NR_RANGES] = traps.ANYWHERE

    def _add_hooks(self) -> None:
        fill, call_kernel, interrupt, block, read_tsc = traps.callbacks()
        self._hook(unicorn.UC_HOOK_TLB_FILL, fill.address)
        self._hook(unicorn.UC_HOOK_INTR, interrupt.address)
        self._hook(unicorn.UC_HOOK_BLOCK, block.address)
        if self.bits == 64:
            self._hook(unicorn.UC_HOOK_INSN, call_kernel.address, x86.UC_X86_INS_SYSCALL)
        for instruction in (x86.UC_X86_INS_RDTSC, x86.UC_X86_INS_RDTSCP):
            self._hook(unicorn.UC_HOOK_INSN, read_tsc.address, instruction)

    def _hook(self, kind: int, function: int, *instruction: int) -> None:
        self._hooks.append(add_hook(self.handle, kind, function, self._control.ctypes.data, *instruction))

    def _to_user_mode(self) -> UnicornContext:
        """The way to ring 3 is that of a real kernel: an iret."""
        at = KERNEL_PAGE[self.bits]
        self._page[: 8 * 32] = gdt_page()
        frame = iret_frame(self.bits)
        self._page[FRAME_AT : FRAME_AT + len(frame)] = frame
        code = b"\x48\xcf" if self.bits == 64 else b"\xcf"
        self._page[CODE_AT : CODE_AT + len(code)] = code
        uc = self._uc
        uc.reg_write(x86.UC_X86_REG_GDTR, (0, at & (1 << self.bits) - 1, PAGE_SIZE - 1, 0))
        uc.reg_write(x86.UC_X86_REG_CR4, uc.reg_read(x86.UC_X86_REG_CR4) | 0x600)  # SSE
        if self.bits == 64:
            self.write_register(x86.UC_X86_REG_RSP, at + FRAME_AT)
        else:
            uc.reg_write(x86.UC_X86_REG_CS, 0x10)
            uc.reg_write(x86.UC_X86_REG_SS, 0x18)
            self.write_register(x86.UC_X86_REG_ESP, at + FRAME_AT)
        self._control[traps.LIMIT] = 1
        uclib.uc_emu_start(
            self.handle, ctypes.c_uint64(at + CODE_AT & (1 << self.bits) - 1), 0, 0, 0
        )  # and there is nothing at 0
        if self.bits == 32:
            for register in (x86.UC_X86_REG_DS, x86.UC_X86_REG_ES):
                uc.reg_write(register, 0x7B)
        for register, value in FPU_AT_FIRST:
            uc.reg_write(register, value)
        context = UnicornContext(self, 0)
        checked(uclib.uc_context_save(self.handle, context.saved))
        context.write({name: 0 for name in self._names if name not in ("flags", "ds", "es")})
        checked(uclib.uc_context_save(self.handle, context.saved))
        return context

    def _enter(self, space: Space) -> None:
        control = self._control
        control[traps.PGD] = space.mm.pgd
        ranges = space.executable
        if ranges is None or len(ranges) > traps.MOST_RANGES:
            control[traps.NR_RANGES] = traps.ANYWHERE
        else:
            control[traps.NR_RANGES] = len(ranges)
            control[traps.RANGES : traps.RANGES + 2 * len(ranges)] = np.array(ranges, np.int64).reshape(-1)
        self._space = space, space.version
        self._stale = True

    def _forget(self, *, code: bool) -> None:
        """What the TLB has; and what was translated, if a frame has other code than that or is about to."""
        if code:
            self._uc.ctl_flush_tb()
            self._sums[:] = 0
        checked(uclib.uc_ctl(self.handle, ctypes.c_int(_FLUSH_TLB)))

    def _find_old_exception(self) -> int:
        context = self.context(0, 0)
        self._control[traps.LIMIT] = 10
        self._page[CODE_AT : CODE_AT + 1] = b"\xf4"  # hlt
        place = find_old_exception(self.handle, (KERNEL_PAGE[self.bits] + CODE_AT) & (1 << self.bits) - 1)
        self.live = None
        context.close()
        return place

    def _fetch(self, address: int) -> None:
        """Try to run what stands at an address where nothing is."""
        context = self.context(address, 0)
        uclib.uc_emu_start(self.handle, ctypes.c_uint64(address), 0, 0, 0)
        self.live = None
        context.close()

    def _forget_exception(self, context: UnicornContext) -> None:
        """The exception has been dealt with: the next one is not a second one."""
        checked(uclib.uc_context_save(self.handle, context.saved))
        assert context.saved.value is not None
        ctypes.c_int32.from_address(context.saved.value + self._old_exception).value = -1
        checked(uclib.uc_context_restore(self.handle, context.saved))
