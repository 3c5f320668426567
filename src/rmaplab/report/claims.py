"""The memory claims as tables: a figure with "=" is what the formula and the machine both say."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from rmaplab.lab.announcement.claims import CONFIGURATIONS, KERNELS, LEVELS, LINES, RAM_GIB, Claim, Reach
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Prose, Table, new_table
from rmaplab.units import format_size

WORDS = {
    ("i386", False): "i386",
    ("i386-pae", False): "PAE",
    ("i386-pae", True): "PAE + HIGHPTE",
    ("x86-64", False): "x86-64",
}

_LEAST_TOLD = "|".join(f"{gib} GiB" for gib in RAM_GIB[1:])  # on a narrow terminal: the announcement's box has 1 GiB


@dataclass(frozen=True)
class ClaimsReport(Report[Claim | Reach]):
    """What `claims` found: four groups of claims (struct page, mem_map, page tables, chains), and the reach. All are rows."""

    groups: Sequence[Sequence[Claim]]
    reach: Sequence[Reach]

    def text(self) -> Group:
        """All five."""
        pages, mem_maps, tables, chains = self.groups
        return Group(_pages(pages), _mem_maps(mem_maps), _tables(tables), _chains(chains), _reach(self.reach))


def both(claim: Claim, *, human: bool = True) -> str:
    """Say a figure once where the two agree, as "48 =", and both where they do not, as "48, machine: 52"."""
    say = format_size if human else str
    return (
        f"{say(claim.arithmetic)} ="
        if claim.arithmetic == claim.machine
        else f"{say(claim.arithmetic)}, machine: {say(claim.machine)}"
    )


def _pages(claims: Sequence[Claim]) -> Group:
    columns = "|".join(f">{WORDS[configuration]}" for configuration in CONFIGURATIONS)
    table = new_table(None, f"kernel|{columns}")
    _pivot(table, KERNELS, claims, human=False)
    return _section(
        'struct page, in bytes: "this releases 4byte of page_t"',
        table,
        "=  the same when weighed: what 1 GiB more of RAM costs at boot. The four bytes are those of PAE with HIGHPTE, where a",
        "   union of 8 bytes gives way to a mapcount of 4; elsewhere 4 bytes replace 4, or padding takes the difference.",
    )


def _mem_maps(claims: Sequence[Claim]) -> Group:
    table = new_table(None, "kernel|" + "|".join(f">{gib} GiB" for gib in RAM_GIB), leave_out=_LEAST_TOLD)
    _pivot(table, KERNELS, claims)
    return _section(
        "mem_map, with PAE and HIGHPTE", table, "=  the frames taken at boot. They are low memory: 3:1 has 896 MiB."
    )


def _tables(claims: Sequence[Claim]) -> Group:
    table = new_table(None, "page tables|>in all|_published")
    for claim in claims:
        table.add_row(claim.about, both(claim), claim.published or DASH)
    return _section(
        "Page tables of 512 processes with 512 MiB each, all alive", table, "=  512 times the tables of one, counted."
    )


def _chains(claims: Sequence[Claim]) -> Group:
    columns = "|".join(f">{line}-byte lines" for line in LINES)
    table = new_table(None, f"level|pte_addr_t|{columns}")
    for slot, suffix in (("8 bytes (HIGHPTE)", ", HIGHPTE"), ("4 bytes", "")):
        for level in LEVELS:
            names = [f"level {level}, {line}-byte lines{suffix}" for line in LINES]
            found = [next(both(claim) for claim in claims if claim.about == name) for name in names]
            table.add_row(str(level), slot, *found, end_section=level == LEVELS[-1])
    return _section(
        "pte chains of 512 MiB mapped 2^level times: 2.6.2 with PAE",
        table,
        "=  the slabs of a machine with 2^level processes. A page holds 30 blocks of 128 bytes, not 32. All of it low memory.",
    )


def _reach(rows: Sequence[Reach]) -> Group:
    columns = "|".join(f">{gib} GiB" for gib in RAM_GIB)
    table = new_table(None, f"kernel|HIGHPTE|>they need|{columns}|>largest RAM", leave_out=_LEAST_TOLD)
    for row in rows:
        table.add_row(
            row.kernel,
            "yes" if row.highpte else "no",
            format_size(row.low_need_bytes),
            *(format_size(low) if low >= 0 else "no boot" for low in row.low_free_bytes.values()),
            f"{row.largest_gib} GiB" if row.largest_gib else "none",
        )
    return _section(
        f"The reach of {rows[0].split}: low memory for {rows[0].processes} processes with 512 MiB each, all alive",
        table,
        "they need: measured. By RAM: low memory that can be had after boot. largest RAM: the last, up to 64 GiB, that leaves enough.",
        'Published (LKML, 27 February and 8 March 2004): "16 GB fine, 32 GB works" with 2.4; 2.6 with objrmap expected fine to',
        "32 GB; 2.6 with chains limited to about 150 users of a 2.7 GB window (history.md 2.5).",
    )


def _section(title: str, table: Table, *notes: str) -> Group:
    return Group(Prose(title, "bold"), table, *(Prose(note, "dim") for note in notes), Text())


def _pivot(table: Table, names: Sequence[str], claims: Sequence[Claim], *, human: bool = True) -> None:
    for name in names:
        table.add_row(name, *(both(claim, human=human) for claim in claims if claim.about.startswith(f"{name}, ")))
