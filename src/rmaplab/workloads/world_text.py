"""Results and worlds in words, and worlds back from them: what is shown to a person and what a recording holds.

w+0..w+8 rw- locked             a VMA: where it begins and ends, its protection, its other flags
w+8..w+9 rw- shared file a+2    ... and which file it shows, from which page on
w+2 frame a copied x2 #3        a page: its frame, whether an access has just put it there, mapcount, what is in it
w+3 zero page 0
w+4 frame b x1 exclusive #3.1   what operation 3 has written to its second page
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rmaplab.calls.table import SEALS, SEGMENT, Returns
from rmaplab.calls.words import KeyKind, Length, ProtKind
from rmaplab.machine.arrays import I64
from rmaplab.objects.flags import VM_MAYSHARE, VM_SHARED
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.places import Places, address_of, name_of
from rmaplab.workloads.world import (
    ADDRESS,
    EXCLUSIVE,
    FLAG_NAMES,
    FRAME,
    MAPCOUNT,
    MOVED,
    WORD,
    State,
    seen_vmas,
    stamp,
)

KEY = KeyKind()
CODE = re.compile(r"(\bSIG[A-Z]+ \S+) \S+$")
PROTS = tuple((bit, letter) for letter, bit in ProtKind.letters.items())


class StateText(NamedTuple):
    """A State in words; what is not seen is not there."""

    vmas: tuple[str, ...]
    pages: tuple[str, ...]
    tables: int | None
    locked: int | None = None


def state_text(state: State, sees: frozenset[str]) -> StateText:
    """In words, what is seen of it."""
    vmas = tuple(vma_text(*vma) for vma in seen_vmas(state.vmas, sees).tolist())
    pages = tuple(page_text(row, sees) for row in state.pages.tolist()) if "pages" in sees else ()
    return StateText(
        vmas, pages, state.tables if "tables" in sees else None, state.locked if "locked" in sees else None
    )


def state_of(text: StateText) -> State:
    """The inverse, as far as things were seen. Raises ValueError where it is no such text."""
    vmas: I64 = np.array([_vma_of(vma) for vma in text.vmas], np.int64).reshape(-1, 5)
    pages: I64 = np.array([_page_of(page) for page in text.pages], np.int64).reshape(-1, 6)
    return State(vmas, pages, text.tables, text.locked)


def word_name(word: int) -> str:
    """What is in a page: "#3" is what operation 3 has written to its first page, "#3.1" to the next one."""
    number, page = divmod(word, 1 << 20)
    if 0 < number < 1 << 20:
        return f"#{number}.{page}" if page else f"#{number}"
    return f"{word:#x}" if word else "0"


def word_of(text: str) -> int:
    """The inverse of word_name. Raises ValueError."""
    if not text.startswith("#"):
        return int(text, 16)
    number, _, page = text[1:].partition(".")
    return stamp(int(number)) + int(page or 0)


def result_text(returns: Returns, value: Any, places: Places) -> str:
    """What a call has returned, in the words of both sides; `value` is in the side's own numbers.

    An address, a bool for each page, a list of words, (bytes, a list of words), (the child's name, how it ended) or None for no child yet, a segment's first
    name, (key, size, mode, attachments); else nothing is told.
    """
    match returns:
        case Returns.ADDRESS | Returns.BREAK:
            return places.name(value)
        case Returns.LENGTH:
            return str(Length(*divmod(value, PAGE_SIZE)))
        case Returns.BLOCKS:
            return str(value)
        case Returns.SEALS:
            return SEALS.format(value)
        case Returns.SEGMENT:
            return SEGMENT.kind.format(value)
        case Returns.STATUS:
            key, size, mode, attached = value
            return f"{Length(*divmod(size, PAGE_SIZE))} x{attached} mode {mode:o} key {KEY.format(key)}"
        case Returns.RESIDENT:
            return " ".join(str(int(there)) for there in value)
        case Returns.WORDS:
            return " ".join(map(word_name, value)) or "ok"
        case Returns.BYTES:
            return " ".join([str(Length(*divmod(value[0], PAGE_SIZE))), *map(word_name, value[1])])
        case Returns.WHO:
            return " ".join(value or ("nobody", "yet"))
    return "ok"


def signal_text(signal: str, where: str = "", code: str = "", words: Iterable[int] = ()) -> str:
    """What a load or a store ends with where it faults, behind the `words` loaded before: "#2 #2.1 SIGSEGV w+2 MAPERR"."""
    return " ".join([*map(word_name, words), signal, where, code]).rstrip()


def without_code(result: str) -> str:
    """A result as it was told before si_code was."""
    return CODE.sub(r"\1", result)


def vma_text(start: int, end: int, flags: int, file: int, offset: int) -> str:
    """A VMA: "w+0..w+8 rw- locked", "w+0..w+8 r-- shared file a+2"."""
    prot = "".join(letter if flags & bit else "-" for bit, letter in PROTS)
    if flags & VM_SHARED:  # which says it all
        flags &= ~VM_MAYSHARE
    words = [f"{name_of(start)}..{name_of(end)}", prot, *(n for bit, n in FLAG_NAMES.items() if flags & bit)]
    return " ".join([*words, *(["file", f"{letters(file)}+{offset // PAGE_SIZE}"] if file else [])])


def page_text(row: Sequence[int], sees: frozenset[str]) -> str:
    """A page: "w+2 frame a x2 exclusive #3"."""
    words = [name_of(row[ADDRESS])]
    if "frames" in sees:
        words += [f"frame {letters(row[FRAME])}" if row[FRAME] else "zero page", *(["copied"] if row[MOVED] else [])]
    if "mapcounts" in sees and row[FRAME]:
        words.append(f"x{row[MAPCOUNT]}")
    if "exclusive" in sees and row[EXCLUSIVE]:
        words.append("exclusive")
    if "words" in sees:
        words.append(word_name(row[WORD]))
    return " ".join(words)


def letters(number: int) -> str:
    """a, b ... z, aa, ab ... for 1, 2 ..."""
    text = ""
    while number:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def number_of(text: str) -> int:
    """The inverse of letters."""
    number = 0
    for letter in text:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number


def _vma_of(text: str) -> tuple[int, int, int, int, int]:
    text, _, file = text.partition(" file ")
    which, _, page = file.partition("+")
    place, prot, *names = text.split()
    start, _, end = place.partition("..")
    bits = {name: bit for bit, name in FLAG_NAMES.items()}
    flags = sum(bit for bit, letter in PROTS if letter in prot) + sum(bits[name] for name in names)
    flags |= VM_MAYSHARE if flags & VM_SHARED else 0
    return address_of(start), address_of(end), flags, number_of(which), int(page or 0) * PAGE_SIZE


def _page_of(text: str) -> list[int]:
    row = [0] * 6
    address, *words = text.split()
    row[ADDRESS] = address_of(address)
    while words:
        word = words.pop(0)
        match word[0], word:
            case _, "zero" | "frame":
                row[FRAME] = number_of(words.pop(0)) if word == "frame" else 0 * len(words.pop(0))
            case _, "copied":
                row[MOVED] = 1
            case _, "exclusive":
                row[EXCLUSIVE] = 1
            case "x", _:
                row[MAPCOUNT] = int(word[1:])
            case _:
                row[WORD] = word_of(word)
    return row
