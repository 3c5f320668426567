"""Random calls on memory that processes share without a file's name: what FileRun does with files, and with these among them.

    anonymous    an object of the mapping's length, which nobody else can map; beyond it SIGBUS
    zeros        /dev/zero, shared as above, or private
    segments     of System V: attached, detached in parts, removed while they are attached; gone with their last VMA, and a new one takes their place

    reorder      remap_file_pages on any of it, and on files: a place shows the page that it was given last, until its entry goes

All FileRun's calls are made on their mappings too: fork, mprotect and mremap in their middle, advice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rmaplab.lab.conformance.file_model import PAGES, Bytes, FileUser, Shown, refused
from rmaplab.lab.conformance.file_run import Calls, FileRun
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.file_rules import RemapPages
from rmaplab.objects.flags import (
    IPC_PRIVATE,
    IPC_RMID,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NONBLOCK,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    SHM_DEST,
    SHM_RDONLY,
    SHM_REMAP,
)
from rmaplab.rmap.walk_rules import Nonlinear, Unowned
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

RW = PROT_READ | PROT_WRITE


@dataclass(eq=False)
class Attachable:
    """A segment: its id, its bytes; whether it has been removed."""

    shmid: int
    of: Bytes
    removed: bool = False


class SharedRun(FileRun):
    """One system, driven at random, with shared memory of all kinds. Raises as FileRun."""

    def __init__(
        self,
        kernel: str,
        seed: int,
        *,
        index: str | None = None,
        paging: str | None = None,
        thief: bool = False,
        **box: Any,
    ) -> None:
        super().__init__(kernel, seed, index=index, paging=paging, thief=thief, **box)
        self.zero, self.nothing = self.processes[0].task.open_zero(), Bytes({}, 1 << 62)
        self.segments: list[Attachable] = [self.new_segment() for _ in range(2)]

    def weights(self) -> Calls:
        """FileRun's, and its own."""
        return {
            **super().weights(),
            self.anonymous: 3,
            self.attach: 4,
            self.detach: 2,
            self.remove: 1,
            self.reorder: 4,
            self.zeros: 2,
        }

    def step(self) -> None:
        """One call, check(), and a look at the segments: one that was removed is there as long as somebody shows it."""
        super().step()
        self.look()
        task = self.processes[0].task
        for i, segment in enumerate(self.segments):
            if segment.removed and not self.is_shown(segment.of):
                refused("EINVAL", lambda shmid=segment.shmid: task.shm_stat(shmid))  # type: ignore[misc]
                self.segments[i] = self.new_segment()
            elif bool(task.shm_stat(segment.shmid).mode & SHM_DEST) != segment.removed:
                raise AssertionError(f"segment {segment.shmid} has the wrong mode")

    def finish(self) -> None:
        """All segments are removed."""
        for segment in self.segments:
            if not segment.removed:
                self.processes[0].task.shmctl(segment.shmid, IPC_RMID)

    def run(self, steps: int) -> None:
        """As FileRun; then the files that have a name are all that is left."""
        super().run(steps)
        k = self.system.kernel
        named = [space for space in k.page_cache.files.values() if space.named]  # /dev/zero too
        inodes = k.inode_cache.nr_objects - len(named)
        promised = k.committed_pages + k.committed_drift - sum(space.nr_charged for space in named)
        left = inodes, len(k.shm.slots), promised
        if any(left):
            raise AssertionError(f"{left[0]} inodes, {left[1]} segments and {left[2]} promised pages are left")

    def new_segment(self) -> Attachable:
        """A part of a page longer than whole pages, or not."""
        size = self.choose.randrange(1, 7 * PAGE_SIZE) if self.choose.random() < 0.5 else 6 * PAGE_SIZE
        return Attachable(self.processes[0].task.shmget(IPC_PRIVATE, size, 0o600), Bytes({}, size))

    def is_shown(self, of: Bytes) -> bool:
        """Whether somebody maps some of it."""
        return any(shown.of is of for shown in self.shown())

    def anonymous(self, process: FileUser) -> None:
        """A new object."""
        at, nr, prot = self.place(), self.choose.randrange(1, 9), self.choose.choice((RW, RW, PROT_READ))
        flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
        process.task.mmap(nr * PAGE_SIZE, prot, flags, at * PAGE_SIZE)
        of = Bytes({}, nr * PAGE_SIZE)
        process.pages.update({at + i: _shared(of, i, writable=prot == RW) for i in range(nr)})

    def zeros(self, process: FileUser) -> None:
        """/dev/zero: shared, an object as above; private, pages of nobody's until they are written to."""
        at, nr, prot = self.place(), self.choose.randrange(1, 9), self.choose.choice((RW, RW, PROT_READ))
        shared, pgoff = self.choose.random() < 0.5, self.choose.randrange(PAGES)
        if at - 1 in process.pages and self.choose.random() < 0.5:  # so that they may merge
            pgoff = process.pages[at - 1].linear + 1
        flags, pgoff = (MAP_SHARED, 0) if shared else (MAP_PRIVATE, pgoff)
        process.task.mmap(nr * PAGE_SIZE, prot, flags | MAP_FIXED, at * PAGE_SIZE, file=self.zero, pgoff=pgoff)
        of = Bytes({}, nr * PAGE_SIZE) if shared else self.nothing
        for i in range(nr):
            process.pages[at + i] = Shown(of, pgoff + i, shared=shared, writable=prot == RW, may_write=True)

    def attach(self, process: FileUser) -> None:
        """In place of what is there, or where nothing is."""
        segment, at, flags = self.choose.choice(self.segments), self.place(), self.choose.choice((0, SHM_RDONLY))
        flags |= SHM_REMAP if self.choose.random() < 0.7 else 0
        pages = range(at, at + -(-segment.of.size // PAGE_SIZE))
        if not flags & SHM_REMAP and any(page in process.pages for page in pages):
            refused("EINVAL", lambda: process.task.shmat(segment.shmid, at * PAGE_SIZE, flags))
            return
        process.task.shmat(segment.shmid, at * PAGE_SIZE, flags)
        writable = not flags & SHM_RDONLY
        own_file = bool(self.system.kernel.rules.shm_file_data_bytes)
        shown = {page: _shared(segment.of, page - at, writable=writable) for page in pages}
        for each in shown.values():
            each.may_write = writable or not own_file
        process.pages.update(shown)

    def detach(self, process: FileUser) -> None:
        """Where a page that is there would have its segment begin. What goes lies so; the first that does goes; in 2.4 all."""
        objects = [segment.of for segment in self.segments]
        parts = {at: at - shown.linear for at, shown in process.pages.items() if shown.of in objects}
        if not parts or process.task.mm is None:
            return
        begin = self.choose.choice(sorted(parts.values()))
        process.task.shmdt(begin * PAGE_SIZE)
        there = [range(vma.start // PAGE_SIZE, vma.end // PAGE_SIZE) for vma in process.task.mm.vmas]
        gone = {at for at in process.pages if not any(at in run for run in there)}
        could = {at for at, where in parts.items() if where == begin}
        must = could if self.system.kernel.rules.shmdt_takes_all else {min(at for at in could if at >= begin)}
        if not must <= gone <= could:
            raise AssertionError(f"shmdt at page {begin:#x} has taken {sorted(gone)}")
        for at in gone:
            del process.pages[at]

    def remove(self, process: FileUser) -> None:
        """For the first time, or again."""
        segment = self.choose.choice(self.segments)
        process.task.shmctl(segment.shmid, IPC_RMID)
        segment.removed = True

    def reorder(self, process: FileUser) -> None:
        """remap_file_pages: entries for any page, or mmap anew. Only of what may be written to, and is shared."""
        run, rules = self.stretch(process), self.system.kernel.rules
        if not run:
            return
        pgoff, first = self.choose.randrange(PAGES), process.pages[run[0]]
        finds_entries = not rules.truncate_misses_nonlinear and pgoff != first.linear
        flags = self.choose.choice((0, MAP_NONBLOCK)) if finds_entries else 0

        def call() -> None:
            process.task.remap_file_pages(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, 0, pgoff, flags)

        if rules.remap_pages is RemapPages.UNKNOWN:
            refused("ENOSYS", call)
        elif not first.shared or not first.may_write:
            refused("EINVAL", call)
        elif rules.remap_pages is RemapPages.MMAP:
            self.map_anew(process, run, pgoff, call)
        elif (
            self.is_segment(first.home) or not first.home.covers(pgoff + len(run) - 1) or self.has_cursor(process, run)
        ):
            refused("EINVAL", call)
        else:
            call()
            for i, page in enumerate(run):
                process.pages[page].forget()
                process.pages[page].index = pgoff + i

    def has_cursor(self, process: FileUser, run: range) -> bool:
        """Whether 2.6.7 takes the VMA for a driver's: reclaim has left a cursor in it."""
        vma = None if process.task.mm is None else process.task.mm.find_vma(run[0] * PAGE_SIZE)
        return self.system.kernel.rules.remap_minds_cursor and vma is not None and vma.cursor > 0

    def map_anew(self, process: FileUser, run: range, pgoff: int, call: Callable[[], None]) -> None:
        """A segment that was removed goes when its last VMA does, here to make room: then there is nothing to be mapped."""
        pages = [process.pages[page] for page in run]
        of = pages[0].of
        others = sum(shown.of is of for shown in self.shown()) - len(run)
        if not others and any(segment.of is of and segment.removed for segment in self.segments):
            refused("EINVAL", call)
            for page in run:
                del process.pages[page]
            return
        call()
        for i, shown in enumerate(pages):
            shown.index = shown.linear = pgoff + i

    def is_segment(self, of: Bytes) -> bool:
        """Whether it is one of System V's."""
        return any(segment.of is of for segment in self.segments)

    def truncate(self, process: FileUser) -> None:
        """Not where the kernel BUGs at what it leaves: such tasks die (tests/rmap/test_nonlinear.py)."""
        if self.system.kernel.rmap.walks.unowned is Unowned.IGNORED or not any(map(is_nonlinear, self.shown())):
            super().truncate(process)

    def dropped(self, shown: Shown) -> None:
        """Where a file entry is left, a fault brings the page back."""
        if not (self.system.kernel.rules.dontneed_keeps_nonlinear and is_nonlinear(shown)):
            shown.forget()

    def cut(self, of: Bytes, size: int) -> None:
        """Where only linear places are looked at, entries there go, whatever they map; elsewhere a page of what is cut off stays, and is nobody's."""
        if self.system.kernel.rules.truncate_misses_nonlinear:
            left = Bytes(dict(of.pages), of.size)
            for shown in self.shown():
                if shown.home is of and shown.linear * PAGE_SIZE >= size:
                    shown.forget()
                elif shown.of is of and shown.index * PAGE_SIZE >= size:
                    left.page(shown.index)
                    shown.of = left
        super().cut(of, size)

    def look(self) -> None:
        """What a design declares it cannot find are the nonlinear pages, all of them, of kernels that look at linear places alone; of others none."""
        k, pfns = self.system.kernel, set[int]()
        finds = k.design.covers_files or k.design.converts or k.rmap.walks.nonlinear is not Nonlinear.AS_LINEAR
        for process in () if finds else self.processes:
            for at, shown in process.pages.items():
                if is_nonlinear(shown) and process.task.mm is not None:
                    entry, _ = lookup(*k.machine.geometry, process.task.mm.pgd, at * PAGE_SIZE)
                    pfns.add(entry >> PAGE_SHIFT)
        declared = k.rmap.declared_unfindable()
        if declared != pfns:
            raise AssertionError(f"the design declares {sorted(declared)}, and cannot find {sorted(pfns)}")


def is_nonlinear(shown: Shown) -> bool:
    """Whether it is another page than a fault would bring."""
    return (shown.of, shown.index) != (shown.home, shown.linear)


def _shared(of: Bytes, index: int, *, writable: bool) -> Shown:
    return Shown(of, index, shared=True, writable=writable, may_write=True)
