"""How a program begins: the first one from outside, all others by execve.

    userland = Userland(system, tree)
    init = start(userland, [b"sh", b"-c", b"ls"], [b"PATH=/bin"])      a first process, that runs when system.run() does
    system.run()
    init.ended                                                        its status, as wait4 would have it

Source: 6.18 fs/exec.c, begin_new_exec, de_thread.
"""

import errno
import fcntl
import os
import shlex
from collections.abc import Sequence
from importlib import import_module

from rmaplab.calls.task import Task, start_program
from rmaplab.cpu.abi import ABIS
from rmaplab.cpu.binfmt import close_program, find_program, load_program, search
from rmaplab.cpu.engine import Space
from rmaplab.cpu.files.directory import DirectoryInode
from rmaplab.cpu.files.lookup import resolve
from rmaplab.cpu.files.streams import HostStream
from rmaplab.cpu.files.tree import FileTree
from rmaplab.cpu.loop import live
from rmaplab.cpu.pending import SignalInfo
from rmaplab.cpu.process import SIG_IGN, Process
from rmaplab.cpu.robust import exit_robust_list
from rmaplab.cpu.signals import SIGSEGV, exit_group
from rmaplab.cpu.syscalls.registry import table
from rmaplab.cpu.thread import Thread
from rmaplab.cpu.userland import Userland
from rmaplab.errors import SegmentationFault, SyscallError, UsageError
from rmaplab.harmless import printable
from rmaplab.kernels.system import System

COMM_BYTES = 15
NOT_SHOWN = ("/tmp/", "/var/tmp/", "/dev/", "/proc/", "/sys/", "/run/")  # noqa: S108
"""Of the host: each is another one here."""


def start(userland: Userland, arguments: list[bytes], environment: list[bytes], *, cwd: str = "/") -> Process:
    """A first process that runs the program arguments[0], by PATH if no slash is in it, in the directory `cwd`. Raises UsageError: there is none, or it cannot be run."""
    if not userland.calls:
        for module in CALL_MODULES:
            import_module(f"rmaplab.cpu.syscalls.{module}")
        userland.calls = {bits: table(bits) for bits in userland.widths}
    task = userland.system.spawn(None, root=True)
    process = Process(task.pid, None, ABIS[userland.widths[0]])
    enter(userland.tree, process, cwd)
    userland.processes[task.pid] = process
    userland.init = userland.init or process
    userland.tree.proc.processes = userland.processes
    userland.tree.terminal = lambda flags: HostStream(userland.streams[0], flags, userland.output)
    thread = Thread(userland, task, process)
    for fd, number in enumerate(userland.streams):
        process.descriptors.install(HostStream(number, _opened_for(number, int(fd > 0)), userland.output))
    try:
        path = search(userland.kernel, userland.tree, process, arguments[0], environment)
        execute(thread, path, arguments, environment)
    except SyscallError as failure:
        raise no_program(arguments[0], failure, cwd) from None
    start_program(task, lambda task: live(thread, task))
    return process


def _opened_for(fd: int, otherwise: int) -> int:
    """The access mode of a descriptor of the host: a terminal is opened for both."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:  # it was closed before we came
        return otherwise


def exec_on(
    system: System,
    arguments: list[bytes],
    environment: list[bytes],
    *,
    root: str = "/",
    cwd: str = "/",
    streams: Sequence[int] = (0, 1, 2),
    seed: int = 0,
) -> Task:
    """System.exec: the first task of a program. Raises UsageError."""
    userland: Userland = system.userland or Userland(system, FileTree(system, root, seed=seed), seed=seed)
    userland.streams = streams
    task = start(userland, arguments, environment, cwd=cwd).first_task
    assert task is not None
    return task


def enter(tree: FileTree, process: Process, cwd: str) -> None:
    """It works in the directory `cwd`. Raises UsageError: there is none."""
    process.cwd = process.root = tree.root
    try:
        found = resolve(tree.view(process), os.fsencode(cwd)).inode
        if not isinstance(found, DirectoryInode):
            raise SyscallError(errno.ENOENT if found is None else errno.ENOTDIR, "chdir")
        process.cwd = found
    except SyscallError as failure:
        raise UsageError(f"{printable(cwd)}: {os.strerror(failure.errno or 0)}: name a directory of the root") from None


def no_program(name: bytes, failure: SyscallError, cwd: str = "/") -> UsageError:
    """What is to be said of a program that cannot be run, and what to try next."""
    text, path = os.fsdecode(name), os.path.normpath(os.path.join(cwd, os.fsdecode(name)))  # noqa: PTH118  (it is no path of ours)
    why = failure.why or os.strerror(failure.errno or 0)
    if "/" in text and path.startswith(NOT_SHOWN):
        then = "of the host's /tmp, /var/tmp, /dev, /proc, /sys and /run nothing is shown: put it elsewhere, or give --root"
    elif failure.errno == errno.ENOENT and "/" not in text:
        then = f"name a program; words of a shell, pipes and the like want one: sh -c {shlex.quote(text)}"
    elif failure.errno == errno.EACCES:
        then = "name a file that is a program and may be executed (chmod +x)"
    elif failure.errno == errno.ENOEXEC:
        then = "name an ELF program for x86, or a script that begins with #!"
    else:
        then = "name a program that the root shows"
    return UsageError(f"{printable(text)}: {why}: {then}")


def execute(thread: Thread, path: bytes, arguments: list[bytes], environment: list[bytes]) -> None:
    """execve: its process runs another program. Raises SyscallError before anything is changed; what fails then ends the process."""
    task, process, userland = thread.task, thread.process, thread.userland
    program = find_program(userland.kernel, userland.tree, process, path, arguments, environment)
    if program.image.bits not in userland.widths:
        close_program(userland.kernel, program)
        raise SyscallError(
            errno.ENOEXEC, "execve", f"a program of {program.image.bits} bits, on page tables for {userland.widths[0]}"
        )
    _end_other_threads(thread)
    exit_robust_list(thread)
    task.execve()
    process.abi = program.abi
    assert task.mm is not None
    process.space = Space(task.mm)
    if process.descriptors.users > 1:
        shared, process.descriptors = process.descriptors, process.descriptors.copy()
        shared.users -= 1
    process.descriptors.close_on_exec()
    process.handlers = {number: action for number, action in process.handlers.items() if action.handler == SIG_IGN}
    process.name = path.rsplit(b"/", 1)[-1][:COMM_BYTES]
    process.executable, process.arguments = userland.tree.absolute(process, path), program.arguments
    thread.begin(program.abi)
    userland.tell("execve", process.pid, printable(os.fsdecode(path)))
    try:
        pc, sp = load_program(thread, program)
    except (SyscallError, SegmentationFault):
        userland.fatal_signal(process, SignalInfo(SIGSEGV))
        if thread.machine.sched.current is task:
            exit_group(thread, SIGSEGV)
        raise UsageError(
            f"{printable(os.fsdecode(path))} cannot be loaded: there is no room for it in the address space or in memory"
        ) from None
    thread.context = userland.engine(program.abi.bits).context(pc, sp)
    userland.find_executable(process.space)


def _end_other_threads(thread: Thread) -> None:
    """de_thread: waits until this is the only thread of its process."""
    process = thread.process
    while len(process.threads) > 1:
        for other in list(process.threads):
            if other is not thread:
                other.ends_alone = True
                other.rouse()
        thread.sleep_uninterrupted(process.threads_changed)


CALL_MODULES = (
    "memory",
    "clone",
    "execve",
    "signals",
    "time",
    "futex",
    "system",
    "files",
    "paths",
    "poll",
    "descriptors",
    "attributes",
    "locks",
    "sockets",
    "stat",
)
"""All calls there are: each module registers its own."""
