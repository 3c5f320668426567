"""What a script asks of the agent: an operation in its numbers, and the memory that it names."""

from collections.abc import Iterator

from rmaplab.calls.table import CALLS
from rmaplab.host.wire import (
    BIRTH,
    CALL,
    COPY_FROM,
    COPY_TO,
    FD_COPY,
    KINDS,
    LIMIT,
    LOOK_AT_ALL,
    LOOK_AT_SOME,
    OP,
    WRITE,
)
from rmaplab.objects.flags import RLIMIT_AS
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.places import Places
from rmaplab.workloads.script import Op, Turn
from rmaplab.workloads.world import stamp

MASK64 = 0xFFFF_FFFF_FFFF_FFFF


def packed(op: Op, number: int, step: Turn, places: Places, own_bytes: int) -> bytes:
    """An operation as agent.c's struct op; a process has `own_bytes` for itself."""
    call, kind = CALLS[op.call], KINDS.get(op.call, CALL)
    words = [*places.numbers(op).values()]
    if kind == CALL:
        assert call.number is not None
        words = [call.number, *words]
    if kind in (COPY_FROM, COPY_TO):  # at the same places in the pages of a file; then what the supervisor needs
        words = [call.number or 0, FD_COPY, *words, words[0] % PAGE_SIZE, stamp(number)]
    if op.call == "mmap":
        words += [MASK64, 0]  # no file
    if kind == WRITE:
        words.append(stamp(number))
    if kind == BIRTH:
        words = [call.clone_flags]
    if kind == LIMIT and op["resource"] == RLIMIT_AS:
        words[1] += own_bytes
    words += [0] * (7 - len(words))
    look = LOOK_AT_ALL if step.looks is None else LOOK_AT_SOME
    return OP.pack(kind, step.slot, step.child_slot, look, *(word & MASK64 for word in words))


def ranges(op: Op, places: Places) -> Iterator[tuple[int, int]]:
    """The addresses, from and to, that an operation names; all within whole pages."""
    values = places.numbers(op)
    for place, size in (("address", "length"), ("address", "old"), ("address", "pages"), ("to", "new")):
        if place in values and size in values and op[place] not in ("any", None):
            first, nr = values[place], values[size] * (PAGE_SIZE if size == "pages" else 1)
            yield first, max(first + nr, first + 1) + PAGE_SIZE - 1 & -PAGE_SIZE
    if op.call in ("brk", "fetch"):
        yield values["address"], values["address"] + 1
