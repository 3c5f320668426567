"""The stories. Each makes calls on a stage and says what came of them; a sentence is chosen by what was counted and read.

who      write a page, fork twice, ask; a child writes: ask again, for both pages
fork     what fork copies, once and once more, and what exit gives back
cow      the child writes, then the other; and once more when no pagevec is in the way
mremap   a forked child moves its memory: where is the shared page now, and who finds it there?
"""

from collections.abc import Callable, Iterator

from rmaplab.calls.task import Task
from rmaplab.lab.explain.picture import Page
from rmaplab.lab.explain.stage import Cost, Scene, Stage, listed, where
from rmaplab.machine.entries import RW
from rmaplab.objects.flags import MREMAP_FIXED, MREMAP_MAYMOVE
from rmaplab.units import PAGE_SIZE, format_number

NR_PAGES = 4
LENGTH = NR_PAGES * PAGE_SIZE
FAR = 0x1000_0000
"""How far mremap moves: up, or down where mmap begins at the top."""


def who(stage: Stage) -> Iterator[Scene]:
    """Who maps this page? Asked of a page that three share, then of one that a child has to itself."""
    parent, address, step = _begin(stage, [b"hello"])
    yield step
    first, step = _fork(stage, parent, address)
    yield step
    second, step = _fork(stage, parent, address)
    yield step
    pfn = stage.pfn(parent, address)
    yield stage.ask(f"Who maps frame {pfn}?", [_count_first(stage, [pfn])], [pfn])
    yield _write(stage, second, address, b"Jello", [parent, first, second])
    pfns = [stage.pfn(parent, address), stage.pfn(second, address)]
    question = "Who maps these two frames?" if len(set(pfns)) == 2 else f"Who maps frame {pfns[0]}?"
    yield stage.ask(question, [_count_first(stage, pfns)], list(dict.fromkeys(pfns)))


def fork(stage: Stage) -> Iterator[Scene]:
    """Two pages written, one only read, one never touched; then two forks and an exit."""
    parent, address, step = _begin(stage, [b"hello", b"world"])
    yield step
    zero = address + 2 * PAGE_SIZE
    _, cost = stage.call(lambda: parent.read(zero))
    said = ["A read of memory nobody has written maps the zero page."] if cost.counts["zero_fault"] else []
    yield stage.step(f"pid {parent.pid}: read({zero:#x})", said, cost, _pages(stage, [parent], address))
    first, step = _fork(stage, parent, address)
    yield step
    _, step = _fork(stage, parent, address)
    yield step
    yield _exit(stage, parent, first, address)


def cow(stage: Stage) -> Iterator[Scene]:
    """A shared page, written by both; if the second write copied in vain, once more without a pagevec in the way."""
    parent, address, step = _begin(stage, [b"hello"])
    yield step
    child, step = _fork(stage, parent, address)
    yield step
    yield _write(stage, child, address, b"Jello", [parent, child])
    alone = stage.page(parent, address)
    yield _write(stage, parent, address, b"Hullo", [parent, child])
    if stage.pfn(parent, address) == alone.pfn or not alone.nr_pagevec:
        return
    yield _exit(stage, parent, child, address)
    again, step = _fork(stage, parent, address)
    yield step
    yield _write(stage, again, address, b"Mello", [parent, again])
    yield _write(stage, parent, address, b"Hallo", [parent, again])


def mremap(stage: Stage) -> Iterator[Scene]:
    """Two pages, one of them shared, are moved by one of two tasks."""
    parent, address, step = _begin(stage, [b"hello", b"world"])
    yield step
    child, step = _fork(stage, parent, address)
    yield step
    yield _write(stage, child, address + PAGE_SIZE, b"World", [parent, child])
    new, step = _move(stage, parent, child, address)
    yield step
    pfns = list(dict.fromkeys((stage.pfn(parent, address), stage.pfn(child, new))))
    question = f"Who maps {'these two frames' if len(pfns) == 2 else f'frame {pfns[0]}'}?"
    yield stage.ask(question, [_count_first(stage, pfns)], pfns)
    remark = "mremap has made the copy already that this write would have taken." if len(pfns) == 2 else ""
    yield _write(stage, child, new, b"Jello", [child], remark)


STORIES: dict[str, Callable[[Stage], Iterator[Scene]]] = {"fork": fork, "cow": cow, "mremap": mremap, "who": who}


# -- the calls, and what is said of them -----------------------------------------------------------------------------


def _begin(stage: Stage, texts: list[bytes]) -> tuple[Task, int, Scene]:
    task = stage.system.spawn()

    def run() -> int:
        address = task.mmap(LENGTH)
        for i, text in enumerate(texts):
            task.write(address + i * PAGE_SIZE, text)
        return address

    address, cost = stage.call(run)
    writes = "".join(f", write({address + i * PAGE_SIZE:#x}, {_quoted(text)})" for i, text in enumerate(texts))
    said = [f"{format_number(cost.counts['anon_fault'], 'write fault')}, {format_number(len(texts), 'new page')}."]
    page = stage.page(task, address)
    if page.nr_pagevec:
        said.append(
            f"Frame {page.pfn} has count {page.references} and {format_number(page.nr_entries, 'entry')}: a new page waits in a pagevec of "
            "its CPU for its place on the LRU, and the pagevec holds a reference until it is full or drained."
        )
    title = f"pid {task.pid}: mmap({LENGTH // 1024}K) = {address:#x}{writes}"
    return task, address, stage.step(title, said, cost, _pages(stage, [task], address))


def _fork(stage: Stage, parent: Task, address: int) -> tuple[Task, Scene]:
    before = stage.entries(parent)
    child, cost = stage.call(parent.fork)
    after, copied = stage.entries(parent), stage.entries(child)
    counts = cost.counts
    frames = "no page" if {e.pfn for e in copied} <= {e.pfn for e in before} else "pages too"
    what = f"{format_number(counts['vma_copy'], 'VMA')} and {format_number(counts['pte_copy'], 'page-table entry')}"
    said = [f"Copied: {what}, into {format_number(counts['table_alloc'], 'new page-table frame')}; {frames}."]
    lost = sum(bool(old.flags & ~new.flags & RW) for old, new in zip(before, after, strict=True))
    said.append(
        f"{format_number(lost, 'entry')} of the parent lost W." if lost else "The parent's entries had no W to lose."
    )
    if not any(entry.flags & RW for entry in after + copied):
        said.append("No entry has W now, on either side: the next write faults, whoever makes it.")
    said.append(_upkeep(cost))
    pages = _pages(stage, [parent, child], address)
    return child, stage.step(f"pid {parent.pid}: fork() = {child.pid}", said, cost, pages)


def _upkeep(cost: Cost) -> str:
    """What keeping the reverse map took, as far as it is countable."""
    grown = [
        f"{format_number(new - old, name + ' object')} of {size} bytes"
        for name, size, old, new in cost.objects
        if new > old
    ]
    if grown:
        return f"The reverse map took {' and '.join(grown)}."
    if cost.of_design:
        return f"The reverse map took no memory, and counted {listed(cost.of_design)}."
    return "The reverse map took no memory, and counted nothing."


def _write(stage: Stage, task: Task, address: int, text: bytes, tasks: list[Task], remark: str = "") -> Scene:
    before = stage.page(task, address)
    _, cost = stage.call(lambda: task.write(address, text))
    after = stage.page(task, address)
    title = f"pid {task.pid}: write({address:#x}, {_quoted(text)})"
    said = [*_told_of_write(task, before, after, cost), remark if not cost.counts["cow_copy"] else ""]
    return stage.step(title, said, cost, [before.pfn, *stage.tracked_pages(tasks, address, PAGE_SIZE)])


def _told_of_write(task: Task, before: Page, after: Page, cost: Cost) -> list[str]:
    if cost.counts["cow_reuse"]:
        return [
            f"Reused: the count of frame {before.pfn} was {before.references}, so nobody else has it. No copy; the entry gets W."
        ]
    if not cost.counts["cow_copy"]:
        return ["No fault: the entry allowed it."]
    copied = f"Copied: pid {task.pid} has frame {after.pfn} now, a copy of frame {before.pfn}."
    if before.nr_entries > 1:
        return [copied, f"The count was {before.references}, and {before.nr_entries} entries mapped it."]
    told = [copied, f"In vain: no other entry mapped frame {before.pfn}. But its count was {before.references}, not 1:"]
    if before.nr_pagevec:
        told.append(
            "the LRU-add pagevec still held a reference, and do_wp_page cannot tell that from a task that shares the page."
        )
    return told


def _exit(stage: Stage, parent: Task, child: Task, address: int) -> Scene:
    def run() -> None:
        child.exit()
        parent.wait()

    before = stage.kernel.lru_add.references().size
    _, cost = stage.call(run)
    drained = before - stage.kernel.lru_add.references().size
    said = [
        f"Its entries are cleared first, then its tables go, then its VMAs. Cleared: {format_number(cost.counts['pte_zap'], 'entry')}."
    ]
    if drained:
        said.append(f"exit also drains the pagevec of its CPU: {format_number(drained, 'reference')} gone.")
    title = f"pid {child.pid}: exit(); pid {parent.pid}: wait()"
    return stage.step(title, said, cost, _pages(stage, [parent], address))


def _move(stage: Stage, parent: Task, child: Task, address: int) -> tuple[int, Scene]:
    target = address + FAR if address + 2 * FAR <= stage.machine.paging.task_size else address - FAR
    old = [stage.pfn(child, address + i * PAGE_SIZE) for i in range(2)]
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    new, cost = stage.call(lambda: child.mremap(address, LENGTH, LENGTH, flags, target))
    now = [stage.pfn(child, new + i * PAGE_SIZE) for i in range(2)]
    said = [
        f"Moved: {format_number(cost.counts['pte_move'], 'entry')}, from {address:x} to {new:x}, in pid {child.pid} only."
    ]
    copies = [f"frame {a} to {b}" for a, b in zip(old, now, strict=True) if a != b]
    if copies:
        said.append(
            f"But first copied: {', '.join(copies)} (mremap_copy {cost.counts['mremap_copy']}), though nobody has written: the "
            f"design's verdict on a page that others map too."
        )
    else:
        said.append(f"No page was copied. Frame {now[0]} is mapped by {where(stage.judged(now[0]))}.")
    length = f"{LENGTH // 1024}K"
    title = f"pid {child.pid}: mremap({address:#x}, {length}, {length}, MAYMOVE|FIXED, {target:#x}) = {new:#x}"
    pfns = [stage.pfn(parent, address), now[0]]
    return new, stage.step(title, said, cost, pfns)


def _count_first(stage: Stage, pfns: list[int]) -> str:
    """What a good answer would cost: as many visits as there are mappings."""
    pages = [stage.page_of(pfn) for pfn in dict.fromkeys(pfns)]
    return (
        "The page tables say: "
        + ", ".join(f"frame {p.pfn} has {format_number(p.nr_entries, 'entry')}" for p in pages)
        + "."
    )


def _pages(stage: Stage, tasks: list[Task], address: int) -> list[int]:
    """The written pages of a story's memory, each once."""
    return stage.tracked_pages(tasks, address, LENGTH)


def _quoted(text: bytes) -> str:
    return '"' + text.decode() + '"'
