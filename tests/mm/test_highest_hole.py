"""Where 6.18 looks for a hole is remembered (MmStruct.no_hole_above): what comes of it is what a search from the top finds."""

import random

import rmaplab
from rmaplab.units import PAGE_SIZE


def test_holes_that_are_made_are_found_again() -> None:
    """Random mappings and unmappings, parts of VMAs too; each address beside a search through all gaps from the top."""
    choose = random.Random(3)
    task = rmaplab.boot("6.18", ram="64M").spawn()
    top = task.mmap(PAGE_SIZE) + PAGE_SIZE
    used = {top // PAGE_SIZE - 1}
    for step in range(400):
        if step % 3 == 2:
            start, nr = choose.choice(sorted(used)), choose.randrange(1, 4)
            task.munmap(start * PAGE_SIZE, nr * PAGE_SIZE)
            used -= set(range(start, start + nr))
        else:
            nr = choose.choice((1, 1, 2, 5))
            at = task.mmap(nr * PAGE_SIZE, choose.choice((1, 3))) // PAGE_SIZE
            end = top // PAGE_SIZE
            while not used.isdisjoint(range(end - nr, end)):
                end -= 1
            assert at == end - nr, step
            used |= set(range(at, at + nr))
