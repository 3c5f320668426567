"""Pipes, with and without a name, and pairs of connected sockets, which are two of them.

    writer --- write ---> Pipe: at most PIPE_BYTES --- read ---> reader

    SocketPair:  one --- Pipe ---> other
                 one <-- Pipe ---- other

Source: fs/pipe.c, pipe_read, pipe_write, fifo_open: PIPE_BUF bytes are written whole; 64 KiB of room since 2.6.11, one page before (today's here).
net/unix/af_unix.c, unix_stream_sendmsg, unix_shutdown, unix_poll of 6.18.
"""

import errno
import stat

from rmaplab.cpu.files.filesystem import FileSystem
from rmaplab.cpu.files.inode import ROOT, Inode, Mount, Stat, Who
from rmaplab.cpu.files.open_file import (
    O_ACCMODE,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    OpenFile,
)
from rmaplab.cpu.waiting import Interrupted, Sleeper, WaitQueue
from rmaplab.errors import SyscallError

PIPE_BYTES, PIPE_BUF = 65536, 4096
MOST_PIPE_BYTES = 1 << 20
SIGPIPE = 13
PIPE_DEV, SOCKET_DEV = 0xD, 0x8
SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2


class Pipe:
    """Bytes on their way, and how many may read and write."""

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.data = bytearray()
        self.room = PIPE_BYTES
        self.readers = self.writers = 0
        self.opened_readers = self.opened_writers = 0
        """Ever, so that who waits for the other end to be opened sees that it was."""
        self.activity = 0
        self.readable, self.writable, self.opened = WaitQueue(), WaitQueue(), WaitQueue()

    def read(self, thread: Sleeper, length: int, *, nonblocking: bool) -> bytes:
        """What is in it; sleeps while nothing is and somebody may write. Raises SyscallError(EAGAIN), Interrupted."""
        if not length:
            return b""
        while not self.data:
            if not self.writers:
                return b""
            if nonblocking:
                raise SyscallError(errno.EAGAIN, "read")
            thread.sleep(self.readable)
        taken = bytes(self.data[:length])
        del self.data[:length]
        self.activity += 1
        self.writable.wake()
        return taken

    def write(self, thread: Sleeper, data: bytes, *, nonblocking: bool, signals: bool = True) -> int:
        """Sleeps while there is no room: for PIPE_BUF bytes or fewer until there is room for all. Raises SyscallError: EAGAIN, EPIPE; Interrupted."""
        done = 0
        while done < len(data):
            if not self.readers:
                if signals:
                    thread.send_self(SIGPIPE)
                if done:
                    return done
                raise SyscallError(errno.EPIPE, "write")
            room, left = self.room - len(self.data), len(data) - done
            if room <= 0 or (len(data) <= PIPE_BUF and room < left):
                if nonblocking and done:
                    return done
                if nonblocking:
                    raise SyscallError(errno.EAGAIN, "write")
                try:
                    thread.sleep(self.writable)
                except Interrupted:
                    if done:
                        return done
                    raise
                continue
            part = data[done : done + room]
            self.data += part
            done += len(part)
            self.activity += 1
            self.readable.wake()
        return done

    def changed(self) -> None:
        """Who reads, writes or polls looks again."""
        self.activity += 1
        self.readable.wake()
        self.writable.wake()


class PipeEnd(OpenFile):
    """An open end of a pipe: `flags` say which; a FIFO's may be both."""

    def __init__(self, pipe: Pipe, flags: int, inode: Inode | None = None) -> None:
        super().__init__(flags, inode)
        self._pipe = pipe
        self.label = b"" if inode is not None else b"pipe:[%d]" % pipe.ino
        pipe.readers += self.readable
        pipe.writers += self.writable
        pipe.opened_readers += self.readable
        pipe.opened_writers += self.writable
        pipe.opened.wake()

    @property
    def pipe(self) -> Pipe:
        """What it is an end of."""
        return self._pipe

    @property
    def activity(self) -> int:
        """Of its pipe."""
        return self._pipe.activity

    def queues(self) -> tuple[WaitQueue, ...]:
        """Those of what it may do."""
        return (self._pipe.readable,) * self.readable + (self._pipe.writable,) * self.writable

    def read(self, thread: Sleeper, length: int) -> bytes:
        """What is in it."""
        return self._pipe.read(thread, length, nonblocking=self.nonblocking)

    def give_back(self, data: bytes) -> None:
        """What was read and could not go on is what is read next."""
        if data:
            self._pipe.data[:0] = data
            self._pipe.changed()

    def write(self, thread: Sleeper, data: bytes) -> int:
        """All of it, unless it may not wait."""
        return self._pipe.write(thread, data, nonblocking=self.nonblocking)

    def stat(self) -> Stat:
        """A FIFO, with or without a name."""
        return Stat(stat.S_IFIFO | 0o600, ino=self._pipe.ino, dev=PIPE_DEV) if self.inode is None else self.inode.stat()

    def available(self) -> int:
        """Bytes in it."""
        return len(self._pipe.data)

    def poll(self) -> int:
        """Whether there are bytes, or room; POLLHUP and POLLERR where the other end is closed."""
        pipe, events = self._pipe, 0
        if self.readable:
            events |= (POLLIN if pipe.data else 0) | (0 if pipe.writers else POLLHUP)
        if self.writable:
            events |= (POLLOUT if pipe.room - len(pipe.data) >= PIPE_BUF else 0) | (0 if pipe.readers else POLLERR)
        return events

    def reopen(self, flags: int) -> OpenFile:
        """One more end of it."""
        return PipeEnd(self._pipe, flags, self.inode)

    def close(self) -> None:
        """The other end hears of it."""
        self._pipe.readers -= self.readable
        self._pipe.writers -= self.writable
        self._pipe.changed()


class FifoInode(Inode):
    """A pipe with a name."""

    kind = stat.S_IFIFO

    def __init__(self, fs: FileSystem, mount: Mount, ino: int, mode: int, owner: Who = ROOT) -> None:
        super().__init__(mount, ino, mode, fs.now_ns, owner)
        self.pipe = Pipe(ino)

    def open(self, thread: Sleeper, flags: int) -> PipeEnd:
        """An end of it; sleeps until there is the other one. Raises SyscallError(ENXIO), Interrupted."""
        access, pipe = flags & O_ACCMODE, self.pipe
        if access == O_WRONLY and flags & O_NONBLOCK and not pipe.readers:
            raise SyscallError(errno.ENXIO, "open")
        readers, writers = pipe.opened_readers, pipe.opened_writers
        end = PipeEnd(pipe, flags, self)
        if flags & O_NONBLOCK or access == O_RDWR:
            return end
        try:
            if access == O_RDONLY:
                while not pipe.writers and pipe.opened_writers == writers:
                    thread.sleep(pipe.opened)
            else:
                while not pipe.readers and pipe.opened_readers == readers:
                    thread.sleep(pipe.opened)
        except BaseException:
            end.close()
            raise
        return end


class SocketEnd(OpenFile):
    """One of two sockets that are connected with each other: socketpair(AF_UNIX, SOCK_STREAM)."""

    def __init__(self, incoming: Pipe, outgoing: Pipe, flags: int) -> None:
        super().__init__(flags)
        self._in, self._out = incoming, outgoing
        self.label = b"socket:[%d]" % incoming.ino
        self._reads = self._writes = True
        incoming.readers += 1
        outgoing.writers += 1

    @staticmethod
    def pair(one: int, other: int, flags: int) -> tuple["SocketEnd", "SocketEnd"]:
        """Two, by the numbers of their inodes."""
        there, back = Pipe(other), Pipe(one)
        return SocketEnd(back, there, flags), SocketEnd(there, back, flags)

    @property
    def activity(self) -> int:
        """Of both directions."""
        return self._in.activity + self._out.activity

    def queues(self) -> tuple[WaitQueue, ...]:
        """Both directions."""
        return self._in.readable, self._out.writable

    def read(self, thread: Sleeper, length: int) -> bytes:
        """What the other one has written."""
        return self.receive(thread, length, nonblocking=self.nonblocking)

    def receive(self, thread: Sleeper, length: int, *, nonblocking: bool, peek: bool = False) -> bytes:
        """The same for one call only; with `peek` it stays."""
        if peek and self._in.data:
            return bytes(self._in.data[:length])
        return self._in.read(thread, length, nonblocking=nonblocking)

    def write(self, thread: Sleeper, data: bytes) -> int:
        """To the other one."""
        return self.send(thread, data, nonblocking=self.nonblocking)

    def send(self, thread: Sleeper, data: bytes, *, nonblocking: bool, signals: bool = True) -> int:
        """The same for one call only; with or without SIGPIPE."""
        if not self._writes:
            if signals:
                thread.send_self(SIGPIPE)
            raise SyscallError(errno.EPIPE, "write")
        return self._out.write(thread, data, nonblocking=nonblocking, signals=signals)

    def shutdown(self, how: int) -> None:
        """shutdown(2). Raises SyscallError(EINVAL)."""
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise SyscallError(errno.EINVAL, "shutdown")
        if how in (SHUT_RD, SHUT_RDWR) and self._reads:
            self._reads = False
            self._in.readers -= 1
            self._in.writers = 0  # what is there can be read, then it ends
        if how in (SHUT_WR, SHUT_RDWR) and self._writes:
            self._writes = False
            self._out.writers = 0
        self._in.changed()
        self._out.changed()

    def stat(self) -> Stat:
        """A socket without a name."""
        return Stat(stat.S_IFSOCK | 0o777, ino=self._in.ino, dev=SOCKET_DEV)

    def available(self) -> int:
        """Bytes to be read."""
        return len(self._in.data)

    def poll(self) -> int:
        """As unix_poll."""
        events = POLLIN if self._in.data else 0
        if not self._in.writers:
            events |= POLLIN | POLLRDHUP | (0 if self._out.readers else POLLHUP)
        if self._out.room - len(self._out.data) >= PIPE_BUF or not self._out.readers:
            events |= POLLOUT
        return events

    def close(self) -> None:
        """The other one reads what is there, then nothing."""
        self.shutdown(SHUT_RDWR)
