"""Whatever processes have done to their memory: it can be lived through, under every design, and no walk is wrong."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmaplab.errors import SegmentationFault, SyscallError
from rmaplab.kernels.system import System
from rmaplab.lab.census.rebuild import live_through
from rmaplab.objects.flags import (
    MADV_DOFORK,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_KEEPONFORK,
    MADV_WIPEONFORK,
    MREMAP_DONTUNMAP,
    PROT_READ,
    PROT_WRITE,
)

from .machines import BASE, DESIGNS, FIXED, MOVE, PAGE, History, census_of, heads_of, put, write


def random_history(data: st.DataObject) -> History:
    """Forks, exits, moves, holes, borders, advice: of whoever is alive, in any order."""

    def run(system: System) -> None:
        people = [system.spawn()]
        put(people[0], 0, 12)
        for what in data.draw(st.lists(st.sampled_from(CALLS), min_size=4, max_size=30)):
            task = people[data.draw(st.integers(0, len(people) - 1))]
            page, nr = data.draw(st.integers(0, 24)), data.draw(st.integers(1, 6))
            start, length = BASE + page * PAGE, nr * PAGE
            try:
                if what == "fork" and len(people) < 7:
                    people.append(task.fork())
                elif what == "exit" and len(people) > 1:
                    people.remove(task)
                    task.exit()
                elif what == "put":
                    put(task, page, nr)
                elif what == "map":
                    task.mmap(length, PROT_READ | PROT_WRITE, FIXED, start)
                elif what == "write":
                    write(task, page, nr)
                elif what in ("move", "leave"):
                    to = BASE + data.draw(st.integers(0, 40)) * PAGE
                    task.mremap(start, length, length, MOVE | (MREMAP_DONTUNMAP if what == "leave" else 0), to)
                elif what == "unmap":
                    task.munmap(start, length)
                elif what == "protect":
                    task.mprotect(start, length, data.draw(st.sampled_from((0, PROT_READ, PROT_READ | PROT_WRITE))))
                elif what == "advise":
                    task.madvise(start, length, data.draw(st.sampled_from(ADVICE)))
            except (SyscallError, SegmentationFault):
                continue  # Linux would say so too

    return run


CALLS = ("fork", "exit", "put", "map", "write", "write", "move", "leave", "unmap", "protect", "advise")
ADVICE = (MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK)


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_can_be_lived_through_under_every_design(data: st.DataObject, tmp_path: Path) -> None:
    """No tree fails, no walk misses or invents a mapping, and all rows are about the same pages."""
    _, census = census_of(random_history(data), tmp_path / "census")
    pages = census.graph.pages
    assert pages is not None
    if not len(pages.pfn):
        return
    found = live_through(census, heads_of(census), DESIGNS)
    assert not found.unlived
    assert [row.failed for row in found.found] == [None] * len(DESIGNS)
    for row in found.found:
        assert row.useful == found.was.useful
        assert row.walks == found.alike <= row.pages
    assert found.chosen.unplaced == 0
