"""qsbench sorts: its numbers are a permutation, each pass parts them, and at last each lies where it says.

before   |3 7 1 6 ... 2 9 4 5|      numbers 0 to n - 1, shuffled
after    |0 1 2 3 ...     n - 1|    and a page that was exchanged meanwhile shows
"""

from itertools import pairwise

import numpy as np
import pytest

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System, boot
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads import qsbench
from rmaplab.workloads.qsbench import INT, LEAST, PASS_PS, Qsbench, passes, shuffled, usual_array

MB = 1 << 20


def a_box() -> System:
    return boot("2.6.2", ram="64M", paging="i386", boot_use="8M", cpus=2)


@pytest.mark.parametrize("nr", [2, 5, 4096, 4097, 100_003])
@pytest.mark.parametrize("seed", [0, 1, 1 << 70])
def test_the_numbers_are_a_permutation(nr: int, seed: int) -> None:
    """However they are cut into pieces; another seed shuffles another way."""
    whole = shuffled(0, nr, nr, seed)
    assert np.array_equal(np.sort(whole), np.arange(nr))
    cuts = sorted({0, nr // 3, nr // 2, nr})
    pieces = [shuffled(first, stop, nr, seed) for first, stop in pairwise(cuts)]
    assert np.array_equal(np.concatenate(pieces), whole)
    if nr > 1000:
        assert (shuffled(0, nr, nr, seed + 1) == whole).mean() < 0.01
        assert abs(np.corrcoef(whole, np.arange(nr))[0, 1]) < 0.1


def test_it_sorts_and_says_what_it_took() -> None:
    """Several passes over all pages by each process, every byte compared, and a user time that is its passes'."""
    system = a_box()
    workload = Qsbench(3 * MB + 4, 2, 1)
    workload.run(system)
    nr = (3 * MB + 4) // INT
    assert (workload.damage, workload.failed) == (None, None)
    assert workload.verified_bytes == workload.written_bytes == 2 * nr * INT
    assert len(workload.ends_s) == len(workload.user_s) == 2
    assert workload.ends_s == sorted(workload.ends_s)
    expected = nr * passes(nr) * PASS_PS / 1e12
    assert all(0.8 * expected < seconds < 1.3 * expected for seconds in workload.user_s)
    system.check()


def test_a_pass_parts_at_its_pivot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the length, to the last number: below it, and not below it; blocks of eight here."""
    monkeypatch.setattr(qsbench, "BLOCK", 8 * INT)
    task = a_box().spawn()
    array = qsbench._Array(task, task.mmap(MB))
    for nr in (3, 15, 16, 17, 24, 100, 257):
        numbers = shuffled(0, nr, nr, nr)
        array.write(1, numbers)
        middle = array._part(1, 1 + nr) - 1
        after = array.read(1, 1 + nr)
        pivot = sorted(int(numbers[at]) for at in (0, (nr + 2) // 2 - 1, nr - 1))[1]
        assert middle == pivot
        assert (after[:middle] < pivot).all()
        assert (after[middle:] >= pivot).all()
        assert np.array_equal(np.sort(after), np.arange(nr))


@pytest.mark.parametrize("when", [0, 5, 60])
def test_a_page_that_comes_back_as_another_is_seen(when: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, at any time, in one process: it goes on to the end, and says so."""
    read, reads = Task.read, list[int]()

    def other(task: Task, address: int, length: int = 1) -> bytes:
        seen = read(task, address, length)
        if task.pid == 3 and length > PAGE_SIZE:
            reads.append(length)
            if len(reads) == when + 1:
                return bytes(PAGE_SIZE) + seen[PAGE_SIZE:]
        return seen

    monkeypatch.setattr(Task, "read", other)
    workload = Qsbench(2 * MB, 2, 1)
    workload.run(a_box())
    assert workload.damage is not None
    assert (workload.damage.process, workload.damage.pid) == (1, 3)
    assert 2 * MB <= workload.verified_bytes < workload.written_bytes
    assert len(workload.ends_s) == 2


def test_what_is_refused_and_what_is_usual() -> None:
    assert usual_array(256 * MB, 1) == 350 * MB
    assert usual_array(64 * MB, 4) * 4 <= 64 * MB * 350 // 256
    for size in (LEAST - 1, 2 << 30):
        with pytest.raises(UsageError, match="--array 88M"):
            Qsbench(size, 1, 1)
    for processes in (0, 1025):
        with pytest.raises(UsageError, match="--processes 4"):
            Qsbench(LEAST, processes, 1)
