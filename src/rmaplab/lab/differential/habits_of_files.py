"""Two habits of habits.py: files that a family shows, and memory that it shares."""

from rmaplab.lab.differential.fuzz_steps import LEAF
from rmaplab.lab.differential.pen import PROTS, Pen

DISK = "disk"
ADVICE = ("REMOVE", "REMOVE", "DONTNEED", "POPULATE_WRITE", "GUARD_INSTALL", "GUARD_REMOVE")
SHMAT_FLAGS = ("0", "0", "0", "RDONLY", "REMAP", "REMAP", "RND", "EXEC")


def shown(pen: Pen) -> None:
    """Files, opened more than once, that a family shows side by side and over each other: written to, cut, grown, moved, protected."""
    random, nr = pen.random, pen.random.choice([4, 9, 24, 40, LEAF + 20])
    pen.areas = [("w", 0, nr), ("w", nr, nr), ("w", LEAF - 12, 24)]
    where = "rw disk" if DISK in pen.calls and not random.randrange(6) else ""
    if where:
        pen.on_disk()
    for nth in range(random.randint(1, 3)):
        pen.say("A", f"create f{nth} {random.randint(1, nr)}{random.choice(['', '', '+100b'])} {where}")
    pen.say("A", f"open f3 f0 {random.choice(['r', 'rw', 'w'])}")
    pen.say("A", "dup f4 f0")
    for _ in range(random.randint(20, 60)):
        who, file = pen.anybody(), f"f{random.choice([0, 0, 0, 1, 2, 3, 4])}"
        match random.randrange(12):
            case 0 | 1 | 2:
                pen.say(who, _showing(pen, file))
            case 3:
                pen.child(who, random.choice(["fork", "fork", "fork", "clone"]))
            case 4:
                pen.say(
                    who,
                    f"ftruncate {file} {random.choice([0, random.randint(0, nr), nr, nr + 3])}{random.choice(['', '+100b', '+9b'])}",
                )
            case 5:
                pen.say(
                    who, f"{random.choice(['pwrite', 'pread'])} {file} {random.randrange(nr)} {random.randint(1, 4)}"
                )
            case 6 | 7 | 8:
                pen.say(who, f"{random.choice(['write', 'write', 'read'])} {pen.address()} {random.randint(1, 9)}")
            case 9:
                pen.move(who)
            case 10:
                pen.say(who, f"mprotect {pen.range()} {random.choice(PROTS)}")
            case _:
                pen.spice()


def _showing(pen: Pen, file: str) -> str:
    """A mapping of it: as the others go on, or from anywhere."""
    random = pen.random
    region, first, nr = random.choice(pen.areas)
    at = random.randrange(nr)
    flags = random.choice(["SHARED", "SHARED", "0", "SHARED|POPULATE", "SHARED|NORESERVE"])
    page = random.choice([at, at, random.randrange(nr)])
    return f"mmap {region}+{first + at} {random.randint(1, nr - at)} {random.choice(['rw', 'rw', 'r'])} {flags} {file} {page}"


def shared(pen: Pen) -> None:
    """Shared memory of every kind in a family: without a file, of /dev/zero, sealed and cut and punched memfds, segments; attached, moved, placed anew page by page."""
    random, nr = pen.random, pen.random.choice([3, 8, 16, LEAF + 12])
    pen.areas = [("w", 0, nr), ("w", nr, nr), ("w", 2 * nr, 2 * nr), ("w", 3 * LEAF - 6, 12)]
    pen.say("A", "memfd f0 ALLOW_SEALING")
    pen.say("A", f"ftruncate f0 {nr}")
    pen.say("A", f"zero f1 {random.choice(['rw', 'rw', 'r'])}")
    pen.say("A", f"shmget s0 1 {nr}{random.choice(['', '+100b'])} CREAT|0x1b6")
    pen.say("A", f"mmap w+0 {nr} rw SHARED {random.choice(['-', 'f0', 'f1'])}")
    for _ in range(random.randint(20, 60)):
        who = pen.anybody()
        match random.randrange(13):
            case 0:
                pen.child(who, random.choice(["fork", "fork", "clone"]))
            case 1:
                pen.move(who)
            case 2 | 3:
                pen.say(who, f"{random.choice(['write', 'write', 'read'])} {pen.address()} {random.randint(1, 5)}")
            case 4:
                pen.spice()
            case _:
                pen.say(who, _of_shared(pen, nr))


def _of_shared(pen: Pen, nr: int) -> str:
    """What is said of memfd f0, segments, and where they are."""
    random, page = pen.random, pen.random.randrange(nr)
    segment, place = f"s{random.randrange(2)}", f"w+{random.choice([2, 3, 5]) * nr}"
    match random.randrange(9):
        case 0 | 1:
            return _showing(pen, random.choice(["f0", "f0", "f1", "-"]))
        case 2:
            return f"shmat {segment} {random.choice(['any', place, place])} {random.choice(SHMAT_FLAGS)}"
        case 3:
            return random.choice(
                [
                    f"shmdt {place}",
                    f"shmdt {place}",
                    "shmstat s0",
                    f"shmget s1 {random.choice(['1', 'PRIVATE'])} {nr} CREAT|0x1b6",
                ]
            )
        case 4:
            return f"shmctl {segment} {random.choice(['RMID', 'LOCK', 'UNLOCK'])}"
        case 5:
            return f"fallocate f0 {page} {random.randint(1, nr)} {random.choice(['0', 'KEEP_SIZE', 'KEEP_SIZE|PUNCH_HOLE'])}"
        case 6:
            sealed = (
                f"seal f0 {random.choice(['SHRINK', 'GROW', 'WRITE', 'FUTURE_WRITE'])}"
                if not random.randrange(3)
                else "seals f0"
            )
            return random.choice(
                [f"ftruncate f0 {page}", f"ftruncate f0 {nr}", "blocks f0", f"pwrite f0 {page} 2", sealed]
            )
        case 7:
            return f"madvise {pen.range()} {random.choice(ADVICE)}"
        case _:
            return f"remap_file_pages {pen.range()} {page}"
