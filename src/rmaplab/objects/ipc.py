"""Segments of System V shared memory, and the table that has them, by id and by key.

    id    sequence number x 32768 + slot         slots   0: segment   1: -   2: segment
    key   what programs have agreed on; 0 (IPC_PRIVATE) is nobody's

An id that is used again has another sequence number, so that an old one means nothing.

Source: ipc/util.c, ipc_addid, ipc_findkey, ipc_rmid, ipc_checkid of 2.4.27 and 2.6.2; ipc_idr_alloc of 6.18.
"""

from dataclasses import dataclass
from itertools import chain

from rmaplab.machine.locks import Lock
from rmaplab.objects.mm_types import File
from rmaplab.units import PAGE_SIZE

SLOTS = 32768
"""SEQ_MULTIPLIER, IPCMNI."""
MOST_SEQUENCES = (1 << 31) // SLOTS
MIN_CYCLE = 64
"""Slots that are gone through before they begin again, however few segments there are (ipc_min_cycle)."""


@dataclass(eq=False)
class ShmSegment:
    """struct shmid_kernel, at `address` in the slab. `size` in bytes; `nattch` are the VMAs that show it, and calls that are about to make one.

    `mode` are its permissions, and SHM_DEST and SHM_LOCKED. `locker` is the user whose limit its lock counts against.
    """

    address: int
    key: int
    mode: int
    uid: int
    size: int
    file: File
    id: int = -1
    nattch: int = 0
    locker: int | None = None

    @property
    def nr_pages(self) -> int:
        """Pages, the last of them perhaps not full."""
        return -(-self.size // PAGE_SIZE)


class ShmIds:
    """ipc_ids: all segments, by slot. It changes under `lock`. `in_turn`: how slots are chosen (Rules.ipc_ids_in_turn)."""

    def __init__(self, lock: Lock, *, in_turn: bool) -> None:
        self.lock = lock
        self.slots: dict[int, ShmSegment] = {}
        self.nr_pages = 0
        """Of all of them."""
        self._in_turn = in_turn
        self._sequence, self._last = 0, -1

    def add(self, segment: ShmSegment, limit: int) -> bool:
        """ipc_addid: it gets an id, if that makes no more than `limit`. O(segments)."""
        if len(self.slots) >= limit:
            return False
        slot = self._next_slot()
        if self._in_turn:
            self._sequence = (self._sequence + (slot <= self._last)) % (MOST_SEQUENCES - 1)
            sequence, self._last = self._sequence, slot
        else:
            sequence, self._sequence = self._sequence, (self._sequence + 1) % MOST_SEQUENCES
        segment.id = sequence * SLOTS + slot
        self.slots[slot] = segment
        self.nr_pages += segment.nr_pages
        return True

    def _next_slot(self) -> int:
        first = self._last + 1 if self._in_turn else 0
        end = min(max(len(self.slots) * 3 // 2, MIN_CYCLE), SLOTS) if self._in_turn else SLOTS
        return next(slot for slot in chain(range(first, end), range(first)) if slot not in self.slots)

    def remove(self, segment: ShmSegment) -> None:
        """ipc_rmid: the id means nothing any more."""
        del self.slots[segment.id % SLOTS]
        self.nr_pages -= segment.nr_pages

    def at(self, shmid: int) -> ShmSegment | None:
        """Whoever has the slot of that id, under this sequence number or another."""
        return self.slots.get(shmid % SLOTS)

    def with_key(self, key: int) -> ShmSegment | None:
        """ipc_findkey. O(segments)."""
        return next((segment for segment in self.slots.values() if segment.key == key), None)

    def has(self, segment: ShmSegment) -> bool:
        """Whether it is still there."""
        return self.slots.get(segment.id % SLOTS) is segment
