"""Which pages of a file on a disk are in the cache after reads and faults, worked out by hand from each era's rules (mm/readahead_*.py say them).

6.18's sets are beside the host's in test_readahead_on_host.py; here are only those that these patterns do not reach.
"""

import pytest

import rmaplab
from rmaplab.errors import BusError, SyscallError
from rmaplab.objects.flags import MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MAP_SHARED
from rmaplab.units import PAGE_SIZE

from .readahead_patterns import Runs, changes, runs
from .test_disk_errors import Failing

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1-aa1", "2.6.7", "6.18")


class Ahead:
    """A task with a file of so many pages, all of it written, open and mapped; `advice` for the mapping, of pages [first, first + nr)."""

    def __init__(
        self,
        kernel: str,
        pages: int = 200,
        *,
        advice: int = 0,
        on_disk: bool = True,
        first: int = 0,
        nr: int = 0,
        kib: int = 128,
    ) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", readahead_kib=kib)
        self.task, self.pages = self.system.spawn(), pages
        self.file = self.system.new_file(b"x" * pages * PAGE_SIZE, on_disk=on_disk)
        self.fd = self.task.open(self.file, writable=True)
        nr = nr or pages
        self.first, self.at = first, self.task.mmap(nr * PAGE_SIZE, 3, MAP_SHARED, file=self.fd, pgoff=first)
        self.task.madvise(self.at, nr * PAGE_SIZE, advice)

    @property
    def cached(self) -> Runs:
        """When all that is under way has arrived."""
        self.system.machine.disk.settle()
        return runs([index in self.file.pages for index in range(self.pages)])

    def read(self, *pages: int) -> list[tuple[int, Runs]]:
        """Each by a read of its own."""
        return self.each("read", *pages)

    def load(self, *pages: int) -> list[tuple[int, Runs]]:
        return self.each("load", *pages)

    def each(self, what: str, *pages: int) -> list[tuple[int, Runs]]:
        seen: list[Runs] = []
        for page in pages:
            if what == "read":
                assert self.task.pread(self.fd, PAGE_SIZE, page * PAGE_SIZE) == b"x" * PAGE_SIZE
            else:
                self.task.touch(self.at + (page - self.first) * PAGE_SIZE, 1, write=what == "store")
            seen.append(self.cached)
        self.system.check()
        return changes(seen)


def to(*ends: tuple[int, int]) -> list[tuple[int, Runs]]:
    """(step, how far the file is in the cache from then on), of what is read from its beginning."""
    return [(step, [[0, end]]) for step, end in ends]


SEQUENTIAL = {
    # 3 behind the first page, then 7 behind those, then 13, 25 and no more than 32: each when the last attempt's first page is read
    "2.4.21": to((0, 4), (1, 11), (4, 24), (11, 49), (24, 81), (49, 113)),
    # 16; the window ahead is 2 longer for each page read so far, 32 at most, and comes with the second page of the one before it
    "2.6.2": to((0, 16), (1, 34), (17, 66), (35, 98)),
    # with the last page, until 50 pages in a row, and 16 that were expected, average more than 32
    "2.6.5-rc1": to((0, 16), (15, 48), (47, 80), (49, 112)),
    "2.6.5-rc1-aa1": to((0, 16), (15, 48), (47, 80), (49, 112)),
    # no window ahead until then; each window as long as what was expected
    "2.6.7": to((0, 16), (16, 32), (32, 48), (48, 64), (49, 82)),
}


@pytest.mark.parametrize("kernel", SEQUENTIAL)
def test_one_page_after_the_other(kernel: str) -> None:
    assert Ahead(kernel).read(*range(60)) == SEQUENTIAL[kernel]


@pytest.mark.parametrize("kernel", [kernel for kernel in SEQUENTIAL if kernel != "2.4.21"])
def test_madv_sequential_is_as_read(kernel: str) -> None:
    assert Ahead(kernel, advice=MADV_SEQUENTIAL).load(*range(60)) == SEQUENTIAL[kernel]


def test_madv_sequential_of_2_4() -> None:
    """Blocks of 8, and in the middle of a window of 32 the next one."""
    expected: list[tuple[int, Runs]] = [
        (0, [[0, 8]]), (8, [[0, 16]]), (16, [[0, 24], [32, 64]]), (24, [[0, 64]]), (48, [[0, 96]]),
    ]  # fmt: skip
    assert Ahead("2.4.21", advice=MADV_SEQUENTIAL).load(*range(60)) == expected


def test_half_a_page_at_the_beginning_is_a_look_at_a_header() -> None:
    """2.4 reads nothing more then. 2.6 begins with 16 pages all the same."""
    for kernel, end in {"2.4.21": 1, "2.6.2": 16}.items():
        ahead = Ahead(kernel)
        ahead.task.pread(ahead.fd, PAGE_SIZE // 2, 0)
        assert ahead.cached == [[0, end]]


RANDOM: dict[str, Runs] = {
    # a page needs two at most, by the rule: two behind each
    "2.4.21": [[5, 8], [13, 16], [42, 45], [77, 80], [150, 153]],
    # 16; elsewhere 2 less; then as much as was used of the last window: 1; then nothing but the page
    "2.6.2": [[5, 6], [13, 27], [42, 43], [77, 93], [150, 151]],
    # one more than was used of the last window: 2; then nothing but the page
    "2.6.5-rc1": [[5, 6], [13, 15], [42, 43], [77, 93], [150, 151]],
    # what comes in a row on average, 16 at first: (16 + 1) / 2, and so on: 8, 4, 2; then nothing but the page
    "2.6.7": [[5, 6], [13, 21], [42, 44], [77, 93], [150, 154]],
}


@pytest.mark.parametrize("kernel", RANDOM)
def test_pages_here_and_there(kernel: str) -> None:
    ahead = Ahead(kernel)
    assert ahead.read(77, 13, 150, 42, 5)[-1][1] == RANDOM[kernel]


def test_readahead_that_is_off_comes_back_with_a_run_of_misses() -> None:
    """2.6.2: after so many seeks each page is read alone; with 32 misses in a row, each behind the last, the window is as large as it can be.

    The next page is one too far for it to be a hit: it makes the window 2 shorter.
    """
    ahead = Ahead("2.6.2", 400)
    ahead.read(77, 13, 150, 42, 5)
    ahead.read(*range(200, 233))
    assert ahead.cached[-1] == [200, 233]
    ahead.read(233)
    assert ahead.cached[-1] == [200, 233 + 30]


FAULTS: dict[str, tuple[Runs, Runs]] = {  # pages 21 and 99 of 100; and page 18, of a mapping of pages 10 to 19
    "2.4.21": ([[16, 24], [96, 100]], [[16, 20]]),
    "2.6.2": ([[16, 32], [96, 100]], [[16, 32]]),
    "2.6.5-rc1": ([[16, 32], [96, 100]], [[16, 32]]),
    "2.6.5-rc1-aa1": ([[16, 32], [96, 100]], [[16, 32]]),
    "2.6.7": ([[21, 53], [99, 100]], [[18, 50]]),
    "6.18": ([[5, 37], [83, 100]], [[2, 34]]),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("what", ["load", "store"])
def test_what_comes_with_a_fault(kernel: str, what: str) -> None:
    whole, part = FAULTS[kernel]
    ahead = Ahead(kernel, 100)
    ahead.each(what, 21, 99)
    assert ahead.cached == whole
    ahead = Ahead(kernel, 100, first=10, nr=10)
    ahead.each(what, 18)
    assert ahead.cached == part


@pytest.mark.parametrize("kernel", KERNELS)
def test_madv_random_is_the_page_alone(kernel: str) -> None:
    ahead = Ahead(kernel, advice=MADV_RANDOM)
    ahead.load(50, 7, 51)
    assert ahead.cached == [[7, 8], [50, 52]]


@pytest.mark.parametrize(("kernel", "block"), [("2.6.2", 16), ("2.6.7", 32), ("6.18", 32)])
def test_a_hundred_misses_more_than_hits(kernel: str, block: int) -> None:
    """Then pages come alone. On 6.18 a store, since a load maps what is around it, which are hits."""
    ahead = Ahead(kernel, block * 104)
    own = block // 2 if kernel == "6.18" else 0  # in the middle of what is read
    ahead.each("store", *range(own, block * 103, block))
    alone = {own + i * block for i in (100, 101, 102)}
    assert ahead.cached == runs([index < 100 * block or index in alone for index in range(ahead.pages)])


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.7"])
def test_hits_make_up_for_misses(kernel: str) -> None:
    """Every page that is found counts, by itself or in a stretch."""
    for whole in (False, True):
        ahead = Ahead(kernel, 64)
        if whole:
            ahead.task.touch(ahead.at, 64 * PAGE_SIZE)
        else:
            ahead.load(*range(64))
        assert ahead.cached == [[0, 64]]
        opened = ahead.task.files.fd[ahead.fd]
        misses = 64 // (16 if kernel == "2.6.2" else 32)
        assert (opened.ra.misses, opened.ra.hits) == (misses, 64 - misses)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_lives_in_the_page_cache_is_not_read_ahead(kernel: str) -> None:
    ahead = Ahead(kernel, on_disk=False)
    ahead.read(0, 1, 50)
    ahead.load(100)
    ahead.system.check()
    assert ahead.cached == [[0, 2], [50, 51], [100, 101]]
    assert ahead.system.machine.ledger.counts["disk_request"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_window_has_as_much_as_there_is_memory_for(kernel: str) -> None:
    """Every n-th allocation fails in turn: the page that is wanted, or ENOMEM; nothing is lost."""
    for nth in range(12):
        ahead = Ahead(kernel)
        ahead.system.machine.allocator.fail_after = nth
        try:
            assert ahead.task.pread(ahead.fd, 3, 40 * PAGE_SIZE) == b"xxx"
        except SyscallError as failure:
            assert failure.name == "ENOMEM"
        ahead.system.machine.allocator.fail_after = None
        ahead.system.machine.disk.settle()
        ahead.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_failing_reads_in_a_window_are_nobodys_but_their_own(kernel: str) -> None:
    """Page 3 cannot be read: who reads or touches the others does not notice, who touches 3 gets SIGBUS, and later all is well."""
    ahead = Ahead(kernel)
    store = ahead.file.store = Failing(dict(ahead.file.store), 0, 10**6, page=3)
    ahead.load(0, 1, 2, 4, 5)
    assert ahead.cached[0][0] == 0
    assert store.reads > 0  # it has been tried, and is there, not uptodate
    with pytest.raises(BusError):
        ahead.load(3)
    with pytest.raises(SyscallError) as failure:
        ahead.read(3)
    assert failure.value.name == "EIO"
    ahead.system.check()
    store.bad = range(0)
    ahead.load(3)
    ahead.read(3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_is_read_ahead_where_the_box_says_so(kernel: str) -> None:
    ahead = Ahead(kernel, kib=0)
    ahead.read(*range(3), 50)
    assert ahead.cached == [[0, 3], [50, 51]]


@pytest.mark.parametrize(("kernel", "most"), [("2.4.21", 400), ("2.6.2", 400), ("6.18", 320)])
def test_madv_willneed_is_under_way_at_once(kernel: str, most: int) -> None:
    """Nobody waits; 6.18 reads no more than a request of the device takes."""
    ahead = Ahead(kernel, 400)
    before = ahead.system.machine.sched.now_ns
    ahead.task.madvise(ahead.at, 400 * PAGE_SIZE, MADV_WILLNEED)
    assert ahead.system.machine.sched.now_ns - before < 1_000_000
    assert ahead.system.machine.disk.busy
    assert ahead.cached == [[0, most]]
    assert ahead.system.machine.sched.now_ns - before > 8_500_000
    ahead.system.check()
