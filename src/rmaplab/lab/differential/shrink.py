"""A script that fails made small: fewer operations, fewer processes, then simpler arguments, as long as it fails.

    shrink(script, fails)

Whoever has made it: fuzz.py, habits.py, or a hand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from rmaplab.calls.table import BIRTHS, CALLS
from rmaplab.calls.words import Address, FlagsKind, KeyKind, Length, NumberKind
from rmaplab.objects.flags import IPC_PRIVATE, MREMAP_FIXED
from rmaplab.workloads.script import Lives, Op, Script

Fails = Callable[[Script], bool]


def shrink(script: Script, fails: Fails) -> Script:
    """A script that still fails, and no operation of which can be left out: ddmin, fewer processes, simpler arguments, in turn.

    `fails` decides, and is asked O(n log n) times or so, n squared at worst.
    """

    def still(ops: Sequence[Op]) -> bool:
        return bool(ops) and fails(replace(script, ops=tuple(ops)))

    ops = list(script.ops)
    while True:
        before = ops
        ops = _simpler(_fewer_processes(_fewer(ops, still), still), still)
        if ops == before:
            return replace(script, ops=_numbered(ops))


def _fewer(ops: list[Op], still: Callable[[Sequence[Op]], bool]) -> list[Op]:
    """Zeller's ddmin: leave out halves, quarters ... single operations."""
    size = len(ops) // 2
    while size:
        at = 0
        while at < len(ops):
            rest = _alive(ops[:at] + ops[at + size :])
            if len(rest) < len(ops) and still(rest):
                ops = rest
            else:
                at += size
        size //= 2
    return ops


def _fewer_processes(ops: list[Op], still: Callable[[Sequence[Op]], bool]) -> list[Op]:
    """Without a birth, the parent doing what the child has done."""
    at = 0
    while at < len(ops):
        birth = ops[at]
        if birth.call in BIRTHS:
            later = [
                replace(one, process=birth.process) if one.process == birth["child"] else one for one in ops[at + 1 :]
            ]
            tried = _alive(ops[:at] + later)
            if still(tried):
                ops = tried
                continue
        at += 1
    return ops


def _simpler(ops: list[Op], still: Callable[[Sequence[Op]], bool]) -> list[Op]:
    """Each argument in turn: shorter, without a flag, without odd bytes."""
    for at in range(len(ops)):
        for position in range(len(ops[at].arguments)):
            for value in _simpler_values(ops[at], position):
                arguments = (*ops[at].arguments[:position], value, *ops[at].arguments[position + 1 :])
                tried = [*ops[:at], replace(ops[at], arguments=arguments), *ops[at + 1 :]]
                if still(tried):
                    ops = tried
                    break
    return ops


def _simpler_values(one: Op, position: int) -> Iterator[object]:
    """What could stand there instead, simplest first."""
    value, argument = one.arguments[position], CALLS[one.call].arguments[position]
    match value, argument.kind:
        case Length(pages, extra), _:
            yield from (Length(shorter) for shorter in (1, 2, pages // 2, pages - 1) if 0 < shorter < pages)
            if extra:
                yield Length(pages)
        case Address(region, pages, extra), _:
            if extra:
                yield Address(region, pages)
        case int(), FlagsKind(exactly_one=False, words=words):
            yield from (
                value & ~bit
                for bit in words.values()
                if value & bit and not (one.call == "mremap" and bit == MREMAP_FIXED)
            )
        case int(), KeyKind() if value:
            yield IPC_PRIVATE
        case int(), NumberKind() if argument.name in ("pages", "offset"):
            yield from (fewer for fewer in (1, value // 2) if 0 < fewer < value)


def _alive(ops: Sequence[Op]) -> list[Op]:
    """Without what processes do that have never come to be, have gone, or wait."""
    lives, kept = Lives(), list[Op]()
    for one in ops:
        if lives.problem(one) is None:
            lives.do(one)
            kept.append(one)
    return kept


def _numbered(ops: Sequence[Op]) -> tuple[Op, ...]:
    return tuple(replace(one, line=number) for number, one in enumerate(ops, 1))
