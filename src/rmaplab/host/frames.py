"""One page frame: its words in /proc/kpageflags and /proc/kpagecount, the folio around it, and where the frames end."""

import re

import numpy as np

from rmaplab.host import kpageflags, pagemap, procfs
from rmaplab.host.procfs import Unread

_WINDOW = 512  # pages of a folio of the upper level
_LARGEST = 1 << 18  # of a huge page of 1 GiB


def word_of(name: str, pfn: int, beyond: int = 0) -> int | None:
    """The word of a frame in such a file, None if it cannot be read."""
    words = pagemap.read_per_pfn(name, [pfn], beyond)
    return None if isinstance(words, Unread) else int(words[0])


def folio_around(pfn: int, word: int) -> tuple[int, int] | None:
    """First PFN and number of pages of the large folio around a page, by the marks on its neighbours. O(pages of the folio)."""
    if not word & (kpageflags.COMPOUND_HEAD | kpageflags.COMPOUND_TAIL):
        return None
    window = _WINDOW
    while window <= _LARGEST:
        low = max(0, pfn - window)
        words = pagemap.read_per_pfn("kpageflags", range(low, pfn + window + 1))
        if isinstance(words, Unread):
            return None
        heads = np.flatnonzero(words[: pfn - low + 1] & np.uint64(kpageflags.COMPOUND_HEAD))
        others = np.flatnonzero((words[pfn - low + 1 :] & np.uint64(kpageflags.COMPOUND_TAIL)) == 0)
        if len(heads) and len(others):
            first = low + int(heads[-1])
            return first, pfn + 1 + int(others[0]) - first
        window *= 8
    return None


def last_pfn() -> str:
    """Where the page frames end, in words: the zones of /proc/zoneinfo."""
    text = procfs.read_proc("zoneinfo")
    starts = [] if isinstance(text, Unread) else re.findall(rb"spanned\s+(\d+).*?start_pfn:\s+(\d+)", text, re.DOTALL)
    ends = [int(start) + int(spanned) for spanned, start in starts if int(spanned)]
    return f"the last one is {max(ends) - 1:#x}" if ends else "try a smaller one"
