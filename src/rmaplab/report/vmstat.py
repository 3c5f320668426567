"""Lines of vmstat(8), as procps 3.2 printed them in 2004: 80 columns, a header, and again when it has gone off the screen.

    procs -----------memory---------- ---swap-- -----io---- --system-- ----cpu----
     r  b   swpd   free   buff  cache   si   so    bi    bo   in    cs us sy id wa
     1  0      0 812340      0      0    0    0     0     0 1000    12  4 21 75  0

Source: procps 3.2.2 (2004) vmstat.c, new_header, new_format; main: a terminal of 24 lines has one every 21.
"""

from rmaplab.lab.vmstat import VmstatLine

LINES = 21
GROUPS = "procs -----------memory---------- ---swap-- -----io---- --system-- ----cpu----"
WIDTHS = (2, 2, 6, 6, 6, 6, 4, 4, 5, 5, 4, 5, 2, 2, 2, 2)
NAMES = ["in" if name == "interrupts" else name for name in VmstatLine._fields]


class VmstatScreen:
    """Makes text of one line after the other."""

    def __init__(self) -> None:
        self._shown = 0

    def text(self, line: VmstatLine) -> str:
        """The line, with the header before it when that is due. Numbers that are too long push the rest to the right."""
        rows: list[tuple[object, ...]] = [line]
        if self._shown % LINES == 0:
            rows.insert(0, tuple(NAMES))
        texts = [" ".join(f"{value:>{width}}" for value, width in zip(row, WIDTHS, strict=True)) for row in rows]
        if len(rows) > 1:
            texts.insert(0, GROUPS)
        self._shown += 1
        return "".join(f"{text}\n" for text in texts)
