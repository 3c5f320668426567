"""Why an address that lies in a VMA has no page.

    its pagemap entry     a guard region; swapped out; a marker of userfaultfd
    the VMA's flags       pf: page frames without a reverse map, which pagemap does not show; um: userfaultfd waits for a touch
    the file behind it    beyond its end; swapped out (shared memory); not in the page cache; or there, and not touched by this process

Sources: fs/proc/task_mmu.c (pagemap_read, show_smap_vma_flags), mm/pagewalk.c (walk_page_test: VM_PFNMAP is passed over).
"""

import os
from typing import NamedTuple

from rmaplab.host import procfs
from rmaplab.host.candidates import SLOT_TYPE_BITS, file_of, no_page_words
from rmaplab.host.file_page import FilePage, page_behind
from rmaplab.host.pagemap import PM_GUARD_REGION, PM_PFN, PM_SWAP
from rmaplab.host.place import Place


class Absence(NamedTuple):
    """`kind` as in Answer, `why` in words; `slot` the swap entry as pagemap has it; `page` the page of a file that it would get."""

    kind: str
    why: str
    slot: int | None = None
    page: FilePage | None = None


def why_absent(place: Place, entry: int) -> Absence:
    """What an entry that is not present, its VMA and its file say."""
    if entry & PM_GUARD_REGION:
        return Absence("guard", "a guard region (MADV_GUARD_INSTALL), to touch it is SIGSEGV")
    if entry & PM_SWAP:
        return _of_entry(entry & PM_PFN)
    flags = vma_flags(place.pid, place.vma.start)
    if "pf" in flags:
        why = (
            f"{place.vma.name or 'its VMA'} maps page frames as such (VM_PFNMAP): they have no reverse map, and pagemap"
        )
        return Absence("pfnmap", f"{why} does not show them")
    if place.vma.perms.startswith("---"):
        return Absence("none", "no access is allowed (PROT_NONE), to touch it is SIGSEGV")
    if file_of(place.vma):
        index = place.vma.index_of(place.address)
        page = page_behind(place.pid, place.vma, index)
        return _of_file(place, index, page)
    if place.vma.file:
        return Absence("none", f"nothing is there, and {place.vma.name} is no file that has pages of its own")
    why = "nothing was written or read there yet, or it was given back"
    if "um" in flags:
        why += "; userfaultfd watches this VMA: a touch waits until its handler has put a page there"
    return Absence("none", why)


def _of_entry(slot: int) -> Absence:
    words = no_page_words(slot)
    if words != "swapped out":
        return Absence("none" if "marker" in words else "swap", words)
    area, offset = slot & (1 << SLOT_TYPE_BITS) - 1, slot >> SLOT_TYPE_BITS
    return Absence("swap", f"swapped out, to slot {offset:#x} of swap area {area}", slot=slot)


def _of_file(place: Place, index: int, page: FilePage | None) -> Absence:
    kind = "shmem" if place.vma.is_shared_memory or (page and page.is_shared_memory) else "file"
    name = place.vma.name
    if page is None:
        return Absence(
            kind,
            f"not touched yet{', or swapped out' if kind == 'shmem' else ''}. It would get page {index} of the file",
        )
    if page.is_beyond_the_end:
        return Absence(
            "none", f"page {index} is beyond the end of {name}, which has {page.size:,} bytes: to touch it is SIGBUS"
        )
    if page.swapped:
        why = f"page {index} of {name} is swapped out; the page cache of shared memory knows, its page tables do not"
        return Absence("swap", why, page=page)
    if page.cached:
        return Absence(kind, f"not touched yet. It would get page {index} of {name}", page=page)
    then = "gets a page of zeros" if kind == "shmem" else "reads it in"
    return Absence(kind, f"page {index} of {name} is not in the page cache: a touch {then}", page=page)


def vma_flags(pid: int, start: int) -> set[str]:
    """The two-letter flags of a VMA (proc(5), VmFlags); empty if they cannot be read. Reads smaps up to the VMA."""
    try:
        fd = procfs.open_proc(f"{pid}/smaps")
    except OSError:
        return set()
    text, head = b"\n", b"\n%x-" % start
    try:
        while part := os.read(fd, 1 << 20):
            text += part
            at = text.find(head)
            if at < 0:
                text = text[-len(head) :]  # the head may be cut
            elif (flags := text.find(b"\nVmFlags:", at)) >= 0 and (end := text.find(b"\n", flags + 1)) >= 0:
                return set(text[flags:end].decode().split()[1:])
    except OSError:
        pass
    finally:
        os.close(fd)
    return set()
