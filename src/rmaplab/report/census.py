"""A census as tables: circumstances first, then processes or trees, then walks, files and designs, then what to keep in mind."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmaplab.harmless import printable
from rmaplab.host.snapshot import TITLES, Rung, Snapshot
from rmaplab.lab.census.census import Census, circumstances
from rmaplab.lab.census.designs import Held
from rmaplab.lab.census.diff import COUNTED, Change
from rmaplab.lab.census.rows import CensusRow
from rmaplab.lab.census.visits import Quantiles, Within
from rmaplab.machine.arrays import I64
from rmaplab.report.census_totals import memory_text, objects_text, size, titled
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, new_table
from rmaplab.units import format_number, format_size

COUNTS = {
    "processes": "process", "trees": "fork tree", "vmas": "VMA", "anon_vmas": "anon_vma", "chains": "anon_vma_chain"
}  # fmt: skip


@dataclass(frozen=True)
class CensusReport(Report[CensusRow]):
    """What `live` found: the `rows` shown, `left_out` more that are not; `mms` are what they are about (None: all)."""

    census: Census
    mms: I64 | None
    trees: bool
    left_out: int

    def as_json(self) -> dict[str, Any]:
        """One object, with circumstances, totals, walk, memory, objects, files and designs."""
        return self.census.as_json(self.rows, "trees" if self.trees else "processes", self.mms, self.left_out)

    def stamp(self) -> dict[str, Any]:
        """The rung they were seen from."""
        return {"rung": int(self.census.snapshot.rung)}

    def text(self) -> str:
        """Everything, for a reader."""
        census, mms = self.census, self.mms
        parts = ["\n".join(where_we_stand(census.snapshot)) + "\n"]
        parts.append(_rows_text(self))
        parts.append(_walk_text(census, mms))
        parts.append(memory_text(census, mms))
        parts.append(objects_text(census))
        parts.append(_files_text(census, mms))
        parts.append(_designs_text(census, mms))
        parts.append("\n".join(_notes(census.snapshot)) + "\n")
        return "\n".join(filter(None, parts))


@dataclass(frozen=True)
class DiffReport(Report[Change]):
    """What `live diff` found: the change of all, then those of processes or trees that are shown; `left_out` more are not."""

    sides: Sequence[tuple[Path, Census]]
    trees: bool
    left_out: int

    def as_json(self) -> dict[str, Any]:
        """One object: the circumstances of both sides, the total, the rows."""
        before, after = (circumstances(census.snapshot) for _, census in self.sides)
        total, *found = (change.as_json() for change in self.rows)
        rows = {"trees" if self.trees else "processes": found, "rows_left_out": self.left_out}
        return {"before": before, "after": after, "total": total, **rows}

    def stamp(self) -> dict[str, Any]:
        """The rungs both sides were seen from."""
        before, after = (int(census.snapshot.rung) for _, census in self.sides)
        return {"rung_before": before, "rung_after": after}

    def text(self) -> str:
        """Where either side stands, and what grew, the most first."""
        total, *_ = self.rows
        who = "tree of" if self.trees else "PID"
        table = new_table(None, f"{who}|command||>VMAs|>anon_vmas|>chains|>rmap|>page tables|>private|>pss")
        for change in self.rows:
            fate = "new" if change.before is None else "gone" if change.after is None else ""
            figures = [_signed(change.grown(figure), size=figure.endswith("_bytes")) for figure in COUNTED]
            table.add_row(str(change.pid or ""), change.comm, fate, *figures, end_section=change is total)
        stand = [f"{path}: {line}" for path, census in self.sides for line in where_we_stand(census.snapshot)]
        return "\n".join(stand) + "\n\n" + titled("What changed, after minus before", table, _more(self.left_out))


def where_we_stand(snapshot: Snapshot) -> list[str]:
    """The first lines of every output: the kernel, the rung, and why no higher one."""
    lines = [f"Linux {snapshot.kernel}, rung {int(snapshot.rung)} of 4: {TITLES[Rung(snapshot.rung)]}"]
    return lines + [f"  missing: {reason}" for reason in snapshot.missing]


def _rows_text(report: CensusReport) -> str:
    """The processes or trees that are shown."""
    trees = report.trees
    head = "tree of|command|>processes|>roots|>on one root|" if trees else "PID|command|"
    caption = (
        "rmap: anon_vmas and anon_vma_chains, their slots in slab. longest: the most VMAs on one index, by the graph.\n"
        "visits, useful: candidates of a walk and those that map the page, per page found there: p50/p99/max; a..b: between, with 95 %."
    )
    if trees:
        caption += "\non one root: the VMAs of the fullest root anon_vma, which share one lock. shared: each process counts all of it, PSS its part."
    caption += f"\n{_more(report.left_out)}" if report.left_out else ""
    shared = ">shared, summed" if trees else ">shared"
    columns = f">VMAs|>anon_vmas|>chains|>rmap|>depth|>longest|>visits|>useful|>page tables|>private|{shared}|>PSS|>swap|>hugetlb|>KSM"
    table = new_table(None, head + columns)
    for row in report.rows:
        table.add_row(*_cells(row, trees=trees))
    return titled(_totals_line(report.census, report.mms), table, caption)


def _more(left_out: int) -> str:
    """How many rows are not shown, in words."""
    return f"{left_out:,} more: --top 0 shows all." if left_out else ""


def _totals_line(census: Census, mms: I64 | None) -> str:
    totals, whose = census.totals(mms), "All that was seen" if mms is None else "These"
    parts = [format_number(nr, one) for name, one in COUNTS.items() if (nr := totals[name]) is not None]
    sizes = (("rmap_bytes", "rmap"), ("page_tables_bytes", "page tables"))
    parts += [f"{size(totals[name])} of {what}" for name, what in sizes if totals[name] is not None]
    return f"{whose}: {', '.join(parts)}"


def _cells(row: CensusRow, *, trees: bool) -> list[str]:
    cells = [str(row.pid), f"{row.comm} ~" if row.torn else row.comm]
    if trees:
        cells += [f"{row.processes:,}", _count(row.roots), _count(row.largest_root_vmas)]
    cells += [f"{row.vmas:,}", _count(row.anon_vmas), _count(row.chains), size(row.rmap_bytes)]
    cells += [_count(row.depth), _count(row.longest_walk), quantiles(row.candidates), quantiles(row.useful)]
    memory = (row.page_tables_bytes, row.private_bytes, row.shared_bytes, row.pss_bytes, row.swap_bytes)
    return [*cells, *map(size, (*memory, row.hugetlb_bytes, row.ksm_bytes))]


def _walk_text(census: Census, mms: I64 | None) -> str:
    """Visits per page and per folio, in all."""
    walk, drawn = census.walk(mms), census.snapshot.drawn
    if walk is None:
        return "The walk: not known without the anon_vma graph or page frame numbers\n"
    title = f"The walk, over {_estimate(walk.found)} {walk.basis}"
    title += "" if walk.wasted is None else f"; {percent(walk.wasted)} of the visits find nothing"
    folios = walk.folios
    units = ["page"] if folios is None or folios.folios == walk.found else ["page", "folio"]
    table = new_table(
        None, "|".join(["walks", *(f">{which} per {unit}" for unit in units for which in ("p50", "p99", "max"))])
    )
    useful = "useful: VMAs that map it"
    rows = {"candidates: VMAs visited": [walk.candidates], useful: [walk.useful]}
    notes = []
    if folios is not None and len(units) > 1:
        rows = {"candidates: VMAs visited": [walk.candidates, folios.candidates], useful: [walk.useful, folios.useful]}
        wasted = "" if folios.wasted is None else f"; {percent(folios.wasted)} of the visits find nothing"
        notes.append(
            f"The kernel walks a folio at once, whatever its size. A walk for each of {_estimate(folios.folios)} folios{wasted}."
        )
    for what, found in rows.items():
        table.add_row(what, *(cell for each in found for cell in ([DASH] * 3 if each is None else _parts(each))))
    if not walk.found.exact:
        seed = f"; --seed {drawn.seed} draws the same, --full reads all"
        notes.append(
            f"Estimates, with the interval that holds the truth with 95 %: {drawn.windows:,} of {drawn.of:,} windows were read{seed}."
        )
    if walk.left_out:
        notes.append(
            f"left out: {walk.left_out:,} pages that the graph does not explain (mapped since, or by processes that nobody shows)"
        )
    return titled(title, table, "\n".join(notes))


def _files_text(census: Census, mms: I64 | None) -> str:
    """The files with most VMAs."""
    table = new_table(None, "file|>VMAs|>address spaces")
    for file in census.files(mms):
        table.add_row(file.name, f"{file.vmas:,}", f"{file.address_spaces:,}")
    return titled("Files with most VMAs: a walk for a page of one searches among them", table)


def _designs_text(census: Census, mms: I64 | None) -> str:
    """The same machine, or what we see of it, under other designs."""
    whose = "This machine's" if mms is None and census.snapshot.rung < Rung.OWN else "These processes'"
    table = new_table(None, "design|objects|>objects|>in VMAs|>in mms|>total|>in struct page|>visits|note")
    for held in census.designs(mms):
        objects = ", ".join(f"{_count_of(count, held)} {kind}" for kind, count in held.objects.items()) or DASH
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
        yield f"{format_number(snapshot.resumed, 'VMA')} with more chains than one record holds: read on until their end"
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


def watch_line(found: CensusReport, nth: int, torn: int | None, broken: int | None) -> str:
    """One line per look, for a log: when, sums over what was asked for, and torn dumps so far, unless there were none to be torn (None)."""
    census, mms = found.census, found.mms
    totals, walk = census.totals(mms), census.walk(mms)
    parts = [format_number(totals["processes"] or 0, "process"), format_number(totals["vmas"] or 0, "VMA")]
    for name, what, show in (
        ("anon_vmas", "anon_vmas", _count),
        ("chains", "chains", _count),
        ("rmap_bytes", "of rmap", size),
        ("page_tables_bytes", "of page tables", size),
        ("private_bytes", "private", size),
        ("pss_bytes", "PSS", size),
    ):
        parts += [] if totals[name] is None else [f"{show(totals[name])} {what}"]
    if walk is not None and walk.candidates is not None:
        parts += [f"visits {quantiles(walk.candidates)}"]
        parts += [] if walk.wasted is None else [f"{percent(walk.wasted)} in vain"]
    line = f"{nth} {clock(census.snapshot.taken_at)}: {', '.join(parts)}"
    if torn is None or broken is None:
        return line
    rows_torn = int(np.count_nonzero(census.torn_mms & census.those(mms)))
    return f"{line}; {rows_torn} address spaces torn; torn dumps so far {torn}, left so {broken}"


def clock(taken_at: float) -> str:
    """When, in local time."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(taken_at))


def _count(value: int | None) -> str:
    return DASH if value is None else f"{value:,}"


def quantiles(found: Quantiles | None) -> str:
    """p50/p99/max; of a sample, between what each is."""
    return DASH if found is None else "/".join(_parts(found))


def _parts(found: Quantiles) -> list[str]:
    values = (found.p50, found.p99, found.max)
    ends = zip(found.low or values, found.high or values, strict=True)
    return [f"{low:,}+" if high is None else f"{low:,}" if low == high else f"{low:,}..{high:,}" for low, high in ends]


def _estimate(found: Within) -> str:
    """A number of pages, and its interval."""
    value = f"{round(found.value):,}"
    return value if found.exact else f"some {value} ({round(found.low):,} to {round(found.high):,})"


def percent(found: Within) -> str:
    """A share, and its interval; where none was seen, the most that there may be."""
    low, value, high = (100 * part for part in found)
    if found.exact:
        return f"{value:.1f} %"
    return f"{value:.1f} % ({low:.1f} to {high:.1f} %)" if value else f"at most {high:.2g} %"


def _count_of(count: int, held: Held) -> str:
    if held.objects_within is None:
        return f"{count:,}"
    low, high = held.objects_within
    return f"{count:,} ({low:,} to {high:,})"


def _signed(value: int | None, *, size: bool) -> str:
    if not value:
        return DASH if value is None else "0"
    return f"{'+' if value > 0 else '-'}{format_size(abs(value)) if size else f'{abs(value):,}'}"
