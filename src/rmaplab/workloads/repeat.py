"""Blocks that are written once and done many times: what a script says before its operations are read.

    repeat 100 i                          A: mmap w+0 1 rw
      A: mmap w+{2*i} 1 rw       ->       A: mmap w+2 1 rw
    end                                   A: mmap w+4 1 rw ...

Blocks may stand within blocks. In braces stands a sum of whole numbers and counters: + - * // % and parentheses. A counter begins at 0.
A line that a block has made keeps the number under which it is written.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

MOST_LINES = 100_000
LARGEST = 1 << 64
_BEGIN = re.compile(r"repeat\s+(\d{1,6})(?:\s+([a-z]))?")
_COMMENT = re.compile(r"#(?!\d).*")
_BRACES = re.compile(r"\{([^{}]*)\}")
_DO: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip

Line = tuple[int, str]
"""(Where it stands in the file, from 1; what it says, without its comment.)"""


class BadBlock(ValueError):
    """A block that cannot be read: `line`, and what was expected."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def unrolled(lines: Sequence[str]) -> list[Line]:
    """All lines in the order in which they are done. Raises BadBlock, also for more than MOST_LINES."""
    told = [(number, _without_comment(line)) for number, line in enumerate(lines, 1)]
    done: list[Line] = []
    for line in _unroll([line for line in told if line[1]], {}, count()):
        done.append(line)
        if len(done) > MOST_LINES:
            raise BadBlock(line[0], f"expected at most {MOST_LINES:,} operations")
    return done


def _without_comment(line: str) -> str:
    """Behind => a # that a number follows is none: it says what is in a page."""
    head, arrow, expected = line.partition("=>")
    if "#" in head:
        return head.partition("#")[0].strip()
    return (head + arrow + _COMMENT.sub("", expected)).strip()


def _unroll(lines: Sequence[Line], counters: Mapping[str, int], turns: Iterator[int]) -> Iterator[Line]:
    """`turns` counts those of all blocks: there may be many that do nothing."""
    at = 0
    while at < len(lines):
        number, text = lines[at]
        if text == "end":
            raise BadBlock(number, "expected an operation, found an end without its repeat")
        if text.split()[0] != "repeat":
            yield number, _filled(number, text, counters)
            at += 1
            continue
        begin, end = _BEGIN.fullmatch(text), _end_of(lines, at)
        if not begin:
            raise BadBlock(number, f"expected a block such as repeat 100 i, found {text!r}")
        name = begin[2]
        for turn in range(int(begin[1])):
            if next(turns) > MOST_LINES:
                raise BadBlock(number, f"expected blocks of at most {MOST_LINES:,} turns in all")
            yield from _unroll(lines[at + 1 : end], {**counters, name: turn} if name else counters, turns)
        at = end + 1


def _end_of(lines: Sequence[Line], at: int) -> int:
    depth = 0
    for i in range(at, len(lines)):
        word = lines[i][1].split()[0]
        depth += (word == "repeat") - (word == "end")
        if not depth:
            return i
    raise BadBlock(lines[at][0], "expected an end behind this repeat")


def _filled(line: int, text: str, counters: Mapping[str, int]) -> str:
    """With numbers in the place of braces."""
    return _BRACES.sub(lambda found: str(_value(line, found[1], counters)), text)


def _value(line: int, text: str, counters: Mapping[str, int]) -> int:
    """What stands in braces. Raises BadBlock."""

    def of(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(number)) if not isinstance(number, bool):
                return number
            case ast.Name(id=name) if name in counters:
                return counters[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -of(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _DO:
                value = _DO[type(op)](of(left), of(right))
                if abs(value) <= LARGEST:
                    return value
        raise ValueError(text)

    try:
        return of(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError, ZeroDivisionError, RecursionError, MemoryError):
        known = f"and {', '.join(counters)}" if counters else "(there is no counter here)"
        raise BadBlock(line, f"expected a sum of numbers {known} in braces, found {{{text}}}") from None
