"""What a loop device makes of pages on their way to its file: Twofish, sector by sector, in the forms of 2.6's cryptoloop and of SuSE's older loop_fish2.

    page n         | sector 8n      | sector 8n + 1  |  ...            512 bytes each
    sector s       | block 0 | block 1 | ... | block 31 |              16 bytes each
    plain            p0        p1              p31
                     |         |               |
    IV of s ------> xor  +--> xor  +---- ... > xor                     twofish: s, 32 bits, little endian, then zeros
                     |   |     |   |           |                       twofish-compat: zeros, whichever sector it is
                   Twofish   Twofish         Twofish                   twofish-ecb: nothing is xored
                     |   |     |   |           |
    on the disk      c0 -+     c1 -+           c31

    LoopCipher     pages, many at once: the blocks of a sector hang on each other, sectors do not. So 32 calls of the library encrypt any number of pages, one decrypts them
    CryptStore     a swap area behind it (area_store.py)
    CryptFile      a file's pages behind it, such as those of host_store.py

Sectors are counted from the beginning of the file. loop0 is a thread (nice -20) that encrypts and decrypts; here the time passes where pages are handed over (`operation`): whoever swaps, and of
a file's page who writes it, or runs when the disk has read it.

Source: drivers/block/cryptoloop.c (cryptoloop_transfer_cbc, _ecb), loop.c (do_lo_send, lo_read_actor, loop_thread) of 2.6.5; drivers/block/loop_fish2.c of SUSE's 2.6.5; reclaim.md F.10, F.11.
"""

from collections.abc import Callable, Iterator, MutableMapping

import numpy as np

from rmaplab.cache.area_store import AreaStore
from rmaplab.cache.loop_keys import OPERATION, SECTOR, LoopForm
from rmaplab.cache.twofish import BLOCK, Twofish
from rmaplab.errors import DiskError
from rmaplab.machine.arrays import I64, U8, U64
from rmaplab.units import PAGE_SIZE

SECTORS = PAGE_SIZE // SECTOR
_WORDS = BLOCK // 8  # a block is so many words of 64 bits
_BLOCKS = SECTOR // BLOCK


class LoopCipher:
    """One key and one form. Pages are (any, 4096) bytes; `numbers` are their places in the file, in pages."""

    def __init__(self, form: LoopForm, key: bytes) -> None:
        self.form = form
        self._cipher = Twofish(key)

    def encrypt(self, numbers: I64, pages: U8) -> U8:
        """What the disk gets. O(bytes)."""
        plain = np.ascontiguousarray(pages).view(np.uint64).reshape(-1, _BLOCKS, _WORDS)
        if not self.form.chained:
            return self._as_pages(self._cipher.encrypt(plain.tobytes()))
        there = np.empty_like(plain)
        last = self._ivs(numbers)
        for i in range(_BLOCKS):
            last = _blocks(self._cipher.encrypt((plain[:, i] ^ last).tobytes()))
            there[:, i] = last
        found: U8 = there.view(np.uint8).reshape(-1, PAGE_SIZE)
        return found

    def decrypt(self, numbers: I64, pages: U8) -> U8:
        """What it has got, read again. O(bytes)."""
        there = np.ascontiguousarray(pages)
        plain = self._as_pages(self._cipher.decrypt(there.tobytes()))
        if self.form.chained:
            words = plain.view(np.uint64).reshape(-1, _BLOCKS, _WORDS)
            words[:, 1:] ^= there.view(np.uint64).reshape(-1, _BLOCKS, _WORDS)[:, :-1]
            words[:, 0] ^= self._ivs(numbers)
        return plain

    def encrypt_page(self, number: int, page: bytes) -> bytes:
        """One page."""
        return self.encrypt(np.array((number,)), np.frombuffer(page, np.uint8)[None]).tobytes()

    def decrypt_page(self, number: int, page: bytes) -> bytes:
        """And back. What is shorter than a page is taken for zeros behind its end."""
        return self.decrypt(np.array((number,)), np.frombuffer(page.ljust(PAGE_SIZE, b"\0"), np.uint8)[None]).tobytes()

    def before(
        self, under: MutableMapping[int, bytes], charge: Callable[[str], None], size: int | None = None
    ) -> "CryptFile":
        """A file's pages, which lie encrypted in `under`."""
        return CryptFile(under, self, charge, size)

    def _ivs(self, numbers: I64) -> U64:
        """A block for each sector of these pages."""
        ivs = np.zeros((numbers.size * SECTORS, BLOCK // 4), "<u4")
        if self.form.counts:
            ivs[:, 0] = (numbers[:, None] * SECTORS + np.arange(SECTORS)).reshape(-1) & 0xFFFFFFFF
        return ivs.view(np.uint64)

    @staticmethod
    def _as_pages(data: bytes) -> U8:
        return np.frombuffer(bytearray(data), np.uint8).reshape(-1, PAGE_SIZE)


def _blocks(data: bytes) -> U64:
    return np.frombuffer(data, np.uint64).reshape(-1, _WORDS)


class CryptStore(AreaStore):
    """An area whose bytes lie encrypted in `under`. What was never written reads as what that is decrypted."""

    operation = OPERATION

    def __init__(self, under: AreaStore, cipher: LoopCipher) -> None:
        self.under, self.cipher = under, cipher

    @property
    def on_disk(self) -> AreaStore:
        """As AreaStore."""
        return self.under.on_disk

    def read(self, slot: int) -> U8:
        """As AreaStore."""
        page: U8 = self.cipher.decrypt(np.array((slot,)), self.under.read(slot)[None])[0]
        return page

    def write(self, slot: int, page: U8) -> None:
        """As AreaStore."""
        self.under.write(slot, self.cipher.encrypt(np.array((slot,)), page[None])[0])

    def read_pages(self, slots: I64, pages: U8, rows: I64) -> dict[int, DiskError]:
        """As AreaStore; rows of what could not be read stay as they are."""
        raw: U8 = np.empty((slots.size, PAGE_SIZE), np.uint8)
        failures = self.under.read_pages(slots, raw, np.arange(slots.size))
        good = np.ones(slots.size, np.bool_)
        good[list(failures)] = False
        pages[rows[good]] = self.cipher.decrypt(slots[good], raw[good])
        return failures

    def write_pages(self, slots: I64, pages: U8, rows: I64) -> dict[int, DiskError]:
        """As AreaStore."""
        return self.under.write_pages(slots, self.cipher.encrypt(slots, pages[rows]), np.arange(slots.size))


class CryptFile(MutableMapping[int, bytes]):
    """A file's pages, which lie encrypted in `under`. A page that is not there is none here: a hole is zeros, as ever.

    `charge` hears of OPERATION for each page. Behind `size` bytes, if that is given, are zeros: a file of the host need not end with a page.
    """

    def __init__(
        self,
        under: MutableMapping[int, bytes],
        cipher: LoopCipher,
        charge: Callable[[str], None],
        size: int | None = None,
    ) -> None:
        self.under, self.cipher = under, cipher
        self._charge, self._size = charge, size

    def __getitem__(self, index: int) -> bytes:
        page = self.under[index]
        self._charge(OPERATION)
        data = self.cipher.decrypt_page(index, page)
        if self._size is not None:
            data = data[: max(self._size - index * PAGE_SIZE, 0)].ljust(PAGE_SIZE, b"\0")
        return data

    def __setitem__(self, index: int, data: bytes) -> None:
        self._charge(OPERATION)
        self.under[index] = self.cipher.encrypt_page(index, data)

    def __delitem__(self, index: int) -> None:
        del self.under[index]

    def __contains__(self, index: object) -> bool:
        return index in self.under

    def __iter__(self) -> Iterator[int]:
        return iter(self.under)

    def __len__(self) -> int:
        return len(self.under)
