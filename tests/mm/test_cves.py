"""What kernels of 2003 and 2004 let a program do that they should not have: each has its hole, its successor has not.

brk             2.4.22 and before: the heap grows into the kernel's addresses                    CVE-2003-0961
mremap          2.4.23 and before: MREMAP_FIXED to length 0 makes a mapping of no length         CVE-2003-0985
                2.4.24, 2.6.2 and before: goes on though munmap could not split                  CVE-2004-0077
"""

import pytest

import rmaplab
from rmaplab.errors import NotModelled
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ
from rmaplab.units import PAGE_SIZE

TO = MREMAP_MAYMOVE | MREMAP_FIXED
KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"]


def full(kernel: str) -> tuple[rmaplab.System, rmaplab.Task, int]:
    """[s s s s] [d d d d], and no VMA more to be had: what must split cannot."""
    system = rmaplab.boot(kernel, ram="64M", overcommit=1)
    task = system.spawn()
    at = task.mmap(4 * PAGE_SIZE, address=0x5000_0000)
    task.mmap(4 * PAGE_SIZE, address=0x5001_0000)
    task.write(at, b"moved")
    assert task.mm is not None
    i = 0
    while task.mm.map_count < system.kernel.rules.max_map_count:
        task.mmap(PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0x5010_0000 + 2 * PAGE_SIZE * i)
        i += 1
    return system, task, at


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_heap_in_the_kernels_addresses(kernel: str) -> None:
    system = rmaplab.boot(kernel, ram="64M", overcommit=1)
    task = system.spawn()
    end = system.machine.paging.task_size
    if kernel == "2.4.21":
        assert task.brk(end + PAGE_SIZE) == end + PAGE_SIZE
        task.write(end - 1, b"x")
        with pytest.raises(NotModelled, match="the kernel's own addresses"):
            task.write(end, b"x")
    else:
        with pytest.raises(rmaplab.SyscallError, match="brk"):
            task.brk(end + PAGE_SIZE)
    system.check()
    task.exit()
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mapping_of_no_length(kernel: str) -> None:
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    at = task.mmap(PAGE_SIZE)
    with pytest.raises(NotModelled if kernel == "2.4.21" else rmaplab.SyscallError):
        task.mremap(at, PAGE_SIZE, 0, TO, at + 64 * PAGE_SIZE)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_destination_that_cannot_be_cleared(kernel: str) -> None:
    _, task, at = full(kernel)
    holed = kernel != "2.6.5-rc1-aa1"
    with pytest.raises(NotModelled if holed else rmaplab.SyscallError) as error:
        task.mremap(at, 4 * PAGE_SIZE, PAGE_SIZE, TO, 0x5001_0000 + PAGE_SIZE)
    assert ("CVE-2004-0077" if holed else "too many mappings") in str(error.value)
    assert task.read(at, 5) == b"moved"


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_cannot_be_cut_off_stays(kernel: str) -> None:
    """A shrink in the middle of a mapping."""
    _, task, at = full(kernel)
    assert task.mm is not None
    before = task.mm.total_vm
    if kernel == "2.6.5-rc1-aa1":
        with pytest.raises(rmaplab.SyscallError, match="mremap"):
            task.mremap(at, 3 * PAGE_SIZE, PAGE_SIZE, 0)
    else:
        assert task.mremap(at, 3 * PAGE_SIZE, PAGE_SIZE, 0) == at
    assert task.mm.total_vm == before
