"""A difference as a person sees it: the two address spaces one above the other, page by page. And what scripts have covered.

process B          w+0            w+4    w+16
host, Linux 6.18  |rw-          ||r--  | |rw-     |
                  |a2   b1!  .  ||.    | |c1!  .  |
model 6.18        |rw-                 | |rw-     |
                  |a2   b1!  .    .    | |c1!  .  |
                                 ^^^^^^
"""

import textwrap
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import itemgetter

from rmaplab.lab.differential.compare import Coverage, Difference, result_kind
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_number
from rmaplab.workloads.places import name_of
from rmaplab.workloads.world import EXCLUSIVE, FLAG_NAMES, FRAME, MAPCOUNT, MOVED, WORD, Record, State, seen_vmas
from rmaplab.workloads.world_text import PROTS, letters, word_name

SHORT = {
    "growsdown": "gd", "locked": "lo", "onfault": "lf", "sequential": "sr", "random": "rr", "dontfork": "dc", "account": "ac",
    "noreserve": "nr", "wipeonfork": "wf", "dontdump": "dd", "nohugepage": "nh", "mergeable": "mg", "droppable": "dp", "sealed": "sl",
    "shared": "sh", "mayshare": "ms", "guarded": "gu",
}  # fmt: skip

LEGEND = (
    "each page: its frame as a letter (0 the zero page, . no page), how often that is mapped, ! exclusive, * just copied;",
    "#n: what operation n has written to it (#n.1 to the next page); flags of a VMA as in /proc/PID/smaps; a+2: file a from page 2 on",
)
WIDTH = 118
RUN = 4  # more pages than that which look alike on both sides are drawn as one
Cell = tuple[str, ...]  # what stands in the rows of one page


def draw_difference(difference: Difference, host: str, model: str) -> list[str]:
    """The operation, both results, and the process that differs (or that made the call) on both sides."""
    script, op, index = difference.script, difference.op, difference.index
    lines = [f"{script.name}:{op.line}: {op}", ""]
    width = len(model) if difference.is_of_one else max(len(host), len(model))
    sides = (
        [(model, difference.model)] if difference.is_of_one else [(host, difference.host), (model, difference.model)]
    )
    lines += [f"  {side:<{width}}  {_result(record, index)}" for side, record in sides]
    lines.append("")
    if difference.aspect == "model":
        return [*lines, "The model breaks down: that is a bug of ours."]
    worlds = difference.host.worlds[index], difference.model.worlds[index]
    if difference.aspect == "processes":
        lives = [", ".join(world) or "nobody" for world in worlds]
        return [*lines, f"alive on the {host}: {lives[0]}; on the {model}: {lives[1]}"]
    if difference.aspect == "graph":
        return [*lines, *draw_graphs(difference, host, model)]
    if difference.aspect == "expectation":
        agreed = "The script" if difference.is_of_one else "Both sides agree, and the script"
        return [*lines, f"{agreed} expects {difference.what}"]
    process = difference.process or op.process
    lines.append(f"What differs: {difference.aspect}" + (f" of process {process}" if difference.process else ""))
    if process in worlds[0] and process in worlds[1]:
        states = worlds[0][process], worlds[1][process]
        lines += ["", *draw_states(process, *states, host, model, difference.sees), "", *LEGEND]
    return lines


def shown(record: Record, model: Record) -> list[str]:
    """What each operation came to, a line each, under the script's name; why it failed, where the model failed alike and knows."""
    told = [
        (f"{op.line}: {str(op).partition(' =>')[0]}", result + _why(model, index, result))
        for index, (op, result) in enumerate(zip(record.script.ops, record.results, strict=False))
    ]
    width = max((len(what) for what, _ in told), default=0)
    return [record.script.name, *(f"  {what:<{width}}  {result}" for what, result in told)]


def how_it_ended(record: Record) -> str:
    """What was done and how the calls ended: "3 mmap, 1 fork: all ok", "2 mremap: 1 ok, 1 EFAULT"."""
    done = Counter(op.call for op in record.script.ops)
    ends = Counter(map(result_kind, record.results))
    told = "all ok" if set(ends) == {"ok"} else ", ".join(f"{times:,} {kind}" for kind, times in ends.most_common())
    return f"{', '.join(f'{times:,} {call}' for call, times in done.items())}: {told}"


def draw_graphs(difference: Difference, host: str, model: str) -> list[str]:
    """Both graphs at the script's end: each VMA with its chain, own anon_vma first named; then the anon_vmas."""
    lines = [f"What differs: the anon_vma graph: {difference.what}"]
    threads = {op["child"] for op in difference.script.ops if op.call == "thread"}
    names = [name for name in difference.host.worlds[difference.index] if name not in threads]
    for side, graph in ((host, difference.host.graph), (model, difference.model.graph)):
        assert graph is not None
        owners = {mm: name for name, mm in zip(reversed(names), reversed(graph.processes.mm.tolist()), strict=True)}
        vmas, anon_vmas = graph.vmas, graph.anon_vmas
        lines += ["", f"  {side}"]
        for row in range(len(vmas.mm)):
            place = f"{name_of(int(vmas.start[row]))}..{name_of(int(vmas.end[row]))}"
            chain = " ".join(letters(int(one) + 1) for one in graph.chains.anon_vma[graph.chains.vma == row])
            own = letters(int(vmas.anon_vma[row]) + 1) or "none"
            pgoff = int(vmas.pgoff[row]) - (int(vmas.start[row]) >> PAGE_SHIFT)
            lines.append(
                f"    {owners[int(vmas.mm[row])]}: {place:<14} own {own}, chain {chain or '-'}, page offset {pgoff:+}"
            )
        for row in range(len(anon_vmas.root)):
            parent, root = (letters(int(column[row]) + 1) for column in (anon_vmas.parent, anon_vmas.root))
            lines.append(
                f"    anon_vma {letters(row + 1)}: parent {parent}, root {root}, num_children {anon_vmas.num_children[row]}, "
                f"num_active_vmas {anon_vmas.num_active_vmas[row]}, refcount {anon_vmas.refcount[row]}"
            )
    return lines


def _why(model: Record, index: int, result: str) -> str:
    """Which rule of the model has refused an operation, in brackets, where it came to `result` there too."""
    if index >= len(model.reasons) or not model.reasons[index] or model.results[index] != result:
        return ""
    return f"  ({model.reasons[index]})"


def _result(record: Record, index: int) -> str:
    if index < len(record.results):
        return record.results[index] + _why(record, index, record.results[index])
    return f"{type(record.error).__name__}: {record.error}"


def draw_states(
    process: str, host: State, model: State, host_name: str, model_name: str, sees: frozenset[str]
) -> list[str]:
    """Both states of a process, one above the other, marks under what differs; in bands where a line gets too long."""
    told = any(row[WORD] for state in (host, model) for row in state.pages.tolist())
    height = 1 + ("pages" in sees) + (told and {"pages", "words"} <= sees)
    sides = [_Side(host, sees, {}, height), _Side(model, sees, _same_letters(host, model), height)]
    labels = [f"process {process}", host_name, *[""] * (height - 1), model_name, *[""] * (height - 1), ""]
    margin = max(map(len, labels)) + 2
    bands, used = [[""] * len(labels)], 0
    for place, cells, differs in _columns(sides):
        texts = [place, *cells[0], *cells[1]]
        wide = max(map(len, texts))
        texts.append("^" * max(1, wide - 1) if differs else "")
        if used and margin + used + wide > WIDTH:
            bands.append([""] * len(labels))
            used = 0
        bands[-1] = [line + text.ljust(wide) for line, text in zip(bands[-1], texts, strict=True)]
        used += wide
    lines: list[str] = []
    for band in bands:
        lines += [""] if lines else []
        lines += [f"  {label:<{margin}}{line}".rstrip() for label, line in zip(labels, band, strict=True)]
    counts = (
        ("tables", "page tables of the script's memory", host.tables, model.tables),
        ("locked", "pages that count as locked", host.locked, model.locked),
    )
    for what, name, one, other in counts:
        if what in sees and one != other:
            lines += ["", f"  {name}: {one} on the {host_name}, {other} on the {model_name}"]
    return lines


class _Side:
    """One state, ready to be asked what stands in a page's column."""

    def __init__(self, state: State, sees: frozenset[str], names: dict[int, str], height: int) -> None:
        self.pages = {row[0] >> PAGE_SHIFT: row for row in state.pages.tolist()} if "pages" in sees else {}
        self.sees, self.names = sees, names
        self.vmas = [
            (start >> PAGE_SHIFT, end >> PAGE_SHIFT, flags, file, offset >> PAGE_SHIFT)
            for start, end, flags, file, offset in seen_vmas(state.vmas, sees).tolist()
        ]
        self.height = height

    def vma(self, page: int) -> tuple[int, int, int, int, int] | None:
        """(first page, page behind its last, flags, file, page of the file) of the VMA that the page is in."""
        at = bisect_right(self.vmas, page, key=itemgetter(0)) - 1
        return self.vmas[at] if at >= 0 and page < self.vmas[at][1] else None

    def cuts(self) -> set[int]:
        """Pages at which what is seen may change; between two of them all look alike."""
        return {page for vma in self.vmas for page in vma[:2]} | {
            each for page in self.pages for each in (page, page + 1)
        }

    def looks(self, page: int) -> tuple[object, ...]:
        """What makes a page look different from its neighbour."""
        vma = self.vma(page)
        return vma, self._cell_rows(self.pages.get(page), vma is not None)

    def says(self, page: int) -> tuple[object, ...]:
        """What makes a page differ from the other side's: borders beside it, flags, what is there."""
        vma, row = self.vma(page), self.pages.get(page)
        borders = () if vma is None else (vma[0] == page, vma[1] == page + 1, vma[2])
        return borders, self._cell_rows(row, vma is not None)

    def _cell_rows(self, row: Sequence[int] | None, mapped: bool) -> tuple[str, ...]:
        if not mapped:
            return ("",) * (self.height - 1)
        if row is None:
            return (".", "")[: self.height - 1]
        frame = self.names.get(row[FRAME], letters(row[FRAME])) if row[FRAME] else "0"
        told = frame if "frames" in self.sees else "page"
        told += str(row[MAPCOUNT]) if "mapcounts" in self.sees and row[FRAME] else ""
        told += "!" if "exclusive" in self.sees and row[EXCLUSIVE] else ""
        told += "*" if "frames" in self.sees and row[MOVED] else ""
        word = word_name(row[WORD]) if row[WORD] else ""
        return (told, word)[: self.height - 1]

    def cell(self, page: int, more: int) -> Cell:
        """The rows of a column: the VMA where it begins, the page, what is in it; borders before and behind."""
        vma = self.vma(page)
        rows = self._cell_rows(self.pages.get(page), vma is not None)
        if vma is None:
            return ("",) * self.height
        start, end, flags, file, offset = vma
        title = ""
        if page == start:
            prot = "".join(letter if flags & bit else "-" for bit, letter in PROTS)
            words = [prot, *(SHORT[name] for bit, name in FLAG_NAMES.items() if flags & bit)]
            title = " ".join([*words, *([f"{letters(file)}+{offset}"] if file else [])])
        texts = (title, *rows)
        if more > 1 and len(rows):
            texts = (title, f"{rows[0]} x {more}", *rows[1:])
        left = "|" if page == start else " "
        right = "|" if page + more == end else ""
        wide = max(len(text) for text in texts)
        return tuple(f"{left}{text:<{wide}} {right}" for text in texts)


def _columns(sides: Sequence[_Side]) -> Iterator[tuple[str, list[Cell], bool]]:
    """(what stands on the ruler, a cell per side, whether they differ) for each page that either side has; runs are one column."""
    behind = -1
    for first, nr in _alike(sides):
        step = nr if nr > RUN else 1
        for page in range(first, first + nr, step):
            gap = page != behind
            if gap and behind >= 0:
                yield "   ", [("   ",) * side.height for side in sides], False
            behind = page + step
            begins = any((side.vma(page) or (None,))[0] == page for side in sides)
            place = f" {name_of(page * PAGE_SIZE)} " if gap or begins else ""
            differs = any(sides[0].says(each) != sides[1].says(each) for each in {page, behind - 1})
            yield place, [side.cell(page, step) for side in sides], differs


def _alike(sides: Sequence[_Side]) -> Iterator[tuple[int, int]]:
    """(first page, number) of stretches that look alike throughout, on both sides; what neither maps is left out.

    However long a mapping is, it costs no more than what is in it.
    """
    stretch = 0, 0, list[tuple[object, ...]]()
    for start, stop in pairwise(sorted(set().union(*(side.cuts() for side in sides)))):
        if all(side.vma(start) is None for side in sides):
            continue
        first, nr, before = stretch
        looks = [side.looks(start) for side in sides]
        if nr and first + nr == start and looks == before:
            stretch = first, stop - first, before
            continue
        if nr:
            yield first, nr
        stretch = start, stop - start, looks
    if stretch[1]:
        yield stretch[:2]


def _same_letters(host: State, model: State) -> dict[int, str]:
    """Letters for the model's frames: the host's, where both have a frame at an address; else capitals, which the host has not."""
    there = {row[0]: row[FRAME] for row in host.pages.tolist() if row[FRAME]}
    names: dict[int, str] = {}
    taken: set[int] = set()
    for row in model.pages.tolist():
        frame, other = row[FRAME], there.get(row[0])
        if frame and frame not in names and other is not None and other not in taken:
            names[frame] = letters(other)
            taken.add(other)
    new = 0
    for row in model.pages.tolist():
        if row[FRAME] and row[FRAME] not in names:
            new += 1
            names[row[FRAME]] = letters(new).upper()
    return names


def coverage_lines(coverage: Coverage, width: int = 118) -> list[str]:
    """Operations by kind and result, with what succeeded of each variant; and families."""
    lines = [
        f"covered: {format_number(coverage.operations, 'operation')} in {format_number(coverage.scripts, 'script')}; in brackets: succeeded/tried"
    ]
    for call in sorted({variant.split(" ")[0] for variant, _ in coverage.calls}):
        results, tried, succeeded = Counter[str](), Counter[str](), Counter[str]()
        for (variant, result), times in coverage.calls.items():
            name, _, flags = variant.partition(" ")
            if name == call:
                results[result] += times
                for word in _counted(call, flags):
                    tried[word] += times
                    succeeded[word] += times if result == "ok" else 0
        told = [f"{times:,}\xa0{result}" for result, times in results.most_common()]
        words = [f"{word}\xa0{succeeded[word]:,}/{times:,}" for word, times in sorted(tried.items())]
        text = f"{call}: {', '.join(told)}" + (f" ({', '.join(words)})" if words else "")
        wrapped = textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
        lines += [line.replace("\xa0", " ") for line in wrapped]
    alone = sum(times for (processes, _), times in coverage.families.items() if processes == 1)
    deep = sum(times for (_, generations), times in coverage.families.items() if generations >= 3)
    wide = sum(times for (processes, _), times in coverage.families.items() if processes >= 4)
    forking = coverage.scripts - alone
    return [
        *lines,
        f"  fork trees: {format_number(forking, 'script')}, {wide:,} of 4 processes or more, {deep:,} of three generations or more",
    ]


def _counted(call: str, flags: str) -> list[str]:
    """What is counted of a call's flags: mremap's combinations, since each is another call; of others each flag."""
    if call == "mremap":
        return ["none" if flags == "0" else flags]
    return [word for word in flags.replace(" ", "|").split("|") if word]
