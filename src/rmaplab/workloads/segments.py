"""Segments of System V shared memory by the names that a script gives them: s0 is what the last shmget of that name has returned.

An id is the kernel's own affair, and who has it may use it: so names hold for all processes of a script. What shmget returns is told as the first
name that has the same id: `shmget s1 5 8` says "s0" where s0 has been found by that key.
"""

from rmaplab.calls.table import CALLS
from rmaplab.calls.words import MOST_SEGMENTS, SegmentKind
from rmaplab.workloads.script import Op

NOBODYS = -1
"""An id that no segment has."""


class Segments:
    """The ids that a side has for the names of a script."""

    def __init__(self) -> None:
        self._ids = [NOBODYS] * MOST_SEGMENTS

    def given(self, name: int, number: int) -> int:
        """The name has the id `number` from now on: the first name that has it."""
        self._ids[name] = number
        return self._ids.index(number)

    def put(self, op: Op, numbers: dict[str, int]) -> None:
        """Ids where `numbers` has the names of an operation's segments; a name that it gives goes."""
        for argument in CALLS[op.call].arguments:
            if isinstance(argument.kind, SegmentKind):
                if op.call == "shmget":
                    del numbers[argument.name]
                else:
                    numbers[argument.name] = self._ids[op[argument.name]]
