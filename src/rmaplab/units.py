"""Sizes and numbers as people type and read them: "512M", "1.5 GiB", "1,024 VMAs"."""

import re

from rmaplab.errors import UsageError

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str | int) -> int:
    """Bytes from "512M", "1.5G", "4096" or an int. Units are binary, as everywhere in the kernel.

    Raises UsageError for anything else.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{text!r} is not a size: write a number and K, M, G or T, such as 512M or 1.5G")
    return int(float(match[1]) * 1024 ** _POWER[match[2].upper()])


def format_size(nr_bytes: float) -> str:
    """Bytes for a reader: "512 B", "80 KiB", "1.5 GiB"; at most one decimal, none where it would be zero."""
    size = float(nr_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1023.95:  # what would be written "1024" belongs to the next unit
            return f"{size:.1f}".removesuffix(".0") + f" {unit}"
        size /= 1024
    return f"{size:.1f}".removesuffix(".0") + " TiB"


def typed_size(nr_bytes: int) -> str:
    """Bytes as somebody would type them, in the largest unit that has them whole: "4G", "512M", "1536M"."""
    for power, unit in ((30, "G"), (20, "M"), (10, "K")):
        if nr_bytes and nr_bytes % (1 << power) == 0:
            return f"{nr_bytes >> power}{unit}"
    return str(nr_bytes)


def format_number(nr: int, noun: str) -> str:
    """How many of what: "1 process", "2,000 entries"."""
    if nr != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("try") else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{nr:,} {noun}"


def page_align(nr_bytes: int) -> int:
    """Round up to whole pages (PAGE_ALIGN)."""
    return (nr_bytes + PAGE_SIZE - 1) & -PAGE_SIZE
