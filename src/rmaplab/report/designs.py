"""The designs there are, as a table; and what random scripts have found of one."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rmaplab.errors import UsageError
from rmaplab.kernels.designs import DesignEntry, load_design
from rmaplab.report.emit import Report
from rmaplab.report.tables import Table, new_table
from rmaplab.units import format_number


@dataclass(frozen=True)
class DesignRow:
    """A design of the list."""

    design: str
    package: str
    where: str
    about: str

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


class DesignList(Report[DesignRow]):
    """All designs."""

    @classmethod
    def of(cls, entries: Iterable[DesignEntry]) -> "DesignList":
        """A row per design. One that cannot be loaded is listed with the reason; the others do not suffer from it."""
        return cls([DesignRow(entry.name, entry.package, entry.path, _about(entry.path)) for entry in entries])

    def text(self) -> Table:
        """One line per design."""
        table = new_table(
            None,
            "design|package|where|_what it is",
            caption="rmaplab designs check NAME puts one to the test; KERNEL+NAME is a kernel with it, such as 2.6.5-rc1+anonmm",
            leave_out="where|package",
        )
        for row in self.rows:
            table.add_row(row.design, row.package, row.where, row.about)
        return table


def _about(path: str) -> str:
    try:
        return ((load_design(path).__doc__ or "").strip().splitlines() or [""])[0]
    except UsageError as error:
        return f"broken: {error}"


@dataclass(frozen=True)
class CheckedDesign:
    """What `designs check` found. `counterexample` is Python, `message` what was wrong; both None if nothing was."""

    design: str
    kernel: str
    paging: str
    scripts: int
    calls: int
    seed: int
    counterexample: str | None
    message: str | None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


class DesignReport(Report[CheckedDesign]):
    """What `designs check` found."""

    def text(self) -> str:
        """The counterexample, to be run; or one line that says how much was tried."""
        (row,) = self.rows
        if row.counterexample is not None:
            return row.counterexample
        return f"{row.design} on {row.kernel}, {row.paging}: ok, {format_number(row.scripts, 'script')} of {row.calls:,} calls, seed {row.seed}\n"
