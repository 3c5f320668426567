"""A census lived through again: what the live machine did beside what each design does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rmaplab.lab.census.census import Census, circumstances
from rmaplab.lab.census.rebuild import MAX_ENTRIES, Chosen, WalkedUnder
from rmaplab.report.census import quantiles, where_we_stand
from rmaplab.report.census_totals import size, titled
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, new_table

CAPTION = (
    "visits: VMAs, mms or slots that a walk for a page looks at, p50/p99/max; useful: those that map the page. The live machine's are over\n"
    "all these pages; the designs' are counted walks from an even sample of the pages alike. held: slab pages of the design's own caches,\n"
    "on the live machine the slots of its objects. alike: mapped by the same processes at the same addresses, and nobody else.\n"
    "copied: pages that mremap had to copy, since the design would not find them where they went: no longer shared, so not alike."
)


@dataclass(frozen=True)
class RelivedReport(Report[WalkedUnder]):
    """What `live --under` found: what the live machine did, then each design; `chosen` is how much of the census is in it."""

    census: Census
    chosen: Chosen

    def as_json(self) -> dict[str, Any]:
        """One object, with circumstances and what was chosen."""
        was, *found = (row.as_json() for row in self.rows)
        said = {**circumstances(self.census.snapshot), "lived_through": self.chosen.as_json()}
        return {**said, "on_the_machine": was, "designs": found}

    def text(self) -> str:
        """A row for the live machine, then one per design; before it, how much of the census is in it."""
        chosen, (was, *found) = self.chosen, self.rows
        table = new_table(None, "|>visits|>useful|>wasted|>walks|objects|>held|>pages alike|>VMAs alike|>copied|>wall")
        for row in self.rows:
            modelled = row is not was
            cells = [row.design, quantiles(row.visits), quantiles(row.useful)]
            cells += [DASH if row.wasted_share is None else f"{100 * row.wasted_share:.1f} %"]
            cells += [f"{row.walks:,}" if modelled else DASH]
            cells += [", ".join(f"{nr:,} {kind}" for kind, nr in row.objects.items()) or DASH, size(row.objects_bytes)]
            cells += [_share(row.pages, chosen.pages), _share(row.vmas, chosen.vmas)] if modelled else [DASH, DASH]
            cells += [f"{row.copied:,}", f"{row.wall_s:.1f} s"] if modelled else [DASH, DASH]
            table.add_row(*cells, end_section=not modelled)
        stand = "\n".join(where_we_stand(self.census.snapshot))
        return f"{stand}\n\n" + titled("\n".join(_lived_through(chosen, found)), table, CAPTION)


def _lived_through(chosen: Chosen, found: Sequence[WalkedUnder]) -> Iterator[str]:
    yield (
        f"Lived through again: {chosen.trees:,} fork tree{'s' * (chosen.trees > 1)}, {len(chosen.mms):,} address spaces, {chosen.vmas:,} VMAs with an anon_vma, "
        f"{chosen.pages:,} anonymous pages mapped {chosen.entries:,} times"
    )
    if chosen.ended:
        yield f"  processes that had ended and left anon_vmas behind: {chosen.ended:,}"
    if chosen.trees_left_out:
        yield (
            f"  left out: {chosen.trees_left_out:,} more trees, with {chosen.entries_left_out:,} mapped pages "
            f"(--top 0 takes all, up to {MAX_ENTRIES:,} mapped pages; --pid takes one)"
        )
    if chosen.unplaced:
        yield f"  left out: {chosen.unplaced:,} entries of pages whose anon_vma the census does not have"
    if not chosen.complete:
        yield "  the census is a sample, and these are the pages it looked at; others stay as fork left them"
    for row in found:
        if row.like_live is not None:
            yield f"  {row.design}: {row.like_live:,} of {row.walks:,} walks make as many visits as the live graph says"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" if part != whole else f"all {whole:,}"
