"""Scripts of system calls as text: one operation a line, the same for the model and for the real kernel.

    # a page that three processes share, and one of them moves          what a line says
    A: mmap w+0 8 rw                                                     process: call arguments
    A: write w+2                                                         lengths and offsets are pages
    A: fork B                                                            a name is given once, by fork
    B: mremap w+0 4 4 MAYMOVE|FIXED w+16
    B: read w+18
    B: exit

Addresses are symbolic, so that each side may have them elsewhere:

    w+3     the window: a private stretch of addresses where nothing else is mapped
    m-8     below m the kernel puts what may lie anywhere (`mmap any`, a moving mremap)
    h+2     the heap: h is where the break was at the beginning
    0x1000  that address, whatever it may be
    w+{2*i} a place that moves with a counter, in a block that is repeated (repeat.py)
    ... and `+17b` behind an address or a length is 17 bytes more: `w+3+17b`, `2+1b`, `1b`

`create f0 8` makes a file of 8 pages and descriptor f0 of it; `shmget s0 5 8` a segment with key 5. `mmap` makes anonymous memory, private unless it is SHARED, or shows a file; at a given address it is MAP_FIXED, unless the flags say HINT or FIXED_NOREPLACE. A
`write` stores a number that nobody else stores: that of its line among the operations, and of the page. Behind `=>` stands what the call
must come to: `=> ENOMEM`, `=> SIGSEGV w+3`, `=> w+0`; a first word is enough, and `=> ok` is anything but a failure.
`A: ... | B: ...` are two calls that may overlap. Before the first operation `box ram=512M overcommit=2` may say on what machine (box.py).

Here: Op, Script, parse() and str(script) as its inverse, and Lives: who may act. What may be called is in calls/table.py, how
words are written in calls/words.py.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from rmaplab.calls.table import BIRTHS, CALLS, REQUIRED
from rmaplab.calls.words import NAME, LivingKind
from rmaplab.errors import UsageError, did_you_mean
from rmaplab.objects.flags import MREMAP_FIXED, RLIMIT_NPROC
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.box import HOST, BadBox, ScriptBox, parse_box
from rmaplab.workloads.repeat import BadBlock, Line, unrolled

FIRST = "A"
WORD = 8  # bytes that a read or write moves
INSTRUCTION = 16  # bytes that one may take, and one more
MOST_PROCESSES = 512  # that live at once, with their threads
MOST_WATCHED = 16  # so many are looked at after each operation; of more, those that it is about
FAILURE = re.compile(r"^(?!EXEC$)E[A-Z0-9]+$|\bSIG[A-Z]+\b|^-\d+$|^hung$")
"""In a result: an errno, by name or number, or a signal. EXEC is a seal."""


class ScriptError(UsageError):
    """A script that cannot be read: file and line, what stands there, what was expected."""


BESIDE = " | "  # between two operations of one line


@dataclass(frozen=True)
class Op:
    """One line: `process` makes `call` with `arguments`, a value for every Argument of its row. `line` is where it stood.

    `expected` is what it must come to; "" if nothing was said. With `beside` it stands in one line with the operation before it: the two may overlap.
    """

    process: str
    call: str
    arguments: tuple[Any, ...]
    line: int = 0
    expected: str = ""
    beside: bool = False

    def __getitem__(self, name: str) -> Any:
        """The argument called `name`."""
        for argument, value in zip(CALLS[self.call].arguments, self.arguments, strict=True):
            if argument.name == name:
                return value
        raise KeyError(name)

    def __str__(self) -> str:
        words = list(zip(CALLS[self.call].arguments, self.arguments, strict=True))
        while words and words[-1][1] == words[-1][0].default:
            words.pop()
        told = [f"{self.process}:", self.call, *(argument.kind.format(value) for argument, value in words)]
        return " ".join([*told, *(["=>", self.expected] if self.expected else [])])

    def is_as_expected(self, result: str) -> bool:
        """Whether `result`, in the words of both sides, is what the script says."""
        if self.expected in ("", "ok"):
            return not self.expected or not FAILURE.search(result)
        return f"{result} ".startswith(f"{self.expected} ")

    def same(self) -> tuple[str, str, tuple[Any, ...]]:
        """All but where it stood."""
        return self.process, self.call, self.arguments


def op(process: str, call: str, *arguments: Any) -> Op:
    """An Op with what is left out filled in."""
    signature = CALLS[call].arguments
    missing = tuple(argument.default for argument in signature[len(arguments) :])
    assert REQUIRED not in missing, f"{call} needs more arguments"
    return Op(process, call, (*arguments, *missing))


@dataclass(frozen=True)
class Script:
    """Operations in order, what the script is called: a file's path, and on what machine they are done."""

    ops: tuple[Op, ...]
    name: str = "script"
    box: ScriptBox = HOST

    def __str__(self) -> str:
        lines = [] if self.box == HOST else [str(self.box)]
        for before, op in pairwise((None, *self.ops)):
            assert op is not None
            if before is not None and op.beside and op.line == before.line:  # unless a shrinker has left out the other
                lines[-1] += f"{BESIDE}{op}"
            else:
                lines.append(str(op))
        return "".join(f"{line}\n" for line in lines)

    @property
    def processes(self) -> tuple[str, ...]:
        """All names, in order of birth."""
        return (FIRST, *(op["child"] for op in self.ops if op.call in BIRTHS))


def read_script(path: str | Path) -> Script:
    """The script in a file, or "-": on stdin. Raises ScriptError."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        text = raw.decode("utf-8-sig")  # some editors begin a text with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ScriptError(f"{path}: cannot be read ({reason}): give the path of a script") from None
    return parse(text, "stdin" if str(path) == "-" else str(path))


def parse(text: str, name: str = "script") -> Script:
    """The script that `text` is. Raises ScriptError: `name`, line, what was expected. O(length)."""
    lines = text.splitlines()
    try:
        unblocked = unrolled(lines)
        box = parse_box(unblocked[0][1]) if unblocked and _is_box(unblocked[0]) else None
    except BadBlock as error:
        raise ScriptError(f"{name}:{error.line}: {error}") from None
    except BadBox as error:
        raise ScriptError(f"{name}:{unblocked[0][0]}: {error}") from None
    ops = tuple(_ops(unblocked[box is not None :], name))
    if not ops:
        raise ScriptError(f"{name}:{max(1, len(lines))}: expected an operation such as A: mmap w+0 1 rw, found none")
    for problem in life_problems(ops):
        raise ScriptError(f"{name}:{problem}")
    return Script(ops, name, box or HOST)


def _is_box(line: Line) -> bool:
    return line[1].split()[0] == "box"


def _ops(lines: Sequence[Line], name: str) -> Iterator[Op]:
    for number, line in lines:
        try:
            yield from _line(line, number)
        except ScriptError as error:
            raise ScriptError(f"{name}:{number}: {error}") from None


def _line(line: str, number: int) -> Iterator[Op]:
    """One operation, or two that may overlap: then neither is there for the other's sake."""
    parts = line.split(BESIDE)
    ops = [_op(part, number) for part in parts]
    processes = [op.process for op in ops]
    if len(ops) > 2 or len(set(processes)) < len(ops):
        raise ScriptError(f"expected at most two operations in a line, of two processes, found {line!r}")
    if len(ops) == 2 and any(op.call in BIRTHS and op["child"] in processes for op in ops):
        raise ScriptError(f"expected two processes that are there both when the line begins, found {line!r}")
    yield from (replace(op, beside=i > 0) for i, op in enumerate(ops))


def _op(line: str, number: int) -> Op:
    told, arrow, expected = line.partition("=>")
    if arrow and not expected.strip():
        raise ScriptError("expected what it comes to, such as => ENOMEM or => ok, found the end of the line")
    if not told.strip():
        raise ScriptError(f"expected a process and a colon such as A:, found {line!r}")
    if told.split()[0] == "box":
        raise ScriptError("expected the box before all operations, and once")
    return replace(_parse_line(told.split(), number), expected=" ".join(expected.split()))


def _parse_line(words: list[str], number: int) -> Op:
    process = words[0].removesuffix(":")
    if not words[0].endswith(":") or not NAME.fullmatch(process):
        raise ScriptError(f"expected a process and a colon such as A:, found {words[0]!r}")
    if len(words) == 1:
        raise ScriptError(f"expected a call after {words[0]!r}: one of {', '.join(CALLS)}")
    call, given = words[1], words[2:]
    if call not in CALLS:
        raise ScriptError(f"expected a call, found {call!r}{did_you_mean(call, CALLS)}: one of {', '.join(CALLS)}")
    signature = CALLS[call].arguments
    if len(given) > len(signature):
        raise ScriptError(f"expected the end of the line, found {given[len(signature)]!r}: {usage(call)}")
    values = []
    for i, argument in enumerate(signature):
        if i >= len(given):
            if argument.default is REQUIRED:
                raise ScriptError(f"expected {argument.kind.expected}, found the end of the line: {usage(call)}")
            values.append(argument.default)
            continue
        value = argument.kind.parse(given[i])
        if value is None:
            raise ScriptError(f"expected {argument.kind.expected}, found {given[i]!r}: {usage(call)}")
        values.append(value)
    op = Op(process, call, tuple(values), number)
    if call in ("read", "write") and op["address"].extra > PAGE_SIZE - WORD:
        raise ScriptError(f"expected a place for {WORD} bytes within a page, found {given[0]!r}: {usage(call)}")
    if call == "fail" and not op["nth"]:
        raise ScriptError(f"expected an allocation, from 1 on, found '0': {usage(call)}")
    if call == "limit" and op["resource"] == RLIMIT_NPROC and op["length"].extra:
        raise ScriptError(f"expected a number of processes, found {given[1]!r}: {usage(call)}")
    if call == "fetch" and op["address"].extra > PAGE_SIZE - INSTRUCTION:
        raise ScriptError(f"expected a place for an instruction within a page, found {given[0]!r}: {usage(call)}")
    if call == "mremap" and op["flags"] & MREMAP_FIXED and op["to"] is None:
        raise ScriptError(f"expected the address that FIXED moves to, found the end of the line: {usage(call)}")
    return op


def usage(call: str) -> str:
    """How a call is written: "mmap ADDRESS LENGTH PROT [FLAGS]"."""
    words = [a.name.upper() if a.default is REQUIRED else f"[{a.name.upper()}]" for a in CALLS[call].arguments]
    return " ".join([call, *words])


class Lives:
    """Who lives and who waits: each process is born once, acts while it lives, waits for a vfork child; a thread ends with its process.

    `waits` is parent: child, `leaders` thread: process.
    """

    def __init__(self) -> None:
        self.born, self.gone, self.waits = {FIRST: 0}, dict[str, int](), dict[str, str]()
        self.leaders = dict[str, str]()

    @property
    def nr_alive(self) -> int:
        """Processes and threads that live."""
        return len(self.born) - len(self.gone)

    def problem(self, op: Op) -> str | None:
        """What is wrong with who makes this call now, in words."""
        if op.process not in self.born:
            return f"expected a process that lives, found {op.process}: fork it first (A: fork {op.process})"
        if op.process in self.gone:
            return f"expected a process that lives, found {op.process}, which exits in line {self.gone[op.process]}"
        if op.process in self.waits:
            child = self.waits[op.process]
            return f"{op.process} waits for its vfork child: expected {child}: exit or {child}: exec before"
        for argument, who in zip(CALLS[op.call].arguments, op.arguments, strict=True):
            if isinstance(argument.kind, LivingKind) and (who not in self.born or who in self.gone):
                return f"expected the name of a process that lives, found {who}"
        if op.process in self.leaders and op.call in ("vfork", "exec"):
            leader = self.leaders[op.process]
            return f"expected a process for {op.call}, found {op.process}, which is a thread: let {leader} do it"
        if op.call in BIRTHS:
            child, line = op["child"], self.born.get(op["child"])
            if line is not None:
                giver = f"line {line} has given already" if line else "is the first process"
                return f"expected a new name, found {child}, which {giver}"
            if self.nr_alive >= MOST_PROCESSES:
                return f"expected at most {MOST_PROCESSES} processes and threads that live: let one exit before"
        return None

    def ends(self, op: Op) -> tuple[str, ...]:
        """Who ends with this operation."""
        if op.call not in ("exit", "kill", "exec") or (op.call == "exit" and op.process in self.leaders):
            return (op.process,) if op.call == "exit" else ()
        leader = self.leaders.get(op.process, op.process)
        threads = tuple(name for name, its in self.leaders.items() if its == leader and name not in self.gone)
        return threads if op.call == "exec" else (leader, *threads)

    def do(self, op: Op) -> None:
        """It is made."""
        gone = self.ends(op)
        if op.call in BIRTHS:
            self.born[op["child"]] = op.line
        if op.call == "vfork":
            self.waits[op.process] = op["child"]
        if op.call == "thread":
            self.leaders[op["child"]] = self.leaders.get(op.process, op.process)
        self.gone |= dict.fromkeys(gone, op.line)
        if gone or op.call == "exec":
            free = {*gone, op.process}
            self.waits = {
                parent: child for parent, child in self.waits.items() if child not in free and parent not in gone
            }


class Turn(NamedTuple):
    """Where an operation happens: the places in which its process lives, its child, and who else is named, and who is looked at after it.

    A place is the lowest that is free. `looks` are names; None: at everybody.
    """

    slot: int
    child_slot: int
    who_slot: int
    looks: tuple[str, ...] | None


def steps(ops: Sequence[Op]) -> Iterator[Turn]:
    """One for each operation. O(n log n)."""
    lives, slots, free = Lives(), {FIRST: 0}, list(range(1, MOST_PROCESSES + 1))
    for number, op in enumerate(ops, 1):
        slot, child_slot = slots[op.process], 0
        looks: tuple[str, ...] = (op.process,)
        if op.call in BIRTHS:
            child_slot = slots[op["child"]] = heappop(free)
            looks = (op.process, op["child"])
        named = zip(CALLS[op.call].arguments, op.arguments, strict=True)
        who_slot = next((slots[who] for argument, who in named if isinstance(argument.kind, LivingKind)), 0)
        for name in lives.ends(op):
            heappush(free, slots[name])
        lives.do(op)
        few = lives.nr_alive <= MOST_WATCHED or number == len(ops)
        yield Turn(slot, child_slot, who_slot, None if few else looks)


def life_problems(ops: Iterable[Op]) -> Iterator[str]:
    """What is wrong with who calls: "LINE: ...", the first thing of each operation."""
    lives = Lives()
    for op in ops:
        problem = lives.problem(op)
        if problem is not None:
            yield f"{op.line}: {problem}"
        lives.do(op)
