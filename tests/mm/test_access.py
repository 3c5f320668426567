"""Instruction fetches: reads to the page tables, but for the NX bit, where format and kernel know it.

|--- rx ---|--- rw ---|          i386 of 2004 runs both; whoever knows NX faults the first page of rw in, and refuses
"""

from mmap import PROT_EXEC, PROT_READ, PROT_WRITE

import pytest

import rmaplab
from rmaplab.errors import SegmentationFault
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE
from rmaplab.units import PAGE_SIZE

OURS = [
    (kernel, paging)
    for kernel in ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "6.18")
    for paging in (("x86-64",) if kernel == "6.18" else ("i386", "i386-pae", "x86-64"))
]
ours = pytest.mark.parametrize(("kernel", "paging"), OURS)


def mapped(task: rmaplab.Task) -> list[int]:
    assert task.mm is not None
    addresses: list[int] = read_page_tables(task.kernel.machine, task.mm.pgd)[0].addresses.tolist()
    return addresses


@ours
def test_what_is_not_executable_runs_where_nothing_forbids_it(kernel: str, paging: str) -> None:
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    task = system.spawn()
    at = task.mmap(4 * PAGE_SIZE, PROT_READ | PROT_EXEC)
    task.mprotect(at + 2 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE)
    if paging != "x86-64":
        task.execute(at, 4 * PAGE_SIZE)
        assert mapped(task) == [at + i * PAGE_SIZE for i in range(4)]
    else:
        with pytest.raises(SegmentationFault, match=r"fetch from .* which is not executable") as fault:
            task.execute(at, 4 * PAGE_SIZE)
        assert fault.value.address == at + 2 * PAGE_SIZE
        assert mapped(task) == [at + i * PAGE_SIZE for i in range(3)], "the page is there, as after a read"
    system.check()


@ours
def test_a_hole_and_what_may_not_be_accessed_are_faults_as_ever(kernel: str, paging: str) -> None:
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    task = system.spawn()
    at = task.mmap(PAGE_SIZE, PROT_READ | PROT_EXEC)
    with pytest.raises(SegmentationFault) as fault:
        task.execute(at, 2 * PAGE_SIZE)
    assert fault.value.address == at + PAGE_SIZE
    task.mprotect(at, PAGE_SIZE, 0)
    with pytest.raises(SegmentationFault):
        task.execute(at)
    system.check()


def test_a_fetch_below_a_stack_makes_it_grow() -> None:
    """And then the stack may be run, or not."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    prot, flags = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN
    at = task.mmap(PAGE_SIZE, prot | PROT_EXEC, flags, 0x5000_0000)
    task.execute(at - 2 * PAGE_SIZE)
    other = task.mmap(PAGE_SIZE, prot, flags, 0x6000_0000)
    with pytest.raises(SegmentationFault, match="fetch"):
        task.execute(other - 2 * PAGE_SIZE)
    assert task.mm is not None
    assert [vma.start for vma in task.mm.vmas] == [at - 2 * PAGE_SIZE, other - 2 * PAGE_SIZE]
    system.check()
