"""kbuild: so many compilers at once and no more, each with bytes that nobody else has; what comes back wrong is seen, of memory and of files.

jobs 2     |= 0 =|= 2 =|
           |= 1 ===|= 3 =|        at no time three
"""

import pytest

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System, boot
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads import kbuild
from rmaplab.workloads.kbuild import Compiler, Kbuild, file_bytes


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("LEAST_MEMORY", 64), ("MOST_MEMORY", 128), ("TEXT", 128), ("HEADERS", 128)):
        monkeypatch.setattr(kbuild, name, size)


def a_box() -> System:
    return boot("2.6.2", ram="64M", paging="i386", boot_use="8M", cpus=2)


def test_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more, and all of them; what they map and read is compared, and each has an object file in the cache."""
    system = a_box()
    alive, step = list[int](), Compiler.step

    def counted(compiler: Compiler, nr: int) -> bool:
        assert compiler.task.parent is not None
        alive.append(sum(child.exit_code is None for child in compiler.task.parent.children))
        return step(compiler, nr)

    monkeypatch.setattr(Compiler, "step", counted)
    workload = Kbuild(3, 5, 1)
    workload.run(system)
    assert max(alive) == 3
    assert (workload.damage, workload.failed, len(workload.ends_s)) == (None, None, 5)
    assert workload.verified_bytes == workload.written_bytes
    assert all(0.29 < seconds < 0.5 for seconds in workload.user_s)
    cached = [len(file.pages) for file in system.kernel.page_cache.files.values()]
    assert cached.count(kbuild.OBJECT) == 5
    system.check()


def test_each_compiler_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By seed and number: another size, other headers; the same again with the same seed."""
    sizes = dict[tuple[int, int], int]()
    step = Compiler.step

    def noted(compiler: Compiler, nr: int) -> bool:
        sizes[compiler.run.seed, compiler.nr] = compiler.each
        return step(compiler, nr)

    monkeypatch.setattr(Compiler, "step", noted)
    ends = [tuple(_ran(seed).ends_s) for seed in (1, 1, 2)]
    assert ends[0] == ends[1] != ends[2]
    assert len({sizes[1, nr] for nr in range(5)}) > 1
    assert all(64 // 16 <= each <= 128 // 16 for each in sizes.values())


def _ran(seed: int) -> Kbuild:
    workload = Kbuild(2, 5, seed)
    workload.run(a_box())
    return workload


@pytest.mark.parametrize("call", ["read", "pread"])
def test_what_comes_back_as_another_page_is_seen(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of memory and of text it is the address, of a file the place in it."""
    real = getattr(Task, call)

    def other(task: Task, *where: int) -> bytes:
        seen = bytes(real(task, *where))
        return seen[:PAGE_SIZE] + bytes(PAGE_SIZE) + seen[2 * PAGE_SIZE :] if task.pid == 3 else seen

    monkeypatch.setattr(Task, call, other)
    workload = _ran(1)
    assert workload.damage is not None
    assert (workload.damage.process, workload.damage.pid) == (1, 3)
    assert (workload.damage.address == PAGE_SIZE) == (call == "pread")
    assert workload.verified_bytes < workload.written_bytes


def test_no_two_files_have_the_same_pages() -> None:
    """Nor two pages of one."""
    pages = {file_bytes(kind, nr, first, 1) for kind in range(124, 128) for nr in range(3) for first in range(3)}
    assert len(pages) == 4 * 3 * 3


def test_what_is_refused() -> None:
    for jobs in (0, 201):
        with pytest.raises(UsageError, match="--jobs 8"):
            Kbuild(jobs, 1, 1)
    for compiles in (0, 10_001):
        with pytest.raises(UsageError, match="--compiles 40"):
            Kbuild(1, compiles, 1)
