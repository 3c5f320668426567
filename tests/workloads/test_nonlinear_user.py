"""nonlinear-user: which page of the file lies where in its window, and that what comes back as another is seen.

in order   |0 1|2 3|4 5|6 7|        remapped   |6 7|4 5|2 3|0 1|      in blocks
"""

import pytest

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System, boot
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE
from rmaplab.workloads.nonlinear_user import BLOCK, NonlinearUser

MB = 1 << 20


def a_box() -> System:
    return boot("2.6.2", ram="64M", paging="i386", boot_use="8M", cpus=2)


@pytest.mark.parametrize("remapped", [False, True])
def test_what_the_window_shows(remapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mapping, all of the file, no page at its place if it is remapped; everything is read twice, and right."""
    shown: list[tuple[int, int]] = []
    read = Task.read

    def noted(task: Task, address: int, length: int = 1) -> bytes:
        seen = read(task, address, length)
        assert task.mm is not None
        vma = task.mm.find_vma(address)
        if vma is not None and vma.file is not None:
            (pfn,) = {
                pfn
                for pfn in vma.file.mapping.pages.values()
                if task.kernel.machine.ram.bytes[pfn].tobytes() == seen[:PAGE_SIZE]
            }
            shown.append(((address - vma.start) >> PAGE_SHIFT, int(task.kernel.machine.frames.index[pfn])))
            assert vma.end - vma.start == 2 * MB
        return seen

    monkeypatch.setattr(Task, "read", noted)
    system, workload = a_box(), NonlinearUser(2 * MB, remapped=remapped)
    workload.run(system)
    last = (2 * MB >> PAGE_SHIFT) // BLOCK - 1
    assert all(index // BLOCK == (last - place // BLOCK if remapped else place // BLOCK) for place, index in shown)
    assert [place for place, _ in shown] == [*range(0, 512, BLOCK), *range(0, 512, BLOCK)[::-1]]
    assert (workload.passes, workload.most_mapped) == (2, 512)
    assert workload.verified_bytes == workload.written_bytes == 4 * MB + MB // 4
    assert workload.rounds_s
    system.check()


@pytest.mark.parametrize("pid", [1, 2])
def test_what_comes_back_as_another_page_is_seen(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the user and by the bystander."""
    read = Task.read

    def other(task: Task, address: int, length: int = 1) -> bytes:
        seen = read(task, address, length)
        return seen[:PAGE_SIZE] + bytes(PAGE_SIZE) + seen[2 * PAGE_SIZE :] if task.pid == pid else seen

    monkeypatch.setattr(Task, "read", other)
    workload = NonlinearUser(2 * MB, remapped=True)
    workload.run(a_box())
    assert workload.damage is not None
    assert workload.damage.pid == pid
    assert workload.verified_bytes < workload.written_bytes


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="give 2 MiB or more"):
        NonlinearUser(2 * MB - 1, remapped=True)
