"""Random calls on files and on anonymous memory, on a box that is too small for both: what FileRun does, under reclaim.

    RAM    96 to 224 frames      three files on a disk and one on tmpfs, 20 pages each, mapped and copied by up to four tasks;
    swap   1024 slots            a fifth file, of 3 times the RAM, is read through in parts

Pages of files are dropped, and written first where they are dirty, and copies go to swap: after every call everything is recounted, and bytes are where the model
has them. At the end what reclaim and fsync have written is compared with the files' stores.

On 2.4 a page fault that gets no memory kills its task (`killed`): 60 passes may be in vain when all its pages have been used just now, however much swap is free (reclaim/virtual.py).

Files end at whole pages here: what a mapping leaves behind the end of its file is lost when its page is written, and the model keeps it.
"""

from collections.abc import Callable
from itertools import count

from rmaplab.calls.task import Task
from rmaplab.errors import OomKilled
from rmaplab.lab.conformance.file_model import PAGES, Bytes, FileUser, Shown
from rmaplab.lab.conformance.file_run import Calls, FileRun
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.objects.flags import MADV_WILLNEED, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

FRAMES = (96, 128, 160, 224)
SLOTS = 1024


class FilePressureRun(FileRun):
    """One seed. `stolen` pages have been freed by reclaim so far. Raises as FileRun."""

    def __init__(self, kernel: str, seed: int, *, index: str | None = None, paging: str | None = None) -> None:
        frames = FRAMES[seed % len(FRAMES)]
        super().__init__(
            kernel,
            seed,
            index=index,
            paging=paging,
            ram=frames * PAGE_SIZE,
            swap=SLOTS * PAGE_SIZE,
            boot_use=0,
            pages_min=frames // 32,
            overcommit=1,
            cpus=2,
        )
        install(self.system)
        first = self.processes[0].task
        for each in [self.make(on_disk=True) for _ in range(2)]:
            self.files.append(each)
            self.open(first, each, (True, False))
        self.nothing = Bytes({}, 1 << 62)
        data = b"".join(bytes([i % 251]) * PAGE_SIZE for i in range(3 * frames))
        self.long_file = self.system.new_file(data)
        self.long = first.open(self.long_file)
        self.nr_long, self.next_long = 3 * frames, 0
        self.killed = 0

    def make_call(self, call: Callable[[FileUser], None], process: FileUser) -> None:
        """Where an allocation may come to nothing a page fault may be the end of its task: what that one has shown is gone. Raises OomKilled, where nobody may die."""
        try:
            call(process)
        except OomKilled:
            if not self.system.kernel.rules.small_allocations_fail or process.task.mm is not None:
                raise
            self.killed += 1
            self.processes.remove(process)
            if not self.processes:
                self.processes = [FileUser(self.begin_anew())]

    def begin_anew(self) -> Task:
        """Nobody lives: another task, which opens all that somebody had opened."""
        opened, writable, task = self.opened, self.writable, self.system.spawn()
        self.opened, self.writable = [], set()
        for of, fd in opened:
            self.open(task, of, (fd in writable,))  # type: ignore[arg-type]
        self.long = task.open(self.long_file)
        return task

    @property
    def stolen(self) -> int:
        """Pages that reclaim has freed."""
        return self.system.machine.ledger.counts["pgsteal"]

    def weights(self) -> Calls:
        """FileRun's, and its own."""
        return super().weights() | {self.mmap_nothing: 3, self.fill: 9, self.read_on: 5, self.pwrite: 4}

    def mmap_nothing(self, process: FileUser) -> None:
        """Anonymous memory, which goes to swap: private, of a file of zeros to the model."""
        at, nr = self.place(), self.choose.randrange(4, 20)
        flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS
        process.task.mmap(nr * PAGE_SIZE, PROT_READ | PROT_WRITE, flags, at * PAGE_SIZE)
        for i in range(nr):
            process.pages[at + i] = Shown(self.nothing, i, shared=False, writable=True, may_write=True)

    def fill(self, process: FileUser) -> None:
        """A number into each page that can be written to."""
        for page, shown in list(process.pages.items()):
            if shown.writable and shown.of.covers(shown.index) and self.choose.random() < 0.5:
                value = bytes([self.choose.randrange(256)])
                process.task.write(page * PAGE_SIZE, value)
                if not shown.shared and shown.copy is None:
                    shown.copy = bytearray(shown.of.page(shown.index))
                (shown.of.page(shown.index) if shown.copy is None else shown.copy)[0] = value[0]

    def read_on(self, process: FileUser) -> None:
        """Some more of the long file."""
        nr = self.choose.choice((1, 8, 40))
        data = process.task.pread(self.long, nr * PAGE_SIZE, self.next_long * PAGE_SIZE)
        there = range(self.next_long, min(self.next_long + nr, self.nr_long))
        if data != b"".join(bytes([i % 251]) * PAGE_SIZE for i in there):
            raise AssertionError(f"the long file has other bytes from page {self.next_long} on")
        self.next_long = (self.next_long + nr) % self.nr_long

    def advise(self, process: FileUser) -> None:
        """Pages of files come into the cache, and drive others out."""
        run = self.stretch(process)
        if run and process.pages[run[0]].of is not self.nothing:
            process.task.madvise(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, MADV_WILLNEED)

    def truncate(self, process: FileUser) -> None:
        """To a whole number of pages."""
        of, opened = self.choose.choice([each for each in self.opened if each[1] in self.writable])
        size = self.choose.randrange(PAGES) * PAGE_SIZE
        process.task.ftruncate(opened, size)
        self.cut(of, size)

    def pwrite(self, process: FileUser) -> None:
        """To the end of a page, from anywhere."""
        of, opened = self.choose.choice([each for each in self.opened if each[1] in self.writable])
        offset, pages = self.choose.randrange(PAGES * PAGE_SIZE), self.choose.randrange(1, 4)
        data = bytes([self.choose.randrange(256)]) * ((offset // PAGE_SIZE + pages) * PAGE_SIZE - offset)
        process.task.pwrite(opened, data, offset)
        if offset + len(data) > of.size:
            self.resize(of, offset + len(data))
        for i, byte in zip(count(offset), data, strict=False):
            of.page(i // PAGE_SIZE)[i % PAGE_SIZE] = byte

    def finish(self) -> None:
        """All that is mapped goes, and what is on the disks is what the files are made of."""
        for process in self.processes:
            process.task.munmap(0, max(process.pages, default=0) * PAGE_SIZE + PAGE_SIZE)
        self.system.check()
        for each, opened in dict(self.opened).items():
            if each.space.on_disk:  # type: ignore[attr-defined]
                self.processes[0].task.fsync(opened)
                self._compare(each)

    def _compare(self, of: Bytes) -> None:
        store = of.space.store  # type: ignore[attr-defined]
        for index in range(of.size // PAGE_SIZE):
            if store.get(index, bytes(PAGE_SIZE)) != bytes(of.page(index)):
                raise AssertionError(f"page {index} of a file is not on its disk")
