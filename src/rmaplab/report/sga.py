"""The tables of sga: how many users, and what memory was used for when it was gone."""

from collections.abc import Sequence

from rich.console import Group

from rmaplab.lab.costs.sga import NO_CALL, SgaRow
from rmaplab.report.beyond import whys
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Table, new_table
from rmaplab.units import format_size
from rmaplab.workloads.sga import How

USES = {
    "page_tables": "page tables",
    "reverse_map": "reverse map",
    "vmas": "VMAs",
    "other_slabs": "other slabs",
    "stacks": "stacks",
    "segment": "segment",
    "index": "its index",
    "swap_vector": "its swap vector",
    "mem_map": "mem_map",
    "boot": "boot",
    "free": "free",
}
MAPPED = ("", "mapped|")
WHERE = "RAM|split|segment|mapped|kernel"
OF_USERS = "design|users|published|short of|then|a user: page tables|reverse map|VMAs|other"


class SgaReport(Report[SgaRow]):
    """What `compare sga` found."""

    columns = "|".join((WHERE, OF_USERS, "pages out|pages in|after users|memory", *USES.values()))

    def text(self) -> Group:
        """Users, then memory."""
        windows = any(row.how != How.WHOLE.value for row in self.rows)
        return Group(_users(self.rows, windows=windows), "", _memory(self.rows, windows=windows))


def _users(rows: Sequence[SgaRow], *, windows: bool) -> Table:
    swaps = any(any(row.swap.values()) for row in rows)
    swapped = ">pages out|>pages in|" if swaps else ""
    table = new_table(
        f"sga: users that attach a shared segment and write to all of it, one after the other, on {_box(rows[0])}",
        f"RAM|split|segment|{MAPPED[windows]}kernel|design|>users|published|_short of|_then|{swapped}>a user: page tables|>reverse map|>VMAs|>other",
        caption=_caption(rows),
        leave_out="other|design",
    )
    for row, new, last in _grouped(rows):
        there = row.short_of != NO_CALL
        each = [format_size(nr_bytes) if there else DASH for nr_bytes in row.per_user]
        about = [*_where(row, new=new), *([row.how] if windows else []), row.kernel, row.design]
        table.add_row(
            *about,
            f"{row.users:,} ({f'from {row.run:,}' if row.arithmetic else 'run'})" if there else DASH,
            ", ".join(f"{nr:,}" for nr in row.published) or DASH,
            row.short_of,
            row.then or DASH,
            *([f"{row.swap['pages_out']:,}", f"{row.swap['pages_in']:,}"] if swaps else []),
            *each,
            end_section=last,
        )
    return table


def _memory(rows: Sequence[SgaRow], *, windows: bool) -> Table:
    table = new_table(
        "where memory went (run: when the first request failed; arithmetic: after the last user that was run)",
        f"RAM|split|segment|{MAPPED[windows]}kernel|>after users|memory|{'|'.join(f'>{use}' for use in USES.values())}",
        leave_out="its index|its swap vector|boot|stacks|other slabs|segment|mem_map",
    )
    for row, new, last in _grouped(rows):
        about = [*_where(row, new=new), *([row.how] if windows else []), row.kernel, f"{row.run:,}"]
        for nr, (side, used) in enumerate(row.zones.items()):
            sizes = [format_size(used[use]) if used[use] else DASH for use in USES]
            ends = last and nr + 1 == len(row.zones)
            table.add_row(
                *(about if nr == 0 else [""] * len(about)),
                side if row.hardware["split"] else "all",
                *sizes,
                end_section=ends,
            )
    return table


def _grouped(rows: Sequence[SgaRow]) -> list[tuple[SgaRow, bool, bool]]:
    """(A row, whether it is the first of its box and way of mapping, whether the last)."""
    keys = [(row.hardware["ram_bytes"], row.hardware["split"], row.how) for row in rows]
    return [
        (row, i == 0 or keys[i - 1] != keys[i], i + 1 == len(rows) or keys[i + 1] != keys[i])
        for i, row in enumerate(rows)
    ]


def _where(row: SgaRow, *, new: bool) -> list[str]:
    if not new:
        return ["", "", ""]
    return [format_size(row.hardware["ram_bytes"]), row.hardware["split"] or DASH, format_size(row.segment_bytes)]


def _box(row: SgaRow) -> str:
    hardware = row.hardware
    highpte = f" with{'' if hardware['highpte'] else 'out'} HIGHPTE" if hardware["split"] else ""
    swap = f", {format_size(hardware['swap_bytes'])} of swap" if hardware["swap_bytes"] else ""
    return f"{hardware['arch']}{highpte}, {hardware['l1_cache_bytes']}-byte cache lines{swap}"


def _caption(rows: Sequence[SgaRow]) -> str:
    lines = [
        f"{whys(rows)}a user: bytes that each takes, the mean over all users; of an object, its share of a slab. other: stacks and all other slabs."
    ]
    if any(row.run and not row.arithmetic for row in rows):
        lines.append("(run): so many users were really there.")
    if any(row.arithmetic for row in rows):
        lines.append(
            "(from N) is arithmetic: N users were run; for the rest, page tables, stacks and VMAs are as theirs, and chain blocks come in rounds, of as many users as a block has slots."
        )
        if any(row.hardware["swap_bytes"] for row in rows):
            lines.append(
                "What of the segment could go to swap counts as free there, if the kernel makes room: how long that would take nobody asks."
            )
    if any(row.published for row in rows):
        lines.append(
            "published: Andrea Arcangeli, LKML, 8 March 2004 (100; 700 with 4:4: arithmetic, 8 bytes an entry), 27 February 2004 (150; 700)."
        )
    if any(row.how != How.WHOLE.value for row in rows):
        lines.append(
            "published (27 February and 9 March 2004): 6,000 to 7,500 users with a window of 512 MB, on 2.4-aa, which merges VMAs of files; 2.4.21 does not."
        )
    return "\n".join(lines)
