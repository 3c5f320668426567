"""Tasks that wait for a disk: a read sleeps on its page, and others run; a truncate waits for a page that is being read; a sync for what is written."""

from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.errors import BusError, KernelBug
from rmaplab.objects.flags import MADV_WILLNEED, MAP_PRIVATE, MAP_SHARED
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7", "6.18")
kernels = pytest.mark.parametrize("kernel", KERNELS)
MS = 1_000_000
SEEK_MS, TURN_MS = 8.5, 60_000 / 7200
AWAY_NS = int((SEEK_MS + TURN_MS / 2) * MS)
"""The least that a first request takes."""


class Disk:
    """A system with one CPU, and a file of 64 pages on its disk, none of them in the cache. `log` says who did what, and when."""

    def __init__(self, kernel: str, cpus: int = 1, **box: int) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", cpus=cpus, **box)  # type: ignore[arg-type]
        self.file = self.system.new_file(b"".join(b"%08d" % i + bytes(PAGE_SIZE - 8) for i in range(64)))
        self.log: list[tuple[str, int]] = []
        self.counts = self.system.machine.ledger.counts

    @property
    def now_ns(self) -> int:
        return self.system.machine.sched.now_ns

    def tell(self, what: str) -> None:
        self.log.append((what, self.now_ns))

    def when(self, what: str) -> int:
        return dict(self.log)[what]

    def run(self, *programs: Callable[[rmaplab.Task], None]) -> None:
        """All of them, each in a task of its own; then everything is recounted."""
        for program in programs:
            self.system.spawn(lambda task, program=program: program(task))  # type: ignore[misc]
        self.system.run()
        self.system.machine.disk.settle()
        self.system.check()


@kernels
def test_one_sleeps_for_the_disk_and_the_other_runs(kernel: str) -> None:
    """One CPU: the worker begins when the reader sleeps, and is done long before the disk is."""
    disk = Disk(kernel)

    def reads(task: rmaplab.Task) -> None:
        fd = task.open(disk.file)
        disk.tell("asks")
        assert task.pread(fd, 8, 5 * PAGE_SIZE) == b"%08d" % 5
        disk.tell("has it")

    def works(task: rmaplab.Task) -> None:
        at = task.mmap(100 * PAGE_SIZE, 3)
        task.touch(at, 100 * PAGE_SIZE, write=True)
        disk.tell("works")

    disk.run(reads, works)
    assert [what for what, _ in disk.log] == ["asks", "works", "has it"]
    assert disk.when("works") - disk.when("asks") < 5 * MS
    assert AWAY_NS < disk.when("has it") - disk.when("asks") < AWAY_NS + 5 * MS


@kernels
@pytest.mark.parametrize("flags", [MAP_SHARED, MAP_PRIVATE])
def test_two_faults_of_one_page_read_it_once(kernel: str, flags: int) -> None:
    """The second one finds it locked, and waits."""
    disk = Disk(kernel, cpus=2)

    def touches(task: rmaplab.Task) -> None:
        at = task.mmap(64 * PAGE_SIZE, 3, flags, file=task.open(disk.file, writable=True))
        assert task.read(at + 40 * PAGE_SIZE, 8) == b"%08d" % 40
        disk.tell(f"task {task.pid}")

    disk.run(touches, touches)
    assert disk.counts["disk_request"] == 1
    assert min(when for _, when in disk.log) > AWAY_NS
    assert len({when // MS for _, when in disk.log}) == 1  # woken together


@kernels
def test_from_outside_the_clock_moves(kernel: str) -> None:
    """A page of the disk costs a seek, the next one of its window hardly anything; what lives in the cache, nothing; neither does a hole."""
    disk = Disk(kernel)
    task = disk.system.spawn()
    fd, began = task.open(disk.file), disk.now_ns
    task.pread(fd, 8, 0)
    first = disk.now_ns
    assert AWAY_NS < first - began < AWAY_NS + 5 * MS
    task.pread(fd, 8, 0)
    assert disk.now_ns - first < MS
    requests = disk.counts["disk_request"]
    for other in (disk.system.new_file(b"x", on_disk=False), disk.system.new_file(size=1 << 20)):
        before = disk.now_ns
        task.pread(task.open(other), 1 << 16, 0)
        assert disk.now_ns - before < MS
    assert disk.counts["disk_request"] == requests


@kernels
def test_a_disk_without_figures_takes_no_time(kernel: str) -> None:
    disk = Disk(kernel, disk_seek_us=0, disk_rpm=0, disk_kib_per_s=0)
    task = disk.system.spawn()
    assert task.pread(task.open(disk.file), 8, 63 * PAGE_SIZE) == b"%08d" % 63
    assert disk.now_ns < MS


@kernels
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_truncate_while_the_page_is_being_read(kernel: str, cpus: int) -> None:
    """It waits for the page. The fault then finds that its file was cut, and that is SIGBUS. 2.4 does not look, and maps the page of a file that has none.

    With two CPUs that page is still mapped when it leaves the cache; with one the task has ended by then. Who cuts has waited for another file's page, so that the fault's request is under way.
    """
    disk = Disk(kernel, cpus)
    other, outside = disk.system.new_file(b"x"), disk.system.spawn()
    at = outside.mmap(PAGE_SIZE, 1, MAP_SHARED, file=outside.open(other))
    outside.madvise(at, PAGE_SIZE, MADV_WILLNEED)

    def touches(task: rmaplab.Task) -> None:
        at = task.mmap(64 * PAGE_SIZE, 3, MAP_SHARED, file=task.open(disk.file, writable=True))
        disk.tell("asks")
        try:
            task.read(at + 40 * PAGE_SIZE)
        except BusError:
            disk.tell("SIGBUS")

    def cuts(task: rmaplab.Task) -> None:
        task.pread(task.open(other), 1, 0)
        disk.tell("cuts")
        task.ftruncate(task.open(disk.file, writable=True), 0)
        disk.tell("has cut")

    looks = kernel != "2.4.21"
    if not looks and cpus > 1:
        with pytest.raises(KernelBug, match="is mapped"):
            disk.run(touches, cuts)
        return
    disk.run(touches, cuts)
    assert [what for what, _ in disk.log][:2] == ["asks", "cuts"]
    assert {what for what, _ in disk.log[2:]} == {"has cut"} | ({"SIGBUS"} if looks else set())
    assert min(when for _, when in disk.log[2:]) > 2 * AWAY_NS
    assert not len(disk.file.pages)


@kernels
def test_a_read_whose_file_is_cut_meanwhile_ends_there(kernel: str) -> None:
    """Less than was asked for; whoever cuts waits for pages, of which there are none behind."""
    disk = Disk(kernel)
    got: list[bytes] = []
    disk.run(
        lambda task: got.append(task.pread(task.open(disk.file), 64 * PAGE_SIZE, 0)),
        lambda task: task.ftruncate(task.open(disk.file, writable=True), PAGE_SIZE),
    )
    assert got[0][:8] == b"%08d" % 0
    assert len(got[0]) < 64 * PAGE_SIZE
    assert set(disk.file.pages) <= {0}


@kernels
def test_a_sync_waits_for_what_is_written(kernel: str) -> None:
    """The second one has nothing to write, and waits for what the first one writes; a third finds all done."""
    disk = Disk(kernel)

    def first(task: rmaplab.Task) -> None:
        fd = task.open(disk.file, writable=True)
        task.pwrite(fd, b"y" * 4 * PAGE_SIZE, 8 * PAGE_SIZE)  # whole pages: nothing is read
        assert disk.counts["disk_request"] == 0
        disk.tell("syncs")
        task.fsync(fd)
        disk.tell("first")

    def second(task: rmaplab.Task) -> None:
        disk.tell("second asks")
        task.fsync(task.open(disk.file))
        disk.tell("second")
        task.fsync(task.open(disk.file))
        disk.tell("third")

    disk.run(first, second)
    assert (disk.counts["disk_request"], disk.counts["disk_write"]) == (1, 4)
    assert disk.when("second asks") - disk.when("syncs") < MS
    assert min(disk.when("first"), disk.when("second")) - disk.when("syncs") > AWAY_NS
    assert disk.when("third") - disk.when("second") < MS
    assert [disk.file.store[page][:1] for page in range(7, 13)] == [b"0", b"y", b"y", b"y", b"y", b"0"]


@kernels
def test_memory_alone_knows_no_disk(kernel: str) -> None:
    disk = Disk(kernel)
    task = disk.system.spawn()
    task.touch(task.mmap(64 * PAGE_SIZE, 3), 64 * PAGE_SIZE, write=True)
    task.fork().exit()
    task.wait()
    assert not [name for name in disk.counts if name.startswith("disk")]
    assert not disk.system.machine.disk.busy
