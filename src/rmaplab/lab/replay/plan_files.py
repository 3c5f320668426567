"""Calls of files, planned: which file a descriptor means, and how large it is.

Only files that are seen to be opened count, and of them what is no directory, device, pipe or socket: a descriptor that nobody has seen is passed
over. A name means one file until it is unlinked; relative names are taken for the same wherever a process is.
"""

import os
import stat
from collections.abc import Callable

from rmaplab.lab.replay.plan import LoggedDescriptor, LoggedTask, Planner
from rmaplab.workloads.strace_log import LoggedCall
from rmaplab.workloads.strace_words import field, number, signed, text

# Flags as a log of x86-64 has them, on whatever machine this runs; those of rmaplab.cpu are not at hand without its extras.
O_ACCMODE, O_WRONLY, O_RDWR = 3, 1, 2
O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_CLOEXEC, O_PATH = (
    0o100,
    0o200,
    0o1000,
    0o2000,
    0o200000,
    0o2000000,
    0o10000000,
)
O_TMPFILE = 0o20000000
AT_FDCWD = -100
F_DUPFD, F_SETFD, F_DUPFD_CLOEXEC, F_ADD_SEALS = 0, 2, 1030, 1033
FD_CLOEXEC, CLOSE_RANGE_CLOEXEC, MFD_CLOEXEC = 1, 4, 1
NO_FILES = (b"/dev/", b"/proc/", b"/sys/")

Planned = Callable[[Planner, LoggedCall, LoggedTask], None]


def _name(directory: int, word: str) -> bytes:
    path = text(word)
    return path if path.startswith(b"/") or directory == AT_FDCWD else b"%d:" % directory + path


def _plan_open(directory_at: int | None, path_at: int, flags_at: int | None) -> Planned:
    """Plan open, openat, creat."""

    def plan_it(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
        words = plan.words(event, max(path_at, flags_at or 0) + 1)
        flags = O_CREAT | O_TRUNC | O_WRONLY if flags_at is None else number(words[flags_at])
        name = _name(AT_FDCWD if directory_at is None else signed(words[directory_at]), words[path_at])
        fd = event.result
        if event.error or fd is None or fd < 0:
            plan.log.passed[event.name] += 1
            return
        other = name.startswith(NO_FILES) and not (name == b"/dev/zero" or name.startswith(b"/dev/shm/"))
        if other or (flags & (O_DIRECTORY | O_PATH) and flags & O_TMPFILE != O_TMPFILE):
            plan.log.passed[event.name] += 1
            _forget(plan, event, who, fd)
            return
        made = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL or flags & O_TMPFILE == O_TMPFILE
        file = plan.named_file(name, fresh=made)
        known = plan.plan.files[file]
        mode = flags & O_ACCMODE
        truncated = bool(flags & O_TRUNC) and not made
        plan.add(
            event,
            who,
            "open",
            fd,
            file,
            mode != O_WRONLY,
            mode in (O_WRONLY, O_RDWR),
            truncated,
            bool(flags & O_APPEND),
        )
        if truncated or made:
            known.changed = True
        who.fds[fd] = LoggedDescriptor(file, bool(flags & O_CLOEXEC))

    return plan_it


def _forget(plan: Planner, event: LoggedCall, who: LoggedTask, fd: int) -> None:
    """The descriptor means something else now, whatever it has meant."""
    if who.fds.pop(fd, None) is not None:
        plan.beside(event.line, who, "close", fd)


def plan_memfd(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan memfd_create."""
    flags, fd = number(plan.words(event, 2)[1]), event.result
    plan.add(event, who, "memfd_create", flags & ~MFD_CLOEXEC, -1 if event.error or fd is None else fd)
    if not event.error and fd is not None and fd >= 0:
        file = plan.new_file(on_disk=False)
        plan.plan.files[file].changed = True
        who.fds[fd] = LoggedDescriptor(file, bool(flags & MFD_CLOEXEC))


def plan_close(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan close."""
    fd = signed(plan.words(event, 1)[0])
    if who.fds.pop(fd, None) is None:
        plan.log.passed["close"] += 1
    else:
        plan.add(event, who, "close", fd)


def plan_close_range(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan close_range, of each descriptor that was seen; or it says that execve closes them."""
    first, last, flags = (number(word) for word in plan.words(event, 3)[:3])
    plan.log.passed["close_range"] += 1
    for fd in [fd for fd in who.fds if first <= fd <= last and not event.error]:
        if flags & CLOSE_RANGE_CLOEXEC:
            who.fds[fd].closes_on_exec = True
        else:
            _forget(plan, event, who, fd)


def _dup(plan: Planner, event: LoggedCall, who: LoggedTask, old: int, *, closes: bool) -> None:
    new = event.result
    if event.error or new is None or new < 0 or old not in who.fds:
        plan.log.passed[event.name] += 1
        if not event.error and new is not None and old != new:
            _forget(plan, event, who, new)
        return
    if new != old:
        plan.add(event, who, "dup", old, new)
        who.fds[new] = LoggedDescriptor(who.fds[old].file, closes)


def plan_dup(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan dup, dup2, dup3."""
    words = plan.words(event, 1)
    closes = event.name == "dup3" and len(words) > 2 and bool(number(words[2]) & O_CLOEXEC)
    _dup(plan, event, who, signed(words[0]), closes=closes)


def plan_fcntl(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan fcntl that makes descriptors, or says what becomes of them, or seals."""
    words = plan.words(event, 2)
    fd, command = signed(words[0]), number(words[1])
    if command in (F_DUPFD, F_DUPFD_CLOEXEC):
        _dup(plan, event, who, fd, closes=command == F_DUPFD_CLOEXEC)
    elif command == F_ADD_SEALS and fd in who.fds and len(words) > 2:
        plan.add(event, who, "add_seals", fd, number(words[2]))
    else:
        plan.log.passed["fcntl"] += 1
        if command == F_SETFD and fd in who.fds and len(words) > 2:
            who.fds[fd].closes_on_exec = bool(number(words[2]) & FD_CLOEXEC)


def _plan_transfer(call: str, *, at_place: bool = False, vector: bool = False) -> Planned:
    """Plan read, write and their like: what they have come to, and the buffer, where the log says where that is."""

    def plan_it(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
        words = plan.words(event, 4 if at_place else 3)
        fd, done = signed(words[0]), event.result or 0
        if not vector and done > 0 and not event.error and not words[1].startswith('"'):
            plan.touch(event.line, who, number(words[1]), done, write=call == "read")
        if fd not in who.fds or event.error or done < 0 or event.result is None:
            plan.log.passed[event.name] += 1
            return
        file = plan.plan.files[who.fds[fd].file]
        place = signed(words[3]) if at_place else None
        if call == "write":
            file.changed = True
        elif place is not None:
            file.reaches(place + done)
        else:
            file.reaches(done)
        plan.add(event, who, call, fd, done, place)

    return plan_it


def _plan_message(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan sendto, recvfrom: of no file here; their buffer is used, where the log says where it is."""
    words = plan.words(event, 3)
    plan.log.passed[event.name] += 1
    if not event.error and not words[1].startswith('"') and (event.result or 0) > 0:
        plan.touch(event.line, who, number(words[1]), event.result or 0, write=event.name == "recvfrom")


def _plan_of_file(call: str, *places: int) -> Planned:
    """A call of a descriptor, and of the numbers at these places."""

    def plan_it(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
        words = plan.words(event, max((0, *places)) + 1)
        fd = signed(words[0])
        if fd not in who.fds:
            plan.log.passed[event.name] += 1
            return
        plan.add(event, who, call, fd, *(signed(words[place]) for place in places))
        if call != "fsync" and not event.error:
            plan.plan.files[who.fds[fd].file].changed = True

    return plan_it


def plan_lseek(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan lseek: where it has come to, which is no call of memory; from the end it says how long the file is."""
    words = plan.words(event, 3)
    fd, offset, whence = signed(words[0]), signed(words[1]), number(words[2])
    plan.log.passed["lseek"] += 1
    if fd in who.fds and not event.error and event.result is not None and event.result >= 0:
        if whence == os.SEEK_END and not offset:
            plan.plan.files[who.fds[fd].file].says(event.result)
        plan.beside(event.line, who, "seek", fd, event.result)


def _plan_stat(place: int) -> Planned:
    """Plan fstat and its like, of a descriptor or a name: how long the file is, or that it is none."""

    def plan_it(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
        words = plan.words(event, place + 1)
        plan.log.passed[event.name] += 1
        if event.error or "size=" not in words[place]:
            return
        kind = "stx" if event.name == "statx" else "st"
        mode, size = field(words[place], f"{kind}_mode"), field(words[place], f"{kind}_size")
        by_name = place > 1 and words[1] != '""'
        regular = stat.S_ISREG(mode & 0xFFFF)
        if by_name:
            if regular:
                plan.plan.files[plan.named_file(_name(signed(words[0]), words[1]))].says(size)
            return
        fd = signed(words[0])
        if fd in who.fds:
            if regular:
                plan.plan.files[who.fds[fd].file].says(size)
            elif not plan.plan.files[who.fds[fd].file].zero:
                _forget(plan, event, who, fd)

    return plan_it


def plan_unlink(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan unlink, unlinkat: the name means nothing any more."""
    words = plan.words(event, 1 if event.name == "unlink" else 2)
    plan.log.passed[event.name] += 1
    if not event.error:
        name = _name(AT_FDCWD, words[0]) if event.name == "unlink" else _name(signed(words[0]), words[1])
        plan.names.pop(name, None)


def plan_rename(plan: Planner, event: LoggedCall, who: LoggedTask) -> None:
    """Plan rename, renameat, renameat2: another name means it."""
    own = event.name == "rename"
    words = plan.words(event, 2 if own else 4)
    plan.log.passed[event.name] += 1
    if event.error:
        return
    old, new = (words[0], words[1]) if own else (words[1], words[3])
    directories = (AT_FDCWD, AT_FDCWD) if own else (signed(words[0]), signed(words[2]))
    file = plan.names.pop(_name(directories[0], old), None)
    plan.names.pop(_name(directories[1], new), None)
    if file is not None:
        plan.names[_name(directories[1], new)] = file


FILES: dict[str, Planned] = {
    "open": _plan_open(None, 0, 1),
    "openat": _plan_open(0, 1, 2),
    "creat": _plan_open(None, 0, None),
    "memfd_create": plan_memfd,
    "close": plan_close,
    "close_range": plan_close_range,
    "dup": plan_dup,
    "dup2": plan_dup,
    "dup3": plan_dup,
    "fcntl": plan_fcntl,
    "read": _plan_transfer("read"),
    "pread64": _plan_transfer("read", at_place=True),
    "readv": _plan_transfer("read", vector=True),
    "preadv": _plan_transfer("read", at_place=True, vector=True),
    "write": _plan_transfer("write"),
    "pwrite64": _plan_transfer("write", at_place=True),
    "writev": _plan_transfer("write", vector=True),
    "pwritev": _plan_transfer("write", at_place=True, vector=True),
    "sendto": _plan_message,
    "recvfrom": _plan_message,
    "ftruncate": _plan_of_file("ftruncate", 1),
    "fallocate": _plan_of_file("fallocate", 1, 2, 3),
    "fsync": _plan_of_file("fsync"),
    "fdatasync": _plan_of_file("fsync"),
    "lseek": plan_lseek,
    "fstat": _plan_stat(1),
    "newfstatat": _plan_stat(2),
    "statx": _plan_stat(4),
    "unlink": plan_unlink,
    "unlinkat": plan_unlink,
    "rename": plan_rename,
    "renameat": plan_rename,
    "renameat2": plan_rename,
}
"""By name."""
