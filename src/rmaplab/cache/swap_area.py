"""One swap area: its header, how often each of its slots is used, and the search for the next one.

    slot        0        1   2   3   4   5 ...                max - 1
    users    0x8000      2   0   1   0x8000  0                   0          0: free; 0x8000: bad, for ever; 0x7fff: full, for ever
             header          ^                ^                  ^
                        lowest_bit       cluster_next       highest_bit     no free slot lies outside [lowest_bit, highest_bit]

Pages that go out together shall lie together. So a search goes on behind the last slot while a cluster lasts, then looks for 256 free slots
in a row, wherever they begin, and is content with any one if there are none. The slot that opens a cluster is not counted: one is 257 slots.

    header page    0           1024     1028       1032         1036   1052    1536 ...          4086
                   boot code   version  last_page  nr_badpages  uuid   label   637 bad pages     "SWAPSPACE2"

Up to 2.6.7 the last page of an area is never used, later it is (`uses_last`). Version 0 of the header ("SWAP-SPACE", with a bit for each page)
is refused here as by 2.6; 2.4 takes it. Since 2.6.34 at the latest a header of the other byte order is taken; here it is a wrong version.

Source: mm/swapfile.c (scan_swap_map, swap_entry_free, swap_duplicate, sys_swapon), include/linux/swap.h of 2.4.27, 2.6.2, 2.6.7; 2.6.34
sys_swapon; reclaim.md F.1, F.2, F.8.
"""

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

import numpy as np

from rmaplab.errors import KernelBug, SyscallError, UsageError
from rmaplab.machine.arrays import I32, I64, Bools
from rmaplab.machine.jit import inline, kernel
from rmaplab.units import PAGE_SIZE

SWAP_MAP_MAX = 0x7FFF
"""A slot that is used so often stays used for ever: nobody knows by how many."""
SWAP_MAP_BAD = 0x8000
SWAPFILE_CLUSTER = 256

MAGIC, MAGIC_OF_VERSION_0 = b"SWAPSPACE2", b"SWAP-SPACE"
_FIELDS = struct.Struct("<III16s16s")  # version, last_page, nr_badpages, uuid, label
_FIELDS_AT, _BADPAGES_AT, _MAGIC_AT = 1024, 1536, PAGE_SIZE - len(MAGIC)
MAX_BADPAGES = (_MAGIC_AT - _BADPAGES_AT) // 4

_LOWEST, _HIGHEST, _NEXT, _NR = range(4)  # places in the state that the kernels share

NO_UUID = UUID(int=0)


# -- the header --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SwapHeader:
    """What the first page of an area says. Pages are counted from the header on, which is page 0; `label` is bytes up to its first NUL."""

    last_page: int
    badpages: tuple[int, ...] = ()
    uuid: UUID = NO_UUID
    label: bytes = b""
    version: int = 1

    @property
    def nr_badpages(self) -> int:
        """Bad pages on the list, each as often as it stands there."""
        return len(self.badpages)


def _refused(why: str, number: int = errno.EINVAL) -> SyscallError:
    return SyscallError(number, "swapon", why)


def read_header(page: bytes, *, uses_last: bool = False) -> SwapHeader:
    """What the first page of an area says, if swapon takes it. O(bad pages).

    `page` is that page's 4096 bytes; what a file is shorter counts as zeros. Raises SyscallError: EINVAL where there is no signature, one of
    version 0, another version than 1, more than 637 bad pages, one outside of 1 to last_page - 1 (last_page if `uses_last`); ENOMEM
    for a last page 0 up to 2.6.7, where vmalloc is asked for no bytes and gives none. What else may be wrong SwapArea.of sees.
    """
    page = page[:PAGE_SIZE].ljust(PAGE_SIZE, b"\0")
    magic = page[_MAGIC_AT:]
    if magic == MAGIC_OF_VERSION_0:
        raise _refused("version 0 swap is no longer supported")
    if magic != MAGIC:
        raise _refused("there is no swap-space signature")
    version, last_page, nr, ident, label = _FIELDS.unpack_from(page, _FIELDS_AT)
    if version != 1:
        raise _refused(f"swap header version {version} is not known")
    if nr > MAX_BADPAGES:
        raise _refused(f"{nr} bad pages, of which a header can name {MAX_BADPAGES}")
    if not last_page and not uses_last:
        raise _refused("the swap area is empty: its last page is its header", errno.ENOMEM)
    bad = struct.unpack_from(f"<{nr}I", page, _BADPAGES_AT)
    end = last_page + uses_last
    for number in bad:
        if not 1 <= number < end:
            raise _refused(f"bad page {number} is outside of 1 to {end - 1}")
    return SwapHeader(last_page, bad, UUID(bytes=ident), label.partition(b"\0")[0], version)


def write_header(header: SwapHeader) -> bytes:
    """The first page of an area, as mkswap writes it but for the boot code's place, which is zeros. O(1).

    Raises UsageError for a label of more than 16 bytes or too many bad pages. Nothing else is asked: read_header is there for that.
    """
    if len(header.label) > 16:
        raise UsageError(f"a label of {len(header.label)} bytes does not fit into a swap header: give 16 at most")
    if header.nr_badpages > MAX_BADPAGES:
        raise UsageError(f"{header.nr_badpages} bad pages do not fit into a swap header: give {MAX_BADPAGES} at most")
    page = bytearray(PAGE_SIZE)
    fields = (header.version, header.last_page, header.nr_badpages, header.uuid.bytes, header.label)
    _FIELDS.pack_into(page, _FIELDS_AT, *fields)
    struct.pack_into(f"<{header.nr_badpages}I", page, _BADPAGES_AT, *header.badpages)
    page[_MAGIC_AT:] = MAGIC
    return bytes(page)


# -- the area ----------------------------------------------------------------------------------------------------------


class SwapArea:
    """Slots 0 to max - 1, of which slot 0 is the header: swap_info_struct, without what is behind the slots.

    `bad` are slots that are never handed out. `pages` is what swapon counts as good ones, if that is not what there are.
    """

    def __init__(self, nr_slots: int, bad: Sequence[int] = (), pages: int | None = None) -> None:
        self.max = max(nr_slots, 1)
        self.users: I32 = np.zeros(self.max, np.int32)
        self.users[[0, *(slot for slot in bad if slot < self.max)]] = SWAP_MAP_BAD
        good = self.max - int(np.count_nonzero(self.users))
        self.pages = good if pages is None else pages
        self.nr_available = good
        """Free slots that there really are."""
        self._overcount = self.pages - good
        self._state: I64 = np.array([1, self.max - 1, 0, 0], np.int64)
        self.priority, self.next, self.writeok = 0, -1, False  # SwapAreas says

    @classmethod
    def of(
        cls,
        header: SwapHeader,
        *,
        nr_offsets: int = 1 << 24,
        device_pages: int = 0,
        on_a_file: bool = False,
        uses_last: bool = False,
    ) -> Self:
        """What swapon makes of a header. O(slots).

        `nr_offsets`: how many an entry can say. `device_pages`: how many are there, 0 if nobody knows. `on_a_file`: no block device. Raises
        SyscallError, EINVAL: the header says more than there is, or leaves no good page, or (with `uses_last`: 2.6.34) names bad pages of a file.

        Up to 2.6.7 `pages` comes from the header alone: what entries cannot name is counted as free. (And a bad page behind what they can
        name was written behind the map's end. That is left out.) A bad page that is listed twice is missing twice.
        """
        end = min(nr_offsets, header.last_page + 1) if uses_last else min(nr_offsets - 2, header.last_page)
        if device_pages and end > device_pages:
            raise _refused(f"the swap area has {device_pages} pages, its header says {end}")
        if uses_last and on_a_file and header.nr_badpages:
            raise _refused(f"a file has no bad pages, its header names {header.nr_badpages}")
        listed = sum(page < end for page in header.badpages) if uses_last else header.nr_badpages
        pages = (end if uses_last else header.last_page) - 1 - listed
        if not pages:
            raise _refused(f"the swap area is empty: {listed} bad pages, and no good one")
        return cls(end, header.badpages, pages)

    @property
    def lowest_bit(self) -> int:
        """No slot below it is free; max if none is."""
        return int(self._state[_LOWEST])

    @property
    def highest_bit(self) -> int:
        """No slot above it is free; 0 if none is."""
        return int(self._state[_HIGHEST])

    @property
    def cluster_next(self) -> int:
        """Where the cluster goes on."""
        return int(self._state[_NEXT])

    @property
    def cluster_nr(self) -> int:
        """How many slots the cluster still has to give."""
        return int(self._state[_NR])

    @property
    def nr_free(self) -> int:
        """Free pages as swapon's count has it: `pages` less the slots that are used."""
        return self.nr_available + self._overcount

    def take(self) -> int:
        """scan_swap_map: a slot, used once from now on; 0 if none is free. O(slots) at worst, O(1) within a cluster."""
        taken = self.take_many(1)
        return int(taken[0]) if taken.size else 0

    def take_many(self, nr: int) -> I64:
        """The slots of `nr` calls of take(), without the zeros at its end."""
        slots = np.empty(nr, np.int64)
        got = int(_take(self.users, self._state, slots))
        self.nr_available -= got
        return slots[:got]

    def duplicate(self, slots: I64) -> Bools:
        """swap_duplicate: one use more of each, in turn. Whether there was such a slot: not of free, bad and foreign ones. O(slots)."""
        done = np.empty(slots.size, np.bool_)
        _duplicate(self.users, slots, done)
        return done

    def give(self, slots: I64) -> I64:
        """swap_entry_free: one use less of each, in turn, and what is then left of it. O(slots).

        Raises KernelBug for a slot that is free, bad or not of this area; those before it have been given.
        """
        left = np.empty(slots.size, np.int64)
        done, freed = _give(self.users, self._state, slots, left)
        self.nr_available += int(freed)
        if done < slots.size:
            raise KernelBug("swap_free", f"slot {slots[done]} is free, bad or not of this area of {self.max} slots")
        return left

    def check(self) -> None:
        """What is counted is there. Raises KernelBug. O(slots)."""
        users = self.users
        wrong = np.flatnonzero((users < 0) | (users > SWAP_MAP_BAD))
        if wrong.size or users[0] != SWAP_MAP_BAD:
            raise KernelBug("swap_map", f"slot {wrong[0] if wrong.size else 0} has a count that cannot be")
        free = np.flatnonzero(users == 0)
        used = np.count_nonzero((users > 0) & (users < SWAP_MAP_BAD))
        if self.nr_available != free.size or self.nr_free + used != self.pages:
            said = f"{self.nr_available} slots and {self.nr_free} pages are said to be free"
            raise KernelBug("swap_map", f"{said}, of {self.pages} pages {used} are used and {free.size} slots free")
        low, high = self.lowest_bit, self.highest_bit
        if (low, high) != (self.max, 0) and not 1 <= low <= high < self.max:
            raise KernelBug("scan_swap_map", f"lowest_bit {low} and highest_bit {high} of {self.max} slots")
        if free.size and not (low <= free[0] and free[-1] <= high):
            raise KernelBug("scan_swap_map", f"a slot of {free[0]} to {free[-1]} is free outside of {low} to {high}")
        if not (0 <= self.cluster_nr <= SWAPFILE_CLUSTER and 0 <= self.cluster_next <= self.max):
            raise KernelBug("scan_swap_map", f"a cluster of {self.cluster_nr} at {self.cluster_next}")


@inline
def _next_of_cluster(users: I32, state: I64) -> int:
    """The next slot of the cluster that is being filled, or 0. What was passed is not looked at again, even in vain."""
    while state[_NR] > 0 and state[_NEXT] <= state[_HIGHEST]:
        slot = state[_NEXT]
        state[_NEXT] += 1
        if users[slot] == 0:
            state[_NR] -= 1
            return int(slot)
    return 0


@inline
def _begin_cluster(users: I32, state: I64) -> int:
    """The first of 256 free slots in a row, else the first free one, else 0. One pass: the first free one is met on the way."""
    state[_NR] = SWAPFILE_CLUSTER
    first, row = 0, 0
    for slot in range(state[_LOWEST], state[_HIGHEST] + 1):
        if users[slot]:
            row = 0
            continue
        row += 1
        if first == 0:
            first = slot
        if row == SWAPFILE_CLUSTER:
            return int(slot) - SWAPFILE_CLUSTER + 1
    if first:
        state[_LOWEST] = first  # all below it are used
    return int(first)


@kernel
def _take(users: I32, state: I64, slots: I64) -> int:
    """Fill `slots`, as far as there are. Returns how many."""
    for i in range(slots.size):
        slot = _next_of_cluster(users, state)
        if slot == 0:
            slot = _begin_cluster(users, state)
        if slot:
            users[slot] = 1
            slots[i] = slot
            state[_NEXT] = slot + 1
            state[_LOWEST] += slot == state[_LOWEST]
            state[_HIGHEST] -= slot == state[_HIGHEST]
        if slot == 0 or state[_LOWEST] > state[_HIGHEST]:
            state[_LOWEST] = users.size
            state[_HIGHEST] = 0
        if slot == 0:
            return i
    return int(slots.size)


@kernel
def _give(users: I32, state: I64, slots: I64, left: I64) -> tuple[int, int]:
    """(how many were given, how many of them are free now). Stops at one that cannot be."""
    freed = 0
    for i in range(slots.size):
        slot = slots[i]
        if slot < 0 or slot >= users.size or users[slot] == 0 or users[slot] == SWAP_MAP_BAD:
            return i, freed
        if users[slot] < SWAP_MAP_MAX:
            users[slot] -= 1
            if users[slot] == 0:
                state[_LOWEST] = min(state[_LOWEST], slot)
                state[_HIGHEST] = max(state[_HIGHEST], slot)
                freed += 1
        left[i] = users[slot]
    return int(slots.size), freed


@kernel
def _duplicate(users: I32, slots: I64, done: Bools) -> None:
    for i in range(slots.size):
        slot = slots[i]
        done[i] = 0 <= slot < users.size and 0 < users[slot] <= SWAP_MAP_MAX
        if done[i]:
            users[slot] = min(users[slot] + 1, SWAP_MAP_MAX)
