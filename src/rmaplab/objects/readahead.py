"""What an open file remembers of how it was read: struct file_ra_state. How much of it a kernel uses, and for what, is mm/readahead.py's.

    2.4     end, window, length, most                 the last attempt ended there; so many pages with the one before; so many; what may be next
            position                                  negative until it has been read
    2.6     start, size, ahead_start, ahead_size      the window that is being read in, and the one ahead of it;  next_size: of the next one
            previous, serial, average                 the last page asked for; how many came one after the other, now and usually
            hits, misses                              faults that found their page, and that did not
    6.18    start, size, async_size, order            the last attempt, of which the last async_size pages were not asked for
            position                                  behind the last byte that was read; misses

Source: include/linux/fs.h of 2.4.27 (struct file), 2.6.2, 2.6.7 and 6.18.
"""

OFF = -1
"""`next_size` of a file that is not read ahead any more."""


class ReadaheadState:
    """All in pages, but for `position`. `pages` is the most that is read ahead at once."""

    __slots__ = (
        "ahead_size", "ahead_start", "async_size", "average", "end", "hits", "length", "misses", "most", "next_size", "order", "pages", "position",
        "previous", "serial", "size", "start", "window",
    )  # fmt: skip

    def __init__(self, pages: int = 0) -> None:
        self.pages = pages
        self.average = pages // 2
        self.position = -1
        self.start = self.size = self.ahead_start = self.ahead_size = self.next_size = self.previous = self.serial = 0
        self.hits = self.misses = self.async_size = self.order = 0
        self.end = self.window = self.length = self.most = 0
