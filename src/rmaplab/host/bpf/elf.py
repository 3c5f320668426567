"""As much ELF as a BPF object has: sections by name, and which instruction refers to which symbol."""

import struct
from typing import NamedTuple


class Reference(NamedTuple):
    """An instruction (its byte offset) that refers to a symbol, and the section where that symbol is."""

    offset: int
    symbol: str
    section: str


class Elf:
    """A relocatable 64-bit little-endian object. Raises ValueError if it is none."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        (table,) = struct.unpack_from("<Q", data, 40)
        size, number, names_at = struct.unpack_from("<HHH", data, 58)
        headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * i) for i in range(number)]
        contents = [data[header[4] : header[4] + header[5]] if header[1] != 8 else b"" for header in headers]
        self._names = [_string(contents[names_at], header[0]) for header in headers]
        self.sections: dict[str, bytes] = dict(zip(self._names, contents, strict=True))

    def references(self, section: str) -> list[Reference]:
        """What the instructions of a section refer to (R_BPF_64_64: the address of a map or a variable)."""
        found = []
        symbols, strings = self.sections[".symtab"], self.sections[".strtab"]
        for offset, info in struct.iter_unpack("<QQ", self.sections.get(f".rel{section}", b"")):
            name, _, _, at = struct.unpack_from("<IBBH", symbols, (info >> 32) * 24)
            found.append(Reference(offset, _string(strings, name), self._names[at]))
        return found


def _string(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()
