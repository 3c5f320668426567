"""The swap of a box: how it is written, and what is made of it.

    "64M"                            one area in the host's memory; its first page is the header, as of any
    "32M@5, 64M@5, /var/swap@3"      three areas: two in memory that are used in turn, then a file of the host, which mkswap has prepared
    ["32M@5", Path("/var/swap")]     the same one by one: what has a / in it, or is a Path, is a file
    "64M,crypt=twofish"              one behind a loop device that encrypts (loop_words.py)

Behind the last @ is the priority, 0 to 32767; without one an area has the next of -1, -2, ... Of a file the header is read and checked as swapon
does, and what goes to swap is written to its slots: it must have the signature, and no other box may have it. Behind a loop device the header lies encrypted: with a wrong key there is no signature.

Source: mm/swapfile.c, sys_swapon of 2.6.2 and 2.6.34; reclaim.md F.8, F.9.
"""

import errno
import fcntl
import gc
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rmaplab.cache.area_store import AreaStore, FileAreaStore, MemoryAreaStore
from rmaplab.cache.loop_keys import FORMS
from rmaplab.cache.swap_area import SwapArea, read_header
from rmaplab.cache.swap_areas import SWAP_FLAG_PRIO_MASK
from rmaplab.errors import SyscallError, UsageError, did_you_mean
from rmaplab.files import open_in_place
from rmaplab.harmless import printable
from rmaplab.kernels.loop_words import LoopWords, glued, parted
from rmaplab.machine.entries import Encoding
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.swap_rules import SwapRules
from rmaplab.mm.swapoff import swapoff
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, parse_size

if TYPE_CHECKING:
    from rmaplab.cache.cryptoloop import LoopCipher

MEMORY = "memory"
BLOCK = 512  # bytes that st_blocks counts
SwapWords = int | str | Path | Sequence[int | str | Path]


@dataclass(frozen=True)
class SwapDevice:
    """What swapon is given: an area that nobody uses yet, its store, and its priority."""

    area: SwapArea
    store: AreaStore
    priority: int | None
    name: str
    """The file, or "memory"."""
    promised: int
    """Pages that overcommit counts: all of a size that was given, the good ones of a header."""


class AreaWords(NamedTuple):
    """What is said of an area."""

    what: int | Path
    """Bytes, or a file."""
    priority: int | None
    loop: LoopWords | None = None
    """A loop device before it."""


def parse_swap(words: SwapWords) -> list[AreaWords]:
    """Each area that there are words for; none for a size below a page. Raises UsageError."""
    if isinstance(words, str):
        words = list(glued(words.split(",")))
    elif isinstance(words, int | Path):
        words = [words]
    if isinstance(words, bytes) or not isinstance(words, Sequence):
        raise UsageError(_no_swap(str(words)))
    areas = [_parse_area(word) for word in words]
    return [area for area in areas if isinstance(area.what, Path) or area.what >= PAGE_SIZE]


def behind(words: SwapWords, crypt: str) -> list[str]:
    """The same areas, each behind a loop device of this form. Raises UsageError: one is a file, or behind one already."""
    areas = parse_swap(words)
    if any(area.loop is not None or isinstance(area.what, Path) for area in areas):
        raise UsageError(
            f"plain areas and crypt={printable(crypt)} beside each other: give sizes alone, without crypt= and files"
        )
    at = ("" if area.priority is None else f"@{area.priority}" for area in areas)
    return [f"{area.what}{priority},crypt={crypt}" for area, priority in zip(areas, at, strict=True)]


def _parse_area(word: int | str | Path) -> AreaWords:
    if isinstance(word, Path):
        return AreaWords(word, None)
    text, loop = parted(str(word))
    text, priority = text.strip(), None
    before, at, behind = text.rpartition("@")
    if at and behind.lstrip("-").isdecimal():
        text, priority = before, int(behind)
        if not 0 <= priority <= SWAP_FLAG_PRIO_MASK:
            raise UsageError(f"a swap priority of {priority}: give 0 to {SWAP_FLAG_PRIO_MASK}, or leave @{behind} out")
    if "/" in text:
        return AreaWords(Path(text), priority, _with_key(loop, text))
    try:
        size = word if isinstance(word, int) else parse_size(text)
    except UsageError:
        raise UsageError(_no_swap(text)) from None
    if size < 0:
        raise UsageError(f"{size} bytes of swap: give a size of 0 or more")
    return AreaWords(size, priority, loop)


def _with_key(loop: LoopWords | None, text: str) -> LoopWords | None:
    """A header that lies encrypted can be read with its key alone."""
    if loop is not None and loop.key is None:
        raise UsageError(
            f"{printable(text)},crypt={loop.form.name} has no key: add key=FILE, which has the passphrase in its first line"
        )
    return loop


def _no_swap(text: str) -> str:
    option, is_one, _ = text.partition("=")
    if option.casefold() in {"crypt", "key", *map(str.casefold, FORMS)}:
        return f"{printable(text)!r} is no swap by itself: write it behind a size or a file, such as 64M,crypt=twofish"
    if is_one and (near := did_you_mean(option, ("crypt", "key"))):
        return f"'{printable(option)}=' is nothing of swap{near}: write it behind a size or a file, such as 64M,crypt=twofish"
    return f"{printable(text)!r} is no swap: write a size such as 64M or a file such as ./swap, each with @PRIORITY or without, and commas between"


def open_swap(words: AreaWords, rules: SwapRules, encoding: Encoding) -> SwapDevice:
    """One area. Raises SyscallError as swapon of the day where a file is none, and UsageError where the host says no."""
    cipher = None if words.loop is None else words.loop.cipher(rules)
    if isinstance(words.what, Path):
        return _open_file(words.what, words.priority, cipher, rules, encoding)
    nr = words.what >> PAGE_SHIFT
    area = SwapArea(min(nr, 1 << encoding.offset.nr))
    return SwapDevice(area, _behind(cipher, MemoryAreaStore(area.max)), words.priority, MEMORY, nr)


def _behind(cipher: "LoopCipher | None", store: AreaStore) -> AreaStore:
    """What is read and written, if a loop device is before it."""
    if cipher is None:
        return store
    from rmaplab.cache.cryptoloop import CryptStore  # noqa: PLC0415  (an extra)

    return CryptStore(store, cipher)


def _open_file(
    path: Path, priority: int | None, cipher: "LoopCipher | None", rules: SwapRules, encoding: Encoding
) -> SwapDevice:
    name = printable(str(path))
    fd = open_in_place(path, "swap")
    try:
        store = FileAreaStore(fd, name)
    except UsageError:
        os.close(fd)
        raise
    if not _locked(fd):
        gc.collect()  # a box that nobody has any more may have it
        if not _locked(fd):
            raise SyscallError(errno.EBUSY, "swapon", f"{name} is swapped to already")
    found = os.fstat(fd)
    if 0 < found.st_blocks * BLOCK < found.st_size:
        fcntl.flock(fd, fcntl.LOCK_UN)
        raise SyscallError(errno.EINVAL, "swapon", f"{name} has holes")
    first = os.pread(fd, PAGE_SIZE, 0)
    if cipher is not None:
        first = cipher.decrypt_page(0, first)
    try:
        header = read_header(first, uses_last=rules.swap_uses_last_page)
        area = SwapArea.of(
            header,
            nr_offsets=1 << encoding.offset.nr,
            device_pages=store.nr_slots,
            on_a_file=True,
            uses_last=rules.swap_uses_last_page,
        )
    except SyscallError as failure:
        fcntl.flock(fd, fcntl.LOCK_UN)  # who holds the failure holds the store; he may try another key
        behind = (
            ""
            if cipher is None
            else f" behind crypt={cipher.form.name}: is it the right key, and the form it was made with?"
        )
        raise SyscallError(failure.errno or 0, "swapon", f"{name}: {failure.why}{behind}") from None
    return SwapDevice(area, _behind(cipher, store), priority, name, area.pages)


class SwapsRow(NamedTuple):
    """A line of /proc/swaps. Pages."""

    number: int
    name: str
    pages: int
    used: int
    priority: int


class Swaps:
    """The swap areas of a booted kernel, by what was put there: swapon and swapoff of somebody who may."""

    def __init__(self, k: Kernel, devices: list[SwapDevice]) -> None:
        self._k = k
        self._names: dict[int, str] = {}
        for device in devices:
            self._put_on(device)

    def _put_on(self, device: SwapDevice) -> int:
        number = self._k.swap.swapon(device.area, device.store, device.priority, device.promised)
        self._names[number] = device.name
        return number

    def swapon(self, what: int | str | Path) -> int:
        """One more area: the same words as of a box. Returns its number. Raises UsageError for words, and SyscallError as swapon of the day."""
        found = parse_swap(what)
        if len(found) != 1:
            raise UsageError(
                f"{printable(str(what))!r} is not one area: give a size of a page or more, or a file, for each"
            )
        number = self._put_on(open_swap(found[0], self._k.rules, self._k.machine.encoding))
        self._k.count_swap()
        return number

    def swapoff(self, what: int | str | Path) -> None:
        """An area, by its number or its file, gives back all that lies in it, and is gone. Raises as mm/swapoff.py."""
        named = [
            number for number, name in self._names.items() if what == number or (name != MEMORY and str(what) == name)
        ]
        if not named:
            raise SyscallError(errno.EINVAL, "swapoff", f"there is no swap area {printable(str(what))}")
        swapoff(self._k, named[0])
        del self._names[named[0]]

    def close(self) -> None:
        """Files of the host are let go of, as they are."""
        for number in self._names:
            self._k.swap.stores[number] = MemoryAreaStore(0)

    def __iter__(self) -> Iterator[SwapsRow]:
        for number, name in sorted(self._names.items()):
            area = self._k.swap.areas.areas[number]
            yield SwapsRow(number, name, area.pages, area.pages - area.nr_free, area.priority)


def _locked(fd: int) -> bool:
    """Whether nobody else swaps to it now. That goes with the descriptor."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def swap_at_boot(words: SwapWords, rules: SwapRules, encoding: Encoding) -> list[SwapDevice]:
    """All areas of a box. Raises UsageError."""
    try:
        return [open_swap(area, rules, encoding) for area in parse_swap(words)]
    except SyscallError as failure:
        raise UsageError(
            f"{failure.why} ({failure.name} of swapon): prepare a file with mkswap, or give a size"
        ) from None
