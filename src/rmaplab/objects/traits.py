"""What VMAs that merge have in common beside flags and files."""

from typing import NamedTuple


class Traits(NamedTuple):
    """A memory policy (mode, mode's flags, nodes, nodes asked for), and a name."""

    policy: tuple[int, int, int, int] | None = None
    name: str | None = None


PLAIN = Traits()
