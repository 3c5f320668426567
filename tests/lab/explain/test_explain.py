"""Stories from a running system: what they show is what the system says, on every kernel and paging.

    step.answers         the design's walk, against the judge
    step.sections        the drawing: numbers in it are those of page tables, frames and the design's own objects
    step.said            words: "copied", "reused", "in vain" only where the ledger has counted it

Sources: history.md 1.2.2 (chains), 1.4 (anonmm copies in mremap), 1.5.7 (anon_vma does not), eras.md 1.2 (the pagevec's reference).
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box, announced
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import boot
from rmaplab.lab.explain import STORIES, Scene, Stage, explain
from rmaplab.lab.explain.picture import draw_memory, read_all_entries, read_page
from rmaplab.lab.explain.trace import recorded_walk
from rmaplab.rmap.brute_force import mappings_of

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1"]
FORMATS = ["i386", "i386-pae", "x86-64"]


def box(paging: str = "i386-pae", **changes: object) -> Box:
    return announced(ram="64M", swap="0", paging=paging, **changes)


def tell(story: str, kernel: str, paging: str = "i386-pae") -> list[Scene]:
    return list(explain(story, kernel, box(paging)))


def section(step: Scene, name: str) -> str:
    return "\n".join(line for heading, lines in step.sections if heading == name for line in lines)


def said(step: Scene) -> str:
    return " ".join(step.said)


def count(step: Scene, operation: str) -> int:
    """What a step's bill or walk says of one operation."""
    bill = section(step, "rmap cost") + ", " + section(step, "other cost") + ", " + section(step, "counted")
    return sum(int(nr) for nr in re.findall(rf"\b{operation} (\d+)", bill))


@pytest.mark.parametrize(
    ("kernel", "paging"), [*((kernel, paging) for kernel in KERNELS for paging in FORMATS), ("6.18", "x86-64")]
)
@pytest.mark.parametrize("story", STORIES)
def test_every_step_shows_the_system_as_it_is(story: str, kernel: str, paging: str) -> None:
    """At each step: entries, counts and mappers in the picture are those of page tables and frames, and the judge agrees."""
    stage = Stage(boot(kernel, box(paging)))
    nr = 0
    for step in STORIES[story](stage):
        nr += 1
        k, machine = stage.kernel, stage.machine
        picture = section(step, "")
        assert step.answers
        for pfn, answers in step.answers.items():
            real = list(mappings_of(machine, k.mms.values(), pfn))
            assert {(m.mm.address, m.address) for m in answers} == {(m.mm.address, m.address) for m in real}
            told = re.search(rf"frame {pfn}: (\d+) mapping", section(step, "who maps it"))
            assert told
            assert int(told[1]) == len(real)
            assert f"struct page {pfn}" in picture
        assert "DISAGREES" not in section(step, "who maps it")
        if picture.startswith("task "):
            areas = re.findall(r"^pid (\d+) +([0-9a-f]+)-([0-9a-f]+) rw-p$", picture, re.MULTILINE)
            assert [(int(pid), int(start, 16), int(end, 16)) for pid, start, end in areas] == [
                (mm.pid, vma.start, vma.end) for mm in k.mms.values() for vma in mm.vmas
            ]
            rows = re.findall(r"^pid (\d+) +([0-9a-f]+) +([0-9a-f]+) +[PWUAD-]{5} ", picture, re.MULTILINE)
            entries = read_all_entries(k)
            shown = sorted((int(pid), int(address, 16), int(pte, 16)) for pid, address, pte in rows)
            assert shown == sorted((e.pid, e.address, e.pte) for e in entries)
            for pfn in {entry.pfn for entry in entries if entry.pfn}:
                page = read_page(k, pfn)
                assert page.references == machine.frames.count[pfn] == page.nr_entries + page.nr_pagevec
                assert f"frame {pfn}  " in picture
                assert re.search(rf"count {page.references} = ", picture)
        stage.system.check()
    assert nr >= 4


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("story", STORIES)
def test_looking_on_changes_nothing(story: str, kernel: str) -> None:
    """What the ledger counts from step to step is what the step's bill says: nothing for walks, drawings and the judge.

    Flushes of TLBs are counted too, and no story tells of them.
    """
    stage = Stage(boot(kernel, box()))
    steps = STORIES[story](stage)
    next(steps)
    before = stage.machine.ledger.counts.copy()
    for step in steps:
        after = stage.machine.ledger.counts.copy()
        counted = Counter({name: nr for name, nr in (after - before).items() if not name.startswith("tlb_")})
        assert billed(step) == counted
        before = after


def billed(step: Scene) -> Counter[str]:
    bill: Counter[str] = Counter()
    for name, nr in re.findall(r"(\w+) (\d+)", section(step, "rmap cost") + ", " + section(step, "other cost")):
        bill[name] += int(nr)
    return bill


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_same_story_twice(kernel: str) -> None:
    """A story is a function of kernel and box."""
    once, again = ([(step.title, step.said, step.sections) for step in tell("cow", kernel)] for _ in range(2))
    assert once == again


def test_addresses_are_not_written_beforehand() -> None:
    """Another page-table format: other addresses and other entries; less RAM for the kernel: other frames."""
    pictures = [section(tell("who", "2.6.5-rc1-aa1", paging)[0], "") for paging in FORMATS]
    assert "2a95556000" in pictures[2]
    assert "40000000" not in pictures[2]
    assert "40000000" in pictures[1]
    assert len(set(pictures)) == len(FORMATS)
    smaller, larger = (
        next(iter(next(iter(explain("who", "2.6.2", announced(ram=ram)))).answers)) for ram in ("64M", "256M")
    )
    assert smaller != larger


# -- who -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "shared", "private"),
    [
        ("2.6.2", (2, 2, 0), (1, 1, 0)),  # a chain knows
        ("2.6.5-rc1-aa1", (3, 2, 1), (3, 1, 2)),  # every VMA on the object is visited (1.5.5: no early stop)
        ("2.6.5-rc1+anonmm", (2, 2, 0), (1, 1, 0)),  # own mm first, then the family, until mapcount are found (1.4)
        ("2.4.21", (3, 2, 1), (3, 1, 2)),  # everybody is searched
    ],
)
def test_visits(kernel: str, shared: tuple[int, ...], private: tuple[int, ...]) -> None:
    """Three tasks; one has written and has a page of its own: visits, useful and wasted, for both pages."""
    last = tell("who", kernel)[-1]
    lines = section(last, "counted").splitlines()
    found = [tuple(map(int, re.findall(r"(\d+) (?:visits?|useful|wasted)", line))) for line in lines]
    assert found == [shared, private]
    walk = section(last, "the walk").splitlines()
    assert len(walk) == shared[0] + private[0]
    assert sum("in vain" in line for line in walk) == shared[2] + private[2]
    for line, (_, _, wasted) in zip(
        lines, found, strict=True
    ):  # in vain, says the design itself (2.4 has no word for it)
        ledger = [int(nr) for nr in re.findall(r"visit_\w+ (\d+)", line)]
        assert sum(ledger) == wasted or kernel == "2.4.21"


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_visited_is_numbered_in_the_drawing(kernel: str) -> None:
    """The nth visit of a walk is the nth thing in the drawing: its line names the pid that the visit found."""
    for step in tell("who", kernel):
        drawings = re.split(r"^struct page ", section(step, ""), flags=re.MULTILINE)[1:]
        walks = section(step, "the walk")
        if not walks or len(drawings) != 1:
            continue
        numbered = dict(re.findall(r"(?:\+--|>) (\d+)  .*?pid (\d+)", drawings[0]))
        visits = re.findall(r"^(\d+)  .*-> pid (\d+)", walks, re.MULTILINE)
        assert visits
        assert all(numbered[nr] == pid for nr, pid in visits)


# -- fork ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_fork_copies_entries(kernel: str) -> None:
    """Two written pages and the zero page: three entries copied at each fork, no page; W is lost at the first one only."""
    _, read, first, second, end = tell("fork", kernel)
    assert count(read, "zero_fault") == 1
    for step in (first, second):
        assert "1 VMA and 3 page-table entries" in said(step)
        assert count(step, "pte_copy") == 3
        assert "; no page." in said(step)
    assert "2 entries of the parent lost W" in said(first)
    assert "no W to lose" in said(second)
    assert count(end, "pte_zap") == 3
    assert [len(answers) for answers in second.answers.values()] == [3, 3]
    assert [len(answers) for answers in end.answers.values()] == [2, 2]


def test_what_fork_costs_each_design() -> None:
    """A block per page at the first fork, a slot at the second; or a list entry per VMA; or an object per mm; or nothing."""
    _, _, first, second, _ = tell("fork", "2.6.2")
    assert (count(first, "chain_block_alloc"), count(second, "chain_block_alloc")) == (2, 0)
    assert (count(first, "chain_add"), count(second, "chain_add")) == (2, 2)
    assert "2 pte_chain objects of 128 bytes" in said(first)
    assert "reserve(2 pages)" in section(first, "rmap told")
    for kernel, operation in (("2.6.5-rc1-aa1", "anon_vma_link"), ("2.6.5-rc1+anonmm", "anonmm_alloc")):
        _, _, first, second, _ = tell("fork", kernel)
        assert (count(first, operation), count(second, operation)) == (1, 1)
        assert "duplicate(2 pages)" in section(first, "rmap told")
    _, _, first, _, _ = tell("fork", "2.4.21")
    assert section(first, "rmap cost") == "nothing counted"


# -- cow -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_copied_and_reused_are_what_the_ledger_says(kernel: str) -> None:
    """The words follow the counts, at every write."""
    for step in (step for step in tell("cow", kernel) if "mmap" not in step.title and "write" in step.title):
        assert ("Copied:" in said(step)) == bool(count(step, "cow_copy"))
        assert ("Reused:" in said(step)) == bool(count(step, "cow_reuse"))


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != "2.4.21"])
def test_the_pagevec_trap(kernel: str) -> None:
    """2.6: the second write copies a page that nobody shares, because the pagevec counts; drained, it is reused."""
    steps = tell("cow", kernel)
    assert [bool(count(step, "cow_copy")) for step in steps] == [False, False, True, True, False, False, True, False]
    assert "In vain" not in said(steps[2])
    assert "In vain" in said(steps[3])
    assert "1 pagevec" in section(steps[3], "")
    assert "drains the pagevec" in said(steps[4])
    assert count(steps[-1], "cow_reuse") == 1


def test_there_is_no_trap_without_pagevecs() -> None:
    """2.4 puts pages on the LRU at once: the second write reuses, and the story ends there."""
    steps = tell("cow", "2.4.21")
    assert len(steps) == 4
    assert count(steps[-1], "cow_reuse") == 1
    assert "pagevec" not in "".join(section(step, "") + said(step) for step in steps)


# -- mremap ----------------------------------------------------------------------------------------------------------


def test_anonmm_copies_what_is_shared_before_it_moves() -> None:
    """Of two pages that move, the shared one is copied and the private one is told its new address."""
    steps = tell("mremap", "2.6.5-rc1+anonmm")
    move, write = steps[3], steps[-1]
    assert count(move, "mremap_copy") == 1
    assert "move_verdict(2 pages: copy 1)" in section(move, "rmap told")
    assert "But first copied" in said(move)
    old, new = move.answers
    assert [(m.mm.pid, m.address) for m in move.answers[old]] == [(1, 0x4000_0000)]
    assert [(m.mm.pid, m.address) for m in move.answers[new]] == [(2, 0x5000_0000)]
    assert "mremap has made the copy already" in said(write)
    assert count(write, "cow_copy") == 0


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if "anonmm" not in kernel])
def test_the_others_keep_sharing(kernel: str) -> None:
    """No copy: one frame, found at two addresses."""
    move = tell("mremap", kernel)[3]
    assert count(move, "mremap_copy") == 0
    assert count(move, "pte_move") == 2
    assert "No page was copied" in said(move)
    ((_, answers),) = move.answers.items()
    assert {(m.mm.pid, m.address) for m in answers} == {(1, 0x4000_0000), (2, 0x5000_0000)}


def test_what_mremap_does_to_the_structures() -> None:
    """pte_chain rewrites a slot; under anon_vma the VMA is another and its pgoff is the same."""
    before, after = (section(step, "") for step in tell("mremap", "2.6.2")[1:4:2])
    slots = [set(re.findall(r"entry at ([0-9a-f]+); its table says: pid 2", text)) for text in (before, after)]
    assert slots[0]
    assert slots[1]
    assert not slots[0] & slots[1]
    assert "pid 2  VMA 50000000-50004000  pgoff 40000: at 50000000" in section(tell("mremap", "2.6.5-rc1-aa1")[3], "")


# -- the rest --------------------------------------------------------------------------------------------------------


def test_a_block_can_be_full() -> None:
    """Eight mappers of a page and seven slots a block: the chain is drawn with its second block."""
    stage = Stage(boot("2.6.2", box("i386", l1_cache_bytes=32)))
    task = stage.system.spawn()
    address = task.mmap("4K")
    task.write(address, b"x")
    for _ in range(8):
        task.fork()
    pfn = stage.pfn(task, address)
    drawing = stage.design.draw(pfn)
    assert len(re.findall(r"slot \d  entry at", "\n".join(drawing))) == 9 == len(list(stage.design.walk(pfn)))
    assert any("next: block" in line for line in drawing)
    assert len([line for line in draw_memory(stage.kernel) if re.match(r"pid .* [PWUAD-]{5} ", line)]) == 9
    walk = recorded_walk(stage.kernel.rmap, pfn)
    assert walk.useful == len(walk.visits) == walk.counts["chain_slot_visit"] == 9


def test_a_design_that_draws_nothing() -> None:
    """The protocol's default says that there is nothing, whatever the design."""
    stage = Stage(boot("2.6.5-rc1-aa1", box()))
    assert stage.design.draw(stage.machine.frames.nr - 1)[0].endswith("anon_vma keeps nothing for it")


@pytest.mark.parametrize("arguments", [("nope", "2.6.2"), ("who", "2.7.0"), ("who", "2.6.2+nope")])
def test_refused_before_the_first_step(arguments: tuple[str, str]) -> None:
    with pytest.raises(UsageError):
        explain(*arguments, box())


def test_any_kernel_with_any_design() -> None:
    """KERNEL+DESIGN: the design's own words in the drawing."""
    assert find_kernel("2.4.21+anon_vma").design_class().name == "anon_vma"
    assert "anon_vma" in section(tell("who", "2.4.21+anon_vma")[1], "")
