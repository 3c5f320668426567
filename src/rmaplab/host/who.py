"""Who maps this page? The question of this project, put to the kernel under our feet.

    pid, address ----> pagemap ----> PFN ----> every pagemap  ----> mappers     by reading all page tables
                                      |
                                      +------> candidates: the VMAs that the kernel's own walk would visit
                                                 a file's page: every VMA of the inode that covers its index
                                                 an anonymous page: every VMA on the anon_vma it points to (BPF)
                                               wasted: the candidates that turn out not to map it

What may be seen decides what can be said. Everything needs CAP_SYS_ADMIN and BPF; without BPF the candidates of an anonymous
page are not known (None, never an empty list); without PFNs a process's own entry says whether the page is mapped once (bit
56), and pages of files still meet by inode and index.

If as many candidates map the page as /proc/kpagecount counts, those are all, and nothing else need be read; if not, all page
tables are. The question takes a while and the machine goes on: it is asked again where found and counted differ. What is
still missing then is said.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.host import kpageflags, pagemap, procfs
from rmaplab.host.candidates import Visit, file_candidates, one_per_address_space, visits_of
from rmaplab.host.kernel_walk import KernelWalk, Walked
from rmaplab.host.pagemap import PM_FILE, PM_GUARD_REGION, PM_MMAP_EXCLUSIVE, PM_PFN, PM_PRESENT, PM_SWAP, Pagemap
from rmaplab.host.place import FilePage, Place, cannot_read
from rmaplab.host.procfs import PAGE_BYTES, Unread
from rmaplab.units import format_size

ATTEMPTS = 3
_WITHOUT_WALK = ("no page", "zero", "slab", "free", "page table", "offline", "reserved", "kernel")
_WALKED = ("anon", "file", "shmem", "hugetlb", "unknown")
_OF_FILES = ("file", "shmem", "hugetlb")
_HIDDEN = "PFNs are hidden (CAP_SYS_ADMIN shows them)"
_NONE_OF_YOURS = "none of your own processes maps it; others are not yours to see"
_FOLIO_WINDOW = 512  # pages of the largest folio we look for around a page: one entry of the upper level


@dataclasses.dataclass
class Answer:
    """A page and who maps it. What is not known is None; `notes` say why, and what else there is to know."""

    pfn: int | None
    kind: str
    flags: list[str] | None = None
    mapcount: int | None = None
    index: int | None = None
    exclusive: bool | None = None
    folio: tuple[int, int] | None = None  # of a large folio: its first PFN, its number of pages
    huge: bool = False  # an entry of the upper level maps it
    mappers: list[Visit] = dataclasses.field(default_factory=list)
    candidates: list[Visit] | None = None
    partial: bool = False  # more VMAs may be visited, in processes that we do not see
    absent: str = ""  # why the place asked about has no page
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def wasted(self) -> list[Visit] | None:
        """The candidates that do not map the page."""
        return None if self.candidates is None else [visit for visit in self.candidates if visit.miss]

    def as_json(self) -> dict[str, Any]:
        """The object of issue 7: candidates and wasted are lists like mappers, or null where not all of them are known."""
        known = self.candidates is not None and not (self.pfn is None and self.partial)
        return {
            "pfn": self.pfn,
            "flags": self.flags,
            "mapcount": self.mapcount,
            "kind": self.kind,
            "index": self.index,
            "mappers": [visit.as_json() for visit in self.mappers],
            "candidates": [visit.as_json() for visit in self.candidates or ()] if known else None,
            "wasted": [visit.as_json() for visit in self.wasted or ()] if known else None,
        }


def who_maps_address(place: Place, walk: KernelWalk | None = None) -> Answer:
    """The page at an address of a process. Raises UsageError when the process ends meanwhile."""
    for _ in range(ATTEMPTS):
        entry = _entry(place)
        if not entry & PM_PRESENT:
            return _absent(place, entry, walk)
        if not entry & PM_PFN:
            return _without_pfn(place, entry)
        answer = who_maps_pfn(entry & PM_PFN, walk, asked=place)
        if any((visit.pid, visit.address) == (place.pid, place.address) for visit in answer.mappers):
            return answer
    answer.notes.append(f"pid {place.pid} does not stand still: its entry was another one each time it was read")
    return answer


def who_maps_file(page: FilePage, walk: KernelWalk | None = None) -> Answer:
    """A page of a file, by its place in the page cache."""
    if page.pfn is not None:
        return who_maps_pfn(page.pfn, walk, of=page)
    answer = Answer(None, "file", index=page.pgoff, candidates=file_candidates(page.file, page.pgoff, None))
    answer.mappers = [visit for visit in answer.candidates or () if not visit.miss]
    if not page.cached:
        answer.notes.append(f"page {page.pgoff} of {page.name} is not in the page cache: there is nothing to map")
        return answer
    answer.partial = bool(procfs.not_ours())
    found = "only processes of your own were looked at" if answer.mappers or not answer.partial else _NONE_OF_YOURS
    answer.notes.append(f"{_HIDDEN}: {found}")
    return answer


def who_maps_pfn(
    pfn: int, walk: KernelWalk | None = None, *, asked: Place | None = None, of: FilePage | None = None
) -> Answer:
    """A page frame. `walk` walks the kernel's own graph; without it, only pages of files have candidates.

    Raises UsageError where there is no such frame, or where PFNs are hidden.
    """
    if not pagemap.can_see_pfns():
        raise UsageError("page frame numbers are shown to CAP_SYS_ADMIN only: run as root, or ask by PID and address")
    for _ in range(ATTEMPTS):
        word = _per_pfn("kpageflags", pfn, kpageflags.NOPAGE) if 0 <= pfn <= pagemap.LAST_PFN else kpageflags.NOPAGE
        if word is not None and word & kpageflags.NOPAGE:
            raise UsageError(f"there is no page frame {pfn:#x} on this machine: {_last_pfn()}")
        answer = Answer(pfn, "unknown" if word is None else kpageflags.kind_of(word))
        answer.mapcount = _per_pfn("kpagecount", pfn)
        walked = walk.walk(np.array([pfn], np.uint64)) if walk and answer.kind in _WALKED else None
        _add_candidates(answer, walked, asked, of)
        _add_mappers(answer, asked)
        torn = walked is not None and bool(walked.dump.broken)  # dumped again and again already: no use to go on
        if torn or answer.kind in _WITHOUT_WALK or answer.mapcount in (None, len(answer.mappers)):
            break
    _describe(answer, word)
    if answer.candidates is None and not walked:
        _add_candidates(answer, None, asked, of)
    _add_notes(answer, walked)
    return answer


def _add_candidates(answer: Answer, walked: Walked | None, asked: Place | None, of: FilePage | None) -> None:
    """By the kernel's graph if we have it; else, for a page of a file that we can name, by the VMAs in everybody's maps."""
    prefer = asked.pid if asked else None
    if answer.kind in _WITHOUT_WALK:
        answer.candidates = []
    elif walked is not None:
        if walked.reaches_all:
            answer.index = int(walked.folios.pgoff[0])
            answer.candidates = walked.of(0, prefer)
    elif answer.kind in _OF_FILES:
        places = [(asked.vma, asked.address)] if asked else []
        places += [(visit.vma, visit.address) for visit in answer.mappers if visit.vma]
        names = [(of.file, of.pgoff)] if of else []
        names += [(vma.file, vma.index_of(address)) for vma, address in places if vma.file]
        if names:
            answer.index = names[0][1]
            answer.candidates = file_candidates(*names[0], answer.pfn, prefer)


def _add_mappers(answer: Answer, asked: Place | None) -> None:
    """The candidates that have it, if they are as many as the kernel counts; else all page tables of the machine are read."""
    answer.mappers = [visit for visit in answer.candidates or () if not visit.miss]
    if answer.kind in _WITHOUT_WALK or answer.candidates is None or len(answer.mappers) != answer.mapcount:
        found, _ = pagemap.find(answer.pfn or 0, procfs.processes())
        answer.mappers = one_per_address_space(visits_of(found), asked.pid if asked else None)


def _describe(answer: Answer, word: int | None) -> None:
    """What kpageflags says of the page; without it, what the entry of its first mapper says."""
    answer.huge = any(_is_huge(visit) for visit in answer.mappers[:1])
    if word is None:
        answer.kind = _kind_by_entry(answer.mappers[0]) if answer.mappers else "unknown"
        answer.notes.append("/proc/kpageflags and /proc/kpagecount cannot be read: flags and mapcount are not known")
        return
    answer.flags = kpageflags.flag_names(word)
    answer.folio = _folio(answer.pfn or 0, word)
    if answer.kind == "anon":
        # a PMD entry has the bit of its whole folio on the first page
        head = answer.folio[0] if answer.folio and answer.huge else answer.pfn
        answer.exclusive = bool((_per_pfn("kpageflags", head or 0) or 0) & kpageflags.ANON_EXCLUSIVE)


def _add_notes(answer: Answer, walked: Walked | None) -> None:
    """What is missing, and why."""
    missing = (answer.mapcount or 0) - len(answer.mappers)
    refused = procfs.not_ours()
    if answer.kind == "zero":
        answer.notes.append("the kernel neither counts the entries of the zero page nor keeps a reverse map of it")
    elif missing > 0:
        hidden = "a process may have ended meanwhile"
        if refused:
            hidden = f"{_not_ours(refused)}, or a process has ended meanwhile"
        elif not procfs.is_first_pid_namespace():
            hidden = "this PID namespace hides the processes outside of it"
        answer.notes.append(f"{missing:,} of {answer.mapcount:,} entries not found: {hidden}")
    elif missing < 0 and answer.mapcount is not None and answer.kind not in _WITHOUT_WALK:
        answer.notes.append(f"{-missing:,} more than the kernel counts: the page changed hands while it was read")
    if others := procfs.nr_sharing({visit.pid for visit in answer.mappers}):
        answer.notes.append(f"{others:,} more processes share the address space of one listed (CLONE_VM)")
    if answer.candidates is None:
        answer.notes.append(f"which VMAs the kernel's own walk would visit is not known: {_no_walk(answer, walked)}")
    elif answer.kind in _OF_FILES and refused:
        answer.partial = True
        if missing <= 0:
            answer.notes.append(f"the walk may visit more: {_not_ours(refused)}")
    if walked and walked.dump.broken:
        torn = f"the kernel's graph changed while it was read, {walked.dump.torn} times"
        answer.notes.append(f"{torn}: visits may be missing")


def _no_walk(answer: Answer, walked: Walked | None) -> str:
    if answer.kind == "ksm":
        return "those of a KSM page hang on its rmap_items, which are not read here"
    if answer.kind in _OF_FILES:
        return "nobody found names the file"
    return "its anon_vma is in no process that we see" if walked else "that takes BPF"


def _not_ours(pids: Sequence[int]) -> str:
    return f"pid {pids[0]} is not ours to read" if len(pids) == 1 else f"{len(pids):,} processes are not ours to read"


def _entry(place: Place) -> int:
    try:
        with Pagemap(place.pid) as reader:
            entry = reader.entry(place.address)
    except OSError as error:
        raise UsageError(cannot_read(place.pid, place.comm, procfs.why_unread(error))) from None
    if entry is None:
        if isinstance(procfs.read_maps(place.pid), Unread):
            raise UsageError(cannot_read(place.pid, place.comm, Unread.ENDED))
        raise UsageError(
            f"pid {place.pid} ({place.comm}) at {place.address:#x}: this VMA has no page-table entries to read "
            f"({place.vma}): ask about another one"
        )
    return entry


def _absent(place: Place, entry: int, walk: KernelWalk | None) -> Answer:
    """No page here: if the VMA is of a file, the file's page may be mapped by others."""
    where = f"pid {place.pid} has no page at {place.address:#x}"
    if place.vma.file and not entry & (PM_SWAP | PM_GUARD_REGION):
        index = place.vma.index_of(place.address)
        visits = file_candidates(place.vma.file, index, None, place.pid)
        mappers = [visit for visit in visits if not visit.miss]
        kind = "shmem" if place.vma.is_shared_memory else "file"
        answer = Answer(None, kind, index=index, mappers=mappers, candidates=visits, partial=bool(procfs.not_ours()))
        if answer.partial and not mappers:
            answer.notes.append(_NONE_OF_YOURS)
        for visit in mappers:
            with Pagemap(visit.pid) as reader:
                word = reader.entry(visit.address) or 0
            if word & PM_PRESENT and word & PM_PFN:
                answer = who_maps_pfn(word & PM_PFN, walk, asked=place)
                break
        answer.absent = f"{where}: not touched yet. It would get page {index} of the file, which is this one:"
        return answer
    if entry & PM_GUARD_REGION:
        return Answer(None, "guard", absent=f"{where}: a guard region (MADV_GUARD_INSTALL), to touch it is SIGSEGV")
    if entry & PM_SWAP:
        return Answer(None, "swap", absent=f"{where}: it is swapped out, or on its way to another frame")
    return Answer(None, "none", absent=f"{where}: nothing was written or read there yet, or it was given back")


def _without_pfn(place: Place, entry: int) -> Answer:
    """What an ordinary user's own entry says: bit 61 (file), bit 56 (mapped exactly once), and who meets it by inode."""
    own = Visit(place.pid, place.comm, place.address, place.vma)
    once = bool(entry & PM_MMAP_EXCLUSIVE)
    answer = Answer(None, _kind_by_entry(own), mapcount=1 if once else None, mappers=[own])
    if entry & PM_FILE and place.vma.file:
        answer.index = place.vma.index_of(place.address)
        answer.candidates = file_candidates(place.vma.file, answer.index, None, place.pid)
        answer.partial = True
        answer.mappers = [visit for visit in answer.candidates if not visit.miss] or [own]
    answer.huge = _is_huge(own)
    answer.notes.append(f"{_HIDDEN}: frame, flags and count are not known")
    if once:
        answer.notes.append("the kernel says that it is mapped exactly once (pagemap, bit 56): by this process alone")
    elif _categories(place.pid, place.address) & pagemap.PAGE_IS_PFNZERO:
        answer.kind = "zero"
        return answer
    elif len(answer.mappers) > 1:
        answer.notes.append("among the processes you may read, these map it; there may be more")
    else:
        answer.notes.append("it is mapped more than once (pagemap, bit 56 is clear); by whom else is not yours to see")
    smaps = procfs.read_smaps(place.pid, place.vma.start)
    if not isinstance(smaps, Unread):
        shared, private = (
            smaps.get(f"{what}_Clean", 0) + smaps.get(f"{what}_Dirty", 0) for what in ("Shared", "Private")
        )
        sizes = f"{format_size(smaps.get('Rss', 0))} in memory, {format_size(shared)} mapped by others too"
        answer.notes.append(
            f"of its VMA's {format_size(place.vma.end - place.vma.start)}: {sizes}, {format_size(private)} not"
        )
    return answer


def _kind_by_entry(visit: Visit) -> str:
    """anon, file or shmem: bit 61 and the VMA's name."""
    try:
        with Pagemap(visit.pid) as reader:
            entry = reader.entry(visit.address) or 0
    except OSError:
        return "unknown"
    if not entry & PM_FILE:
        return "anon"
    return "shmem" if visit.vma and visit.vma.is_shared_memory else "file"


def _is_huge(visit: Visit) -> bool:
    return bool(_categories(visit.pid, visit.address) & pagemap.PAGE_IS_HUGE)


def _categories(pid: int, address: int) -> int:
    """What PAGEMAP_SCAN says of one page; 0 where it says nothing."""
    try:
        with Pagemap(pid) as reader:
            report = pagemap.PAGE_IS_HUGE | pagemap.PAGE_IS_PFNZERO
            found = reader.regions(address, address + PAGE_BYTES, report=report)
    except OSError:
        return 0
    return int(found[0, 2]) if len(found) else 0


def _per_pfn(name: str, pfn: int, beyond: int = 0) -> int | None:
    words = pagemap.read_per_pfn(name, [pfn], beyond)
    return None if isinstance(words, Unread) else int(words[0])


def _folio(pfn: int, word: int) -> tuple[int, int] | None:
    """First PFN and number of pages of the large folio around a page, by the marks on its neighbours."""
    if not word & (kpageflags.COMPOUND_HEAD | kpageflags.COMPOUND_TAIL):
        return None
    low = max(0, pfn - _FOLIO_WINDOW)
    words = pagemap.read_per_pfn("kpageflags", range(low, pfn + _FOLIO_WINDOW))
    if isinstance(words, Unread):
        return None
    heads = np.flatnonzero(words[: pfn - low + 1] & np.uint64(kpageflags.COMPOUND_HEAD))
    others = np.flatnonzero((words[pfn - low + 1 :] & np.uint64(kpageflags.COMPOUND_TAIL)) == 0)
    if not len(heads) or not len(others):
        return None
    return low + int(heads[-1]), pfn + 1 + int(others[0]) - (low + int(heads[-1]))


def _last_pfn() -> str:
    """Where the page frames end: the zones of /proc/zoneinfo."""
    text = procfs.read_proc("zoneinfo")
    starts = [] if isinstance(text, Unread) else re.findall(rb"spanned\s+(\d+).*?start_pfn:\s+(\d+)", text, re.DOTALL)
    ends = [int(start) + int(spanned) for spanned, start in starts if int(spanned)]
    return f"the last one is {max(ends) - 1:#x}" if ends else "try a smaller one"
