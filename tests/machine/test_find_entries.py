"""find_entries: what swapoff reads off page tables, beside a plain loop over all of them.

[page][swap of 0][swap of 1][   ][file] ...      bits that tell a swap entry of one area from whatever else there may be
"""

from random import Random

import numpy as np
import pytest

import rmaplab
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.machine.arrays import I64
from rmaplab.machine.entries import EntryKind
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.pagetable_edit import find_entries
from rmaplab.units import PAGE_SIZE


@pytest.mark.parametrize(
    ("kernel", "paging"),
    [(kernel, paging) for kernel in ("2.4.21", "2.6.7", "6.18") for paging in find_kernel(kernel).architectures],
)
def test_all_entries_of_an_area_and_no_others(kernel: str, paging: str) -> None:
    """Over three leaf tables, of which one is missing, with every kind of entry that this kernel has; in part, and with too little room."""
    machine = (system := rmaplab.boot(kernel, ram="64M", paging=paging)).machine
    encoding, task, dice = machine.encoding, system.spawn(), Random(kernel)
    span = machine.paging.leaf_span
    at = -(-task.mmap(4 * span) // span) * span
    mm = task.mm
    assert mm is not None
    pages = [at + i * PAGE_SIZE for i in (*range(60), *range(3 * span // PAGE_SIZE - 60, 3 * span // PAGE_SIZE))]
    task.write(pages[0], b"x")
    task.write(pages[-1], b"x")
    truth: dict[int, tuple[int, int]] = {}
    for page in pages:
        area, slot = dice.choice((0, 0, 1, 5)), dice.randrange(1, 1 << 20)
        kinds = [0, encoding.swap_entry(area, slot), (77 << 12) | 0x65, (77 << 12) | encoding.hidden | 0x64]
        kinds += [encoding.file_entry(slot)] if encoding.file else []
        kinds += [encoding.guard] if encoding.marker > 0 else []
        entry = dice.choice([kinds[1], *kinds])
        machine.set_entry(lookup(*machine.geometry, mm.pgd, page)[1], entry)
        if entry and encoding.kind(entry) is EntryKind.SWAP:
            truth[page] = area, slot
    for area in (0, 1, 2, 5):
        found: I64 = np.empty((4, 200), np.int64)
        nr, looked_at = find_entries(
            *machine.geometry, mm.pgd, at, at + 3 * span, *encoding.swap_bits(area), found, 0, 0
        )  # fmt: skip
        entries, ptes, addresses, ranks = found[:, :nr]
        mine = [page for page in pages if truth.get(page, (-1, 0))[0] == area]
        assert addresses.tolist() == mine
        assert [encoding.swap_slot(entry)[1] for entry in entries.tolist()] == [truth[page][1] for page in mine]
        assert [lookup(*machine.geometry, mm.pgd, page) for page in mine] == list(
            zip(entries.tolist(), ptes.tolist(), strict=True)
        )
        before = {at: 0, at + 2 * span: span // PAGE_SIZE}
        assert ranks.tolist() == [before[page // span * span] + page % span // PAGE_SIZE + 1 for page in mine]
        assert looked_at == 2 * span // PAGE_SIZE
        few: I64 = np.full((4, 3), -1)
        part = find_entries(*machine.geometry, mm.pgd, pages[1], pages[50], *encoding.swap_bits(area), few, 2, 9)
        inside = [page for page in mine if pages[1] <= page < pages[50]]
        assert part == (2 + len(inside), 9 + 49)
        assert few[2].tolist() == [-1, -1, *inside[:1]] if inside else [-1] * 3
    for page in pages:
        machine.set_entry(lookup(*machine.geometry, mm.pgd, page)[1], 0)
