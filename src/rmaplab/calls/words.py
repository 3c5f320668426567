"""The words that arguments of calls are written in: addresses, lengths, numbers, flags; each is read and written in one place.

    w+3  m-8  h+2  w+3+17b  0x1000        Address
    8  2+17b  17b  0xffffffffffffffffb    Length
    rw  -                                 ProtKind        in C and Python: PROT_READ | PROT_WRITE, PROT_NONE
    MAYMOVE|FIXED  DONTNEED               FlagsKind                        MREMAP_MAYMOVE | MREMAP_FIXED, MADV_DONTNEED
    f0  f17  -                            FileKind        a descriptor, or none
    s0  s17                               SegmentKind     a segment of System V shared memory
    PRIVATE  5                            KeyKind                          IPC_PRIVATE, a key

A kind of word parses a text to a value, or None, and formats the value as that text again. Numbers are those of objects/flags.py.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rmaplab.objects import flags
from rmaplab.objects.flags import IPC_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
NUMBER = re.compile(r"\d{1,15}")
ADDRESS = re.compile(r"([wmh])(?:([+-])(\d{1,9}))?(?:\+(\d{1,4})b)?")
LENGTH = re.compile(r"(\d{1,12})(?:\+(\d{1,4})b)?|(\d{1,15}|0x[0-9a-f]{1,16})b")
MOST_FILES = MOST_SEGMENTS = 64
MOST_KEY = 255
BITS = re.compile(r"0x[0-9a-f]{1,8}")


@dataclass(frozen=True)
class Address:
    """`pages` pages and `extra` bytes from the origin of a region: "w", "m" or "h"; "" has its origin at 0."""

    region: str
    pages: int
    extra: int = 0

    def __str__(self) -> str:
        if not self.region:
            return f"{self.pages * PAGE_SIZE + self.extra:#x}"
        sign = "-" if self.pages < 0 else "+"
        return f"{self.region}{sign}{abs(self.pages)}" + (f"+{self.extra}b" if self.extra else "")


@dataclass(frozen=True)
class Length:
    """So many pages, and `extra` bytes more."""

    pages: int
    extra: int = 0

    @property
    def nr_bytes(self) -> int:
        """In bytes."""
        return self.pages * PAGE_SIZE + self.extra

    def __str__(self) -> str:
        if self.pages >= 10**12:
            return f"{self.nr_bytes:#x}b"
        if self.extra:
            return f"{self.pages}+{self.extra}b" if self.pages else f"{self.extra}b"
        return str(self.pages)


class Kind(ABC):
    """What an argument is: how it is read and written. `expected` completes "expected ..."."""

    expected: str

    @abstractmethod
    def parse(self, text: str) -> Any:
        """The value, or None if it is no such thing."""

    def format(self, value: Any) -> str:
        """The inverse of parse."""
        return str(value)


class AddressKind(Kind):
    """w+3, m-8, h+2, 0x1000."""

    expected = "an address such as w+3, m-8, h+2 or w+3+17b"

    def parse(self, text: str) -> Address | None:
        """See above."""
        if found := ADDRESS.fullmatch(text):
            region, sign, nr, extra = found.groups()
            return Address(region, int(f"{sign or '+'}{nr or 0}"), int(extra or 0))
        if re.fullmatch(r"0x[0-9a-f]{1,16}", text):
            return Address("", *divmod(int(text, 16), PAGE_SIZE))
        return None


class PlaceKind(AddressKind):
    """An address; or "any", where the kernel chooses."""

    expected = f'{AddressKind.expected}, or "any"'

    def parse(self, text: str) -> Any:
        """See above."""
        return "any" if text == "any" else super().parse(text)


class LengthKind(Kind):
    """8, 2+17b, 17b, or bytes in hexadecimal."""

    expected = "a length in pages such as 8, 2+17b or 17b"

    def parse(self, text: str) -> Length | None:
        """See above."""
        if not (found := LENGTH.fullmatch(text)):
            return None
        pages, extra, only = found.groups()
        return Length(*divmod(int(only, 0), PAGE_SIZE)) if only else Length(int(pages), int(extra or 0))


class NumberKind(Kind):
    """A plain number, at most `most`."""

    def __init__(self, what: str, most: int) -> None:
        self.expected, self.most = f"{what} (0 to {most})", most

    def parse(self, text: str) -> int | None:
        """See above."""
        return int(text) if NUMBER.fullmatch(text) and int(text) <= self.most else None


class FileKind(Kind):
    """A descriptor: f0 to f63. Scripts give them themselves, as dup2(2) does: what one has meant is closed. With `none` it may be "-"."""

    def __init__(self, *, none: bool = False) -> None:
        self.none = none
        self.expected = f"a descriptor, f0 to f{MOST_FILES - 1}{', or - for none' if none else ''}"

    def parse(self, text: str) -> int | None:
        """Its number; -1 for none."""
        if self.none and text == "-":
            return -1
        found = re.fullmatch(r"f(0|[1-9]\d?)", text)
        return int(found[1]) if found and int(found[1]) < MOST_FILES else None

    def format(self, value: Any) -> str:
        """See above."""
        return f"f{value}" if value >= 0 else "-"


class SegmentKind(Kind):
    """A segment of System V shared memory: s0 to s63. Scripts give these names; what one means is an id, which is nobody's alone."""

    expected = f"a segment, s0 to s{MOST_SEGMENTS - 1}"

    def parse(self, text: str) -> int | None:
        """Its number."""
        found = re.fullmatch(r"s(0|[1-9]\d?)", text)
        return int(found[1]) if found and int(found[1]) < MOST_SEGMENTS else None

    def format(self, value: Any) -> str:
        """See above."""
        return f"s{value}"


class KeyKind(Kind):
    """What segments are found by: a small number, or PRIVATE."""

    expected = f"a key, 1 to {MOST_KEY} or PRIVATE"

    def parse(self, text: str) -> int | None:
        """The number; IPC_PRIVATE is 0."""
        if text == "PRIVATE":
            return IPC_PRIVATE
        return int(text) if NUMBER.fullmatch(text) and 1 <= int(text) <= MOST_KEY else None

    def format(self, value: Any) -> str:
        """See above."""
        return str(value) if value else "PRIVATE"


class WordKind(Kind):
    """One of some words, each of which stands for a number."""

    def __init__(self, words: Mapping[str, int]) -> None:
        self.words = words
        self.expected = f"one of {', '.join(words)}"

    def parse(self, text: str) -> int | None:
        """See above."""
        return self.words.get(text)

    def format(self, value: Any) -> str:
        """See above."""
        return next(word for word, number in self.words.items() if number == value)


class ProtKind(Kind):
    """Some of the letters rwx; "-" is PROT_NONE."""

    expected = "a protection: some of the letters rwx, or - for none"
    letters: ClassVar[Mapping[str, int]] = {"r": PROT_READ, "w": PROT_WRITE, "x": PROT_EXEC}

    def parse(self, text: str) -> int | None:
        """See above."""
        if text == "-":
            return 0
        if not text or len(set(text)) < len(text) or not set(text) <= set(self.letters):
            return None
        return sum(self.letters[letter] for letter in text)

    def format(self, value: Any) -> str:
        """See above."""
        return "".join(letter for letter, bit in self.letters.items() if value & bit) or "-"

    def constants(self, value: int) -> str:
        """As a program writes it: "PROT_READ | PROT_WRITE"."""
        names = {PROT_READ: "PROT_READ", PROT_WRITE: "PROT_WRITE", PROT_EXEC: "PROT_EXEC"}
        return " | ".join(name for bit, name in names.items() if value & bit) or "PROT_NONE"


class FlagsKind(Kind):
    """Words joined by |; "0" is none of them. `exactly_one` where they are choices. With `raw` a number in hexadecimal stands for what has no word.

    Each of the `names` is the constant PREFIX_NAME of objects/flags.py, or stands with its number in `own`: a script's alone, or of another prefix.
    """

    def __init__(
        self,
        prefix: str,
        names: str,
        *,
        exactly_one: bool = False,
        raw: bool = False,
        own: Mapping[str, int] | None = None,
    ) -> None:
        own = own or {}
        words = {name: own[name] if name in own else int(getattr(flags, f"{prefix}_{name}")) for name in names.split()}
        self.prefix, self.words, self.exactly_one, self.raw, self.own = prefix, words, exactly_one, raw, own
        self.expected = ("one of " if exactly_one else "0, or words joined by |, of ") + ", ".join(words)

    def parse(self, text: str) -> int | None:
        """See above."""
        words = text.split("|")
        if text == "0" and not self.exactly_one:
            return 0
        if len(set(words)) < len(words) or (self.exactly_one and len(words) > 1):
            return None
        if any(word not in self.words and not (self.raw and BITS.fullmatch(word)) for word in words):
            return None
        number = 0
        for word in words:
            number |= self.words[word] if word in self.words else int(word, 16)
        return number

    def format(self, value: Any) -> str:
        """See above."""
        if self.exactly_one:
            return next((word for word, number in self.words.items() if number == value), f"{value:#x}")
        told = [word for word, bit in self.words.items() if value & bit]
        left = value & ~sum(self.words.values())
        return "|".join([*told, *([f"{left:#x}"] if left else [])]) or "0"

    def constants(self, value: int) -> str:
        """As a program writes it: "MREMAP_MAYMOVE | MREMAP_FIXED"; numbers for `own` ones."""
        words = [f"{self.own[word]:#x}" if word in self.own else word for word in self.format(value).split("|")]
        return " | ".join(word if word.startswith("0") else f"{self.prefix}_{word}" for word in words)


class VmaNameKind(Kind):
    """The name of a VMA, short enough for one number of eight bytes; "-" is none."""

    expected = "a name of at most 7 letters, digits, dots and the like, or - for none"

    def parse(self, text: str) -> str | None:
        """See above."""
        return text if text == "-" or re.fullmatch(r"[A-Za-z0-9_.:]{1,7}", text) else None

    @staticmethod
    def number(value: str) -> int:
        """Its letters as the bytes of a number; 0 for none."""
        return 0 if value == "-" else int.from_bytes(value.encode("ascii"), "little")

    @staticmethod
    def name(number: int) -> str | None:
        """The inverse; None for none."""
        return number.to_bytes(8, "little").rstrip(b"\0").decode("ascii") or None


class LivingKind(Kind):
    """The name of a process that lives."""

    expected = "the name of a process that lives"

    def parse(self, text: str) -> str | None:
        """See above."""
        return text if NAME.fullmatch(text) else None


class NewNameKind(Kind):
    """The name of a process that comes to be."""

    expected = "a new process's name: a capital letter, then letters and digits"

    def parse(self, text: str) -> str | None:
        """See above."""
        return text if NAME.fullmatch(text) else None
