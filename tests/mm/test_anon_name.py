"""Names of anonymous VMAs. No host at hand has CONFIG_ANON_VMA_NAME, so that these are Linux's words and not its answers."""

import errno

import pytest

import rmaplab
from rmaplab.lab.differential.obey import obey
from rmaplab.objects.flags import MREMAP_FIXED, MREMAP_MAYMOVE
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.script import parse

P = PAGE_SIZE


def names(task: rmaplab.Task) -> list[tuple[int, str | None]]:
    """Pages and name of each VMA."""
    assert task.mm is not None
    return [(vma.nr_pages, vma.traits.name) for vma in task.mm.vmas]


def test_names_part_and_join() -> None:
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    at = task.mmap(6 * P)
    task.set_vma_name(at + P, 2 * P, "arena")
    assert names(task) == [(1, None), (2, "arena"), (3, None)]
    task.set_vma_name(at + 3 * P, P, "arena")
    assert names(task) == [(1, None), (3, "arena"), (2, None)]
    child = task.fork()
    assert names(child) == names(task)
    child.mremap(at + P, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, at + 8 * P)
    assert names(child)[-1] == (1, "arena")
    task.set_vma_name(at, 6 * P, None)
    assert names(task) == [(6, None)]
    task.mmap(P)
    system.check()


@pytest.mark.parametrize("name", ["x" * 80, "a[b]", "a$b", "tab\t"])
def test_names_that_there_are_not(name: str) -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    at = task.mmap(2 * P)
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.set_vma_name(at, P, name)
    assert refused.value.errno == errno.EINVAL
    assert names(task) == [(2, None)]


def test_a_hole_does_not_stop_it() -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    at = task.mmap(3 * P)
    task.munmap(at + P, P)
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.set_vma_name(at, 3 * P, "a")
    assert refused.value.errno == errno.ENOMEM
    assert names(task) == [(1, "a"), (1, "a")]


def test_scripts_say_it() -> None:
    record = obey(parse("A: mmap w+0 4 rw\nA: name w+1 1 heap\nA: mmap w+4 1 rw\nA: name w+1 1 -"), "6.18")
    assert record.results == ["w+0", "ok", "w+4", "ok"]
    assert [len(world["A"].vmas) for world in record.worlds] == [1, 3, 3, 1]


def test_in_2004_prctl_does_not_know() -> None:
    task = rmaplab.boot("2.6.2", ram="64M").spawn()
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.set_vma_name(task.mmap(P), P, "a")
    assert refused.value.errno == errno.EINVAL
