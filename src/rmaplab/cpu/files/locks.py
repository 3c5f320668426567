"""Locks on files: flock(2), of open files; and record locks, fcntl(F_SETLK), of tables of descriptors, on ranges of bytes.

    flock      open file ---> whole file      shared, or exclusive; goes with the open file
    F_SETLK    process -----> [start, end)    shared to read, exclusive to write; goes when the process closes any descriptor of the file

A process is its table of descriptors here, as in Linux. An open file may have locks of the second kind of its own, too (F_OFD_SETLK).

Source: fs/locks.c, flock_lock_inode, posix_lock_inode, of 6.18; flock(2), fcntl(2). Who waits in a circle is not told (EDEADLK).
"""

from dataclasses import dataclass, replace

from rmaplab.cpu.waiting import WaitQueue

TO_THE_END = 1 << 63


@dataclass(frozen=True)
class RecordLock:
    """Bytes [start, end) are `owner`'s, to write if it is `exclusive`. `pid` is told to others."""

    owner: object
    pid: int
    start: int
    end: int
    exclusive: bool

    def hinders(self, other: "RecordLock") -> bool:
        """Whether both cannot be."""
        return (
            self.owner != other.owner
            and (self.exclusive or other.exclusive)
            and self.start < other.end
            and other.start < self.end
        )


class FileLocks:
    """The locks of one inode, and who waits for one to go."""

    def __init__(self) -> None:
        self.whole: dict[object, bool] = {}
        """Open files that have it by flock(2), exclusively or not."""
        self.records: list[RecordLock] = []
        self.changed = WaitQueue()

    def hindering(self, wanted: RecordLock) -> RecordLock | None:
        """A lock that stands in the way. O(locks)."""
        return next((lock for lock in self.records if lock.hinders(wanted)), None)

    def release(self, owner: object, start: int = 0, end: int = TO_THE_END) -> None:
        """`owner` has no byte of [start, end) any more: what lies at both sides stays. O(locks)."""
        kept = list[RecordLock]()
        for lock in self.records:
            if lock.owner != owner or lock.end <= start or end <= lock.start:
                kept.append(lock)
                continue
            if lock.start < start:
                kept.append(replace(lock, end=start))
            if end < lock.end:
                kept.append(replace(lock, start=end))
        if kept != self.records:
            self.records = kept
            self.changed.wake()

    def take(self, wanted: RecordLock) -> None:
        """It has these bytes so, whatever it had of them before."""
        self.release(wanted.owner, wanted.start, wanted.end)
        self.records.append(wanted)

    def leave(self, owner: object) -> None:
        """`owner`, a table of descriptors or an open file, has none of them any more."""
        self.release(owner)
        if self.whole.pop(owner, None) is not None:
            self.changed.wake()
