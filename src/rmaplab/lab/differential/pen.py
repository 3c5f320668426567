"""A script in the making, for those that write whole ones (habits.py): who lives, and where something is likely to be.

pen = Pen(Random(7), calls)
pen.say("A", "mmap w+0 8 rw")        a line as a script has it; left out where the host has no such call, or the process cannot act
child = pen.child("A", "fork")       its name; None where no process more may be
pen.areas.append(("w", 0, 8))        what pen.range(), pen.address() and pen.spice() choose from
pen.spice()                          any call of the table, with arguments by their kinds: a new row appears by itself
"""

from dataclasses import replace
from random import Random
from typing import Any

from rmaplab.calls.table import BIRTHS, CALLS, MADV, REQUIRED, Argument
from rmaplab.calls.words import (
    AddressKind,
    FileKind,
    FlagsKind,
    LengthKind,
    LivingKind,
    NumberKind,
    PlaceKind,
    SegmentKind,
)
from rmaplab.lab.differential.fuzz import MAP_CHANCES
from rmaplab.lab.differential.fuzz_steps import FILES, SEGMENTS
from rmaplab.objects.flags import MAP_SHARED
from rmaplab.workloads.script import FIRST, MOST_PROCESSES, Lives, Op, Script, op

Area = tuple[str, int, int]
"""(region, first page, number of pages)"""
MOST_ALIVE = 6
ADVICE = [word for word in MADV.words if "MERGEABLE" not in word]  # ksmd would act on it
PROTS = ("rw", "r", "-", "rx", "w", "rwx")
MREMAP_FLAGS = ("0", "MAYMOVE", "MAYMOVE", "MAYMOVE|DONTUNMAP")
AS_PAGES = (40, 400, 4000, 1 << 20)
MEMLOCK_PAGES = (0, 3, 9, 40, 200)
NPROC = (0, 2, 4, 100)
RUNNABLE = 256
"""Pages of one write that may be fetched from: what stands at the others' beginnings is an instruction that does something."""


class Pen:
    """One script in the making. `random` is what it is made of."""

    def __init__(self, random: Random, calls: frozenset[str]) -> None:
        self.random = random
        self.areas: list[Area] = []
        self.most_alive = MOST_ALIVE
        self.lives = Lives()
        self.ops: list[Op] = []
        # mlockall compares MEMLOCK, which binds who is not root, with what the agent has mapped, too: docs/divergences.md
        self.calls = calls - ({"mlockall"} if random.randrange(3) else {"setuid", "drop"})
        self._names = iter([f"{chr(ord('A') + i % 26)}{i // 26 or ''}" for i in range(1, MOST_PROCESSES)])
        self.advice = ADVICE
        self._may_fetch = True

    def script(self, name: str) -> Script:
        """What stands there."""
        if not self.ops:  # the host has none of the calls that were wanted
            self.ops.append(replace(op(FIRST, "exit"), line=1))
        return Script(tuple(self.ops), name)

    def on_disk(self) -> None:
        """Files of this script are on a disk: holes are not modelled there."""
        self.calls -= {"fallocate"}
        self.advice = [word for word in ADVICE if word != "REMOVE"]

    # -- who --------------------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> list[str]:
        """All who live."""
        return [name for name in self.lives.born if name not in self.lives.gone]

    @property
    def ready(self) -> list[str]:
        """Those of them who do not wait for a vfork child."""
        return [name for name in self.alive if name not in self.lives.waits]

    def anybody(self) -> str:
        """One who can act."""
        return self.random.choice(self.ready)

    def child(self, parent: str, call: str = "fork") -> str | None:
        """A birth: the child's name; None if there can be none."""
        if call not in self.calls or len(self.alive) >= self.most_alive:
            return None
        name = next(self._names, None)
        if name is None or not self.say(parent, f"{call} {name}" + (" VM" if call == "clone" else "")):
            return None
        return name

    # -- what -------------------------------------------------------------------------------------------------------------

    def say(self, process: str, text: str) -> bool:
        """A line; False if it is left out."""
        call, *words = text.split()
        if call not in self.calls:
            return False
        values = [argument.kind.parse(word) for argument, word in zip(CALLS[call].arguments, words, strict=False)]
        assert None not in values, f"cannot be read: {text}"
        return self._add(op(process, call, *values))

    def spice(self) -> None:
        """Some call of the table by somebody, where something is likely to be."""
        names = [call for call in CALLS if call in self.calls and CALLS[call].often]
        call = self.random.choices(names, [CALLS[name].often for name in names])[0]
        who = self.anybody()
        if call in BIRTHS:
            self.child(who, call)
        elif call == "mremap":
            self.move(who)
        elif call == "limit":
            self.limit(who)
        else:
            self.call(who, call)

    def call(self, who: str, call: str, span: str | None = None) -> None:
        """A call of the table with a value for each argument, by its kind; left out where a kind is none that is known here.

        `span` is where it begins and how long it is, as it is written ("w+3 4"); without one, part of an area.
        """
        if call not in self.calls:
            return
        left, values = list(CALLS[call].arguments), list[Any]()
        while left:
            if left[0].default is not REQUIRED and not left[0].tried and self.random.randrange(2):
                break  # it may be left out, with what stands behind it
            if (
                len(left) > 1
                and isinstance(left[0].kind, AddressKind)
                and isinstance(left[1].kind, (LengthKind, NumberKind))
            ):
                words, span = (span or self.range()).split(), None
                values += [argument.kind.parse(word) for argument, word in zip(left, words, strict=False)]
                del left[:2]
                continue
            value = self._value(call, left.pop(0))
            if value is None:
                return
            values.append(value)
        if (
            call == "mmap" and len(values) > 4 and values[4] >= 0 and self.random.randrange(2)
        ):  # a file, from page 0 on or another
            values[3] |= MAP_SHARED
        self._add(op(who, call, *values))

    def move(self, who: str) -> None:
        """Any mremap."""
        region, first, nr = self._part()
        new = self.random.choice([nr, nr, nr + 1, max(1, nr - 1), 2 * nr])
        flags, to = self.random.choice(MREMAP_FLAGS), ""
        if self.random.randrange(2):
            flags, to = (
                self.random.choice(["MAYMOVE|FIXED", "MAYMOVE|FIXED", "MAYMOVE|FIXED|DONTUNMAP"]),
                self._goal(new),
            )
        self.say(who, f"mremap {told(region, first)} {nr} {new} {flags} {to}")

    def limit(self, who: str) -> None:
        """Of the address space, stacks, processes; or of locked memory, in a script without mlockall."""
        if "mlockall" in self.calls or self.random.randrange(2):
            resource = self.random.choice(["AS", "AS", "DATA", "STACK", "NPROC"])
            most = self.random.choice(NPROC) if resource == "NPROC" else self.random.choice(AS_PAGES)
            self.say(who, f"limit {resource} {most}")
        else:
            self.say(who, f"limit MEMLOCK {self.random.choice(MEMLOCK_PAGES)}")

    # -- where ------------------------------------------------------------------------------------------------------------

    def range(self) -> str:
        """Part of an area, all of it, or a little more: "w+3 4"."""
        region, first, nr = self._part()
        return f"{told(region, first)} {nr}"

    def address(self) -> str:
        """A page of an area: "w+3"."""
        region, first, _ = self._part()
        return told(region, first)

    def _part(self) -> Area:
        region, first, nr = self.random.choice(self.areas or [("w", 0, 8)])
        if not self.random.randrange(4):
            return region, first, nr
        at = self.random.randrange(nr)
        part = self.random.choice([1, 1, 2, self.random.randint(1, nr - at), nr - at + self.random.randrange(3)])
        if region == "m":  # what lies above is the agent's
            part = min(part, -(first + at))
        return region, first + at, part

    def _goal(self, nr: int) -> str:
        """Where something of so many pages may go to: onto an area, or right beside one."""
        region, first, size = self.random.choice(self.areas or [("w", 0, 8)])
        at = self.random.choice([first + size, first - nr, first + self.random.randrange(size)])
        if region == "m":
            at = min(at, -nr)
        return told(region, at)

    # -- arguments by their kinds -------------------------------------------------------------------------------------------

    def _value(self, call: str, argument: Argument) -> Any:
        random, kind = self.random, argument.kind
        if argument.tried:
            return random.choice(argument.tried)
        if call == "mmap" and isinstance(kind, FlagsKind):
            likely = [word for word, chance in MAP_CHANCES.items() if not random.randrange(chance)]
            return kind.parse("|".join(likely) or "0")
        match kind:
            case FlagsKind(exactly_one=True):
                return kind.parse(random.choice(self.advice if kind is MADV else list(kind.words)))
            case FlagsKind(words=words):
                return kind.parse("|".join(word for word in words if not random.randrange(3)) or "0")
            case PlaceKind():  # in the window: what is attached may be long, and above m is the agent's
                place = self.address()
                return kind.parse(place if place[0] == "w" and random.randrange(5) else "any")
            case AddressKind():
                return kind.parse(f"h+{random.randrange(6)}" if call == "brk" else self.address())
            case LengthKind():
                return kind.parse(str(random.choice([1, 2, 3, 8])))
            case NumberKind(most=most):
                return min(random.choice([1, 1, 2, 5]), most)
            case FileKind():
                return random.randrange(FILES)
            case SegmentKind():
                return random.randrange(SEGMENTS)
            case LivingKind():
                return random.choice(self.alive)
            case _:
                return None

    def _add(self, one: Op) -> bool:
        ended = len(self.lives.ends(one)) if one.process in self.lives.born else 0
        if (
            self.lives.problem(one) is not None
            or ended == len(self.alive)
            or (one.call == "fetch" and not self._may_fetch)
        ):
            return False
        wide = {"write": lambda: one["pages"], "copy_to_user": lambda: one["length"].pages + 2}
        self._may_fetch = self._may_fetch and (one.call not in wide or wide[one.call]() <= RUNNABLE)
        self.ops.append(Op(one.process, one.call, one.arguments, len(self.ops) + 1))
        self.lives.do(self.ops[-1])
        return True


def told(region: str, page: int) -> str:
    """As a script writes it."""
    return f"{region}{'-' if page < 0 else '+'}{abs(page)}"
