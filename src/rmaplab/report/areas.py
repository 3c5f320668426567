"""What a process maps, a line per VMA, and what may be asked next."""

import os
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from rmaplab.harmless import printable
from rmaplab.host.areas import Area, Areas
from rmaplab.host.procfs import PAGE_BYTES
from rmaplab.report.emit import Report
from rmaplab.units import format_number, format_size

MOST = 2000
_HEADS = ("start-end", "perms", "size", "in memory", "anonymous", "shared", "swapped", "name")


@dataclass(frozen=True)
class AreasReport(Report[Areas]):
    """One process."""

    def as_json(self) -> Any:
        """It is one object."""
        return self.rows[0].as_json()

    def text(self) -> Text:
        """A table, the sums, and the next question."""
        found = self.rows[0]
        table = [_HEADS, *map(_cells, found.areas[:MOST])]
        widths = [max(len(row[i]) for row in table) for i in range(len(_HEADS))]
        lines = [
            Text(printable(f"pid {found.pid} ({found.comm}): {format_number(len(found.areas), 'VMA')}"), "bold"),
            Text(),
        ]
        lines += [_line(row, widths, "" if row is not _HEADS else "dim") for row in table]
        if len(found.areas) > MOST:
            lines.append(Text(f"  … {len(found.areas) - MOST:,} more: --format json has them all"))
        return Text("\n").join([*lines, Text(), *_next(found)])


def _cells(area: Area) -> tuple[str, ...]:
    pages = (area.present, area.anonymous, area.shared, area.swapped)
    sizes = [format_size(nr * PAGE_BYTES) if nr else "" for nr in pages]
    vma = area.vma
    span, size = f"{vma.start:x}-{vma.end:x}", format_size(vma.end - vma.start)
    return span, vma.perms, size, *sizes, printable(vma.name)


def _line(row: tuple[str, ...], widths: list[int], style: str) -> Text:
    cells = [
        f"{cell:>{width}}" if 2 <= i < 7 else f"{cell:<{width}}"
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return Text("  " + "  ".join(cells).rstrip(), style)


def _next(found: Areas) -> list[Text]:
    """The VMA that has most pages in common with others, else the one with most pages. Of ourselves nothing is there any more."""
    if found.pid == os.getpid():
        return []
    if not any(area.present for area in found.areas):
        return [Text("  no page of it is in memory")]
    area = max(found.areas, key=lambda area: (area.shared, area.present))
    question = f"rmaplab who {found.pid} {area.vma.start:x}-{area.vma.end:x}"
    what = "most is shared" if area.shared else "most is in memory"
    return [
        Text(f"  next, of the VMA of which {what}:  {question}"),
        Text("  (its first page that is there; or an address, or a name or name+offset: [heap], libc.so.6+27000)"),
    ]
