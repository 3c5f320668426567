"""The table of manyvmas: what walks visit, beside what files.md E4 derives; or locked, beside the same walks before."""

from collections.abc import Sequence

from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.costs.manyvmas import DERIVED, Derived, ManyVmasRow, Visits
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Table, new_table
from rmaplab.workloads.manyvmas import PROGRAMS


class ManyVmasReport(Report[ManyVmasRow]):
    """What `compare manyvmas` found at the published sizes."""

    columns = "test|processes|VMAs|kernel|index|page_referenced|try_to_unmap|nodes|derived|unlocked|unmapped?"

    def text(self) -> Table:
        """A row per test, kernel and index."""
        locked = any(row.unlocked is not None for row in self.rows)
        beside = "unlocked" if locked else "derived"
        table = new_table(
            f"what a walk from a page visits, on average{', all mappings locked' if locked else ''}",
            f"test|>processes|>VMAs|kernel|index|>page_referenced|>{beside}|>try_to_unmap|>{beside}|>nodes|>{beside}"
            + ("|unmapped?" if locked else ""),
            caption=_caption(self.rows, locked=locked),
            leave_out="processes|nodes" if locked else "processes",
        )
        for i, row in enumerate(self.rows):
            first = i == 0 or self.rows[i - 1].program != row.program
            last = i + 1 == len(self.rows) or self.rows[i + 1].program != row.program
            program = row.program
            sizes = [program.name, f"{program.processes:,}", f"{program.nr_vmas:,}"] if first else ["", "", ""]
            other = row.unlocked or _derived(row)
            figures = [figure for pair in zip(row.visits, other, strict=True) for figure in map(_figure, pair)]
            ends = [row.outcome.name] if locked else []
            table.add_row(*sizes, row.kernel, row.index, *figures, *ends, end_section=last)
        return table


def published(rows: Sequence[ManyVmasRow]) -> list[ManyVmasRow]:
    """Those of whole programs."""
    return [row for row in rows if row.program in PROGRAMS.values()]


def _derived(row: ManyVmasRow) -> Visits | tuple[None, None, None]:
    """The same three figures by files.md E4; None where it says nothing: of an index that is ours, or another package's."""
    told: Derived = DERIVED[row.program.name]
    if row.index == "list":
        to_the_end, to_the_last = told.on_list
        first = to_the_last if find_kernel(row.kernel).walk_rules(4).walk_stops else to_the_end
        return Visits(first, to_the_last, first)
    if row.index in ("prio_tree", "prio_tree_mended"):
        return Visits(told.found, told.found, told.prio_nodes)
    if row.index in ("interval_tree", "pte_chain"):
        return Visits(told.found, told.found, None)
    return (None, None, None)


def _figure(value: float | None) -> str:
    return DASH if value is None else f"{value:,.1f}".removesuffix(".0")


def _caption(rows: Sequence[ManyVmasRow], *, locked: bool) -> str:
    fewest, most = min(row.pages for row in rows), max(row.pages for row in rows)
    pages = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    walked = f"Walks are made from {pages} pages of the file, spread evenly: on a list their mean is that of all pages."
    if locked:
        return (
            f"{walked}\n"
            "try_to_unmap: what it looks at before a VMA with VM_LOCKED that maps the page ends it (FAIL, MLOCK): the page stays.\n"
            "page_referenced looks at VM_LOCKED since 2.6.7. nodes: of the index, by page_referenced."
        )
    return (
        f"{walked}\n"
        "visits: VMAs (by a virtual scan mms, too), or slots of a chain. try_to_unmap stops with the last mapping, and page_referenced since "
        "2.6.7; before that it goes on to the end. nodes: of the index, by page_referenced. derived: by "
        "files.md E4, from the sizes of the programs; there a search of a tree goes on to its end."
    )
