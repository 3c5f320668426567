"""What reports of runs that fill RAM say in the same words: why one did not come to its end, and on what box they ran."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from rmaplab.units import format_size


class _WithOutcome(Protocol):
    @property
    def kernel(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def why(self) -> str | None: ...


R = TypeVar("R", bound=_WithOutcome)


def _kernel(row: _WithOutcome) -> str:
    return row.kernel


def whys(rows: Iterable[R], name: Callable[[R], str] = _kernel) -> str:
    """A line for each that was stopped by something that its outcome does not tell, each once."""
    lines = {f"{name(row)}, {row.outcome}: {row.why}.\n": None for row in rows if row.why is not None}
    return "".join(lines)


def on_box(hardware: dict[str, Any]) -> str:
    """The box of a row, for a title."""
    ram, swap = format_size(hardware["ram_bytes"]), format_size(hardware["swap_bytes"])
    return f"on {ram} of RAM and {swap} of swap ({hardware['arch']}, {hardware['cpus']} CPUs)"
