"""Calls of files, played. What is read and written is zeros: strace tells no contents that are whole."""

from rmaplab.calls.task import Task
from rmaplab.lab.replay.plan import ReplayStep
from rmaplab.lab.replay.playing import Playing

CHUNK = 1 << 20
"""Bytes that are read or written at once here: to Linux it is one call, and here they are bytes of our own memory meanwhile."""
ZEROS = bytes(CHUNK)


class FilePlayer(Playing):
    """The steps of files: a method for each."""

    def _open(
        self,
        task: Task,
        step: ReplayStep,
        fd: int,
        file: int,
        readable: bool,
        writable: bool,
        truncated: bool,
        appends: bool,
    ) -> None:
        if self.plan.files[file].zero:
            task.open_zero(readable=readable, writable=writable, fd=fd)
            return
        task.open(self.file(file), readable=readable, writable=writable, fd=fd)
        if truncated and writable:
            task.ftruncate(fd, 0)
        if appends:
            self.seek(task, fd, task.file_size(fd))

    def _close(self, task: Task, step: ReplayStep, fd: int) -> None:
        task.close(fd)

    def _dup(self, task: Task, step: ReplayStep, old: int, new: int) -> None:
        task.dup(old, new)

    def _memfd_create(self, task: Task, step: ReplayStep, flags: int, fd: int) -> None:
        if step.error:
            task.close(task.memfd_create(flags))
        else:
            task.memfd_create(flags, fd=fd)

    def _add_seals(self, task: Task, step: ReplayStep, fd: int, seals: int) -> None:
        task.add_seals(fd, seals)

    def _read(self, task: Task, step: ReplayStep, fd: int, length: int, place: int | None) -> None:
        done = 0
        while True:
            nr = min(CHUNK, length - done)
            got = task.read_file(fd, nr) if place is None else task.pread(fd, nr, place + done)
            done += len(got)
            if done >= length or not got:
                return

    def _write(self, task: Task, step: ReplayStep, fd: int, length: int, place: int | None) -> None:
        done = 0
        while True:
            data = ZEROS[: min(CHUNK, length - done)]
            written = task.write_file(fd, data) if place is None else task.pwrite(fd, data, place + done)
            done += written
            if done >= length or not written:
                return

    def _seek(self, task: Task, step: ReplayStep, fd: int, position: int) -> None:
        self.seek(task, fd, position)

    def seek(self, task: Task, fd: int, position: int) -> None:
        """lseek(2), which is no call of memory: there read and write go on. Raises SyscallError(EBADF)."""
        task.opened("lseek", fd).position = position

    def _ftruncate(self, task: Task, step: ReplayStep, fd: int, size: int) -> None:
        task.ftruncate(fd, size)

    def _fallocate(self, task: Task, step: ReplayStep, fd: int, mode: int, offset: int, length: int) -> None:
        task.fallocate(fd, mode, offset, length)

    def _fsync(self, task: Task, step: ReplayStep, fd: int) -> None:
        task.fsync(fd)
