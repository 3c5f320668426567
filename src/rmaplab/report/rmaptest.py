"""The table of rmap-test: what reclaim visits where one file has very many VMAs, by kernel and index."""

from rmaplab.lab.costs.rmaptest import RmapTestRow
from rmaplab.report.beyond import on_box, whys
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Table, new_table
from rmaplab.units import format_size

CAPTION = (
    "visits: VMAs or slots that page_referenced and try_to_unmap have looked at, by page freed; in vain: of all. Seconds are simulated and believed; sys is the processors', walks included.\n"
    "Published of the whole program, 10,000 VMAs and 256 MB, system time: chains 3.75 s, lists 146 s (Andrew Morton, 2003); chains 31 s, prio_tree 31 s, lists more than 1,588 s (Rajesh Venkatasubramanian, 2004)."
)


class RmapTestReport(Report[RmapTestRow]):
    """What `compare rmap-test` found."""

    columns = "kernel|index|outcome|>freed|>visits|>in vain|>sys s|>real s|>files read|>files written|>verified|>wall s"

    def text(self) -> Table:
        """A row per kernel and index."""
        one = self.rows[0]
        table = new_table(
            f"rmap-test: {one.vmas:,} VMAs on a file of {format_size(one.file_bytes)} in each of two processes, {on_box(one.hardware)}",
            self.columns,
            caption=whys(self.rows, lambda row: f"{row.kernel}, {row.index}") + CAPTION,
            leave_out="wall s|verified|files written|files read|freed",
        )
        for row in self.rows:
            visits, per = row.visits, row.visits_per_freed
            table.add_row(
                row.kernel,
                row.index,
                row.outcome,
                f"{row.freed:,}",
                DASH if per is None else f"{per:,.1f}",
                f"{visits['in_vain'] / visits['all']:.0%}" if visits["all"] else DASH,
                f"{row.time_s['sys']:,.2f}",
                f"{row.time_s['real']:,.1f}",
                f"{row.files['pages_read']:,}",
                f"{row.files['pages_written']:,}",
                format_size(row.verified_bytes),
                f"{row.wall_s:.1f}",
            )
        return table
