"""Calls of memory, planned: which region they make, and which pieces of which regions they are about."""

from collections.abc import Callable

from rmaplab.calls.table import CALLS, RANGE, Call, Returns
from rmaplab.calls.words import FlagsKind, NumberKind, ProtKind
from rmaplab.lab.replay.plan import LoggedTask, Planner
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_AS,
    RLIMIT_DATA,
    RLIMIT_MEMLOCK,
    RLIMIT_NPROC,
    RLIMIT_STACK,
)
from rmaplab.units import PAGE_SIZE, page_align
from rmaplab.workloads.strace_log import LoggedCall
from rmaplab.workloads.strace_words import BadWord, field, number, signed, text

PR_SET_VMA, ARCH_SET_FS = 0x53564D41, 0x1002
MOST_ADVISED, MOST_LISTED = 1 << 40, 1 << 32
"""Bytes: a longer range is not believed; of which mincore asks page by page."""
LIMITS = {
    RLIMIT_AS: "limit_as",
    RLIMIT_DATA: "limit_data",
    RLIMIT_MEMLOCK: "limit_memlock",
    RLIMIT_NPROC: "limit_nproc",
    RLIMIT_STACK: "limit_stack",
}


def plan_mmap(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan mmap, of nothing or of a file that was seen to be opened."""
    words = plan.words(event, 6)
    address, length, prot, flags = (number(word) for word in words[:4])
    fd, offset = signed(words[4]), number(words[5])
    file = None if flags & MAP_ANONYMOUS else fd
    if file is not None:
        if file not in who.fds:
            plan.log.wonder("mmap of what is no file that was seen to be opened")
            return
        if not event.error:
            plan.plan.files[who.fds[file].file].reaches(offset + length)
    region, space, result = plan.region(), who.space, event.result or 0
    fixed = bool(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
    inside = space.pieces(address, address + page_align(length)) if fixed and address and length > 0 else None
    near = None if fixed or not address else space.behind(address)
    hint = address if inside is None and near is None and (fixed or address == result) else 0
    flags &= ~(MAP_FIXED | MAP_FIXED_NOREPLACE) if fixed and inside is None else -1
    about = (region, length, prot, flags, file, offset // PAGE_SIZE)
    plan.add(event, who, "mmap", *about, tuple(inside or ()), near, hint)
    if not event.error:
        space.put(result, result + page_align(length), region)


def plan_munmap(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan munmap: of what is known, which may be less than it is about, for holes are fine."""
    words = plan.words(event, 2)
    address, length = number(words[0]), number(words[1])
    known = who.space.known(address, address + length) if length > 0 else []
    pieces = tuple(known) or plan.pieces(event, who, address, length)
    if pieces is not None:
        plan.add(event, who, "munmap", pieces)
    if not event.error:
        who.space.cut(address, address + page_align(length))


def plan_mprotect(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan mprotect. What it makes read-only has been written before: that is what a loader does it for (RELRO)."""
    words = plan.words(event, 3)
    address, length, prot = (number(word) for word in words[:3])
    pieces = plan.pieces(event, who, address, length)
    if pieces is None:
        return
    who.space.touched.clear()
    image = who.space.image
    if image is not None and not event.error and prot == PROT_READ:
        for part in (image.program, image.loader):
            if pieces[0].region == part.region:
                part.protected(address, length)
    if not event.error and not prot & PROT_WRITE and 0 < length <= MOST_ADVISED:
        for piece in pieces:
            plan.beside(event.line, who, "touch_relro", piece)
    plan.add(event, who, "mprotect", pieces, prot)


def _about_a_range(call: str, *places: int) -> Callable[[Planner, LoggedCall, LoggedTask], None]:
    """A call of an address, a length, and the arguments at these places."""
    most = MOST_LISTED if call == "mincore" else MOST_ADVISED

    def plan_it(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
        words = plan.words(event, max((1, *places)) + 1)
        address, length = number(words[0]), number(words[1])
        if length > most:
            raise BadWord(f"{length:,} bytes")
        pieces = plan.pieces(event, who, address, length)
        if pieces is not None:
            who.space.touched.clear()
            plan.add(event, who, call, pieces, *(number(words[place]) for place in places))

    return plan_it


def plan_mbind(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan mbind: of its nodes only whether there are any; one is here."""
    words = plan.words(event, 6)
    address, length, mode, flags = (number(words[at]) for at in (0, 1, 2, 5))
    pieces = plan.pieces(event, who, address, length)
    if pieces is not None:
        nodes = 0 if words[3] in ("NULL", "[]", "0") else 1
        plan.add(event, who, "mbind", pieces, mode, nodes, flags)


def plan_mremap(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan mremap: a region of its own, wherever it lies then."""
    words = plan.words(event, 4)
    address, old, new, flags = (number(word) for word in words[:4])
    pieces = plan.pieces(event, who, address, old)
    if pieces is None:
        return
    space, region, result = who.space, plan.region(), event.result or 0
    to = number(words[4]) if flags & MREMAP_FIXED and len(words) > 4 else 0
    inside = space.pieces(to, to + page_align(new)) if flags & MREMAP_FIXED and new > 0 else None
    if inside is None:
        flags &= ~MREMAP_FIXED
    plan.add(event, who, "mremap", region, pieces, old, new, flags, tuple(inside or ()))
    if event.error:
        return
    if old and not (flags & MREMAP_DONTUNMAP and flags & MREMAP_MAYMOVE):
        space.cut(address, address + page_align(old))
    space.put(result, result + page_align(new), region)


def plan_brk(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan brk: where the heap begins says the first one that asks."""
    asked, space, result = number(plan.words(event, 1)[0]), who.space, event.result or 0
    if event.error or result <= 0:
        raise BadWord("no break")
    if space.heap is None:
        space.heap, space.heap_region, space.brk = page_align(result), plan.region(), result
        plan.beside(event.line, who, "heap", space.heap_region)
        if asked:
            plan.log.wonder("brk of a heap that was there before")
    if not asked or asked < space.heap:
        plan.add(event, who, "brk")
        return
    well = event._replace(error="" if result == asked else "ENOMEM")
    plan.add(well, who, "brk", asked - space.heap, page_align(asked) - page_align(max(space.brk, space.heap)))
    if result == asked:
        end = page_align(space.brk)
        space.brk = asked
        if page_align(asked) < end:
            space.cut(page_align(asked), end)
        else:
            top = space.top
            space.put(space.heap, page_align(asked), space.heap_region)
            space.top = top  # what lies above the heap is what is mapped


def plan_remap_file_pages(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan remap_file_pages."""
    address, size, prot, pgoff, flags = (number(word) for word in plan.words(event, 5)[:5])
    pieces = plan.pieces(event, who, address, size)
    if pieces is not None:
        plan.add(event, who, "remap_file_pages", pieces, prot, pgoff, flags)


def plan_prctl(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan prctl that names memory; another one is nobody's."""
    words = plan.words(event, 1)
    if number(words[0]) != PR_SET_VMA:
        plan.log.passed["prctl"] += 1
        return
    if len(words) < 5:
        raise BadWord("prctl")
    pieces = plan.pieces(event, who, number(words[2]), number(words[3]))
    if pieces is not None:
        name = text(words[4]).decode("latin-1") if words[4].startswith('"') else None
        plan.add(event, who, "set_vma_name", pieces, name)


def _mlockall(call: str) -> Callable[[Planner, LoggedCall, LoggedTask], None]:
    def plan_it(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
        about = [number(plan.words(event, 1)[0])] if call == "mlockall" else []
        plan.add(event, who, call, *about)

    return plan_it


def plan_limit(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan prlimit64 of oneself, and setrlimit, where the limit is one of memory."""
    own = event.name == "setrlimit"
    words = plan.words(event, 2 if own else 3)
    pid, resource, new = 0 if own else number(words[0]), number(words[0 if own else 1]), words[1 if own else 2]
    if new == "NULL" or resource not in LIMITS or pid not in (0, who.pid) or event.error:
        plan.log.passed[event.name] += 1
        return
    plan.add(event, who, "limit", LIMITS[resource], min(field(new, "rlim_cur"), 1 << 62))


def plan_shmget(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan shmget: its id is the segment's from now on."""
    key, size, flags = (number(word) for word in plan.words(event, 3)[:3])
    known = plan.segments.get(event.result or 0) if not event.error else None
    segment = known[0] if known else plan.plan.nr_segments
    plan.plan.nr_segments += not known
    if not event.error and event.result is not None:
        plan.segments[event.result] = segment, max(size, known[1] if known else 0)
    plan.add(event, who, "shmget", segment, key, size, flags)


def _segment(plan: Planner, event: LoggedCall, word: str) -> tuple[int, int] | None:
    known = plan.segments.get(number(word))
    if known is None:
        plan.log.wonder(f"{event.name} of a segment that was there before")
    return known


def plan_shmat(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan shmat, wherever the kernel likes."""
    words = plan.words(event, 3)
    known = _segment(plan, event, words[0])
    if known is not None:
        region = plan.region()
        plan.add(event, who, "shmat", region, known[0], number(words[2]))
        if not event.error and event.result:
            who.space.put(event.result, event.result + page_align(known[1]), region)


def plan_shmdt(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan shmdt, of what shmat has returned."""
    piece = who.space.begins(address := number(plan.words(event, 1)[0]))
    if piece is None:
        plan.log.wonder("shmdt of what is not known to be mapped")
        return
    plan.add(event, who, "shmdt", piece)
    if not event.error:
        who.space.cut(address, address + piece.length)


def plan_shmctl(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan shmctl."""
    words = plan.words(event, 2)
    known = _segment(plan, event, words[0])
    if known is not None:
        plan.add(event, who, "shmctl", known[0], number(words[1]) & 0xFF)


def _used(place: int, nr_bytes: int) -> Callable[[Planner, LoggedCall, LoggedTask], None]:
    """A call that says where a word of the program's own lies: it is in memory."""

    def plan_it(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
        words = plan.words(event, place + 1)
        plan.log.passed[event.name] += 1
        if event.name != "arch_prctl" or number(words[0]) == ARCH_SET_FS:
            plan.touch(event.line, who, number(words[place]), nr_bytes)

    return plan_it


def _is_about_a_range(row: Call) -> bool:
    """Whether a call says no more than a stretch of addresses and perhaps a number about it."""
    about = row.arguments[2:]
    numbers = len(about) <= 1 and all(isinstance(each.kind, NumberKind | FlagsKind | ProtKind) for each in about)
    return row.arguments[:2] == RANGE and numbers and row.returns in (Returns.NOTHING, Returns.RESIDENT)


MEMORY: dict[str, Callable[[Planner, LoggedCall, LoggedTask], None]] = {
    **{
        row.name: _about_a_range(row.name, *range(2, len(row.arguments)))
        for row in CALLS.values()
        if _is_about_a_range(row)
    },
    "mmap": plan_mmap,
    "mmap2": plan_mmap,
    "munmap": plan_munmap,
    "mprotect": plan_mprotect,
    "mremap": plan_mremap,
    "brk": plan_brk,
    "mlockall": _mlockall("mlockall"),
    "munlockall": _mlockall("munlockall"),
    "mbind": plan_mbind,
    "remap_file_pages": plan_remap_file_pages,
    "prctl": plan_prctl,
    "prlimit64": plan_limit,
    "setrlimit": plan_limit,
    "shmget": plan_shmget,
    "shmat": plan_shmat,
    "shmdt": plan_shmdt,
    "shmctl": plan_shmctl,
    "arch_prctl": _used(1, 8),
    "set_tid_address": _used(0, 4),
    "set_robust_list": _used(0, 24),
    "rseq": _used(0, 32),
    "futex": _used(0, 4),
}
"""By name; what is not here, or of files or processes, is none of memory's."""
