"""Which registers a thread has, as gdb numbers them: target descriptions of i386 and x86-64, and the packet `g`.

    core      eax .. edi, eip, eflags, cs .. gs, st0 .. st7, fctrl .. fop          of x86-64 rax .. r15, rip
    sse       xmm0 .. xmm7 (xmm15), mxcsr
    linux     orig_eax (orig_rax), always -1: no call is made again by a debugger
    segments  fs_base, gs_base, of x86-64

Which of the two a machine has, its page tables say. gdb asks for them as target.xml, and knows no other registers then.

Source: "Debugging with GDB", G.5.7 i386 Features; gdb/features/i386/*.xml for the order within a feature.
"""

from dataclasses import dataclass
from functools import cache

GENERAL32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
GENERAL64 = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)))
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
FPU = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
POINTERS = {"rbp": "data_ptr", "rsp": "data_ptr", "ebp": "data_ptr", "esp": "data_ptr", "rip": "code_ptr", "eip": "code_ptr"}  # fmt: skip
NO_CALL = "orig"


@dataclass(frozen=True)
class Register:
    """One: its name, its bytes, its feature, and what type gdb takes it for."""

    name: str
    nr_bytes: int
    feature: str
    kind: str


@cache
def registers(bits: int) -> tuple[Register, ...]:
    """All of a thread, in gdb's order."""
    word, wide = bits // 8, bits == 64
    integer = f"int{bits}"
    pc, flags = ("rip", "eflags") if wide else ("eip", "eflags")
    found = [Register(name, word, "core", POINTERS.get(name, integer)) for name in (GENERAL64 if wide else GENERAL32)]
    found += [Register(pc, word, "core", "code_ptr"), Register(flags, 4, "core", "i386_eflags")]
    found += [Register(name, 4, "core", "int32") for name in SEGMENTS]
    found += [Register(f"st{i}", 10, "core", "i387_ext") for i in range(8)]
    found += [Register(name, 4, "core", "int") for name in FPU]
    found += [Register(f"xmm{i}", 16, "sse", "vec128") for i in range(16 if wide else 8)]
    found += [Register("mxcsr", 4, "sse", "int")]
    found += [Register(f"orig_{'rax' if wide else 'eax'}", word, "linux", integer)]
    if wide:
        found += [Register(name, 8, "segments", "int64") for name in ("fs_base", "gs_base")]
    return tuple(found)


EFLAGS = "\n".join(
    [
        '    <flags id="i386_eflags" size="4">',
        *(
            f'      <field name="{name}" start="{bit}" end="{bit}"/>'
            for bit, name in enumerate(
                ("CF", "", "PF", "", "AF", "", "ZF", "SF", "TF", "IF", "DF", "OF", "", "", "NT", "", "RF", "VM", "AC", "VIF", "VIP", "ID")
            )
            if name or bit == 1
        ),
        "    </flags>",
    ]
)  # fmt: skip
VEC128 = """\
    <vector id="v4f" type="ieee_single" count="4"/>
    <vector id="v2d" type="ieee_double" count="2"/>
    <vector id="v16i8" type="int8" count="16"/>
    <vector id="v8i16" type="int16" count="8"/>
    <vector id="v4i32" type="int32" count="4"/>
    <vector id="v2i64" type="int64" count="2"/>
    <union id="vec128">
      <field name="v4_float" type="v4f"/>
      <field name="v2_double" type="v2d"/>
      <field name="v16_int8" type="v16i8"/>
      <field name="v8_int16" type="v8i16"/>
      <field name="v4_int32" type="v4i32"/>
      <field name="v2_int64" type="v2i64"/>
      <field name="uint128" type="uint128"/>
    </union>
"""


@cache
def target_xml(bits: int) -> bytes:
    """target.xml."""
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>"]
    lines += [f"  <architecture>{'i386:x86-64' if bits == 64 else 'i386'}</architecture>", "  <osabi>GNU/Linux</osabi>"]
    number = 0
    for feature in ("core", "sse", "linux", "segments"):
        mine = [register for register in registers(bits) if register.feature == feature]
        if not mine:
            continue
        lines.append(f'  <feature name="org.gnu.gdb.i386.{feature}">')
        if feature == "core":
            lines.append(EFLAGS)
        if feature == "sse":
            lines.append(VEC128.rstrip())
        for register in mine:
            what = f'name="{register.name}" bitsize="{8 * register.nr_bytes}" type="{register.kind}" regnum="{number}"'
            lines.append(f"    <reg {what}/>")
            number += 1
        lines.append("  </feature>")
    return "\n".join([*lines, "</target>", ""]).encode()


def pc_register(bits: int) -> int:
    """The number of the program counter."""
    names = [register.name for register in registers(bits)]
    return names.index("rip" if bits == 64 else "eip")
