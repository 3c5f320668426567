"""mremap of 2.6.7: the new VMA is there first; what is charged stays charged once. Source: history.md 4.4; eras.md 6.1."""

import pytest

import rmaplab
from rmaplab.errors import SyscallError
from rmaplab.machine.locks import Point
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import MREMAP_FIXED, MREMAP_MAYMOVE, VM_ACCOUNT
from rmaplab.units import PAGE_SIZE

FROM, TO = 0x5000_0000, 0x6000_0000
MOVE = MREMAP_MAYMOVE | MREMAP_FIXED
KERNELS = ("2.6.5-rc3-aa3", "2.6.7")
kernels = pytest.mark.parametrize("kernel", KERNELS)


def boot(kernel: str, **box: int) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", **box)  # type: ignore[arg-type]
    return system, system.spawn()


@kernels
def test_pages_are_found_on_their_way(kernel: str) -> None:
    """At every lock that a move takes each page is mapped where a VMA is; before 2.6.6 there is a time when it is not (e01346d8e9)."""
    system, task = boot(kernel)
    task.mmap(4 * PAGE_SIZE, address=FROM)
    task.touch(FROM, 4 * PAGE_SIZE, write=True)
    mm = task.mm
    assert mm is not None
    orphans = set[int]()

    def look(point: Point) -> None:
        del point
        for address in range(TO, TO + 4 * PAGE_SIZE, PAGE_SIZE):
            if lookup(*system.machine.geometry, mm.pgd, address)[0] and not mm.overlapping(
                address, address + PAGE_SIZE
            ):
                orphans.add(address)

    system.watch(look)
    task.mremap(FROM, 4 * PAGE_SIZE, 4 * PAGE_SIZE, MOVE, TO)
    system.watch(None)
    assert bool(orphans) == (kernel != "2.6.7")
    system.check()


@pytest.mark.parametrize("kernel", ["2.6.2", *KERNELS])
def test_a_length_of_nothing(kernel: str) -> None:
    """A private twin, empty. In 2.6.7 the final munmap of nothing fails, and the source stays without VM_ACCOUNT and uncharged."""
    system, task = boot(kernel)
    task.mmap(4 * PAGE_SIZE, address=FROM)
    task.write(FROM, b"source")
    before = system.kernel.committed_pages
    assert task.mremap(FROM, 0, 2 * PAGE_SIZE, MOVE, TO) == TO
    assert task.mm is not None
    source, twin = task.mm.vmas
    assert (source.end - source.start, twin.end - twin.start) == (4 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert (task.read(FROM, 6), task.read(TO, 6)) == (b"source", bytes(6))
    assert bool(source.flags & VM_ACCOUNT) == (kernel != "2.6.7")
    assert twin.flags & VM_ACCOUNT
    assert system.kernel.committed_pages - before == (2 - 4 if kernel == "2.6.7" else 2)
    system.check()
    task.exit()
    system.check()


def test_three_mappings_to_spare() -> None:
    """The limit can be set since 2.6.5 (8990e381c8); a move leaves room for three more, though it may need none."""
    with pytest.raises(rmaplab.UsageError, match="max_map_count"):
        boot("2.6.5-rc3-aa3", max_map_count=8)
    system, task = boot("2.6.7", max_map_count=5)
    for address in (FROM, TO):
        task.mmap(PAGE_SIZE, address=address)
        if address == FROM:
            task.mremap(FROM, PAGE_SIZE, PAGE_SIZE, MOVE, FROM + PAGE_SIZE)
    with pytest.raises(SyscallError, match=r"too many mappings: 2, .* 5; a move needs 3 to spare"):
        task.mremap(TO, PAGE_SIZE, PAGE_SIZE, MOVE, TO + PAGE_SIZE)
    system.check()


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_part_moves_with_its_charge(first: int) -> None:
    """VM_ACCOUNT is on every piece again, and as much is committed as before."""
    system, task = boot("2.6.7")
    task.mmap(4 * PAGE_SIZE, address=FROM)
    task.touch(FROM, 4 * PAGE_SIZE, write=True)
    before = system.kernel.committed_pages
    task.mremap(FROM + first * PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE, MOVE, TO)
    assert task.mm is not None
    assert len(task.mm.vmas) == 2 + (first == 1)
    assert all(vma.flags & VM_ACCOUNT for vma in task.mm.vmas)
    assert system.kernel.committed_pages == before
    system.check()
