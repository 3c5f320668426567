"""A page and who maps it, drawn: solid branches are entries that map it, broken ones what the kernel's walk visits in vain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from rmaplab.harmless import printable
from rmaplab.host.candidates import Visit
from rmaplab.host.who import Answer
from rmaplab.report.emit import Report
from rmaplab.units import format_number

MOST = 100
_LABEL = 12
_KINDS = {
    "anon": "anonymous memory",
    "ksm": "anonymous memory merged by KSM",
    "file": "a page of a file",
    "shmem": "shared memory",
    "hugetlb": "hugetlb",
    "zero": "the zero page",
    "free": "free, in the buddy system",
    "slab": "the kernel's own, a slab",
    "page table": "a page table",
    "reserved": "reserved: the kernel's image, firmware or a device",
    "offline": "offline",
    "kernel": "the kernel's own",
    "swap": "not in memory",
    "pfnmap": "page frames without a reverse map",
    "guard": "no page",
    "none": "no page",
}


@dataclass(frozen=True)
class WhoReport(Report[Answer]):
    """What `who` found: one answer, and the question as it was understood."""

    asked: str

    def as_json(self) -> Any:
        """The answer alone: it is one object."""
        return self.rows[0].as_json()

    def text(self) -> Text:
        """The whole answer, drawn."""
        return Text("\n").join(lines(self.rows[0], self.asked))


def lines(answer: Answer, asked: str = "") -> list[Text]:
    """The whole answer: what was asked, the page, the drawing, the walk, the notes."""
    notes = [Text(f"  {printable(note)}", "yellow") for note in answer.notes]
    said = [Text(printable(asked), "bold"), Text()] if asked else []
    if answer.absent:
        said.append(Text(f"  {printable(answer.absent)}", "yellow"))
        if answer.candidates is None:
            return [*said, *_same_slot(answer), *notes]
        said.append(Text())
    said += [*_facts(answer), Text(), *_drawing(answer)]
    walk = _walk(answer)
    said += [Text(), *walk] if walk else []
    return [*said, Text(), *notes] if notes else said


def _same_slot(answer: Answer) -> list[Text]:
    """Whose entries name the slot that an anonymous page was swapped out to: a fork copies those too."""
    if not answer.same_slot:
        return []
    visits = answer.same_slot[:MOST]
    widths = [max(len(cell) for cell in column) for column in zip(*map(_cells, visits), strict=True)]
    drawn = [Text(), Text("  the slot", "bold"), Text("    │")]
    drawn += [_branch(visit, widths, last=visit is visits[-1]) for visit in visits]
    if len(answer.same_slot) > MOST:
        drawn.append(Text(f"    … {len(answer.same_slot) - MOST:,} more: --format json has them all"))
    return drawn


def _facts(answer: Answer) -> list[Text]:
    facts = [("page", _page(answer))]
    if answer.mapcount is not None:
        facts.append(("mapcount", f"{answer.mapcount:,}"))
    if answer.flags:
        facts.append(("flags", " ".join(answer.flags)))
    if answer.index is not None:
        facts.append(("index", _index(answer)))
    if answer.exclusive is not None:
        facts.append(("exclusive", _exclusive(answer)))
    if answer.folio:
        facts.append(("folio", _folio(answer)))
    return [Text(f"  {label:<{_LABEL}}", "dim").append(text, "default") for label, text in facts]


def _page(answer: Answer) -> str:
    kind = _KINDS.get(answer.kind, answer.kind)
    return kind if answer.pfn is None else f"pfn {answer.pfn:#x}, {kind}"


def _index(answer: Answer) -> str:
    """folio->index: of anonymous memory, unless it is a copy of a file's page, the address shifted, as it was before any move."""
    index = answer.index or 0
    if answer.kind != "anon" or any(visit.vma and visit.vma.file for visit in answer.mappers):
        return f"{index:#x}" if index > 9 else str(index)
    moved = any(visit.address != index << 12 for visit in answer.mappers)
    return f"{index:#x}" + (f", the one of address {index << 12:x}: the VMA was moved since" if moved else "")


def _exclusive(answer: Answer) -> str:
    if answer.exclusive:
        return "yes: its owner writes to it without a copy"
    return "no: a write makes a copy" + (", or finds that nobody else is left" if answer.mapcount == 1 else "")


def _folio(answer: Answer) -> str:
    first, nr_pages = answer.folio or (0, 0)
    by = ", mapped whole by a PMD entry" if answer.huge else ", mapped page by page"
    nr = (answer.pfn or first) - first
    return f"page {nr} of {nr_pages} from pfn {first:#x} (a large folio{by if answer.mappers else ''})"


def _drawing(answer: Answer) -> list[Text]:
    wasted = answer.wasted or []
    if not answer.mappers and not wasted:
        unknown = "  who maps it is not known" if answer.partial else "  there is nothing to map"
        return [Text("  nobody maps it" if answer.pfn is not None else unknown)]
    visits = [*answer.mappers[:MOST], *wasted[:MOST]]
    widths = [max(len(cell) for cell in column) for column in zip(*map(_cells, visits), strict=True)]
    drawn = [Text(f"  {f'{answer.pfn:#x}' if answer.pfn is not None else 'the page'}", "bold"), Text("    │")]
    for group in (answer.mappers, wasted):
        if group is wasted and wasted and answer.mappers:
            drawn.append(Text("    ┊", "dim"))
        drawn += [_branch(visit, widths, last=visit is visits[-1]) for visit in group[:MOST]]
        if len(group) > MOST:
            drawn.append(Text(f"    … {len(group) - MOST:,} more: --format json has them all"))
    return drawn


def _cells(visit: Visit) -> tuple[str, str, str, str]:
    return str(visit.pid), printable(visit.comm), f"{visit.address:x}", printable(visit.miss)


def _branch(visit: Visit, widths: Sequence[int], *, last: bool) -> Text:
    pid, comm, address, miss = _cells(visit)
    stem = "└" if last else "┊" if miss else "├"
    line = Text("    ").append(f"{stem}{'╌╌' if miss else '──'} ", "dim" if miss else "green")
    line.append(f"{pid:>{widths[0]}} ", "dim" if miss else "bold").append(f"{comm:<{widths[1]}}  ")
    line.append(f"{address:>{widths[2]}}  ", "dim" if miss else "cyan")
    if widths[3]:
        line.append(f"{miss:<{widths[3]}}  ", "yellow")
    return line.append(f"in {printable(str(visit.vma))}" if visit.vma else "in no VMA that is still there", "dim")


def _walk(answer: Answer) -> list[Text]:
    """What the kernel's own walk costs, as a sentence."""
    if not answer.candidates or answer.wasted is None:
        return []
    visits, wasted = len(answer.candidates), len(answer.wasted)
    vmas = ("at least " if answer.partial else "") + format_number(visits, "VMA")
    walk = "the kernel's own walk visits" if answer.pfn is not None or answer.mappers else "a walk for it would visit"
    return [Text(f"  {walk} {vmas}, {f'{wasted:,} of them' if wasted else 'none'} in vain")]
