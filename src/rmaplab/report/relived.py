"""A census lived through again: what the live machine did beside what each design does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rmaplab.lab.census.census import Census, circumstances
from rmaplab.lab.census.rebuild import MAX_ENTRIES, Relived, WalkedUnder
from rmaplab.lab.census.visits import Within
from rmaplab.report.census import percent, quantiles, where_we_stand
from rmaplab.report.census_totals import size, titled
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, new_table
from rmaplab.units import format_number

CAPTION = (
    "visits: VMAs, mms or slots that a walk for a page looks at, p50/p99/max, on the live machine by its graph; useful: those that map the\n"
    "page. held: slab pages of the design's own caches, on the live machine the slots of its objects. alike: mapped by the same processes\n"
    "at the same addresses, and nobody else. copied: pages that mremap had to copy, since the design would not find them where they went:\n"
    "no longer shared, so not alike."
)


@dataclass(frozen=True)
class RelivedReport(Report[WalkedUnder]):
    """What `live --under` found: what the live machine did, then each design; `relived` is how much of the census is in it."""

    census: Census
    relived: Relived

    def as_json(self) -> dict[str, Any]:
        """One object, with circumstances, what was chosen, and what could not be lived through."""
        was, *found = (row.as_json() for row in self.rows)
        told = {**self.relived.chosen.as_json(), "pages_compared": self.relived.alike}
        told["not_lived_through"] = [tree.as_json() for tree in self.relived.unlived]
        return {**circumstances(self.census.snapshot), "lived_through": told, "on_the_machine": was, "designs": found}

    def stamp(self) -> dict[str, Any]:
        """How many pages the rows are about, and how many trees are in none of them."""
        return {"pages_compared": self.relived.alike, "trees_not_lived_through": len(self.relived.unlived)}

    def text(self) -> str:
        """A row for the live machine, then one per design; before it, how much of the census is in it; after it, what is not."""
        chosen, (was, *found) = self.relived.chosen, self.rows
        table = new_table(None, "|>visits|>useful|>wasted|objects|>held|>pages alike|>VMAs alike|>copied|>wall")
        for row in self.rows:
            modelled = row is not was and row.failed is None
            cells = [row.design, quantiles(row.visits), quantiles(row.useful)]
            cells += [_wasted(row)]
            cells += [", ".join(f"{nr:,} {kind}" for kind, nr in row.objects.items()) or DASH, size(row.objects_bytes)]
            cells += [_share(row.pages, chosen.pages), _share(row.vmas, chosen.vmas)] if modelled else [DASH, DASH]
            cells += [f"{row.copied:,}", f"{row.wall_s:.1f} s"] if modelled else [DASH, DASH]
            table.add_row(*cells, end_section=row is was)
        failed = [f"{row.design}: lives through none of these trees: {row.failed}\n" for row in found if row.failed]
        stand = "\n".join(where_we_stand(self.census.snapshot))
        told = titled("\n".join(_lived_through(self.relived, was, found)), table, CAPTION)
        return f"{stand}\n\n{told}" + "".join(["\n", *failed] if failed else []) + self._unlived()

    def _unlived(self) -> str:
        trees = self.relived.unlived
        if not trees:
            return ""
        table = new_table(None, "tree of|command|>processes|under|why")
        for tree in trees:
            table.add_row(str(tree.pid), tree.comm, f"{tree.processes:,}", tree.design or "every design", tree.why)
        return "\n" + titled(f"Not lived through, and in no row above: {_trees(len(trees))}", table)


def _lived_through(relived: Relived, was: WalkedUnder, found: Sequence[WalkedUnder]) -> Iterator[str]:
    chosen = relived.chosen
    yield (
        f"Lived through again: {_trees(chosen.trees)}, {format_number(len(chosen.mms), 'address space')}, {format_number(chosen.vmas, 'VMA')} with an anon_vma, "
        f"{format_number(chosen.pages, 'anonymous page')} mapped {chosen.entries:,} times"
    )
    if chosen.ended:
        yield f"  processes that had ended and left anon_vmas behind: {chosen.ended:,}"
    if relived.unlived:
        yield f"  could not be lived through: {_trees(len(relived.unlived))}, named below the table"
    if chosen.trees_left_out:
        yield (
            f"  left out: {chosen.trees_left_out:,} more trees, with {chosen.entries_left_out:,} mapped pages "
            f"(--top 0 takes all, up to {MAX_ENTRIES:,} mapped pages; --pid takes one)"
        )
    if chosen.torn:
        yield f"  changed while they were read (torn): {_trees(chosen.torn)}; pages whose history does not add up are not alike"
    if chosen.unplaced:
        yield f"  left out: {chosen.unplaced:,} entries of pages whose anon_vma or whose place the census does not have"
    if not chosen.complete:
        yield "  the census is a sample, and these are the pages it looked at; others stay as fork left them"
    walked = (
        "each was walked"
        if was.walks == relived.alike
        else f"{was.walks:,} were walked, some of every kind, and stand for all"
    )
    yield f"  every row is about the same {relived.alike:,} pages, those alike under all designs here: {walked}"
    for row in found:
        if row.like_live is not None:
            yield f"  {row.design}: {row.like_live:,} of {row.walks:,} walks make as many visits as the live graph says"


def _wasted(row: WalkedUnder) -> str:
    if row.wasted_share is None:
        return DASH
    low, high = row.wasted_share_within or (row.wasted_share, row.wasted_share)
    return percent(Within(low, row.wasted_share, high))


def _trees(nr: int) -> str:
    return f"{nr:,} fork tree{'s' * (nr != 1)}"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" if part != whole else f"all {whole:,}"
