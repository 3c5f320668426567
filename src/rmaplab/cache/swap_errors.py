"""What becomes of pages whose slot could not be read or written.

                       the page in the cache     its slot                what may come of it
    cannot be read     not what was there        has its bytes           mapped as it is: a loss. Dropped, and read again: nothing
    cannot be written  has its bytes             not what the page has   freed while entries name the slot: a loss. Written again, or taken back: nothing
    stale              -                         other bytes             whoever brings it in sees those

Kernels up to 2.6.7 notice none of it: they set PG_error, and nobody asks. So it is kept here, and nothing in mm/ or reclaim/ asks this but by a rule of a later era.

Source: mm/page_io.c, end_swap_bio_read, end_swap_bio_write; mm/memory.c, do_swap_page of 2.6.2 and 2.6.34; reclaim.md F.7.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rmaplab.errors import DiskError
from rmaplab.machine.ledger import Ledger


@dataclass(eq=False)
class SwapLoss:
    """A slot whose bytes are lost, at least to those in `seen`: (pid, address) of whom a page was mapped that is not theirs, in order."""

    reading: bool
    area: int
    slot: int
    why: str
    seen: list[tuple[int, int]] = field(default_factory=list)

    def __str__(self) -> str:
        what = "was not read, and its page was mapped" if self.reading else "was not written, and its page was freed"
        who = ", ".join(f"pid {pid} at {address:#x}" for pid, address in self.seen) or "nobody yet"
        return f"slot {self.slot} of area {self.area} {what} ({self.why}); who has seen it: {who}"


class SwapErrors:
    """Of one Swap. Slots are its numbers. O(1) each."""

    def __init__(self, ledger: Ledger) -> None:
        self.lost: list[SwapLoss] = []
        """What is lost for good or has been seen, in the order in which it came to that."""
        self.any = False
        """Whether there has ever been an error: who is in a hurry asks that first."""
        self._ledger = ledger
        self._unread: dict[int, SwapLoss] = {}
        self._unwritten: dict[int, SwapLoss] = {}
        self._stale: dict[int, SwapLoss] = {}

    def cannot_read(self, slot: int, place: tuple[int, int], failure: DiskError) -> None:
        """The page of a slot is in the cache, and has other bytes."""
        self._unread[slot] = SwapLoss(True, *place, str(failure))
        self._happened("swap_read_error")

    def cannot_write(self, slot: int, place: tuple[int, int], failure: DiskError) -> None:
        """The page of a slot has bytes that the slot has not."""
        self._unwritten[slot] = SwapLoss(False, *place, str(failure))
        self._happened("swap_write_error")

    def _happened(self, operation: str) -> None:
        self.any = True
        self._ledger.charge(operation)

    def is_uptodate(self, slot: int) -> bool:
        """PageUptodate of the page of a slot that is in the cache."""
        return slot not in self._unread

    def written(self, slots: Iterable[int]) -> None:
        """These have the bytes of their pages now, whatever those are."""
        for slot in slots:
            self._unwritten.pop(slot, None)
            if slot in self._unread:
                self._stale[slot] = self._unread[slot]

    def leaves_cache(self, slot: int, *, is_named: bool) -> None:
        """The page of a slot leaves the cache; `is_named`: entries name the slot still."""
        self._unread.pop(slot, None)
        loss = self._unwritten.pop(slot, None)
        if loss is not None and is_named:
            self._stale[slot] = loss
            self._lose(loss)

    def freed(self, slots: Iterable[int]) -> None:
        """Nobody names these any more."""
        for slot in slots:
            self._stale.pop(slot, None)

    def mapped(self, slot: int, pid: int, address: int) -> None:
        """The page of a slot is mapped there: if it is not what it should be, that is noted."""
        loss = self._unread.get(slot) or self._stale.get(slot)
        if loss is not None:
            if not loss.seen and loss not in self.lost:
                self._lose(loss)
            loss.seen.append((pid, address))

    def _lose(self, loss: SwapLoss) -> None:
        self.lost.append(loss)
        self._ledger.charge("swap_lost")
