"""Random scripts of other habits than fuzz.py's: each habit writes whole scripts of one kind, up to some hundred lines long.

    make_habitual("stripes", seed, 17, calls)    the 17th script of a seed, of one habit
    make_habitual("all", seed, 17, calls)        ... of any, in the proportions of HABITS

A habit is a function that is given a Pen (pen.py), and a row of HABITS. What it is for stands in its docstring. Calls that are new in the
table come in by pen.spice(), with which all but `ends` salt what they write.
"""

from collections.abc import Callable, Mapping
from random import Random

from rmaplab.calls.table import CALLS, MADV, RANGE
from rmaplab.errors import UsageError
from rmaplab.lab.differential.fuzz import make_script
from rmaplab.lab.differential.fuzz_steps import LEAF
from rmaplab.lab.differential.habits_of_files import shared, shown
from rmaplab.lab.differential.pen import PROTS, Pen
from rmaplab.workloads.script import MOST_PROCESSES, Script

Maker = Callable[[int, int, frozenset[str]], Script]
"""Of a seed, a number and the calls that there are; DISK among them where files can be on one."""
STEPS, ALL = "steps", "all"
UNDONE = {
    "DONTFORK": "DOFORK", "WIPEONFORK": "KEEPONFORK", "DONTDUMP": "DODUMP", "RANDOM": "NORMAL", "SEQUENTIAL": "NORMAL",
    "GUARD_INSTALL": "GUARD_REMOVE", "FREE": "DONTNEED", "COLD": "WILLNEED", "POPULATE_WRITE": "DONTNEED",
}  # fmt: skip
RANGED = [row.name for row in CALLS.values() if row.arguments[:2] == RANGE]
LOCKS = [
    " ".join([row.name, "{}", *(argument.kind.format(argument.tried[0]) for argument in row.arguments[2:])])
    for row in CALLS.values()
    if row.locks and row.arguments[:2] == RANGE
]
GIVEN = [word for word in UNDONE if word in MADV.words and UNDONE[word] in MADV.words]
# kernel's addresses, and such as are none: no host has anything there
EDGES = (
    "0x7ffffffff000", "0x800000000000", "0x7fffffffff000000", "0x8000000000000000", "0xffff7ffffffff000", "0xffff800000000000",
    "0xffffffff81000000", "0xfffffffffffff000", "0xffffffffffffe000", "0xfffffffffffff008",
)  # fmt: skip
WRAPPING = (
    "1", "0", "17b", "4097b", "0xfffb", "0x7ffffffff000b", "0x7fffffffffffffffb", "0xfffffffffffff000b", "0xffffffffffffffffb",
)  # fmt: skip
GIB = 1 << 18  # in pages


def many(pen: Pen) -> None:
    """Hundreds of VMAs: made one by one or doubled by moves that leave their source, then calls over many of them at once."""
    random = pen.random
    nr = _holes(pen, random.randint(60, 240)) if random.randrange(2) else _doubled(pen, random.randint(4, 6))
    pen.areas = [("w", 0, nr), ("w", nr // 3, nr // 2), ("w", 0, nr)]
    for _ in range(random.randint(10, 40)):
        match random.randrange(5):
            case 0:
                pen.say(pen.anybody(), f"write w+{random.randrange(nr)} {random.randint(1, 30)}")
            case 1:
                pen.say(pen.anybody(), f"mprotect {pen.range()} {random.choice(PROTS)}")
            case 2:
                pen.say(pen.anybody(), f"madvise {pen.range()} {random.choice([*GIVEN, *UNDONE.values()])}")
            case 3 if random.randrange(2):
                pen.say(
                    pen.anybody(),
                    f"mremap w+0 {nr} {nr} MAYMOVE|FIXED w+{random.choice([nr, 2 * nr + 7, LEAF, 2 * LEAF])}",
                )
            case _:
                pen.spice()


def _holes(pen: Pen, nr: int) -> int:
    """One page a line, with holes between or protections that alternate."""
    step, kinds = pen.random.choice([1, 1, 2, 3]), pen.random.sample(PROTS, 2)
    for i in range(nr):
        pen.say("A", f"mmap w+{i * step} 1 {kinds[i % 2] if step == 1 else 'rw'}")
    return nr * step


def _doubled(pen: Pen, times: int) -> int:
    """A few VMAs, copied behind themselves again and again: with DONTUNMAP the source stays."""
    nr = 8
    for i in range(0, nr, 2):
        pen.say("A", f"mmap w+{i} 1 {pen.random.choice(PROTS)}")
    for _ in range(times):
        pen.say("A", f"write w+{pen.random.randrange(0, nr, 2)}")
        pen.say("A", f"mremap w+0 {nr} {nr} MAYMOVE|FIXED|DONTUNMAP w+{nr}")
        nr *= 2
    return nr


def lineage(pen: Pen) -> None:
    """A chain of forks, each by the last child, with exits of ancestors, and writes that take pages over or copy them."""
    random, nr = pen.random, pen.random.randint(2, 12)
    pen.say("A", f"mmap w+0 {nr} rw")
    pen.say("A", f"write w+0 {random.randint(1, nr)}")
    pen.areas = [("w", 0, nr), ("w", 0, nr + 4)]
    last, stays = "A", random.random()
    for _ in range(MOST_PROCESSES if MOST_PROCESSES < 40 else random.randint(8, 40)):
        child = pen.child(last)
        if child is None:
            break
        for _ in range(random.randrange(4)):
            pen.say(
                random.choice([last, child, pen.anybody()]), f"write w+{random.randrange(nr)} {random.randint(1, 3)}"
            )
        if random.random() > stays or len(pen.alive) >= pen.most_alive:
            pen.say(random.choice([last, pen.alive[0]]), "exit")
        if not random.randrange(3):
            pen.say(child, f"mmap w+{random.randrange(nr + 4)} {random.randint(1, 4)} rw")
        if not random.randrange(3):
            pen.spice()
        last = child if child in pen.ready else pen.anybody()
    for _ in range(random.randrange(8)):
        pen.say(pen.anybody(), f"write w+{random.randrange(nr)}")
        if len(pen.alive) > 1:
            pen.say(pen.anybody(), "exit")


def storm(pen: Pen) -> None:
    """Some mappings, moved about by dozens of mremaps: over each other, longer and shorter, whole leaf tables too, with forks between."""
    random = pen.random
    unit = random.choice([1, 1, 1, LEAF // 2, LEAF])
    for i in range(random.randint(2, 5)):
        nr = random.randint(1, 6) * unit
        pen.areas.append(("w", i * 7 * unit, nr))
        pen.say("A", f"mmap w+{i * 7 * unit} {nr} {random.choice(PROTS[:2] + ('rw',) * 4)}")
        pen.say("A", f"write w+{i * 7 * unit + random.randrange(nr)} {random.randint(1, 3)}")
    for _ in range(random.randint(20, 60)):
        match random.randrange(10):
            case 0:
                pen.child(pen.anybody())
            case 1 | 2:
                pen.say(pen.anybody(), f"write {pen.address()} {random.randint(1, 2)}")
            case 3:
                pen.spice()
            case _:
                pen.move(pen.anybody())


def stripes(pen: Pen) -> None:
    """Every n-th page is said something else of: a protection, advice, a lock; and then, in another order, the same as of its neighbours."""
    random, nr, step = pen.random, pen.random.randint(16, 72), pen.random.choice([2, 2, 3, 5])
    pen.say("A", f"mmap w+0 {nr} rw")
    pen.areas = [("w", 0, nr)]
    for _ in range(random.randint(1, 3)):
        do, undo = _marks(pen)
        who = pen.anybody()
        places = list(range(random.randrange(step), nr, step))
        if random.randrange(2):
            pen.say(who, f"write w+{random.randrange(nr)} {random.randint(1, nr)}")
        random.shuffle(places)
        for page in places:
            pen.say(who, do.format(f"w+{page} 1"))
            if not random.randrange(12):
                pen.spice()
        pen.child(who)
        if random.randrange(2):
            pen.say(pen.anybody(), f"write w+{random.randrange(nr)} {random.randint(1, 9)}")
        who = random.choice([who, pen.anybody()])
        random.shuffle(places)
        for page in places:
            pen.say(who, undo.format(f"w+{page} {random.choice([1, 1, 1, step])}"))
        if not random.randrange(3):
            pen.say(who, undo.format(f"w+0 {nr}"))


def _marks(pen: Pen) -> tuple[str, str]:
    """What is said of a stripe, and what undoes it."""
    match pen.random.randrange(4):
        case 0 | 1:
            return f"mprotect {{}} {pen.random.choice(PROTS)}", "mprotect {} rw"
        case 2:
            advice = pen.random.choice(GIVEN)
            return f"madvise {{}} {advice}", f"madvise {{}} {UNDONE[advice]}"
        case _:
            return pen.random.choice(LOCKS), "munlock {}"


def ends(pen: Pen) -> None:
    """Where addresses end or are none, with lengths that wrap; and mappings of some GiB, of which nothing is touched."""
    random = pen.random
    pen.say("A", "mmap w+0 3 rw")
    pen.areas = [("w", 0, 3), ("w", -3, 8), ("m", -6, 6), ("h", 0, 4)]
    if random.randrange(2):  # nothing that would fill it from here on
        pen.say("A", f"mmap w+8 {random.randint(1, 3) * GIB} {random.choice('-r')} {random.choice(['0', 'NORESERVE'])}")
    for _ in range(random.randint(10, 40)):
        who, where, length = pen.anybody(), random.choice(EDGES), random.choice(WRAPPING)
        match random.randrange(8):
            case 0 | 1:
                _move_at_edge(pen, who, where, length)
            case 2:
                pen.say(who, f"{random.choice(['read', 'write'])} {random.choice([where, 'm-1', 'w-1', 'h-0'])}")
            case 3:
                pen.say(who, f"mmap {where} {length} rw {random.choice(['0', 'HINT', 'HINT', 'FIXED_NOREPLACE'])}")
            case _:
                pen.call(who, random.choice(RANGED), f"{where} {length}")
        if not random.randrange(4):
            heap = random.choice([0, 1, 5, 1 << 20, 1 << 28])
            pen.say(who, random.choice([f"mmap any {length} - NORESERVE", f"brk h+{heap}", "mmap m-2 2 rw"]))
        if not random.randrange(8):
            pen.child(who)


def _move_at_edge(pen: Pen, who: str, where: str, length: str) -> None:
    """From there, or to there; the other end is a mapping."""
    flags = pen.random.choice(["0", "MAYMOVE", "MAYMOVE|FIXED", "MAYMOVE|FIXED|DONTUNMAP", "MAYMOVE|DONTUNMAP"])
    if pen.random.randrange(2):
        pen.say(who, f"mremap {where} {length} {pen.random.randrange(5)} {flags} w+{pen.random.randrange(8)}")
    else:
        pen.say(who, f"mremap w+0 {pen.random.randint(1, 3)} {length} {flags} {where}")


def placed(pen: Pen) -> None:
    """Places that the kernel chooses: mmap of any size, holes of any size, hints, moves that find no room, stacks that grow down."""
    random, total = pen.random, 0
    pen.say("A", "mmap w+0 4 rw")
    for _ in range(random.randint(10, 45)):
        who = pen.anybody()
        pen.areas = [("w", 0, 4)] + ([("m", -total, total)] if total else [])
        match random.randrange(9):
            case 0 | 1 | 2:
                nr = random.choice([1, 2, random.randint(1, 30), random.randint(200, 300), LEAF, LEAF + 1, 2 * LEAF])
                flags = random.choice(["0", "0", "NORESERVE", "STACK", "GROWSDOWN"])
                pen.say(who, f"mmap any {nr} {random.choice(PROTS[:3] + ('rw',) * 3)} {flags}")
                total += nr
            case 3 | 4:
                pen.say(who, f"munmap {pen.range()}")
            case 5:
                pen.say(who, f"mmap {random.choice([pen.range(), f'w+{random.randrange(8)} {LEAF}'])} rw HINT")
            case 6:
                pen.say(
                    who, f"mremap w+0 4 {random.choice([4, 5, 40, LEAF])} MAYMOVE{random.choice(['', '|DONTUNMAP'])}"
                )
                pen.say(who, "mmap w+0 4 rw")
            case 7:
                pen.say(who, f"{random.choice(['read', 'write', 'write'])} {pen.address()} 1")
            case _:
                pen.spice()


def clones(pen: Pen) -> None:
    """Families of forks, vforks and clones that share address spaces, each with limits of its own, execs and exits in any order."""
    random = pen.random
    nr = random.randint(2, 9)
    pen.say("A", f"mmap w+0 {nr} rw")
    pen.areas = [("w", 0, nr)]
    for _ in range(random.randint(15, 50)):
        who = pen.anybody()
        match random.randrange(9):
            case 0 | 1:
                pen.child(who, "clone")
            case 2:
                pen.child(who, random.choice(["vfork", "fork", "fork"]))
            case 3 if len(pen.alive) > 1:
                pen.say(who, random.choice(["exit", "exit 3", "exec"]))
            case 4:
                pen.limit(who)
                pen.say(who, random.choice(["drop IPC_LOCK", "wait", "wait"]))
            case 5:
                pen.say(who, f"{random.choice(['mlock', 'munlock', 'munmap'])} {pen.range()}")
            case 6 | 7:
                pen.say(who, f"write {pen.address()} {random.randint(1, 2)}")
                pen.say(who, f"mmap w+{random.randrange(nr)} {random.randint(1, 3)} rw")
            case _:
                pen.spice()


def long(pen: Pen) -> None:
    """About 300 lines of anything, over a few areas."""
    random = pen.random
    pen.areas = [("w", 0, 24), ("w", 8, 4), ("w", LEAF - 12, 24), ("w", 2 * LEAF, LEAF)]
    for _, first, nr in pen.areas:
        pen.say("A", f"mmap w+{first} {nr} rw")
    for _ in range(random.randint(250, 330)):
        if not random.randrange(40):
            region, first, nr = random.choice(pen.areas)
            pen.say(pen.anybody(), f"mmap {region}+{first} {nr} rw")
        pen.spice()


HABITS: Mapping[str, tuple[Callable[[Pen], None], int]] = {
    "many": (many, 2), "lineage": (lineage, 4), "storm": (storm, 4), "stripes": (stripes, 3), "ends": (ends, 3),
    "placed": (placed, 4), "clones": (clones, 4), "long": (long, 1), "shown": (shown, 6),
    "shared": (shared, 8),
}  # fmt: skip
"""What writes, and how many of 39 scripts are such."""


def make_habitual(habit: str, seed: int, number: int, calls: frozenset[str]) -> Script:
    """The `number`-th script of a seed, of those calls only; of any habit where it is "all"."""
    random = Random(f"{habit}:{seed}:{number}")  # noqa: S311
    name = habit if habit != ALL else random.choices(list(HABITS), [often for _, often in HABITS.values()])[0]
    pen = Pen(random, calls)
    HABITS[name][0](pen)
    return pen.script(f"script {number} of seed {seed} ({name})")


def find_maker(habit: str) -> Maker:
    """The maker of scripts of a habit; "steps" are fuzz.py's. Raises UsageError for one there is not."""
    if habit == STEPS:
        return make_script
    if habit != ALL and habit not in HABITS:
        raise UsageError(f"no habit {habit!r}: choose from {', '.join([STEPS, ALL, *HABITS])}")
    return lambda seed, number, calls: make_habitual(habit, seed, number, calls)
