"""A fault of one task against a truncate of another, in every order of their points with three changes of turn.

    in time       the access is done, then the page is cut off
    too late      SIGBUS
    2.4 alone     the fault has found its page before the cut and maps it behind it: the page leaves the cache mapped (KernelBug here, a page
                  that is nobody's there), or a private copy stays beyond the file's end

Source: 2.6.2 mm/memory.c, do_no_page: truncate_count; 6.18 mm/filemap.c, filemap_fault; mm/truncate.c, truncate_cleanup_folio; files.md C1, D1.
"""

import pytest

import rmaplab
from rmaplab.errors import BusError, KernelBug
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.conformance.interleave import Together, orders
from rmaplab.mm import filemap, truncate
from rmaplab.objects.flags import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

AT = 0x5000_0000
LAST = AT + 3 * PAGE_SIZE
RW = PROT_READ | PROT_WRITE
IN_TIME, LATE, LOST, KEPT = "in time", "too late", "mapped, and in no file", "a copy behind the end"
KERNELS = {"2.4.21": 3, "2.6.2": 3, "2.6.5-rc1-aa1": 3, "6.18": 4}
"""How many points one goes on for at most; 6.18 has more of them."""


def race(kernel: str, flags: int, *, write: bool, mapped: bool, turns: tuple[int, ...]) -> str:
    """One order: what came of it. `mapped`: the task has the page already, read-only, and its write is a COW fault."""
    system = rmaplab.boot(kernel, ram="64M", readahead_kib=0)
    cutter, task = system.spawn(), system.spawn()
    space = system.new_file(b"page".ljust(PAGE_SIZE, b"\0") * 4)
    opened = cutter.open(space, writable=True)
    task.mmap(4 * PAGE_SIZE, RW, flags | MAP_FIXED, AT, file=task.open(space, writable=True))
    task.read(LAST if mapped else AT)  # before the cache has them all: nothing comes around it
    cutter.pread(opened, 4 * PAGE_SIZE, 0)
    ends: list[str] = []

    def access() -> None:
        try:
            if write:
                task.write(LAST, b"mine")
            else:
                assert task.read(LAST, 4) == b"page"
            ends.append(IN_TIME)
        except BusError:
            ends.append(LATE)

    try:
        Together(system, [access, lambda: cutter.ftruncate(opened, 2 * PAGE_SIZE)], turns).run()
        system.check()
    except KernelBug as bug:
        assert bug.where in ("remove_from_page_cache", "pte")
        return LOST
    try:
        task.read(LAST)
    except BusError:
        system.check()
        return ends[0]
    return KEPT


@pytest.mark.parametrize(
    ("flags", "write", "mapped"),
    [(MAP_SHARED, False, False), (MAP_PRIVATE, True, False), (MAP_PRIVATE, True, True)],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_who_loses(kernel: str, flags: int, write: bool, mapped: bool) -> None:
    found = {race(kernel, flags, write=write, mapped=mapped, turns=turns) for turns in orders(3, KERNELS[kernel])}
    assert LATE in found
    loses = set() if mapped or kernel != "2.4.21" else {LOST if flags == MAP_SHARED else KEPT}
    assert found - {IN_TIME, LATE} == loses


@pytest.mark.parametrize("kernel", ["2.6.2", "6.18"])
def test_what_closes_the_race(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it some order loses, as in 2.4."""
    monkeypatch.setattr(filemap, "_is_still", lambda _k, file, index, page, _sequence: file.pages.get(index) == page)
    unmap = truncate.unmap_mapping_range
    if find_kernel(kernel).figure("fault_locks_page", 8):
        monkeypatch.setattr(
            truncate,
            "unmap_mapping_range",
            lambda k, *range_, copies: None if k.machine.locks.held() else unmap(k, *range_, copies=copies),
        )
    assert LOST in {
        race(kernel, MAP_SHARED, write=True, mapped=False, turns=turns) for turns in orders(3, KERNELS[kernel])
    }


def test_orders() -> None:
    assert list(orders(0, 5)) == [()]
    assert list(orders(2, 1)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len(list(orders(3, 4))) == 125


def test_two_that_wait_for_each_other() -> None:
    """Each has a lock that the other wants: that is an error, and no endless loop."""
    system = rmaplab.boot("2.6.2", ram="64M")
    locks = system.machine.locks
    one, other = locks.new("mmap_sem", "one"), locks.new("mmap_sem", "other")
    one.type.nests = True

    def takes(first: object, second: object) -> None:
        locks.take(first)  # type: ignore[arg-type]
        locks.take(second)  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match="wait for each other"):
        Together(system, [lambda: takes(one, other), lambda: takes(other, one)], (1, 1)).run()
