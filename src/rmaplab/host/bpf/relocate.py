"""CO-RE: compile once, run everywhere. Offsets of fields are filled in when a program meets a kernel.

    source     vma->anon_vma                        with preserve_access_index
    object     r1 = *(u64 *)(r6 + 40)               and in .BTF.ext: instruction 7 is "vm_area_struct, access 0:6"
    kernel     BTF of this one: vm_area_struct.anon_vma begins at byte 128
    loaded     r1 = *(u64 *)(r6 + 128)

An access is a string of indexes into the *object's* types; it becomes a path of names, and names are looked up in the kernel's.
A field that the program asks for with __builtin_preserve_field_info(..., 2) may be missing: the question is answered with 0,
and its accesses become an instruction that cannot be verified, which the verifier drops as dead. Any other field that is
missing is an error, and all of them are named at once. A whole type may be asked for too: then it is the number of the kernel's. Source: Documentation/bpf/llvm_reloc.rst.
"""

import struct
from typing import NamedTuple

from rmaplab.host.bpf.btf import ARRAY, STRUCT, UNION, Btf
from rmaplab.host.bpf.elf import Elf
from rmaplab.host.bpf.errors import BpfUnavailable

BYTE_OFFSET, BYTE_SIZE, EXISTS, TYPE = 0, 1, 2, 7
_LOADS_AND_STORES = (1, 2, 3)  # LDX, ST, STX: the field's offset is in the instruction's `off`; in `imm` of all others
_POISON = struct.pack("<BBhi", 0x85, 0, 0, 0xBAD)  # call of a helper that there is not


class Access(NamedTuple):
    """One instruction's access: `what` is asked about the field at `path` of struct `owner`."""

    instruction: int
    owner: str
    path: tuple[str, ...]
    what: int

    @property
    def field(self) -> str:
        """As a reader would write it."""
        return ".".join((self.owner, *self.path))


def accesses(elf: Elf, types: Btf, section: str) -> list[Access]:
    """The relocations of a section, from .BTF.ext."""
    data = elf.sections[".BTF.ext"]
    header, _, _, _, _, at, length = struct.unpack_from("<4x7I", data)
    at += header
    end = at + length
    (size,) = struct.unpack_from("<I", data, at)
    at += 4
    found = []
    while at < end:
        name, number = struct.unpack_from("<II", data, at)
        at += 8
        for i in range(at, at + size * number, size):
            offset, owner, access, what = struct.unpack_from("<IIII", data, i)
            if types.string(name) == section:
                found.append(_access(types, offset // 8, owner, types.string(access), what))
        at += size * number
    return found


def _access(types: Btf, instruction: int, owner: int, access: str, what: int) -> Access:
    owner = at = types.bare(owner)
    path = []
    for index in access.split(":")[1:]:
        at = types.bare(at)
        if types.kind(at) == ARRAY and index == "0":  # the first element is where the array is
            at = types.element(at)
            continue
        member = list(types.members(at))[int(index)] if types.kind(at) in (STRUCT, UNION) else None
        if member is None:
            raise ValueError(f"access {access} into {types.name_of(owner)} is of a kind we do not write")
        if member.name:
            path.append(member.name)
        at = member.type
    return Access(instruction, types.name_of(owner), tuple(path), what)


def relocate(elf: Elf, section: str, kernel: Btf) -> bytes:
    """The instructions of `section` for this kernel. Raises BpfUnavailable with every field it has not."""
    code = bytearray(elf.sections[section])
    found = accesses(elf, Btf(elf.sections[".BTF"], "the object's BTF"), section)
    optional = {access.field for access in found if access.what == EXISTS}
    missing = set()
    for access in found:
        at = 8 * access.instruction
        place = kernel.locate(access.owner, *access.path)
        if access.what == TYPE and place is not None:
            struct.pack_into("<i", code, at + 4, kernel.find(access.owner, STRUCT)[0])
        elif access.what == EXISTS:
            struct.pack_into("<i", code, at + 4, place is not None)
        elif place is None:
            missing |= {access.field} - optional
            code[at : at + 8] = _POISON
        elif code[at] & 7 in _LOADS_AND_STORES:
            struct.pack_into("<h", code, at + 2, place[access.what])
        else:
            struct.pack_into("<i", code, at + 4, place[access.what])
    if missing:
        raise BpfUnavailable(f"this kernel's structures differ: it has no {', no '.join(sorted(missing))}")
    return bytes(code)
