"""make -jN: short compilers, each forked, with its text and its files read from a disk, memory of its own, an object file, and an end.

    make           |fork|fork|fork|fork|wait .. |fork|wait ..                  so many compilers at once, until all files are compiled
    a compiler     |exec|text, headers, source ....|more and more memory ..........|all of it once more|object file|exit
                        |--- the first half of its steps ---|

"make -j4 with mem=64m" is what the VM of 2.5 and 2.6 was tried on (docs/pressure.md). What it is: the shape of that. A compiler maps its text, of which all read some stretches and each
some others; reads its source, and headers that others read as well, or that nobody else does; takes 10 to 20 MB step by step, and goes over it in the middle
and at the end, as a collector of garbage does; computes; writes an object file. Every byte is compared: of memory, of files that are read, of text that is mapped.

What it is not: gcc. One process stands for the shell, the driver, the compiler and the assembler; make has no memory of its own; nothing is linked; names and directories are not read. All sizes are
believed. COMPUTE_NS: a `make -j24` took 148 s of user time under 2.4.23 and 144 s under 2.6.2-rc3-mm1 (LKML, 4 February 2004), over some 500 files, which is believed.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.objects.flags import MAP_PRIVATE, PROT_EXEC, PROT_READ
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SHIFT
from rmaplab.workloads.busy import NS, Checked, compute
from rmaplab.workloads.swapload import contents

MB = 1 << 20 >> PAGE_SHIFT
"""Pages of one."""
TEXT, HEADERS, SOURCE, OBJECT = 3 * MB, 3 * MB, 8, 10
"""Pages of the compiler's text, of all headers, and of each file that is compiled, and comes of that."""
LEAST_MEMORY, MOST_MEMORY = 10 * MB, 20 * MB
STEPS = 16
STRETCH = 16  # pages of text or of headers that are read in one go
COMPUTE_NS = 300_000_000
MOST_JOBS, MOST_COMPILES = 200, 10_000
_TEXT, _HEADERS, _SOURCE, _OBJECT, _OWNERS = 124, 125, 126, 127, 100


def file_bytes(kind: int, nr: int, first: int, pages: int) -> bytes:
    """What pages [first, first + pages) of a file hold: of which kind it is, and which of those. O(bytes)."""
    return contents(np.full(pages, kind), np.arange(first, first + pages), np.full(pages, nr))


class Kbuild(Checked):
    """One run: `compiles` files, `jobs` at once. Raises UsageError."""

    name = "kbuild"

    def __init__(self, jobs: int, compiles: int, seed: int) -> None:
        if not 1 <= jobs <= MOST_JOBS:
            raise UsageError(f"{jobs} jobs: kbuild has 1 to {MOST_JOBS} at once, such as --jobs 8")
        if not 1 <= compiles <= MOST_COMPILES:
            raise UsageError(f"{compiles} compiles: kbuild has 1 to {MOST_COMPILES:,}, such as --compiles 40")
        super().__init__()
        self.jobs, self.compiles, self.seed = jobs, compiles, seed
        self.ends_s: list[float] = []
        """When each compiler had done, in simulated time."""
        self.user_s: list[float] = []
        """What each of them had of the CPU, in the same order."""

    @property
    def asked(self) -> dict[str, int]:
        """How much of what."""
        return {"jobs": self.jobs, "compiles": self.compiles}

    def run(self, system: System) -> None:
        """Run it to the end. Raises NoMemory if memory runs out where no errno can say so."""
        text = system.new_file(file_bytes(_TEXT, 0, 0, TEXT))
        headers = system.new_file(file_bytes(_HEADERS, 0, 0, HEADERS))
        sources = [system.new_file(file_bytes(_SOURCE, nr, 0, SOURCE)) for nr in range(self.compiles)]
        files = [(text, headers, source, system.new_file()) for source in sources]
        system.spawn(self.guarded(partial(self._make, files=files)))
        system.run()

    def _make(self, task: Task, files: Sequence[tuple[AddressSpace, ...]]) -> int:
        for nr, (text, headers, source, made) in enumerate(files):
            if len(task.children) == self.jobs:
                task.wait()
            program = partial(self._compile, nr=nr, text=text, headers=headers, source=source, made=made)
            task.fork(self.guarded(program))
        while task.children:
            task.wait()
        return 0

    def _compile(
        self, task: Task, nr: int, text: AddressSpace, headers: AddressSpace, source: AddressSpace, made: AddressSpace
    ) -> int:
        task.execve()
        compiler = Compiler(self, task, nr, text, headers)
        fine = compiler.read_file(task.open(source), _SOURCE, nr, 0, SOURCE)
        for step in range(STEPS):
            fine = compiler.step(step) and fine
            compute(task, COMPUTE_NS // STEPS)
        fine = compiler.go_over() and fine
        task.pwrite(task.open(made, writable=True), file_bytes(_OBJECT, nr, 0, OBJECT), 0)
        self.ends_s.append(task.kernel.machine.sched.now_ns / NS)
        self.user_s.append(task.user_ns / NS)
        return 0 if fine else 1


class Compiler:
    """One of them, and what it should find in its memory."""

    def __init__(self, run: Kbuild, task: Task, nr: int, text: AddressSpace, headers: AddressSpace) -> None:
        self.run, self.task, self.nr = run, task, nr
        self.draw = np.random.default_rng((run.seed, nr))
        self.text = task.mmap(TEXT << PAGE_SHIFT, PROT_READ | PROT_EXEC, MAP_PRIVATE, file=task.open(text))
        self.headers = task.open(headers)
        self.each = int(self.draw.integers(LEAST_MEMORY, MOST_MEMORY + 1)) // STEPS
        self.chunks: list[int] = []

    def step(self, step: int) -> bool:
        """Text as it comes, headers in the first half, a piece of memory in each; in the middle all memory once more. Whether all bytes are right."""
        common, half = step % (TEXT // 2 // STRETCH), TEXT // 2 // STRETCH
        fine = self._read_text(common) and self._read_text(half + int(self.draw.integers(half)))
        if step < STEPS // 2:
            known, rest = step, HEADERS // 2 // STRETCH + int(self.draw.integers(HEADERS // 2 // STRETCH))
            for stretch in (known, rest):
                fine = self.read_file(self.headers, _HEADERS, 0, stretch * STRETCH, STRETCH) and fine
        at = self.task.mmap(self.each << PAGE_SHIFT)
        self.task.write(at, self._written(at))
        self.run.written_bytes += self.each << PAGE_SHIFT
        self.chunks.append(at)
        return fine and (step != STEPS // 2 or self.go_over(counts=False))

    def go_over(self, *, counts: bool = True) -> bool:
        """All of its memory, compared."""
        fine = True
        for at in self.chunks:
            seen = self.task.read(at, self.each << PAGE_SHIFT)
            fine = self.run.compare(self.task, self.nr, at, seen, self._written(at), counts=counts) and fine
        return fine

    def read_file(self, fd: int, kind: int, nr: int, first: int, pages: int) -> bool:
        """Pages of a file, by read(2). A page that is wrong has its place in the file for an address."""
        self.run.written_bytes += pages << PAGE_SHIFT
        seen = self.task.pread(fd, pages << PAGE_SHIFT, first << PAGE_SHIFT)
        return self.run.compare(self.task, self.nr, first << PAGE_SHIFT, seen, file_bytes(kind, nr, first, pages))

    def _read_text(self, stretch: int) -> bool:
        at = self.text + (stretch * STRETCH << PAGE_SHIFT)
        self.run.written_bytes += STRETCH << PAGE_SHIFT
        seen = self.task.read(at, STRETCH << PAGE_SHIFT)
        return self.run.compare(self.task, self.nr, at, seen, file_bytes(_TEXT, 0, stretch * STRETCH, STRETCH))

    def _written(self, at: int) -> bytes:
        """What it has put at an address: nobody else has put the same anywhere."""
        pages = (at >> PAGE_SHIFT) + np.arange(self.each)
        return contents(np.full(self.each, self.nr % _OWNERS), pages, np.full(self.each, 1 + self.nr // _OWNERS))
