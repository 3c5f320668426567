"""Every page of swapload says who wrote it, where and how often, and together they are as many as were asked for.

inherited   |0 1 2 3 0 0 0 0 | 0 1 2 3 ...      who has written a page last: child i page i of each eight
own         |i i i i ...
"""

import numpy as np
import pytest

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import boot
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.swapload import LEAST, Swapload, contents, usual_load

MB = 1 << 20


def test_no_two_pages_have_the_same_bytes() -> None:
    """Nor has the same page after another turn, or by another process."""
    pages = np.arange(0x40000, 0x40100)
    made = {
        contents(np.array([writer]), np.array([page]), np.array([turn]))
        for writer in range(4)
        for page in pages
        for turn in (1, 2)
    }
    assert len(made) == 4 * 2 * pages.size
    assert {len(each) for each in made} == {PAGE_SIZE}


@pytest.mark.parametrize("forks", [True, False])
@pytest.mark.parametrize("nr", [LEAST, 1000, 1003])
def test_as_many_different_pages_as_were_asked_for(nr: int, forks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is room for all of them: so many pages are in use when all processes have compared theirs."""
    system = boot("2.6.2", ram="64M", paging="i386", boot_use="8M")
    workload = Swapload(nr * PAGE_SIZE, 1, forks=forks)
    used: list[int] = []
    monkeypatch.setattr(
        Task, "wait", lambda task: task.children.remove(next(iter(task.children)))
    )  # and nobody has ended
    monkeypatch.setattr(Task, "exit", lambda task, _: used.append(int((task.kernel.machine.frames.mapcount > 0).sum())))
    workload.run(system)
    assert nr <= used[-1] <= nr * (1 + forks / 64)  # writes at random copy some more
    assert workload.verified_bytes == workload.written_bytes
    assert workload.damage is None
    assert workload.failed is None


def test_what_comes_back_as_another_page_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page, its process and its pid; the others go on."""
    system = boot("2.6.2", ram="64M", paging="i386", boot_use="8M")
    workload, read = Swapload(LEAST * PAGE_SIZE, 1), Task.read

    def other(task: Task, address: int, length: int = 1) -> bytes:
        seen = read(task, address, length)
        if task.pid != 3 or length <= 5 * PAGE_SIZE:
            return seen
        return seen[: 3 * PAGE_SIZE + 7] + bytes([seen[3 * PAGE_SIZE + 7] ^ 1]) + seen[3 * PAGE_SIZE + 8 :]

    monkeypatch.setattr(Task, "read", other)
    workload.run(system)
    assert workload.damage is not None
    assert (workload.damage.process, workload.damage.pid, workload.damage.address >> 12 & 0xFF) == (2, 3, 3)
    assert 0 < workload.verified_bytes < workload.written_bytes
    assert "process 2 (pid 3) has other bytes at page 0x40003" in str(workload.damage)


def test_how_much_more_than_ram() -> None:
    assert (usual_load(1 << 30), usual_load(512 * MB), usual_load(64 * MB)) == (500 * MB, 500 * MB, 32 * MB)
    with pytest.raises(UsageError, match="larger --load"):
        Swapload((LEAST - 1) * PAGE_SIZE, 1)


@pytest.mark.parametrize("forks", [True, False])
def test_a_quarter_lies_in_files(forks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five, a fifth each: own ones are dirty in their first half, the common one is clean, and all of them are compared twice."""
    system = boot("2.6.2", ram="64M", paging="i386", boot_use="8M")
    nr = 2000
    workload = Swapload(nr * PAGE_SIZE, 1, forks=forks, files=True)
    each = nr // 4 // 5
    monkeypatch.setattr(Task, "wait", lambda task: task.children.remove(next(iter(task.children))))
    monkeypatch.setattr(Task, "exit", lambda _, __: None)  # so that all is still there
    workload.run(system)
    frames = system.machine.frames
    spaces = [space for space in system.kernel.page_cache.files.values() if space.nr_pages == each]
    assert [len(space.pages) for space in spaces] == [each] * 5
    as_made = [workload._in_file(0, i).bytes(0, each) for i in range(5)]
    now = [b"".join(system.machine.ram.bytes[space.pages[i]].tobytes() for i in range(each)) for space in spaces]
    half = each // 2 * PAGE_SIZE
    for i in range(4):
        assert all(now[i][at : at + PAGE_SIZE] != as_made[i][at : at + PAGE_SIZE] for at in range(0, half, PAGE_SIZE))
        kept = sum(
            now[i][at : at + PAGE_SIZE] == as_made[i][at : at + PAGE_SIZE]
            for at in range(half, each * PAGE_SIZE, PAGE_SIZE)
        )
        assert kept > each // 2 * 0.9
    assert now[4] == as_made[4]
    assert workload.verified_bytes == workload.written_bytes
    assert workload.damage is None
    assert int((frames.mapcount > 0).sum()) <= nr * (1 + forks / 64)
    monkeypatch.undo()
    system.check()


@pytest.mark.parametrize("call", ["read", "pread"])
def test_other_bytes_of_a_file_are_seen(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapped, or read."""
    real = getattr(Task, call)

    def other(task: Task, *where: int) -> bytes:
        seen = bytes(real(task, *where))
        assert task.mm is not None
        vma = task.mm.find_vma(where[0])
        last = call == "pread" or (vma is not None and vma.file is not None)
        return seen[:-1] + bytes([seen[-1] ^ 1]) if last and task.pid == 2 else seen

    monkeypatch.setattr(Task, call, other)
    workload = Swapload(2000 * PAGE_SIZE, 1, files=True)
    workload.run(boot("2.6.2", ram="64M", paging="i386", boot_use="8M"))
    assert workload.damage is not None
    assert workload.damage.pid == 2
    assert workload.verified_bytes < workload.written_bytes
