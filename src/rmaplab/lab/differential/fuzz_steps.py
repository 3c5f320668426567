"""What a random script has where: a place of the window, a range, a value; and steps with files and segments. fuzz.py makes whole scripts of it."""

from random import Random
from typing import Any

from rmaplab.calls.table import CALLS, Argument
from rmaplab.calls.words import Address, FileKind, Length, LengthKind, NumberKind, SegmentKind
from rmaplab.lab.memory import Memory
from rmaplab.objects.flags import PROT_READ, PROT_WRITE
from rmaplab.workloads.script import Op, op

FILES = 6  # descriptors
SEGMENTS = 3
FILE_PAGES = 12
LEAF = 512  # pages that one leaf table maps
SPOTS = ((0, 24), (0, 24), (0, 24), (500, 524), (300, 316))  # where in the window: around one leaf table's end, too
OF_FILES = [row.name for row in CALLS.values() if row.arguments and isinstance(row.arguments[0].kind, FileKind)]
OF_SEGMENTS = [row.name for row in CALLS.values() if row.arguments and isinstance(row.arguments[0].kind, SegmentKind)]
OF_SEGMENTS += ["shmdt"]


class Steps:
    """Where a script's steps happen, and those with files and segments."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.files: list[int] = []  # descriptors that somebody has given
        self.memfds: list[int] = []
        self.shared: list[tuple[int, int]] = []  # where something shared was mapped, and of how many pages
        self.attached: list[tuple[int, int]] = []  # ... a segment
        self.sizes: dict[int, int] = {}  # of segments, in pages
        self.soon: list[Op] = []  # what follows of itself
        self.large = not random.randrange(25)  # whole leaf tables
        self.spot = (0, 4 * LEAF) if self.large else random.choice(SPOTS)

    # -- where ----------------------------------------------------------------------------------------------------------

    def _page(self, memory: Memory) -> int:
        """A page of the spot; most often one that is mapped."""
        if memory.prots and self.random.random() < 0.85:
            return self.random.choice(list(memory.prots))
        return self.random.randint(*self.spot) if not self.large else LEAF * self.random.randrange(4)

    def _span(self, memory: Memory) -> tuple[int, int]:
        """A first page and a number: a whole mapping, part of one, or anything."""
        first = self._page(memory)
        match self.random.randrange(8):
            case 0 | 1 | 2:
                run = memory.alike(first)
                return run[0], len(run)
            case 3:
                run = memory.alike(first)
                return first, run[-1] - first + 1
            case 4:
                return first, 1
            case 5:
                return first, self.random.randint(1, 6)
            case _:
                return first, self.random.randint(1, memory.alike(first)[-1] - first + 1)

    def _goal(self, memory: Memory, nr: int) -> int:
        """Where something of so many pages could go: beside a mapping, or anywhere in the spot."""
        if memory.prots and self.random.random() < 0.6:
            run = memory.alike(self.random.choice(list(memory.prots)))
            return self.random.choice([run[-1] + 1, max(0, run[0] - nr)])
        return LEAF * self.random.randrange(6) if self.large else self.random.randint(self.spot[0], self.spot[1] + 8)

    def _address(self, page: int) -> Address:
        """It, seldom a few bytes off; pages count from the window's."""
        return Address("w", page, 17 if not self.random.randrange(150) else 0)

    def _length(self, nr: int) -> Length:
        if not self.random.randrange(60):
            return Length(0)
        return Length(nr, 100 if not self.random.randrange(80) else 0)

    def _tried(self, argument: Argument) -> Any:
        """One of the values that the table has for it."""
        return self.random.choice(argument.tried) if len(argument.tried) > 1 else argument.tried[0]

    # -- files and segments ---------------------------------------------------------------------------------------------

    def _shown(self) -> tuple[Any, ...]:
        """Perhaps a file, and from where on."""
        if not self.files or self.random.random() < 0.4:
            return ()
        return self._file(), Length(
            self.random.choice([0, 0, 0, self.random.randrange(FILE_PAGES)]),
            17 if not self.random.randrange(150) else 0,
        )

    def _file(self) -> int:
        """A descriptor: most often one that means something."""
        return (
            self.random.choice(self.files) if self.files and self.random.randrange(12) else self.random.randrange(FILES)
        )

    def _size(self) -> Length:
        """Of a file, or a place in it: seldom within a page."""
        most = LEAF + 40 if self.large and self.random.randrange(2) else FILE_PAGES
        return Length(self.random.randint(0, most), self.random.choice([0, 0, 0, 0, 100, 4090]))

    def create(self, call: str, process: str, memory: Memory) -> Op:
        """A new file of some pages."""
        file = self.random.randrange(FILES)
        self.files.append(file)
        return op(process, call, file, self._size(), self._tried(CALLS[call].arguments[2]))

    def memfd(self, call: str, process: str, memory: Memory) -> Op:
        """It has no pages at first: most often it gets some."""
        file = self.random.randrange(FILES)
        self.files.append(file)
        self.memfds.append(file)
        if self.random.randrange(8):
            self.soon.append(op(process, "ftruncate", file, self._size()))
        return op(process, call, file, self._tried(CALLS[call].arguments[1]))

    def of_file(self, call: str, process: str, memory: Memory) -> Op | None:
        """Whatever else begins with a descriptor."""
        if not self.files:
            return None
        file, left = self._file(), CALLS[call].arguments[1:]
        if self.memfds and call in ("seal", "seals", "fallocate") and self.random.randrange(6):
            file = self.random.choice(self.memfds)
        values = list[Any]()
        for argument in left:
            match argument.kind:
                case FileKind():
                    values.append(self._file())
                case LengthKind():
                    values.append(self._size())
                case NumberKind():
                    values.append(self.random.randint(1, 4))
                case _:
                    values.append(self._tried(argument))
        if call in ("open", "dup", "zero"):
            file = self.random.randrange(FILES)
            self.files.append(file)
        return op(process, call, file, *values)

    def _segment(self) -> int:
        """A name: most often one that means something."""
        named = bool(self.sizes) and self.random.randrange(12) > 0
        return self.random.choice(list(self.sizes)) if named else self.random.randrange(SEGMENTS)

    def of_segment(self, call: str, process: str, memory: Memory) -> Op:
        """Whatever else begins with one."""
        return op(process, call, self._segment(), *(self._tried(argument) for argument in CALLS[call].arguments[1:]))

    def shmget(self, call: str, process: str, memory: Memory) -> Op:
        """Most often it is attached at once."""
        name, nr = self.random.randrange(SEGMENTS), self.random.randint(1, 9)
        _, key, _, flags = CALLS[call].arguments
        self.sizes[name] = nr
        if self.random.randrange(4):
            self.soon.append(self.shmat("shmat", process, memory))
        return op(process, call, name, self._tried(key), self._length(nr), self._tried(flags))

    def shmat(self, call: str, process: str, memory: Memory) -> Op:
        """At a place, seldom anywhere."""
        name = self._segment()
        nr = self.sizes.get(name, 1)
        if not self.random.randrange(6):
            return op(process, call, name)
        page = self._goal(memory, nr)
        memory.map(page, nr, PROT_READ | PROT_WRITE)
        self.shared.append((page, nr))
        self.attached.append((page, nr))
        return op(process, call, name, self._address(page), self._tried(CALLS[call].arguments[2]))

    def shmdt(self, call: str, process: str, memory: Memory) -> Op:
        """Of where something shared was, seldom of its middle."""
        page, nr = self.random.choice(self.attached) if self.attached else (self._page(memory), 1)
        memory.unmap(page, nr)
        return op(process, call, self._address(page if self.random.randrange(6) else page + nr // 2))
