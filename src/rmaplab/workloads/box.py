"""What surrounds a script: the machine it runs on, as far as a script says so in a line before its operations.

    box ram=512M swap=0 overcommit=2 ratio=50 max_map_count=100        any of these words
    box host                                                           as this machine; so it is where nothing is said

With `ram` the model has so much of it, frames and promises: where it is full, what happens is what the kernel of the day did. Without, it has
frames of its own, and promises what the host could (Circumstances).

On the host all of this is the machine's: nobody sets it. So a script whose box is another one runs on the model alone (lab/differential/alone.py).
"""

import re
from dataclasses import dataclass, fields

from rmaplab.errors import UsageError
from rmaplab.units import parse_size

STRICT = 2
_SIZES = ("ram", "swap")
_NUMBER = re.compile(r"\d{1,9}")
_UNITS = ((30, "G"), (20, "M"), (10, "K"), (0, ""))
USAGE = "words such as ram=512M, swap=0, overcommit=2, ratio=50, max_map_count=100, or host"


class BadBox(ValueError):
    """A line that is no box: what was expected."""


@dataclass(frozen=True)
class ScriptBox:
    """Bytes of RAM and swap; vm.overcommit_memory, vm.overcommit_ratio and vm.max_map_count. None: as the host."""

    ram: int | None = None
    swap: int | None = None
    overcommit: int | None = None
    ratio: int | None = None
    max_map_count: int | None = None

    def __str__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        told = [f"{name}={told_value(name, value)}" for name, value in given if value is not None]
        return " ".join(["box", *(told or ["host"])])


HOST = ScriptBox()


def parse_box(text: str) -> ScriptBox:
    """The inverse of str(). Raises BadBox."""
    words = text.split()[1:]
    if words == ["host"]:
        return HOST
    values: dict[str, int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in ScriptBox.__dataclass_fields__ or name in values:
            raise BadBox(f"expected {USAGE}, each once, found {word!r}")
        values[name] = _number(name, value)
    if not values:
        raise BadBox(f"expected {USAGE}, found the end of the line")
    return ScriptBox(**values)


def _number(name: str, text: str) -> int:
    try:
        if name in _SIZES:
            return parse_size(text)
    except UsageError:
        raise BadBox(f"expected a size such as {name}=512M, found {text!r}") from None
    if not _NUMBER.fullmatch(text) or (name == "overcommit" and int(text) > STRICT):
        expected = "0 (heuristic), 1 (always) or 2 (strict)" if name == "overcommit" else "a number"
        raise BadBox(f"expected {expected} for {name}, found {text!r}")
    return int(text)


def told_value(name: str, value: int) -> str:
    """A value as it is written."""
    if name not in _SIZES or not value:
        return str(value)
    power, unit = next((power, unit) for power, unit in _UNITS if value % (1 << power) == 0)
    return f"{value >> power}{unit}"
