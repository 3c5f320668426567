"""Which registers a thread has, and the segments of Linux: what an engine must be told of x86.

Source: 2.6.2 include/asm-i386/segment.h (user code 0x73, data 0x7b, three TLS descriptors from 6 on), include/asm-x86_64/segment.h (0x33, 0x2b); 6.18
arch/x86/include/asm/segment.h (TLS from 12 on with 64 bits).
"""

import struct

from rmaplab.cpu.extra import x86

GENERAL64 = [
    (name, getattr(x86, f"UC_X86_REG_{register}"))
    for name, register in (
        *((f"r{i}", f"R{i}") for i in range(8, 16)),
        *((name, name.upper()) for name in ("rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx")),
        ("sp", "RSP"),
        ("flags", "EFLAGS"),
    )
]
"""In the order of struct sigcontext."""
GENERAL32 = [
    (name, getattr(x86, f"UC_X86_REG_{register}"))
    for name, register in (
        ("gs", "GS"), ("fs", "FS"), ("es", "ES"), ("ds", "DS"), ("edi", "EDI"), ("esi", "ESI"), ("ebp", "EBP"), ("sp", "ESP"),
        ("ebx", "EBX"), ("edx", "EDX"), ("ecx", "ECX"), ("eax", "EAX"), ("flags", "EFLAGS"),
    )
]  # fmt: skip
_CALL64 = ("RIP", "RAX", "RDI", "RSI", "RDX", "R10", "R8", "R9")
_CALL32 = ("EIP", "EAX", "EBX", "ECX", "EDX", "ESI", "EDI", "EBP")
USER64 = [(name, getattr(x86, f"UC_X86_REG_{name}")) for name in _CALL64]
"""The pc, a system call's number (and result), its arguments."""
USER32 = [(name, getattr(x86, f"UC_X86_REG_{name}")) for name in _CALL32]
TLS_PLACES = (6, 7, 8)
"""GDT_ENTRY_TLS_MIN on, of i386."""
USER_CS, USER_DS = {64: 0x33, 32: 0x73}, {64: 0x2B, 32: 0x7B}
WHOLE = 0xFFFFF
FLAT, LONG = 0xC, 0xA
CODE, DATA = 0xFB, 0xF3  # of ring 3, accessed: nothing is written to the table
KERNEL_CODE, KERNEL_DATA = 0x9B, 0x93
INTERRUPTS_ON = 0x202


def descriptor(base: int, limit: int, access: int, flags: int) -> int:
    """One descriptor of a GDT."""
    low = limit & 0xFFFF | (base & 0xFFFFFF) << 16
    return low | access << 40 | (limit >> 16 & 15) << 48 | flags << 52 | (base >> 24 & 0xFF) << 56


def gdt_page() -> bytes:
    """A GDT of 32 descriptors, with the segments that Linux's user mode has with 32 and with 64 bits."""
    table = [0] * 32
    table[2], table[3] = descriptor(0, WHOLE, KERNEL_CODE, FLAT), descriptor(0, WHOLE, KERNEL_DATA, FLAT)
    table[USER_DS[64] >> 3] = descriptor(0, WHOLE, DATA, FLAT)
    table[USER_CS[64] >> 3] = descriptor(0, WHOLE, CODE, LONG)
    table[USER_CS[32] >> 3] = descriptor(0, WHOLE, CODE, FLAT)
    table[USER_DS[32] >> 3] = descriptor(0, WHOLE, DATA, FLAT)
    return struct.pack("<32Q", *table)


def iret_frame(bits: int) -> bytes:
    """What an iret to ring 3 takes off the stack: pc, code segment, flags, sp, stack segment."""
    return struct.pack(f"<5{'Q' if bits == 64 else 'I'}", 0, USER_CS[bits], INTERRUPTS_ON, 0, USER_DS[bits])
