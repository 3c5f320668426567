"""A segment and its users: who maps which page of it, and by how many VMAs."""

import errno

import pytest

import rmaplab
from rmaplab.errors import SyscallError, UsageError
from rmaplab.kernels.system import System
from rmaplab.workloads.sga import BASE, SEGMENT, WINDOW, How, Sga, largest

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1")
WINDOWS = 5
SIZE = WINDOWS * WINDOW
PAGES = WINDOW // 4096  # in a window
kernels = pytest.mark.parametrize("kernel", KERNELS)


def system_of(kernel: str) -> System:
    return rmaplab.boot(kernel, ram="64M", paging="i386-pae")


@kernels
@pytest.mark.parametrize("how", How)
def test_every_user_has_all_of_it(kernel: str, how: How) -> None:
    """Each page of the segment is mapped by all users and nobody else, at the place of its block; what one writes all read.

    place    0     1     2     3     4
    block    0     1     2     3     4        whole, in order
    block    4     3     2     1     0        backwards, by remap_file_pages
    """
    system = system_of(kernel)
    sga = Sga(system, SIZE, how)
    if how is How.REMAPPED and kernel == "2.4.21":
        with pytest.raises(SyscallError) as failure:
            sga.attach()
        assert failure.value.errno == errno.ENOSYS
        return
    users = [sga.attach() for _ in range(3)]
    turned = how in (How.BACKWARDS, How.REMAPPED)
    for page in range(WINDOWS * PAGES):
        block, within = divmod(page, PAGES)
        at = BASE + ((WINDOWS - 1 - block if turned else block) * PAGES + within) * 4096
        pfn = sga.file.pages[page]
        for user in users:
            entry = system.machine.entry_of(user.mm.pgd if user.mm else 0, at, pfn)
            assert entry >= 0, f"user {user.pid} does not map page {page}"
        assert system.machine.frames.mapcount[pfn] == 3
        users[page % 3].write(at, bytes([page]))
        assert [user.read(at, 1) for user in users] == [bytes([page])] * 3
    if how is not How.REMAPPED or system.kernel.design.covers_files:  # who finds nonlinear pages is told elsewhere
        system.check()


@pytest.mark.parametrize(
    ("kernel", "vmas"),
    [("2.4.21", (1, 5, 5)), ("2.6.2", (1, 1, 5)), ("2.6.5-rc1+00100", (1, 1, 5)), ("2.6.5-rc1-aa1", (1, 1, 5))],
)
def test_who_merges_windows(kernel: str, vmas: tuple[int, ...]) -> None:
    """files.md B4: 2.4 merges no file's VMAs; the others do where they go on where the neighbour ends."""
    for how, nr in zip((How.WHOLE, How.IN_ORDER, How.BACKWARDS), vmas, strict=True):
        user = Sga(system_of(kernel), SIZE, how).attach()
        assert user.mm is not None
        assert user.mm.map_count == nr, how


@pytest.mark.parametrize("kernel", KERNELS[1:])
def test_remap_file_pages_takes_one_vma(kernel: str) -> None:
    """files.md H: instead of a VMA for each window."""
    user = Sga(system_of(kernel), SIZE, How.REMAPPED).attach()
    assert user.mm is not None
    assert user.mm.map_count == 1


@kernels
def test_a_user_forks_nothing_of_it(kernel: str) -> None:
    """Users attach after fork: the process that forks them maps nothing."""
    sga = Sga(system_of(kernel), SIZE)
    sga.attach()
    assert sga.listener.mm is not None
    assert (sga.listener.mm.map_count, sga.listener.mm.rss) == (0, 0)


@pytest.mark.parametrize(("split", "gib"), [("3:1", 2.7), ("2:2", 1.7), ("4:4", 3.684)])
def test_the_largest_is_what_the_mails_say(split: str, gib: float) -> None:
    """2.7 GiB of 3, 1.7 of 2 (<20040227211548.GI8834@dualathlon.random>); with 4:4 "up to 3.9", of which a stack and what lies below is ours."""
    system = rmaplab.boot("2.6.2", ram="64M", paging="i386-pae", split=split)
    assert largest(system) / (1 << 30) == pytest.approx(gib, abs=0.001)
    with pytest.raises(UsageError, match="--segment"):
        Sga(system, largest(system) + 1)


def test_its_pages_are_as_many_as_in_the_mails() -> None:
    """files.md H."""
    assert Sga(rmaplab.boot("2.6.2", ram="8G", paging="i386-pae", shmmax=SEGMENT), SEGMENT).nr_pages == 707_789
