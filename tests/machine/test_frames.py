"""struct page: what a freed page keeps, and what nobody may free.

    flags, count, an anonymous page's mapping      cleared
    index, private                                 stale, as in Linux: whoever gets the page writes them
    a mapcount, a file's mapping                   bad_page

Source: 2.6.2 mm/page_alloc.c, free_pages_check; 2.6.34 mm/page_alloc.c, free_hot_cold_page; eras.md 1.1.
"""

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.frames import PG_ANON, PG_DIRTY, zone_of_all


def boot() -> tuple[rmaplab.System, int]:
    """A machine, and one page of it."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M")
    return system, int(system.machine.allocator.alloc(1, Gfp.HIGHUSER)[0])


def free(system: rmaplab.System, page: int) -> None:
    system.machine.allocator.free(np.array([page]))


def test_a_freed_page_has_no_owner() -> None:
    """Flags, count and the owner of an anonymous page go; where it lay stays behind."""
    system, page = boot()
    frames = system.machine.frames
    frames.flags[page], frames.mapping[page], frames.index[page] = PG_ANON | PG_DIRTY, 0xC000_1000, 77
    free(system, page)
    assert (frames.flags[page], frames.count[page], frames.mapping[page], frames.index[page]) == (0, 0, 0, 77)
    system.check()


@pytest.mark.parametrize(("mapcount", "mapping"), [(1, 0), (0, 0xC000_1000)])
def test_a_page_that_somebody_has_is_not_freed(mapcount: int, mapping: int) -> None:
    """An entry maps it, or it is a file's still."""
    system, page = boot()
    frames = system.machine.frames
    frames.mapcount[page], frames.mapping[page] = mapcount, mapping
    with pytest.raises(rmaplab.KernelBug, match=f"bad_page: page {page} is freed with mapcount {mapcount}"):
        free(system, page)


@pytest.mark.parametrize(
    ("pfns", "zone"),
    [
        ([0], 0),
        ([15, 0], 0),
        ([16], 1),
        ([99, 16, 50], 1),
        ([100], 2),
        ([15, 16], -1),
        ([16, 15], -1),
        ([99, 100], -1),
        ([200], -1),
    ],
)
def test_whose_pages_they_all_are(pfns: list[int], zone: int) -> None:
    """|0 ... 16 ... 100 ... 200|: three zones; -1 where pages are of more than one, or of none."""
    assert zone_of_all(np.array([16, 100, 200]), np.array(pfns)) == zone
