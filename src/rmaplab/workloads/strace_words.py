r"""The words of a logged call: what stands between its brackets, as strace -xx -X raw writes it.

    mmap(NULL, 8192, 0x3, 0x22, -1, 0)                                numbers: hex, octal, decimal, or several with "|"
    openat(-100, "\x2f\x65\x74\x63", 0x80000)                         bytes, each as \x..
    newfstatat(3, "", {st_mode=0100644, st_size=258, ...}, 0x1000)    what the kernel wrote, by names
    clone(child_stack=NULL, flags=0x1200000|17)                       arguments by names

A word that is none of these is a BadWord, and its call is not understood. Every number has 64 bits at most.
"""

import re

MOST_BITS = 64
_OPEN, _CLOSE = "([{", ")]}"
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})*", re.IGNORECASE)
_FIELD = re.compile(r"\b([a-z_]+)=([^,{}\[\]]+)")
NAMED_FLAGS = re.compile(r"\b(PROT|MAP|CLONE|MADV|MREMAP|AT|O|F|MFD|PR)_[A-Z]+")


class BadWord(ValueError):
    """A word that says nothing that is looked for."""


def split(text: str) -> list[str]:
    """Arguments, of what stands between the brackets. O(length)."""
    if not text:
        return []
    if "{" not in text and "[" not in text:
        return text.split(", ")
    words, depth, begin, quoted, escaped = [], 0, 0, False, False
    for at, letter in enumerate(text):
        if quoted:
            quoted = letter != '"' or escaped
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            quoted = True
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
        elif letter == "," and not depth:
            words.append(text[begin:at].strip())
            begin = at + 1
    return [*words, text[begin:].strip()]


def number(word: str) -> int:
    """Of a word such as 0x22, 0100644, -1, NULL or 0x1200000|17. Raises BadWord."""
    try:
        value = int(word, 0) if word[:1] != "0" or word[1:2] in "xX" else int(word, 8)
    except ValueError:
        value = _unusual(word)
    if -(1 << (MOST_BITS - 1)) <= value < 1 << MOST_BITS:
        return value
    raise BadWord(word)


def _unusual(word: str) -> int:
    if word == "NULL":
        return 0
    said, comment, _ = word.partition("/*")
    if comment:
        return number(said.strip())
    if "|" not in word or len(word) > 1000:
        raise BadWord(word)
    value = 0
    for part in word.split("|"):
        value |= number(part)
    return value


def signed(word: str) -> int:
    """Of a descriptor, or an offset: a number whose top bit is a sign. Raises BadWord."""
    value = number(word)
    if 1 << 31 <= value < 1 << 32:
        return value - (1 << 32)
    return value - (1 << 64) if value >= 1 << 63 else value


def text(word: str) -> bytes:
    """A string's bytes, as far as they were logged. Raises BadWord."""
    body = word.removesuffix("...")
    if len(body) < 2 or body[0] != '"' or body[-1] != '"':
        raise BadWord(word)
    body = body[1:-1]
    if _HEX.fullmatch(body):
        return bytes.fromhex(body.replace("\\x", ""))
    if "\\" in body:  # not by -xx
        raise BadWord(word)
    return body.encode("utf-8", "surrogateescape")


def fields(word: str) -> dict[str, str]:
    """What stands by names in a structure, or among the arguments: the first of a name. A structure within one has its fields among them."""
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(word):
        found.setdefault(name, value.strip().removesuffix(" =>"))
    return found


def field(word: str, name: str) -> int:
    """A number by its name. Raises BadWord where there is none."""
    values = fields(word)
    if name not in values:
        raise BadWord(f"no {name}")
    return number(values[name])
