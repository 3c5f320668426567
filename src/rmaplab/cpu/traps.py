"""What Unicorn calls while user code runs, as machine code: TLB fills, the entry of system calls, exceptions, basic blocks.

    control words (int64), to which every callback has the pointer
    +-----------+--------+-----------------+-----------------------+-----------------------------+
    | trap      | fault  | what has run    | page tables: RAM, pgd | ranges that may be executed |
    +-----------+--------+-----------------+-----------------------+-----------------------------+

RAM lies at another address of this process: it is read as control[RAM + i], since an index may be as large as the distance. Eight-byte words
hold two entries of i386.

A fetch is checked against the words that the page had when code of it was translated before: a frame may have another page meanwhile. Then all that
was translated is forgotten (STALE), and it is fetched again. Stores to the address that code runs at are seen by Unicorn. Of a frame that is mapped a
second time, to be written, the TLB never has an entry to write and one to fetch at once: so each is asked for here when the other was.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rmaplab.cpu.engine import AccessKind, Trap
from rmaplab.machine.entries import ACCESSED, DIRTY, PFN_MASK, PRESENT, RW, USER
from rmaplab.machine.jit import callback, inline
from rmaplab.objects.flags import PROT_EXEC, PROT_READ, PROT_WRITE

# which control word is what
TRAP, VECTOR, ADDRESS, ACCESS, STALE, BLOCKS, LIMIT = range(7)
RAM, PGD, LEVELS, BITS, ENGINE_STOP, SUMS = range(8, 14)
KERNEL_PAGE, KERNEL_FRAME, NR_FRAMES, WIDE, SCRIBBLED = range(14, 19)
NR_RANGES, RUN_AT, WRITTEN_AT, TSC, CYCLES, WRITE_REGISTER, LOW_HALF, HIGH_HALF, HALF = range(19, 28)
"""TSC: what RDTSC reads when a turn begins. CYCLES: of ten basic blocks. LOW_HALF, HIGH_HALF: the registers that it is read into; HALF: a place for each."""
NR_WATCHED, NOTES, NR_NOTED = range(28, 31)
"""NOTES: an instruction is stepped: no breakpoint stops it, what is watched may be touched, and every access is noted."""
RANGES = 32
"""RANGES on: start, end of each."""
MOST_RANGES = 2000
WATCHED, MOST_WATCHED = RANGES + 2 * MOST_RANGES, 64
"""WATCHED on: numbers of pages, twice; 1 more where they may not even be read."""
NOTED, MOST_NOTED = WATCHED + MOST_WATCHED, 64
"""NOTED on: physical address, bytes, whether it is a write, of each access."""
NR_WORDS = NOTED + 3 * MOST_NOTED
ANYWHERE = -1
"""NR_RANGES: code may be fetched from everywhere."""

CODE_IS_OLD, ENTRY_IS_OLD = 1, 2
"""STALE: what was translated, or what the TLB has of it, is not what is there."""
SLICE, SYSCALL, FAULT, EXCEPTION, AT_BREAKPOINT, AT_WATCHED, _ = map(int, Trap)
READ, WRITE, FETCH = map(int, AccessKind)
SYSCALL_VECTOR, DEBUG = 0x80, 1
BLOCKS_A_TSC = 8
"""RDTSC takes as long as so many basic blocks (some 80 cycles of a Pentium 4): who waits by it gets on."""
WORDS_A_PAGE = 512
MIX = 0x9E3779B97F4A7C15 - (1 << 64)

FILL_SIGNATURE = "boolean(voidptr, int64, int32, CPointer(int64), CPointer(int64))"
INSTRUCTION_SIGNATURE = "void(voidptr, CPointer(int64))"
INTERRUPT_SIGNATURE = "void(voidptr, uint32, CPointer(int64))"
POINTER: Any = types.CPointer(types.int64)  # type: ignore[no-untyped-call]
TSC_SIGNATURE = "int32(voidptr, CPointer(int64))"
BLOCK_SIGNATURE = "void(voidptr, uint64, uint32, CPointer(int64))"
ACCESS_SIGNATURE = "void(voidptr, int32, uint64, int32, int64, CPointer(int64))"


@intrinsic
def call_with_pointer(typing_context: Any, function: Any, pointer: Any) -> Any:
    """Call int f(void *) at the address `function`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [cgutils.voidptr_t])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])

    return types.int32(types.int64, types.voidptr), generate


@intrinsic
def write_register(typing_context: Any, function: Any, engine: Any, number: Any, words: Any, place: Any) -> Any:
    """Call int f(void *, int, void *) at the address `function`, with a pointer to words[place]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at, handle, register, base, index = arguments
        kind = ir.FunctionType(ir.IntType(32), [cgutils.voidptr_t, ir.IntType(32), cgutils.voidptr_t])
        word = builder.bitcast(builder.gep(base, [index]), cgutils.voidptr_t)
        return builder.call(
            builder.inttoptr(at, kind.as_pointer()), [handle, builder.trunc(register, ir.IntType(32)), word]
        )

    return types.int32(types.int64, types.voidptr, types.int64, POINTER, types.int64), generate


@inline
def entry_at(control: Any, slot: int) -> int:
    """Entry number `slot` of RAM."""
    if control[WIDE]:
        return control[control[RAM] + slot]
    return (control[control[RAM] + (slot >> 1)] >> ((slot & 1) << 5)) & 0xFFFFFFFF


@inline
def set_bits(control: Any, slot: int, bits: int) -> None:
    """Set flags of an entry."""
    if control[WIDE]:
        control[control[RAM] + slot] |= bits
    else:
        control[control[RAM] + (slot >> 1)] |= bits << ((slot & 1) << 5)


@inline
def find_slot(control: Any, address: int) -> int:
    """Which entry of RAM is that of `address`; -1 where there is no leaf table."""
    if address >> 47:
        return -1
    bits, shift = control[BITS], 12 + control[BITS] * (control[LEVELS] - 1)
    table, slot = control[PGD], np.int64(-1)
    for level in range(control[LEVELS]):
        slot = (table >> (12 - bits)) + ((address >> shift) & ((1 << bits) - 1))
        if level < control[LEVELS] - 1:
            entry = entry_at(control, slot)
            if not entry & PRESENT:
                return -1
            table = ((entry >> 12) & PFN_MASK) << 12
            shift -= bits
    return slot


@inline
def may_fetch(control: Any, address: int) -> bool:
    """Whether the address is in a range that may be executed. O(log ranges)."""
    low, high = np.int64(0), control[NR_RANGES]
    if high < 0:
        return True
    while low < high:
        middle = (low + high) >> 1
        if control[RANGES + 2 * middle + 1] <= address:
            low = middle + 1
        else:
            high = middle
    return low < control[NR_RANGES] and control[RANGES + 2 * low] <= address


@inline
def is_what_it_was(control: Any, pfn: int) -> bool:
    """Whether a page of code has the words that it had at its last fetch; they are noted."""
    total, base = np.int64(1), control[RAM] + pfn * WORDS_A_PAGE
    for i in range(WORDS_A_PAGE):
        total = (total ^ control[base + i]) * MIX
        total ^= total >> 29
    total |= 1
    before = control[control[SUMS] + pfn]
    control[control[SUMS] + pfn] = total
    return before in (0, total)


@inline
def is_watched(control: Any, page: int, writes: bool) -> bool:
    """Whether a page may not be touched: not written, where it is watched for that alone. O(pages watched)."""
    if control[NOTES]:
        return False
    for i in range(control[NR_WATCHED]):
        word = control[WATCHED + i]
        if word >> 1 == page and (writes or word & 1):
            return True
    return False


def fill(engine: Any, address: int, kind: int, result: Any, control: Any) -> bool:
    """A TLB entry for `address`, from the page tables, which get their accessed and dirty bits; False: the access is a fault."""
    if address & -4096 == control[KERNEL_PAGE]:
        result[0] = control[KERNEL_FRAME] << 12
        result[1] = (result[1] & ~0xFFFFFFFF) | PROT_READ | PROT_EXEC
        return True
    slot = find_slot(control, address)
    if slot >= 0:
        entry = entry_at(control, slot)
        pfn = (entry >> 12) & PFN_MASK
        allowed = entry & PRESENT != 0 and entry & USER != 0 and pfn < control[NR_FRAMES]
        if kind == WRITE:
            allowed = allowed and entry & RW != 0
        elif kind == FETCH:
            allowed = allowed and may_fetch(control, address)
        page = address >> 12
        if allowed and kind == FETCH:
            if control[control[WRITTEN_AT] + pfn] not in (0, page):
                control[control[WRITTEN_AT] + pfn] = 0
                control[STALE] = ENTRY_IS_OLD
                return False
            if not is_what_it_was(control, pfn):
                control[STALE] = CODE_IS_OLD
                return False
            control[control[RUN_AT] + pfn] = page
        if allowed and kind == WRITE and control[control[SUMS] + pfn] and control[control[RUN_AT] + pfn] != page:
            control[STALE] = CODE_IS_OLD
            return False
        if allowed and kind != FETCH and control[NR_WATCHED] and is_watched(control, page, kind == WRITE):
            control[TRAP], control[ADDRESS], control[ACCESS] = AT_WATCHED, address, kind
            return False
        if allowed:
            bits = (ACCESSED | DIRTY) if kind == WRITE else ACCESSED
            if entry & bits != bits:
                set_bits(control, slot, bits)
            rights = PROT_READ
            if (
                (entry | bits) & (RW | DIRTY) == RW | DIRTY
                and (kind == WRITE or not control[control[SUMS] + pfn] or control[control[RUN_AT] + pfn] == page)
                and not (control[NR_WATCHED] and is_watched(control, page, True))
            ):
                rights |= PROT_WRITE  # from now on writes are not seen, and the bit is there
                control[control[SCRIBBLED] + (pfn >> 3)] |= 1 << ((pfn & 7) << 3)
                control[control[WRITTEN_AT] + pfn] = page
            if kind == FETCH:
                rights |= PROT_EXEC
            result[0] = pfn << 12
            result[1] = (result[1] & ~0xFFFFFFFF) | rights
            return True
    control[TRAP], control[ADDRESS], control[ACCESS] = FAULT, address, kind
    return False


def call_kernel(engine: Any, control: Any) -> None:
    """The instruction `syscall`."""
    control[TRAP] = SYSCALL
    call_with_pointer(control[ENGINE_STOP], engine)


def interrupt(engine: Any, vector: int, control: Any) -> None:
    """An int 0x80, or an exception; the end of a step is none if that was the entry of a system call."""
    if vector != DEBUG or control[TRAP] != SYSCALL:
        control[VECTOR] = vector
        control[TRAP] = SYSCALL if vector == SYSCALL_VECTOR else EXCEPTION
    call_with_pointer(control[ENGINE_STOP], engine)


def read_tsc(engine: Any, control: Any) -> int:
    """RDTSC: the cycles that have passed, with those of this turn."""
    control[BLOCKS] += BLOCKS_A_TSC
    now = control[TSC] + control[BLOCKS] * control[CYCLES] // 10
    control[HALF] = now & 0xFFFFFFFF
    write_register(control[WRITE_REGISTER], engine, control[LOW_HALF], control, HALF)
    control[HALF] = (now >> 32) & 0xFFFFFFFF
    write_register(control[WRITE_REGISTER], engine, control[HIGH_HALF], control, HALF)
    return 1


def block(engine: Any, address: int, size: int, control: Any) -> None:
    """A basic block is about to run."""
    control[BLOCKS] += 1
    if control[BLOCKS] > control[LIMIT]:
        control[BLOCKS] -= 1
        call_with_pointer(control[ENGINE_STOP], engine)


def note_access(engine: Any, kind: int, place: int, size: int, value: int, control: Any) -> None:
    """A load or a store, of physical addresses; here only while pages are watched."""
    nr = control[NR_NOTED]
    if control[NOTES] and nr < MOST_NOTED:
        control[NOTED + 3 * nr], control[NOTED + 3 * nr + 1] = np.int64(place), size
        control[NOTED + 3 * nr + 2] = kind == WRITE
        control[NR_NOTED] = nr + 1


def stop_before(engine: Any, address: int, size: int, control: Any) -> None:
    """An instruction at which a breakpoint stands, which is not stepped."""
    if not control[NOTES]:
        control[TRAP] = AT_BREAKPOINT
        call_with_pointer(control[ENGINE_STOP], engine)


@cache
def debugging() -> tuple[Any, Any]:
    """(stop_before, note_access) likewise: only who debugs has them compiled."""
    return callback(BLOCK_SIGNATURE, stop_before), callback(ACCESS_SIGNATURE, note_access)


@cache
def callbacks() -> tuple[Any, Any, Any, Any, Any]:
    """(fill, call_kernel, interrupt, block, read_tsc) as machine code; each has an `address`."""
    return (
        callback(FILL_SIGNATURE, fill),
        callback(INSTRUCTION_SIGNATURE, call_kernel),
        callback(INTERRUPT_SIGNATURE, interrupt),
        callback(BLOCK_SIGNATURE, block),
        callback(TSC_SIGNATURE, read_tsc),
    )
