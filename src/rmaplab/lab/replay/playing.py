"""What all calls are played with: the system, its tasks, and where it has put every region."""

from rmaplab.calls.task import Task
from rmaplab.kernels.system import System
from rmaplab.lab.replay.places import RegionPiece
from rmaplab.lab.replay.plan import Plan
from rmaplab.mm.file_io import max_bytes
from rmaplab.objects.flags import VM_MAYSHARE, VM_WRITE
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE, page_align


class NotThere(Exception):
    """A call about what is not there."""


class Playing:
    """`tasks` by number, `base` by region: where it is here, None if nowhere. `touch` says what of memory is touched (player.py)."""

    def __init__(self, system: System, plan: Plan, touch: str) -> None:
        self.system, self.plan = system, plan
        self.touch, self._used, self._all = touch, touch != "none", touch == "all"
        self.tasks: list[Task | None] = [None] * plan.nr_processes
        self.base: list[int | None] = [None] * plan.nr_regions
        self._shmids: list[int | None] = [None] * plan.nr_segments
        self._files: list[AddressSpace | None] = [None] * len(plan.files)

    def file(self, number: int) -> AddressSpace:
        """A file of the log, of zeros. Raises as an allocation."""
        file = self._files[number]
        if file is None:
            about = self.plan.files[number]
            size = min(about.size, max_bytes(self.system.kernel, on_disk=about.on_disk))
            file = self._files[number] = self.system.new_file(size=max(size, 0), on_disk=about.on_disk)
        return file

    def _at(self, piece: RegionPiece) -> int:
        base = self.base[piece.region]
        if base is None:
            raise NotThere
        return base + piece.offset

    def _stretches(self, pieces: tuple[RegionPiece, ...]) -> list[tuple[int, int]]:
        """(address, length) of pieces, those that lie side by side here as one."""
        if len(pieces) == 1:
            return [(self._at(pieces[0]), pieces[0].length)]
        found: list[tuple[int, int]] = []
        for piece in pieces:
            address = self._at(piece)
            if found and sum(found[-1]) == address:
                found[-1] = found[-1][0], found[-1][1] + piece.length
            else:
                found.append((address, piece.length))
        return found

    def _place(self, pieces: tuple[RegionPiece, ...]) -> int | None:
        """Where a mapping must lie that has to replace these; None if they do not lie side by side here."""
        if not pieces or any(self.base[piece.region] is None for piece in pieces):
            return None
        stretches = self._stretches(pieces)
        return stretches[0][0] if len(stretches) == 1 else None

    # -- what is touched -----------------------------------------------------------------------------------------------

    def written(self, task: Task, address: int, length: int, *, anonymous: bool) -> None:
        """Private memory that may be written is there."""
        if self._all:
            self._touched(task, address, length, write=True)
        elif self._used and anonymous and length:
            task.touch(address, 1, write=True)

    def run(self, task: Task, address: int, length: int) -> None:
        """A part of a file that may be executed is there."""
        if self._all:
            self._touched(task, address, length, write=False)
        elif self._used:
            self._touched(task, address, 1, write=False)

    def _touched(self, task: Task, address: int, length: int, *, write: bool) -> None:
        """As far as a file goes that is mapped there."""
        vma = None if task.mm is None else task.mm.find_vma(address)
        if vma is not None and vma.file is not None:
            behind = vma.file.mapping.nr_pages - vma.index_of(address)
            length = min(length, behind * PAGE_SIZE)
        if length > 0:
            task.touch(address, page_align(length), write=write)


def is_private(task: Task, address: int, length: int, *, of_file: bool = False) -> bool:
    """Whether that is private memory that may be written, all in one mapping; perhaps `of_file`."""
    vma = None if task.mm is None else task.mm.find_vma(address)
    if vma is None or vma.start > address or vma.end < address + length:
        return False
    return vma.flags & (VM_MAYSHARE | VM_WRITE) == VM_WRITE and (vma.file is not None or not of_file)
