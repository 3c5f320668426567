"""What a script asks of the agent: an operation in its numbers, and the memory that it names."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from rmaplab.calls.table import CALLS
from rmaplab.calls.words import FileKind
from rmaplab.errors import UsageError
from rmaplab.host.procfs import read_fields
from rmaplab.host.wire import (
    BIRTH,
    CALL,
    COPY_FROM,
    COPY_TO,
    FD_COPY,
    FD_FILE,
    KINDS,
    LIMIT,
    LOOK_AT_ALL,
    LOOK_AT_SOME,
    OF_SEGMENT,
    OP,
    PADVISE,
    PREAD,
    PWRITE,
    WRITE,
)
from rmaplab.objects.flags import MAP_FIXED_NOREPLACE, RLIMIT_DATA, RLIMIT_NPROC
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.places import Places
from rmaplab.workloads.script import Op, Script, Turn
from rmaplab.workloads.world import stamp

MASK64 = 0xFFFF_FFFF_FFFF_FFFF


class HostTrouble(UsageError):
    """The host could not do what was asked: a process died, the agent died, a call was refused."""


def packed(op: Op, number: int, step: Turn, places: Places, own: Mapping[int, int]) -> bytes:
    """An operation as agent.c's struct op; a process has `own` of what is limited, by resource, for itself."""
    call, kind = CALLS[op.call], KINDS.get(op.call, CALL)
    words = _own_descriptors(op, places)
    if kind in (CALL, OF_SEGMENT):
        assert call.number is not None
        words = [call.number, *words]
    if kind in (COPY_FROM, COPY_TO):  # at the same places in the pages of a file; then what the supervisor needs
        words = [call.number or 0, FD_COPY, *words, words[0] % PAGE_SIZE, stamp(number)]
    if kind in (PREAD, PWRITE):  # how many pages before where
        words[1], words[2] = words[2], words[1]
    if kind in (WRITE, PWRITE):
        words.append(stamp(number))
    if kind == BIRTH:
        words = [call.clone_flags]
    if kind == LIMIT and op["resource"] == RLIMIT_NPROC:  # so many pages stand for so many processes
        words[1] //= PAGE_SIZE
    if kind == LIMIT and (words[1] or op["resource"] != RLIMIT_DATA):  # no data at all is no limit
        words[1] += own.get(op["resource"], 0)
    if kind == PADVISE:
        words = [step.who_slot, 1 if op["address2"] is None else 2, *words]
    words += [0] * (7 - len(words))
    look = LOOK_AT_ALL if step.looks is None else LOOK_AT_SOME
    return OP.pack(kind, step.slot, step.child_slot, look, *(word & MASK64 for word in words))


def _own_descriptors(op: Op, places: Places) -> list[int]:
    """What the agent's call is given: the arguments' numbers, with the descriptors that the agent has for those of the script."""
    numbers = places.numbers(op)
    for argument in CALLS[op.call].arguments:
        if isinstance(argument.kind, FileKind) and numbers[argument.name] >= 0:
            numbers[argument.name] += FD_FILE
    given = CALLS[op.call].given
    return [numbers[word] if isinstance(word, str) else word for word in given] if given else [*numbers.values()]


def largest_segment(script: Script) -> int:
    """Bytes that one shmat of a script may map at most."""
    return max((op["length"].nr_bytes for op in script.ops if op.call == "shmget"), default=0)


def ranges(op: Op, places: Places, segment: int = 0) -> Iterator[tuple[int, int]]:
    """The addresses, from and to, that an operation names; all within whole pages. `segment`: what a segment has at most, in bytes."""
    values = places.numbers(op)
    for place, size in (
        ("address", "length"),
        ("address", "old"),
        ("address", "pages"),
        ("to", "new"),
        ("address2", "length2"),
    ):
        anywhere = (
            op[place] == "any" and not op["flags"] & MAP_FIXED_NOREPLACE if place in values else False
        )  # which is at 0
        if place in values and size in values and op[place] is not None and not anywhere:
            first, nr = values[place], values[size] * (PAGE_SIZE if size == "pages" else 1)
            yield first, max(first + nr, first + 1) + PAGE_SIZE - 1 & -PAGE_SIZE
    if op.call == "shmat" and op["address"] != "any" and segment < 1 << 40:  # more there is none of
        yield values["address"], values["address"] + max(segment, 1) + PAGE_SIZE - 1 & -PAGE_SIZE
    if op.call in ("brk", "fetch"):
        yield values["address"], values["address"] + 1


def tasks_of_others(script: Script, agent: int) -> int:
    """Tasks that the script's user has now beside scripts': RLIMIT_NPROC counts them all. 0 where nobody is limited. O(processes).

    Raises HostTrouble where the script becomes several users who have not as many.
    """
    ops = script.ops
    if not any(op.call == "limit" and op["resource"] == RLIMIT_NPROC for op in ops):
        return 0
    users = {os.getuid()} if os.getuid() else {op["uid"] for op in ops if op.call == "setuid"} - {0}
    found = dict.fromkeys(users, 0)
    for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
        with suppress(OSError, KeyError, ValueError):  # it ends, or is not ours to read
            status = read_fields(f"{pid}/status")
            uid = int(status["Uid"].split()[0])
            if uid in found and (pid == agent or os.getpgid(pid) != agent):
                found[uid] += int(status["Threads"])
    if len(set(found.values())) > 1:
        raise HostTrouble(
            f"{script.name}: users {', '.join(map(str, sorted(found)))} have not as many processes: setuid to one of them"
        )
    return max(found.values(), default=0)
