"""Where a script's memory is, on each side: what symbolic addresses mean, what a call is given, what an address is called again.

    script                  a side's numbers              what both sides tell
    w+3, m-8, h+2, 8+17b    Places.numbers(operation)     Places.name(address): w+3
                            Places.canonical(addresses)   the same places, as numbers: W + 3 pages

The two sides have the window at other addresses. So addresses are told relative to the regions of script.py.
"""

from typing import NamedTuple

import numpy as np

from rmaplab.calls.table import CALLS, HINT
from rmaplab.calls.words import Address, AddressKind, Length, LivingKind, NewNameKind, VmaNameKind
from rmaplab.machine.arrays import I64
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_DROPPABLE, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, MAP_SHARED
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.script import Op

WINDOW = 0x6000_0000_0000  # above the heap and below what mmap places, on both sides: who looks for the next VMA finds the same
W, M, H = 1 << 40, 1 << 44, 1 << 36  # where the regions begin in what both sides translate to
REACH = 16 << 30  # what lies further from the origin of a region belongs to none
SIDES = {"w": W, "m": M, "h": H}
ADDRESS_OF = AddressKind()


class Places(NamedTuple):
    """Where one side has the regions: addresses of its own."""

    w: int
    m: int
    h: int

    def real(self, address: Address) -> int:
        """The side's address for a script's."""
        origin = getattr(self, address.region) if address.region else 0
        return int(origin + address.pages * PAGE_SIZE + address.extra)

    def canonical(self, addresses: I64) -> I64:
        """The addresses both sides agree on, for the side's."""
        if addresses.size and self.w <= addresses.min() and addresses.max() < self.w + REACH:  # most often
            shifted: I64 = addresses + (W - self.w)
            return shifted
        told = addresses.copy()
        for name, origin in SIDES.items():
            offset = addresses - getattr(self, name)
            below = 0 if name == "h" else REACH  # what ends at w begins below it
            inside = (offset >= -below) & (offset < REACH)
            told[inside] = origin + offset[inside]
        return told

    def name(self, address: int) -> str:
        """The side's address, in 64 bits with a sign or without, as a script writes it."""
        signed = (address + (1 << 63)) % (1 << 64) - (1 << 63)
        return name_of(int(self.canonical(np.array([signed], np.int64))[0]))

    def numbers(self, op: Op) -> dict[str, int]:
        """What the call is given on this side, by the names of its arguments; a process's name is no number."""
        numbers = {
            argument.name: VmaNameKind.number(value) if isinstance(argument.kind, VmaNameKind) else self._number(value)
            for argument, value in zip(CALLS[op.call].arguments, op.arguments, strict=True)
            if not isinstance(argument.kind, (LivingKind, NewNameKind))
        }
        if op.call == "mmap":
            numbers["flags"] = _mmap_flags(op)
        return numbers

    def _number(self, value: object) -> int:
        match value:
            case Address():
                return self.real(value)
            case Length():
                return value.nr_bytes
            case int():
                return value
            case _:  # "any", or left out
                return 0


def _mmap_flags(op: Op) -> int:
    """Private unless the flags say otherwise, anonymous without a file; where an address is given it is an order, unless the flags say otherwise."""
    flags = int(op["flags"])
    flags |= 0 if flags & (MAP_DROPPABLE | MAP_SHARED) else MAP_PRIVATE
    flags |= MAP_ANONYMOUS if op["file"] < 0 else 0
    ordered = op["address"] != "any" and not flags & (HINT | MAP_FIXED_NOREPLACE)
    return flags & ~HINT | (MAP_FIXED if ordered else 0)


def name_of(address: int) -> str:
    """An address of both sides, as a script writes it."""
    for region, origin in SIDES.items():
        if -REACH <= address - origin < REACH:
            return str(Address(region, *divmod(address - origin, PAGE_SIZE)))
    return f"{address % (1 << 64):#x}"


def address_of(text: str) -> int:
    """The inverse of name_of. Raises ValueError."""
    address = ADDRESS_OF.parse(text)
    if address is None:
        raise ValueError(f"{text!r} is no address")
    return (SIDES[address.region] if address.region else 0) + address.pages * PAGE_SIZE + address.extra
