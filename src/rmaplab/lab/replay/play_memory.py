"""Calls of memory, played."""

import errno
from typing import Any

from rmaplab.calls.task import Task
from rmaplab.errors import SyscallError
from rmaplab.lab.replay.places import RegionPiece
from rmaplab.lab.replay.plan import ReplayStep
from rmaplab.lab.replay.playing import NotThere, Playing, is_private
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_SHARED, MREMAP_FIXED, PROT_EXEC, PROT_WRITE
from rmaplab.units import page_align


class MemoryPlayer(Playing):
    """The steps of memory: a method for each."""

    def _mmap(
        self, task: Task, step: ReplayStep, region: int, length: int, prot: int, flags: int, file: int | None, pgoff: int,
        inside: tuple[RegionPiece, ...], near: RegionPiece | None, hint: int,
    ) -> None:  # fmt: skip
        address = 0
        if inside:
            where = self._place(inside)
            if where is None:  # it is torn here: the new one lies where there is room
                for start, nr in self._stretches(tuple(p for p in inside if self.base[p.region] is not None)):
                    task.munmap(start, nr)
                flags &= ~MAP_FIXED
            else:
                address = where
        elif near is not None and self.base[near.region] is not None:
            address = self._at(near)
        elif hint and hint + length <= self.system.machine.paging.task_size:
            address = hint
        got = task.mmap(length, prot, flags, address, file=file, pgoff=pgoff)
        if step.error:
            task.munmap(got, length)
            return
        self.base[region] = got
        if prot & PROT_WRITE and not flags & MAP_SHARED:
            self.written(task, got, length, anonymous=bool(flags & MAP_ANONYMOUS))
        elif prot & PROT_EXEC and file is not None:
            self.run(task, got, length)

    def _mprotect(self, task: Task, step: ReplayStep, pieces: tuple[RegionPiece, ...], prot: int) -> None:
        for address, length in self._stretches(pieces):
            task.mprotect(address, length, prot)
            if self._all and prot & PROT_WRITE and not step.error and is_private(task, address, length):
                task.touch(address, page_align(length), write=True)

    def _mremap(
        self,
        task: Task,
        step: ReplayStep,
        region: int,
        pieces: tuple[RegionPiece, ...],
        old: int,
        new: int,
        flags: int,
        inside: tuple[RegionPiece, ...],
    ) -> None:
        where = self._place(inside)
        if where is None:
            flags &= ~MREMAP_FIXED
        stretches = self._stretches(pieces)
        if len(stretches) > 1:  # what is one mapping there is none here
            raise NotThere
        got = task.mremap(stretches[0][0], old, new, flags, where or 0)
        if not step.error:
            self.base[region] = got
            if new > old and is_private(task, got + page_align(old), 1):
                self.written(task, got + page_align(old), new - page_align(old), anonymous=False)

    def _brk(self, task: Task, step: ReplayStep, offset: int | None = None, grows: int = 0) -> None:
        if offset is None:
            task.brk()
            return
        mm = task.mm
        start = 0 if mm is None else mm.start_brk
        end = start + offset
        if task.brk(end) != end:
            raise SyscallError(errno.ENOMEM, "brk")
        if grows > 0:
            self.written(task, page_align(end) - grows, grows, anonymous=True)

    def _heap(self, task: Task, step: ReplayStep, region: int) -> None:
        self.base[region] = None if task.mm is None else page_align(task.mm.start_brk)

    def _touch(self, task: Task, step: ReplayStep, piece: RegionPiece, write: bool) -> None:
        if self._used:
            task.touch(self._at(piece), piece.length, write=write)

    def _touch_relro(self, task: Task, step: ReplayStep, piece: RegionPiece) -> None:
        """What is about to become read-only, if it is private memory of a file that may be written."""
        if self._used and is_private(task, address := self._at(piece), piece.length, of_file=True):
            task.touch(address, piece.length, write=True)

    def _ranged(self, call: str, task: Task, step: ReplayStep, pieces: tuple[RegionPiece, ...], *about: Any) -> None:
        """A call of stretches that has no method of its own here: Task's of that name."""
        for address, length in self._stretches(pieces):
            getattr(task, call)(address, length, *about)

    def _mlockall(self, task: Task, step: ReplayStep, flags: int) -> None:
        task.mlockall(flags)

    def _munlockall(self, task: Task, step: ReplayStep) -> None:
        task.munlockall()

    def _limit(self, task: Task, step: ReplayStep, call: str, limit: int) -> None:
        getattr(task, call)(limit)

    def _shmget(self, task: Task, step: ReplayStep, segment: int, key: int, size: int, flags: int) -> None:
        got = task.shmget(key, size, flags)
        if not step.error:
            self._shmids[segment] = got

    def _shmid(self, segment: int) -> int:
        shmid = self._shmids[segment]
        if shmid is None:
            raise NotThere
        return shmid

    def _shmat(self, task: Task, step: ReplayStep, region: int, segment: int, flags: int) -> None:
        got = task.shmat(self._shmid(segment), 0, flags)
        if step.error:
            task.shmdt(got)
        else:
            self.base[region] = got

    def _shmdt(self, task: Task, step: ReplayStep, piece: RegionPiece) -> None:
        task.shmdt(self._at(piece))

    def _shmctl(self, task: Task, step: ReplayStep, segment: int, command: int) -> None:
        task.shmctl(self._shmid(segment), command)
