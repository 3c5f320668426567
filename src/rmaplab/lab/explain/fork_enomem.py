"""Why fork says ENOMEM: one script, and what each kernel and each overcommit mode asks before it promises memory twice.

    mapped in pieces:    |piece|piece|piece|piece|piece|piece|piece|    one VMA: more than RAM and swap
    with a hole:         |      VMA        |PROT_-|       VMA      |    three, each of which would fit

No piece is refused when it is mapped: it is compared with what is free, or with RAM and swap, alone. fork asks for each VMA as a whole.

Sources: mm/overcommit.py and what it cites; eras.md 4.6.
"""

from collections.abc import Iterator, Sequence

from rmaplab.calls.task import Task
from rmaplab.errors import SyscallError
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System, boot
from rmaplab.lab.explain.side_by_side import SideBySide, Trial, map_pages, page, write_pages
from rmaplab.mm.overcommit import OvercommitMode, Request
from rmaplab.objects.flags import PROT_NONE
from rmaplab.units import PAGE_SIZE, format_size

BOX = Box(ram="64M", swap="32M", boot_use="4M", paging="x86-64")
PIECES = 7
PIECE = (16 << 20) // PAGE_SIZE
WRITTEN = 3  # pieces that are written in the end
TRIALS = (
    ("2.4.21", OvercommitMode.HEURISTIC),
    ("2.6.2", OvercommitMode.HEURISTIC),
    ("2.6.5-rc1-aa1", OvercommitMode.HEURISTIC),
    ("6.18", OvercommitMode.HEURISTIC),
    ("6.18", OvercommitMode.ALWAYS),
    ("6.18", OvercommitMode.STRICT),
)
MODES = {OvercommitMode.HEURISTIC: "0", OvercommitMode.ALWAYS: "1: always", OvercommitMode.STRICT: "2: strict"}


def trial(kernel: str, mode: OvercommitMode) -> Trial:
    """One row: how each fork ends, and of each refusal why."""
    system = boot(kernel, BOX, overcommit=int(mode))
    requests: list[Request] = []
    system.kernel.commit_requests = requests
    notes: list[str] = []

    def refused(what: str) -> str:
        notes.append(f"{what}: {_why(system, requests[-1])}")
        return "ENOMEM"

    def fork(task: Task, what: str) -> str:
        try:
            child = task.fork()
        except SyscallError as error:
            if error.name != "ENOMEM":
                raise
            return refused(what)
        child.exit()
        task.wait()
        return "ok"

    task = system.spawn()
    mapped = 0
    for i in range(PIECES):
        try:
            map_pages(task, i * PIECE, (i + 1) * PIECE)
        except SyscallError:
            refused(f"piece {i + 1}")
            break
        mapped += 1
    assert task.mm is not None
    found: dict[str, int | str] = {
        "pieces": f"{mapped} of {PIECES}",
        "VMAs": len(task.mm.vmas),
        "fork": fork(task, "fork"),
    }
    middle = mapped // 2
    task.mprotect(page(middle * PIECE), PIECE * PAGE_SIZE, PROT_NONE)
    found["with a hole"] = fork(task, "fork with a hole")
    write_pages(task, 0, min(WRITTEN, middle) * PIECE)
    found["written"] = fork(task, "fork when written")
    system.check()
    return Trial(kernel, f"mode {MODES[mode]}", found, notes)


def _why(system: System, request: Request) -> str:
    """What the request was compared with, by the rule of this kernel and mode."""
    overcommit = system.kernel.overcommit
    figures = (*request[:3], overcommit.totalram + overcommit.swap, overcommit.swap)
    asked, free, promised, total, swap = (format_size(pages * PAGE_SIZE) for pages in figures)
    if overcommit.mode is OvercommitMode.STRICT:
        limit = format_size(overcommit.limit * PAGE_SIZE)
        return f"{asked} more than the {promised} promised so far; all promises stay below {limit}"
    if overcommit.rules.overcommit_totals:
        return f"{asked} in one mapping; RAM and swap are {total}"
    reserve = overcommit.rules.root_reserve_divisor
    return f"{asked} in one mapping; {free} are free now, and {swap} of swap" + (
        f", less 1/{reserve}" if reserve else ""
    )


def _run() -> Iterator[Trial]:
    return (trial(*each) for each in TRIALS)


def said(trials: Sequence[Trial]) -> list[str]:
    """What cures which refusal."""
    cured = [t for t in trials if t.found["fork"] == "ENOMEM" and t.found["with a hole"] == "ok"]
    again = [t for t in cured if t.found["written"] == "ENOMEM"]
    never = [t for t in trials if "ENOMEM" not in t.found.values()]
    kernels = ", ".join(dict.fromkeys(t.kernel for t in cured))
    lines = [f"A hole of PROT_NONE cures it on {kernels}: the VMA is three now, and each is asked for by itself."]
    if again:
        lines.append(
            f"On {', '.join(t.kernel for t in again)} only while enough is free: what is written counts, as what is free now is looked at. 6.18 looks at totals."
        )
    lines.append(f"Nothing is refused by {', '.join(f'{t.kernel} in {t.rule}' for t in never)}.")
    return lines


FORK_ENOMEM = SideBySide(
    "fork-enomem",
    "fork says ENOMEM: which kernel counts what?",
    f"a box with {BOX.ram} RAM, {BOX.swap} swap and {BOX.boot_use} in use, on {BOX.paging}: docs/facts/eras.md 4.6",
    (
        f"maps {PIECES} pieces of {PIECE * PAGE_SIZE >> 20}M, each beside the last one; mode 2 may refuse one, then it goes on with what it has",
        "forks; the child exits",
        "makes the piece in the middle PROT_NONE; forks",
        f"writes up to {WRITTEN} pieces below it; forks",
    ),
    "how many pieces were granted, in how many VMAs, and how each fork ended",
    _run,
    said,
)
