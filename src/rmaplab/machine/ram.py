"""RAM: one anonymous mapping of the host, seen as bytes and as words.

    frame 0          frame 1          frame 2
    +----------------+----------------+----------------+--- ...
    | 4096 bytes     | 4096 bytes     | 4096 bytes     |
    +----------------+----------------+----------------+--- ...
    bytes[2, 17]     the 18th byte of frame 2
    words4[i]        the 4-byte word at physical address 4 * i     page-table entries of i386
    words8[i]        the 8-byte word at physical address 8 * i     page-table entries of PAE and x86-64

The mapping is MAP_NORESERVE and without huge pages: the host commits a frame only when something is written to it, so a
box of 64 GiB costs nothing until it is used. Frames come up zero, and nobody writes zeros into a zero frame.

A fork writes page tables one behind the other. For frames that it has not had yet each costs the host a fault, a quarter of what such a
run takes; asked for all at once (MADV_POPULATE_WRITE, Linux 5.14) they cost it three quarters of that.
"""

import mmap

import numpy as np

from rmaplab.machine.arrays import I64, U8, U32, Words
from rmaplab.units import PAGE_SIZE

MAP_NORESERVE = 0x4000  # not named by Python's mmap module before 3.13
MADV_POPULATE_WRITE = 23  # nor is this
FEW = 8  # frames: their faults cost less than to ask


class Ram:
    """`nr_frames` frames of PAGE_SIZE bytes."""

    def __init__(self, nr_frames: int) -> None:
        size = nr_frames * PAGE_SIZE
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
        self.nr_frames = nr_frames
        self._mapping, self._few = mapping, FEW
        self._expected: U8 = np.zeros(nr_frames, np.uint8)
        self.bytes: U8 = np.frombuffer(mapping, np.uint8).reshape(nr_frames, PAGE_SIZE)
        self.words4: U32 = np.frombuffer(mapping, np.uint32)
        self.words8: I64 = np.frombuffer(mapping, np.int64)

    def words(self, word_bytes: int) -> Words:
        """RAM as words of 4 or 8 bytes. Eight-byte words are signed: Numba makes floats of int64 with uint64."""
        return self.words4 if word_bytes == 4 else self.words8

    def expect(self, pfns: I64) -> None:
        """All of these frames are about to be written: the host is asked for them, if they fill what lies between the first and the last.

        Of a frame that it was asked for as a first one it is not asked again. O(frames).
        """
        nr = pfns.size
        if nr < self._few:
            return
        first = int(pfns[0])
        if not self._expected[first] and int(pfns[-1]) - first == nr - 1:
            self._expected[first : first + nr] = 1
            try:
                self._mapping.madvise(MADV_POPULATE_WRITE, first * PAGE_SIZE, nr * PAGE_SIZE)
            except OSError:  # an older kernel, or no memory: it is not asked again
                self._few = self.nr_frames + 1
