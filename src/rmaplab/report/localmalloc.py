"""The table of localmalloc: what is visited to swap a page of each kind, and what becomes of the announcement's sentence."""

from collections.abc import Sequence

from rmaplab.lab.costs.localmalloc import LocalMallocRow
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Table, new_table
from rmaplab.units import format_size


class LocalMallocReport(Report[LocalMallocRow]):
    """What `compare localmalloc` found with all children."""

    columns = "pages|kernel|>mapped|>page_referenced|>try_to_unmap|>in vain|>entries read|>locks|>us, predicted|>reverse map|sentence"

    def text(self) -> Table:
        """A row per case and kernel."""
        one, helpers = self.rows[0], max(row.helpers for row in self.rows)
        each = "a helper" if helpers == 1 else f"{helpers:,} helpers"
        table = new_table(
            f"localmalloc: {one.children:,} children of one process, each with {one.pages:,} pages, and {each} where they are shared: to swap one page",
            self.columns,
            caption=CAPTION,
            leave_out="locks|entries read|mapped|in vain|reverse map",
        )
        for i, row in enumerate(self.rows):
            first = i == 0 or self.rows[i - 1].case != row.case
            last = i + 1 == len(self.rows) or self.rows[i + 1].case != row.case
            read = row.looked_at.get("table_walk", 0) + row.looked_at.get("chain_slot_visit", 0)
            visits = (row.mapped, row.referenced_visits, row.unmap_visits, row.in_vain, read, sum(row.locks.values()))
            table.add_row(
                row.case if first else "",
                row.kernel,
                *map(_figure, visits),
                f"{row.predicted_us:,.1f}",
                format_size(row.rmap_bytes),
                row.verdict or DASH,
                end_section=last,
            )
        return table


CAPTION = (
    "page_referenced, try_to_unmap: mms, VMAs or slots that each visits, on average; in vain: of both together; locks: that were taken for both.\n"
    "predicted: cache lines of both walks at the price of one; believed. reverse map: its objects, and what it adds to VMAs and mms.\n"
    'sentence (18 March 2004): "better than anonmm because it\'s finegriend, so applications using local "malloc" in a process-group will scale better"; '
    "it holds if page_referenced\nvisits fewer under anon_vma than under this anonmm, ties, or fails. anonmm_unordered: the family from its head on, as in the mails of 13 March 2004."
)


def of_all_children(rows: Sequence[LocalMallocRow], children: int) -> list[LocalMallocRow]:
    """Those with so many."""
    return [row for row in rows if row.children == children]


def _figure(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
