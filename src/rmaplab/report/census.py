"""A census as tables: circumstances first, then processes or trees, then walks, files and designs, then what to keep in mind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rmaplab.harmless import printable
from rmaplab.host.snapshot import TITLES, Rung, Snapshot
from rmaplab.lab.census.census import Census, circumstances
from rmaplab.lab.census.designs import Held
from rmaplab.lab.census.diff import COUNTED, Change
from rmaplab.lab.census.rows import CensusRow
from rmaplab.lab.census.visits import Quantiles
from rmaplab.machine.arrays import I64
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Prose, Table, new_table, plain
from rmaplab.units import format_size

T = TypeVar("T")
COUNTS = {
    "processes": "processes", "trees": "fork trees", "vmas": "VMAs", "anon_vmas": "anon_vmas", "chains": "anon_vma_chains"
}  # fmt: skip


@dataclass(frozen=True)
class CensusReport(Report[CensusRow]):
    """What `live` found: of `rows`, `top` are shown (0: all); `mms` are what they are about (None: all)."""

    census: Census
    mms: I64 | None
    trees: bool
    top: int

    def as_json(self) -> dict[str, Any]:
        """One object, with circumstances, totals, walk, files and designs."""
        return self.census.as_json(self.rows, "trees" if self.trees else "processes", self.mms)

    def stamp(self) -> dict[str, Any]:
        """The rung they were seen from."""
        return {"rung": int(self.census.snapshot.rung)}

    def text(self) -> str:
        """Everything, for a reader."""
        snapshot = self.census.snapshot
        parts = ["\n".join(where_we_stand(snapshot)) + "\n"]
        parts.append(_rows_text(self.census, self.rows, self.top, trees=self.trees))
        parts.append(_walk_text(self.census, self.mms))
        parts.append(_files_text(self.census, self.mms))
        parts.append(_designs_text(snapshot, self.census.designs()))
        parts.append("\n".join(_notes(snapshot)) + "\n")
        return "\n".join(parts)


@dataclass(frozen=True)
class DiffReport(Report[Change]):
    """What `live diff` found: the change of the whole machine, then those of processes or trees; `figure` is what to sort by."""

    sides: Sequence[tuple[Path, Census]]
    trees: bool
    top: int
    figure: str

    def as_json(self) -> dict[str, Any]:
        """One object: the circumstances of both sides, the total, the rows."""
        before, after = (circumstances(census.snapshot) for _, census in self.sides)
        total, *found = (change.as_json() for change in self.rows)
        return {"before": before, "after": after, "total": total, "trees" if self.trees else "processes": found}

    def stamp(self) -> dict[str, Any]:
        """The rungs both sides were seen from."""
        before, after = (int(census.snapshot.rung) for _, census in self.sides)
        return {"rung_before": before, "rung_after": after}

    def text(self) -> str:
        """Where either side stands, and what grew, the most first."""
        total, *found = self.rows
        shown, more = _first(self.top, sorted(found, key=lambda change: -abs(change.grown(self.figure) or 0)))
        who = "tree of" if self.trees else "PID"
        table = new_table(None, f"{who}|command||>VMAs|>anon_vmas|>chains|>rmap|>page tables|>private|>pss")
        for change in (total, *shown):
            fate = "new" if change.before is None else "gone" if change.after is None else ""
            figures = [_signed(change.grown(figure), size=figure.endswith("_bytes")) for figure in COUNTED]
            table.add_row(str(change.pid or ""), change.comm, fate, *figures, end_section=change is total)
        stand = [f"{path}: {line}" for path, census in self.sides for line in where_we_stand(census.snapshot)]
        return "\n".join(stand) + "\n\n" + titled("What changed, after minus before", table, more)


def where_we_stand(snapshot: Snapshot) -> list[str]:
    """The first lines of every output: the kernel, the rung, and why no higher one."""
    lines = [f"Linux {snapshot.kernel}, rung {int(snapshot.rung)} of 4: {TITLES[Rung(snapshot.rung)]}"]
    return lines + [f"  not higher: {reason}" for reason in snapshot.missing]


def _rows_text(census: Census, rows: Sequence[CensusRow], top: int, *, trees: bool) -> str:
    """Processes or trees, at most `top` of them (0: all)."""
    shown, more = _first(top, rows)
    head = "tree of|command|>processes|>roots|>on one root|" if trees else "PID|command|"
    caption = (
        "rmap: anon_vmas and anon_vma_chains, their slots in slab. longest: the most VMAs on one index, by the graph.\n"
        "visits, useful: candidates of a walk and those that map the page, per page found there: p50/p99/max."
    )
    caption += "\non one root: the VMAs of the fullest root anon_vma, which share one lock." if trees else ""
    caption += f"\n{more}" if more else ""
    columns = ">VMAs|>anon_vmas|>chains|>rmap|>depth|>longest|>visits|>useful|>page tables|>private|>shared"
    table = new_table(None, head + columns)
    for row in shown:
        table.add_row(*_cells(row, trees=trees))
    return titled(_totals_line(census), table, caption)


def _first(top: int, rows: Sequence[T]) -> tuple[Sequence[T], str]:
    """At most `top` of them (0: all), and how many more there are, in words."""
    left = len(rows) - top if top else 0
    return rows[: top or None], f"{left:,} more: --top 0 shows all." if left > 0 else ""


def _totals_line(census: Census) -> str:
    totals = census.totals()
    parts = [f"{totals[name]:,} {what}" for name, what in COUNTS.items() if totals[name] is not None]
    sizes = (("rmap_bytes", "rmap"), ("page_tables_bytes", "page tables"))
    return ", ".join(parts + [f"{size(totals[name])} of {what}" for name, what in sizes if totals[name] is not None])


def _cells(row: CensusRow, *, trees: bool) -> list[str]:
    cells = [str(row.pid), f"{row.comm} ~" if row.torn else row.comm]
    if trees:
        cells += [f"{row.processes:,}", _count(row.roots), _count(row.largest_root_vmas)]
    cells += [f"{row.vmas:,}", _count(row.anon_vmas), _count(row.chains), size(row.rmap_bytes)]
    cells += [_count(row.depth), _count(row.longest_walk), quantiles(row.candidates), quantiles(row.useful)]
    return [*cells, size(row.page_tables_bytes), size(row.private_bytes), size(row.shared_bytes)]


def _walk_text(census: Census, mms: I64 | None) -> str:
    """Visits per page, in all."""
    walk = census.walk(mms)
    if walk is None:
        return "The walk: not known without the anon_vma graph or page frame numbers\n"
    sample = "" if walk.sampled >= walk.pages else f", estimated from {walk.sampled:,} of them"
    wasted = "" if walk.wasted_share is None else f"; {100 * walk.wasted_share:.1f} % of the visits find nothing"
    title = f"The walk, over {walk.pages:,} {walk.basis}{sample}{wasted}"
    table = new_table(None, "per page|>p50|>p99|>max")
    for what, found in (("candidates: VMAs visited", walk.candidates), ("useful: VMAs that map the page", walk.useful)):
        figures = [DASH] * 3 if found is None else [f"{found.p50:,}", f"{found.p99:,}", f"{found.max:,}"]
        table.add_row(what, *figures)
    return titled(title, table)


def _files_text(census: Census, mms: I64 | None) -> str:
    """The files with most VMAs."""
    table = new_table(None, "file|>VMAs|>address spaces")
    for file in census.files(mms):
        table.add_row(file.name, f"{file.vmas:,}", f"{file.address_spaces:,}")
    return titled("Files with most VMAs: a walk for a page of one searches among them", table)


def _designs_text(snapshot: Snapshot, designs: Sequence[Held]) -> str:
    """The same machine, or what we see of it, under other designs."""
    whose = "These processes'" if snapshot.rung == Rung.OWN else "This machine's"
    table = new_table(None, "design|objects|>objects|>in VMAs|>in mms|>total|>in struct page|>visits|note")
    for held in designs:
        objects = ", ".join(f"{count:,} {kind}" for kind, count in held.objects.items()) or DASH
        sizes = (held.objects_bytes, held.vma_bytes, held.mm_bytes, held.total_bytes, held.page_bytes)
        table.add_row(held.design, objects, *map(size, sizes), quantiles(held.visits), held.note)
    return titled(
        f"{whose} anonymous reverse map under other designs, by their own sizes on x86-64",
        table,
        "in struct page: paid for all of RAM from boot on, and not in the total. visits: per walk for a page, p50/p99/max: entries under\n"
        "pte_chain, address spaces (at most) under anonmm, VMAs under the others.",
    )


def _notes(snapshot: Snapshot) -> Iterator[str]:
    """What a reader must know to trust the figures."""
    found = circumstances(snapshot)
    if snapshot.torn or snapshot.broken:
        fate = "the one shown is whole" if not snapshot.broken else "the one shown is torn too"
        yield f"torn dumps: {snapshot.torn}, read again; {fate}"
    yield from (f"broken, in the rows with ~: {what}" for what in snapshot.broken)
    if snapshot.resumed:
        yield f"{snapshot.resumed:,} VMAs have more chains than one record holds: read on until their end"
    children, vmas = snapshot.hidden
    if children or vmas:
        yield (
            f"hidden: anon_vmas count {vmas:,} VMAs and {children:,} children that nobody shows "
            "(processes just made or going, other PID namespaces)"
        )
    if snapshot.unseen:
        names, more = ", ".join(map(printable, snapshot.unseen[:5])), len(snapshot.unseen) - 5
        rest = f" and {more:,} more" if more > 0 else ""
        yield f"not seen: {names}{rest}"
    if found["ended"]:
        yield f"memory of {found['ended']:,} processes is not counted: they ended meanwhile, or are not ours to read"
    if snapshot.knows_anon_vmas:
        yield f"object sizes from {snapshot.sizes.source}"


def watch_line(rows: Sequence[CensusRow], nth: int, torn: int | None, broken: int | None) -> str:
    """One line per look, for a log: sums over the rows, and torn dumps so far, unless there were none to be torn (None)."""
    parts = [f"{sum(row.processes for row in rows):,} processes", f"{sum(row.vmas for row in rows):,} VMAs"]
    for name, what, show in (
        ("anon_vmas", "anon_vmas", _count),
        ("chains", "chains", _count),
        ("rmap_bytes", "of rmap", size),
        ("page_tables_bytes", "of page tables", size),
    ):
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        parts += [f"{show(sum(known))} {what}"] if known else []
    line = f"{nth}: {', '.join(parts)}"
    if torn is None or broken is None:
        return line
    return f"{line}; {sum(bool(row.torn) for row in rows)} rows torn; torn dumps so far {torn}, left so {broken}"


def titled(title: str, table: Table, caption: str = "") -> str:
    """Title and caption on lines of their own: a table would break them to its width."""
    text = f"{plain(Prose(title))}{plain(table).rstrip()}\n"
    return f"{text}\n{plain(Prose(caption))}" if caption else text


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Bytes for a reader."""
    return DASH if value is None else format_size(value)


def quantiles(found: Quantiles | None) -> str:
    """p50/p99/max."""
    return DASH if found is None else f"{found.p50:,}/{found.p99:,}/{found.max:,}"


def _signed(value: int | None, *, size: bool) -> str:
    if not value:
        return DASH if value is None else "0"
    return f"{'+' if value > 0 else '-'}{format_size(abs(value)) if size else f'{abs(value):,}'}"
