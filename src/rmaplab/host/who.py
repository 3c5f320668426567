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

import contextlib
import dataclasses
from typing import Any

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.host import kpageflags, pagemap, procfs
from rmaplab.host.absent import why_absent
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.candidates import Visit, file_candidates, file_of, one_per_address_space, visits_of
from rmaplab.host.file_page import FilePage
from rmaplab.host.frames import folio_around, last_pfn, word_of
from rmaplab.host.kernel_walk import KernelWalk, Walked
from rmaplab.host.ksm import is_merged
from rmaplab.host.pagemap import PM_FILE, PM_MMAP_EXCLUSIVE, PM_PFN, PM_PRESENT, Pagemap
from rmaplab.host.place import Place, cannot_read
from rmaplab.host.procfs import PAGE_BYTES, Unread
from rmaplab.host.unseen import are_hidden, hidden, what_hides
from rmaplab.units import format_size

ATTEMPTS = 3
_WITHOUT_WALK = ("no page", "zero", "slab", "free", "page table", "offline", "reserved", "kernel")
_WALKED = ("anon", "ksm", "file", "shmem", "hugetlb", "unknown")
_OF_FILES = ("file", "shmem", "hugetlb")
Walker = KernelWalk | BpfUnavailable | None  # walks the kernel's own graph; or why nothing does
_HIDDEN = "PFNs are hidden (CAP_SYS_ADMIN shows them)"


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
    same_slot: list[Visit] | None = None  # of anonymous memory that is swapped out: whose entries name its slot
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def wasted(self) -> list[Visit] | None:
        """The candidates that do not map the page."""
        return None if self.candidates is None else [visit for visit in self.candidates if visit.miss]

    def as_json(self) -> dict[str, Any]:
        """The object of issues 7 and 13: candidates and wasted are lists like mappers, or null where not all of them are known."""
        known = self.candidates is not None and not (self.pfn is None and self.partial)
        first, nr_pages = self.folio or (0, 0)
        folio = {"pfn": first, "pages": nr_pages, "mapped_whole": self.huge} if self.folio else None
        return {
            "pfn": self.pfn,
            "flags": self.flags,
            "mapcount": self.mapcount,
            "kind": self.kind,
            "index": self.index,
            "exclusive": self.exclusive,
            "folio": folio,
            "mappers": [visit.as_json() for visit in self.mappers],
            "candidates": [visit.as_json() for visit in self.candidates or ()] if known else None,
            "wasted": [visit.as_json() for visit in self.wasted or ()] if known else None,
            "same_slot": None if self.same_slot is None else [visit.as_json() for visit in self.same_slot],
            "absent": self.absent or None,
            "notes": self.notes,
        }


def who_maps_address(place: Place, walk: Walker = None) -> Answer:
    """The page at an address of a process. Raises UsageError when the process ends meanwhile."""
    for _ in range(ATTEMPTS):
        entry = _entry(place)
        if not entry & PM_PRESENT:
            return _absent(place, entry, walk)
        if not entry & PM_PFN:
            return _without_pfn(place, entry, walk)
        answer = who_maps_pfn(entry & PM_PFN, walk, asked=place)
        if any((visit.pid, visit.address) == (place.pid, place.address) for visit in answer.mappers):
            return answer
    answer.notes.append(f"pid {place.pid} does not stand still: its entry was another one each time it was read")
    return answer


def who_maps_file(page: FilePage, walk: Walker = None) -> Answer:
    """A page of a file, by its place in the page cache."""
    if page.pfn is not None:
        return who_maps_pfn(page.pfn, walk, of=page)
    kind = "swap" if page.swapped else "shmem" if page.is_shared_memory else "file"
    answer = Answer(None, kind, index=page.pgoff, candidates=file_candidates(page.file, page.pgoff, None))
    answer.mappers = [visit for visit in answer.candidates or () if not visit.miss]
    if page.swapped:
        answer.notes.append(f"page {page.pgoff} of {page.name} is swapped out: there is nothing to map")
    elif not page.cached:
        answer.notes.append(f"page {page.pgoff} of {page.name} is not in the page cache: there is nothing to map")
    else:
        _note_hidden(answer)
    return answer


def _note_hidden(answer: Answer) -> None:
    """Of a page of a file whose frame is not known: who else may have it."""
    closed = hidden()
    answer.partial = bool(closed)
    if not pagemap.can_see_pfns():
        answer.notes.append(f"{_HIDDEN}: those who map it were found by inode and index")
    if closed:
        found = "there may be more" if answer.mappers else "nobody that we see maps it"
        answer.notes.append(f"{found}: {are_hidden(closed)}")


def who_maps_pfn(pfn: int, walk: Walker = None, *, asked: Place | None = None, of: FilePage | None = None) -> Answer:
    """A page frame. `walk` walks the kernel's own graph; without it, only pages of files have candidates.

    Raises UsageError where there is no such frame, or where PFNs are hidden.
    """
    if not pagemap.can_see_pfns():
        raise UsageError("page frame numbers are shown to CAP_SYS_ADMIN only: run as root, or ask by PID and address")
    for _ in range(ATTEMPTS):
        word = word_of("kpageflags", pfn, kpageflags.NOPAGE) if 0 <= pfn <= pagemap.LAST_PFN else kpageflags.NOPAGE
        if word is not None and word & kpageflags.NOPAGE:
            raise UsageError(f"there is no page frame {pfn:#x} on this machine: {last_pfn()}")
        answer = Answer(pfn, "unknown" if word is None else kpageflags.kind_of(word))
        answer.mapcount = word_of("kpagecount", pfn)
        walked = _walk(walk, pfn) if answer.kind in _WALKED else None
        if answer.kind == "file" and walked is not None and not walked.folios.mapping[0]:
            answer.kind = "kernel"  # a driver or BPF put a page of its own into a VMA
        if walked is not None and is_merged(walked.folios.mapping)[0]:
            answer.kind = "ksm"  # whatever flags say: Linux 6.12's do not
        _add_candidates(answer, walked, asked, of)
        _add_mappers(answer, asked)
        torn = walked is not None and bool(walked.dump.broken)  # dumped again and again already: no use to go on
        if torn or answer.kind in _WITHOUT_WALK or answer.mapcount in (None, len(answer.mappers)):
            break
    _describe(answer, word)
    if answer.kind == "file" and answer.mappers and not any(v.vma and file_of(v.vma) for v in answer.mappers):
        answer.kind = "kernel"
    if answer.candidates is None and not walked:
        _add_candidates(answer, None, asked, of)
    _add_notes(answer, walked)
    if answer.candidates is None:
        _note_no_walk(answer, walk)
    return answer


def _walk(walk: Walker, pfn: int) -> Walked | None:
    return walk.walk(np.array([pfn], np.uint64)) if isinstance(walk, KernelWalk) else None


def _add_candidates(answer: Answer, walked: Walked | None, asked: Place | None, of: FilePage | None) -> None:
    """By the kernel's graph if we have it; else, for a page of a file that we can name, by the VMAs in everybody's maps."""
    prefer = asked.pid if asked else None
    if answer.kind in _WITHOUT_WALK:
        answer.candidates = []
    elif walked is not None:
        if walked.reaches_all:
            answer.index = None if answer.kind == "ksm" else int(walked.folios.pgoff[0])
            answer.candidates = walked.of(0, prefer)
    elif answer.kind in _OF_FILES:
        places = [(asked.vma, asked.address)] if asked else []
        places += [(visit.vma, visit.address) for visit in answer.mappers if visit.vma]
        names = [(of.file, of.pgoff)] if of else []
        names += [(file, vma.index_of(address)) for vma, address in places if (file := file_of(vma))]
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
    answer.folio = folio_around(answer.pfn or 0, word)
    if answer.kind == "anon":
        # a PMD entry has the bit of its whole folio on the first page
        head = answer.folio[0] if answer.folio and answer.huge else answer.pfn
        answer.exclusive = bool((word_of("kpageflags", head or 0) or 0) & kpageflags.ANON_EXCLUSIVE)


def _add_notes(answer: Answer, walked: Walked | None) -> None:
    """What is missing, and why."""
    missing = (answer.mapcount or 0) - len(answer.mappers)
    refused = hidden()
    if answer.kind == "zero":
        answer.notes.append("the kernel neither counts the entries of the zero page nor keeps a reverse map of it")
    elif missing > 0:
        lost = "a process may have ended meanwhile"
        if refused:
            lost = f"{are_hidden(refused)}, or a process has ended meanwhile"
        elif not procfs.is_first_pid_namespace():
            lost = "this PID namespace hides the processes outside of it"
        answer.notes.append(f"{missing:,} of {answer.mapcount:,} entries not found: {lost}")
    elif missing < 0 and answer.mapcount is not None and answer.kind not in _WITHOUT_WALK:
        answer.notes.append(f"{-missing:,} more than the kernel counts: the page changed hands while it was read")
    if others := procfs.nr_sharing({visit.pid for visit in answer.mappers}):
        answer.notes.append(f"{others:,} more processes share the address space of one listed (CLONE_VM)")
    if answer.candidates is not None and answer.kind in _OF_FILES and refused:
        answer.partial = True
        if missing <= 0:
            answer.notes.append(f"the walk may visit more: {are_hidden(refused)}")
    if walked and walked.dump.broken:
        torn = f"the kernel's graph changed while it was read, {walked.dump.torn} times"
        answer.notes.append(f"{torn}: visits may be missing")


def _note_no_walk(answer: Answer, walk: Walker) -> None:
    if isinstance(walk, KernelWalk) and answer.kind == "ksm":
        why = "the kernel's rmap_items of this KSM page could not all be read"
    elif isinstance(walk, KernelWalk):
        why = "its anon_vma is in no process that we see"
    elif answer.kind in _OF_FILES:
        why = "nobody found names the file"
    else:
        why = "that takes BPF" if walk is None else str(walk)
    answer.notes.append(f"which VMAs the kernel's own walk would visit is not known: {why}")


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


def _absent(place: Place, entry: int, walk: Walker) -> Answer:
    """No page here: if the VMA is of a file, the file's page may be mapped by others, and a page of swap may be in other tables."""
    found = why_absent(place, entry)
    absent = f"pid {place.pid} has no page at {place.address:#x}: {found.why}"
    if found.slot is not None:
        mates, _ = pagemap.find(found.slot, procfs.processes(), swapped=True)
        same = one_per_address_space(visits_of(mates), place.pid)
        return Answer(None, found.kind, absent=absent, same_slot=same)
    file = file_of(place.vma)
    if found.kind not in (*_OF_FILES, "swap") or file is None:
        return Answer(None, found.kind, absent=absent)
    index = place.vma.index_of(place.address)
    pfn = found.page.pfn if found.page else None
    visits = [] if pfn else file_candidates(file, index, None, place.pid)
    mappers = [visit for visit in visits if not visit.miss]
    pfn = pfn or next(filter(None, map(_pfn_at, mappers)), None)
    if pfn:
        answer = who_maps_pfn(pfn, walk, asked=place)
    else:
        answer = Answer(None, found.kind, index=index, mappers=mappers, candidates=visits)
        _note_hidden(answer) if found.page is None or found.page.cached else None
    answer.absent = absent + (", which is this one:" if pfn or mappers else "")
    return answer


def _pfn_at(visit: Visit) -> int:
    with contextlib.suppress(OSError), Pagemap(visit.pid) as reader:
        word = reader.entry(visit.address) or 0
        return word & PM_PFN if word & PM_PRESENT else 0
    return 0


def _without_pfn(place: Place, entry: int, walk: Walker) -> Answer:
    """What an ordinary user's own entry says: bit 61 (file), bit 56 (mapped exactly once), and who meets it by inode."""
    own = Visit(place.pid, place.comm, place.address, place.vma)
    once = bool(entry & PM_MMAP_EXCLUSIVE)
    answer = Answer(None, _kind_by_entry(own), mapcount=1 if once else None, mappers=[own])
    if entry & PM_FILE and (file := file_of(place.vma)):
        answer.index = place.vma.index_of(place.address)
        answer.candidates = file_candidates(file, answer.index, None, place.pid)
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
        answer.notes.append(f"these map it among the processes that we may read; there may be more: {what_hides()}")
    else:
        answer.notes.append(
            f"it is mapped more than once (pagemap, bit 56 is clear), by whom else is not shown: {what_hides()}"
        )
    if answer.candidates is None:
        _note_no_walk(answer, walk)
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
