"""pte_chain: the list has the shape, the size and the search cost that 2.6.2's would have.

    page->pte   direct           one mapping, no block
                block            [ idx | .  .  . c2 p ]                       slots fill from the back
                block -> block   [ idx | .  .  . .  c5 ] -> [ c4 c3 c2 c1 p ]   a full head gets a new one in front

The expected values come from `Chain`, written from the text of history.md 1.2.2, and from its table in 3.1.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.frames import PG_DIRECT
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.rmap.pte_chain import PteChain
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


class Chain:
    """The pte union of one struct page, as page_add_rmap and page_remove_rmap of 2.6.2 treat it."""

    def __init__(self, nrpte: int) -> None:
        self.nrpte = nrpte
        self.direct: object = None
        self.blocks: list[list[object]] = []  # head first; a block's used slots in order, the last slot last

    def add(self, who: object) -> None:
        if self.direct is None and not self.blocks:
            self.direct = who
        elif self.direct is not None:
            self.blocks, self.direct = [[who, self.direct]], None
        elif len(self.blocks[0]) == self.nrpte:
            self.blocks.insert(0, [who])
        else:
            self.blocks[0].insert(0, who)

    def remove(self, who: object) -> tuple[int, int]:
        """(slots looked at, blocks looked at)."""
        if self.direct is not None:
            assert self.direct == who
            self.direct = None
            return 0, 0
        slots = 0
        for nr_blocks, block in enumerate(self.blocks, 1):
            for i, entry in enumerate(block):
                slots += 1
                if entry == who:
                    block[i] = self.blocks[0][0]
                    del self.blocks[0][0]
                    if not self.blocks[0]:
                        del self.blocks[0]
                    return slots, nr_blocks
        raise AssertionError("not on the chain")

    def entries(self) -> list[object]:
        return [self.direct] if self.direct is not None else [entry for block in self.blocks for entry in block]


def boot(
    line: int, paging: str = "i386", *, highpte: bool = False, ram: str = "64M"
) -> tuple[rmaplab.System, PteChain]:
    system = rmaplab.boot("2.6.2", ram=ram, paging=paging, l1_cache_bytes=line, highpte=highpte)
    assert isinstance(system.kernel.design, PteChain)
    return system, system.kernel.design


def one_page(system: rmaplab.System) -> tuple[rmaplab.Task, int, int]:
    """A task with one written page: (task, address, pfn)."""
    task = system.spawn()
    address = task.mmap(PAGE_SIZE)
    task.write(address, b"shared")
    assert task.mm is not None
    entry, _ = lookup(*system.machine.geometry, task.mm.pgd, address)
    return task, address, entry >> PAGE_SHIFT


def is_direct(system: rmaplab.System, pfn: int) -> bool:
    return bool(system.machine.frames.flags[pfn] & PG_DIRECT)


def searched(system: rmaplab.System) -> tuple[int, int]:
    """(slots, cache lines) that removals have looked at so far."""
    counts = system.machine.ledger.counts
    return counts["chain_slot_search"], counts["chain_line_visit"]


# -- structure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paging", "highpte", "line", "nrpte"),
    [
        ("i386", False, 32, 7),
        ("i386", False, 64, 15),
        ("i386", False, 128, 31),
        ("i386", True, 32, 7),
        ("i386", True, 64, 15),
        ("i386", True, 128, 31),
        ("i386-pae", False, 32, 7),
        ("i386-pae", False, 64, 15),
        ("i386-pae", False, 128, 31),
        ("i386-pae", True, 32, 3),
        ("i386-pae", True, 64, 7),
        ("i386-pae", True, 128, 15),
        ("x86-64", False, 64, 7),
        ("x86-64", False, 128, 15),
    ],
)
def test_slots_per_block(paging: str, highpte: bool, line: int, nrpte: int) -> None:
    """NRPTE = (L1_CACHE_BYTES - sizeof(long)) / sizeof(pte_addr_t), a block is a line: history.md 1.2.1."""
    system, chains = boot(line, paging, highpte=highpte)
    assert chains.nrpte == nrpte
    assert chains.cache.object_bytes == line
    #   and it is so in use: 1 + nrpte mappings fill one block and begin a second
    parent, _, pfn = one_page(system)
    for nr in range(2, nrpte + 1):
        parent.fork()
        assert chains.cache.nr_objects == 1, nr
    parent.fork()
    assert chains.cache.nr_objects == 2
    assert not is_direct(system, pfn)
    system.check()


@pytest.mark.parametrize("line", [32, 64, 128])
def test_blocks_lie_on_cache_lines(line: int) -> None:
    """SLAB_MUST_HWCACHE_ALIGN: that is what leaves room for an index in the low bits of the link."""
    system, chains = boot(line)
    parent, _, pfn = one_page(system)
    seen = set()
    for _ in range(40):
        parent.fork()
        seen.add(int(chains.pte[pfn]))
    assert len(seen) >= 2
    assert all(address % line == 0 for address in seen)


def test_a_page_that_is_mapped_once_needs_no_block() -> None:
    """The direct pointer: a process that never forks has no chains, however large."""
    system, chains = boot(128)
    task = system.spawn()
    address = task.mmap("8M")
    task.touch(address, "8M", write=True)
    assert chains.cache.nr_objects == 0
    assert chains.cache.nr_slabs == 0
    assert system.machine.ledger.counts["chain_add"] == 2048
    assert all(is_direct(system, int(pfn)) for pfn in chains.tracked())
    assert chains.tracked().size == 2048
    task.exit()
    assert chains.tracked().size == 0
    system.check()


@pytest.mark.parametrize(
    ("line", "highpte", "paging", "blocks"),
    [
        (128, False, "i386-pae", {6: 3, 7: 5, 8: 9, 9: 17}),
        (128, True, "i386-pae", {6: 5, 7: 9, 8: 18, 9: 35}),
        (32, False, "i386", {6: 10, 7: 19, 8: 37, 9: 74}),
    ],
)
def test_blocks_of_a_page_that_2_to_the_l_processes_share(
    line: int, highpte: bool, paging: str, blocks: dict[int, int]
) -> None:
    """history.md 3.1: blocks a page at levels 6 to 9 of the announcement's benchmark."""
    system, chains = boot(line, paging, highpte=highpte, ram="128M")
    parent, _, _ = one_page(system)
    measured = {}
    for nr in range(2, 513):
        parent.fork()
        if nr in (64, 128, 256, 512):
            measured[nr.bit_length() - 1] = chains.cache.nr_objects
    assert measured == blocks
    system.check()


@pytest.mark.parametrize("line", [32, 64, 128])
@pytest.mark.parametrize("nr_mappings", [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 62, 63])
def test_blocks_of_n_mappings(line: int, nr_mappings: int) -> None:
    """As many as the text's own rules make, every page of the area its own."""
    system, chains = boot(line)
    parent = system.spawn()
    address = parent.mmap(5 * PAGE_SIZE)
    parent.touch(address, 5 * PAGE_SIZE, write=True)
    expected = Chain(chains.nrpte)
    expected.add(0)
    for i in range(1, nr_mappings):
        parent.fork()
        expected.add(i)
    assert chains.cache.nr_objects == 5 * len(expected.blocks)
    counts = system.machine.ledger.counts
    assert counts["chain_add"] == 5 * nr_mappings
    assert counts["chain_block_alloc"] == 5 * len(expected.blocks)


@pytest.mark.parametrize("paging", ["i386", "i386-pae", "x86-64"])
def test_a_leaf_table_says_whose_it_is_and_where_it_begins(paging: str) -> None:
    """Its page->mapping is the mm, its page->index the first address (history.md 1.2.1), while it is one."""
    system, chains = boot(64, paging)
    parent = system.spawn()
    span = system.machine.paging.leaf_span
    areas = [parent.mmap(2 * span, address=base) for base in (0x5000_0000, 0x9000_0000)]
    for area in areas:
        parent.touch(area, 2 * span, write=True)
    tasks = [parent, parent.fork()]

    def known() -> dict[int, tuple[int, int]]:
        owners, index = chains.frames.mapping, chains.frames.index
        return {frame: (int(owners[frame]), int(index[frame])) for frame in np.flatnonzero(owners).tolist()}

    def real() -> dict[int, tuple[int, int]]:
        found = {}
        for mm in system.kernel.mms.values():
            for base in {m // span * span for m in read_page_tables(system.machine, mm.pgd)[0].addresses.tolist()}:
                _, pte = lookup(*system.machine.geometry, mm.pgd, base)
                found[pte >> PAGE_SHIFT] = mm.address, base
        return found

    assert len(real()) == 2 * 2 * 2
    assert known() == real()
    tasks[1].munmap(areas[1], 2 * span)
    assert real().items() <= known().items()  # tables stay while the top entry is used
    tasks[1].munmap(areas[0], 2 * span)
    tasks[0].exit()
    assert known() == real() == {}


# -- search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "paging", "highpte"), [(32, "i386-pae", True), (32, "i386", False), (64, "x86-64", False)]
)
@pytest.mark.parametrize("seed", range(3))
def test_search_and_order_as_the_text_says(line: int, paging: str, highpte: bool, seed: int) -> None:
    """Forks, exits and writes in random order: removals look at the slots and lines the text says, the lists are equal.

    A write to the shared page is a removal too: the writer's entry leaves the chain for a page of its own.
    """
    system, chains = boot(line, paging, highpte=highpte)
    parent, address, pfn = one_page(system)
    expected, rng = Chain(chains.nrpte), random.Random(seed)
    sharers = [parent]
    expected.add(parent.mm)
    for step in range(150):
        slots, lines = searched(system)
        visited = 0, 0
        if len(sharers) < 2 or rng.random() < (0.7 if step < 60 else 0.35):
            child = rng.choice(sharers).fork()
            expected.add(child.mm)
            sharers.append(child)
        else:
            leaver = sharers.pop(rng.randrange(len(sharers)))
            mm = leaver.mm
            if rng.random() < 0.5:
                visited = expected.remove(mm)
                leaver.exit()
            else:
                visited = expected.remove(mm)
                leaver.write(address, b"my own")
        assert searched(system) == (slots + visited[0], lines + visited[1])
        assert [m.mm for m in chains.walk(pfn)] == expected.entries()
        assert chains.cache.nr_objects == len(expected.blocks)
        system.check()


@pytest.mark.parametrize("nr_children", [1, 14, 15, 31, 47])
def test_the_oldest_entry_costs_the_whole_chain(nr_children: int) -> None:
    """The first one to map a page is the last on its chain: its exit searches all n slots, in ceil(n / NRPTE) lines."""
    system, _ = boot(64)
    parent, _, _ = one_page(system)
    for _ in range(nr_children):
        parent.fork()
    parent.exit()
    n = nr_children + 1
    assert searched(system) == (n, {2: 1, 15: 1, 16: 2, 32: 3, 48: 4}[n])
    system.check()


def test_the_youngest_entry_is_found_at_once() -> None:
    """A child that exits before anybody else has forked stands first."""
    system, _ = boot(32)
    parent, _, _ = one_page(system)
    for _ in range(40):
        parent.fork()
    for nr, child in enumerate(reversed(parent.children), 1):
        assert isinstance(child, rmaplab.Task)
        child.exit()
        assert searched(system) == (nr, nr)


def test_a_walk_visits_each_mapping_once() -> None:
    """The list is exact: n visits for n mappings, none in vain."""
    system, _ = boot(32)
    parent, address, _ = one_page(system)
    children = [parent.fork() for _ in range(20)]
    before = system.machine.ledger.counts["chain_slot_visit"]
    assert {m.mm for m in system.who_maps(parent, address)} == {parent.mm, *(child.mm for child in children)}
    assert system.machine.ledger.counts["chain_slot_visit"] - before == 21


# -- chains stay -----------------------------------------------------------------------------------------------------


def test_a_chain_never_becomes_direct_again() -> None:
    """A page once shared is likely to be shared again: only page_referenced collapses a chain (history.md 1.2.2)."""
    system, chains = boot(128)
    parent, address, pfn = one_page(system)
    assert is_direct(system, pfn)
    for _ in range(3):
        child = parent.fork()
        assert not is_direct(system, pfn)
        assert chains.cache.nr_objects == 1
        child.exit()
        assert not is_direct(system, pfn)
        assert chains.cache.nr_objects == 1
    #   one block was taken once and for all
    assert system.machine.ledger.counts["chain_block_alloc"] == 1
    #   not when the page is its owner's alone either: reuse touches no chain
    parent.write(address, b"mine again")
    assert system.machine.ledger.counts["cow_reuse"] == 1
    assert chains.cache.nr_objects == 1
    assert [m.mm for m in system.who_maps(parent, address)] == [parent.mm]
    #   the last mapping takes the block with it
    parent.munmap(address, PAGE_SIZE)
    assert chains.cache.nr_objects == 0
    system.check()


def test_a_copy_is_direct() -> None:
    """The page that a COW fault makes is mapped once."""
    system, chains = boot(128)
    parent, address, pfn = one_page(system)
    child = parent.fork()
    child.write(address, b"copy")
    assert child.mm is not None
    entry, _ = lookup(*system.machine.geometry, child.mm.pgd, address)
    assert entry >> PAGE_SHIFT != pfn
    assert is_direct(system, entry >> PAGE_SHIFT)
    assert not is_direct(system, pfn)
    assert chains.cache.nr_objects == 1
    system.check()


def test_the_zero_page_has_no_chain() -> None:
    """page_add_rmap ignores reserved pages, or this one's chain would be the longest of all."""
    system, chains = boot(128)
    parent = system.spawn()
    address = parent.mmap("1M")
    parent.touch(address, "1M")
    parent.fork()
    assert chains.cache.nr_objects == 0
    assert chains.tracked().size == 0
    assert system.machine.ledger.counts["chain_add"] == 0
    system.check()


def test_blocks_take_lowmem_in_slabs_of_thirty() -> None:
    """A 4 KiB slab page holds 30 blocks of 128 bytes, not 32 (history.md 3.1, eras.md 4.4)."""
    system, chains = boot(128)
    parent = system.spawn()
    address = parent.mmap(90 * PAGE_SIZE)
    parent.touch(address, 90 * PAGE_SIZE, write=True)
    parent.fork()
    assert chains.cache.nr_objects == 90
    assert chains.cache.nr_slabs == 3
    assert chains.cache.bytes == 3 * 4096
