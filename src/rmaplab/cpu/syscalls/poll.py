"""Waiting for several files at once: poll, select, epoll.

    poll(fds, timeout)     ask each -> somebody is ready: that many
                                    -> nobody: sleep in the queues of all, or until the time has come, and ask again

A stream of the host wakes nobody. Who waits for one looks again each LOOK_NS of simulated time, and lets as much of the host's time pass if it is not
ready then: the machine's time goes no faster than the host's as long as somebody waits so.

Source: fs/select.c, do_poll, do_select, core_sys_select, do_pselect; fs/eventpoll.c of 6.18.
"""

import errno
import struct
from collections.abc import Callable, Sequence

from rmaplab.cpu.abi import int32
from rmaplab.cpu.files.epoll import EPOLL_CTL_DEL, EpollFile
from rmaplab.cpu.files.open_file import O_CLOEXEC, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, OpenFile
from rmaplab.cpu.files.streams import HostStream
from rmaplab.cpu.signals import UNBLOCKABLE
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.syscalls.timespec import US, get_timespec, get_timeval, put_timespec
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError

POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND = 0x40, 0x80, 0x100, 0x200
POLLIN_SET, POLLOUT_SET, POLLEX_SET = POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI
MS = 10**6
LOOK_NS, LOOK_MS = 10 * MS, 10
SET_BYTES = 8
MOST_EVENTS = 4096
EVENT = struct.Struct("<I8s")
Mask = tuple[int, int]


def wait(
    thread: Thread, ask: Callable[[], int], files: Callable[[], Sequence[OpenFile]], timeout_ns: int | None
) -> int:
    """What `ask` says, once that is not 0 or the time has come (None: never). Raises Interrupted: EINTR."""
    sched = thread.machine.sched
    thread.spend()
    thread.machine.end_burst()
    until = None if timeout_ns is None else sched.now_ns + timeout_ns
    while not (answer := ask()):
        if until is not None and sched.now_ns >= until:
            return 0
        watched = files()
        streams = [file for file in watched if isinstance(file, HostStream)]
        queues = {queue: None for file in watched for queue in file.queues()}
        look = sched.now_ns + LOOK_NS if streams else None
        ends = min((at for at in (until, look) if at is not None), default=None)
        if not thread.sleep(*queues, until_ns=ends, again=False) and streams and not ask():
            streams[0].poll(LOOK_MS)
    return answer


def masked(thread: Thread, address: int, act: Callable[[], int], size: int = SET_BYTES) -> int:
    """`act`, with the signal mask at `address` meanwhile, if there is one. A handler of a signal that has come runs with it."""
    if not address:
        return act()
    if size != SET_BYTES:
        raise SyscallError(errno.EINVAL, "ppoll")
    (mask,) = struct.unpack("<Q", thread.get(address, SET_BYTES))
    thread.saved_mask, thread.mask = thread.mask, mask & ~UNBLOCKABLE
    try:
        result = act()
    except SyscallError:
        thread.mask, thread.saved_mask = thread.saved_mask, None
        raise
    thread.mask, thread.saved_mask = thread.saved_mask, None
    return result


def _limit(thread: Thread, address: int, width: int) -> int | None:
    """A struct timespec in ns; None: no limit. Raises SyscallError: EINVAL, EFAULT."""
    return get_timespec(thread, address, width) if address else None


# -- poll ----------------------------------------------------------------------------------------------------------------


def _poll(thread: Thread, address: int, nr: int, timeout_ns: int | None) -> int:
    nr &= 0xFFFF_FFFF
    descriptors = thread.process.descriptors
    if nr > descriptors.limit:
        raise SyscallError(errno.EINVAL, "poll")
    rows = [struct.unpack("<ihH", row) for row in _pieces(thread.get(address, 8 * nr), 8)]
    found = [0] * nr

    def ask() -> int:
        for i, (fd, events, _) in enumerate(rows):
            file = descriptors.files.get(fd)
            if fd >= 0:
                found[i] = POLLNVAL if file is None else _normal(file.poll()) & (events & 0xFFFF | POLLERR | POLLHUP)
        return sum(map(bool, found))

    try:
        return wait(
            thread, ask, lambda: [descriptors.files[fd] for fd, *_ in rows if fd in descriptors.files], timeout_ns
        )
    finally:
        thread.put(
            address,
            b"".join(struct.pack("<ihH", fd, events, now) for (fd, events, _), now in zip(rows, found, strict=True)),
        )


def _normal(events: int) -> int:
    """POLLRDNORM and POLLWRNORM are as good as POLLIN and POLLOUT."""
    return events | (POLLRDNORM if events & POLLIN else 0) | (POLLWRNORM if events & POLLOUT else 0)


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@call("poll")
def sys_poll(thread: Thread, address: int, nr: int, timeout: int, *_: int) -> int:
    """poll(2): milliseconds."""
    return _poll(thread, address, nr, None if int32(timeout) < 0 else int32(timeout) * MS)


@call("ppoll")
def sys_ppoll(thread: Thread, address: int, nr: int, timeout: int, mask: int, size: int, *_: int) -> int:
    """ppoll(2)."""
    limit = _limit(thread, timeout, thread.abi.word)
    return masked(thread, mask, lambda: _poll(thread, address, nr, limit), size)


@call("ppoll_time64", abi=32)
def sys_ppoll_time64(thread: Thread, address: int, nr: int, timeout: int, mask: int, size: int, *_: int) -> int:
    """ppoll(2) of i386 with times of 64 bits."""
    limit = _limit(thread, timeout, 8)
    return masked(thread, mask, lambda: _poll(thread, address, nr, limit), size)


# -- select --------------------------------------------------------------------------------------------------------------


def _select(thread: Thread, nr: int, places: tuple[int, int, int], timeout_ns: int | None) -> int:
    nr = int32(nr)
    if nr < 0:
        raise SyscallError(errno.EINVAL, "select")
    descriptors = thread.process.descriptors
    nr = min(nr, descriptors.limit)
    nr_bytes = -(-nr // thread.abi.bits) * thread.abi.word
    wanted = [
        int.from_bytes(thread.get(place, nr_bytes), "little") & ((1 << nr) - 1) if place else 0 for place in places
    ]
    fds = [fd for fd in range(nr) if any(bits >> fd & 1 for bits in wanted)]
    for fd in fds:
        descriptors[fd]
    found = [0, 0, 0]

    def ask() -> int:
        found[:] = 0, 0, 0
        for fd in fds:
            file = descriptors.files.get(fd)
            events = POLLIN if file is None else file.poll()
            for i, of_interest in enumerate((POLLIN_SET, POLLOUT_SET, POLLEX_SET)):
                if wanted[i] >> fd & 1 and events & of_interest:
                    found[i] |= 1 << fd
        return sum(bits.bit_count() for bits in found)

    ready = wait(thread, ask, lambda: [descriptors.files[fd] for fd in fds if fd in descriptors.files], timeout_ns)
    for place, bits in zip(places, found, strict=True):
        if place:
            thread.put(place, bits.to_bytes(nr_bytes, "little"))
    return ready


def _select_until(thread: Thread, nr: int, places: tuple[int, int, int], timeout: int, width: int, unit: int) -> int:
    """select, that tells how much of its time is left."""
    began = thread.machine.sched.now_ns
    limit = get_timeval(thread, timeout, width) if timeout and unit == US else _limit(thread, timeout, width)
    try:
        return _select(thread, nr, places, limit)
    finally:
        if limit is not None:
            left = max(limit - (thread.machine.sched.now_ns - began), 0)
            put_timespec(thread, timeout, left, width, unit)


@call("select", abi=64)
@call("_newselect", abi=32)
def sys_select(thread: Thread, nr: int, reads: int, writes: int, others: int, timeout: int, *_: int) -> int:
    """select(2): struct timeval."""
    return _select_until(thread, nr, (reads, writes, others), timeout, thread.abi.word, US)


@call("select", abi=32)
def sys_old_select(thread: Thread, arguments: int, *_: int) -> int:
    """The old one of i386, whose arguments are in memory."""
    nr, reads, writes, others, timeout = thread.words(arguments, 5)
    return sys_select(thread, nr, reads, writes, others, timeout)


def _pselect(thread: Thread, nr: int, places: tuple[int, int, int], timeout: int, mask: int, width: int) -> int:
    address, size = thread.words(mask, 2) if mask else (0, SET_BYTES)
    return masked(thread, address, lambda: _select_until(thread, nr, places, timeout, width, 1), size)


@call("pselect6")
def sys_pselect6(thread: Thread, nr: int, reads: int, writes: int, others: int, timeout: int, mask: int) -> int:
    """pselect(2): struct timespec, and a pointer to the mask and its size."""
    return _pselect(thread, nr, (reads, writes, others), timeout, mask, thread.abi.word)


@call("pselect6_time64", abi=32)
def sys_pselect6_time64(thread: Thread, nr: int, reads: int, writes: int, others: int, timeout: int, mask: int) -> int:
    """pselect(2) of i386 with times of 64 bits."""
    return _pselect(thread, nr, (reads, writes, others), timeout, mask, 8)


# -- epoll ---------------------------------------------------------------------------------------------------------------


def _epoll(thread: Thread, fd: int) -> EpollFile:
    file = thread.process.descriptors[int32(fd)]
    if not isinstance(file, EpollFile):
        raise SyscallError(errno.EINVAL, "epoll_ctl")
    return file


@call("epoll_create1")
def sys_epoll_create1(thread: Thread, flags: int, *_: int) -> int:
    """epoll_create1(2)."""
    if flags & 0xFFFF_FFFF & ~O_CLOEXEC:
        raise SyscallError(errno.EINVAL, "epoll_create1")
    return thread.process.descriptors.install(EpollFile(), cloexec=bool(flags & O_CLOEXEC))


@call("epoll_create")
def sys_epoll_create(thread: Thread, size: int, *_: int) -> int:
    """epoll_create(2)."""
    if int32(size) <= 0:
        raise SyscallError(errno.EINVAL, "epoll_create")
    return sys_epoll_create1(thread, 0)


@call("epoll_ctl")
def sys_epoll_ctl(thread: Thread, fd: int, operation: int, other: int, event: int, *_: int) -> int:
    """epoll_ctl(2)."""
    watched = thread.process.descriptors[int32(other)]
    events, data = EVENT.unpack(thread.get(event, EVENT.size)) if int32(operation) != EPOLL_CTL_DEL else (0, b"")
    _epoll(thread, fd).control(int32(operation), int32(other), watched, events, data)
    return 0


def _epoll_wait(thread: Thread, fd: int, place: int, most: int, timeout_ns: int | None) -> int:
    file, most = _epoll(thread, fd), int32(most)
    if most <= 0:
        raise SyscallError(errno.EINVAL, "epoll_wait")
    found: list[tuple[int, bytes]] = []

    def ask() -> int:
        found[:] = file.ready(min(most, MOST_EVENTS))
        return len(found)

    nr = wait(thread, ask, lambda: [file, *file.files()], timeout_ns)
    thread.put(place, b"".join(EVENT.pack(*row) for row in found[:nr]))
    return nr


@call("epoll_wait")
def sys_epoll_wait(thread: Thread, fd: int, place: int, most: int, timeout: int, *_: int) -> int:
    """epoll_wait(2): milliseconds."""
    return _epoll_wait(thread, fd, place, most, None if int32(timeout) < 0 else int32(timeout) * MS)


@call("epoll_pwait")
def sys_epoll_pwait(thread: Thread, fd: int, place: int, most: int, timeout: int, mask: int, size: int) -> int:
    """epoll_pwait(2)."""
    return masked(thread, mask, lambda: sys_epoll_wait(thread, fd, place, most, timeout), size)


@call("epoll_pwait2")
def sys_epoll_pwait2(thread: Thread, fd: int, place: int, most: int, timeout: int, mask: int, size: int) -> int:
    """epoll_pwait2(2): struct timespec."""
    limit = _limit(thread, timeout, 8)
    return masked(thread, mask, lambda: _epoll_wait(thread, fd, place, most, limit), size)
