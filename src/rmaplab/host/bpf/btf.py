"""BTF: the kernel's types, as it carries them in /sys/kernel/btf/vmlinux and clang puts them into an object.

    header | types: one record after another, numbered from 1            | strings, ended by NUL
             name, kind and number of members, size or type | members
             "anon_vma"  STRUCT 6              96             "root" type 7 bit 0, "rwsem" type 9 bit 64, ...

Records differ in length, so finding where each begins takes a pass over all of them (some 130,000 in a kernel, 10 ms); after
that everything is looked up by name. Source: Documentation/bpf/btf.rst.
"""

import mmap
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.machine.arrays import I64, U32

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F

INT, PTR, ARRAY, STRUCT, UNION, ENUM, TYPEDEF, FUNC = 1, 2, 3, 4, 5, 6, 8, 12
_MODIFIERS = (TYPEDEF, 9, 10, 11, 18)  # volatile, const, restrict, type tag: another name for the same bytes

# words that follow a record's three: a fixed number, and a number per member
_FIXED = np.array([0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, *[0] * 12])
_EACH = np.array([0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 3, *[0] * 12])
_NR_KINDS = 20


class Member(NamedTuple):
    """A member of a struct or union: its name (empty for an anonymous one), its type, and where it begins."""

    name: str
    type: int
    bit: int


class Btf:
    """The types of one BTF blob. Raises BpfUnavailable if it is none."""

    def __init__(self, data: bytes | mmap.mmap, name: str = "BTF") -> None:
        try:
            magic, _, _, header, types_at, types_len, strings_at, strings_len = struct.unpack_from("<HBBIIIII", data)
        except struct.error:
            magic = 0
        if magic != MAGIC:
            raise BpfUnavailable(f"{name} is no BTF")
        self.name = name
        self._words: U32 = np.frombuffer(data, "<u4", types_len // 4, header + types_at)
        self._strings = bytes(data[header + strings_at : header + strings_at + strings_len])
        self._at = self._starts()
        self._names = self._words[self._at]
        self._kinds = self._words[self._at + 1] >> 24 & 31
        self._names[0] = self._kinds[0] = 0  # type 0 is void
        self._named: dict[str, list[int]] = {}

    def _starts(self) -> I64:
        """Where each record begins, and 0 for type 0. Raises BpfUnavailable for a kind that is not known.

        A record's second word has its kind on top. Hardly any other word has something there: where one has, the record before steps over it.
        """
        infos = self._words[1:]
        kinds = infos.view(np.uint8)[3::4] & 31
        begins = np.flatnonzero(kinds)
        some = kinds[begins]
        following = begins + 3 + _FIXED[some] + _EACH[some] * (infos[begins] & 0xFFFF)
        jumps = np.flatnonzero(following[:-1] != begins[1:])
        true = np.ones(len(begins), np.bool_)
        for jump, target in zip(jumps.tolist(), np.searchsorted(begins, following[jumps]).tolist(), strict=True):
            if true[jump]:
                true[jump + 1 : target] = False
        begins, following, some = begins[true], following[true], some[true]
        reached, unknown = np.append(0, following), some[some >= _NR_KINDS]
        if unknown.size or (reached[:-1] != begins).any() or reached[-1] < infos.size:
            bad = unknown[0] if unknown.size else 0
            raise BpfUnavailable(f"{self.name} has types of kind {bad}, which this version cannot read")
        return np.append(0, begins)

    def string(self, offset: int) -> str:
        """The string that begins at `offset`."""
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def find(self, name: str, *kinds: int) -> list[int]:
        """The types of this name and of these kinds. O(types), in NumPy, the first time; programs ask for the same few again and again."""
        if name not in self._named:
            offset = self._strings.find(b"\0" + name.encode() + b"\0") + 1
            self._named[name] = np.flatnonzero(self._names == offset).tolist() if offset else []
        return [number for number in self._named[name] if self._kinds[number] in kinds]

    def name_of(self, number: int) -> str:
        """A type's name."""
        return self.string(int(self._names[number]))

    def kind(self, number: int) -> int:
        """A type's kind."""
        return int(self._kinds[number])

    def members(self, number: int) -> Iterator[Member]:
        """The members of a struct or union, in order."""
        bits, rows = self._rows(number)
        for name, kind, bit in rows:
            yield Member(self.string(name), kind, bit & bits)

    def _rows(self, number: int) -> tuple[int, list[list[int]]]:
        """(which bits of a row's last word say where a member begins, a row per member)."""
        at = int(self._at[number])
        info = int(self._words[at + 1])
        rows: list[list[int]] = self._words[at + 3 : at + 3 + 3 * (info & 0xFFFF)].reshape(-1, 3).tolist()
        return 0xFFFFFF if info >> 31 else 0xFFFFFFFF, rows

    def bare(self, number: int) -> int:
        """The type under its typedefs and qualifiers."""
        while self.kind(number) in _MODIFIERS:
            number = int(self._words[self._at[number] + 2])
        return number

    def element(self, number: int) -> int:
        """An array's element type."""
        return int(self._words[self._at[number] + 3])

    def size(self, number: int) -> int:
        """Bytes of a type."""
        number = self.bare(number)
        if self.kind(number) == PTR:
            return 8
        if self.kind(number) == ARRAY:
            return self.size(self.element(number)) * int(self._words[self._at[number] + 5])
        return int(self._words[self._at[number] + 2])

    def field(self, number: int, name: str) -> tuple[int, int] | None:
        """(bit, type) of a struct's member, those of anonymous structs and unions within it included."""
        named, wanted = self._strings.startswith, name.encode() + b"\0"
        bits, rows = self._rows(number)
        for offset, kind, bit in rows:
            if named(wanted, offset):
                return bit & bits, kind
            if named(b"\0", offset):
                inner = self.bare(kind)
                found = self.field(inner, name) if self.kind(inner) in (STRUCT, UNION) else None
                if found:
                    return (bit & bits) + found[0], found[1]
        return None

    def locate(self, owner: str, *path: str) -> tuple[int, int] | None:
        """(offset, size) in bytes of owner.path[0].path[1]..., or None if there is no such field."""
        for number in self.find(owner, STRUCT, UNION):
            bit, at = 0, number
            for name in path:
                at = self.bare(at)
                found = self.field(at, name) if self.kind(at) in (STRUCT, UNION) else None
                if found is None:
                    break
                bit, at = bit + found[0], found[1]
            else:
                return bit // 8, self.size(at)
        return None

    def offset(self, owner: str, *path: str) -> int:
        """Where a field begins, in bytes. Raises BpfUnavailable if there is no such field."""
        found = self.locate(owner, *path)
        if found is None:
            raise BpfUnavailable(f"this kernel has no {'.'.join((owner, *path))}")
        return found[0]

    def enumerator(self, owner: str, name: str) -> int:
        """The value of an enum's member. Raises BpfUnavailable if there is none."""
        for number in self.find(owner, ENUM):
            at = int(self._at[number]) + 3
            for i in range(at, at + 2 * (int(self._words[at - 2]) & 0xFFFF), 2):
                if self.string(int(self._words[i])) == name:
                    return int(self._words[i + 1])
        raise BpfUnavailable(f"this kernel has no {name} in enum {owner}")

    def size_of(self, owner: str) -> int | None:
        """Bytes of a struct, or None if there is none of this name."""
        found = self.find(owner, STRUCT, UNION)
        return self.size(found[0]) if found else None


def _read(path: Path) -> bytes | mmap.mmap:
    """A file of /sys, where the kernel lets us see it in place (BTF from Linux 6.16 on); else a copy, page by page. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        try:
            return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            return file.read()


@cache
def kernel_btf() -> Btf:
    """The running kernel's. Raises BpfUnavailable."""
    try:
        return Btf(_read(VMLINUX), str(VMLINUX))
    except OSError as error:
        needs = (
            "a kernel with CONFIG_DEBUG_INFO_BTF"
            if Path("/sys/kernel").exists()
            else "/sys (mount -t sysfs sysfs /sys)"
        )
        raise BpfUnavailable(f"{VMLINUX} cannot be read ({error.strerror}): it needs {needs}") from None
