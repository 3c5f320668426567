"""epoll(7): a file that knows which others are ready.

    EpollFile   5 -> (file, EPOLLIN, data)      asked each time somebody waits: what is ready stays so until it is read (level)
                6 -> (file, EPOLLOUT | EPOLLET)     told again only when something has come of it since (edge; `activity`)

Source: fs/eventpoll.c, ep_send_events, of 6.18.
"""

import errno
from dataclasses import dataclass, field

from rmaplab.cpu.files.inode import Stat
from rmaplab.cpu.files.open_file import O_RDWR, POLLERR, POLLHUP, POLLIN, OpenFile
from rmaplab.cpu.waiting import WaitQueue
from rmaplab.errors import SyscallError

EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD = 1, 2, 3
EPOLLONESHOT, EPOLLET = 1 << 30, 1 << 31
ALWAYS = POLLERR | POLLHUP
MOST_NESTED = 5


@dataclass
class Interest:
    """What is wanted of a file; `told` is when it was told last: what was ready, and the file's activity then."""

    file: OpenFile
    events: int
    data: bytes
    told: tuple[int, int] | None = field(default=None)


class EpollFile(OpenFile):
    """An epoll instance."""

    def __init__(self) -> None:
        super().__init__(O_RDWR)
        self.label = b"anon_inode:[eventpoll]"
        self._interests: dict[int, Interest] = {}

    def control(self, operation: int, fd: int, file: OpenFile, events: int, data: bytes) -> None:
        """epoll_ctl(2). Raises SyscallError: EEXIST, ENOENT, EINVAL, ELOOP."""
        known = self._known(fd, file)
        if file is self:
            raise SyscallError(errno.EINVAL, "epoll_ctl")
        if file.in_pieces:  # regular files are always ready
            raise SyscallError(errno.EPERM, "epoll_ctl")
        if operation == EPOLL_CTL_ADD:
            if known is not None:
                raise SyscallError(errno.EEXIST, "epoll_ctl")
            if isinstance(file, EpollFile) and file.depth(self) >= MOST_NESTED:
                raise SyscallError(errno.ELOOP, "epoll_ctl")
            self._interests[fd] = Interest(file, events, data)
        elif operation not in (EPOLL_CTL_DEL, EPOLL_CTL_MOD):
            raise SyscallError(errno.EINVAL, "epoll_ctl")
        elif known is None:
            raise SyscallError(errno.ENOENT, "epoll_ctl")
        elif operation == EPOLL_CTL_DEL:
            del self._interests[fd]
        else:
            self._interests[fd] = Interest(file, events, data)
        self.changed.wake()

    def depth(self, above: "EpollFile") -> int:
        """How many of them are on the longest way down; too many if `above` is on one."""
        inner = [interest.file for interest in self._interests.values() if isinstance(interest.file, EpollFile)]
        if self is above:
            return MOST_NESTED
        return 1 + max((file.depth(above) for file in inner), default=0)

    def _known(self, fd: int, file: OpenFile) -> Interest | None:
        """A descriptor may mean another file by now."""
        known = self._interests.get(fd)
        if known is not None and known.file is not file:
            del self._interests[fd]
            return None
        return known

    def _open_ones(self) -> list[tuple[int, Interest]]:
        """Files that are closed are left out, and forgotten."""
        for fd in [fd for fd, interest in self._interests.items() if not interest.file.references]:
            del self._interests[fd]
        return list(self._interests.items())

    def ready(self, most: int, *, takes: bool = True) -> list[tuple[int, bytes]]:
        """(events, data) of at most so many files that are ready. With `takes` they count as told. O(files)."""
        found = list[tuple[int, bytes]]()
        for fd, interest in self._open_ones():
            if len(found) >= most:
                break
            events = (
                interest.file.poll() & (interest.events | ALWAYS) if interest.events & ~(EPOLLET | EPOLLONESHOT) else 0
            )
            now = events, interest.file.activity
            if not events:
                interest.told = None
                continue
            if interest.events & EPOLLET and interest.told == now:
                continue
            found.append((events, interest.data))
            if takes:
                interest.told = now
                if interest.events & EPOLLONESHOT:
                    interest.events = interest.events & (EPOLLET | EPOLLONESHOT)
                self._interests[fd] = self._interests.pop(fd)  # others come first next time
        return found

    def queues(self) -> tuple[WaitQueue, ...]:
        """Its own, and those of all its files."""
        return (self.changed, *(queue for _, interest in self._open_ones() for queue in interest.file.queues()))

    def files(self) -> list[OpenFile]:
        """What it watches."""
        return [interest.file for _, interest in self._open_ones()]

    def stat(self) -> Stat:
        """An inode that all such files share."""
        return Stat(0o600, ino=1, dev=0xF)

    def poll(self) -> int:
        """Whether any of its files is ready."""
        return POLLIN if self.ready(1, takes=False) else 0
