"""The table of nonlinear-user: what becomes of the box, kernel by kernel."""

from rmaplab.lab.costs.nonlinear_user import NonlinearUserRow
from rmaplab.report.beyond import on_box, whys
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Table, new_table
from rmaplab.units import format_size

CAPTION = (
    "most mapped: of the window, at once. passes: of the user over it, 2 if he came to the end. rounds, slowest: of the bystander over his memory, simulated seconds; believed.\n"
    "entries per freed: entries of page tables that were read, by page freed. "
    'The announcement of 2.6.5-rc1-aa1: "it\'s like allowing a bad user to use mlock, so he can turn down the machine locally".'
)


class NonlinearUserReport(Report[NonlinearUserRow]):
    """What `compare nonlinear-user` found."""

    columns = "kernel|window|outcome|>most mapped|>passes|>rounds|>slowest s|>pages out|>files read|>entries per freed|>OOM kills|>real s|>wall s"

    def text(self) -> Table:
        """Two rows per kernel: the window in order, and remapped."""
        one = self.rows[0]
        table = new_table(
            f"a window of {format_size(one.window_bytes)} on a file, and a bystander with {format_size(one.bystander_bytes)}, {on_box(one.hardware)}",
            self.columns,
            caption=whys(self.rows, lambda row: f"{row.kernel}, {row.window}") + CAPTION,
            leave_out="wall s|OOM kills|entries per freed|pages out|files read|rounds",
        )
        for i, row in enumerate(self.rows):
            last = i + 1 == len(self.rows) or self.rows[i + 1].kernel != row.kernel
            first = i == 0 or self.rows[i - 1].kernel != row.kernel
            table.add_row(
                row.kernel if first else "",
                row.window,
                row.outcome,
                format_size(row.most_mapped_bytes),
                str(row.passes),
                f"{row.rounds:,}",
                DASH if row.slowest_round_s is None else f"{row.slowest_round_s:,.1f}",
                f"{row.swap['pages_out']:,}",
                f"{row.files['pages_read']:,}",
                DASH if row.entries_per_freed is None else f"{row.entries_per_freed:,.1f}",
                str(row.oom_killed),
                f"{row.time_s['real']:,.1f}",
                f"{row.wall_s:.1f}",
                end_section=last,
            )
        return table
