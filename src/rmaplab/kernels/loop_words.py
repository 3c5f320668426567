"""How an encrypted loop device is written, behind the area or the file that lies under it, and what is made of that.

    "64M,crypt=twofish"                                  in memory: a key that nobody knows, and that is gone with the box
    "64M@5,crypt=twofish-compat,key=./pass"              a passphrase, the first line of a file
    "./swapfile,crypt=twofish,key=./pass"                a file of the host must have one: its header lies encrypted, too

A file whose own name has ",crypt=" in it cannot be written so. The forms are those of cache/loop_keys.py. A passphrase is never typed: others could read it off the process list.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from rmaplab.cache.loop_keys import FORMS, LoopForm, find_form, passphrase_in
from rmaplab.errors import UsageError
from rmaplab.harmless import printable
from rmaplab.mm.swap_rules import SwapRules

if TYPE_CHECKING:
    from rmaplab.cache.cryptoloop import LoopCipher

_OPTION = re.compile(r"\s*(?:crypt|key)\s*=")
_BEHIND = re.compile(r",\s*(crypt|key)\s*=([^,]*)$")
_MOST = 4096  # bytes of a passphrase that are read


@dataclass(frozen=True)
class LoopWords:
    """A loop device that encrypts: its form, and the file with its passphrase, if there is one."""

    form: LoopForm
    key: Path | None = None

    def cipher(self, rules: SwapRules | None = None) -> "LoopCipher":
        """With its key. Raises UsageError: a kernel of these rules has no such driver; the library or the passphrase is not there."""
        if rules is not None and not _has(rules)[self.form.driver]:
            there = [name for name, form in FORMS.items() if _has(rules)[form.driver]]
            instead = f"crypt={there[0]}" if there else "2.6.2 to 2.6.7"
            raise UsageError(
                f"crypt={self.form.name} is {self.form.driver}'s, which this kernel has not: try 2.6.5-rc1-aa1, or {instead}"
            )
        from rmaplab.cache.cryptoloop import LoopCipher  # noqa: PLC0415  (an extra)

        if self.key is None:
            return LoopCipher(self.form, os.urandom(self.form.key_bytes))
        return LoopCipher(self.form, self.form.key_of(_passphrase(self.key)))


def _has(rules: SwapRules) -> dict[str, bool]:
    """By driver."""
    return {"cryptoloop": rules.has_cryptoloop, "loop_fish2": rules.has_loop_fish2}


def glued(words: Iterable[str]) -> Iterator[str]:
    """What a comma parts, with crypt= and key= behind the word that they belong to."""
    area: str | None = None
    for word in words:
        if area is not None and _OPTION.match(word):
            area = f"{area},{word}"
            continue
        if area is not None:
            yield area
        area = word
    if area is not None:
        yield area


def parted(text: str) -> tuple[str, LoopWords | None]:
    """What lies under the loop device, and how that is written; None where there is none. Raises UsageError."""
    said: dict[str, str] = {}
    while (match := _BEHIND.search(text)) is not None:
        option, value = match[1], match[2].strip()
        if option in said:
            raise UsageError(f"{option}= twice for {printable(text[: match.start()])}: leave one out")
        said[option], text = value, text[: match.start()]
    if not said:
        return text, None
    if "crypt" not in said:
        raise UsageError(
            f"key={printable(said['key'])} without crypt=: write crypt=twofish,key=FILE, or leave key= out"
        )
    return text, loop_words(said["crypt"], said.get("key"))


def loop_words(crypt: str, key: str | Path | None = None) -> LoopWords:
    """By a form's name. Raises UsageError."""
    form = find_form(crypt)
    if key is not None and not str(key):
        raise UsageError("key= of no file: name the file that has the passphrase in its first line")
    return LoopWords(form, None if key is None else Path(key))


def _passphrase(path: Path) -> bytes:
    """The first line of a file. Raises UsageError."""
    name = printable(str(path))
    try:
        about = path.stat()
        found = passphrase_in(
            _first_line(path) if S_ISREG(about.st_mode) else _only_line(path, about.st_dev, about.st_ino)
        )
    except (OSError, ValueError) as failure:  # ValueError: a NUL in it
        why = failure.strerror if isinstance(failure, OSError) else "no path"
        raise UsageError(f"key={name}: {why}: name a file that has the passphrase in its first line") from None
    if not found:
        raise UsageError(f"key={name} has no passphrase in its first line: write one there")
    return found


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(_MOST)


@cache
def _only_line(path: Path, device: int, inode: int) -> bytes:
    """Of a pipe or a terminal, by what it is: it gives it once, while a verb may boot several systems."""
    return _first_line(path)
