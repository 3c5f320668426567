"""The table of mallocgroup."""

from rmaplab.lab.costs.mallocgroup import WalkResult
from rmaplab.report.emit import Report
from rmaplab.report.tables import Table, new_table
from rmaplab.units import format_size


class WalksReport(Report[WalkResult]):
    """What `compare mallocgroup` found."""

    columns = (
        "kernel|design|>visits: parent's page|>child's page|>mean|>most|>page-table walks|>reverse map|_objects|>wall"
    )

    def text(self) -> Table:
        """A row per kernel: visits per walk, from either kind of page and on average, and what the design holds."""
        one = self.rows[0]
        total = (one.children + 1) * one.pages
        table = new_table(
            f"mallocgroup: {one.children:,} children have written {one.pages:,} inherited pages each; {total:,} pages, mapped once each",
            self.columns,
            caption=(
                "visits: VMAs, mms or slots that a walk looks at to find the one mapping of a page; mean: over all pages there are.\n"
                f"Walks were made from {one.walks:,} pages. LKML, 21 January 2010: one anon_vma makes it O(N), anon_vma_chain about 2."
            ),
            leave_out="page-table walks|design|wall|most",
        )
        for r in self.rows:
            objects = ", ".join(f"{nr:,} {name}" for name, nr in r.rmap_objects.items())
            visits = (r.visits_parent_page, r.visits_child_page, r.visits_mean, r.visits_max, r.table_walks_mean)
            figures = [f"{value:,.1f}".removesuffix(".0") for value in visits]
            table.add_row(r.kernel, r.design, *figures, format_size(r.rmap_bytes), objects, f"{r.wall_s:.1f} s")
        return table
